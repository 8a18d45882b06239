"""The command line: arguments in, exit status out; `commands` does what is asked.

Exit status: 0 done; 1 the registration failed, and what there is has been written; 2 something given cannot be used, in one
line on stderr; 130 Ctrl-C; 141 nobody reads what is printed. Results go to stdout, the bar and problems to stderr, so that
a pipe stays quiet.
"""

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from drmime.errors import InputError
from drmime.parts import NAMES
from drmime.registry import known
from drmime.settings import MATRIX_FILES
from drmime.version import __version__

CTRL_C, PIPE = 130, 141  # 128 and the number of the signal, as shells have it
FILES = ("fixed", "moving", "fixed_mask", "moving_mask", "transform_file", "image", "config")  # arguments that name one
GIVEN = argparse.SUPPRESS  # as default: an option not given leaves no trace, and the library's default holds


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. -> exit status"""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal has a ±
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    try:
        parser.refuse(args.command, rest)
        _check_without_torch(args)
        from drmime import commands  # here, so that --help and a typing mistake need not wait for torch

        report = getattr(commands, args.command)(args)
        if report.text:
            print(report.text, flush=True)
        if report.problem:
            print(f"drmime: {report.problem}", file=sys.stderr)
        return report.status
    except InputError as error:
        print(f"drmime: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "finished rows are kept; the same command goes on from here" if args.command == "run" else "nothing was kept"
        print(f"drmime: interrupted, {kept}", file=sys.stderr)
        return CTRL_C
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more as it ends
        return PIPE


def _check_without_torch(args: argparse.Namespace) -> None:
    """Names and files that can be told to be wrong before anything slow is imported.

    Raises:
        InputError: a file that is not there, a name that is not known.
    """
    for option in FILES:
        path = getattr(args, option, None)
        if path is not None and not os.path.exists(path):
            raise InputError(f"{option.replace('_', ' ')}: expected a file, got {str(path)!r}, which does not exist")
    for kind, names in NAMES.items():
        value = getattr(args, kind, None)
        name = value.get("name") if isinstance(value, Mapping) else value
        if isinstance(name, str) and ":" not in name and not name.endswith(MATRIX_FILES):
            known(kind, name, names)


class _Parser(argparse.ArgumentParser):
    commands: Mapping[str, argparse.ArgumentParser]

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"drmime: error: {message}. See {self.prog} --help\n")

    def refuse(self, command: str, rest: Sequence[str]) -> None:
        """Say of words that a command did not take which is nearest to them."""
        for word in rest:
            if word.startswith("-"):
                known(f"option of drmime {command}", word.partition("=")[0], self.commands[command]._option_string_actions)
        if rest:
            self.commands[command].error(f"unrecognized arguments: {' '.join(rest)}")


def _parser() -> _Parser:
    parser = _Parser(
        prog="drmime",
        description="Align images that look nothing alike, by neural mutual information over Lie groups.",
        epilog="example:\n  drmime register fixed.png moving.png --out out/\n\n'drmime COMMAND --help' shows more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"drmime {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_register(commands)
    _add_warp(commands)
    _add_run(commands)
    _add_report(commands)
    _add_config(commands)
    parser.commands = commands.choices
    return parser


def _command(commands: Any, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", "align a real pair whose answer is known", "  drmime demo --out out/demo")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="folder for results (out/demo)")
    parser.add_argument("--seed", type=int, default=GIVEN, metavar="N", help="of every random number (0)")
    parser.add_argument("--device", type=_value, default=GIVEN, help="as in 'drmime register'")
    parser.add_argument("--metric", type=_value, default=GIVEN, help="as in 'drmime register' (mine)")
    parser.add_argument("--levels", type=int, default=GIVEN, metavar="N", help="of the pyramid (4)")


def _add_register(commands: Any) -> None:
    example = """\
  drmime register fixed.png moving.png --out out/
  drmime register mr.nii.gz ct.nii.gz --out out/ --transform rigid --metric '{name: mine, hidden: 64}'
  drmime register a.tif b.tif --out out/ --start other/transform.json --set schedule.steps=250 --set device.threads=2"""
    parser = _command(commands, "register", "align the image MOVING to the image FIXED", example)
    parser.add_argument("fixed", metavar="FIXED", type=Path)
    parser.add_argument("moving", metavar="MOVING", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for transform, warped image, overlay")

    add = parser.add_argument_group("what to do (by default what drmime.register does)").add_argument
    add(
        "--transform",
        type=_value,
        default=GIVEN,
        help="translation, rigid, similarity, affine, projective, or '{name: lie, generators: [...]}'",
    )
    add("--metric", type=_value, default=GIVEN, help="mine, mattes, nmi, jhmi, ncc, mse, angle, or '{name: mine, hidden: 64}'")
    add("--sampler", type=_value, default=GIVEN, help="uniform, jittered, all, edges, or '{name: uniform, points: 2048}'")
    add("--levels", type=int, default=GIVEN, metavar="N", help="of the pyramid")
    start = "auto, none, search, sift, moments, ..., a list of these, a file with a matrix (.txt) or a saved transform (.json)"
    add("--start", type=_value, default=GIVEN, help=f"{start}, or '{{given: mass, propose: auto}}'")
    add("--schedule", type=_value, default=GIVEN, help="'{steps: 70, rate: 0.0007, ...}'")
    add("--device", type=_value, default=GIVEN, help="cpu, cuda, ... (a GPU if there is one), or '{name: cpu, threads: 2}'")
    add("--seed", type=int, default=GIVEN, metavar="N", help="of every random number")
    add(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one option in one of these, as in schedule.steps=250",
    )
    add("--config", type=Path, metavar="FILE", help="YAML with options of drmime.register; flags replace what it says")
    add("--allow-code", action="store_true", help="with --config: import parts given as 'module:attribute'")

    add = parser.add_argument_group("the images").add_argument
    add("--fixed-mask", default=GIVEN, metavar="FILE", help="nonzero pixels count")
    add("--moving-mask", default=GIVEN, metavar="FILE")
    add("--fixed-spacing", type=_lengths, default=GIVEN, metavar="A,B", help="pixel lengths, slowest axis first")
    add("--moving-spacing", type=_lengths, default=GIVEN, metavar="A,B")
    each = "; two for FIXED and MOVING, as in =0,none"
    add("--channel-axis", type=_axes, default=GIVEN, metavar="AXIS", help=f"auto, none, or the number of an axis{each}")
    add("--channel", type=_axes, default=GIVEN, metavar="N", help=f"the one channel to compare, or none for all{each}")
    add("--nan", default=GIVEN, help="error, or mask to leave out pixels that are not finite")

    add = parser.add_argument_group("what to write").add_argument
    add("--interpolation", default="linear", metavar="HOW", help="of the warped image: nearest, linear or cubic (linear)")
    add("--tensorboard", nargs="?", type=Path, const=Path(), metavar="DIR", help="curves and pictures (OUT/tensorboard)")


def _add_warp(commands: Any) -> None:
    example = """\
  drmime warp out/transform.json channel2.png --out channel2_warped.png
  drmime warp out/transform.json labels.png --labels --out labels_warped.png"""
    parser = _command(commands, "warp", "carry another image along a saved transform", example)
    parser.add_argument("transform_file", metavar="TRANSFORM", type=Path, help="transform.json of 'drmime register'")
    parser.add_argument("image", metavar="IMAGE", type=Path, help="of the shape of the moving image")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--labels", action="store_true", help="IMAGE is a label map: values are never blended")
    parser.add_argument("--interpolation", default=GIVEN, metavar="HOW", help="nearest, linear or cubic (linear)")
    parser.add_argument("--fill", type=float, default=0.0, metavar="VALUE", help="where IMAGE has no pixel (0)")
    parser.add_argument("--inverse", action="store_true", help="carry an image of the fixed side to the moving one")
    parser.add_argument("--channel-axis", type=_axis, default=GIVEN, metavar="AXIS", help="auto, none, or a number")


def _add_run(commands: Any) -> None:
    example = """\
  drmime run configs/pairs.yaml --workers 2
  drmime run mine.yaml --out runs/mine --set methods.drmime.levels=5 --dry-run

A run that was stopped goes on where it was when the same command is given again."""
    parser = _command(commands, "run", "run the experiment of a YAML file: methods on pairs with seeds", example)
    parser.add_argument("config", metavar="CONFIG", type=Path, help="see 'drmime config --example'")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for rows, tables, report (that of the file)")
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="KEY=VALUE", help="dotted keys of it")
    parser.add_argument("--dry-run", action="store_true", help="list what would run")
    parser.add_argument("--allow-code", action="store_true", help="import parts that the file gives as 'module:attribute'")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share this machine's cores (1)")
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="of a Dask scheduler, whose workers run it instead")
    parser.add_argument("--retry", action="store_true", help="run again what failed before")


def _add_report(commands: Any) -> None:
    parser = _command(commands, "report", "make tables and page of a run anew, finished or not", "  drmime report runs/pairs")
    parser.add_argument("folder", metavar="DIR", type=Path, help="where 'drmime run' wrote")


def _add_config(commands: Any) -> None:
    example = "  drmime config --example > mine.yaml\n  drmime run mine.yaml --dry-run"
    parser = _command(commands, "config", "print how an experiment is written", example)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--example", action="store_true", help="a file to begin from, every key explained")
    what.add_argument("--schema", action="store_true", help="JSON Schema, for editors that complete and check")


def _value(text: str) -> Any:
    """YAML: a name, a number, a list or a mapping."""
    from drmime.settings import parse

    try:
        return parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(" ".join(str(error).split())) from error


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, _value(value)


def _lengths(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between, such as 0.5,0.5, got {text!r}") from error


def _axes(text: str) -> Any:
    """One for both images, or one for each."""
    axes = [_axis(part.strip()) for part in text.split(",")]
    return axes[0] if len(axes) == 1 else axes


def _axis(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected auto, none or a whole number, got {text!r}") from error
