"""`drmime run`, `report` and `config` as a user meets them."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from drmime.cli import main
from drmime.lab import experiment

tiny.needs_report()
QUICK = {"levels": 2, "schedule": {"steps": 5}, "start": None}


def drmime(*words: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "drmime", *map(str, words)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, cwd=folder)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Two methods on three pairs, one of which is broken, with everything written."""
    folder = tmp_path_factory.mktemp("ran")
    table = tiny.pairs(folder / "data", 3, side=32)
    (folder / "data" / "2b.png").write_bytes(b"no image")
    outputs = {"folder": str(folder / "run"), "pictures": 64, "tensorboard": True}
    config = tiny.config(folder, table, {"ours": QUICK, "still": {"peer": "centre"}}, outputs=outputs)
    return folder, drmime("run", config, "--workers", 2)


def test_a_run_ends_in_tables_and_a_page(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = ran
    assert done.returncode == 1
    assert done.stderr.startswith("drmime: 2 runs failed; ")
    assert "Traceback" not in done.stdout + done.stderr
    assert "| ours " in done.stdout
    assert f"report: {folder / 'run' / 'report.html'}" in done.stdout
    assert f"tensorboard --logdir {folder / 'run' / 'tensorboard'}" in done.stdout
    for name in ("report.html", "summary.csv", "summary.md", "summary.tex", "domains.csv", "rows.csv", "experiment.json"):
        assert (folder / "run" / name).stat().st_size > 0, name
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") >= 4


def test_pictures_and_points_are_where_the_row_says(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = ran
    found = experiment.results(folder / "run")
    rows, methods, judging = found.rows, found.methods, found.report
    assert methods == ["ours", "still"]
    assert judging.reference == "ours"
    row = next(row for row in rows if row.method == "still" and row.pair == "p0")
    assert set(row.pictures) == {"fixed", "before", "after"}
    assert all((folder / "run" / name).is_file() for name in row.pictures.values())
    assert row.points["fixed"][0] == pytest.approx([4.5 / 32, 5.5 / 32], abs=1e-4)
    assert row.points["after"][0] == pytest.approx([3.5 / 32, 5.5 / 32], abs=1e-4)  # the moving landmark, a pixel to the left


def test_event_files_hold_every_curve_and_the_scores(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = ran
    events = sorted((folder / "run" / "tensorboard" / "ours").iterdir())
    assert len(events) == 2  # the broken pair has none
    for run in events:
        read = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
        tags = read.Tags()["scalars"]
        assert {"MI/level0", "MI/total", "drift/pixels", "final/rtre_median", "final/naed", "final/similarity"} <= set(tags)
        assert read.Scalars("MI/total")[0].step == 0
        assert "overlay" in read.Tags()["images"]


def test_the_same_command_again_runs_nothing(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = ran
    before = {path: path.stat().st_mtime_ns for path in (folder / "run" / "rows").rglob("*.json")}
    page = (folder / "run" / "report.html").read_bytes()
    again = drmime("run", folder / "config.yaml")
    assert (again.returncode, again.stdout) == (done.returncode, done.stdout)
    assert {path: path.stat().st_mtime_ns for path in (folder / "run" / "rows").rglob("*.json")} == before
    assert (folder / "run" / "report.html").read_bytes() == page
    assert len(before) == 6


@pytest.mark.slow
def test_tables_and_page_can_be_made_anew(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = ran
    page = (folder / "run" / "report.html").read_bytes()
    (folder / "run" / "report.html").unlink()
    again = drmime("report", folder / "run")
    assert again.stdout == done.stdout
    assert (folder / "run" / "report.html").read_bytes() == page


@pytest.mark.slow
def test_a_terminal_without_the_letters_gets_their_escapes(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = ran
    command = [sys.executable, "-m", "drmime", "report", str(folder / "run")]
    plain = subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=300, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert "±" in done.stdout
    assert plain.stdout == done.stdout.replace("±", "\\xb1")


def test_a_reader_that_leaves_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "drmime", "config", "--schema"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, encoding="utf-8", timeout=300)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_anywhere_in_a_run_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.config(tmp_path, tiny.pairs(tmp_path / "data", 1), {"still": {"peer": "centre"}})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("drmime.lab.report.write", interrupt)
    assert main(["run", str(config)]) == 130
    assert capsys.readouterr().err == "drmime: interrupted, finished rows are kept; the same command goes on from here\n"


@pytest.mark.slow
def test_a_dry_run_lists_and_writes_nothing(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, tiny.pairs(tmp_path / "data", 2), {"still": {"peer": "centre"}})
    done = drmime("run", config, "--dry-run", "--set", "seeds=[0,1]")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        *(f"still  p{pair}  seed {seed}  to do" for pair in (0, 1) for seed in (0, 1)),
        f"4 runs, results in {tmp_path / 'run'}",
    ]
    assert not (tmp_path / "run").exists()
    drmime("run", config)
    (tmp_path / "data" / "0a.png").write_bytes((tmp_path / "data" / "1b.png").read_bytes())
    done = drmime("run", config, "--dry-run")
    assert [line.split()[-1] for line in done.stdout.splitlines()[:2]] == ["do", "done"]  # an image has changed


@pytest.mark.slow
def test_out_goes_before_the_file(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, tiny.pairs(tmp_path / "data", 1), {"still": {"peer": "centre"}})
    done = drmime("run", config, "--out", tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # quiet where nobody watches
    assert (tmp_path / "elsewhere" / "summary.csv").is_file()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["run", "none.yaml"], "does not exist"),
        (["run", "{config}", "--workers", "0"], "--workers: expected a whole number of at least 1"),
        (["run", "{config}", "--set", "methods.still.peer=elastics"], "did you mean 'elastix'"),
        (["run", "{config}", "--set", "methods"], "expected KEY=VALUE"),
        (["run", "{config}", "--set", "seeds.0=3"], "seeds: expected 'name: value' pairs"),
        (["run", "{config}", "--out", "/proc/nowhere"], "cannot write to /proc/nowhere"),
        (["report", "{folder}"], "expected the folder of 'drmime run'"),
        (["config"], "one of the arguments --example --schema is required"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(tmp_path: Path, words: list[str], problem: str) -> None:
    config = tiny.config(tmp_path, tiny.pairs(tmp_path / "data", 1), {"still": {"peer": "centre"}}, seeds=[0])
    done = drmime(*(word.format(config=config, folder=tmp_path) for word in words))
    assert done.returncode == 2
    assert problem in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_config_prints_what_can_be_used() -> None:
    example, schema = drmime("config", "--example"), drmime("config", "--schema")
    assert yaml.safe_load(example.stdout)["methods"]
    assert json.loads(schema.stdout)["required"] == ["dataset", "methods"]


@pytest.mark.slow
def test_a_thousand_tiny_pairs_cost_little_beyond_their_registration(tmp_path: Path) -> None:
    """The runner adds milliseconds, of its own and of its processes, and its memory stays flat."""
    table = tiny.pairs(tmp_path / "data", 1000)
    plan = experiment.load(tiny.config(tmp_path, table, {"still": {"peer": "centre"}}, seeds=[0, 1, 2]))
    sizes: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            sizes.append(sum(map(resident, [os.getpid(), *tiny.children(os.getpid())])))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    rows = experiment.run(plan)
    each = (time.perf_counter() - began) / len(rows)
    over.set()
    watcher.join()
    settled, last = sizes[len(sizes) // 2], sizes[-3]  # the first seconds are imports, the last ends the process
    print(f"{1000 * each:.1f} ms a pair, memory {settled} to {last} MB")  # noqa: T201
    assert len(rows) == 3000
    assert last < settled + 30


def resident(pid: int) -> int:
    """MB."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") // 10**6
    except OSError:
        return 0


def test_the_page_of_a_real_run_works_in_a_browser(ran: tuple[Path, subprocess.CompletedProcess[str]], driver: Any) -> None:
    folder, _ = ran
    driver.get((folder / "run" / "report.html").as_uri())
    find = driver.find_element
    lines = driver.find_elements("css selector", "#runs tbody tr")
    assert len(lines) == 6
    next(line for line in lines if "ours" in line.text and "p0" in line.text).click()
    assert find("css selector", "dialog[open] img").get_property("naturalWidth") == 32
    before = driver.execute_script("return document.querySelector('dialog svg').children.length")
    assert before > 0
    assert driver.get_log("browser") == []
