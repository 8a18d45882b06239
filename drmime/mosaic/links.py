"""Which tiles of a mosaic overlap, and how they lie to each other."""

import contextlib
import itertools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from drmime import saved
from drmime.errors import InputError, numbers
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.io import write_text
from drmime.mosaic.layout import Layout
from drmime.mosaic.tiles import Tiles
from drmime.shifts.pair import Match, match, peaks, pixel_basis
from drmime.stack.consensus import Link
from drmime.stack.kept import pair_file, plain

# links of a whole mosaic that chance may give, expected, if nothing is known of the places; 0.01, 0.05, 0.25: 320, 344, 362
# right and 1, 1, 5 wrong links in 14 mosaics of 7 images, made as those of `experiments/mosaics.py`
FALSE = 0.05
# likewise of tiles whose places are expected, where a wrong link is off by the margin at most; 0.01, 0.05, 0.25: 413, 442, 472
# right and 1, 1, 1 wrong
FALSE_NEAR = 0.25
LARGEST = 1.0  # pixels: a link of a larger expected error is none; of 13 there, 10 were wrong
SCREEN_SIDE = 256  # pixels of the longest side of the level at which tiles of unknown places are first compared
SCREEN_CHANCE = 0.5  # largest chance there with which a pair is looked at again
FORMAT = "drmime pair of tiles 1"
MATCH = {"matrix": [[float]], "error": float, "chance": float, "score": float, "pixels": int, "places": [[float]]}


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
        folder: where what was found of each pair is kept, as it is finished; what is there, of the same tiles and options, is
            read instead.
    """

    def __init__(self, tiles: Tiles, generators: Mapping[str, Tensor], progress: bool, folder: Path | None = None) -> None:
        self.tiles, self.progress, self.folder = tiles, progress, folder
        self.generators = generators

    def all_pairs(self) -> list[Found]:
        """The pairs that overlap, of all tiles; first compared at low resolution."""
        every = list(itertools.combinations(sorted(self.tiles.grids), 2))
        likely, chance = [], FALSE / max(1, len(every))
        for one, other in self._bar(every, "overlaps"):
            file = self._file(one, other, chance, None)
            if self._kept(one, file)[0]:  # its match is read below
                likely.append((one, other))
                continue
            best = peaks(self.tiles.prepared(one, SCREEN_SIDE), self.tiles.prepared(other, SCREEN_SIDE), count=1)
            if best and best[0].chance < SCREEN_CHANCE:
                likely.append((one, other))
            elif file is not None:
                keep(file, None)
        return self._measured(likely, chance, None)

    def expected(self, layout: Layout) -> list[Found]:
        """The pairs that overlap, of those that are expected to."""
        pairs = layout.pairs(self.tiles.grids)
        return self._measured(pairs, FALSE_NEAR / max(1, len(pairs)), layout)

    def _measured(self, pairs: Sequence[tuple[int, int]], chance: float, layout: Layout | None) -> list[Found]:
        found = []
        for one, other in self._bar(pairs, "pairs"):
            measured = self._match(one, other, chance, layout)
            if measured is not None:
                fixed, moving = self.tiles.grids[one], self.tiles.grids[other]
                found.append(Found(measured, self._link(one, other, measured, fixed, moving)))
        return found

    def _match(self, one: int, other: int, chance: float, layout: Layout | None) -> Match | None:
        """The match of a pair, kept or now; None if there is no evidence for one."""
        file = self._file(one, other, chance, layout)
        is_kept, found = self._kept(one, file)
        if is_kept:
            return found
        near, reach = self._place(one, other, layout)
        both = self.tiles.prepared(one), self.tiles.prepared(other)
        found = match(both[0], both[1], self._basis(one), chance, near, reach)
        found = found if found is not None and found.error <= LARGEST else None
        if file is not None:
            keep(file, found)
        return found

    def _file(self, one: int, other: int, chance: float, layout: Layout | None) -> Path | None:
        if self.folder is None:
            return None
        digests, place = self.tiles.digests, self._place(one, other, layout)
        known = [digests[one], digests[other], self.tiles.levels(), plain([self._basis(one), chance, *place])]
        return pair_file(self.folder, one, other, known)

    def _kept(self, one: int, file: Path | None) -> tuple[bool, Match | None]:
        """Whether the file of a pair has a result, and this; a damaged file has none, and is replaced."""
        if file is not None and file.is_file():
            with contextlib.suppress(InputError):
                return True, kept_match(file, self.tiles.grids[one].ndim)
        return False, None

    def _basis(self, number: int) -> np.ndarray:
        return pixel_basis(self.generators, self.tiles.grids[number])

    def _place(self, one: int, other: int, layout: Layout | None) -> tuple[np.ndarray | None, np.ndarray | float]:
        """Where the second tile is expected, and how far off it may be: pixels of the first one, array order."""
        if layout is None:
            return None, np.inf
        fixed = self.tiles.grids[one]
        near = _in_pixels(layout.positions[one] - layout.positions[other], fixed)
        return near, (layout.reach / fixed.spacing.numpy())[::-1]

    def _link(self, one: int, other: int, found: Match, fixed: Grid, moving: Grid) -> Link:
        matrix = moving.world_from_index @ torch.as_tensor(found.matrix) @ fixed.index_from_world
        length = float(moving.spacing.square().mean().sqrt())
        places = apply(fixed.world_from_index, torch.as_tensor(found.places))[0]
        return Link(one, other, matrix, found.error * length, places)

    def _bar(self, pairs: Sequence[tuple[int, int]], what: str) -> Iterable[tuple[int, int]]:
        return tqdm(pairs, what, disable=not (self.progress and sys.stderr.isatty()), leave=False)


def keep(file: Path, found: Match | None) -> None:
    """Write what was found of a pair. InputError if it cannot be written."""
    state = {"format": FORMAT, "match": None if found is None else vars(found)}
    write_text(file, json.dumps(state, default=lambda array: array.tolist()) + "\n")


def kept_match(file: Path, ndim: int) -> Match | None:
    """What `keep` wrote. InputError for anything else."""
    state = saved.read(file, "a pair of tiles", {"format": str, "match": (None, MATCH)})
    if state["format"] != FORMAT:
        raise InputError(f"{file}: expected {FORMAT!r}, got {state['format']!r}")
    found = state["match"]
    if found is None:
        return None
    matrix, places = numbers("matrix", found["matrix"]), numbers("places", found["places"])
    known = None not in [found[name] for name in ("error", "chance", "score")]
    if matrix.shape != (ndim + 1, ndim + 1) or places.shape != (2**ndim + 1, ndim) or not known:
        raise InputError(f"{file}: expected a match in {ndim} dimensions")
    return Match(**{**found, "matrix": matrix, "places": places})


def _in_pixels(shift: np.ndarray, grid: Grid) -> np.ndarray:
    """A shift in world units, x first, in pixels of a grid, array order."""
    return np.linalg.solve(grid.world_from_index[:-1, :-1].numpy(), shift)[::-1]
