"""What an image file states and holds, before anything is done with it: axes, values, geometry, mask."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.crs import crs_name
from drmime.image.door import load
from drmime.image.image import QUANTILES
from drmime.image.pixels import Pixels, arranged, taken

NAMES = ("z", "y", "x")  # of spatial axes, in array order
SAMPLE_PIXELS = 2**20  # values from which quantiles are estimated, at most


@dataclass(frozen=True)
class Axis:
    """One axis of an array as it was read."""

    size: int
    role: str  # "space", "channels", "single" (of length 1, removed), "other" (time, for example)
    name: str = ""  # "z", "y" or "x" of a spatial axis


@dataclass(frozen=True, eq=False)
class Summary:
    """An image as it was read."""

    pixels: Pixels
    axes: tuple[Axis, ...]
    values: Mapping[str, float | None]  # "min", "low", "high", "max" of finite values inside the mask; None if there are none
    nan: int  # values inside the mask that are NaN
    infinite: int  # likewise, infinite
    excluded: int | None  # values that the image's own mask excludes; None if it has no mask
    grid: Grid | None  # grid of the spatial axes as the source states it; None if it states none
    channels: np.ndarray | None  # shape: (C, *shape), of the pixels; None if an axis is neither space nor channels

    @property
    def ndim(self) -> int:
        """Spatial dimensions."""
        return sum(axis.role == "space" for axis in self.axes)

    @property
    def opaque(self) -> int:
        """The number of the channel that may be opacity: the last of 2 or 4; -1 if there is none."""
        count = 0 if self.channels is None else len(self.channels)
        return count - 1 if count in (2, 4) else -1

    @property
    def placed(self) -> bool:
        """Whether origin and direction are stated."""
        return self.grid is not None and self.grid.placed

    @property
    def unit(self) -> str:
        return "" if self.grid is None else self.grid.unit

    @property
    def mirrored(self) -> bool:
        """Whether the stated direction has a negative determinant."""
        return self.grid is not None and self.grid.placed and bool(self.grid.world_from_index[:-1, :-1].det() < 0)


def summary(data: Any, role: str = "given") -> Summary:
    """Describe an image: a path, or any other that `as_image` takes; axes are found as there.

    Raises:
        InputError: it cannot be read.

    Example:
        >>> found = summary(np.zeros((20, 30, 3), np.uint8))
        >>> [(axis.size, axis.role) for axis in found.axes], found.values["max"]
        ([(20, 'space'), (30, 'space'), (3, 'channels')], 0.0)
    """
    pixels = load(data, role)
    array = pixels.array
    space, axis = taken(pixels, "auto", role)
    try:
        channels = arranged(pixels, "auto", role).channels
    except InputError:  # an axis of time, or too many axes
        channels = None
    grid = pixels.grid_along(space)
    inside = array if pixels.mask is None else array[pixels.mask]
    nan, infinite = (int(np.isnan(inside).sum()), int(np.isinf(inside).sum())) if array.dtype.kind == "f" else (0, 0)
    excluded = None if pixels.mask is None else int((~pixels.mask).sum())
    return Summary(pixels, _axes(pixels, space, axis), _values(inside, nan + infinite), nan, infinite, excluded, grid, channels)


def _axes(pixels: Pixels, space: list[int], channel_axis: int | None) -> tuple[Axis, ...]:
    shape = pixels.array.shape
    known = [at for at in space if not pixels.space or at in pixels.space]
    names = dict(zip(reversed(known), reversed(NAMES), strict=False))
    axes = []
    for at, size in enumerate(shape):
        if at == channel_axis:
            axes.append(Axis(size, "channels"))
        elif at in known:
            axes.append(Axis(size, "space", names.get(at, "")))
        else:
            axes.append(Axis(size, "single" if size == 1 else "other"))
    return tuple(axes)


def _values(values: np.ndarray, wrong: int) -> Mapping[str, float | None]:
    """Lowest and highest value, and the quantiles that `Image.normalised` maps to 0 and 1, here of all channels together."""
    if wrong:
        values = values[np.isfinite(values)]
    if not values.size:
        return dict.fromkeys(("min", "low", "high", "max"))
    sample = values.reshape(-1)
    if sample.size > SAMPLE_PIXELS:  # at random: regular steps could meet one channel alone
        sample = sample[np.random.default_rng(0).integers(0, sample.size, SAMPLE_PIXELS)]
    low, high = np.quantile(sample.astype(np.float64), QUANTILES).tolist()
    return {"min": float(values.min()), "low": low, "high": high, "max": float(values.max())}


def state(found: Summary) -> dict[str, Any]:
    """A summary as JSON holds it. Spacing is in array order; origin and direction are x first, in LPS."""
    grid, pixels = found.grid, found.pixels
    spacing = origin = direction = None
    if grid is not None:
        linear = grid.world_from_index[:-1, :-1]
        spacing = grid.spacing.flip(0).tolist()
        if grid.placed:
            origin, direction = grid.world_from_index[:-1, -1].tolist(), (linear / grid.spacing).tolist()
    values = {name: value if value is None or math.isfinite(value) else None for name, value in found.values.items()}
    return {
        "shape": list(pixels.array.shape),
        "axes": [vars(axis) | {"name": axis.name or None} for axis in found.axes],
        "dtype": str(pixels.array.dtype),
        "values": values,
        "nan": found.nan,
        "infinite": found.infinite,
        "excluded_by_own_mask": found.excluded,
        "spacing": spacing,
        "unit": (grid.unit or None) if grid else None,
        "origin": origin,
        "direction": direction,
        "crs": (grid.crs or None) if grid else None,
        "bounds": _bounds(grid) if grid and grid.crs else None,
        "nodata": None if pixels.nodata is None or not math.isfinite(pixels.nodata) else pixels.nodata,
        "mirrored": found.mirrored,
    }


def lines(found: Summary) -> dict[str, str]:
    """A summary in words, by topic."""
    told = state(found)
    unit = f" {told['unit']}" if told["unit"] else ""
    names = ", ".join(axis.name for axis in found.axes if axis.role == "space")
    axes = [_axis_in_words(axis) for axis in found.axes]
    wrong = [f"{count} {what}" for count, what in ((found.nan, "NaN"), (found.infinite, "infinite")) if count]
    own = "none of its own" if found.excluded is None else f"its own excludes {found.excluded} values"
    text = {"axes": ", ".join(axes), "dtype": told["dtype"]}
    if None in told["values"].values():
        text["values"] = "none that is finite and inside the mask"
    else:
        text["values"] = "{min:g} to {max:g}; {low:g} to {high:g} without 0.1 % at each end".format(**told["values"])
    if told["spacing"] is None:
        text["spacing"] = "none stated"
    else:
        text["spacing"] = f"{row(told['spacing'])}{unit} ({names})"
    if told["origin"] is None:
        text["origin"] = text["direction"] = "none stated"
    else:
        world = "x first" if told["crs"] else "x first, LPS"
        text["origin"] = f"{row(told['origin'], 10)}{unit} ({world})"
        identity = np.allclose(told["direction"], np.eye(len(told["direction"])), atol=1e-6)
        rows = "identity" if identity else "; ".join(map(row, told["direction"]))
        text["direction"] = rows + (" (mirrored: negative determinant)" if found.mirrored and not told["crs"] else "")
    if told["crs"]:
        text["crs"] = crs_name(told["crs"])
        text["bounds"] = f"{row(told['bounds'], 10)}{unit} (west, south, east, north)"
    return text | {"mask": f"{own}; {' and '.join(wrong) or 'no NaN or infinite values'}"}


def _axis_in_words(axis: Axis) -> str:
    word = {"channels": "channels", "single": "axis of length", "other": "axis neither space nor channels, of length"}
    return f"{axis.name if axis.role == 'space' else word[axis.role]} {axis.size}".strip()


def _bounds(grid: Grid) -> list[float]:
    """Lowest x and y, highest x and y of the outer corners."""
    ends = torch.stack([torch.full((grid.ndim,), -0.5, dtype=torch.float64), grid.size - 0.5]).T
    corners = apply(grid.world_from_index, torch.cartesian_prod(*ends), is_affine=True)[0]
    return [*corners.amin(0).tolist(), *corners.amax(0).tolist()]


def row(numbers: Any, digits: int = 6) -> str:
    """Numbers with commas between."""
    return ", ".join(f"{round(value, digits) + 0.0:.{digits}g}" for value in numbers)
