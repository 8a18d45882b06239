"""`Job`: which image is warped how to which grid; computes any tile of the result from a part of the image."""

import functools
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from drmime import record, saved
from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.image.door import load
from drmime.image.io import open_source
from drmime.image.ome_zarr import levels_of
from drmime.image.planes import planes_of
from drmime.image.source import Source
from drmime.registry import known
from drmime.transform.base import Transform, from_state
from drmime.transform.interpolate import filled
from drmime.transform.warp import View, fill_of, in_pixels, slopes_of
from drmime.version import __version__

SIDES = {2: 1024, 3: 128}  # pixels of a tile along each axis, by dimension
INTERPOLATIONS = ("linear", "nearest", "majority")  # that read a bounded neighbourhood of a place
SPREAD = 4  # standard deviations at which a Gaussian blur ends, as in scipy.ndimage
FORMAT = "drmime tiles 1"
KINDS: dict[str, Any] = {
    **{"transform": {str: object}, "target": record.GRID, "place": record.GRID, "source": str, "contents": str},
    **{"interpolation": str, "fill": str, "antialias": bool, "version": str, "format": str, "channel_axis": object},
}


@dataclass(frozen=True, eq=False)
class Job:
    """What is warped: `source`, whose finest level lies on the grid `place`, by `transform` (target to moving world)."""

    transform: Transform
    target: Grid
    source: Source
    place: Grid
    interpolation: str
    fill: float
    antialias: bool
    channel_axis: Any = "auto"  # of a source that is read as a whole

    def __post_init__(self) -> None:
        known("interpolation tile by tile", self.interpolation, INTERPOLATIONS)
        fill_of(self.fill, self.source.dtype)

    @functools.cached_property
    def side(self) -> int:
        """Pixels of a tile along each axis."""
        return SIDES[self.target.ndim]

    @functools.cached_property
    def levels(self) -> list[Grid]:
        """The grids of the result, finest first."""
        return levels_of(self.target, self.side)

    @property
    def labels(self) -> bool:
        """Whether values are never blended."""
        return self.interpolation != "linear"

    @functools.cached_property
    def axes(self) -> tuple[str, tuple[int, ...]]:
        """Letters and lengths of the axes of the result that are not spatial; one axis of channels if the source has others."""
        letters = "".join(self.source.axes[at] for at in self.source.others).replace("S", "C")
        if letters in ("", "T", "C", "Z", "TC", "TZ", "CZ", "TCZ"):
            return letters, self.source.lengths
        return "C", (math.prod(self.source.lengths),)

    def tile(self, first: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """A box of the finest level of the result, from its `first` pixel (array order). -> (K, *shape), dtype of the source

        Raises:
            InputError: the source is damaged there.
        """
        level, view = self._read_from
        places, inside = view.places(first, shape)
        count = math.prod(self.source.lengths)
        out = np.full((count, len(inside)), fill_of(self.fill, self.source.dtype))
        if inside.any():
            needed = [one[:, inside] for one in places]
            margin = 2 + math.ceil(SPREAD * max(view.blur))
            low = np.floor(np.min([one.min(1) for one in needed], axis=0)).astype(int) - margin
            high = np.ceil(np.max([one.max(1) for one in needed], axis=0)).astype(int) + margin + 1
            low, high = np.maximum(low, 0), np.minimum(high, view.moving_shape)
            needed = [one - low[:, None] for one in needed]
            planes, valid = self.source.planes(level, low, high - low), self.source.valid(level, low, high - low)
            if valid is None:
                for plane, values in zip(planes, out, strict=True):
                    values[inside] = view.reader(plane)(needed)
            else:  # as `Registration.warp`
                nearest = replace(view, interpolation="nearest", blur=[0.0] * len(shape), votes=view.votes[:0])
                centres = [nearest.places(first, shape)[0][0][:, inside] - low[:, None]]
                for plane, mask, values in zip(planes, valid, out, strict=True):
                    found = view.reader(filled(plane, mask))(needed)
                    values[inside] = np.where(nearest.reader(mask)(centres), found, fill_of(self.fill, plane.dtype))
        return out.reshape(count, *shape)

    @functools.cached_property
    def _read_from(self) -> tuple[int, View]:
        """The coarsest level of the source that has the detail of the result, and how it is read; labels: the finest."""
        slopes = slopes_of(in_pixels(self.transform, self.target, self.place), self.target)
        reduction = np.linalg.norm(slopes, axis=1)[::-1]  # pixels of the moving image in a pixel of the result, array order
        found, grid = 0, self.place
        for level, own in enumerate(self.source.grids()):
            factor = np.divide(self.place.shape, own.shape)
            if self.antialias and not self.labels and (factor <= np.maximum(1.01 * reduction, 1)).all():
                found, grid = level, self.place.level(own.shape)
        antialias = self.antialias and not self.labels
        return found, View.of(self.transform, grid, self.target, self.interpolation, antialias, self.place)

    @functools.cached_property
    def largest(self) -> int:
        """About how many bytes the computation of a tile takes."""
        level, view = self._read_from
        grid = self.place.level(view.moving_shape)
        slopes = slopes_of(in_pixels(self.transform, self.target, grid), self.target)
        box = np.minimum(slopes.sum(1)[::-1] * self.side, view.moving_shape).prod()
        pixels = float(np.minimum(self.target.shape, self.side).prod())
        count, wide = math.prod(self.source.lengths), self.source.dtype.itemsize
        chunk = math.prod(getattr(self.source.arrays[level], "chunks", None) or (1,)) * wide
        return int(pixels * (count * wide + 8 * self.target.ndim * (4 + len(view.votes))) + box * (count * wide + 16) + chunk)

    # ---- as JSON, so that a run goes on, and for other processes

    def state(self) -> dict[str, Any]:
        """All of it, as JSON holds it; of the source the path, and what tells whether its contents are the same."""
        return {
            "format": FORMAT,
            "version": __version__,
            "transform": self.transform.state(),
            "target": record.grid_state(self.target),
            "place": record.grid_state(self.place),
            "source": str(Path(self.source.name).resolve()) if self.source.name else "",
            "contents": _contents(self.source),
            "interpolation": self.interpolation,
            "fill": str(float(self.fill)),
            "antialias": self.antialias,
            "channel_axis": self.channel_axis,
        }

    @classmethod
    def load(cls, path: Path) -> "Job":
        """The job in a file that another process has written.

        Raises:
            InputError: no such file, or an image that is not the same any more.
        """
        state = saved.read(path, "a job of drmime warp --tiles", KINDS)
        source = source_of(state["source"], state["channel_axis"], state["interpolation"] != "linear")
        if _contents(source) != state["contents"]:
            raise InputError(f"{path}: expected the image {state['source']} as it was, got another one")
        target, place = record.grid(state["target"]), record.grid(state["place"])
        fill = int(value) if (value := float(state["fill"])).is_integer() else value
        transform = from_state(state["transform"], target.ndim)
        options = {name: state[name] for name in ("interpolation", "antialias", "channel_axis")}
        return cls(transform, target, source, place, fill=fill, **options)


def source_of(image: Any, channel_axis: Any = "auto", labels: bool = False) -> Source:
    """An image to be read by regions: the levels of a slide, or any other image as a whole in memory.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(image, (str, Path)):
        found = open_source(image)
        if found is not None:
            if not (isinstance(channel_axis, str) and channel_axis == "auto"):
                raise InputError(f"{image}: states its axes ({found.axes}); leave out channel_axis, got {shown(channel_axis)}")
            return found
    pixels = load(image, "moving", labels)
    planes = planes_of(pixels, None if labels and not pixels.space else channel_axis, "moving", isinstance(image, Tensor))
    shape = planes.planes.shape[1:]
    name = str(image) if isinstance(image, (str, Path)) else ""
    grid = planes.grid or Grid.regular(shape)
    last = bool(planes.order) and planes.order[-1] < len(planes.lengths)  # as colours of a picture
    stated = "".join(letter for letter in planes.names if letter not in "ZYX")
    letters = stated if len(stated) == len(planes.lengths) else "S" if last else "C"
    lengths = planes.lengths if len(letters) == len(planes.lengths) else (len(planes.planes),)
    whole = (*(lengths if planes.lengths else ()), *shape)
    axes = (letters if planes.lengths else "") + "ZYX"[-len(shape) :]
    masks = () if planes.mask is None else (planes.mask.reshape(whole),)
    return Source(name, (planes.planes.reshape(whole),), axes, grid, masks, planes.nodata)


def _contents(source: Source) -> str:
    """A text that tells contents apart: of the names, sizes and times of the files, or of all values of an array."""
    if not source.name:
        arrays = source.arrays[0], *source.masks[:1]
        return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
    path = Path(source.name)
    files = [path] if path.is_file() else [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    known = sorted((str(file.relative_to(path)), (found := file.stat()).st_size, found.st_mtime_ns) for file in files)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
