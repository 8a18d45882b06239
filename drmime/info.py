"""`drmime info`: what files hold, what `register` would do with images, and what looks wrong, as text or JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from drmime import checks, saved
from drmime.errors import InputError, existing_file
from drmime.geometry.grid import Grid
from drmime.image.crs import check_crs
from drmime.image.door import as_image
from drmime.image.faults import Fault, value_faults
from drmime.image.frames import GROUND, PICTURE_FRAME, frame
from drmime.image.geometry_faults import geometry_faults, pair_faults
from drmime.image.image import Image
from drmime.image.io import open_source, read_image
from drmime.image.ome_zarr import is_zarr
from drmime.image.pixels import Pixels
from drmime.image.pyramid import level_grids
from drmime.image.summary import Summary, lines, state, summary
from drmime.modes import own_defaults
from drmime.prepare import prepared
from drmime.record import SAVED
from drmime.registration import DEFAULTS
from drmime.result import Registration
from drmime.transform.base import Transform
from drmime.transform.formats.files import format_of, read_transform
from drmime.transform.linear import MatrixTransform

MATRICES = ((3, 3), (4, 4), (2, 3), (3, 4))  # shapes of a NumPy array that is a transform, too small for an image
TOPIC = 11  # characters of the column of topics
INDENT = "  "


@dataclass(frozen=True)
class Info:
    """What is known of one file: as JSON holds it, and in words by topic."""

    state: Mapping[str, Any]
    words: Mapping[str, str]
    image: tuple[Summary, Grid | None] | None = None  # of an image; the grid is that of the finest level, None if refused

    def __str__(self) -> str:
        told = [line for topic, text in self.words.items() for line in _paragraph(topic, text)]
        return "\n".join([str(self.state["file"]), *told])


@own_defaults
def describe(path: str | Path) -> Info:
    """Describe a file: an image, a saved registration, or a transform of another program.

    Returns:
        `state`, a mapping that JSON can hold, and `str`, the same in words.

    Raises:
        InputError: the file cannot be read.

    Example:
        >>> np.save("image.npy", np.tile(np.arange(64.0), (48, 1)))
        >>> describe("image.npy").state["register"]["levels"]
        [[48, 64], [24, 32]]
    """
    path = Path(path)
    if is_zarr(path):
        return _image(path, read_image(path, whole=False))
    path = existing_file(path, "an image or a file with a transform")
    named = format_of(path)
    if path.suffix.lower() == ".npy":
        pixels = read_image(path)
        return _transform(path, "matrix") if pixels.array.shape in MATRICES else _image(path, pixels)
    if saved.claims(path, SAVED):
        return _registration(path)
    return _image(path, read_image(path, whole=False)) if named is None else _transform(path, named)


def _image(path: Path, pixels: Pixels) -> Info:
    found = summary(pixels)
    faults = (*value_faults(found), *geometry_faults(found, path))
    told, words, grid = _for_register(pixels)
    levels = [] if pixels.finest is None else _levels(path)
    known = {"file": str(path), "kind": "image", **state(found), **told}
    known |= {"warnings": [vars(fault) for fault in faults], **({"file_levels": levels} if levels else {})}
    shapes = ", ".join(" x ".join(map(str, shape)) for shape in levels)
    slide = {"slide": f"levels {shapes}; what follows is that of the level that is registered"} if levels else {}
    return Info({**known, "pair": None}, {**slide, **lines(found), **words, "warnings": _listed(faults)}, (found, grid))


def _levels(path: Path) -> list[list[int]]:
    """The shapes of the levels of a slide."""
    source = open_source(path)
    return [] if source is None else [list(grid.shape) for grid in source.grids()]


def _for_register(pixels: Pixels) -> tuple[dict[str, Any], dict[str, str], Grid | None]:
    """What `register` with default options would do with an image, for JSON and in words; the grid of the finest level."""
    try:
        given = as_image(pixels, nan="mask")
    except InputError as error:
        return {"register": None, "refused": str(error)}, {"register": f"refused: {error}"}, None
    ready = prepared(given, "given")
    count, capped = checks.levels(DEFAULTS["levels"], ready.finest.grid)
    shapes = [list(grid.shape) for grid in level_grids(ready.finest.grid, count)]
    reduction = round(float((ready.finest.grid.spacing / (given.finest or given.grid).spacing).max()))
    framed, ground = _frames(ready.finest)
    told: dict[str, Any] = {
        "channels": given.data.shape[1],
        "levels": shapes,
        "reduction": reduction,
        "masked": _off(ready.clean),
        "mended": int((ready.clean.data != given.data).any(1).sum()),
        "frame": framed,
        "background": ground,
        "notes": [*ready.notes, *capped],
    }
    parts = [
        f"{told['channels']} channel{'s' if told['channels'] > 1 else ''} compared",
        "levels " + ", ".join(" x ".join(map(str, shape)) for shape in shapes),
        *([f"at 1/{reduction} of the resolution, for its size"] if reduction > 1 else []),
        f"{told['masked']} pixels masked, {told['mended']} mended",
    ]
    if framed:
        parts.append(f"a frame of {framed:.0%} of the image masked")
    if ground:
        parts.append(f"a background of {ground:.0%} masked if the other image has one or a frame")
    return {"register": told, "refused": None}, {"register": "\n".join([*parts, *told["notes"]])}, ready.finest.grid


def _off(image: Image) -> int:
    """The number of masked pixels."""
    return 0 if image.mask is None else int((image.mask == 0).sum())


def _frames(image: Image) -> tuple[float, float]:
    """The shares of an image that are a frame around a picture and the background of a specimen."""
    kinds: Tensor = frame(image.normalised())
    return float((kinds == PICTURE_FRAME).double().mean()), float((kinds == GROUND).double().mean())


def _registration(path: Path) -> Info:
    result = Registration.load(path)
    grids = {"fixed": result.fixed_grid, "moving": result.moving_grid}
    told: dict[str, Any] = {
        **{"file": str(path), "kind": "registration", "version": result.version, "success": result.success},
        **{"verdict": str(result.verdict.status), "text": str(result)},
        **{name: {"shape": list(grid.shape), "spacing": grid.spacing.flip(0).tolist()} for name, grid in grids.items()},
    }
    words = {"kind": f"registration saved by drmime {result.version}"}
    for name, grid in grids.items():
        sides, lengths = " x ".join(map(str, grid.shape)), ", ".join(f"{length:g}" for length in told[name]["spacing"])
        words[name] = f"{sides} pixels, spacing {lengths}"
    return Info(told, {**words, "result": str(result)})


def _transform(path: Path, name: str) -> Info:
    transform = read_transform(path, name)
    matrix = transform.matrix.tolist() if isinstance(transform, MatrixTransform) else None
    text = _in_words(transform)
    told = {"file": str(path), "kind": "transform", "format": name, "dimension": transform.ndim, "matrix": matrix}
    words = {"kind": f"transform of {transform.ndim} dimensions, format {name}"}
    if matrix is not None:
        words["matrix"] = "\n".join("  ".join(f"{value:12.6g}" for value in line) for line in matrix)
    return Info({**told, "description": text}, {**words, "in words": text})


def _in_words(transform: Transform) -> str:
    if not isinstance(transform, MatrixTransform):
        return f"a {type(transform).__name__}, which is more than one matrix"
    try:
        return transform.describe(None)
    except np.linalg.LinAlgError:  # perspective whose horizon crosses the origin
        return "a projective map whose horizon crosses the origin"


def _listed(faults: Sequence[Fault]) -> str:
    return "\n".join(fault.text for fault in faults) or "none"


def _paragraph(topic: str, text: str) -> list[str]:
    first, *others = text.splitlines() or [""]
    return [f"{INDENT}{topic:{TOPIC}}{first}", *(f"{INDENT}{'':{TOPIC}}{line}" for line in others)]


def pair(fixed: Summary, moving: Summary, grids: Sequence[Grid | None]) -> tuple[dict[str, Any], str]:
    """What does not fit together in two images, and the levels that both allow: for JSON, and in words.

    `grids`: of the finest levels; None of an image that `register` refuses.
    """
    levels = None
    try:
        checks.dimensions(_sides(fixed), _sides(moving))
        if fixed.grid is not None and moving.grid is not None:
            check_crs(fixed.grid, moving.grid, ("the fixed image", "the moving image"))
        faults = tuple(pair_faults(fixed, moving))
        known = [grid for grid in grids if grid is not None]
        levels = checks.levels(DEFAULTS["levels"], *known)[0] if len(known) == 2 else None
    except InputError as error:
        faults = (Fault("dimension" if fixed.ndim != moving.ndim else "crs", str(error)),)
    told = {"levels": levels, "warnings": [vars(fault) for fault in faults]}
    words = {"levels": "none" if levels is None else str(levels), "warnings": _listed(faults)}
    text = [line for topic, part in words.items() for line in _paragraph(topic, part)]
    return told, "\n".join(["both images, the first as the fixed one", *text])


def _sides(image: Summary) -> Grid:
    return Grid.regular([axis.size for axis in image.axes if axis.role == "space"])


def report(files: Sequence[str | Path], as_json: bool = False) -> tuple[str, str, int]:
    """What `drmime info` prints: text for stdout, a line for each file that cannot be read, and the exit status.

    Two images are also compared with each other: what does not fit together is told at the end, in JSON as `pair` of both.
    """
    blocks: list[str] = []
    states: list[dict[str, Any]] = []
    images, problems = list[tuple[Summary, Grid | None]](), list[str]()
    for file in files:
        try:
            info = describe(file)
        except InputError as error:
            text = " ".join(str(error).split())
            problems.append(f"error: {text}")
            states.append({"file": str(file), "kind": "error", "error": text})
            continue
        blocks.append(str(info))
        states.append(dict(info.state))
        images += [info.image] if info.image is not None and len(files) == 2 else []
    if len(images) == 2:
        (fixed, _), (moving, _) = images
        told, words = pair(fixed, moving, [grid for _, grid in images])
        blocks.append(words)
        for one in states:
            one["pair"] = told
    text = json.dumps(states, indent=1, allow_nan=False) if as_json else "\n\n".join(blocks)
    return text, "\n".join(problems), 2 if problems else 0
