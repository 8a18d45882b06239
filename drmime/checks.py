"""Checks of the options of `register`, and construction of the parts they name. For images see `image.door.as_image`."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.device import Device
from drmime.errors import InputError, shown, whole
from drmime.geometry.grid import Grid
from drmime.image.crs import check_crs
from drmime.image.image import Image
from drmime.image.pixels import each
from drmime.image.pyramid import COARSEST_SIDE, possible_levels
from drmime.learn.use import Represented
from drmime.optimise import Observer, Step
from drmime.parts import METRICS, OBSERVERS, SAMPLERS, TRANSFORMS
from drmime.registry import build, known, options_as
from drmime.sampling import Sampler
from drmime.schedule import Schedule
from drmime.soft import SoftLandmarks
from drmime.start.plan import Start
from drmime.transform.base import Family

Part = TypeVar("Part")
Watcher = Observer | Callable[[Step], None]


@dataclass(frozen=True)
class Options:
    """The options of `register`, checked, with parts constructed, before any image is read."""

    levels: int
    stages: Sequence[Family]  # linear ones, or none; after them at most one that is not
    metric: Similarity
    sampler: Sampler
    start: Start
    representation: Represented | None
    landmarks: SoftLandmarks | None
    own: Sequence[Mapping[str, Any]]  # keyword arguments of `as_image`, those of the fixed and of the moving image
    schedule: Schedule
    seed: int
    device: Device
    observers: Sequence[Watcher]
    errors: str  # "raise" or "return"


def options(given: Mapping[str, Any]) -> Options:
    """Check the options of `register`, `given` by name, as far as possible without images.

    Raises:
        InputError: an option that cannot be used; the message names it.
    """
    nan = known("nan", given["nan"], ("error", "mask"))
    axes, channels = (each(name, given[name]) for name in ("channel_axis", "channel"))
    made = stages(given["transform"])
    if given["affine_mask"] is not None and made[-1].linear:
        raise InputError("affine_mask: expected a deformation as transform, such as 'affine+velocity'")
    if given["landmarks"] is not None and isinstance(given.get("fixed"), (list, tuple)):
        raise InputError("landmarks: expected one pair of images, got lists. Register the pairs one by one.")
    return Options(
        levels=whole("levels", given["levels"], 1),
        stages=made,
        metric=_of_this_run("metric", build("metric", METRICS, given["metric"], Similarity)),
        sampler=_of_this_run("sampler", build("sampler", SAMPLERS, given["sampler"], Sampler)),
        start=Start.of(given["start"]),
        representation=Represented.of(given["representation"]),
        landmarks=None if given["landmarks"] is None else options_as("landmarks", SoftLandmarks, given["landmarks"]),
        own=[{"channel_axis": axis, "channel": one, "nan": nan} for axis, one in zip(axes, channels, strict=True)],
        schedule=options_as("schedule", Schedule, {} if given["schedule"] is None else given["schedule"]),
        seed=whole("seed", given["seed"], 0),
        device=device(given["device"]),
        observers=observers(given["observers"]),
        errors=known("errors", given["errors"], ("raise", "return")),
    )


def stages(spec: Any) -> list[Family]:
    """The stages of a specification of one transform, of several joined by "+", or of a list of transforms.

    Raises:
        InputError: an unknown transform, or an order of stages that is not possible.
    """
    made = [build("transform", TRANSFORMS, one, Family) for one in specs(spec)]
    if not made or not all(one.linear for one in made[:-1]):
        order = "linear transforms and then at most one deformation, as in 'affine+velocity'"
        raise InputError(f"transform: expected {order}, got {shown(spec)}")
    return made


def specs(spec: Any) -> list[Any]:
    """The specifications of single stages in one of `stages`."""
    several = spec.split("+") if isinstance(spec, str) else spec if isinstance(spec, (list, tuple)) else [spec]
    return [one.strip() if isinstance(one, str) else one for one in several]


def resolved(asked: Options, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `register` as they were used, as values that JSON can hold; defaults are included."""
    settings = {name: plain(value) for name, value in given.items() if name not in ("observers", "errors")}
    device = vars(asked.device) | {"name": str(asked.device.place)}
    settings["landmarks"] = None if asked.landmarks is None else asked.landmarks.settings()
    return settings | {"start": used(asked.start), "schedule": plain(vars(asked.schedule)), "device": device}


def used(start: Start) -> dict[str, Any]:
    """The start in the settings of a result."""
    return {"given": plain(start.given), "propose": plain(start.propose if start.refine else None), "refine": start.refine}


def _of_this_run(kind: str, part: Part) -> Part:
    """A copy of a part, so that the state of a run does not change the caller's object.

    Raises:
        InputError: the object cannot be copied.
    """
    try:
        return copy.deepcopy(part)
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{kind}: expected an object that can be copied, got {shown(part)} ({error})") from error


def device(value: Any) -> Device:
    """The `Device` for a name, a `torch.device`, None, a mapping of options, or a `Device`."""
    if value is None or isinstance(value, (str, torch.device)):
        return Device(None if value is None else str(value))
    return options_as("device", Device, value)


def observers(specs: Any) -> Sequence[Watcher]:
    """The observers for one or several specifications, or functions of a `Step`."""
    form = "names of observers, observers, or functions of a step"
    if isinstance(specs, (str, Mapping)) or callable(specs):
        specs = [specs]
    if not isinstance(specs, Sequence):
        raise InputError(f"observers: expected a list of {form}, got {shown(specs)}")
    made = [build("observer", OBSERVERS, one) for one in specs]
    for one in made:
        if isinstance(one, type) or not callable(one):
            raise InputError(f"observers: expected a list of {form}, got {shown(one)} in it")
    return made


def one_each(mask: Any, count: int, role: str) -> Sequence[Any]:
    """The masks of a list of `count` images."""
    masks = [None] * count if mask is None else mask
    if not isinstance(masks, (list, tuple)) or len(masks) != count:
        raise InputError(f"{role}_mask: expected a list of {count} masks, one for each image")
    return masks


def pair(fixed: Image, moving: Image) -> None:
    """Check that both images have the same dimension and world, and both batches the same length; InputError if not."""
    dimensions(fixed.grid, moving.grid)
    check_crs(fixed.grid, moving.grid, ("the fixed image", "the moving image"))
    if len(fixed.data) != len(moving.data):
        raise InputError(f"expected as many fixed as moving images, got {len(fixed.data)} and {len(moving.data)}")


def dimensions(fixed: Grid, moving: Grid) -> None:
    """Check that the grids of two images have the same dimension; InputError if not."""
    if fixed.ndim != moving.ndim:
        raise InputError(
            f"expected images of the same dimension, got fixed {fixed.ndim}-D {fixed.shape} and moving "
            f"{moving.ndim}-D {moving.shape}. Set channel_axis if one of the axes holds channels."
        )


def levels(asked: int, *grids: Grid) -> tuple[int, tuple[str, ...]]:
    """The number of levels, at most `asked`, that images on all `grids` allow, and a note if it is smaller than `asked`."""
    count = min(asked, *map(possible_levels, grids))
    if count == asked:
        return count, ()
    return count, (f"Levels: {count} instead of {asked}, so that the coarsest keeps {COARSEST_SIDE} pixels a side.",)


def plain(value: Any) -> Any:
    """A setting as JSON can hold it: numbers, text and lists are kept, large arrays and objects become a short text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, Tensor)):
        return plain(value.tolist()) if math.prod(value.shape) <= 64 else f"array of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, torch.device) else type(value).__name__
