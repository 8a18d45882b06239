"""Other places that fit about as well as a chosen start: by the score at every shift from it (`peak_ratio` compares them), or
because intensities correlate better there.

A search returns only candidates that are well apart, so it cannot separate two poses a few pixels from each other, as with a
lattice, a part of the scene that moves by itself, or a fixed pattern of the camera. Here every peak of the score counts as
another place, however near, unless shifts with nearly as high a score connect it to the chosen one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from drmime.geometry.matrices import homogeneous, translation
from drmime.image.orientation import gaussian
from drmime.shifts.surface import correlations
from drmime.start.propose.poses import rotations
from drmime.start.score import Reduced, moved, moving_edges
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform

RIVAL_SHARE = 0.7  # of the chosen place's score; 0.6 to 0.8 doubt nearly the same real pairs (`experiments/README.md`)
PIXELS = 2**16  # most pixels of the level on which shifts are scored
# likewise for the peak ratio, by dimension: at 2**16 voxels it does not separate right from wrong starts of heads
# (`experiments/README.md`)
RATIO_PIXELS = {2: 2**16, 3: 2**18}
LEAST_OVERLAP = 0.1  # of the largest overlap of all shifts: shifts with less are ignored
COVERED = 0.35  # likewise for the peak ratio; as in a search
APART = 0.05  # of the longest side: smaller shifts are the same place
TURNS = {2: 60.0, 3: 120.0}  # degrees between the rotations at which other places are scored, by dimension
PEAK = 3  # pixels; the peak of the chosen place is searched within this distance
FAR = 0.08  # of the longest side: largest shift at which intensities are compared
BAND = (1 / 32, 3 / 32)  # of the longest side: Gaussians of the band-pass that keeps the scene; pixel patterns are finer
LINEAR = 0.7  # share of the variance that a linear map must explain for intensities to be those of one modality
MOST = 10.0  # largest share of a rival by intensities; where they hardly correlate at the chosen place it would be any number
BETTER = 1.5  # factor by which the unexplained variance must be smaller at another shift for that to be a rival


@dataclass(frozen=True)
class Rival:
    """Another place that fits about as well."""

    share: float  # its score, divided by that of the chosen place
    shift: Tensor  # shape: (D,), in the fixed image's world
    by: str  # "edges" or "intensities"


def rival(small: Reduced, transform: Transform) -> Rival | None:
    """The best other place, reached by a shift of the fixed points before `transform`; None if there is none."""
    return by_edges(small, transform) or by_intensities(small, transform)


def peak_ratio(small: Reduced, transform: Transform, turned: bool = True) -> float:
    """Agreement of edges at a transform, divided by that at the best other place.

    Other places are shifts of at least `APART`, and rotations with any shift if `turned`. They show which agreement is due to
    chance for this pair, so the ratio means the same for images of any size. Such a ratio is known from the correlation of
    particle images (Keane and Adrian 1990, doi 10.1088/0957-0233/1/11/013). 0 if no edges agree; NaN without other places.
    """
    level = _level(small, RATIO_PIXELS[small.fixed.levels[0].grid.ndim])
    grid = small.fixed.levels[level].grid
    score, overlap, zero = _maps(small, level, transform)
    least, reach = COVERED * overlap.max(), max(PEAK, round(APART * max(grid.shape)))
    peak = score[around(zero, PEAK)].max()
    others = np.where(overlap >= least, score, -np.inf)
    others[around(zero, reach)] = -np.inf
    best = others.max()
    for rotation in rotations(grid.ndim, TURNS[grid.ndim])[1:] if turned else ():  # the first is the identity
        about = MatrixTransform(homogeneous(rotation, grid.centre) @ translation(-grid.centre))
        score, overlap, _ = _maps(small, level, transform @ about)
        best = max(best, score[overlap >= least].max(initial=-np.inf))
    if peak <= 0:
        return 0.0
    return float(peak / best) if best > 0 else math.nan


def _level(small: Reduced, most: int) -> int:
    """The number of the finest level with at most `most` pixels, else the coarsest."""
    sizes = [level.data[0, 0].numel() for level in small.fixed.levels]
    return next((number for number, size in enumerate(sizes) if size <= most), len(sizes) - 1)


def _maps(small: Reduced, level: int, transform: Transform) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Agreement of edges and overlap at every shift from a transform, and the entry (array order) of the zero shift."""
    canvas = moving_edges(small, level, transform)
    maps = small.maps(level, LEAST_OVERLAP)
    score, overlap = (part[0].numpy() for part in maps.maps(canvas))
    return score, overlap, [-first for first in maps.first]


def around(place: Sequence[int], reach: int) -> tuple[slice, ...]:
    """The part of an array within `reach` entries of a place along each axis."""
    return tuple(slice(max(0, at - reach), at + reach + 1) for at in place)


def by_edges(small: Reduced, transform: Transform) -> Rival | None:
    """The highest other peak of the agreement of edges, if it has at least `RIVAL_SHARE` of the chosen one's score."""
    level = _level(small, PIXELS)
    grid = small.fixed.levels[level].grid
    score, overlap, zero = _maps(small, level, transform)
    score = np.where(overlap >= LEAST_OVERLAP * overlap.max(), score, 0)
    near = around(zero, PEAK)
    peak = score[near].max()
    if peak <= 0:
        return None
    own = [
        int(at) + part.start for at, part in zip(np.unravel_index(score[near].argmax(), score[near].shape), near, strict=True)
    ]
    regions, _ = ndimage.label(score >= RIVAL_SHARE * peak, np.ones((3,) * score.ndim))
    others = np.where((regions > 0) & (regions != regions[tuple(own)]), score, 0)
    if not others.any():
        return None
    place = np.unravel_index(others.argmax(), others.shape)
    steps = torch.tensor([float(at - start) for at, start in zip(place, zero, strict=True)]).flip(0).double()
    return Rival(float(others.max() / peak), -grid.world_from_index[:-1, :-1] @ steps, "edges")


def by_intensities(small: Reduced, transform: Transform) -> Rival | None:
    """A shift at which images of one modality correlate far better.

    There the scene agrees, while edges agree at the chosen place if a fixed pattern of the camera dominates them.
    """
    fixed, moving = small.grays
    canvas, shape = moved(fixed, moving, transform), fixed.grid.shape
    here, there = ((_band_pass(image.data) * image.valid)[0, 0].numpy() for image in (fixed, canvas))
    masks = ((image.valid[0, 0] > 0).numpy() for image in (fixed, canvas))
    reach = [min(max(1, round(FAR * max(shape))), length // 4) for length in shape]
    near = tuple(slice(length - 1 - far, length + far) for length, far in zip(shape, reach, strict=True))
    explained = correlations(here, there, *masks)[0][near] ** 2  # the share of the variance explained
    place = np.unravel_index(explained.argmax(), explained.shape)
    best, at_zero = float(explained[place]), float(explained[tuple(reach)])
    shift = [int(at) - far for at, far in zip(place, reach, strict=True)]
    if best < LINEAR or 1 - at_zero < BETTER * (1 - best) or max(map(abs, shift)) < 2:
        return None
    steps_back = torch.tensor(shift[::-1], dtype=torch.float64)
    return Rival(best / max(at_zero, best / MOST), fixed.grid.world_from_index[:-1, :-1] @ steps_back, "intensities")


def _band_pass(pixels: Tensor) -> Tensor:
    """An image (1, 1, *shape) smoothed by the finer Gaussian of `BAND`, less that smoothed by the coarser one."""
    fine, coarse = (gaussian(pixels, share * max(pixels.shape[2:])) for share in BAND)
    return fine - coarse
