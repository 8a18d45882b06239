"""`Draft`: a result that is being written, an OME-Zarr folder beside its place; a later run goes on from what is done."""

import contextlib
import functools
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from drmime.errors import InputError, package
from drmime.image import ome_zarr
from drmime.image.geotiff import geo_tags
from drmime.image.io import sweep, write_atomically, write_text
from drmime.image.source import block_means
from drmime.image.writers import OME_KINDS, has_lengths, ome_lengths
from drmime.tiled.job import Job
from drmime.transform.places import boxes

ENDINGS = (".zarr", ".tif", ".tiff")  # of results
JOB = "job.json"  # files in a draft: the job, and a folder with an empty file for each finished tile
DONE = "done"


def folder_of(path: Path) -> Path:
    """The folder of the draft of a result."""
    return path.with_name(f"{path.name}.part")


class Draft:
    """The tiles of a result that are done."""

    def __init__(self, path: Path, job: Job) -> None:
        self.path, self.job = path, job
        self.folder = folder_of(path)
        self._arrays: list[Any] = []

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """Inside, the folder is there, kept from an earlier run of the same job or new, and no other process uses it.

        Raises:
            InputError: it cannot be written, the format cannot hold the result, or another run writes it.
        """
        _check(self.path, self.job)
        text = json.dumps(self.job.state(), indent=1) + "\n"
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder.with_name(f"{self.folder.name}.lock")):
                sweep(self.folder.parent)
                if not self._is_of(text):
                    self._create(text)
                yield
        except OSError as error:
            raise InputError(f"cannot write {self.folder}: {error.strerror}. Choose another place.") from error

    def _is_of(self, text: str) -> bool:
        file = self.folder / JOB
        return file.is_file() and file.read_text(encoding="utf-8") == text

    def _create(self, text: str) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        letters, lengths = self.job.axes
        axes = letters + "ZYX"[-self.job.target.ndim :]
        ome_zarr.create(self.folder, self.job.levels, lengths, axes, self.job.source.dtype, self.job.side)
        for level in range(len(self.job.levels)):
            (self.folder / DONE / str(level)).mkdir(parents=True)
        write_text(self.folder / JOB, text)  # last: a folder with this file is complete

    @property
    def arrays(self) -> list[Any]:
        """The levels as Zarr arrays, with the axes of the job in front of the spatial ones."""
        if not self._arrays:
            group = package("zarr", "OME-Zarr", "slides").open_group(str(self.folder), mode="r+")
            self._arrays = [group[str(level)] for level in range(len(self.job.levels))]
        return self._arrays

    @functools.cached_property
    def boxes(self) -> list[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
        """The tiles of each level: the first pixel and the shape of each."""
        return [boxes(grid.shape, self.job.side) for grid in self.job.levels]

    def missing(self, level: int) -> list[int]:
        """Numbers of the tiles of a level that are not done."""
        done = {int(file.name) for file in (self.folder / DONE / str(level)).iterdir() if file.name.isdecimal()}
        return [number for number in range(len(self.boxes[level])) if number not in done]

    def make(self, level: int, number: int) -> None:
        """Compute and write one tile: of the finest level from the source, of another one from the level before.

        Raises:
            InputError: the source is damaged there, or the disk is full.
        """
        first, shape = self.boxes[level][number]
        planes = self.job.tile(first, shape) if level == 0 else self._coarser(level, first, shape)
        try:
            lengths = self.job.axes[1]
            key = (*[slice(None)] * len(lengths), *_slices(first, shape))
            self.arrays[level][key] = planes.reshape(*lengths, *shape)
            (self.folder / DONE / str(level) / str(number)).touch()
        except OSError as error:
            raise InputError(f"cannot write {self.folder}: {error.strerror}") from error

    def read(self, level: int, first: Sequence[int], shape: Sequence[int], plane: int | None = None) -> np.ndarray:
        """A box of a level that is done, of one plane or of all. -> (1 or K, *shape)"""
        lengths = self.job.axes[1]
        others = [slice(None)] * len(lengths) if plane is None else [int(at) for at in np.unravel_index(plane, lengths)]
        return np.asarray(self.arrays[level][(*others, *_slices(first, shape))]).reshape(-1, *shape)

    def _coarser(self, level: int, first: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """A box made of the level before: means of blocks of two pixels along each axis; of labels the first one."""
        before = self.job.levels[level - 1].shape
        factors = [2 if length > 1 else 1 for length in before]
        start = [factor * at for factor, at in zip(factors, first, strict=True)]
        size = [min(f * n, length - at) for f, n, length, at in zip(factors, shape, before, start, strict=True)]
        planes = self.read(level - 1, start, size)
        if self.job.labels:
            return planes[(slice(None), *[slice(None, None, factor) for factor in factors])]
        missing = [factor * n - length for factor, n, length in zip(factors, shape, size, strict=True)]
        planes = np.pad(planes, ((0, 0), *[(0, extra) for extra in missing]), "edge")
        means = block_means(planes, factors, np.float64)
        return (means if planes.dtype.kind == "f" else np.rint(means)).astype(planes.dtype)

    def finish(self) -> None:
        """Make the result of the draft, whose tiles are all done, and delete the draft.

        Raises:
            InputError: it cannot be written.
        """
        try:
            if self.path.suffix.lower() != ".zarr":
                write_atomically(self.path, self._write_tiff, self.path.suffix)
                shutil.rmtree(self.folder)
                return
            self._arrays = []
            old = self.path.with_name(f"{self.path.name}.old")
            if self.path.exists():
                shutil.rmtree(old, ignore_errors=True)
                self.path.rename(old)
            self.folder.rename(self.path)
            (self.path / JOB).unlink()
            shutil.rmtree(self.path / DONE)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}. Choose another place.") from error

    def _write_tiff(self, file: Path) -> None:
        """A pyramidal OME-TIFF, compressed without loss, of the tiles; if georeferenced, a GeoTIFF with overviews."""
        letters, lengths = self.job.axes
        colour = _is_colour(self.job)
        target, source = self.job.target, self.job.source
        tags = geo_tags(target, source.nodata) if target.crs else None
        metadata = ome_lengths(target) if has_lengths(target) else {}
        metadata |= {"axes": "YXS" if colour else letters + "YX", "UUID": "00000000-0000-0000-0000-000000000000"}
        bands: dict[str, Any] = {}
        if tags is not None and lengths and not colour:
            bands = {"planarconfig": "separate", "extrasamples": [0] * (math.prod(lengths) - 1)}
        with tifffile.TiffWriter(file, bigtiff=True, ome=tags is None) as tiff:
            for level, grid in enumerate(self.job.levels):
                shape = (*grid.shape, *lengths) if colour else (*lengths, *grid.shape)
                tiff.write(
                    self._tiff_tiles(level, colour),
                    shape=shape,
                    dtype=np.uint8 if source.dtype == bool else source.dtype,
                    tile=(self.job.side, self.job.side),
                    photometric="rgb" if colour else "minisblack",
                    compression="zlib",
                    subifds=len(self.job.levels) - 1 if level == 0 and tags is None else None,
                    subfiletype=0 if level == 0 else 1,
                    metadata=metadata if level == 0 and tags is None else None,
                    extratags=tags,
                    **bands,
                )

    def _tiff_tiles(self, level: int, colour: bool) -> Iterator[np.ndarray]:
        """The tiles in the order of the file: of a colour image all channels at once, else one plane after the other."""
        for plane in [None] if colour else range(math.prod(self.job.axes[1])):
            for first, shape in self.boxes[level]:
                planes = self.read(level, first, shape, plane)
                planes = planes.astype(np.uint8) * 255 if planes.dtype == bool else planes
                yield np.ascontiguousarray(np.moveaxis(planes, 0, -1)) if colour else planes[0]


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Inside, no other process has this file locked, where the system has such locks; it is deleted at the end.

    Raises:
        InputError: another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # not POSIX
        yield
        return
    with file.open("w", encoding="utf-8") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{file.stem}: another run is writing it. Wait for its end, or choose another place.") from error
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _slices(first: Sequence[int], shape: Sequence[int]) -> list[slice]:
    return [slice(start, start + length) for start, length in zip(first, shape, strict=True)]


def _is_replaceable(path: Path) -> bool:
    """Whether a folder holds one OME-Zarr image and nothing else."""
    names = {file.name for file in path.iterdir()} if path.is_dir() else {""}
    return ome_zarr.is_zarr(path) and all(name.isdecimal() or name in (*ome_zarr.METADATA, JOB, DONE) for name in names)


def _is_colour(job: Job) -> bool:
    return "S" in job.source.axes and job.axes[1] in ((3,), (4,)) and job.source.dtype in (np.uint8, np.uint16)


def _check(path: Path, job: Job) -> None:
    """Raise an InputError if the format of `path` cannot hold the result."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"{path}: tile by tile, expected a result that ends with {', '.join(ENDINGS)}, got {ending!r}")
    own, source = path.resolve(), Path(job.source.name).resolve()
    if job.source.name and (own == source or source in own.parents or own in source.parents):
        raise InputError(f"{path}: expected another place than that of the image that is read, which would be lost")
    if ending == ".zarr":
        if path.exists() and not _is_replaceable(path):
            raise InputError(f"{path}: expected a new place or an OME-Zarr image to replace, got something else")
        if not ome_zarr.aligned_with_axes(job.target):
            raise InputError(f"{path}: OME-Zarr states no rotation, and the grid of the result is turned. Use the ending .tif.")
        return
    if job.target.crs:
        geo_tags(job.target)  # an error now, not at the end
        if len(job.axes[1]) > 1:
            raise InputError(f"{path}: GeoTIFF holds bands, got axes {job.source.axes}. Warp one of their entries by itself.")
    if job.target.ndim == 3:
        raise InputError(f"{path}: tile by tile, volumes are written as OME-Zarr (.zarr)")
    if job.source.dtype.name not in (*OME_KINDS, "bool"):
        raise InputError(f"{path}: OME-TIFF does not hold {job.source.dtype}. Use .zarr.")
