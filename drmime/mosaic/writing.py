"""Write a mosaic that is larger than memory: a TIFF file, one row of its tiles after the other."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from drmime.geometry.grid import Grid
from drmime.image.io import write_atomically
from drmime.image.writers import OME_KINDS, has_lengths, ome_lengths
from drmime.mosaic.fuse import Fusing

SIDE = 512  # pixels of a tile of the file; a row of tiles is in memory at a time
CLASSIC = 2**32 - 2**25  # bytes that a TIFF file without 64-bit offsets can hold


def write_tiled(path: Path, fusing: Fusing, grid: Grid) -> None:
    """Write the mosaic on a grid as tiled TIFF: RGB of 8 or 16 bits as colours, other planes one after the other.

    Raises:
        InputError: the path cannot be written.
    """
    first = fusing.first.planes
    count, dtype = len(first.planes), np.dtype(first.planes.dtype)
    stored = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    last_is_channel = len(first.lengths) == 1 and first.order[-1] == 0
    colour = last_is_channel and count in (3, 4) and stored in (np.uint8, np.uint16)
    letters = "".join(name for name in first.names if name in "TC")
    letters = letters if len(letters) == len(first.lengths) else "C"
    lengths = first.lengths if len(letters) == len(first.lengths) else (count,)
    lengths = lengths if first.lengths else ()
    shape = (*grid.shape, count) if colour else (*lengths, *grid.shape)
    axes = ("" if colour else letters[: len(lengths)]) + "ZYX"[-grid.ndim :] + ("S" if colour else "")
    padded = [*grid.shape[:-2], *(-(-length // SIDE) * SIDE for length in grid.shape[-2:])]  # tiles of the file are whole
    size = math.prod(padded) * count * stored.itemsize
    ome = has_lengths(grid) and stored.name in OME_KINDS
    stated = ome_lengths(grid) if ome else {}
    parts = _colours(fusing, grid) if colour else _planes(fusing, grid, count)

    def fill(draft: Path) -> None:
        with tifffile.TiffWriter(draft, bigtiff=size > CLASSIC, ome=ome) as file:
            file.write(
                (np.ascontiguousarray(part.astype(stored) * (255 if dtype.kind == "b" else 1)) for part in parts),
                shape=shape,
                dtype=stored,
                tile=(SIDE, SIDE),
                photometric="rgb" if colour else "minisblack",
                compression="zlib",
                metadata={"axes": axes, **stated},
            )

    write_atomically(path, fill, ".tif")


def _planes(fusing: Fusing, grid: Grid, count: int) -> Iterator[np.ndarray]:
    """The tiles (SIDE, SIDE) of each plane, in rows."""
    for plane in range(count):
        for row in _rows(fusing, grid, slice(plane, plane + 1)):
            for left in range(0, row.shape[-1], SIDE):
                yield row[0, :, left : left + SIDE]


def _colours(fusing: Fusing, grid: Grid) -> Iterator[np.ndarray]:
    """The tiles (SIDE, SIDE, K) of all planes together, in rows."""
    for row in _rows(fusing, grid, slice(None)):
        for left in range(0, row.shape[-1], SIDE):
            yield np.moveaxis(row[:, :, left : left + SIDE], 0, -1)


def _rows(fusing: Fusing, grid: Grid, planes: slice) -> Iterator[np.ndarray]:
    """The mosaic in rows of `SIDE` pixels; of a volume those of one slice after the other. (K, <= SIDE, width)"""
    for depth in range(grid.shape[0] if grid.ndim == 3 else 1):
        for top in range(0, grid.shape[-2], SIDE):
            high = min(SIDE, grid.shape[-2] - top)
            first, shape = (
                ([depth, top, 0], [1, high, grid.shape[-1]]) if grid.ndim == 3 else ([top, 0], [high, grid.shape[-1]])
            )
            block = fusing.block(grid.cut(first, shape), planes)
            yield block.reshape(len(block), high, grid.shape[-1])
