"""Rows that are never lost: runs that are stopped, processes that die, disks that are full."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import CancelledError, Executor, Future, wait
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
import yaml

from drmime.errors import InputError
from drmime.image import io
from drmime.lab import experiment
from drmime.lab.experiment import drawing, rows, runner, trial
from drmime.lab.experiment.rows import Row
from drmime.lab.experiment.worker import Child

QUICK = {"levels": 1, "schedule": {"steps": 3}, "start": None, "metric": "ncc"}
PEERS = {"still": {"peer": "centre"}, "none": {"peer": "identity"}}


def load(folder: Path, count: int, methods: dict, **more: object) -> experiment.Experiment:
    config = tiny.config(folder, tiny.pairs(folder / "data", count), methods, **more)
    return experiment.load(config, allow_code=True)


def lasting(found: list[Row]) -> list[dict]:
    """Rows without what differs from one run to the next."""
    plain = [json.loads(row.to_json()) for row in found]
    for row in plain:
        row["scores"].pop("seconds", None)
        row["scores"].pop("memory", None)
    return plain


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "crashing.py").write_text(tiny.CRASHING)
    monkeypatch.syspath_prepend(tmp_path)  # of this process, which checks the options, and so of those it starts
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))  # of a command
    return "crashing:Crash"


def test_every_run_has_its_row(tmp_path: Path) -> None:
    found = experiment.run(load(tmp_path, 3, PEERS | {"ours": QUICK}, seeds=[0, 1]), workers=2)
    assert [(row.pair, row.method, row.seed) for row in found] == [
        (f"p{pair}", method, seed) for pair in range(3) for method in ("still", "none", "ours") for seed in (0, 1)
    ]
    for row in found:
        assert not row.error
        assert row.domain in ("even", "odd")
        assert {"tre_mean", "rtre_median", "naed", "robustness", "seconds", "memory"} <= set(row.scores)
        assert row.versions["drmime"]
        assert all(len(entry["sha256"]) == 64 for entry in row.inputs.values())
        assert len(row.inputs) == 4
    still, none, ours = (next(row for row in found if row.method == name) for name in ("still", "none", "ours"))
    assert still.scores["tre_mean"] == pytest.approx(1) == none.scores["tre_mean"]  # the content is a pixel off
    assert ours.settings["schedule"]["steps"] == 3
    assert ours.settings["schedule"]["rate"] == 0.0007  # defaults are resolved
    assert ours.settings["device"]["threads"] == 1  # however many cores a peer may use
    assert ours.stop
    assert len(ours.curves["total"]) == len(ours.curves["step"]) == len(ours.curves["level0"])
    assert "similarity" in ours.scores


@pytest.mark.slow
def test_a_method_begins_after_another_registration(tmp_path: Path) -> None:
    linear = QUICK | {"transform": "translation", "start": {"given": [[1, 0, 1], [0, 1, 0], [0, 0, 1]], "refine": False}}
    methods = {
        "linear": linear,
        "peer": {"peer": "start", "after": linear},
        "ours": {"transform": "velocity", "levels": 1, "after": linear},
    }
    found = {row.method: row for row in experiment.run(load(tmp_path, 1, methods))}
    assert not any(row.error for row in found.values())
    assert found["peer"].matrix == pytest.approx(np.array(found["linear"].matrix))
    assert found["peer"].settings["after"]["transform"] == "translation"
    given = found["ours"].settings["start"]["given"]
    assert np.array(given) == pytest.approx(np.array(found["linear"].matrix))  # pixels are the world here


def test_a_row_survives_the_way_to_its_file_and_back(tmp_path: Path) -> None:
    row = Row("m", "p/q", 3, scores={"naed": float("inf"), "seconds": 0.5}, curves={"total": [1.0, float("nan")]}, notes=["ü"])
    rows.write(row, tmp_path / "deep" / "row.json")
    assert json.loads((tmp_path / "deep" / "row.json").read_text())["scores"] == {"naed": None, "seconds": 0.5}
    back = rows.read(tmp_path / "deep" / "row.json")
    assert back is not None
    assert back.scores == row.scores
    assert back.curves == {"total": [1.0, None]}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"method": "a"}', '{"method": "a", "pair": "b", "seed": "0"}'])
def test_what_is_not_a_row_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    assert rows.read(tmp_path / "row.json") is None
    (tmp_path / "row.json").write_text(text)
    with pytest.raises(InputError, match=r"row\.json: .*a row of 'drmime run'"):
        rows.read(tmp_path / "row.json")


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    plan = load(tmp_path, 2, PEERS)
    first = experiment.run(plan)
    files = {experiment.path(task): experiment.path(task).stat().st_mtime_ns for task in plan.tasks()}
    assert experiment.run(plan) == first
    more = experiment.load(tmp_path / "config.yaml", [("methods.third", {"peer": "centre"})])
    assert len(experiment.run(more)) == 6
    assert {file: file.stat().st_mtime_ns for file in files} == files


@pytest.mark.slow
def test_a_changed_image_is_run_again(tmp_path: Path) -> None:
    plan = load(tmp_path, 2, {"still": {"peer": "centre"}})
    experiment.run(plan)
    before = {task.pair.name: experiment.path(task).stat().st_mtime_ns for task in plan.tasks()}
    later = time.time() + 5
    for name in ("0a.png", "1a.png"):
        os.utime(tmp_path / "data" / name, (later, later))  # newer, but the same
    image = (tmp_path / "data" / "1b.png").read_bytes()
    (tmp_path / "data" / "0a.png").write_bytes(image)
    os.utime(tmp_path / "data" / "0a.png", (later, later))
    experiment.run(plan)
    after = {task.pair.name: experiment.path(task).stat().st_mtime_ns for task in plan.tasks()}
    assert after["p0"] != before["p0"]
    assert after["p1"] == before["p1"]


def test_an_image_that_was_replaced_by_an_older_one_of_its_size_is_run_again(tmp_path: Path) -> None:
    plan = load(tmp_path, 1, {"still": {"peer": "centre"}})
    experiment.run(plan)
    image = tmp_path / "data" / "0a.png"
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.unlink()
    image.write_bytes(content)
    os.utime(image, (0, 0))
    assert not any(map(experiment.finished, plan.tasks()))


def test_pixels_beside_a_header_are_inputs_too(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="reads MetaImage")
    pixels = np.random.default_rng(0).integers(0, 100, (40, 44)).astype(np.int16)
    for name in ("a", "b"):
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / f"{name}.mhd"))
    (tmp_path / "pairs.csv").write_text("fixed,moving\na.mhd,b.mhd\n")
    (tmp_path / "config.yaml").write_text(
        f"dataset: {{name: pairs, file: {tmp_path / 'pairs.csv'}}}\nmethods: {{still: {{peer: centre}}}}\n"
        f"outputs: {{folder: {tmp_path / 'run'}}}\n"
    )
    plan = experiment.load(tmp_path / "config.yaml")
    (row,) = experiment.run(plan)
    assert {Path(path).name for path in row.inputs} == {"a.mhd", "a.raw", "b.mhd", "b.raw"}
    assert all(map(experiment.finished, plan.tasks()))
    (tmp_path / "b.raw").write_bytes((tmp_path / "b.raw").read_bytes()[::-1])
    assert not any(map(experiment.finished, plan.tasks()))


def test_axes_that_run_another_way_are_kept(tmp_path: Path) -> None:
    """The same scene, its columns stored from right to left, as the direction says."""
    sitk = pytest.importorskip("SimpleITK", reason="reads MetaImage")
    pixels = np.random.default_rng(0).random((48, 52)).astype(np.float32)
    smooth = sum(np.roll(pixels, (i, j), (0, 1)) for i in range(4) for j in range(4))
    flipped = sitk.GetImageFromArray(np.ascontiguousarray(smooth[:, ::-1]))
    flipped.SetDirection((-1, 0, 0, 1))
    flipped.SetOrigin((51, 0))
    sitk.WriteImage(sitk.GetImageFromArray(smooth), str(tmp_path / "a.mha"))
    sitk.WriteImage(flipped, str(tmp_path / "b.mha"))
    (tmp_path / "pairs.csv").write_text("fixed,moving\na.mha,b.mha\n")
    (tmp_path / "config.yaml").write_text(
        f"dataset: {{name: pairs, file: {tmp_path / 'pairs.csv'}}}\n"
        "methods: {ours: {start: none, schedule: {steps: 5}, transform: rigid}, still: {peer: centre}}\n"
        f"outputs: {{folder: {tmp_path / 'run'}}}\n"
    )
    for row in experiment.run(experiment.load(tmp_path / "config.yaml")):
        assert not row.error
        expected = [[-1, 0, 51], [0, 1, 0], [0, 0, 1]]
        if row.method == "ours":
            assert np.allclose(row.matrix, expected, atol=0.1)


def test_values_of_the_environment_are_in_no_row_and_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, 1, {"still": {"peer": "centre"}, "ours": QUICK})
    monkeypatch.setenv("HIDDEN_PLACE", str(tmp_path / "data"))
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace(str(tmp_path / "data"), "${HIDDEN_PLACE}"))
    plan = experiment.load(config)
    (tmp_path / "data" / "0a.png").unlink()
    found = experiment.run(plan)
    assert any("${HIDDEN_PLACE}" in row.error for row in found)
    written = [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".json", ".csv", ".md", ".html")]
    assert len(written) > 2
    for path in written:
        assert str(tmp_path / "data") not in path.read_text(), path


def test_a_broken_pair_is_a_row_and_the_others_run(tmp_path: Path) -> None:
    table = tiny.pairs(tmp_path / "data", 6)
    data = tmp_path / "data"
    (data / "0a.png").write_bytes(b"not an image")
    (data / "1a.png").write_bytes((data / "1a.png").read_bytes()[:60])
    (data / "2a.png").unlink()
    text = table.read_text().splitlines()
    text[4] = text[4].replace("points.csv", "none.csv")
    text[5] = text[5].replace("points.csv", "two.csv")
    (data / "two.csv").write_text("x,y\n1,2\n3,4\n")
    table.write_text("\n".join(text))
    found = experiment.run(experiment.load(tiny.config(tmp_path, table, PEERS)))
    errors = {row.pair: row.error for row in found if row.method == "still"}
    assert not errors["p5"]
    for pair, words in {"p0": "0a.png", "p1": "1a.png", "p2": "2a.png", "p3": "none.csv", "p4": "two.csv"}.items():
        assert words in errors[pair], pair
        assert "Traceback" not in errors[pair]


@pytest.mark.slow
def test_failures_run_again_when_asked(tmp_path: Path) -> None:
    plan = load(tmp_path, 2, {"still": {"peer": "centre"}})
    image = tmp_path / "data" / "0a.png"
    kept = image.read_bytes()
    image.unlink()
    assert [bool(row.error) for row in experiment.run(plan)] == [True, False]
    image.write_bytes(kept)
    assert [bool(row.error) for row in experiment.run(plan)] == [True, False]
    assert [bool(row.error) for row in experiment.run(plan, retry=True)] == [False, False]


@pytest.mark.slow
def test_a_process_that_dies_costs_one_row(tmp_path: Path, crashing: str) -> None:
    plan = load(tmp_path, 2, {"crash": QUICK | {"metric": crashing}, "still": {"peer": "centre"}})
    found = experiment.run(plan)
    assert [bool(row.error) for row in found] == [True, False, True, False]
    assert "SIGKILL" in found[0].error
    assert found[0].landmarks
    assert found[0].versions == found[1].versions


@pytest.mark.slow
def test_a_run_that_takes_too_long_is_a_row(tmp_path: Path, crashing: str) -> None:
    plan = load(tmp_path, 1, {"slow": QUICK | {"metric": "crashing:Slow"}, "still": {"peer": "centre"}}, timeout=8)
    found = experiment.run(plan)
    assert found[0].error == "took more than 8 seconds"
    assert not found[1].error


@pytest.mark.slow
def test_a_run_that_takes_too_long_is_a_row_though_it_has_forked(tmp_path: Path, crashing: str) -> None:
    first, slow = load(tmp_path, 1, {"still": {"peer": "centre"}, "slow": QUICK | {"metric": "crashing:Forking"}}).tasks()
    child = Child()
    try:
        assert not child.run([first], 120)[0].error  # so that it has started
        began = time.monotonic()
        assert child.run([slow], 6)[0].error == "took more than 6 seconds"
    finally:
        child.close()
    assert time.monotonic() - began < 30
    assert gone(int((tmp_path / "forked").read_text()))


@pytest.mark.slow
def test_a_child_that_died_meanwhile_is_replaced(tmp_path: Path) -> None:
    task, other = load(tmp_path, 1, PEERS).tasks()
    before = {*tiny.children(os.getpid())}  # of tests that ran in this process before
    child = Child()
    try:
        assert not child.run([task], 60)[0].error
        (pid,) = {*tiny.children(os.getpid())} - before
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        assert not child.run([other], 60)[0].error
        child.stop()
        with pytest.raises(CancelledError):
            child.run([other], 60)
    finally:
        child.close()


@pytest.mark.parametrize("answer", ["", "{", "[]\n", '{"method": "still", "pair": "p1", "seed": 0}\n'])
def test_an_answer_to_something_else_is_no_row(tmp_path: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load(tmp_path, 1, PEERS).tasks()[0]
    child = Child()
    try:
        with monkeypatch.context() as patch:
            patch.setattr("drmime.lab.experiment.worker._Process.ask", lambda *_: [answer])
            assert child.run([task], 60)[0].error
        assert not child.run([task], 60)[0].error
    finally:
        child.close()


def test_what_is_printed_and_read_beside_tasks_does_no_harm(
    tmp_path: Path, crashing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "json.py").write_text("raise ImportError('of the working folder')")
    monkeypatch.chdir(tmp_path / "run")
    found = experiment.run(load(tmp_path, 2, {"loud": QUICK | {"metric": "crashing:Loud"}}))
    assert [row.error for row in found] == ["", ""]


def test_last_words_are_of_the_task_that_was_the_last(tmp_path: Path, crashing: str) -> None:
    methods = {"loud": QUICK | {"metric": "crashing:Loud"}, "quits": QUICK | {"metric": "crashing:Quits"}}
    loud, quits = experiment.run(load(tmp_path, 1, methods))
    assert not loud.error
    assert quits.error == "the process ended with status 3; it had said: enough"


def test_rows_of_what_failed_tell_what_is_known(tmp_path: Path, crashing: str) -> None:
    (row,) = experiment.run(load(tmp_path, 1, {"wrong": QUICK | {"metric": "crashing:Wrong"}}))
    assert "ArithmeticError" in row.error
    assert (row.landmarks, len(row.inputs)) == (True, 4)
    assert (row.settings["schedule"]["rate"], row.settings["schedule"]["steps"]) == (0.0007, 3)
    assert "fixed" not in row.settings


@pytest.mark.slow
def test_pictures_that_cannot_be_written_undo_no_registration(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pictures").touch()
    outputs = {"folder": str(tmp_path / "run"), "pictures": 64}
    plan = load(tmp_path, 1, {"still": {"peer": "centre"}}, outputs=outputs)
    (row,) = experiment.run(plan)
    assert not row.error
    assert row.pictures == {}
    assert "No pictures: InputError: cannot write" in row.notes[-1]
    (tmp_path / "run" / "pictures").unlink()
    assert set(experiment.run(plan)[0].pictures) == {"fixed", "before", "after"}


@pytest.mark.slow
def test_pictures_and_curves_asked_for_later_are_made(tmp_path: Path) -> None:
    load(tmp_path, 1, {"still": {"peer": "centre"}, "ours": QUICK})
    path = tmp_path / "config.yaml"
    experiment.run(experiment.load(path))
    more = experiment.load(path, [("outputs.tensorboard", True)])
    assert [experiment.finished(task) for task in more.tasks()] == [True, False]
    experiment.run(more)
    assert all(map(experiment.finished, more.tasks()))
    more = experiment.load(path, [("outputs.pictures", 32)])
    assert not any(map(experiment.finished, more.tasks()))
    (tmp_path / "data" / "0a.png").unlink()
    assert all(map(experiment.finished, more.tasks()))  # what cannot be run again is kept


def test_memory_is_left_out_where_the_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (plan,) = load(tmp_path, 1, {"still": {"peer": "centre"}}).tasks()
    assert "memory" in trial.run([plan])[0].scores
    monkeypatch.setattr(trial, "peak_memory", lambda: None)
    (row,) = trial.run([plan])
    assert not row.error
    assert "seconds" in row.scores
    assert "memory" not in row.scores


def test_one_missing_input_undoes_no_result(tmp_path: Path) -> None:
    plan = load(tmp_path, 1, {"still": {"peer": "centre"}})
    first = experiment.run(plan)
    (tmp_path / "data" / "shifted.csv").unlink()
    assert experiment.run(plan) == first


@pytest.mark.slow
def test_half_a_row_is_run_again_and_left_out_meanwhile(tmp_path: Path) -> None:
    plan = load(tmp_path, 2, {"still": {"peer": "centre"}})
    experiment.run(plan)
    experiment.path(plan.tasks()[0]).write_text('{"method"')
    assert [row.pair for row in experiment.results(tmp_path / "run").rows] == ["p1"]
    assert [row.error for row in experiment.run(plan)] == ["", ""]


def test_a_folder_says_what_was_run(tmp_path: Path) -> None:
    experiment.run(load(tmp_path, 1, {"still": {"peer": "centre"}}, seeds=[3]))
    text = json.loads((tmp_path / "run" / "experiment.json").read_text())["configuration"]
    dataset = {"name": "pairs", "file": str(tmp_path / "data" / "pairs.csv")}
    assert yaml.safe_load(text) == {"dataset": dataset, "methods": {"still": {"peer": "centre"}}, "seeds": [3]}


class Gone(Executor):
    """A cluster that loses its scheduler: what it was given is cancelled, or it takes no more."""

    def __init__(self, first: object) -> None:
        self.first = first

    def submit(self, *_: object, **__: object) -> Future:  # type: ignore[override]
        future: Future = Future()
        if self.first == "cancels":
            future.cancel()
            future.set_running_or_notify_cancel()
        elif isinstance(self.first, BaseException):
            future.set_exception(self.first)
        else:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return future


@pytest.mark.parametrize("way", ["cancels", "closed", CancelledError("lost")])
def test_a_lost_scheduler_is_told_and_is_no_row(tmp_path: Path, way: object) -> None:
    plan = load(tmp_path, 1, PEERS)
    with pytest.raises(InputError, match="the scheduler is gone; the same command goes on from here"):
        runner.perform(plan.tasks(), Gone(way), lambda: 1, 60)
    assert not any(experiment.path(task).exists() for task in plan.tasks())


def test_a_lost_worker_is_a_row(tmp_path: Path) -> None:
    plan = load(tmp_path, 1, {"still": {"peer": "centre"}})
    runner.perform(plan.tasks(), Gone(OSError("lost")), lambda: 1, 60)
    row = rows.read(experiment.path(plan.tasks()[0]))
    assert row is not None
    assert row.error == "OSError: lost"


class Growing(Executor):
    """A cluster that has no worker for a moment, then one, and then two more join; one task at a time is done."""

    def __init__(self) -> None:
        self.counts = [0, 1, 3, 3]
        self.pending: list[Future] = []
        self.most: list[int] = []  # pending each time that tasks have been given

    def workers(self) -> int:
        return self.counts.pop(0) if self.counts else 1

    def submit(self, *_: object, **__: object) -> Future:  # type: ignore[override]
        self.pending.append(Future())
        return self.pending[-1]

    def wait(self, running: Iterable[Future], return_when: str) -> object:
        self.most.append(len(self.pending))
        self.pending.pop(0).set_exception(OSError("lost"))
        return wait(running, return_when=return_when)


def test_workers_that_join_later_get_their_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, growing = load(tmp_path, 12, {"still": {"peer": "centre"}}), Growing()
    monkeypatch.setattr(runner, "wait", growing.wait)
    runner.perform(plan.tasks(), growing, growing.workers, 60)
    assert growing.most == [2, 2, 6, 6, 5, 4, 3, 2, 2, 2, 2, 1]
    assert all(experiment.path(task).exists() for task in plan.tasks())


def test_workers_are_not_counted_when_all_is_done(tmp_path: Path) -> None:
    def gone() -> int:
        raise InputError("gone")

    runner.perform([], Gone("closed"), gone, 60)


@pytest.mark.slow
def test_a_full_disk_is_one_clear_error_and_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = load(tmp_path, 4, {"still": {"peer": "centre"}})
    real, left = io.write_atomically, [3]  # the index and two rows

    def full(path: Path, write: object, suffix: str = "") -> None:
        left[0] -= 1
        if left[0] < 0:
            raise InputError(f"cannot write {path}: No space left on device. Choose another place.")
        real(path, write, suffix)

    with monkeypatch.context() as patch:
        patch.setattr(io, "write_atomically", full)
        with pytest.raises(InputError, match="No space left"):
            experiment.run(plan)
    assert sum(experiment.path(task).exists() for task in plan.tasks()) == 2
    assert len(experiment.run(plan)) == 4


def start(config: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "drmime", "run", str(config), "--allow-code", *more]
    return tiny.started(command)


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            if (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] == "Z"
                and len(os.listdir(f"/proc/{pid}/task")) == 1
            ):
                return True  # not while a thread of it still dies
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_killed_at_any_moment_a_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    """Twenty times the runner is killed, at moments spread over all that it does."""
    methods = {"still": {"peer": "centre"}, "none": {"peer": "identity"}, "ours": QUICK}
    table = tiny.pairs(tmp_path / "data", 150)
    (tmp_path / "whole").mkdir()
    whole = experiment.run(experiment.load(tiny.config(tmp_path / "whole", table, methods)))
    config = tiny.config(tmp_path, table, methods)
    tasks = experiment.load(config).tasks()
    kept: dict[Path, bytes] = {}
    for number in range(20):
        process = start(config)
        if number % 4:  # else while it begins
            more = len(kept) + 1
            wait_for(
                lambda more=more, run=process: sum(experiment.path(t).exists() for t in tasks) >= more or run.poll() is not None
            )
        time.sleep((0.05 if number % 4 else 0.23) * (number % 7))
        assert process.poll() is None  # at work when it is killed
        alive = tiny.children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert all(gone(pid) for pid in alive)
        files = {path: path.read_bytes() for task in tasks if (path := experiment.path(task)).exists()}
        assert kept.items() <= files.items()  # nothing finished is lost or written again
        for path in files:
            assert rows.read(path) is not None
        kept = files
    assert kept
    assert lasting(experiment.run(experiment.load(config))) == lasting(whole)
    assert len(list((tmp_path / "run" / "rows").rglob("*.json"))) == len(tasks)


def test_ctrl_c_leaves_tables_of_what_is_there(tmp_path: Path, crashing: str) -> None:
    tiny.needs_report()
    config = tiny.config(
        tmp_path, tiny.pairs(tmp_path / "data", 1), {"still": {"peer": "centre"}, "slow": QUICK | {"metric": "crashing:Slow"}}
    )
    process = start(config)
    wait_for(lambda: list((tmp_path / "run" / "rows" / "still").glob("*.json")))
    alive = tiny.children(process.pid)
    process.send_signal(signal.SIGINT)
    out, problem = process.communicate(timeout=60)
    assert process.returncode == 130, problem
    assert "interrupted, finished rows are kept; the same command goes on from here" in problem
    assert "Traceback" not in problem
    assert "still" in out
    assert (tmp_path / "run" / "report.html").is_file()
    assert all(gone(pid) for pid in alive)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end a process with its owner")
def test_a_child_that_holds_the_interpreter_ends_with_its_owner(tmp_path: Path, crashing: str) -> None:
    tiny.needs_report()
    config = tiny.config(tmp_path, tiny.pairs(tmp_path / "data", 1), {"holding": QUICK | {"metric": "crashing:Holding"}})
    process = start(config)
    wait_for((tmp_path / "holding").is_file)
    alive = tiny.children(process.pid)
    process.kill()
    process.communicate()
    assert alive
    assert all(map(gone, alive))


def wait_for(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_lost_worker_of_a_cluster_loses_no_row(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    from distributed import LocalCluster

    config = tiny.config(tmp_path, tiny.pairs(tmp_path / "data", 40), {"still": {"peer": "centre"}, "ours": QUICK})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster:
        process = start(config, "--scheduler", cluster.scheduler_address)
        wait_for(lambda: len(list((tmp_path / "run" / "rows").rglob("*.json"))) > 5)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        _, problem = process.communicate(timeout=300)
    assert process.returncode == 0, problem
    found = experiment.run(experiment.load(config))
    assert len(found) == 80
    assert not any(row.error for row in found)


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_run_and_the_same_command_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    config = tiny.config(tmp_path, tiny.pairs(tmp_path / "data", 40), {"still": {"peer": "centre"}})
    code = "from distributed.cli.{0} import main; main()"
    place = tmp_path / "scheduler.json"
    words = ["--scheduler-file", str(place), "--no-dashboard"]
    scheduler = subprocess.Popen([sys.executable, "-c", code.format("dask_scheduler"), *words, "--port", "0"])
    worker = subprocess.Popen([sys.executable, "-c", code.format("dask_worker"), *words, "--no-nanny", "--nthreads", "1"])
    try:
        wait_for(place.is_file)
        address = json.loads(place.read_text())["address"]
        time.sleep(5)  # for the worker
        process = start(config, "--scheduler", address)
        wait_for(lambda: list((tmp_path / "run" / "rows").rglob("*.json")))
        scheduler.kill()
        _, problem = process.communicate(timeout=300)
    finally:
        scheduler.kill()
        worker.kill()
        scheduler.wait()
        worker.wait()
    assert process.returncode == 2, problem
    assert "the scheduler is gone; the same command goes on from here" in problem
    found = experiment.run(experiment.load(config))
    assert [row.error for row in found] == [""] * 40


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:1"])
def test_a_scheduler_that_is_not_there(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    monkeypatch.setattr("drmime.cluster.CONNECT", 1)
    with pytest.raises(InputError, match="scheduler"):
        experiment.run(load(tmp_path, 1, PEERS), scheduler=address)


def test_rows_hold_where_images_have_moved(tmp_path: Path) -> None:
    experiment.run(load(tmp_path, 2, {"still": {"peer": "centre"}}))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "rows").rglob("*.json")}
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = experiment.load(tmp_path / "config.yaml", [("dataset.file", str(tmp_path / "moved" / "pairs.csv"))])
    assert len(experiment.run(moved)) == 2
    assert {path: path.stat().st_mtime_ns for path in files} == files


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end a process with its owner")
def test_a_child_ends_with_its_owner_before_it_has_imported_anything(tmp_path: Path) -> None:
    """Its owner is gone when it begins: a number that is not its parent's."""
    from drmime.lab.experiment.worker import START

    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", START, "1"], stdin=subprocess.PIPE, capture_output=True, timeout=60)
    assert ended.returncode == 0
    assert ended.stdout == b""
    assert time.monotonic() - began < 60
    loaded = f"import sys; sys.argv = ['', {str(os.getppid())!r}]; import drmime.owner; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, encoding="utf-8").stdout.strip() == "False"


def test_only_whole_texts_of_the_environment_are_hidden_and_only_where_they_are_said(tmp_path: Path) -> None:
    row = Row(
        "affine", "seed/affine", 0, error="in /srv/data/token", settings={"transform": "affine", "schedule": {"steps": "seed"}}
    )
    hidden = {"affine": "${GROUP}", "seed": "${SEED}", "/srv": "${ROOT}", "/srv/data/token": "${TOKEN}", "abc": "${SHORT}"}
    rows.write(row, tmp_path / "row.json", hidden)
    back = rows.read(tmp_path / "row.json")
    assert back is not None
    assert (back.method, back.pair, back.error) == ("affine", "seed/affine", "in ${TOKEN}")
    assert back.settings == {"transform": "${GROUP}", "schedule": {"steps": "${SEED}"}}


def test_a_title_shows_no_value_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDDEN_WORD", "confidential")
    load(tmp_path, 1, {"still": {"peer": "centre"}})
    plan = experiment.load(tmp_path / "config.yaml", [("report.title", "${HIDDEN_WORD} pairs")])
    experiment.run(plan)
    assert experiment.results(tmp_path / "run").report.title == "${HIDDEN_WORD} pairs"


def test_a_matrix_of_a_peer_means_the_same_in_any_scale_and_sign() -> None:
    case = SimpleNamespace(fixed=np.zeros((30, 40)), ndim=2)
    for factor in (1.0, -1.0, 1e-8):
        found = drawing.of_matrix(factor * np.eye(3), case)
        assert found(torch.tensor([[5.0, 6.0]]).double()).tolist() == [[5, 6]]
