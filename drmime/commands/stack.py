"""The command that aligns many images: `stack`."""

from argparse import Namespace
from pathlib import Path

from drmime.commands.align import options_given
from drmime.commands.base import Report, check_kept, output_name, writable
from drmime.image.io import sweep, write_image
from drmime.parts import INTERPOLATIONS
from drmime.registry import known, names_only
from drmime.stack.registration import register_stack
from drmime.stack.result import in_rows, write_movie
from drmime.verdict.judge import Status


def stack(args: Namespace) -> Report:
    """Align images to one of them; write transforms, aligned images, a montage and a movie."""
    writable(args.out)
    known("interpolation", args.interpolation, INTERPOLATIONS)
    paths = [str(path) for path in args.images]
    targets = [args.out / "aligned" / f"{number:04d}-{output_name(Path(path))}" for number, path in enumerate(paths)]
    pictures = [args.out / name for name in ("montage.png", "movie.gif")]
    check_kept([*targets, *pictures], args.images)
    options = options_given(args)
    graph = {"reference": args.reference, "reach": args.reach, "folder": args.out / "pairs", "progress": True}
    with names_only(args.config is not None and not args.allow_code):
        found = register_stack(paths, **graph, **options)
    sweep(args.out, below=True)
    found.save(args.out / "transforms")
    axis = options.get("channel_axis", "auto")
    warped = found.warp(paths, interpolation=args.interpolation, channel_axis=axis)
    cells, frames = [], []
    for target, result, image in zip(targets, found.registrations, warped, strict=True):
        cells.append(found.picture(image))
        if result is not None and image is not None:
            write_image(target, image, result.fixed_grid)
            frames.append(cells[-1])
        else:
            target.unlink(missing_ok=True)  # of an earlier run
    write_image(pictures[0], in_rows(cells))
    write_movie(pictures[1], frames)
    text = f"{found}\nin {args.out}: aligned/, transforms/, montage.png, movie.gif; pairs/ holds the registrations of pairs"
    bad = [
        number for number, result in enumerate(found.registrations) if result is None or result.verdict.status is Status.FAILED
    ]
    problem = f"images without a place, or whose verdict is failed: {', '.join(map(str, bad))}" if bad else ""
    return Report(text, problem, int(bool(bad)))
