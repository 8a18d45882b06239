"""The frames of one file or array with an axis of time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from drmime.errors import InputError, shown
from drmime.image.door import load
from drmime.image.pixels import Pixels, taken


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a series, read once."""

    frames: tuple[Pixels, ...]
    axis: int  # of time, in the whole
    names: str  # a letter for each axis of the whole, T for time; those that the source does not state by the shape

    def whole(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Frames, in order, as one array with the axes of the source."""
        return np.stack(frames, self.axis)


def frames_of(source: Any, time_axis: int | str = "auto", channel_axis: Any = "auto") -> Frames:
    """The frames of a series.

    Args:
        source: a path, an array or whatever `drmime.register` takes.
        time_axis: number of the axis of time; "auto": the one that the file states (T in OME and ImageJ TIFF, the fourth of
            NIfTI).
        channel_axis: as for `drmime.register`, of a frame; tells the letters of axes that have none.

    Raises:
        InputError: it cannot be read, states no axis of time, has no such axis, or fewer than two frames.
    """
    pixels = load(source, "series")
    array, names = pixels.array, pixels.names
    said = f"{source}: " if isinstance(source, (str, Path)) else "series: "
    if time_axis == "auto":
        if "T" not in names:
            raise InputError(
                f"{said}expected at least two images, or one file with an axis of time (T), got shape {array.shape} with "
                f"axes {names or 'that are not named'}. Pass time_axis (--time-axis), the number of the axis."
            )
        axis = names.index("T")
    elif isinstance(time_axis, (int, np.integer)) and not isinstance(time_axis, bool) and -array.ndim <= time_axis < array.ndim:
        axis = int(time_axis) % array.ndim
    else:
        raise InputError(f'time_axis: expected "auto" or an axis of shape {array.shape}, got {shown(time_axis)}')
    if array.shape[axis] < 2:
        raise InputError(f"{said}expected at least two frames on axis {axis}, got shape {array.shape}")
    frames = tuple(_frame(pixels, axis, at) for at in range(array.shape[axis]))
    letters = names[:axis] + names[axis + 1 :] if names else _letters(frames[0], channel_axis)
    return Frames(frames, axis, letters[:axis] + "T" + letters[axis:])


def _letters(frame: Pixels, channel_axis: Any) -> str:
    """A letter for each axis of a frame whose axes are not named."""
    space, channels = taken(frame, channel_axis, "series")
    letters = ["Q"] * frame.array.ndim
    for axis, letter in zip(space, "ZYX"[-len(space) :], strict=False):
        letters[axis] = letter
    if channels is not None:
        colours = channels == frame.array.ndim - 1 and frame.array.shape[channels] in (3, 4)
        letters[channels] = "S" if colours else "C"
    return "".join(letters)


def _frame(pixels: Pixels, axis: int, at: int) -> Pixels:
    """One entry of an axis, with what is known of the other axes."""

    def moved(other: int) -> int:
        return other - (other > axis)

    left = [other for other in pixels.space if other != axis]
    channel = pixels.channel_axis
    if isinstance(channel, int):
        channel = channel % pixels.array.ndim
        channel = None if channel == axis else moved(channel)
    return replace(
        pixels,
        array=pixels.array.take(at, axis),
        grid=pixels.grid_along(left),
        space=tuple(moved(other) for other in left),
        channel_axis=channel,
        mask=None if pixels.mask is None else pixels.mask.take(at, axis),
        names=pixels.names[:axis] + pixels.names[axis + 1 :] if pixels.names else "",
    )
