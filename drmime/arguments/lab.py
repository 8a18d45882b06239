"""The arguments of `drmime run`, `drmime report` and `drmime config`."""

from pathlib import Path
from typing import Any

from drmime.arguments.values import command, setting


def add_run(commands: Any) -> None:
    example = """\
  drmime run configs/pairs.yaml --workers 2
  drmime run configs/pairs.yaml --batch 16
  drmime run mine.yaml --out runs/mine --set methods.drmime.levels=5 --dry-run

To continue a run that was stopped, give the same command again."""
    parser = command(commands, "run", "run the experiment of a YAML file: methods on pairs with seeds", example)
    parser.add_argument("config", metavar="CONFIG", type=Path, help="see 'drmime config --example'")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for rows, tables, report (default: as in CONFIG)")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="KEY=VALUE", help="value of a dotted key")
    parser.add_argument("--dry-run", action="store_true", help="list what would run")
    parser.add_argument("--allow-code", action="store_true", help="import parts that CONFIG gives as 'module:attribute'")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share this machine's cores (1)")
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="pairs that drmime registers together, best on a GPU (1)",
    )
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="a Dask scheduler whose workers run it instead")
    parser.add_argument("--retry", action="store_true", help="run again what failed before")


def add_report(commands: Any) -> None:
    parser = command(commands, "report", "rebuild tables and page of a run, finished or not", "  drmime report runs/pairs")
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder written by 'drmime run'")


def add_config(commands: Any) -> None:
    example = "  drmime config --example > mine.yaml\n  drmime run mine.yaml --dry-run"
    parser = command(commands, "config", "print an example or the schema of an experiment file", example)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--example", action="store_true", help="an example that explains every key")
    what.add_argument("--schema", action="store_true", help="the JSON Schema, for completion and checks in editors")
