"""Which tiles of a mosaic overlap, and how they lie to each other."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.mosaic.layout import Layout
from drmime.mosaic.tiles import Tiles
from drmime.shifts.pair import Match, match, peaks, pixel_basis
from drmime.stack.consensus import Link

# links of a whole mosaic that chance may give, expected, if nothing is known of the places; 0.01, 0.05, 0.25: 320, 344, 362
# right and 1, 1, 5 wrong links in 14 mosaics of 7 images, made as those of `experiments/mosaics.py`
FALSE = 0.05
# likewise of tiles whose places are expected, where a wrong link is off by the margin at most; 0.01, 0.05, 0.25: 413, 442, 472
# right and 1, 1, 1 wrong
FALSE_NEAR = 0.25
LARGEST = 1.0  # pixels: a link of a larger expected error is none; of 13 there, 10 were wrong
SCREEN_SIDE = 256  # pixels of the longest side of the level at which tiles of unknown places are first compared
SCREEN_CHANCE = 0.5  # largest chance there with which a pair is looked at again


@dataclass(frozen=True)
class Found:
    """A pair of tiles that overlap."""

    match: Match
    link: Link  # in the tiles' own worlds

    def shift(self, fixed: Grid) -> tuple[float, ...]:
        """World length from the first to the second tile's first pixel, at the centre of the overlap, x first."""
        centre = torch.as_tensor(self.match.places[-1:])
        there = apply(torch.as_tensor(self.match.matrix), centre)[0]
        return tuple((fixed.world_from_index[:-1, :-1] @ (centre - there)[0]).tolist())


class Measuring:
    """Compares pairs of tiles.

    Args:
        generators: of the maps that are allowed, (D+1, D+1) each, in the frame of a tile's grid.
    """

    def __init__(self, tiles: Tiles, generators: Mapping[str, Tensor], progress: bool) -> None:
        self.tiles, self.progress = tiles, progress
        self.generators = generators

    def all_pairs(self) -> list[Found]:
        """The pairs that overlap, of all tiles; first compared at low resolution."""
        numbers = sorted(self.tiles.grids)
        every = [(one, other) for at, one in enumerate(numbers) for other in numbers[at + 1 :]]
        likely = []
        for one, other in self._bar(every, "overlaps"):
            best = peaks(self.tiles.prepared(one, SCREEN_SIDE), self.tiles.prepared(other, SCREEN_SIDE), count=1)
            if best and best[0].chance < SCREEN_CHANCE:
                likely.append((one, other))
        return self._measured(likely, FALSE / max(1, len(every)), None)

    def expected(self, layout: Layout) -> list[Found]:
        """The pairs that overlap, of those that are expected to."""
        pairs = layout.pairs(self.tiles.grids)
        return self._measured(pairs, FALSE_NEAR / max(1, len(pairs)), layout)

    def _measured(self, pairs: Sequence[tuple[int, int]], chance: float, layout: Layout | None) -> list[Found]:
        found = []
        for one, other in self._bar(pairs, "pairs"):
            fixed, moving = self.tiles.grids[one], self.tiles.grids[other]
            spacing = fixed.spacing.numpy()
            near = None if layout is None else _in_pixels(layout.positions[one] - layout.positions[other], fixed)
            reach = np.inf if layout is None else (layout.reach / spacing)[::-1]
            both = self.tiles.prepared(one), self.tiles.prepared(other)
            measured = match(both[0], both[1], pixel_basis(self.generators, fixed), chance, near, reach)
            if measured is not None and measured.error <= LARGEST:
                found.append(Found(measured, self._link(one, other, measured, fixed, moving)))
        return found

    def _link(self, one: int, other: int, found: Match, fixed: Grid, moving: Grid) -> Link:
        matrix = moving.world_from_index @ torch.as_tensor(found.matrix) @ fixed.index_from_world
        length = float(moving.spacing.square().mean().sqrt())
        places = apply(fixed.world_from_index, torch.as_tensor(found.places))[0]
        return Link(one, other, matrix, found.error * length, places)

    def _bar(self, pairs: Sequence[tuple[int, int]], what: str) -> Iterable[tuple[int, int]]:
        return tqdm(pairs, what, disable=not (self.progress and sys.stderr.isatty()), leave=False)


def _in_pixels(shift: np.ndarray, grid: Grid) -> np.ndarray:
    """A shift in world units, x first, in pixels of a grid, array order."""
    return np.linalg.solve(grid.world_from_index[:-1, :-1].numpy(), shift)[::-1]
