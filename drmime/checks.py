"""Every option of `register`, checked and made ready. `image.door.as_image` does so for images."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from drmime.compare import METRICS, Similarity
from drmime.errors import InputError, number, numbers, shown, switch, whole
from drmime.geometry.grid import scaled
from drmime.geometry.lie import PARAMETRISATIONS, generators
from drmime.geometry.matrices import apply
from drmime.image.door import as_image
from drmime.image.image import Image, batch
from drmime.image.pixels import each
from drmime.image.pyramid import COARSEST_SIDE, possible_levels
from drmime.optimise import Schedule
from drmime.registry import build, known, name_of
from drmime.sampling import SAMPLERS, Sampler
from drmime.start.choose import starts_of
from drmime.start.looks import Plan
from drmime.start.propose import INITIALISERS, Initialiser

DEVICES = ("cpu", "cuda")  # others lack the float64 that matrices need
DTYPES = {"float32": torch.float32, "float64": torch.float64}
Part = TypeVar("Part")
SCHEDULE = ("steps", "rate", "tolerance", "least_overlap")


@dataclass(frozen=True)
class Options:
    """What can be made of the options of `register` before an image is read."""

    metric: Similarity
    sampler: Sampler
    plan: Plan
    schedule: Schedule
    images: Mapping[str, Any]  # keyword arguments of `as_image`
    own: Sequence[Mapping[str, Any]]  # likewise, those of the fixed and of the moving image
    parametrisation: str
    finest_vector: bool
    seed: int
    threads: int
    progress: bool


def options(given: Mapping[str, Any]) -> Options:
    """Every option by its name, checked as far as it can be without images.

    Raises:
        InputError: one that cannot be, by its name.
    """
    place, kind = device(given["device"]), DTYPES[known("dtype", given["dtype"], DTYPES)]
    nan = known("nan", given["nan"], ("error", "mask"))
    whole("levels", given["levels"], 1)
    observers(given["observers"])
    if not isinstance(given["group"], Mapping):
        generators(given["group"], 3)  # which has every name that 2-D has
    if isinstance(given["initial_transform"], (str, Mapping)):
        build("initial_transform", INITIALISERS, given["initial_transform"], Callable)  # type: ignore[arg-type]
    if given["level_weights"] is not None:
        _stages(given["level_weights"])
    return Options(
        metric=_of_this_run("metric", build("metric", METRICS, given["metric"], Similarity)),
        sampler=_of_this_run("sampler", build("sampler", SAMPLERS, given["sampler"], Sampler)),
        plan=plan(given["initialiser"]),
        schedule=schedule(*(given[name] for name in SCHEDULE)),
        images={"nan": nan, "device": place, "dtype": kind},
        own=[
            {"channel_axis": axis, "channel": channel}
            for axis, channel in zip(*(each(name, given[name]) for name in ("channel_axis", "channel")), strict=True)
        ],
        parametrisation=known("parametrisation", given["parametrisation"], PARAMETRISATIONS),
        finest_vector=switch("finest_vector", given["finest_vector"]),
        seed=whole("seed", given["seed"], 0),
        threads=whole("threads", given["threads"], 1, 1024),
        progress=switch("progress", given["progress"]),
    )


def _of_this_run(kind: str, part: Part) -> Part:
    """A copy, so that what a run learns stays in that run and the caller's object can serve another."""
    try:
        return copy.deepcopy(part)
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{kind}: expected an object that can be copied, got {shown(part)} ({error})") from error


def schedule(steps: int, rate: float, tolerance: float, least_overlap: float) -> Schedule:
    return Schedule(
        steps=whole("steps", steps, 1, 10**7),
        rate=number("rate", rate, 0),
        tolerance=number("tolerance", tolerance, 0),
        least_overlap=number("least_overlap", least_overlap, 0, 1),
    )


def device(name: str | torch.device | None) -> torch.device:
    """The device asked for, or a GPU if torch sees one, else the CPU."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    try:
        if str(name).partition(":")[0] not in DEVICES:
            raise TypeError("of a kind that is not supported")
        place = torch.device(name)
        torch.empty(0, device=place)
        return place
    except (RuntimeError, AssertionError, TypeError, ImportError) as error:
        raise InputError(f"device: expected one that is here ({', '.join(here)}), got {str(name)!r}") from error


def observers(watchers: Any) -> None:
    """A sequence of things that can be called with a `Step`."""
    if not isinstance(watchers, Sequence) or not all(map(_is_observer, watchers)):
        raise InputError(f"observers: expected a list of observers or functions of a step, got {shown(watchers)}")


def _is_observer(watcher: Any) -> bool:
    return callable(watcher) and not isinstance(watcher, type)


def images(data: Any, mask: Any, role: str, options: Mapping[str, Any]) -> Image:
    """One image, or a list of them as a batch, with masks to match; `options` are those of `as_image`."""
    if not isinstance(data, (list, tuple)):
        return as_image(data, role=role, mask=mask, **options)
    if not data:
        raise InputError(f"{role}: expected at least one image, got an empty list")
    masks = [None] * len(data) if mask is None else mask
    if not isinstance(masks, (list, tuple)) or len(masks) != len(data):
        raise InputError(f"{role}_mask: expected a list of {len(data)} masks, one for each image")
    return batch([as_image(d, role=role, mask=m, **options) for d, m in zip(data, masks, strict=True)], role)


def pair(fixed: Image, moving: Image) -> None:
    """Both images of the same dimension, both batches of the same length."""
    if fixed.grid.ndim != moving.grid.ndim:
        raise InputError(
            f"expected images of the same dimension, got fixed {fixed.grid.ndim}-D {fixed.grid.shape} and moving "
            f"{moving.grid.ndim}-D {moving.grid.shape}. Set channel_axis if one of the axes holds channels."
        )
    if len(fixed.data) != len(moving.data):
        raise InputError(f"expected as many fixed as moving images, got {len(fixed.data)} and {len(moving.data)}")


def start(initial: Any, fixed: Image, moving: Image) -> Tensor:
    """The first moving_from_fixed of each pair, from a name or matrices. -> (B, D+1, D+1)"""
    if isinstance(initial, (str, Mapping)) or callable(initial):
        initial = _first("initial_transform", initial, fixed, moving)
    elif isinstance(initial, Path):
        raise InputError(f"initial_transform: expected a name or a matrix, got the path {str(initial)!r}. Read it first.")
    count, side = len(fixed.data), fixed.grid.ndim + 1
    matrices = numbers("initial_transform", initial)
    if matrices.shape not in ((side, side), (count, side, side)):
        raise InputError(
            f"initial_transform: expected a homogeneous matrix of shape {(side, side)}, x first, got shape {matrices.shape}"
        )
    if not np.isfinite(matrices).all():
        raise InputError("initial_transform: expected finite numbers, got NaN or infinity")
    if (np.linalg.cond(matrices[..., :-1, :-1]) > 1e8).any() or (np.linalg.det(matrices) == 0).any():
        raise InputError("initial_transform: expected an invertible matrix, got a singular one")
    tensors = scaled(torch.as_tensor(matrices), fixed.grid)
    if not apply(tensors, fixed.grid.corners())[1].all():
        raise InputError("initial_transform: expected a matrix whose horizon does not cross the fixed image")
    return tensors.expand(count, side, side).clone()


def _first(option: str, spec: Any, fixed: Image, moving: Image) -> Tensor:
    """The first candidate of an initialiser for each pair."""
    find: Initialiser = build(option, INITIALISERS, spec, Callable)  # type: ignore[arg-type]
    ndim = fixed.grid.ndim
    found = [starts_of(option, find(fixed.pair(number), moving.pair(number)), ndim) for number in range(len(fixed.data))]
    for candidates in found:
        if not len(candidates):
            raise InputError(f"{option}: {name_of(spec)} found no start for these images; give a matrix or another name")
    return torch.stack([candidates[0] for candidates in found])


def plan(spec: Any) -> Plan:
    """What proposes starts: of "auto" the looks that suit the group; of "given" nothing, but the given start is refined as
    candidates are; of None or "none" nothing, and it is not.
    """
    if spec is None or (isinstance(spec, (str, list, tuple)) and spec in ("none", [], ())):
        return Plan(search=False, refine=False)
    table: dict[str, Callable[..., Any]] = {**INITIALISERS, "auto": lambda: "auto", "given": lambda: "given"}
    asked: list[tuple[str, Initialiser]] = []
    search = False
    for one in spec if isinstance(spec, (list, tuple)) else [spec]:
        part = build("initialiser", table, one)
        if isinstance(part, str) and part in ("auto", "given"):
            search = search or part == "auto"
        elif isinstance(part, type) or not callable(part):
            raise InputError(f"initialiser: expected one of {', '.join(table)} or a function of two images, got {shown(part)}")
        else:
            asked.append((name_of(one), part))
    return Plan(asked, search)


def levels(asked: int, fixed: Image, moving: Image) -> tuple[int, tuple[str, ...]]:
    """How many levels both images allow, and a note when that is fewer than asked for."""
    asked = whole("levels", asked, 1)
    count = min(asked, possible_levels(fixed.grid), possible_levels(moving.grid))
    if count == asked:
        return count, ()
    return count, (f"Levels: {count} instead of {asked}, so that the coarsest keeps {COARSEST_SIDE} pixels a side.",)


def level_weights(weights: Any, count: int) -> Tensor:
    """Weights of the levels in each stage, which sum to 1, finest first; levels beyond `count` are left out. -> (S, count)"""
    if weights is None:
        return torch.full((1, count), 1 / count, dtype=torch.float64)
    array = _stages(weights, count)
    return torch.as_tensor(array / array.sum(1, keepdims=True))


def _stages(weights: Any, count: int | None = None) -> np.ndarray:
    """A row for each stage, of `count` columns if the levels have been counted. shape: (S, levels)"""
    array = np.atleast_2d(numbers("level_weights", weights))
    good = array.ndim == 2 and array.shape[1] >= (count or 1) and len(array) and ((array >= 0) & (array < 1e12)).all()
    if not good or not array[:, :count].sum(1).all():
        form = f"{count or 'as many'} numbers of at least 0{'' if count else ' as levels'}, not all 0, or a list of such lists"
        raise InputError(f"level_weights: expected {form}, got {shown(weights)}")
    return array[:, :count]


def plain(value: Any) -> Any:
    """A setting as JSON can hold it: numbers, names and lists stay, images and objects become a word."""
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
