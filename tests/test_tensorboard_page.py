"""The curves of a run where people look at them: TensorBoard's own page, in a browser."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from drmime.lab import experiment


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """TensorBoard over the logs of a small run."""
    folder = tmp_path_factory.mktemp("curves")
    outputs = {"folder": str(folder / "run"), "pictures": 0, "tensorboard": True}
    ours = {"levels": 2, "schedule": {"steps": 30}, "start": None}
    config = tiny.config(folder, tiny.pairs(folder / "data", 1, side=40), {"ours": ours}, outputs=outputs)
    assert not experiment.run(experiment.load(config), workers=4)[0].error  # one core is enough
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "tensorboard.main", "--logdir", str(folder / "run" / "tensorboard"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--load_fast=false"]
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        yield f"http://127.0.0.1:{port}"
        server.kill()


def until(condition: Any, what: str, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except OSError:
            pass  # it is not up yet
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.2)


def served(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310, this machine's own
        return answer.read().decode()


def test_the_page_shows_the_curve_of_mutual_information(address: str, driver: Any, tmp_path: Path) -> None:
    until(lambda: "ours/p0" in served(f"{address}/data/runs"), "run")
    driver.get(f"{address}/#timeseries")
    text = until(lambda: (found := driver.find_element("tag name", "body").text).count("/level0") and found, "curve")
    assert "\nMI\n" in text
    assert "ours/p0" in text


def test_the_hyperparameters_hold_settings_and_final_scores(address: str) -> None:
    runs = until(lambda: "ours/p0" in served(f"{address}/data/runs"), "run")
    assert runs
    tags = until(lambda: served(f"{address}/data/plugin/scalars/tags"), "tags")
    for tag in ("MI/level0", "MI/level1", "MI/total", "drift/pixels", "final/rtre_median"):
        assert f'"{tag}"' in tags
