"""The commands that align images: `demo`, `register`."""

import csv
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime import settings
from drmime.commands.base import Report, ending_like, writable
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.door import load
from drmime.image.io import open_source, sweep, write_atomically, write_image, write_text
from drmime.image.pixels import each
from drmime.lab import demo as example
from drmime.observers import Progress, TensorBoard
from drmime.optimise import Observer
from drmime.parts import INTERPOLATIONS
from drmime.points.files import read_landmarks
from drmime.registration import DEFAULTS, Interrupted
from drmime.registration import register as align
from drmime.registry import known, names_only, options_of
from drmime.result import Registration
from drmime.transform.linear import MatrixTransform
from drmime.verdict.judge import Status

NAMED = ("transform", "metric", "sampler", "device")  # options that can be a name alone
FAIL_ON = {"failed": (Status.FAILED,), "doubtful": (Status.FAILED, Status.DOUBTFUL)}  # verdicts that give exit status 1
GOOD = 1.0  # pixels; a demo with a larger error has failed


def demo(args: Namespace) -> Report:
    """Align the demo's pair and compare the result with the known transform."""
    writable(args.out)
    pair = example.pair()
    options = {name: value for name, value in vars(args).items() if name in ("seed", "device", "metric", "levels")}
    logs = args.out / "tensorboard"
    try:
        registration = align(pair.fixed, pair.moving, observers=[Progress(), TensorBoard(logs)], **options)
    except Interrupted as error:
        return _interrupted(error, args.out)
    before, after = pair.error(MatrixTransform(torch.eye(3))), pair.error(registration.transform)
    registration.save(args.out / "transform.json")
    pictures = {"fixed": pair.fixed, "moving": pair.moving, "warped": registration.warp(pair.moving)}
    for name, picture in pictures.items():
        write_image(args.out / f"{name}.png", picture)
    registration.overlay(pair.fixed, pair.moving, args.out / "overlay.png")
    text = [
        f"error before: {before:.2f} pixels",
        f"error after: {after:.2f} pixels",
        str(registration),
        f"before and after: {args.out / 'overlay.png'}",
        f"curves: tensorboard --logdir {logs}",
    ]
    good = registration.success and after < GOOD
    return Report("\n".join(text), "" if good else f"the error is not below {GOOD:g} pixel", int(not good))


def register(args: Namespace) -> Report:
    """Align two files and write transform, history, warped image and overlay."""
    writable(args.out)
    known("interpolation", args.interpolation, INTERPOLATIONS)
    known("--fail-on", args.fail_on, FAIL_ON)
    options = _options(args)
    for path in args.landmark_files or []:
        read_landmarks(path)  # an error now, not after the registration
    observers: list[Observer] = [Progress()]
    if args.tensorboard is not None:
        logs = args.out / "tensorboard" if args.tensorboard is True else args.tensorboard
        writable(logs)
        observers.append(TensorBoard(logs))
    try:
        with names_only(args.config is not None and not args.allow_code):
            registration = align(args.fixed, args.moving, observers=observers, **options)
    except Interrupted as error:
        return _interrupted(error, args.out)
    sweep(args.out)
    _save(registration, args.out)
    axes = each("channel_axis", options.get("channel_axis", "auto"))
    warped = _write_warped(registration, args, axes[1])
    registration.overlay(args.fixed, args.moving, args.out / "overlay.png", axes)
    files = f"in {args.out}: transform.json, history.csv, {warped.name}, overlay.png"
    if not isinstance(registration.transform, MatrixTransform):
        registration.mesh(args.moving, args.out / "mesh.png", axes[1])
        files += ", mesh.png"
    verdict, *lines = str(registration).splitlines()
    if args.landmark_files:
        lines.append(_write_landmarks(registration, args))
        files += ", landmarks.csv"
    text = "\n".join([*lines, files, verdict])
    problem = "" if registration.success else registration.stop.value
    if registration.verdict.status in FAIL_ON[args.fail_on]:
        problem = problem or f"the verdict is {registration.verdict.status}; --fail-on {args.fail_on}"
    return Report(text, problem, int(bool(problem)))


def _interrupted(error: Interrupted, folder: Path) -> Report:
    """Save the best result so far."""
    best = error.registrations[0]
    _save(best, folder)
    return Report(str(best), f"interrupted; the best so far is in {folder / 'transform.json'}", 130)


def options_given(args: Namespace, others: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments of `register`, and `others`: those of --config, overridden by flags, overridden by --set."""
    own = ("fixed", "moving", "observers", "errors")
    names = [*others, *(name for name in options_of(align) if name not in own)]
    options = settings.config(args.config, names) if args.config else {}
    options |= {name: value for name, value in vars(args).items() if name in names}
    for key, value in args.set:  # last: changes one value in what a flag or the file gives
        part, dot, _ = key.partition(".")
        known("option", part, names)
        if dot and part in NAMED and not isinstance(options.get(part), Mapping):
            options[part] = {"name": options.get(part, DEFAULTS[part])}
        settings.put(options, key, value)
    return options


def _options(args: Namespace) -> dict[str, Any]:
    """`options_given`, with landmarks and files of starts."""
    options = options_given(args)
    if options.get("start") == "landmarks":
        if not args.landmark_files:
            raise InputError("--start landmarks: expected --landmarks FIXED MOVING, the files of corresponding points")
        fixed_points, moving_points = map(str, args.landmark_files)
        options["start"] = {"name": "landmarks", "fixed_points": fixed_points, "moving_points": moving_points}
    if args.landmark_weight is not None and not args.landmark_files:
        raise InputError("--landmark-weight: expected --landmarks FIXED MOVING, the files of corresponding points")
    soft = options.get("landmarks")
    if args.landmark_files and (args.landmark_weight is not None or isinstance(soft, Mapping)):
        weight = {} if args.landmark_weight is None else {"weight": args.landmark_weight}
        files = dict(zip(("fixed", "moving"), map(str, args.landmark_files), strict=True))
        options["landmarks"] = {**(soft if isinstance(soft, Mapping) else {}), **files, **weight}
    if "start" in options:
        options["start"] = _start(options["start"])
    return options


def _start(value: Any) -> Any:
    """`start` with the name of a matrix file replaced by the matrix."""
    if isinstance(value, Mapping) and "given" in value:
        return dict(value) | {"given": _start(value["given"])}
    if not isinstance(value, str) or not value.endswith(settings.MATRIX_FILES):
        return value
    return Registration.load(value).matrix if value.endswith(".json") else settings.matrix(Path(value))


def _save(registration: Registration, folder: Path) -> None:
    registration.save(folder / "transform.json")
    write_atomically(folder / "history.csv", lambda file: _write_history(registration, file), ".csv")


def _write_history(registration: Registration, file: Path) -> None:
    """One row for each step: the similarity of each level, finest first, and their weighted mean."""
    history = registration.history
    levels = history.shape[1]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["step", *(f"level{level}" for level in range(levels)), "total"])
        for step, (row, total) in enumerate(zip(history.tolist(), registration.totals.tolist(), strict=True)):
            writer.writerow([step, *(f"{value:.6g}" for value in (*row, total))])


def _write_landmarks(registration: Registration, args: Namespace) -> str:
    """Write the error of each landmark; returns their summary."""
    ndim = registration.fixed_grid.ndim
    points = [read_landmarks(path, ndim=ndim) for path in args.landmark_files]
    errors = registration.landmark_errors(*points)
    rows = np.hstack([*points, errors[:, None]])
    axes = "xyz"[:ndim]
    header = [*(f"{side}_{axis}" for side in ("fixed", "moving") for axis in axes), "error"]
    lines = [",".join(header), *(",".join(f"{value:.6g}" for value in row) for row in rows.tolist())]
    write_text(args.out / "landmarks.csv", "\n".join(lines) + "\n")
    diagonal = float(registration.moving_grid.extent.norm())
    shares = (f"{value:.3g} ({value / diagonal:.2%} of the diagonal)" for value in (np.median(errors), errors.max()))
    return "{} landmarks: median error {}, largest {}".format(len(errors), *shares)


def _write_warped(registration: Registration, args: Namespace, axis: int | str | None) -> Path:
    """Write the warped moving image with the geometry and in the format of the fixed image, or in TIFF if it cannot hold it."""
    small = replace(  # of slides, on the levels that were compared
        registration,
        fixed_grid=_compared(args.fixed, registration.fixed_grid),
        moving_grid=_compared(args.moving, registration.moving_grid),
    )
    moving = load(args.moving, "moving", whole=False)
    array = small.warp(moving, args.interpolation, channel_axis=axis)
    path = args.out / f"warped{ending_like(args.fixed, '.png' if _fits_png(array) else '.tif')}"
    write_image(path, array, small.fixed_grid, nodata=moving.nodata)
    return path


def _compared(path: Path, grid: Grid) -> Grid:
    """The grid of the level of a slide that was compared, which lies on `grid`; of any other image `grid` itself."""
    source = open_source(path)
    return grid if source is None else grid.level(source.reduced_grid().shape)


def _fits_png(array: np.ndarray) -> bool:
    if array.ndim == 3:
        return array.dtype == np.uint8 and array.shape[-1] in (3, 4)
    return array.ndim == 2 and array.dtype in (np.uint8, np.uint16, np.bool_)
