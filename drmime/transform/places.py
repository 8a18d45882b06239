"""Where a mapping takes the pixels of a box: exactly for a matrix; for other mappings from a lattice of places."""

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform

STEP = 16  # pixels between the nodes of the lattice at first; it is halved until places between nodes are right
RIGHT = 0.005  # pixels: largest difference from the mapping itself at the centres of the cells
FEWEST = 4  # nodes along an axis, which a cubic spline needs


def places(mapping: Transform, first: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Where `mapping`, in index coordinates, takes the pixels of a box of `shape` from the pixel `first`, both in array order.

    A mapping that is not a matrix is computed at every `STEP`-th pixel and interpolated by a cubic spline; the step is halved
    where that is off by more than `RIGHT` at the centres between nodes, down to every pixel.

    Returns:
        places, (D, prod(shape)), in array order; NaN behind a horizon.
    """
    step = 1 if isinstance(mapping, MatrixTransform) else STEP
    while step > 2:
        nodes = [np.append(np.arange(0, length - 1, step), length - 1.0) for length in shape]
        if all(len(along) >= FEWEST for along in nodes):
            found = _interpolated(mapping, first, shape, nodes)
            if found is not None:
                return found
        step //= 2
    return _mapped(mapping, [start + np.arange(length) for start, length in zip(first, shape, strict=True)])


def _interpolated(
    mapping: Transform, first: Sequence[float], shape: Sequence[int], nodes: Sequence[np.ndarray]
) -> np.ndarray | None:
    """Places from those of the nodes, along each axis from `first` on; None where they are not right between nodes."""
    known = _mapped(mapping, [start + along for start, along in zip(first, nodes, strict=True)])
    middles = [(along[1:] + along[:-1]) / 2 for along in nodes]
    wanted = _mapped(mapping, [start + along for start, along in zip(first, middles, strict=True)])
    known = known.reshape(len(known), *map(len, nodes))
    off = np.abs(_spread(known, nodes, middles).reshape(wanted.shape) - wanted)
    if not off.max() <= RIGHT:  # also if one is NaN
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
