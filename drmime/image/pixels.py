"""`Pixels`: an array with what is known of its axes; which of them are space, which one holds channels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from drmime.errors import InputError
from drmime.geometry.grid import Grid

FEWEST_SLICES = 4  # of a volume, along one of its axes
MOST_AXES = 4  # of an image, channels among them
MOST_CHANNELS = 4  # on an axis that is taken for channels without being told


@dataclass(frozen=True, eq=False)
class Pixels:
    """What a file or an object holds; `register` takes one as an image.

    Of axes that are neither space nor channels, those of length 1 go; where no channels are stated, one of up to 4 entries is
    taken for them; longer ones (time, say) are an error.

    Raises:
        InputError: a grid of other axes than `space`.
    """

    array: np.ndarray
    grid: Grid | None = None  # of the axes in `space`; None where nothing is stated
    space: tuple[int, ...] = ()  # axes of `array` that `grid` is of, in their order
    channel_axis: int | str | None = "auto"  # "auto" where nothing is stated
    mask: np.ndarray | None = None  # of the shape of `array`; True counts

    def __post_init__(self) -> None:
        if self.grid is not None and self.grid.shape != tuple(np.shape(self.array)[at] for at in self.space):
            raise InputError(
                f"Pixels: expected a grid of the axes in space, of shape {self.grid.shape}, got the axes {self.space} of an "
                f"array of shape {np.shape(self.array)}"
            )


@dataclass(frozen=True, eq=False)
class Arranged:
    """Channels in front, space behind them."""

    channels: np.ndarray  # shape: (C, *shape), C = 1 without channels
    axis: int | None  # of the array without its empty axes, where channels were; None without
    grid: Grid | None  # of the spatial axes, where the source states one
    mask: np.ndarray | None  # shape: that of `channels`


def arranged(pixels: Pixels, channel_axis: Any, role: str, tensor: bool = False, least: int = 1) -> Arranged:
    """The array with its channels in front, on the spatial axes that are left; empty axes go.

    Args:
        channel_axis: an axis; None for no channels; "auto" for what the source says, else by the shape: where it says which
            axes are space, another one of up to 4 entries; else the last axis (of a tensor the first) where it has 2 to 4
            entries, or one of length 1.
        tensor: whether channels are looked for in front.
        least: pixels that every spatial axis must have, but that a volume may have `FEWEST_SLICES` along one.

    Raises:
        InputError: no such axis, no channels, not 2 or 3 spatial axes, too few pixels.
    """
    array = pixels.array
    axis = _channel_axis(pixels, channel_axis, role, tensor)
    kept = _spatial(array.shape, axis)
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
    grid = None if pixels.grid is None else pixels.grid.along([pixels.space.index(at) for at in kept])
    place = None if axis is None else axis - sum(at < axis for at in gone)
    return Arranged(channels, place, grid, mask)


def each(option: str, value: Any) -> tuple[Any, Any]:
    """What an option says of the fixed and of the moving image: one value for both, or a pair."""
    if not isinstance(value, (list, tuple)):
        return value, value
    if len(value) != 2:
        raise InputError(f"{option}: expected one value, or two: of the fixed and of the moving image, got {value!r}")
    return value[0], value[1]


def chosen(channels: np.ndarray, channel: Any, role: str) -> np.ndarray:
    """One of the channels (C, *shape), negative numbers from the last, or all where `channel` is None.

    Raises:
        InputError: no such channel.
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
    if axis is None or (array.ndim == 2 and -MOST_AXES <= axis < MOST_AXES):  # one option may be meant for the other image
        return None
    axis = int(axis)
    if not -array.ndim <= axis < array.ndim:
        raise InputError(f"{role} image: channel_axis {axis} is not an axis of an array of shape {array.shape}")
    if array.shape[axis] == 0:
        raise InputError(f"{role} image: expected at least one channel, got none on axis {axis} of shape {array.shape}")
    return axis % array.ndim


def _by_shape(shape: tuple[int, ...], space: tuple[int, ...], tensor: bool) -> int | None:
    """Where channels are likely: on an axis that is not said to be space, of few entries."""
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


def _spatial(shape: tuple[int, ...], axis: int | None) -> list[int]:
    """The axes beside the channels that are space: without the first empty ones, as far as two are left."""
    kept = [at for at in range(len(shape)) if at != axis]
    for at in [at for at in kept if shape[at] == 1]:
        if len(kept) > 2:
            kept.remove(at)
    return kept


def _in_front(array: np.ndarray, axis: int | None, gone: list[int]) -> np.ndarray:
    """The array with its channels in front, one if it has none, and without empty axes."""
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
