"""Pairs that the runner registers together: the rows are those of pairs run alone, whatever happens to one of them."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tolerances import TOLERANCE

from drmime.errors import InputError
from drmime.lab import experiment
from drmime.lab.datasets.base import Pair
from drmime.lab.experiment import loading, rows, runner, trial, worker
from drmime.lab.experiment.rows import Row
from drmime.lab.experiment.task import Outputs, Task, batched
from drmime.lab.experiment.worker import Child

QUICK = {"levels": 1, "schedule": {"steps": 3}, "start": None, "metric": "ncc", "device": {"name": "cpu", "dtype": "float64"}}
NEAR = max(TOLERANCE.values())


def load(folder: Path, count: int, methods: dict, larger: Sequence[int] = (), **more: Any) -> experiment.Experiment:
    """An experiment on `count` pairs of 24 x 24 pixels; those named by `larger` have 32 x 32."""
    folder.mkdir(parents=True, exist_ok=True)
    table = tiny.pairs(folder / "data", count)
    tiny.pairs(folder / "other", count, side=32)
    for number in larger:
        for name in "ab":
            (folder / "other" / f"{number}{name}.png").replace(folder / "data" / f"{number}{name}.png")
    return experiment.load(tiny.config(folder, table, methods, **more), allow_code=True)


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "crashing.py").write_text(tiny.CRASHING)
    monkeypatch.syspath_prepend(tmp_path)
    return "crashing:Picky"


def alike(one: Row, other: Row) -> bool:
    """Whether two rows are the same but for costs, to rounding."""
    states = [json.loads(row.to_json()) for row in (one, other)]
    numbers = []
    for state in states:
        state["notes"] = [note for note in state["notes"] if not note.startswith("Seconds")]
        state["inputs"] = {Path(name).name: value for name, value in state["inputs"].items()}
        state.pop("batch")
        scores = {name: value for name, value in state.pop("scores").items() if name not in ("seconds", "memory")}
        numbers.append([*scores.values(), *np.ravel(state.pop("matrix") or []), *np.ravel(list(state.pop("curves").values()))])
        state["points"] = {name: np.round(places, 3).tolist() for name, places in state["points"].items()}
    return states[0] == states[1] and np.allclose(*numbers, atol=NEAR)


# ---- which tasks are run together


TASKS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["ours", "other", "peer", "after"]), st.integers(0, 1)),
    unique=True,
    max_size=30,
)
BLOCKS: dict[str, dict] = {"ours": {}, "other": {"levels": 2}, "peer": {"peer": "centre"}, "after": {"after": {}}}


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(TASKS, st.integers(1, 4))
def test_tasks_of_one_method_are_together_and_every_task_is_once(which: list[tuple[int, str, int]], size: int) -> None:
    tasks = [Task(name, BLOCKS[name], Pair(f"p{pair}", "a", "b"), seed) for pair, name, seed in sorted(which)]
    made = batched(tasks, size)
    assert sorted((task for one in made for task in one), key=tasks.index) == tasks
    for one in made:
        assert 1 <= len(one) <= size
        assert len({(task.method, task.seed) for task in one}) == 1
        assert len({task.pair for task in one}) == len(one)
        assert len(one) == 1 or not one[0].alone
    if size == 1:
        assert made == [[task] for task in tasks]


def test_methods_take_turns_on_the_same_pairs() -> None:
    names = ("ours", "peer", "other")
    tasks = [Task(name, BLOCKS[name], Pair(f"p{pair}", "a", "b"), 0) for pair in range(5) for name in names]
    made = [(one[0].method, "".join(task.pair.name for task in one)) for one in batched(tasks, 2)]
    assert made == [
        *(("ours", "p0p1"), ("peer", "p0"), ("other", "p0p1"), ("peer", "p1")),
        *(("ours", "p2p3"), ("peer", "p2"), ("other", "p2p3"), ("peer", "p3")),
        *(("ours", "p4"), ("peer", "p4"), ("other", "p4")),
    ]


def test_curves_of_each_run_need_a_run_of_its_own() -> None:
    tasks = [Task("ours", {}, Pair(f"p{pair}", "a", "b"), 0, Outputs(tensorboard=True)) for pair in range(3)]
    assert [len(one) for one in batched(tasks, 3)] == [1, 1, 1]


# ---- the rows


def test_rows_are_those_of_pairs_that_are_run_alone(tmp_path: Path) -> None:
    """Of unequal sizes, one of them broken; methods that are not batched between those that are."""
    methods = {
        "ours": QUICK,
        "still": {"peer": "centre"},
        "mine": QUICK | {"metric": "mine"},
        "then": {name: value for name, value in QUICK.items() if name != "start"} | {"after": QUICK},
    }
    found = {}
    for batch in (1, 3):
        plan = load(
            tmp_path / str(batch), 5, methods, larger=[2], outputs={"folder": str(tmp_path / f"run{batch}"), "pictures": 32}
        )
        (tmp_path / str(batch) / "data" / "3b.png").write_bytes(b"no image")
        found[batch] = experiment.run(plan, batch=batch)
    for one, other in zip(found[1], found[3], strict=True):
        assert alike(replace(one, error=one.error.replace("/1/data", "/3/data")), other), (one, other)
        assert bool(one.error) == (one.pair == "p3")
        assert one.batch == 1
        if not one.error:
            assert ("error" in other.pictures) == (other.method != "still")  # only its own
            assert all((tmp_path / "run3" / name).is_file() for name in other.pictures.values())
    for row in found[3]:
        together = row.method in ("ours", "mine") and not row.error
        assert row.batch == ({"p0": 3, "p1": 3, "p2": 3}.get(row.pair, 1) if together else 1)  # of p3 and p4 one is broken
        assert any(note.startswith("Seconds: those of 3 pairs") for note in row.notes) == (row.batch == 3)
        if not row.error:
            assert ("memory" in row.scores) == (row.batch == 1)
    for method in ("ours", "mine"):
        assert len({row.scores["seconds"] for row in found[3] if row.batch == 3 and row.method == method}) == 1


@pytest.mark.slow
def test_finished_rows_are_kept_whatever_the_batch(tmp_path: Path) -> None:
    plan = load(tmp_path, 4, {"ours": QUICK})
    experiment.run(plan, batch=3)
    before = {task.name: experiment.path(task).stat().st_mtime_ns for task in plan.tasks()}
    experiment.path(plan.tasks()[2]).unlink()
    experiment.run(plan, batch=2)
    after = {task.name: experiment.path(task).stat().st_mtime_ns for task in plan.tasks()}
    assert [before[name] == after[name] for name in before] == [True, True, False, True]


def test_an_option_that_does_not_fit_one_pair_costs_one_row(tmp_path: Path) -> None:
    plan = load(tmp_path, 3, {"ours": QUICK | {"levels": 2, "schedule": {"steps": 2, "level_weights": [1]}}}, larger=[1])
    found = experiment.run(plan, batch=3)
    assert ["level_weights" in row.error for row in found] == [False, True, False]
    assert found[1].settings["schedule"]["steps"] == 2


@pytest.mark.slow
def test_a_process_that_dies_at_one_pair_costs_one_row(tmp_path: Path, crashing: str) -> None:
    plan = load(tmp_path, 3, {"picky": QUICK | {"metric": crashing}}, larger=[1])
    found = experiment.run(plan, batch=3)
    assert ["SIGKILL" in row.error for row in found] == [False, True, False]
    assert [row.batch for row in found] == [1, 1, 1]


def test_an_error_of_one_pair_is_the_same_as_alone(tmp_path: Path, crashing: str) -> None:
    plan = load(tmp_path, 2, {"wrong": QUICK | {"metric": "crashing:Wrong"}})
    assert [row.error for row in experiment.run(plan, batch=2)] == ["ArithmeticError: wrong"] * 2


def test_a_batch_has_the_time_of_all_its_pairs_and_then_each_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = load(tmp_path, 3, {"ours": QUICK}).tasks()
    asked: list[int] = []

    def ask(process: Any, question: str, count: int) -> list[str]:
        """The first row of three in time, and none of the third task alone."""
        names = [one["pair"]["name"] for one in json.loads(question)["tasks"]]
        asked.append(count)
        if count == 3 or names == ["p2"]:
            process._popen.wait(60)  # until it is killed
        return [Row("ours", name, 0).to_json() + "\n" if name in ("p0", names[0]) and names != ["p2"] else "" for name in names]

    monkeypatch.setattr(worker._Process, "ask", ask)
    child = Child()
    try:
        began = time.monotonic()
        found = child.run(tasks, 0.5)
        assert time.monotonic() - began > 3 * 0.5
    finally:
        child.close()
    assert asked == [3, 1, 1]
    assert [row.error for row in found] == ["", "", "took more than 0.5 seconds"]


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_from_its_finished_rows(tmp_path: Path) -> None:
    tiny.needs_report()
    plan = load(tmp_path, 40, {"ours": QUICK})
    command = [sys.executable, "-m", "drmime", "run", str(tmp_path / "config.yaml"), "--batch", "4"]
    process = tiny.started(command)
    end = time.monotonic() + 120
    while not list((tmp_path / "run" / "rows").rglob("*.json")):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path: path.read_bytes() for path in (tmp_path / "run" / "rows").rglob("*.json")}
    assert 0 < len(kept) < 40
    assert all(rows.read(path) is not None for path in kept)
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    assert kept.items() <= {path: path.read_bytes() for path in (tmp_path / "run" / "rows").rglob("*.json")}.items()
    assert [row.error for row in experiment.results(tmp_path / "run").rows] == [""] * 40
    assert len(plan.tasks()) == 40


@pytest.mark.slow
def test_the_command_says_how_seconds_are_meant(tmp_path: Path) -> None:
    tiny.needs_report()
    load(tmp_path, 3, {"ours": QUICK})
    command = [sys.executable, "-m", "drmime", "run", str(tmp_path / "config.yaml"), "--batch", "3"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Seconds: of pairs registered together, up to 3, the time of all divided by their number." in done.stdout
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "the time of up to 3 pairs, divided by their number" in page
    lines = (tmp_path / "run" / "rows.csv").read_text(encoding="utf-8").splitlines()
    column = lines[0].split(",").index("batch")
    assert [line.split(",")[column] for line in lines[1:]] == ["3"] * 3
    for words in (["--batch", "0"], ["--batch", "many"]):
        wrong = subprocess.run([*command[:5], *words], capture_output=True, encoding="utf-8", timeout=300)
        assert wrong.returncode == 2
        assert "--batch" in wrong.stderr


# ---- reading ahead


def waits_for(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_pairs_are_read_once_while_they_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        loading, "_read", lambda pair: read.append((pair.name, threading.current_thread() is threading.main_thread())) or pair
    )
    one, two, three = (Pair(name, "a", "b") for name in ("one", "two", "three"))
    load = loading.Loader()
    assert load(one) is one
    load.ahead([one, two])
    waits_for(lambda: len(read) == 2)
    assert load(two) is two
    load.hold([two, three])
    assert [load(pair) for pair in (two, three, two)] == [two, three, two]
    assert load(one) is one
    assert read == [("one", True), ("two", False), ("three", True), ("one", True)]
    load.hold([])
    assert not load._held


def test_a_pair_that_cannot_be_read_ahead_is_an_error_when_it_is_used(tmp_path: Path) -> None:
    pair = Pair("p", str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    load = loading.Loader()
    load.ahead([pair])
    for _ in range(2):
        with pytest.raises(InputError, match="pair 'p'"):
            load(pair)
    for name in ("a.png", "b.png"):
        iio.imwrite(tmp_path / name, np.eye(9, dtype=np.uint8))
    load.hold([])
    assert load(pair)[0].fixed.shape == (9, 9)


class Remembers(Executor):
    """Runs each batch at once and remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[list[str], list[str]]] = []

    def submit(self, function: Any, tasks: Sequence[Task], timeout: float, soon: Sequence[Pair]) -> Future:  # type: ignore[override]
        self.given.append(([task.pair.name for task in tasks], [pair.name for pair in soon]))
        future: Future = Future()
        future.set_result([task.unfinished() for task in tasks])
        return future


@pytest.mark.parametrize(("workers", "after"), [(1, 1), (2, 2)])
def test_a_worker_reads_what_it_will_probably_run_next(tmp_path: Path, workers: int, after: int) -> None:
    plan, executor = load(tmp_path, 7, {"ours": QUICK}), Remembers()
    runner.perform(plan.tasks(), executor, lambda: workers, 60, batch=2)
    batches = [given for given, _ in executor.given]
    assert batches == [["p0", "p1"], ["p2", "p3"], ["p4", "p5"], ["p6"]]
    expected = [batches[at + after] if at + after < 4 and len(batches[at]) > 1 else [] for at in range(4)]
    assert [soon for _, soon in executor.given] == expected


def test_pairs_that_are_run_singly_are_not_read_ahead(tmp_path: Path) -> None:
    plan, executor = load(tmp_path, 3, {"ours": QUICK, "still": {"peer": "centre"}}), Remembers()
    runner.perform(plan.tasks(), executor, lambda: 1, 60)
    assert not any(soon for _, soon in executor.given)


def test_the_next_pairs_are_in_memory_after_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = load(tmp_path, 4, {"ours": QUICK}).tasks()
    fresh = loading.Loader()
    monkeypatch.setattr(trial, "load", fresh)
    trial.run(tasks[:2], [task.pair for task in tasks[2:]])
    assert {pair.name for pair in fresh._held} == {"p0", "p1", "p2", "p3"}
    monkeypatch.setattr(loading, "_read", lambda pair: pytest.fail("it is read already"))
    assert [row.error for row in trial.run(tasks[2:])] == ["", ""]
    assert {pair.name for pair in fresh._held} == {"p2", "p3"}


@pytest.mark.slow
def test_workers_of_a_cluster_run_batches(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    tiny.needs_report()
    from distributed import LocalCluster

    plan = load(tmp_path, 10, {"ours": QUICK, "still": {"peer": "centre"}})
    alone = experiment.run(plan)
    shutil_run = tmp_path / "alone"
    (tmp_path / "run").rename(shutil_run)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster:
        command = [sys.executable, "-m", "drmime", "run", str(tmp_path / "config.yaml"), "--batch", "3"]
        done = subprocess.run(
            [*command, "--scheduler", cluster.scheduler_address], capture_output=True, encoding="utf-8", timeout=300
        )
    assert done.returncode == 0, done.stderr
    found = experiment.results(tmp_path / "run").rows
    assert all(alike(*both) for both in zip(found, alone, strict=True))
    assert sorted({row.batch for row in found}) == [1, 3]
