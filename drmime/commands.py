"""One function for each command of the command line; it returns a `Report`, which `cli` prints."""

import csv
import json
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime import info as about
from drmime import settings
from drmime.errors import InputError, whole
from drmime.geometry.grid import Grid
from drmime.image.door import as_image
from drmime.image.io import sweep, write_atomically, write_image
from drmime.image.pixels import each
from drmime.lab import demo as example
from drmime.lab import experiment
from drmime.observers import Progress, TensorBoard
from drmime.optimise import Observer
from drmime.parts import INTERPOLATIONS
from drmime.registration import DEFAULTS, Interrupted
from drmime.registration import register as align
from drmime.registry import known, names_only, options_of
from drmime.result import Registration
from drmime.transform.formats.files import read_transform, write_transform
from drmime.transform.linear import MatrixTransform
from drmime.verdict.judge import Status

NAMED = ("transform", "metric", "sampler", "device")  # options that can be a name alone
FAIL_ON = {"failed": (Status.FAILED,), "doubtful": (Status.FAILED, Status.DOUBTFUL)}  # verdicts that give exit status 1
ENDINGS = {  # of the warped image, by those of the fixed image; one file each, so that it is written whole or not at all
    (".nii", ".nii.gz", ".img", ".hdr", ".dcm"): ".nii.gz",
    (".mha", ".mhd"): ".mha",
    (".nrrd", ".nhdr"): ".nrrd",
    (".tif", ".tiff"): ".tif",
    (".npy",): ".npy",
}
GOOD = 1.0  # pixels; a demo with a larger error has failed


@dataclass(frozen=True)
class Report:
    """The result of a command: `text` for stdout, `problem` for stderr, and the exit status."""

    text: str
    problem: str = ""
    status: int = 0


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
    verdict, *lines = str(registration).splitlines()
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


def warp(args: Namespace) -> Report:
    """Warp an image by a saved transform."""
    if args.out.is_dir():
        raise InputError(f"--out: expected a file, got {str(args.out)!r}, which is a folder")
    writable(args.out.parent)
    registration = Registration.load(args.transform_file)
    registration = registration.inverse() if args.inverse else registration
    if args.labels:
        if "interpolation" in args or "channel_axis" in args:
            raise InputError("--labels: labels are never blended and have no channels; leave out the other option")
        if not args.fill.is_integer():
            raise InputError(f"--fill: expected a whole number for labels, got {args.fill:g}")
        array = registration.warp_labels(args.image, int(args.fill))
    else:
        options = {name: value for name, value in vars(args).items() if name in ("interpolation", "channel_axis")}
        array = registration.warp(args.image, fill=args.fill, **options)
    write_image(args.out, array, registration.fixed_grid)
    return Report(f"wrote {args.out}")


def convert(args: Namespace) -> Report:
    """Convert a transform to another program's file."""
    writable(args.target.parent)
    if args.target.exists() and args.target.samefile(args.transform_file):
        raise InputError(f"{args.target}: expected another file than that to read, which would be lost")
    transform = read_transform(args.transform_file, args.source_format)
    fixed = None if args.fixed is None else as_image(args.fixed, role="fixed", nan="mask").grid
    write_transform(transform, args.target, args.target_format, fixed or _saved_grid(args.transform_file))
    return Report(f"wrote {args.target}")


def _saved_grid(path: Path) -> Grid | None:
    """The fixed image's grid in a saved registration; None if the file is none."""
    try:
        return Registration.load(path).fixed_grid
    except InputError:
        return None


def info(args: Namespace) -> Report:
    """Describe files: what they hold, what `register` would do with images, what looks wrong."""
    return Report(*about.report(args.files, args.json))


def run(args: Namespace) -> Report:
    """Run an experiment; its tables and page are made from the rows that exist when it ends."""
    from drmime.lab.report import write  # before anything runs: its packages are optional

    if args.out is not None:
        args.set.append(("outputs.folder", str(args.out)))
    plan = experiment.load(args.config, args.set, args.allow_code)
    workers = whole("--workers", args.workers, 1)
    folder = Path(plan.outputs.folder)
    if args.dry_run:
        tasks, state = plan.tasks(), lambda task: "done" if experiment.finished(task, args.retry) else "to do"
        lines = [f"{task.method}  {task.pair.name}  seed {task.seed}  {state(task)}" for task in tasks]
        return Report("\n".join([*lines, f"{len(tasks)} runs, results in {folder}"]))
    writable(folder)
    try:
        experiment.run(plan, workers, args.scheduler, args.retry)
        return _run_report(folder, *write(folder))
    except KeyboardInterrupt:
        kept = "interrupted, finished rows are kept; the same command goes on from here"
        return Report(_run_report(folder, *write(folder)).text, kept, 130)


def report(args: Namespace) -> Report:
    """Rebuild the tables and the page of a run."""
    from drmime.lab.report import write

    return _run_report(args.folder, *write(args.folder))


def _run_report(folder: Path, text: str, failed: int, unreadable: Sequence[str]) -> Report:
    lines = [text, f"report: {folder / 'report.html'}"]
    if (logs := folder / "tensorboard").is_dir():
        lines.append(f"curves: tensorboard --logdir {logs}")
    problems = [f"{failed} runs failed; the report says why, and --retry runs them again"] if failed else []
    if unreadable:
        problems.append(f"{len(unreadable)} rows cannot be read and are left out; the first: {unreadable[0]}")
    return Report("\n".join(lines), "; ".join(problems), int(bool(problems)))


def config(args: Namespace) -> Report:
    """Print an example or the JSON Schema of an experiment file."""
    return Report(json.dumps(experiment.schema(), indent=2) if args.schema else experiment.example())


def writable(folder: Path) -> None:
    """Check that files can be written to `folder`, which may not exist yet; nothing is left there.

    Raises:
        InputError: they cannot.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}. Choose another place.") from error


def _options(args: Namespace) -> dict[str, Any]:
    """Keyword arguments of `register`: those of --config, overridden by flags, overridden by --set."""
    names = [name for name in options_of(align) if name not in ("fixed", "moving", "observers")]
    options = settings.config(args.config, names) if args.config else {}
    options |= {name: value for name, value in vars(args).items() if name in names}
    for key, value in args.set:  # last: changes one value in what a flag or the file gives
        part, dot, _ = key.partition(".")
        known("option", part, names)
        if dot and part in NAMED and not isinstance(options.get(part), Mapping):
            options[part] = {"name": options.get(part, DEFAULTS[part])}
        settings.put(options, key, value)
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


def _write_warped(registration: Registration, args: Namespace, axis: int | str | None) -> Path:
    """Write the warped moving image with the geometry and in the format of the fixed image, or in TIFF if it cannot hold it."""
    array = registration.warp(args.moving, args.interpolation, channel_axis=axis)
    name = args.fixed.name.lower()
    known = [new for endings, new in ENDINGS.items() if name.endswith(endings)]
    path = args.out / f"warped{known[0] if known else '.png' if _fits_png(array) else '.tif'}"
    write_image(path, array, registration.fixed_grid)
    return path


def _fits_png(array: np.ndarray) -> bool:
    if array.ndim == 3:
        return array.dtype == np.uint8 and array.shape[-1] in (3, 4)
    return array.ndim == 2 and array.dtype in (np.uint8, np.uint16, np.bool_)
