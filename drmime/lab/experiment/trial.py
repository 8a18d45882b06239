"""Run tasks and give their rows: those of one method on several pairs are registered together."""

import functools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch

from drmime import checks
from drmime.checks import plain
from drmime.errors import InputError
from drmime.lab import evaluate
from drmime.lab.datasets.base import Case, Pair
from drmime.lab.experiment.drawing import centred, of_matrix, pictures
from drmime.lab.experiment.loading import load
from drmime.lab.experiment.memory import forget_peak_memory, peak_memory
from drmime.lab.experiment.rows import Row
from drmime.lab.experiment.task import Task, in_a_line
from drmime.lab.peers import Problem, ready
from drmime.lab.peers import settings as peer_settings
from drmime.observers import TensorBoard
from drmime.registration import DEFAULTS, register
from drmime.registry import names_only
from drmime.result import Registration
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform, matrix_of
from drmime.transform.warp import in_pixels
from drmime.verdict.evidence import Blocks

CURVE = 200  # largest number of points of a curve in a row; enough for a plot


@dataclass(frozen=True)
class Found:
    """The result of a method, and further values of its row that only the method knows."""

    transform: Transform  # from fixed to moving pixels
    row_values: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    blocks: Blocks | None = None  # errors measured on blocks of the image


class Trial:
    """A task that is run: its row so far, and its pair."""

    case: Case
    problem: Problem  # for a peer

    def __init__(self, task: Task) -> None:
        self.task = task
        # without landmarks an unreadable pair does not count against a method
        self.row = replace(task.unfinished(), landmarks=False)

    def read(self) -> None:
        """Read the pair."""
        self.case, inputs = load(self.task.pair)
        points = self.case.fixed_points
        self.row = replace(self.row, inputs=inputs, landmarks=points is not None and len(points) > 0)
        spacings = self.case.fixed_spacing, self.case.moving_spacing
        start, threads = centred(self.case), self.task.threads
        self.problem = Problem.of(self.case.fixed, self.case.moving, *spacings, start=start, threads=threads)

    def finish(self, found: Found, costs: Mapping[str, float], batch: int) -> None:
        """Measure the errors of the result and draw the pictures. `batch`: the number of pairs registered together."""
        case, task = self.case, self.task
        scores = {**costs, **evaluate.scores(found.transform, case, self.problem.start), **found.scores}
        drawn, problems = (
            pictures(task, case, self.problem.start, found.transform, found.blocks) if task.outputs.pictures else ({}, [])
        )
        together = [f"Seconds: those of {batch} pairs registered together, divided by {batch}."] if batch > 1 else []
        notes = [*case.notes, *found.row_values.get("notes", []), *together, *problems]
        matrix = found.transform.matrix.tolist() if isinstance(found.transform, MatrixTransform) else None
        values = dict(found.row_values) | drawn | {"notes": notes, "matrix": matrix, "scores": scores, "batch": batch}
        self.row = replace(self.row, **values)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do something; an error is kept in the row."""
        try:
            action()
        except Exception as error:  # other programs raise any kind of error
            self.fail(error)

    def fail(self, error: Exception) -> None:
        self.row = replace(self.row, error=str(error) if isinstance(error, InputError) else in_a_line(error))


def run(tasks: Sequence[Task], soon: Sequence[Pair] = ()) -> list[Row]:
    """Run tasks of one method and seed together, and return their rows. Errors are not raised but stored in the row's `error`.

    `soon`: pairs that a thread reads meanwhile, for the next call.
    """
    torch.set_num_threads(1)  # beside other workers
    load.hold([*(task.pair for task in tasks), *soon])
    trials = [Trial(task) for task in tasks]
    for trial in trials:
        trial.attempt(trial.read)
    load.ahead(soon)
    if readable := [trial for trial in trials if not trial.row.error]:
        _attempted(readable)
    return [trial.row for trial in trials]


def _attempted(trials: Sequence[Trial]) -> None:
    """Register together; after an error that is not of one pair, each pair alone."""
    try:
        _registered(trials)
    except Exception as error:  # other programs raise any kind of error
        if len(trials) == 1:
            trials[0].fail(error)
        else:
            for trial in trials:
                _attempted([trial])


def _registered(trials: Sequence[Trial]) -> None:
    task = trials[0].task
    with names_only(not task.code):
        align, settings = _peer(trials[0]) if "peer" in task.block else _ours(trials)
        for trial in trials:
            trial.row = replace(trial.row, settings=settings)
        before = forget_peak_memory()
        began = time.perf_counter()
        results = align()
        seconds = time.perf_counter() - began
    count = sum(isinstance(one, Found) for one in results)
    costs = {"seconds": seconds / max(1, count)}
    if before is not None and len(trials) == 1 and (peak := peak_memory()) is not None:  # of a batch it is not that of a pair
        costs["memory"] = peak - before
    for trial, found in zip(trials, results, strict=True):
        if isinstance(found, Found):
            trial.attempt(functools.partial(trial.finish, found, costs, count))
        else:
            trial.fail(found)


def _peer(trial: Trial) -> tuple[Callable[[], Sequence[Found | InputError]], dict[str, Any]]:
    """The function that is timed, and its settings."""
    task, case, problem = trial.task, trial.case, trial.problem
    options = dict(task.block)
    name, after = options.pop("peer"), options.pop("after", None)
    if after is not None:
        problem = replace(problem, start=_linear(task, after))
    align = ready(problem, name, options)

    def run() -> list[Found]:
        found = align(task.seed)
        return [Found(found if isinstance(found, Transform) else of_matrix(found, case), {"device": "cpu"})]

    return run, {"peer": name, "after": after} | plain(peer_settings(name, options))


def _linear(task: Task, after: Mapping[str, Any]) -> np.ndarray:
    """The matrix, in pixels, with which `register` with the options `after` aligns a pair: the start of other methods."""
    return _aligned(task.pair, json.dumps({"seed": task.seed} | dict(after)))


@functools.lru_cache(maxsize=1)
def _aligned(pair: Pair, options: str) -> np.ndarray:
    """Likewise, of options as JSON."""
    case, _ = load(pair)
    result = register(*case.images, **json.loads(options))
    if not result.success:
        raise InputError(f"the registration before this method failed: {result.stop.value}")
    return matrix_of(in_pixels(result.transform, *case.grids)).numpy()


def _ours(trials: Sequence[Trial]) -> tuple[Callable[[], Sequence[Found | InputError]], dict[str, Any]]:
    """Likewise for `register`; results replace the settings by more precise ones."""
    task, case = trials[0].task, trials[0].case
    options: dict[str, Any] = {"seed": task.seed} | dict(task.block)
    after = options.pop("after", None)
    if after is not None:
        start = case.grids[1].world_from_index.numpy() @ _linear(task, after) @ case.grids[0].index_from_world.numpy()
        options["start"] = {"given": start.tolist(), "refine": False}
    begun = {} if after is None else {"after": after}
    watching = [_tensorboard(task, case, trials[0].problem.start)] if task.outputs.tensorboard else []
    fixed, moving = zip(*(trial.case.images for trial in trials), strict=True)

    def align() -> list[Found | InputError]:
        results = register(fixed, moving, observers=watching, errors="return", **options)
        return [
            one if isinstance(one, InputError) else _found(one, trial.case, begun)
            for one, trial in zip(results, trials, strict=True)
        ]

    given = {name: value for name, value in (DEFAULTS | options).items() if name not in ("fixed", "moving")}
    return align, checks.resolved(checks.options(given), given) | begun


def _found(result: Registration, case: Case, begun: Mapping[str, Any]) -> Found:
    row_values = {
        "stop": result.stop.value,
        "verdict": str(result.verdict.status),
        "doubts": [doubt.name for doubt in result.doubts],
        "notes": [*result.reasons, *result.notes],
        "curves": _curves(result),
        "settings": {**result.settings, **begun},
        "device": str(result.settings["device"]["name"]),
    }
    share = result.verdict.expected_error.median / float(result.moving_grid.extent.norm())
    scores = {"similarity": result.similarity, "probability": result.verdict.probability, "expected_rtre": share}
    known = {name: value for name, value in scores.items() if math.isfinite(value)}
    return Found(in_pixels(result.transform, *case.grids), row_values, known, result.blocks)


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
