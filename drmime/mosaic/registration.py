"""`stitch`: tiles in, a `Mosaic` out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime.errors import InputError, shown
from drmime.geometry import lie
from drmime.modes import own_modes
from drmime.mosaic.layout import layout_of
from drmime.mosaic.links import Measuring
from drmime.mosaic.result import Mosaic, TileLink
from drmime.mosaic.solve import first_pixels, placed
from drmime.mosaic.tiles import Tiles
from drmime.registry import known
from drmime.shifts.pair import TRANSFORMS
from drmime.transform.linear import MatrixTransform


@own_modes()
def stitch(
    tiles: Sequence[Any],
    layout: Any = None,
    *,
    transform: str = "translation",
    overlap: float = 0.1,
    margin: float = 0.1,
    channel_axis: Any = "auto",
    channel: int | None = None,
    nan: str = "error",
    folder: str | Path | None = None,
    progress: bool = False,
) -> Mosaic:
    """Find where overlapping tiles of one scene, of one modality, lie in a mosaic.

    Tiles that overlap are compared by their normalised cross-correlation at every shift (Padfield 2012, doi
    10.1109/TIP.2011.2181402), with slow changes of light removed, and aligned to a fraction of a pixel. A correlation that
    chance may give, measured at all other shifts of the two tiles, is no link; so empty tiles do no harm. Places are those
    that agree best with the links (`drmime.stack.consensus`): a wrong link does no harm while more right
    ones contradict it.

    Args:
        tiles: two or more; paths, arrays or whatever `register` takes, of one dimension, dtype and pixel length. They are read
            when they are needed.
        layout: where tiles are expected: (rows, columns), the tiles row by row; a mapping with `rows`, `columns` and `order`
            ("row", "snake", "column", "column-snake"); positions (N, D) of the tiles' first pixels, x first, in world units
            (those of the pixel lengths that the files state, else pixels); "stage", the positions that OME-TIFF files state; or
            None if nothing is known: then all pairs are compared.
        transform: by which tiles differ: "translation"; or "rigid", "similarity", "affine" for tiles that are also turned or
            stretched by a few per cent.
        overlap: of neighbours in rows and columns, as a share of a tile's side.
        margin: by how much two tiles may lie off where the layout expects them to each other, as a share of a tile's side.
        channel_axis: as for `register`.
        nan: "error" leaves out a tile with pixels that are not finite, and names it; "mask" leaves out these pixels.
        channel: number of the one channel to compare; None for the mean of all.
        folder: where what was found of each pair of tiles is kept, as it is finished. A run with the same tiles, layout and
            options goes on from there, with the same result.
        progress: shows a bar on stderr, where that is a terminal.

    Returns:
        the `Mosaic`. A tile without a link is put where the layout expects it, moved as its neighbours are; without a layout it
        has no place. If links connect the tiles in several parts, each is placed by the layout; without one the largest part
        alone has places. `unconnected` names such tiles.

    Raises:
        InputError: an option or tile that cannot be used, fewer than two tiles that can be read, a layout of another number of
            tiles or in which no two touch.

    Example:
        >>> scene = np.random.default_rng(0).random((64, 100)).cumsum(0).cumsum(1) % 7
        >>> mosaic = stitch([scene[:, :60], scene[:, 41:]])
        >>> mosaic.positions.round(1) + 0
        array([[ 0.,  0.],
               [41.,  0.]])
    """
    if not isinstance(tiles, (list, tuple)) or len(tiles) < 2:
        raise InputError(f"tiles: expected a list of at least two, got {shown(tiles)}")
    known("transform of a mosaic", transform, TRANSFORMS)
    reading = {"channel_axis": channel_axis, "channel": channel, "nan": nan}
    read = Tiles(tiles, **reading, keep=folder is not None)
    first = read.check()
    expected = layout_of(layout, tiles, read.grids, overlap, margin)
    generators = lie.generators(transform, first.grid.ndim)
    measuring = Measuring(read, generators, progress, None if folder is None else Path(folder))
    found = measuring.all_pairs() if expected is None else measuring.expected(expected)
    places = placed([one.link for one in found], read.grids, len(tiles), expected, generators)
    links = [
        TileLink(
            first=one.link.first,
            second=one.link.second,
            matrix=one.link.matrix,
            shift=one.shift(first.grid),
            error=one.link.error,
            chance=one.match.chance,
            score=one.match.score,
            weight=float(weight),
            misfit=float(misfit),
        )
        for one, weight, misfit in zip(found, places.weights, places.misfits, strict=True)
    ]
    maps = [MatrixTransform(matrix) if bool(torch.isfinite(matrix).all()) else None for matrix in places.matrices]
    return Mosaic(
        transforms=tuple(maps),
        positions=first_pixels(places.matrices, read.grids),
        links=tuple(links),
        parts=places.parts,
        nominal=None if expected is None else np.array(expected.positions),
        errors=dict(read.errors),
        names=tuple(str(tile) if isinstance(tile, (str, Path)) else "" for tile in tiles),
        grids=tuple(read.grids.get(number) for number in range(len(tiles))),
        reading=reading,
    )
