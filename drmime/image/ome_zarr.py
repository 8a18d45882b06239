"""Read and write OME-Zarr: the levels of an image, each a Zarr array in a folder. Metadata of OME-NGFF 0.4 and 0.5.

Sources: ngff.openmicroscopy.org/0.4 and ngff.openmicroscopy.org/0.5, "multiscales" metadata.
"""

import json
import math
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drmime.errors import InputError, package, shown
from drmime.geometry.grid import Grid
from drmime.image.source import Source, space_of

METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")  # files in the folder of a Zarr group or array
LETTERS = {"time": "T", "channel": "C"}  # of axes, by type
BLOSC_HEADER = 16  # bytes
CHUNK = re.compile(r"(c\.)?\d+(\.\d+)*")  # names of files with chunks
SCALE_TOLERANCE = 0.1  # largest deviation of the pixel lengths that a level states from those that its shape says
UNITS = {"micrometer": ("µm", 1.0), "millimeter": ("mm", 1.0), "nanometer": ("µm", 1e-3), "meter": ("mm", 1e3)}
Placing = tuple[np.ndarray | None, np.ndarray | None]  # scale and translation along all axes; None for what is not stated
WORDS = {"µm": "micrometer", "mm": "millimeter", "m": "meter"}


def is_zarr(path: Path) -> bool:
    """Whether a folder is that of a Zarr group or array."""
    return path.is_dir() and any((path / name).is_file() for name in METADATA)


def open_zarr(path: Path) -> Source:
    """The levels of an OME-Zarr image.

    Raises:
        InputError: Zarr is not installed, or the metadata are no or wrong multiscales metadata.
    """
    zarr = package("zarr", "OME-Zarr", "slides")
    try:
        group = zarr.open_group(str(path), mode="r")
    except Exception as error:  # zarr raises many kinds of errors
        raise InputError(f"{path}: expected an OME-Zarr image, got a folder that Zarr cannot open ({error})") from error
    state = group.attrs.get("ome", group.attrs)
    if "bioformats2raw.layout" in state:
        raise InputError(f"{path}: holds several images; give one of them, such as {path / '0'}")
    try:
        image = state["multiscales"][0]
        axes = _letters(image)
        whole = _placing(image.get("coordinateTransformations", []), len(axes))
        names = [_name(level["path"]) for level in image["datasets"]]
        levels = [_placing(level.get("coordinateTransformations", []), len(axes)) for level in image["datasets"]]
        units = [axis.get("unit") if isinstance(axis, Mapping) else None for axis in image.get("axes", axes)]
        if not names:
            raise ValueError("no datasets")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the multiscales metadata of OME-Zarr, got {shown(dict(state))} ({type(error).__name__}: {error})"
        ) from error
    arrays = [_array(group, path, name, len(axes)) for name in names]
    _check_levels(path, arrays, [scale for scale, _ in levels])
    placing = _composed(levels[0], whole, len(axes))
    return Source(str(path), tuple(arrays), axes, _grid(path, axes, arrays[0].shape, *placing, units))


def _composed(level: Placing, whole: Placing, ndim: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Scale and translation of a level, followed by those of the whole image."""
    scales = [np.ones(ndim) if scale is None else scale for scale, _ in (level, whole)]
    shifts = [np.zeros(ndim) if shift is None else shift for _, shift in (level, whole)]
    stated = level[1] is not None or whole[1] is not None
    return scales[0] * scales[1], scales[1] * shifts[0] + shifts[1] if stated else None


def _name(given: Any) -> str:
    """The path of a level inside the folder; ValueError for any other."""
    parts = str(given).split("/")
    if not all(parts) or any(part in (".", "..") or "\\" in part or ":" in part for part in parts):
        raise ValueError(f"the path {given!r} of a level")
    return str(given)


def _letters(image: Mapping[str, Any]) -> str:
    """A letter for each axis of a multiscales image."""
    axes = image.get("axes", ["t", "c", "z", "y", "x"])  # of version 0.2 and before
    names = [str(axis if isinstance(axis, str) else LETTERS.get(axis.get("type", ""), axis["name"])).upper() for axis in axes]
    letters = "".join(names)
    if len(letters) != len(names) or set(letters) - set("TCZYX") or len(set(letters)) < len(letters) or letters[-2:] != "YX":
        raise ValueError(f"axes {names}")
    return letters


def _placing(transformations: Sequence[Any], ndim: int) -> Placing:
    """What coordinate transformations state; ValueError if they are not valid."""
    scale: np.ndarray | None = None
    translation: np.ndarray | None = None
    for one in transformations:
        if one["type"] not in ("scale", "translation", "identity"):
            raise ValueError(f"a transformation of type {one['type']}")
        if one["type"] == "identity":
            continue
        values = np.array(one[one["type"]], np.float64)
        if values.shape != (ndim,) or not np.isfinite(values).all():
            raise ValueError(f"{one['type']} {values.tolist()}")
        if one["type"] == "scale":
            scale = values if scale is None else scale * values
        else:
            translation = values
    if scale is not None and not (scale > 0).all():
        raise ValueError(f"scale {scale.tolist()}")
    return scale, translation


class _Level:
    """A Zarr array whose chunk files are checked before the first of them is read.

    Blosc reads beyond the end of a truncated chunk, so that values would be those of other memory.
    """

    def __init__(self, array: Any, folder: Path) -> None:
        self._array, self._folder = array, folder
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.shards or array.chunks
        blosc = any("blosc" in type(one).__name__.lower() for one in array.compressors)
        self._checked = array.shards is not None or not blosc  # shards have checksums
        self._checking = threading.Lock()

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        with self._checking:
            if not self._checked:
                for file in self._folder.rglob("*"):
                    if CHUNK.fullmatch(file.name) and file.is_file():
                        _check_blosc(file)
            self._checked = True
        return np.asarray(self._array[key])


def _check_blosc(file: Path) -> None:
    """Raise a ValueError if a file is shorter than its header says; bytes 12 to 15 hold the size (c-blosc, README_HEADER)."""
    with file.open("rb") as stream:
        head = stream.read(BLOSC_HEADER)
    if len(head) < BLOSC_HEADER or int.from_bytes(head[12:], "little") > file.stat().st_size:
        raise ValueError(f"chunk {file.name} is not whole")


def _array(group: Any, path: Path, name: str, ndim: int) -> Any:
    try:
        array = group[name]
    except Exception as error:
        raise InputError(f"{path}: its metadata state a level {name!r}, which is missing or damaged ({error})") from error
    if not (path / name).resolve().is_relative_to(path.resolve()):
        raise InputError(f"{path}: its level {name!r} is a link to another place, which is not followed")
    if getattr(array, "ndim", None) != ndim or 0 in array.shape:
        raise InputError(f"{path}: expected {ndim} axes of level {name!r}, as its metadata state, got {array!r}")
    return _Level(array, path / name)


def _check_levels(path: Path, arrays: Sequence[Any], scales: Sequence[np.ndarray | None]) -> None:
    """Check that each level has fewer pixels than the one before, and that what it states of its pixels agrees with that."""
    first = arrays[0]
    for number, (array, scale) in enumerate(zip(arrays, scales, strict=True)):
        shapes = np.array(first.shape), np.array(array.shape)
        if array.dtype != first.dtype or (shapes[1] > np.array(arrays[max(0, number - 1)].shape)).any():
            raise InputError(
                f"{path}: expected level {number} to be of {first.dtype} and coarser than the one before, got {array.dtype} of "
                f"shape {array.shape}"
            )
        if scale is None or scales[0] is None:  # as before version 0.4
            continue
        wanted, stated = shapes[0] / shapes[1], scale / scales[0]
        tolerance = SCALE_TOLERANCE + 1 / shapes[1]  # odd numbers of pixels are halved with a remainder
        if (np.abs(stated / wanted - 1) > tolerance).any():
            raise InputError(
                f"{path}: level {number} of shape {array.shape} states pixels {stated.tolist()} times as long as those of "
                f"level 0, of shape {first.shape}. Correct the scales in its metadata."
            )


def _grid(
    path: Path, axes: str, shape: Sequence[int], scale: np.ndarray, offset: np.ndarray | None, units: Sequence[str | None]
) -> Grid:
    space = list(space_of(axes, shape))
    unit, factor = UNITS.get(units[space[-1]] or "", ("", 1.0))
    if len({units[at] for at in space}) > 1:
        raise InputError(f"{path}: expected one unit of all spatial axes, got {[units[at] for at in space]}")
    grid = Grid.regular([shape[at] for at in space], (factor * scale[space]).tolist(), unit)
    if offset is None:
        return grid
    matrix = grid.world_from_index.clone()
    matrix[:-1, -1] = matrix.new_tensor((factor * offset[space])[::-1].copy())
    return Grid(grid.shape, matrix, placed=True, unit=unit)


def multiscales(grids: Sequence[Grid], axes: str) -> dict[str, Any]:
    """Multiscales metadata (0.4) of levels named 0, 1, … on axis-aligned grids; `axes` are letters of all axes.

    The finest level states a translation only if it has a place in a world: else it would be read as one.
    """
    kinds = {"T": "time", "C": "channel"}
    unit = WORDS.get(grids[0].unit)
    stated = [
        {"name": letter.lower(), "type": kinds.get(letter, "space"), **({"unit": unit} if unit and letter in "ZYX" else {})}
        for letter in axes
    ]
    levels = []
    for number, grid in enumerate(grids):
        lengths = dict(zip("XYZ", grid.spacing.tolist(), strict=False))
        places = dict(zip("XYZ", grid.world_from_index[:-1, -1].tolist(), strict=False))
        parts = [{"type": "scale", "scale": [lengths.get(letter, 1.0) for letter in axes]}]
        if number or grid.placed or any(places.values()):
            parts.append({"type": "translation", "translation": [places.get(letter, 0.0) for letter in axes]})
        levels.append({"path": str(number), "coordinateTransformations": parts})
    return {"multiscales": [{"version": "0.4", "axes": stated, "datasets": levels, "type": "mean"}]}


def aligned_with_axes(grid: Grid) -> bool:
    """Whether a grid can be stated in OME-Zarr: by lengths and an origin, without a rotation."""
    return bool(np.allclose(grid.world_from_index[:-1, :-1].numpy(), np.diag(grid.spacing.numpy()), atol=1e-9))


def create(path: Path, grids: Sequence[Grid], lengths: Sequence[int], axes: str, dtype: np.dtype, tile: int) -> None:
    """An OME-Zarr image without pixels: `axes` of `lengths` followed by those of the grids, in chunks of `tile` pixels."""
    zarr = package("zarr", "OME-Zarr", "slides")
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    for number, grid in enumerate(grids):
        chunks = (*[1] * len(lengths), *[min(tile, length) for length in grid.shape])
        group.create_array(
            str(number),
            shape=(*lengths, *grid.shape),
            chunks=chunks,
            dtype=dtype,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
    group.attrs.update(json.loads(json.dumps(multiscales(grids, axes))))


def levels_of(grid: Grid, least: int) -> list[Grid]:
    """The grid, and those of coarser levels, each half of the one before, down to `least` pixels along the longest side."""
    grids = [grid]
    while max(grids[-1].shape) > least:
        shape = tuple(math.ceil(length / 2) for length in grids[-1].shape)
        factors = [2 if length > 1 else 1 for length in grids[-1].shape]
        grids.append(grids[-1].grouped(shape, factors))
    return grids
