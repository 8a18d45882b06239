"""The map between two images of one modality that differ by a shift and a small linear motion, if there is evidence for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drmime.shifts.contrast import Level, flattened, levels_of
from drmime.shifts.refine import Refined, refined, scale_of_level
from drmime.shifts.surface import Peak, best_shifts, evidence

CANDIDATES = 4  # highest peaks that are refined; 3 to 8 find as many
HALVABLE = 32  # pixels: an image is halved while its shortest side keeps as many


@dataclass(frozen=True)
class Match:
    """The map between two images, and the evidence for it."""

    matrix: np.ndarray  # moving_from_fixed, pixels, x first. shape: (D+1, D+1), float64
    error: float  # expected root mean square over the corners and the centre of the fixed image, pixels
    chance: float  # expected number of peaks as high, if nothing belongs together
    score: float  # correlation of local contrasts in the overlap
    pixels: int  # in the overlap


class Prepared:
    """An image in the levels that comparisons need.

    Args:
        data: (*shape).
        mask: valid pixels, (*shape), or None for all.
        side: most pixels along the longest side of the level at which all shifts are compared.
    """

    def __init__(self, data: np.ndarray, mask: np.ndarray | None, side: int) -> None:
        count = 1
        while max(data.shape) > side * 2 ** (count - 1) and min(data.shape) >= HALVABLE * 2**count:
            count += 1
        self.levels: Sequence[Level] = levels_of(data, mask, count)
        self.flat = flattened(self.levels[-1])

    @property
    def factor(self) -> int:
        """How many pixels a pixel of the coarsest level is long."""
        return int(2 ** (len(self.levels) - 1))

    @property
    def coarse(self) -> Level:
        return self.levels[-1]


def peaks(fixed: Prepared, moving: Prepared, near: Any = None, reach: Any = np.inf, count: int = CANDIDATES) -> list[Peak]:
    """`best_shifts` of the coarsest levels; `near` and `reach` in pixels of the finest level, array order."""
    factor = fixed.factor
    near = None if near is None else np.asarray(near) / factor
    wide = np.maximum(np.asarray(reach) / factor, 1.0)
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
        found = refined(fixed.levels, moving.levels, _start(peak, fixed.factor), basis, enough)
        if found is not None and (told := float(evidence(found.score, found.pixels))) > height:
            best, height = _matched(found, peak), told
    return best


def _matched(found: Refined, peak: Peak) -> Match:
    return Match(found.matrix, found.error, peak.chance, found.score, found.pixels)


def _start(peak: Peak, factor: int) -> np.ndarray:
    """The map of a whole-pixel shift at the coarsest level, in pixels of the finest."""
    shift = np.eye(len(peak.shift) + 1)
    shift[:-1, -1] = peak.shift[::-1]
    fine = scale_of_level(factor, len(peak.shift))
    return fine @ shift @ np.linalg.inv(fine)
