"""The arguments of each command. Nothing here imports torch, so that --help and a misspelt option do not wait for it."""

import argparse

from drmime.arguments.align import add_demo, add_register, add_stack, add_stitch
from drmime.arguments.carry import add_convert, add_info, add_points, add_warp
from drmime.arguments.lab import add_config, add_report, add_run
from drmime.arguments.learn import add_represent, add_train
from drmime.arguments.values import Parser
from drmime.version import __version__


def parser() -> Parser:
    """The parser of the command line."""
    made = Parser(
        prog="drmime",
        description="Align images that look nothing alike, by neural mutual information over Lie groups.",
        epilog="example:\n  drmime register fixed.png moving.png --out out/\n\n'drmime COMMAND --help' shows more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"drmime {__version__}")
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_demo(commands)
    add_register(commands)
    add_stack(commands)
    add_stitch(commands)
    add_warp(commands)
    add_points(commands)
    add_convert(commands)
    add_info(commands)
    add_train(commands)
    add_represent(commands)
    add_run(commands)
    add_report(commands)
    add_config(commands)
    made.commands = commands.choices
    return made
