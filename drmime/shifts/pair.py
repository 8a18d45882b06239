"""The map between two images of one modality that differ by a shift and a small linear motion, if there is evidence for one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.shifts.contrast import Level, flattened, levels_of
from drmime.shifts.refine import Refined, refined, scale_of_level
from drmime.shifts.surface import Peak, best_shifts, evidence

CANDIDATES = 4  # highest peaks that are refined; 1, 2, 4: 467, 468, 468 right links, 3, 2, 2 wrong ones
TRANSFORMS = ("translation", "rigid", "similarity", "affine")  # that maps between two images can be limited to
HALVABLE = 32  # pixels: an image is halved while its shortest side keeps as many


@dataclass(frozen=True)
class Match:
    """The map between two images, and the evidence for it."""

    matrix: np.ndarray  # moving_from_fixed, pixels, x first. shape: (D+1, D+1), float64
    error: float  # expected root mean square over `places`, pixels
    chance: float  # expected number of peaks as high, if nothing belongs together
    score: float  # correlation of local contrasts in the overlap
    pixels: int  # in the overlap
    places: np.ndarray  # corners and centre of the overlap, pixels of the fixed image, x first. shape: (2**D + 1, D)


class Prepared:
    """An image in the levels that comparisons need.

    Args:
        data: (*shape).
        mask: valid pixels, (*shape), or None for all.
        count: levels; images that are compared have as many.
    """

    def __init__(self, data: np.ndarray, mask: np.ndarray | None, count: int) -> None:
        self.levels: Sequence[Level] = levels_of(data, mask, count)
        self.flat = flattened(self.levels[-1])

    @property
    def factor(self) -> int:
        """How many pixels a pixel of the coarsest level is long."""
        return int(2 ** (len(self.levels) - 1))

    @property
    def coarse(self) -> Level:
        return self.levels[-1]


def levels_for(shapes: Iterable[Sequence[int]], side: int) -> int:
    """The number of levels with which the coarsest of images of these shapes has at most `side` pixels along an axis.

    Fewer, if the shortest axis of an image would have less than `HALVABLE` pixels.
    """
    sizes = list(shapes)
    longest, shortest = max(map(max, sizes)), min(map(min, sizes))
    count = 1
    while longest > side * 2 ** (count - 1) and shortest >= HALVABLE * 2**count:
        count += 1
    return count


def pixel_basis(generators: Mapping[str, Tensor], grid: Grid) -> np.ndarray:
    """Generators in the frame of a grid, (D+1, D+1) each, as generators in its pixels that move its edge by a pixel. (K, …)"""
    pixels = grid.index_from_world @ grid.world_from_frame
    moves = pixels @ torch.stack(list(generators.values())) @ torch.linalg.inv(pixels)
    return moves.numpy() / float(grid.size.max() / 2)


def peaks(fixed: Prepared, moving: Prepared, near: Any = None, reach: Any = np.inf, count: int = CANDIDATES) -> list[Peak]:
    """`best_shifts` of the coarsest levels; `near` and `reach` in pixels of the finest level, array order."""
    factor = fixed.factor
    near = None if near is None else np.asarray(near) / factor
    wide = np.broadcast_to(np.maximum(np.asarray(reach) / factor, 1.0), fixed.flat.ndim).tolist()
    return best_shifts(fixed.flat, moving.flat, fixed.coarse.mask, moving.coarse.mask, near, wide, count)


def match(
    fixed: Prepared,
    moving: Prepared,
    basis: np.ndarray,
    most_chance: float,
    near: Any = None,
    reach: Any = np.inf,
    enough: float = 0.0,
) -> Match | None:
    """The map between two images.

    Args:
        fixed, moving: with as many levels.
        basis: generators (K, D+1, D+1) of the maps that are allowed, pixels, about the fixed image's centre, x first.
        most_chance: largest chance of a peak that is believed.
        near, reach: only shifts within `reach` pixels of `near` along each axis are looked at, both in array order.
        enough: expected error in pixels at which no finer level is looked at.

    Returns:
        of the highest peaks, each refined, the one with most evidence; None if chance explains it or it has no optimum.
    """
    best: Match | None = None
    height = -np.inf
    for peak in peaks(fixed, moving, near, reach):
        if peak.chance > most_chance:
            continue
        found = _fitted(fixed, moving, peak, basis, enough)
        if found is not None and (told := float(evidence(found.score, found.pixels))) > height:
            best, height = _matched(found, peak), told
    return best


def _fitted(fixed: Prepared, moving: Prepared, peak: Peak, basis: np.ndarray, enough: float) -> Refined | None:
    """The map near a peak: first a shift, then all that the basis allows."""
    start = _start(peak, fixed.factor)
    linear = basis[:, :-1, :-1].any((1, 2))
    shift = refined(fixed.levels, moving.levels, start, basis[~linear], np.inf if linear.any() else enough)
    if shift is None or not linear.any():
        return shift
    return refined(fixed.levels, moving.levels, shift.matrix, basis, enough)


def _matched(found: Refined, peak: Peak) -> Match:
    return Match(found.matrix, found.error, peak.chance, found.score, found.pixels, found.places)


def _start(peak: Peak, factor: int) -> np.ndarray:
    """The map of a whole-pixel shift at the coarsest level, in pixels of the finest."""
    shift = np.eye(len(peak.shift) + 1)
    shift[:-1, -1] = peak.shift[::-1]
    fine = scale_of_level(factor, len(peak.shift))
    return fine @ shift @ np.linalg.inv(fine)
