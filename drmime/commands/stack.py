"""The command that aligns many images: `stack`."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from drmime.commands.align import options_given
from drmime.commands.base import Report, check_kept, output_name, writable
from drmime.errors import InputError
from drmime.image.io import sweep, write_image, write_table
from drmime.parts import INTERPOLATIONS
from drmime.registry import known, names_only
from drmime.stack.frames import frames_of
from drmime.stack.movie import MOVIES, check_movie, write_movie
from drmime.stack.registration import how_of, register_stack
from drmime.stack.result import Stack, in_rows
from drmime.verdict.judge import Status

GRAPH = ("reference", "order", "reach", "pairs", "time_axis")  # options of `register_stack` besides those of `register`


def stack(args: Namespace) -> Report:
    """Align images to one of them; write transforms, aligned images, a montage and a movie. Of one file, its frames."""
    writable(args.out)
    known("interpolation", args.interpolation, INTERPOLATIONS)
    if args.movie is not None:
        check_movie(f".{known('--movie', args.movie, [ending[1:] for ending in MOVIES])}")
    if len(args.images) == 1:
        return _series(args)
    options = options_given(args, GRAPH)
    graph = {name: options.pop(name) for name in GRAPH if name in options}
    if graph.pop("time_axis", "auto") != "auto":
        raise InputError(f"--time-axis: expected it with one file alone, got {len(args.images)}")
    paths = [str(path) for path in args.images]
    targets = [args.out / "aligned" / f"{number:04d}-{output_name(Path(path))}" for number, path in enumerate(paths)]
    pictures = [args.out / name for name in ("montage.png", f"movie.{args.movie or 'gif'}")]
    check_kept([*targets, *pictures], args.images)
    folder = None if graph.get("pairs") == "correlation" else args.out / "pairs"
    with names_only(args.config is not None and not args.allow_code):
        found = register_stack(paths, **graph, folder=folder, progress=True, **options)
    sweep(args.out, below=True)
    found.save(args.out / "transforms")
    axis = options.get("channel_axis", "auto")
    warped = found.warp(paths, interpolation=args.interpolation, fill=0, channel_axis=axis)
    cells, placed = list[np.ndarray](), list[bool]()
    for target, result, image in zip(targets, found.registrations, warped, strict=True):
        cells.append(found.picture(image))
        if result is not None and image is not None:
            write_image(target, image, result.fixed_grid)
        else:
            target.unlink(missing_ok=True)  # of an earlier run
        placed.append(result is not None)
    write_image(pictures[0], in_rows([cells[number] for number in found.order]))
    write_movie(pictures[1], [cells[number] for number in found.order if placed[number]])
    for old in {args.out / f"movie{ending}" for ending in MOVIES} - {pictures[1]}:  # of an earlier run
        old.unlink(missing_ok=True)
    kept = "" if folder is None else "; pairs/ holds the registrations of pairs"
    text = f"{found}\nin {args.out}: aligned/, transforms/, montage.png, {pictures[1].name}{kept}"
    return _report(found, text, "images")


def _series(args: Namespace) -> Report:
    """Align the frames of one file; write all of them, with all channels, to one file, and a table of their motion."""
    target = args.out / "aligned.tif"
    movie = None if args.movie is None else args.out / f"movie.{args.movie}"
    check_kept([target, args.out / "drift.csv", *([movie] if movie else [])], args.images)
    options = options_given(args, GRAPH)
    graph = {name: options.pop(name) for name in GRAPH if name in options}
    series = frames_of(str(args.images[0]), graph.pop("time_axis", "auto"), options.get("channel_axis", "auto"))
    graph["pairs"] = how_of(graph.get("pairs", "auto"), options)
    with names_only(args.config is not None and not args.allow_code):
        found = register_stack(list(series.frames), **graph, progress=True, **options)
    sweep(args.out, below=True)
    found.save(args.out / "transforms")
    axis = options.get("channel_axis", "auto")
    warped = list(found.warp(list(series.frames), interpolation=args.interpolation, fill=0, channel_axis=axis))
    whole = [
        np.zeros_like(frame.array) if image is None else image.reshape(frame.array.shape)
        for frame, image in zip(series.frames, warped, strict=True)
    ]
    grid = next(result.fixed_grid for result in found.registrations if result is not None)
    write_image(target, series.whole(whole), grid, series.names)
    write_table(args.out / "drift.csv", _drift(found))
    if movie:
        write_movie(movie, [found.picture(image) for image in warped if image is not None])
    places = sum(result is not None for result in found.registrations)
    reference = "their mean pose" if found.mean else f"frame {found.reference}"
    text = f"{places} of {len(whole)} frames aligned to {reference}, from {len(found.pairs)} pairs"
    text = "\n".join([text, *(f"frame {number}: {why}" for number, why in found.errors.items())])
    return _report(
        found, f"{text}\nin {args.out}: aligned.tif, drift.csv, {f'{movie.name}, ' if movie else ''}transforms/", "frames"
    )


def _drift(found: Stack) -> list[list[Any]]:
    """A row for each frame: by how much the centre of the reference is displaced in it, world units."""
    ndim = next(result for result in found.registrations if result is not None).fixed_grid.ndim
    rows: list[list[Any]] = [["frame", *"xyz"[:ndim], "expected_error", "verdict"]]
    for number, result in enumerate(found.registrations):
        if result is None:
            rows.append([number, *[""] * (ndim + 1), "no place"])
            continue
        centre = result.fixed_grid.centre[None].numpy()
        shift = (result.to_moving(centre) - centre)[0]
        said = result.verdict
        rows.append([number, *(f"{value:.4f}" for value in (*shift, said.expected_error.median)), said.status])
    return rows


def _report(found: Stack, text: str, what: str) -> Report:
    bad = [
        number for number, result in enumerate(found.registrations) if result is None or result.verdict.status is Status.FAILED
    ]
    problem = f"{what} without a place, or whose verdict is failed: {', '.join(map(str, bad))}" if bad else ""
    return Report(text, problem, int(bool(bad)))
