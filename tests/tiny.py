"""Small experiments for the tests: pairs of a few pixels, methods that take no time, and one that ends its process."""

import contextlib
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import yaml

CRASHING = """
import os
import signal

from drmime.compare.moments import NCC


class Crash(NCC):
    def forward(self, *values):
        os.kill(os.getpid(), signal.SIGKILL)


class Slow(NCC):
    def forward(self, *values):
        import time

        time.sleep(600)


class Forking(NCC):
    def forward(self, *values):
        import time
        from pathlib import Path

        if pid := os.fork():
            Path(__file__).with_name("forked").write_text(str(pid))
        time.sleep(600)


class Holding(NCC):
    def forward(self, *values):
        import ctypes
        from pathlib import Path

        Path(__file__).with_name("holding").touch()
        ctypes.PyDLL(None).sleep(600)  # nothing else in the process can run


class Loud(NCC):
    def forward(self, *values):
        import sys

        print("not a row")
        print("not a row", file=sys.stderr)
        assert not sys.stdin.readline()
        return super().forward(*values)


class Quits(NCC):
    def forward(self, *values):
        os.write(2, b"enough")
        os._exit(3)


class Picky(NCC):
    def begin(self, levels, batch, channels, generator, like):
        if like.shape[-1] == 32:
            os.kill(os.getpid(), signal.SIGKILL)
        super().begin(levels, batch, channels, generator, like)


class Wrong(NCC):
    def forward(self, *values):
        raise ArithmeticError("wrong")


print("loaded")
"""
POINTS = "x,y\n4,5\n20,7\n11,18\n"


def pairs(folder: Path, count: int, side: int = 24) -> Path:
    """A table of `count` pairs of small images with landmarks, each the same content shifted by a pixel. -> pairs.csv"""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.indices((side + 2, side + 2))
    pixels = 128 + 50 * np.sin(x / 2.3 + y / 5) + 50 * np.cos(y / 2.9 - x / 7)
    (folder / "points.csv").write_text(POINTS)
    (folder / "shifted.csv").write_text("x,y\n3,5\n19,7\n10,18\n")
    lines = ["pair,domain,fixed,moving,fixed_landmarks,moving_landmarks"]
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 2, pixels.shape)
        image = np.clip(pixels + noise, 0, 255).astype(np.uint8)
        iio.imwrite(folder / f"{number}a.png", image[1:-1, :-2])
        iio.imwrite(folder / f"{number}b.png", image[1:-1, 1:-1])
        lines.append(f"p{number},{'even' if number % 2 == 0 else 'odd'},{number}a.png,{number}b.png,points.csv,shifted.csv")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.csv"


def config(folder: Path, table: Path, methods: dict[str, Any], **more: Any) -> Path:
    """A configuration of `methods` on a table of pairs; results go to folder/run. -> config.yaml"""
    state = {
        "dataset": {"name": "pairs", "file": str(table)},
        "methods": methods,
        "outputs": {"folder": str(folder / "run"), "pictures": 0},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(state | more, sort_keys=False))
    return path


def started(command: Sequence[str]) -> subprocess.Popen[str]:
    """A process that Ctrl-C reaches, also where these tests are a job in the background, which would ignore it."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8", preexec_fn=_hear)


def _hear() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def needs_report() -> None:
    """Skip where what makes the tables and the page of a run is not installed."""
    for package in ("jinja2", "matplotlib", "tabulate"):
        pytest.importorskip(package, reason=f"{package} is not installed: the report needs pip install 'drmime[report]'")
