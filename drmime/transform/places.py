"""Where a mapping takes the pixels of a box: at each pixel, or for smooth deformations from a lattice of places."""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from drmime.transform.base import Transform

STEP = 16  # most pixels between the nodes of the lattice; it is halved until places between nodes are right
NODES = 4  # nodes at least in the length below which a mapping is smooth
TOLERANCE = 0.005  # pixels: largest difference from the mapping itself at the centres of the cells
SIDE = 1024  # pixels: most along each axis of a lattice, so that the weights of its spline stay small
FEWEST = 4  # nodes along an axis, which a cubic spline needs


def places(mapping: Transform, first: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Where `mapping`, in index coordinates, takes the pixels of a box of `shape` from the pixel `first`, both in array order.

    A deformation that is known to be smooth (`Transform.detail`) is computed at every 16th pixel, or at more, and interpolated
    by a cubic spline; the step is halved where that is off by more than `TOLERANCE` at the centres between nodes. Any other
    mapping is computed at every pixel.

    Returns:
        places, (D, prod(shape)), in array order; NaN behind a horizon.
    """
    step = STEP if 0 < mapping.detail < math.inf else 1
    if step > 1 and max(shape) > SIDE:
        return _in_parts(mapping, first, shape)
    while step > mapping.detail / NODES:
        step //= 2
    while step > 2:
        nodes = [np.append(np.arange(0, length - 1, step), length - 1.0) for length in shape]
        if all(len(along) >= FEWEST for along in nodes):
            found = _interpolated(mapping, first, shape, nodes)
            if found is not None:
                return found
        step //= 2
    return _mapped(mapping, [start + np.arange(length) for start, length in zip(first, shape, strict=True)])


def _in_parts(mapping: Transform, first: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    found = np.empty((len(shape), *shape))
    for start, size in boxes(shape, SIDE):
        part = tuple(slice(at, at + length) for at, length in zip(start, size, strict=True))
        found[:, *part] = places(mapping, np.add(first, start).tolist(), size).reshape(-1, *size)
    return found.reshape(len(shape), -1)


def _interpolated(
    mapping: Transform, first: Sequence[float], shape: Sequence[int], nodes: Sequence[np.ndarray]
) -> np.ndarray | None:
    """Places from those of the nodes, along each axis from `first` on; None where they are not right between nodes."""
    known = _mapped(mapping, [start + along for start, along in zip(first, nodes, strict=True)])
    middles = [(along[1:] + along[:-1]) / 2 for along in nodes]
    wanted = _mapped(mapping, [start + along for start, along in zip(first, middles, strict=True)])
    known = known.reshape(len(known), *map(len, nodes))
    off = np.abs(_spread(known, nodes, middles).reshape(wanted.shape) - wanted)
    if not off.max() <= TOLERANCE:  # also if one is NaN
        return None
    return _spread(known, nodes, [np.arange(float(length)) for length in shape]).reshape(len(known), -1)


def _spread(values: np.ndarray, nodes: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> np.ndarray:
    """Cubic spline along each axis of values (D, *nodes) at other positions. -> (D, *wanted)"""
    for axis, (at, to) in enumerate(zip(nodes, wanted, strict=True), 1):
        values = np.moveaxis(np.tensordot(_weights(tuple(at), tuple(to)), values, (1, axis)), 0, axis)
    return values


@functools.lru_cache(maxsize=32)
def _weights(nodes: tuple[float, ...], wanted: tuple[float, ...]) -> np.ndarray:
    """The matrix from values at nodes to those of the spline through them. shape: (len(wanted), len(nodes))"""
    return make_interp_spline(nodes, np.eye(len(nodes)), 3)(wanted)


def _mapped(mapping: Transform, axes: Sequence[np.ndarray]) -> np.ndarray:
    """Places of a lattice of index coordinates, the axes in array order. -> (D, N), array order"""
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))[:, ::-1]
    return mapping(torch.as_tensor(points.astype(np.float64))).numpy().T[::-1]


def boxes(shape: Sequence[int], side: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Boxes of at most `side` pixels along each axis that fill a shape: the first pixel of each and its shape."""
    starts = itertools.product(*[range(0, length, side) for length in shape])
    return [(first, tuple(min(side, length - start) for start, length in zip(first, shape, strict=True))) for first in starts]
