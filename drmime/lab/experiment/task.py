"""`Task`, one registration of an experiment, and `run`, which runs it and returns its row."""

import functools
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime import checks
from drmime.checks import plain
from drmime.errors import InputError, numbers
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import translation
from drmime.image.io import write_image
from drmime.lab import evaluate
from drmime.lab.datasets.base import Case, Pair, digests
from drmime.lab.experiment.memory import forget_peak_memory, peak_memory
from drmime.lab.experiment.rows import Row
from drmime.lab.peers import Problem, ready
from drmime.lab.peers import settings as peer_settings
from drmime.observers import TensorBoard
from drmime.pictures import coloured_errors, relative_errors, thumbnail
from drmime.registration import DEFAULTS, register
from drmime.registry import names_only
from drmime.result import Registration
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform, matrix_of
from drmime.transform.warp import in_pixels, resample
from drmime.verdict.evidence import Blocks

CURVE = 200  # largest number of points of a curve in a row; enough for a plot
PEERS = ("SimpleITK", "itk-elastix", "antspyx", "convexAdam", "opencv-python-headless", "scikit-image")
PACKAGES = ("drmime", "torch", "numpy", *PEERS)


@dataclass(frozen=True)
class Outputs:
    """The outputs of a run besides its rows, and the folder of all outputs."""

    folder: str = "runs"
    pictures: int = 320  # pixels of the long side of each pair's pictures; 0 for none
    tensorboard: bool = False  # curves and overlays of drmime's methods


@dataclass(frozen=True)
class Task:
    """A method, a pair and a seed. Holds text and numbers only, so that it can be sent to a process as JSON."""

    method: str  # the method's name in the configuration
    block: Mapping[str, Any]  # keyword arguments of `register`; or "peer" and its options
    pair: Pair
    seed: int
    outputs: Outputs = field(default_factory=Outputs)
    threads: int = 1  # threads of a peer; `register` has an option for this
    code: bool = False  # whether "module:attribute" in `block` is imported

    @property
    def name(self) -> str:
        """The relative path of the task's files; it depends on method, options, pair and seed, not on the images' folder."""
        return f"{slug(self.method)}/{self.pair_name}-{self.seed}-{_digest([self.method, self.block, self.seed])}"

    @property
    def pair_name(self) -> str:
        """The prefix of the names of files that all methods of a pair share."""
        pair = self.pair.to_dict()
        return f"{slug(self.pair.name)}-{_digest([pair['name'], pair['change']])}"

    @property
    def curves(self) -> Path:
        """The folder of TensorBoard's files."""
        return Path(self.outputs.folder) / "tensorboard" / self.name

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Task":
        outputs, pair = Outputs(**state["outputs"]), Pair.from_dict(state["pair"])
        return cls(**dict(state) | {"outputs": outputs, "pair": pair})

    def unfinished(self) -> Row:
        """The row with the values that are known before the task has run."""
        row = Row(self.method, self.pair.name, self.seed, self.pair.domain, landmarks=self.pair.judged)
        return replace(row, settings=dict(self.block), versions=versions())


@dataclass(frozen=True)
class Found:
    """The result of a method, and further values of its row that only the method knows."""

    transform: Transform  # from fixed to moving pixels
    row_values: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    blocks: Blocks | None = None  # errors measured on blocks of the image


def run(task: Task) -> Row:
    """Run a task and return its row. Errors are not raised but stored in the row's `error`."""
    row = replace(task.unfinished(), landmarks=False)  # without landmarks an unreadable pair does not count against a method
    try:
        torch.set_num_threads(1)  # beside other workers
        case, inputs = _load(task.pair)
        row = replace(row, inputs=inputs, landmarks=case.fixed_points is not None and len(case.fixed_points) > 0)
        problem = _problem(case, task.threads)
        with names_only(not task.code):
            align, settings = (_peer if "peer" in task.block else _ours)(task, case, problem)
            row = replace(row, settings=settings)
            before = forget_peak_memory()
            began = time.perf_counter()
            found = align()
        scores = {"seconds": time.perf_counter() - began}
        if before is not None and (peak := peak_memory()) is not None:
            scores["memory"] = peak - before
        scores |= evaluate.scores(found.transform, case, problem.start)
        scores |= found.scores
        seen, doubts = _pictures(task, case, problem.start, found) if task.outputs.pictures else ({}, [])
        notes = [*case.notes, *found.row_values.get("notes", []), *doubts]
        matrix = found.transform.matrix.tolist() if isinstance(found.transform, MatrixTransform) else None
        return replace(row, **dict(found.row_values) | seen | {"notes": notes, "matrix": matrix, "scores": scores})
    except InputError as error:
        return replace(row, error=str(error))
    except Exception as error:  # other programs raise any kind of error
        return replace(row, error=in_a_line(error))


def in_a_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


@functools.lru_cache(maxsize=1)  # the next task is usually another method on the same pair
def _load(pair: Pair) -> tuple[Case, dict[str, dict[str, Any]]]:
    return pair.load(), digests(file for file in pair.files() if Path(file).is_file())


def _problem(case: Case, threads: int = 1) -> Problem:
    """The problem for a peer; it starts centre on centre in world coordinates, which also aligns the directions of axes."""
    fixed, moving = case.grids
    start = moving.index_from_world @ translation(moving.centre - fixed.centre) @ fixed.world_from_index
    spacings = case.fixed_spacing, case.moving_spacing
    return Problem.of(case.fixed, case.moving, *spacings, start=start.numpy(), threads=threads)


def _peer(task: Task, case: Case, problem: Problem) -> tuple[Callable[[], Found], dict[str, Any]]:
    """The function that is timed, and its settings."""
    options = dict(task.block)
    name, after = options.pop("peer"), options.pop("after", None)
    if after is not None:
        problem = replace(problem, start=_linear(task, after))
    align = ready(problem, name, options)

    def run() -> Found:
        found = align(task.seed)
        return Found(found if isinstance(found, Transform) else _of_matrix(found, case), {"device": "cpu"})

    return run, {"peer": name, "after": after} | plain(peer_settings(name, options))


def _linear(task: Task, after: Mapping[str, Any]) -> np.ndarray:
    """The matrix, in pixels, with which `register` with the options `after` aligns a pair: the start of other methods."""
    return _aligned(task.pair, json.dumps({"seed": task.seed} | dict(after)))


@functools.lru_cache(maxsize=1)
def _aligned(pair: Pair, options: str) -> np.ndarray:
    """Likewise, of options as JSON."""
    case, _ = _load(pair)
    result = register(*case.images, **json.loads(options))
    if not result.success:
        raise InputError(f"the registration before this method failed: {result.stop.value}")
    return matrix_of(in_pixels(result.transform, *case.grids)).numpy()


def _ours(task: Task, case: Case, problem: Problem) -> tuple[Callable[[], Found], dict[str, Any]]:
    """Likewise for `register`; the result replaces the settings by more precise ones if there is no error."""
    options: dict[str, Any] = {"seed": task.seed} | dict(task.block)
    after = options.pop("after", None)
    if after is not None:
        start = case.grids[1].world_from_index.numpy() @ _linear(task, after) @ case.grids[0].index_from_world.numpy()
        options["start"] = {"given": start.tolist(), "refine": False}
    begun = {} if after is None else {"after": after}
    watching = [_tensorboard(task, case, problem.start)] if task.outputs.tensorboard else []

    def align() -> Found:
        result: Registration = register(*case.images, observers=watching, **options)
        row_values = {
            "stop": result.stop.value,
            "verdict": str(result.verdict.status),
            "doubts": [doubt.name for doubt in result.doubts],
            "notes": [*result.reasons, *result.notes],
            "curves": _curves(result),
            "settings": dict(result.settings) | begun,
            "device": str(result.settings["device"]["name"]),
        }
        share = result.verdict.expected_error.median / float(result.moving_grid.extent.norm())
        scores = {"similarity": result.similarity, "probability": result.verdict.probability, "expected_rtre": share}
        known = {name: value for name, value in scores.items() if math.isfinite(value)}
        return Found(in_pixels(result.transform, *case.grids), row_values, known, result.blocks)

    given = {name: value for name, value in (DEFAULTS | options).items() if name not in ("fixed", "moving")}
    return align, checks.resolved(checks.options(given), given) | begun


def _tensorboard(task: Task, case: Case, start: np.ndarray) -> TensorBoard:
    """An observer that writes all curves of the run, and its final scores with the hyperparameters."""
    import_module("torch.utils.tensorboard")  # imported here, outside the timed part
    return TensorBoard(task.curves, scores=lambda found: evaluate.scores(in_pixels(found, *case.grids), case, start))


def _curves(result: Registration) -> dict[str, list[float]]:
    history = result.history
    steps = np.unique(np.linspace(0, len(history) - 1, CURVE).astype(int)) if len(history) else np.zeros(0, int)
    curves = {"step": steps, "total": result.totals[steps]}
    curves |= {f"level{level}": history[steps, level] for level in range(history.shape[1])}
    return {name: np.round(values, 6).tolist() for name, values in curves.items()}


def _of_matrix(moving_from_fixed: np.ndarray, case: Case) -> Transform:
    return evaluate.as_transform("matrix", moving_from_fixed, Grid.regular(case.fixed.shape[: case.ndim]))


def _pictures(task: Task, case: Case, start: np.ndarray, found: Found) -> tuple[dict[str, Any], list[str]]:
    """Small pictures of the fixed image and of the moving image under both transforms, and the landmarks in them; on an error
    a note instead, since the registration itself is valid."""
    after = f"pictures/{task.name}.jpg"
    try:
        names = _shared_pictures(task.pair, f"pictures/{task.pair_name}", task.outputs)
        names |= {"after": after}
        _draw(_warped(case, found.transform), case, after, task.outputs)
        if found.blocks is not None:
            names |= {"error": f"pictures/{task.name}-error.jpg"}
            _draw_errors(found.blocks, case, names["error"], task.outputs)
        return {"pictures": names, "points": _points(case, _of_matrix(start, case), found.transform)}, []
    except Exception as error:
        return {}, [f"No pictures: {in_a_line(error)}"]


@functools.lru_cache(maxsize=1)  # all methods of a pair share these
def _shared_pictures(pair: Pair, name: str, outputs: Outputs) -> dict[str, str]:
    case, _ = _load(pair)
    start = _problem(case).start
    for role, image in {"fixed": case.with_channels(case.fixed), "before": _warped(case, _of_matrix(start, case))}.items():
        _draw(image, case, f"{name}-{role}.jpg", outputs)
    return {role: f"{name}-{role}.jpg" for role in ("fixed", "before")}


def _draw(image: np.ndarray, case: Case, name: str, outputs: Outputs) -> None:
    write_image(Path(outputs.folder) / name, thumbnail(image, outputs.pictures, -1, case.fixed_spacing))


def _draw_errors(blocks: Blocks, case: Case, name: str, outputs: Outputs) -> None:
    """The remaining error in colours over the fixed image."""
    gray = thumbnail(case.with_channels(case.fixed), outputs.pictures, -1, case.fixed_spacing).mean(-1)
    picture = coloured_errors(gray, relative_errors(blocks, *case.grids), case.fixed_spacing, outputs.pictures)
    write_image(Path(outputs.folder) / name, picture)


def _warped(case: Case, transform: Transform) -> np.ndarray:
    moving = case.with_channels(case.moving)
    grids = Grid.regular(case.moving.shape[: case.ndim]), Grid.regular(case.fixed.shape[: case.ndim])
    return resample(moving, transform, *grids, fill=moving.min().item(), channel_axis=-1)


def _points(case: Case, start: Transform, found: Transform) -> dict[str, list[list[float]]]:
    """Landmarks of 2-D images in shares of the fixed picture's sides; moving landmarks are mapped by each inverse transform."""
    if case.ndim != 2 or case.fixed_points is None or case.moving_points is None:
        return {}
    sides = np.array(case.fixed.shape[1::-1])
    moving = torch.as_tensor(numbers("moving_points", case.moving_points))
    back = {"before": start.inverse(), "after": found.inverse()}
    places = {"fixed": case.fixed_points} | {name: mapping(moving).numpy() for name, mapping in back.items()}
    return {name: np.round((points + 0.5) / sides, 5).tolist() for name, points in places.items()}


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


def slug(name: str) -> str:
    """A name converted to a part of a path that is valid on every file system."""
    return re.sub(r"[^\w.=-]+", "_", name, flags=re.ASCII).strip("._")[:80] or "_"


@functools.cache
def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
