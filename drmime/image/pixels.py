"""`Pixels`: an array and what is known of its axes; find out which axes are spatial and which one holds channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drmime.errors import InputError
from drmime.geometry.grid import Grid

FEWEST_SLICES = 4  # slices of a volume, along one axis
MOST_AXES = 4  # axes of an image, channels included
MOST_CHANNELS = 4  # length of an axis that is taken for channels although nothing states it


@dataclass(frozen=True, eq=False)
class Pixels:
    """The array of a file or an object, its grid and its axes; `register` accepts it as an image.

    Axes that are neither spatial nor channels are removed if their length is 1. If no channel axis is stated, one of up to 4
    entries is taken as channels. Any other such axis (time, for example) is an error.

    Raises:
        InputError: `grid` does not have the shape of the axes in `space`.
    """

    array: np.ndarray
    grid: Grid | None = None  # grid of the axes in `space`; None if the source states none
    space: tuple[int, ...] = ()  # the spatial axes of `array`, in the order of `grid`
    channel_axis: int | str | None = "auto"  # None for no channels; "auto" if the source does not state it
    mask: np.ndarray | None = None  # shape: that of `array`; True is valid
    names: str = ""  # a letter for each axis, as in TIFF: T time, C channels, Z, Y, X; "" if the source states none
    finest: Grid | None = None  # of the finest level of the source if `array` is a coarser one
    nodata: float | None = None  # the value that the source states for pixels without one
    note: str = ""  # what of the source was not read, a sentence

    def __post_init__(self) -> None:
        if self.grid is not None and self.grid.shape != tuple(np.shape(self.array)[at] for at in self.space):
            raise InputError(
                f"Pixels: expected a grid of the axes in space, of shape {self.grid.shape}, got the axes {self.space} of an "
                f"array of shape {np.shape(self.array)}"
            )

    def grid_along(self, axes: Sequence[int]) -> Grid | None:
        """The grid of some axes of `array`; None if the source does not state it for all of them."""
        if self.grid is None or not set(axes) <= set(self.space):
            return None
        return self.grid.along([self.space.index(at) for at in axes])


@dataclass(frozen=True, eq=False)
class Arranged:
    """An array with the channels on its first axis, followed by the spatial axes."""

    channels: np.ndarray  # shape: (C, *shape), C = 1 without channels
    axis: int | None  # channel axis of the source after axes of length 1 were removed; None without channels
    grid: Grid | None  # grid of the spatial axes; None if the source states none
    mask: np.ndarray | None  # shape: that of `channels`
    finest: Grid | None = None  # as in `Pixels`
    note: str = ""  # likewise


def arranged(pixels: Pixels, channel_axis: Any, role: str, tensor: bool = False, least: int = 1) -> Arranged:
    """Move the channels to the front and remove axes of length 1.

    Args:
        channel_axis: an axis; None for no channels; "auto" for the axis that the source states, else by the shape: if the
            source states the spatial axes, another axis of up to 4 entries; else the last axis (of a tensor the first) if it
            has 2 to 4 entries, else an axis of length 1.
        role: the name of the image in error messages.
        tensor: whether channels are expected on the first axis.
        least: pixels that every spatial axis must have; one axis of a volume may have only `FEWEST_SLICES`.

    Raises:
        InputError: there is no such axis, it is empty, there are not 2 or 3 spatial axes, or an axis has too few pixels.
    """
    array = pixels.array
    kept, axis = taken(pixels, channel_axis, role, tensor)
    if pixels.space and not set(kept) <= set(pixels.space):
        other = next(at for at in kept if at not in pixels.space)
        raise InputError(
            f"{role} image: axis {other} of shape {array.shape} is neither space nor channels; save one of its "
            f"{array.shape[other]} entries by itself, or compare them as channels by channel_axis={other}."
        )
    if len(kept) not in (2, 3):
        raise InputError(
            f"{role} image: expected 2 or 3 spatial axes, got an array of shape {array.shape}, taken as {len(kept)} spatial "
            f"axes {'and no channel axis' if axis is None else f'with channels on axis {axis}'}. Set channel_axis."
        )
    gone = [at for at in range(array.ndim) if at not in kept and at != axis]
    channels = _in_front(array, axis, gone)
    mask = None if pixels.mask is None else _in_front(pixels.mask, axis, gone)
    _check_size(channels.shape[1:], role, least)
    grid = pixels.grid_along(kept)
    place = None if axis is None else axis - sum(at < axis for at in gone)
    return Arranged(channels, place, grid, mask, pixels.finest, pixels.note)


def taken(pixels: Pixels, channel_axis: Any, role: str, tensor: bool = False) -> tuple[list[int], int | None]:
    """The axes that `arranged` takes as spatial, and the channel axis (None without); all others have length 1.

    Raises:
        InputError: there is no such channel axis, or it is empty.
    """
    axis = _channel_axis(pixels, channel_axis, role, tensor)
    return spatial(pixels.array.shape, axis), axis


def each(option: str, value: Any) -> tuple[Any, Any]:
    """The values of an option for the fixed and for the moving image: `value` is one value for both, or a pair.

    Raises:
        InputError: a list or tuple that does not have two values.
    """
    if not isinstance(value, (list, tuple)):
        return value, value
    if len(value) != 2:
        raise InputError(f"{option}: expected one value, or two: of the fixed and of the moving image, got {value!r}")
    return value[0], value[1]


def chosen(channels: np.ndarray, channel: Any, role: str) -> np.ndarray:
    """Select one of the channels (C, *shape), negative numbers from the last; all if `channel` is None. -> (1 or C, *shape)

    Raises:
        InputError: there is no such channel.
    """
    if channel is None:
        return channels
    count = len(channels)
    if not isinstance(channel, (int, np.integer)) or isinstance(channel, bool) or not -count <= channel < count:
        raise InputError(f"{role} image: expected a channel from {-count} to {count - 1}, or None for all, got {channel!r}")
    return channels[channel, None]


def _channel_axis(pixels: Pixels, asked: Any, role: str, tensor: bool) -> int | None:
    array = pixels.array
    axis: Any
    if isinstance(asked, str) and asked == "auto":
        axis = pixels.channel_axis
        if axis == "auto":
            axis = _by_shape(array.shape, pixels.space, tensor)
    elif asked is None or (isinstance(asked, (int, np.integer)) and not isinstance(asked, bool)):
        axis = asked
    else:
        raise InputError(f'channel_axis: expected an integer, None or "auto", got {asked!r}')
    if axis is None or (array.ndim == 2 and -MOST_AXES <= axis < MOST_AXES):  # the option may be meant for the other image
        return None
    axis = int(axis)
    if not -array.ndim <= axis < array.ndim:
        raise InputError(f"{role} image: channel_axis {axis} is not an axis of an array of shape {array.shape}")
    if array.shape[axis] == 0:
        raise InputError(f"{role} image: expected at least one channel, got none on axis {axis} of shape {array.shape}")
    return axis % array.ndim


def _by_shape(shape: tuple[int, ...], space: tuple[int, ...], tensor: bool) -> int | None:
    """The likely channel axis: one with few entries that is not known to be spatial; None if there is none."""
    if len(shape) < 3:
        return None
    if len(space) > 1:
        others = [at for at in range(len(shape)) if at not in space]
        few = [at for at in others if shape[at] <= MOST_CHANNELS]
        return max(few, key=lambda at: shape[at], default=None)
    usual = 0 if tensor else len(shape) - 1
    if 2 <= shape[usual] <= MOST_CHANNELS:
        return usual
    empty = [at for at, length in enumerate(shape) if length == 1]
    return usual if usual in empty else next(iter(empty), None)


def spatial(shape: tuple[int, ...], axis: int | None) -> list[int]:
    """The spatial axes: all but the channels, without the first axes of length 1 as long as more than two are left."""
    kept = [at for at in range(len(shape)) if at != axis]
    for at in [at for at in kept if shape[at] == 1]:
        if len(kept) > 2:
            kept.remove(at)
    return kept


def _in_front(array: np.ndarray, axis: int | None, gone: list[int]) -> np.ndarray:
    """The array with its channels in front (one if it has none), without the axes `gone`, whose length is 1."""
    channels = array[None] if axis is None else np.moveaxis(array, axis, 0)
    return channels.squeeze(tuple(at + 1 if axis is None or at < axis else at for at in gone))


def _check_size(shape: tuple[int, ...], role: str, least: int) -> None:
    fewest = min(least, FEWEST_SLICES) if len(shape) == 3 else least
    shortest, next_one = sorted(shape)[:2]
    if shortest >= fewest and next_one >= least:
        return
    slices = f" A volume may have {fewest} along one axis." if fewest < least else ""
    raise InputError(
        f"{role} image: expected at least {least} pixel{'s' if least > 1 else ''} along every axis, got shape "
        f"{tuple(shape)}.{slices} Set channel_axis if one of these axes holds channels."
    )
