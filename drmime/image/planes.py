"""`planes_of`: an image with any number of axes besides the spatial ones (channels, time, …), which are warped alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.image.pixels import Pixels, arranged, spatial


@dataclass(frozen=True, eq=False)
class Planes:
    """Planes of one shape, and how to put them back together."""

    planes: np.ndarray  # shape: (K, *shape), one for each entry of the other axes
    lengths: tuple[int, ...]  # of the other axes
    order: tuple[int, ...]  # axes of the whole image, as places in the other axes followed by the spatial axes
    grid: Grid | None  # of the spatial axes; None if the source states none
    names: str = ""  # a letter for each axis of the whole image, such as "TCYX"; "" if the source states none
    mask: np.ndarray | None = None  # shape: that of `planes`; False where the source has no value
    nodata: float | None = None  # the value that the source states for such pixels

    def whole(self, planes: np.ndarray) -> np.ndarray:
        """The planes (K, *any shape) as one array, with the axes in the order of the source."""
        return planes.reshape(*self.lengths, *planes.shape[1:]).transpose(self.order)


def planes_of(pixels: Pixels, channel_axis: Any, role: str, tensor: bool = False) -> Planes:
    """The planes of an image.

    Args:
        channel_axis: as for `drmime.image.pixels.arranged`, or a sequence of the axes that are not spatial. "auto": of an image
            whose spatial axes are stated, all others.
        role, tensor: as for `arranged`.

    Raises:
        InputError: as `arranged`.
    """
    others = _others(pixels, channel_axis, role)
    if others is None or len(others) < 2:
        axis = channel_axis if others is None else others[0] if others else None
        one = arranged(pixels, axis, role, tensor)
        ndim = one.channels.ndim - 1
        if one.axis is None:
            return Planes(one.channels, (), tuple(range(ndim)), one.grid, mask=one.mask, nodata=pixels.nodata)
        order = (*range(1, one.axis + 1), 0, *range(one.axis + 1, ndim + 1))
        names = _names(pixels, others or [])
        names = _in_order(names, order, ndim)
        return Planes(one.channels, (len(one.channels),), order, one.grid, names, one.mask, pixels.nodata)
    array = pixels.array
    space = [at for at in range(array.ndim) if at not in others]
    lengths = tuple(array.shape[at] for at in others)
    flat = (math.prod(lengths), *(array.shape[at] for at in space))
    planes = array.transpose(*others, *space).reshape(flat)
    mask = None if pixels.mask is None else pixels.mask.transpose(*others, *space).reshape(flat)
    grid = pixels.grid_along(space)
    one = arranged(Pixels(planes, grid, tuple(range(1, planes.ndim)) if grid else (), mask=mask), 0, role)
    kept = [space[at - 1] for at in spatial(planes.shape, 0)]
    sources = [*others, *kept]
    order = tuple(sources.index(at) for at in sorted(sources))
    names = _in_order(_names(pixels, others), order, len(kept))
    return Planes(one.channels, lengths, order, one.grid, names, one.mask, pixels.nodata)


def _others(pixels: Pixels, channel_axis: Any, role: str) -> list[int] | None:
    """The axes that are not spatial, where they are given or stated; None where `arranged` has to find them."""
    ndim = pixels.array.ndim
    if isinstance(channel_axis, (list, tuple)):
        whole = all(isinstance(axis, (int, np.integer)) and -ndim <= axis < ndim for axis in channel_axis)
        axes = [int(axis) % ndim for axis in channel_axis] if whole else []
        if not whole or len(set(axes)) < len(axes):
            raise InputError(f"{role} image: expected different axes of {ndim} in channel_axis, got {shown(channel_axis)}")
        return sorted(axes)
    if isinstance(channel_axis, str) and channel_axis == "auto" and pixels.space:
        others = [at for at in range(ndim) if at not in pixels.space and pixels.array.shape[at] > 1]
        return others or None
    return None


def _names(pixels: Pixels, axes: Sequence[int]) -> str:
    return "".join(pixels.names[at] for at in axes) if pixels.names else ""


def _in_order(others: str, order: Sequence[int], ndim: int) -> str:
    """The letters of all axes in their order; "" if those of the other axes are not known."""
    letters = others + "ZYX"[-ndim:]
    return "".join(letters[at] for at in order) if others else ""
