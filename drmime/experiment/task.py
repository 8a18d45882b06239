"""One registration of an experiment, from its description to its row, in whatever process it is run."""

import contextlib
import functools
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime import evaluate
from drmime.checks import plain
from drmime.datasets.base import Case, Pair, digests
from drmime.errors import InputError
from drmime.experiment.rows import Row
from drmime.grid import Grid
from drmime.io import write_image
from drmime.observers import TensorBoard
from drmime.peers import Problem, ready
from drmime.peers import settings as peer_settings
from drmime.pictures import thumbnail
from drmime.registration import register
from drmime.resample import resample
from drmime.result import Registration

CURVE = 200  # points of a curve in a row, which is to be looked at
PACKAGES = ("drmime", "torch", "numpy", "SimpleITK", "itk-elastix", "antspyx", "opencv-python-headless", "scikit-image")


@dataclass(frozen=True)
class Outputs:
    """What a run writes beside its rows, and where."""

    folder: str = "runs"
    pictures: int = 320  # pixels of the long side of each pair's pictures; 0 for none
    tensorboard: bool = False  # curves and overlays of drmime's methods


@dataclass(frozen=True)
class Task:
    """A method on a pair with a seed. Text alone, so that it can travel to another process as JSON."""

    method: str  # as the configuration calls it
    block: Mapping[str, Any]  # keyword arguments of `register`; or "peer" and its options
    pair: Pair
    seed: int
    outputs: Outputs = field(default_factory=Outputs)
    threads: int = 1

    @property
    def name(self) -> str:
        """A path below the run's folders: the same for the same method, pair and seed, and for no others."""
        what = json.dumps([self.method, self.block, self.pair.to_dict(), self.seed], sort_keys=True)
        digest = hashlib.sha256(what.encode()).hexdigest()[:10]
        return f"{slug(self.method)}/{slug(self.pair.name)}-{self.seed}-{digest}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"pair": self.pair.to_dict()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Task":
        outputs, pair = Outputs(**state["outputs"]), Pair.from_dict(state["pair"])
        return cls(**dict(state) | {"outputs": outputs, "pair": pair})

    def unfinished(self) -> Row:
        """Its row as far as it is known before it has run."""
        return Row(self.method, self.pair.name, self.seed, self.pair.domain, settings=dict(self.block))


@dataclass(frozen=True)
class Found:
    """What a method has found, and what of its row only it can tell."""

    matrix: np.ndarray  # moving_from_fixed in pixels
    told: Mapping[str, Any] = field(default_factory=dict)
    similarity: float | None = None


def run(task: Task) -> Row:
    """The row of a task; what goes wrong is told in its `error` and not raised."""
    row = replace(task.unfinished(), versions=versions())
    known: dict[str, float] = {}
    try:
        torch.set_num_threads(task.threads)
        case, inputs = _load(task.pair)
        problem = Problem.of(case.fixed, case.moving, case.fixed_spacing, case.moving_spacing, threads=task.threads)
        known = _of_the_start(case, problem.start)
        align = (_peer if "peer" in task.block else _ours)(task, case, problem)
        forget_peak_memory()
        began = time.perf_counter()
        found = align()
        cost = {"seconds": time.perf_counter() - began, "memory": peak_memory()}
        scores = cost | evaluate.scores(found.matrix, case, problem.start)
        scores |= {} if found.similarity is None else {"similarity": found.similarity}
        seen = _pictures(task, case, problem.start, found.matrix) if task.outputs.pictures else {}
        notes = [*case.notes, *found.told.get("notes", [])]
        told = dict(found.told) | seen | {"notes": notes, "matrix": found.matrix.tolist(), "scores": scores, "inputs": inputs}
        return replace(row, **told)
    except InputError as error:
        return replace(row, error=str(error), scores=known)
    except Exception as error:  # whatever another program's registration raises
        return replace(row, error=" ".join(f"{type(error).__name__}: {error}".split()), scores=known)


def _of_the_start(case: Case, start: np.ndarray) -> dict[str, float]:
    """What a row says of the start, even where a method fails: that there are landmarks, and how far off they were."""
    return {name: value for name, value in evaluate.scores(start, case, start).items() if name.startswith("start")}


@functools.lru_cache(maxsize=1)  # the next task is mostly another method on the same pair
def _load(pair: Pair) -> tuple[Case, dict[str, dict[str, Any]]]:
    return pair.load(), digests(file for file in pair.files() if Path(file).is_file())


def _peer(task: Task, case: Case, problem: Problem) -> Callable[[], Found]:
    name, options = task.block["peer"], {option: value for option, value in task.block.items() if option != "peer"}
    align = ready(problem, name, options)
    told = {"device": "cpu", "settings": {"peer": name} | plain(peer_settings(name, options))}
    return lambda: Found(align(task.seed), told)


def _ours(task: Task, case: Case, problem: Problem) -> Callable[[], Found]:
    options = {
        "fixed_spacing": case.fixed_spacing,
        "moving_spacing": case.moving_spacing,
        "channel_axis": "auto" if case.fixed.ndim != case.moving.ndim else -1 if case.fixed.ndim > case.ndim else None,
        "seed": task.seed,
    }
    watching = [_tensorboard(task, case, problem.start)] if task.outputs.tensorboard else []

    def align() -> Found:
        result: Registration = register(case.fixed, case.moving, observers=watching, **options | dict(task.block))
        told = {
            "stop": result.stop.value,
            "notes": list(result.notes),
            "curves": _curves(result),
            "settings": dict(result.settings),
            "device": str(result.settings["device"]),
        }
        return Found(result.pixel_matrix, told, result.similarity)

    return align


def _tensorboard(task: Task, case: Case, start: np.ndarray) -> TensorBoard:
    """Every curve of the run, and its final scores among the hyperparameters."""
    folder = Path(task.outputs.folder) / "tensorboard" / task.name
    return TensorBoard(folder, scores=lambda matrix: evaluate.scores(matrix, case, start))


def _curves(result: Registration) -> dict[str, list[float]]:
    history = result.history
    steps = np.unique(np.linspace(0, len(history) - 1, CURVE).astype(int)) if len(history) else np.zeros(0, int)
    curves = {"step": steps, "total": result.totals[steps]}
    curves |= {f"level{level}": history[steps, level] for level in range(history.shape[1])}
    return {name: np.round(values, 6).tolist() for name, values in curves.items()}


def _pictures(task: Task, case: Case, start: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    """Small pictures of the fixed image and of the moving one under both transforms, and where landmarks are in them."""
    folder, longest, spacing = Path(task.outputs.folder), task.outputs.pictures, case.fixed_spacing
    here, there = (Grid.regular(image.shape[: case.ndim]) for image in (case.fixed, case.moving))
    axis = -1 if case.moving.ndim > case.ndim else None

    def warped(matrix: np.ndarray) -> np.ndarray:
        return resample(case.moving, matrix, there, here, fill=case.moving.min().item(), channel_axis=axis)

    shared = f"pictures/{slug(task.pair.name)}-{hashlib.sha256(json.dumps(task.pair.to_dict()).encode()).hexdigest()[:10]}"
    images = {
        "fixed": (f"{shared}-fixed.jpg", lambda: case.fixed, case.fixed.ndim > case.ndim),
        "before": (f"{shared}-before.jpg", lambda: warped(start), axis is not None),
        "after": (f"pictures/{task.name}.jpg", lambda: warped(found), axis is not None),
    }
    for role, (name, pixels, coloured) in images.items():
        if role == "after" or not (folder / name).exists():
            write_image(folder / name, thumbnail(pixels(), longest, -1 if coloured else None, spacing))
    return {"pictures": {role: name for role, (name, *_) in images.items()}, "points": _points(case, start, found)}


def _points(case: Case, start: np.ndarray, found: np.ndarray) -> dict[str, list[list[float]]]:
    """Landmarks of 2-D images in shares of the fixed picture; those of the moving image are pulled back by each transform."""
    if case.ndim != 2 or case.fixed_points is None or case.moving_points is None:
        return {}
    sides = np.array(case.fixed.shape[1::-1])
    back = {"before": np.linalg.inv(start), "after": np.linalg.inv(found)}
    places = {"fixed": case.fixed_points} | {name: evaluate.mapped(m, case.moving_points) for name, m in back.items()}
    return {name: np.round((points + 0.5) / sides, 5).tolist() for name, points in places.items()}


def slug(name: str) -> str:
    """A name as a part of a path that every file system takes."""
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


def forget_peak_memory() -> None:
    """Begin to measure anew, where the system can (Linux); elsewhere the peak is that of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """The largest resident size in MB, all libraries included."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1000  # type: ignore[index]
    except (OSError, TypeError):
        return _peak_of_process()


def _peak_of_process() -> float:
    import resource  # not on Windows, where it is not known

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
