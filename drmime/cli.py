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
from pathlib import Path
from typing import Any, NoReturn

from drmime.errors import InputError
from drmime.parts import NAMES, TRANSFORM_FORMATS
from drmime.registry import known
from drmime.settings import MATRIX_FILES
from drmime.version import __version__

CTRL_C, PIPE = 130, 141  # 128 plus the number of the signal, as in shells
FILES = ("fixed", "moving", "fixed_mask", "moving_mask", "transform_file", "image", "config")  # arguments that are files
UNSET = argparse.SUPPRESS  # an option that is not given is absent from the namespace, so the library's default applies


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal can print ±
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    try:
        parser.refuse(args.command, rest)
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
        kept = "finished rows are kept; the same command goes on from here" if args.command == "run" else "nothing was kept"
        print(f"drmime: interrupted, {kept}", file=sys.stderr)
        return CTRL_C
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python reports the closed pipe again at exit
        return PIPE


def _check_without_torch(args: argparse.Namespace) -> None:
    """Check names and files before torch is imported, which is slow.

    Raises:
        InputError: a file that does not exist, an unknown name.
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
        """Report arguments that the command does not know, with the nearest known option."""
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
    _add_convert(commands)
    _add_info(commands)
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
    parser.add_argument("--seed", type=int, default=UNSET, metavar="N", help="seed of every random number (0)")
    parser.add_argument("--device", type=_value, default=UNSET, help="as in 'drmime register'")
    parser.add_argument("--metric", type=_value, default=UNSET, help="as in 'drmime register' (mine)")
    parser.add_argument("--levels", type=int, default=UNSET, metavar="N", help="levels of the pyramid (4)")


def _add_register(commands: Any) -> None:
    example = """\
  drmime register fixed.png moving.png --out out/
  drmime register mr.nii.gz ct.nii.gz --out out/ --transform rigid --metric '{name: mine, hidden: 64}'
  drmime register a.tif b.tif --out out/ --start other/transform.json --set schedule.steps=250 --set device.threads=2"""
    parser = _command(commands, "register", "align the image MOVING to the image FIXED", example)
    parser.add_argument("fixed", metavar="FIXED", type=Path)
    parser.add_argument("moving", metavar="MOVING", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for transform, warped image, overlay")

    add = parser.add_argument_group("registration (defaults are those of drmime.register)").add_argument
    own = "'{name: lie, generators: [...]}'"
    add("--transform", type=_value, default=UNSET, help=f"{_names('transform')}, or {own}")
    add("--metric", type=_value, default=UNSET, help=f"{_names('metric')}, or '{{name: mine, hidden: 64}}'")
    add("--sampler", type=_value, default=UNSET, help=f"{_names('sampler')}, or '{{name: uniform, points: 2048}}'")
    add("--levels", type=int, default=UNSET, metavar="N", help="levels of the pyramid")
    start = f"{_names('start')}, a list of these, a file with a matrix (.txt) or a saved transform (.json)"
    add("--start", type=_value, default=UNSET, help=f"{start}, or '{{given: mass, propose: auto}}'")
    add("--schedule", type=_value, default=UNSET, help="'{steps: 70, rate: 0.0007, ...}'")
    add("--device", type=_value, default=UNSET, help="cpu, cuda, ... (a GPU if there is one), or '{name: cpu, threads: 2}'")
    add("--seed", type=int, default=UNSET, metavar="N", help="seed of every random number")
    add(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one value inside one of these, as in schedule.steps=250",
    )
    add("--config", type=Path, metavar="FILE", help="YAML file with options of drmime.register; flags override it")
    add("--allow-code", action="store_true", help="with --config: import parts given as 'module:attribute'")

    add = parser.add_argument_group("images").add_argument
    add("--fixed-mask", default=UNSET, metavar="FILE", help="mask of FIXED; nonzero pixels are used")
    add("--moving-mask", default=UNSET, metavar="FILE", help="mask of MOVING")
    add("--fixed-spacing", type=_lengths, default=UNSET, metavar="A,B", help="pixel lengths of FIXED, slowest axis first")
    add("--moving-spacing", type=_lengths, default=UNSET, metavar="A,B", help="pixel lengths of MOVING")
    each = "; two for FIXED and MOVING, as in =0,none"
    add("--channel-axis", type=_axes, default=UNSET, metavar="AXIS", help=f"auto, none, or the number of an axis{each}")
    add("--channel", type=_axes, default=UNSET, metavar="N", help=f"the one channel to compare, or none for all{each}")
    add("--nan", default=UNSET, help="error, or mask to leave out pixels that are not finite")

    add = parser.add_argument_group("output").add_argument
    add("--interpolation", default="linear", metavar="HOW", help="for the warped image: nearest, linear or cubic (linear)")
    add(
        "--fail-on",
        default="failed",
        metavar="VERDICT",
        help="exit status 1 from this verdict on: doubtful or failed (failed)",
    )
    add("--tensorboard", nargs="?", type=Path, const=True, metavar="DIR", help="curves and pictures (OUT/tensorboard)")


def _add_warp(commands: Any) -> None:
    example = """\
  drmime warp out/transform.json channel2.png --out channel2_warped.png
  drmime warp out/transform.json labels.png --labels --out labels_warped.png"""
    parser = _command(commands, "warp", "warp another image by a saved transform", example)
    parser.add_argument("transform_file", metavar="TRANSFORM", type=Path, help="transform.json of 'drmime register'")
    parser.add_argument("image", metavar="IMAGE", type=Path, help="image of the same shape as the moving image")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--labels", action="store_true", help="IMAGE is a label map: values are never blended")
    parser.add_argument("--interpolation", default=UNSET, metavar="HOW", help="nearest, linear or cubic (linear)")
    parser.add_argument("--fill", type=float, default=0.0, metavar="VALUE", help="value where IMAGE has no pixel (0)")
    parser.add_argument("--inverse", action="store_true", help="warp an image on the fixed grid to the moving grid")
    parser.add_argument("--channel-axis", type=_axis, default=UNSET, metavar="AXIS", help="auto, none, or a number")


def _add_convert(commands: Any) -> None:
    example = """\
  drmime convert out/transform.json itk.tfm
  drmime convert 0GenericAffine.mat elastix/TransformParameters.0.txt --fixed fixed.nii.gz"""
    parser = _command(commands, "convert", "convert a transform between the files of programs", example)
    parser.add_argument("transform_file", metavar="FROM", type=Path, help="a file with a transform")
    parser.add_argument("target", metavar="TO", type=Path, help="the file to write")
    formats = f"one of {', '.join(TRANSFORM_FORMATS)}; by default what the file's ending says"
    parser.add_argument("--from", dest="source_format", default=None, metavar="FORMAT", help=formats)
    parser.add_argument("--to", dest="target_format", default=None, metavar="FORMAT", help="likewise, of TO")
    parser.add_argument("--fixed", type=Path, metavar="IMAGE", help="the fixed image, whose grid elastix needs")


def _add_info(commands: Any) -> None:
    example = "  drmime info fixed.nii.gz moving.png\n  drmime info out/transform.json --json"
    parser = _command(commands, "info", "describe images and transforms, and what looks wrong before they are used", example)
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="images; two are also compared; or transforms")
    parser.add_argument("--json", action="store_true", help="print a JSON list with one object for each file")


def _add_run(commands: Any) -> None:
    example = """\
  drmime run configs/pairs.yaml --workers 2
  drmime run mine.yaml --out runs/mine --set methods.drmime.levels=5 --dry-run

To continue a run that was stopped, give the same command again."""
    parser = _command(commands, "run", "run the experiment of a YAML file: methods on pairs with seeds", example)
    parser.add_argument("config", metavar="CONFIG", type=Path, help="see 'drmime config --example'")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for rows, tables, report (default: as in CONFIG)")
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="KEY=VALUE", help="value of a dotted key")
    parser.add_argument("--dry-run", action="store_true", help="list what would run")
    parser.add_argument("--allow-code", action="store_true", help="import parts that CONFIG gives as 'module:attribute'")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share this machine's cores (1)")
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="a Dask scheduler whose workers run it instead")
    parser.add_argument("--retry", action="store_true", help="run again what failed before")


def _add_report(commands: Any) -> None:
    parser = _command(commands, "report", "rebuild tables and page of a run, finished or not", "  drmime report runs/pairs")
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder written by 'drmime run'")


def _add_config(commands: Any) -> None:
    example = "  drmime config --example > mine.yaml\n  drmime run mine.yaml --dry-run"
    parser = _command(commands, "config", "print an example or the schema of an experiment file", example)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--example", action="store_true", help="an example that explains every key")
    what.add_argument("--schema", action="store_true", help="the JSON Schema, for completion and checks in editors")


def _names(kind: str) -> str:
    return ", ".join(NAMES[kind])


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
    """One axis for both images, or one for each."""
    axes = [_axis(part.strip()) for part in text.split(",")]
    return axes[0] if len(axes) == 1 else axes


def _axis(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected auto, none or a whole number, got {text!r}") from error
