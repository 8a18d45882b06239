"""Pixels of a mosaic from its tiles, block by block."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.image import VALID
from drmime.mosaic.tiles import Tile, Tiles
from drmime.transform.base import Transform
from drmime.transform.linear import matrix_of
from drmime.transform.warp import fill_of, in_pixels, pulled

HOWS = ("blend", "nearest")
SLACK = 1e-3  # pixels of tiles that may be missing at the far edges of a mosaic


@dataclass(frozen=True, eq=False)
class Fusing:
    """How the tiles of a mosaic are put together.

    Values of the overlap: "blend", the mean weighted by the distance to the tile's edge; "nearest", those of the tile whose
    centre is nearest.
    """

    tiles: Tiles
    placed: Mapping[int, tuple[Transform, Grid]]  # of each tile that is used: mosaic world to tile world, and its grid
    how: str
    interpolation: str
    fill: float

    @property
    def first(self) -> Tile:
        return self.tiles.tile(min(self.placed))

    def block(self, grid: Grid, planes: slice = slice(None), antialias: bool = False) -> np.ndarray:
        """The mosaic on a grid, in the dtype of the tiles. (K, *grid.shape), K the number of `planes`"""
        fill_of(self.fill, self.first.planes.planes.dtype)  # an error now if it is no such value
        total: np.ndarray | None = None
        best = np.zeros(grid.shape, np.float32)
        dtype = np.dtype(np.uint8)
        for number, box in self._touching(grid):
            tile, transform = self._checked(number)
            part = grid.cut([side.start for side in box], [side.stop - side.start for side in box])
            values = tile.planes.planes[planes]
            dtype = values.dtype
            weight = _weights(matrix_of(in_pixels(transform, part, tile.grid)).numpy(), part.shape, tile, self.how)
            exact = values.astype(np.float32 if dtype.itemsize <= 2 and self.how == "blend" else np.float64)
            read = pulled(exact, transform, tile.grid, part, self.interpolation, 0, antialias)
            if tile.mask is not None:  # a value that is interpolated from masked pixels is left out
                share = pulled(tile.mask[None].astype(np.float32), transform, tile.grid, part, "linear")[0]
                weight = np.where(share > VALID, weight, 0)
            if dtype.kind == "f":  # beside pixels that are not finite
                weight = np.where(np.isfinite(read).all(0), weight, 0)
            if total is None:
                total = np.zeros((len(values), *grid.shape), exact.dtype)
            inside = best[box]
            if self.how == "blend":
                total[:, *box] += np.where(weight > 0, read, 0) * weight
                inside += weight
            else:
                closer = weight > inside
                total[:, *box] = np.where(closer, read, total[:, *box])
                inside[closer] = weight[closer]
        return self._finished(total, best, dtype, grid, planes)

    def _finished(self, total: np.ndarray | None, weight: np.ndarray, dtype: np.dtype, grid: Grid, planes: slice) -> np.ndarray:
        if total is None:
            first = self.first.planes.planes
            return np.full((len(first[planes]), *grid.shape), self.fill).astype(first.dtype)
        if self.how == "blend":
            total /= np.maximum(weight, np.finfo(np.float32).tiny)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            total = np.clip(np.rint(total), limits.min, limits.max)
        elif dtype.kind == "b":
            total = total > 0.5
        return np.where(weight > 0, total, self.fill).astype(dtype)

    def _checked(self, number: int) -> tuple[Tile, Transform]:
        """A tile and its transform. InputError if the tile has another shape or other channels than that of the mosaic."""
        tile, first = self.tiles.tile(number), self.first
        transform, own = self.placed[number]
        if tile.grid.shape != own.shape or tile.kind != first.kind:
            raise InputError(
                f"tiles: expected tile {number} of shape {own.shape} with the channels and dtype of the others, got shape "
                f"{tile.grid.shape}, {len(tile.planes.planes)} planes of {tile.planes.planes.dtype}"
            )
        return tile, transform

    def _touching(self, grid: Grid) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """The tiles that have pixels on a grid, and the box of its pixels that holds them."""
        for number, (transform, own) in self.placed.items():
            there = apply(grid.index_from_world, transform.inverse()(own.corners()))[0]
            low = np.clip(np.ceil(there.amin(0).numpy() - 1e-6), 0, None).astype(int)[::-1]
            high = np.minimum(np.floor(there.amax(0).numpy() + 1e-6).astype(int)[::-1] + 1, grid.shape)
            if (low < high).all():
                yield number, tuple(slice(int(first), int(end)) for first, end in zip(low, high, strict=True))


def _weights(matrix: np.ndarray, shape: Sequence[int], tile: Tile, how: str) -> np.ndarray:
    """Weights of a tile at the pixels of a block, 0 outside the tile. (*shape), float32

    Args:
        matrix: tile_from_block, pixels, x first.

    The distance to the tile's edge in pixels ("blend"); a number that is larger the nearer the tile's centre is ("nearest").
    """
    linear, shift = matrix[:-1, :-1][::-1, ::-1], matrix[:-1, -1][::-1]
    ends = tile.grid.shape
    ndim = len(ends)
    axes = np.ogrid[tuple(slice(length) for length in shape)]
    if np.allclose(linear, np.diag(np.diagonal(linear)), rtol=0, atol=1e-9):
        places = [linear[at, at] * axes[at] + shift[at] for at in range(ndim)]
    else:
        places = [sum(linear[at, other] * axes[other] for other in range(ndim)) + shift[at] for at in range(ndim)]
    edges = [np.minimum(place + 0.5, length - 0.5 - place) for place, length in zip(places, ends, strict=True)]
    nearest = edges[0]
    for edge in edges[1:]:
        nearest = np.minimum(nearest, edge)
    inside = nearest > -1e-6
    if how == "blend":
        weight = np.maximum(nearest, 1e-3)
    else:
        half = max(ends)  # in half sides of the longest axis
        squares = [np.square((place - (length - 1) / 2) / half) for place, length in zip(places, ends, strict=True)]
        weight = 1 / (1 + sum(squares[1:], squares[0]))
    return np.where(inside, weight, 0).astype(np.float32)


def mosaic_grid(placed: Iterable[tuple[Transform, Grid]]) -> Grid:
    """The grid that holds all tiles, with the spacing of the first of them and axes along the world's.

    They go the way that those of the first tile go: rows of georeferenced tiles go south.
    """
    tiles = list(placed)
    spacing = tiles[0][1].spacing
    corners = torch.cat([transform.inverse()(grid.corners()) for transform, grid in tiles])
    low, high = corners.amin(0), corners.amax(0)
    size = ((high - low) / spacing - SLACK).ceil().clamp(min=1)
    back = torch.diagonal(tiles[0][1].world_from_index)[:-1] < 0
    steps = torch.where(back, -spacing, spacing)
    matrix = torch.diag(torch.cat([steps, torch.ones(1, dtype=torch.float64)]))
    matrix[:-1, -1] = torch.where(back, high, low) + steps / 2
    return Grid(tuple(int(length) for length in size.flip(0)), matrix, unit=tiles[0][1].unit)
