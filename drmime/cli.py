"""The command line: parses the arguments, calls a function of `drmime.commands`, and returns the exit status.

Exit status: 0 success; 1 a registration failed or its verdict is that of --fail-on, its results were written; 2 an argument or
input cannot be used, which one line on stderr explains; 130 Ctrl-C; 141 the reader of stdout closed the pipe. Results go to
stdout, the progress bar and problems to stderr, so that a pipe receives only results.
"""

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence

from drmime.arguments import parser
from drmime.errors import InputError
from drmime.parts import NAMES
from drmime.registry import known
from drmime.settings import MATRIX_FILES

CTRL_C, PIPE = 130, 141  # 128 plus the number of the signal, as in shells
FILES = (
    "fixed",
    "moving",
    "fixed_mask",
    "moving_mask",
    "transform_file",
    "config",
    "landmark_files",
    "affine_mask",
    "then",
    "model",
    "image",
    "positions",
)  # that are files
BATCHES = ("images", "files")  # arguments of one or more files
NOUNS = {"images": "image", "files": "file", "then": "--then", "landmark_files": "--landmarks"}  # of arguments, in messages
KEPT = {  # by command, after Ctrl-C
    "run": "finished rows are kept; the same command goes on from here",
    "stack": "registrations of pairs are kept; the same command goes on from here",
    "train": "the last checkpoint is kept; the same command goes on from there",
    "warp": "files that were written are kept",
    "points": "files that were written are kept",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal can print ±
    parsing = parser()
    args, rest = parsing.parse_known_args(argv)
    try:
        parsing.refuse(args.command, rest)
        _check_without_torch(args)
        from drmime import commands  # here, so that --help and a misspelt option do not wait for torch

        report = getattr(commands, args.command)(args)
        if report.text:
            print(report.text, flush=True)
        for problem in report.problem.splitlines():
            print(f"drmime: {problem}", file=sys.stderr)
        return report.status
    except InputError as error:
        print(f"drmime: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"drmime: interrupted, {KEPT.get(args.command, 'nothing was kept')}", file=sys.stderr)
        return CTRL_C
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python reports the closed pipe again at exit
        return PIPE


def _check_without_torch(args: argparse.Namespace) -> None:
    """Check names and files before torch is imported, which is slow.

    Raises:
        InputError: a file that does not exist, an unknown name.
    """
    for option in (*FILES, *BATCHES):
        given = getattr(args, option, None)
        paths = given if isinstance(given, list) else [given]
        for path in paths if option not in BATCHES or len(paths) == 1 else ():  # a batch goes on without a missing file
            if path is not None and not os.path.exists(path):
                raise InputError(
                    f"{NOUNS.get(option, option.replace('_', ' '))}: expected a file, got {str(path)!r}, which does not exist"
                )
    for kind, names in NAMES.items():
        value = getattr(args, kind, None)
        name = value.get("name") if isinstance(value, Mapping) else value
        if isinstance(name, str) and ":" not in name and not name.endswith(MATRIX_FILES):
            for part in name.split("+") if kind == "transform" else [name]:  # stages
                known(kind, part.strip(), names)
