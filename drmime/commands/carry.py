"""The commands for other files: `warp`, `points`, `convert`, `info`."""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from drmime import info as about
from drmime import saved
from drmime.commands.base import Report, check_kept, output_name, tiled_name, writable
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.ome_zarr import is_zarr
from drmime.record import SAVED
from drmime.result import Registration
from drmime.transform.base import Transform
from drmime.transform.formats.files import read_transform, write_transform
from drmime.transform.grids import grid_of
from drmime.warping import Warping


@dataclass(frozen=True, eq=False)
class GriddedTransform(Warping):
    """A transform of another program, and the grids of its images."""

    transform: Transform
    fixed_grid: Grid
    moving_grid: Grid

    def __post_init__(self) -> None:
        dimensions = self.transform.ndim, self.fixed_grid.ndim, self.moving_grid.ndim
        if len(set(dimensions)) > 1:
            raise InputError(f"expected a transform and images of one dimension, got {dimensions}: transform, fixed, moving")

    def inverse(self) -> "GriddedTransform":
        return GriddedTransform(self.transform.inverse(), self.moving_grid, self.fixed_grid)


def warp(args: Namespace) -> Report:
    """Warp images by a saved transform."""
    names = ("interpolation", "channel_axis", "grid", "spacing")
    options = {name: value for name, value in vars(args).items() if name in names}
    if args.labels:
        if "channel_axis" in args:
            raise InputError("--labels: labels have no channels; leave out --channel-axis")
        if args.fill is not None and not args.fill.is_integer():
            raise InputError(f"--fill: expected a whole number for labels, got {args.fill:g}")
    options |= {"labels": args.labels, "fill": int(args.fill) if args.labels and args.fill is not None else args.fill}
    options |= {"antialias": not args.no_antialias, "same_extent": args.same_extent}
    result = _opened(args, args.images[0])
    result = result.inverse() if args.inverse else result
    targets = _targets(args, args.images, tiled_name if args.tiles else output_name)
    tiled = {name: value for name, value in vars(args).items() if name in ("workers", "memory", "scheduler")}
    if tiled and not args.tiles:
        raise InputError(f"--{next(iter(tiled))}: expected --tiles with it")
    if args.tiles:
        options |= {**tiled, "progress": True}
    carry = result.warp_tiles if args.tiles else result.warp_file
    return _each(args.images, targets, lambda image, target: carry(image, target, **options))


def points(args: Namespace) -> Report:
    """Carry the points of files to the other image."""
    result = _opened(args, None)
    options = {name: getattr(args, name) for name in ("to", "format", "fixed_shape", "moving_shape")}
    targets = _targets(args, args.files, lambda file: file.name)
    return _each(args.files, targets, lambda file, target: result.warp_points(file, target, **options))


def _targets(args: Namespace, sources: Sequence[Path], name: Callable[[Path], str]) -> list[Path]:
    """The file to write for each source: --out, or files in that folder, where they keep their names.

    Raises:
        InputError: the same file twice, or a file over one that is read.
    """
    out = args.out
    folder = len(sources) > 1 or (out.is_dir() and not is_zarr(out)) or str(out).endswith(("/", "\\")) or out.suffix == ""
    targets = [out / name(source) if folder else out for source in sources]
    if folder and out.is_file():
        raise InputError(f"--out: expected a folder for {len(sources)} files, got {str(out)!r}, which is a file")
    twice = [target for at, target in enumerate(targets) if target in targets[:at]]
    if twice:
        raise InputError(f"{twice[0]}: expected inputs of different names, got two that would be written there")
    grid = getattr(args, "grid", None)
    read = [*sources, args.transform_file, *args.then, args.fixed, args.moving, None if grid is None else Path(grid)]
    check_kept(targets, read)
    writable(out if folder else out.parent)
    return targets


def _each(sources: Sequence[Path], targets: Sequence[Path], carry: Callable[[Path, Path], None]) -> Report:
    """Carry every file; one that cannot be used does not keep the others from it."""
    written, problems = [], []
    bar = tqdm(sources, file=sys.stderr, disable=len(sources) == 1 or not sys.stderr.isatty(), leave=False)
    for source, target in zip(bar, targets, strict=True):
        try:
            carry(source, target)
            written.append(f"wrote {target}")
        except InputError as error:
            if len(sources) == 1:
                raise
            text = str(error)
            problems.append(text if str(source) in text else f"{source}: {text}")
    return Report("\n".join(written), "\n".join(f"error: {problem}" for problem in problems), 2 if problems else 0)


def _opened(args: Namespace, image: Path | None) -> Warping:
    """The registration of the arguments, or another program's transform with the grids of its images."""
    result = _registration(args.transform_file)
    if result is None:
        inverse = getattr(args, "inverse", False)  # then the images are of the fixed side
        fixed, moving = args.fixed or (image if inverse else None), args.moving or (None if inverse else image)
        if fixed is None or moving is None or args.then:
            raise InputError(
                f"{args.transform_file}: expected a registration saved by drmime. With the transform of another program, give "
                "--fixed IMAGE and --moving IMAGE, and no --then."
            )
        grids = grid_of(fixed), grid_of(moving)
        return GriddedTransform(read_transform(args.transform_file, None, *grids), *grids)
    if args.fixed or args.moving:
        raise InputError(f"{args.transform_file}: knows its images; leave out --fixed and --moving")
    for path in args.then:
        result = Registration.load(path) @ result
    return result


def _registration(path: Path) -> Registration | None:
    """The registration in a file; None if it is a transform alone, of this or another program.

    Raises:
        InputError: a registration that is damaged.
    """
    return Registration.load(path) if saved.claims(path, SAVED) else None


def convert(args: Namespace) -> Report:
    """Convert a transform to another program's file."""
    writable(args.target.parent)
    check_kept([args.target], [args.transform_file, args.fixed, args.moving])
    own = args.source_format in (None, "drmime")
    result = _registration(args.transform_file) if own else None
    fixed, moving = (None, None) if result is None else (result.fixed_grid, result.moving_grid)
    fixed, moving = (grid_of(image) if image else grid for image, grid in ((args.fixed, fixed), (args.moving, moving)))
    transform = result.transform if result else read_transform(args.transform_file, args.source_format, fixed, moving)
    write_transform(transform, args.target, args.target_format, fixed, moving)
    return Report(f"wrote {args.target}")


def info(args: Namespace) -> Report:
    """Describe files: what they hold, what `register` would do with images, what looks wrong."""
    return Report(*about.report(args.files, args.json))
