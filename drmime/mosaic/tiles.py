"""The tiles of a mosaic: read when they are needed, all of one kind."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.door import load
from drmime.image.image import SMALLEST_SIDE, Image
from drmime.image.pixels import chosen
from drmime.image.planes import Planes, planes_of
from drmime.registry import known
from drmime.shifts.pair import Prepared, levels_for
from drmime.stack.kept import plain

MEMORY = 2**30  # bytes of tiles that are kept in memory, and of what is computed from them, each
SIDE = 512  # pixels of the longest side of the level at which all shifts are compared
SPACING = 1e-3  # relative difference of pixel lengths that is no difference


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile: all its planes, and what of them is compared."""

    planes: Planes
    grid: Grid
    compared: np.ndarray  # shape: (*shape), one channel or the mean of all
    mask: np.ndarray | None  # shape: (*shape), valid pixels; None if all are

    @property
    def kind(self) -> tuple[Any, ...]:
        """What tiles of one mosaic have in common."""
        return (self.grid.ndim, self.planes.lengths, self.planes.order, self.planes.planes.dtype)


class _Memory:
    """The values of a function of numbers, kept up to a total size; those used last stay."""

    def __init__(self, make: Callable[[int], Any], size: Callable[[Any], int]) -> None:
        self.make, self.size = make, size
        self.kept: OrderedDict[int, Any] = OrderedDict()
        self.total = 0

    def __call__(self, number: int) -> Any:
        if number not in self.kept:
            self.kept[number] = self.make(number)
            self.total += self.size(self.kept[number])
            while self.total > MEMORY and len(self.kept) > 2:
                self.total -= self.size(self.kept.popitem(last=False)[1])
        self.kept.move_to_end(number)
        return self.kept[number]


class Tiles:
    """The tiles of a mosaic.

    Args:
        tiles: as `drmime.stitch` takes them.
        channel_axis, channel, nan: as for `drmime.as_image`; `channel` is the one that is compared.
        keep: whether `check` makes `digests`.
    """

    def __init__(
        self,
        tiles: Sequence[Any],
        channel_axis: Any = "auto",
        channel: int | None = None,
        nan: str = "error",
        keep: bool = False,
    ) -> None:
        self.tiles, self.channel_axis, self.channel = tiles, channel_axis, channel
        self.nan = known("nan", nan, ("error", "mask"))
        self.errors: dict[int, str] = {}  # of tiles that cannot be read
        self.grids: dict[int, Grid] = {}
        self.keep = keep
        self.digests: dict[int, Any] = {}  # of each tile as JSON, equal for tiles that are compared alike only
        self._read = _Memory(self._tile, lambda tile: tile.planes.planes.nbytes + tile.compared.nbytes)
        self._prepared: dict[int, _Memory] = {}

    def __len__(self) -> int:
        return len(self.tiles)

    def tile(self, number: int) -> Tile:
        """A tile. InputError if it cannot be read."""
        return self._read(number)

    def levels(self, side: int = SIDE) -> int:
        """How many levels each tile has, after `check`."""
        return levels_for((grid.shape for grid in self.grids.values()), side)

    def prepared(self, number: int, side: int = SIDE) -> Prepared:
        """The levels of a tile, after `check`."""
        count = self.levels(side)

        def make(which: int) -> Prepared:
            tile = self.tile(which)
            return Prepared(tile.compared, tile.mask, count)

        def size(made: Prepared) -> int:
            return made.flat.nbytes + sum(level.data.nbytes for level in made.levels)

        return self._prepared.setdefault(side, _Memory(make, size))(number)

    def check(self) -> Tile:
        """Read every tile once; those that cannot be read are in `errors`. The first one that can.

        Raises:
            InputError: fewer than two can be read, or they differ in dimension, channels, dtype or pixel lengths.
        """
        first: Tile | None = None
        for number in range(len(self.tiles)):
            try:
                tile = self.tile(number)
            except InputError as error:
                self.errors[number] = str(error)
                continue
            self.grids[number] = tile.grid
            if self.keep:
                self.digests[number] = plain([tile.compared, tile.mask, tile.grid.world_from_index])
            first = first or tile
            self._check_kind(number, tile, first)
        if first is None or len(self.grids) < 2:
            why = next(iter(self.errors.values()))
            raise InputError(f"tiles: expected at least two that can be read, got {len(self.grids)}: {why}")
        return first

    def _check_kind(self, number: int, tile: Tile, first: Tile) -> None:
        if tile.kind != first.kind:
            raise InputError(
                f"tiles: expected tiles of one dimension, dtype and number of channels, got {_told(first)} and, number "
                f"{number}, {_told(tile)}"
            )
        if not torch.allclose(tile.grid.spacing, first.grid.spacing, rtol=SPACING, atol=0):
            lengths = [grid.spacing.tolist() for grid in (first.grid, tile.grid)]
            raise InputError(f"tiles: expected equal pixel lengths, got {lengths[0]} and, number {number}, {lengths[1]}")

    def _tile(self, number: int) -> Tile:
        data, role = self.tiles[number], f"tile {number}"
        axis = "auto" if isinstance(data, Image) else self.channel_axis
        planes = planes_of(load(data, role), axis, role, tensor=isinstance(data, Tensor))
        shape = planes.planes.shape[1:]
        if min(shape) < SMALLEST_SIDE:
            raise InputError(f"{role}: expected at least {SMALLEST_SIDE} pixels along every axis, got shape {shape}")
        used = chosen(planes.planes, self.channel, role)
        compared = used[0] if len(used) == 1 else used.mean(0, dtype=np.float32)
        mask: np.ndarray | None = None if planes.mask is None else np.asarray(planes.mask.all(0))
        if isinstance(data, Image) and data.mask is not None:
            mask = data.mask[0, 0].cpu().numpy() > 0
        finite = np.isfinite(planes.planes).all(0) if planes.planes.dtype.kind == "f" else None
        if finite is not None and not (finite if mask is None else finite | ~mask).all() and self.nan == "error":
            raise InputError(f'{role}: expected finite values. Repair them, or pass nan="mask" (--nan mask) to leave them out.')
        if finite is not None and not finite.all():
            mask = np.asarray(finite if mask is None else finite & mask)
            compared = np.where(finite, compared, 0)
        mask = None if mask is None or mask.all() else mask
        return Tile(planes, planes.grid or Grid.regular(shape), np.ascontiguousarray(compared), mask)


def _told(tile: Tile) -> str:
    channels = f" and {len(tile.planes.planes)} planes" if len(tile.planes.planes) > 1 else ""
    return f"shape {tile.grid.shape}{channels} of {tile.planes.planes.dtype}"
