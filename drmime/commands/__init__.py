"""One function for each command of the command line; it returns a `Report`, which `cli` prints."""

from drmime.commands.align import demo, register
from drmime.commands.carry import convert, info, points, warp
from drmime.commands.lab import config, report, run
from drmime.commands.learn import represent, train
from drmime.commands.stack import stack
from drmime.commands.stitch import stitch

__all__ = [
    "config",
    "convert",
    "demo",
    "info",
    "points",
    "register",
    "report",
    "represent",
    "run",
    "stack",
    "stitch",
    "train",
    "warp",
]
