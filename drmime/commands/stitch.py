"""The command that puts tiles together: `stitch`."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from drmime import settings
from drmime.commands.base import Report, check_kept, writable
from drmime.errors import InputError
from drmime.image.io import sweep
from drmime.mosaic.fuse import HOWS
from drmime.mosaic.layout import ORDERS
from drmime.mosaic.registration import stitch as aligned
from drmime.parts import INTERPOLATIONS
from drmime.registry import known

OPTIONS = ("transform", "overlap", "margin", "channel_axis", "channel", "nan")
AXES = ("x", "y", "z")


def stitch(args: Namespace) -> Report:
    """Find where tiles lie; write the mosaic, tables, transforms and a picture."""
    writable(args.out)
    known("how", args.how, HOWS)
    known("interpolation", args.interpolation, INTERPOLATIONS)
    paths = [str(path) for path in args.images]
    targets = [args.out / name for name in ("mosaic.tif", "mosaic.png", "positions.csv", "pairs.csv")]
    check_kept(targets, [*args.images, args.positions])
    options = settings.config(args.config, ("layout", *OPTIONS)) if args.config else {}
    layout = options.pop("layout", None)
    options |= {name: value for name, value in vars(args).items() if name in OPTIONS}
    found = aligned(paths, _layout(args, layout), folder=args.out / "pairs", progress=True, **options)
    sweep(args.out, below=True)
    found.save(args.out)
    text = [str(found)]
    for target in targets[:2] if not any(found.transforms) else ():
        target.unlink(missing_ok=True)  # of an earlier run
    if any(found.transforms):
        found.write(paths, targets[0], how=args.how, interpolation=args.interpolation)
        found.picture(paths, targets[1])
        text.append(f"in {args.out}: mosaic.tif, mosaic.png, positions.csv, pairs.csv, transforms/")
    text.append("pairs/ holds what was found of pairs")
    bad = [str(number) for number, transform in enumerate(found.transforms) if transform is None]
    problem = f"tiles without a place: {', '.join(bad)}" if bad else ""
    return Report("\n".join(text), problem, int(bool(bad)))


def _layout(args: Namespace, otherwise: Any) -> Any:
    """The layout of the arguments, `otherwise` if they give none. InputError if several do, or an option needs one."""
    given = [name for name in ("grid", "positions", "stage") if getattr(args, name)]
    if len(given) > 1:
        raise InputError(f"expected one of --grid, --positions and --stage, got --{' and --'.join(given)}")
    if not args.grid and (args.order is not None or ("overlap" in args and (given or otherwise is None))):
        raise InputError(f"--{'overlap' if args.order is None else 'order'}: expected --grid with it")
    if not given and otherwise is None and "margin" in args:
        raise InputError("--margin: expected --grid, --positions or --stage with it")
    if args.grid:
        if len(args.grid) != 2:
            raise InputError(f"--grid: expected two whole numbers, rows and columns, got {args.grid}")
        order = known("--order", args.order or ORDERS[0], ORDERS)
        return {"rows": args.grid[0], "columns": args.grid[1], "order": order}
    return _positions(args.positions) if args.positions else "stage" if args.stage else otherwise


def _positions(path: Path) -> np.ndarray:
    """The columns x, y and, if there is one, z of a CSV file. shape: (N, D)

    Raises:
        InputError: the file has no such columns, or something else than numbers in them.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            header = [name.strip().lower() for name in table.fieldnames or []]
            table.fieldnames = header
            axes = [axis for axis in AXES if axis in header]
            if axes not in (["x", "y"], ["x", "y", "z"]):
                raise InputError(f"{path}: expected columns x,y or x,y,z, got {','.join(header)[:80]!r}")
            return np.array([[float(row[axis]) for axis in axes] for row in table])
    except (OSError, ValueError, TypeError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: expected a CSV file with numbers in the columns x,y[,z] ({error})") from error
