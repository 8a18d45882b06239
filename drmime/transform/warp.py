"""Warping of arrays by a transform: dtype, value range and channel layout are kept, labels are not blended."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.door import load
from drmime.image.headers import memory
from drmime.image.pixels import arranged
from drmime.parts import INTERPOLATIONS
from drmime.registry import known
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform

NARROW = tuple(map(np.dtype, ("bool", "uint8", "int8", "uint16", "int16", "float16", "float32")))  # exact in float32
CHUNK = 2**20  # output pixels processed at a time; limits the memory for coordinates


def resample(
    moving: Any,
    transform: Transform,
    moving_grid: Grid,
    fixed_grid: Grid,
    interpolation: str = "linear",
    fill: float = 0,
    channel_axis: int | str | None = "auto",
    labels: bool = False,
) -> np.ndarray:
    """Resample `moving` on `fixed_grid`: each pixel takes the value at its place under `transform` (fixed to moving world).

    `labels`: of an image with a palette, read the indices, not the colours. The other arguments are those of
    `Registration.warp`.

    Returns:
        an array of the shape of `fixed_grid`, with dtype and channel axis of `moving`.

    Raises:
        InputError: an unknown interpolation, another shape than that of `moving_grid`, a fill that the dtype cannot hold, or a
            result that does not fit the memory.
    """
    order = INTERPOLATIONS[known("interpolation", interpolation, INTERPOLATIONS)]
    source = arranged(load(moving, "moving", labels), channel_axis, "moving", tensor=isinstance(moving, Tensor))
    channels, axis = source.channels, source.axis
    if channels.shape[1:] != moving_grid.shape:
        raise InputError(f"warp: expected the moving image's shape {moving_grid.shape}, got {channels.shape[1:]}")
    if (size := len(channels) * math.prod(fixed_grid.shape) * channels.dtype.itemsize) > memory():
        raise InputError(f"warp: an image of shape {fixed_grid.shape} takes {size / 2**30:.3g} GiB, more than this machine has")
    outside = _fill(fill, channels.dtype)
    mapping = in_pixels(transform, fixed_grid, moving_grid)
    out = np.empty((len(channels), *fixed_grid.shape), channels.dtype)
    for channel, target in zip(channels, out.reshape(len(out), -1), strict=True):
        read = _reader(channel, order)
        for start in range(0, target.size, CHUNK):
            part = np.arange(start, min(start + CHUNK, target.size))
            places, inside = _places(part, mapping, fixed_grid, moving_grid)
            target[part] = np.where(inside, read(places), outside)
    return out[0] if axis is None else np.moveaxis(out, 0, axis)


def in_pixels(transform: Transform, fixed: Grid, moving: Grid) -> Transform:
    """The transform from index coordinates of the fixed image to those of the moving image, x first."""
    return MatrixTransform(moving.index_from_world) @ transform @ MatrixTransform(fixed.world_from_index)


def in_world(transform: Transform, fixed: Grid, moving: Grid) -> Transform:
    """The inverse of `in_pixels`: the transform in world coordinates of one in index coordinates."""
    return MatrixTransform(moving.world_from_index) @ transform @ MatrixTransform(fixed.index_from_world)


def _fill(fill: float, dtype: np.dtype) -> np.ndarray:
    """`fill` as a number of `dtype`; InputError if it is not one number that `dtype` holds, integers exactly."""
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(fill)
            cast = value.astype(dtype)
        same = value.ndim == 0 and value.dtype.kind in "buif"
        exact = bool(cast == value) or (dtype.kind == "f" and bool(np.isfinite(cast) == np.isfinite(value)))
    except (TypeError, ValueError, OverflowError):
        same = exact = False
    if not (same and exact):
        raise InputError(f"warp: expected a fill value that dtype {dtype} can hold, got {fill!r}")
    return cast


def _reader(channel: np.ndarray, order: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function from places (D, N) in array order to values (N,) of one channel, in its range and dtype."""
    if order == 0:
        last = np.array(channel.shape)[:, None] - 1
        return lambda places: channel[tuple(np.floor(places + 0.5).astype(np.intp).clip(0, last))]
    valid = np.isfinite(channel)
    low, high = (channel[valid].min(), channel[valid].max()) if valid.any() else (0, 0)
    work = _filled(channel, valid).astype(np.float32 if channel.dtype in NARROW else np.float64)
    if order == 3:
        work = ndimage.spline_filter(work, 3, np.float64, "mirror")
    edge = "mirror" if order == 3 else "nearest"

    def read(places: np.ndarray) -> np.ndarray:
        values = ndimage.map_coordinates(work, places, output=np.float64, order=order, mode=edge, prefilter=False)
        values = np.clip(np.rint(values) if channel.dtype.kind in "bui" else values, low, high)
        if not valid.all():  # a value interpolated from an invalid pixel is invalid
            values[ndimage.map_coordinates((~valid).astype(np.float32), places, order=1, mode="nearest") > 1e-6] = np.nan
        with np.errstate(invalid="ignore"):
            cast = values.astype(channel.dtype)
        cast[values >= float(high)], cast[values <= float(low)] = high, low  # float64 may exceed wide integers
        return cast

    return read


def _filled(channel: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The channel with invalid pixels replaced by the nearest valid ones, which affects a spline least."""
    if valid.all() or not valid.any():
        return np.where(valid, channel, channel.dtype.type(0))
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return channel[tuple(nearest)]


def _places(part: np.ndarray, mapping: Transform, fixed: Grid, moving: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the moving array of output pixels with flat numbers `part` (N,): (D, N) in array order; inside (N,)."""
    pixels = np.stack(np.unravel_index(part, fixed.shape)[::-1], -1).astype(np.float64)
    places = mapping(torch.as_tensor(pixels)).numpy().T[::-1]
    ends = np.array(moving.shape)[:, None] - 0.5
    edge = 1e-6  # of a pixel: keeps border pixels inside despite rounding
    inside = np.all((places >= -0.5 - edge) & (places <= ends + edge), axis=0)  # false of NaN
    return np.where(inside, places, 0), inside
