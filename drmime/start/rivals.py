"""Other places for a start that has been chosen: the score of every shift from it, how far it stands above them, and where
intensities agree better.

Candidates of a search are kept apart, so that two answers a few pixels from each other (a lattice, a part of the scene that
moves by itself, a pattern that belongs to the camera) come to one candidate. Here the resolution is that of the score's own
peak: another peak, however near, that is not joined to the chosen one by places of nearly as high a score, is another answer.
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
from drmime.start.propose.angle import GradientAngle
from drmime.start.propose.poses import rotations
from drmime.start.score import Reduced, correlation, moving_edges, paired_values

NEARLY = 0.7  # share of the chosen place's score; 0.6 to 0.8 doubt nearly the same real pairs (`experiments/README.md`)
PIXELS = 2**16  # of the level that is looked at, at most
# likewise for the peak ratio, by dimension: at 2**16 voxels right and wrong starts of heads mix (`experiments/README.md`)
RATIO_PIXELS = {2: 2**16, 3: 2**18}
LEAST_OVERLAP = 0.1  # of the most that any shift has
COVERED = 0.35  # of the most overlap that any shift has, which other places must have, as in a search
APART = 0.05  # of the longest side: shifts within it are no other place
TURNS = {2: 60.0, 3: 120.0}  # degrees between the rotations at which other places are looked at, by dimension
PEAK = 3  # pixels within which the chosen place's peak lies
FAR = 0.08  # of the longest side: shifts by which intensities are compared
SCENE = (1 / 32, 3 / 32)  # of the longest side: Gaussians between which a scene is looked at; patterns of pixels are finer
LINEAR = 0.7  # share of the variance that a linear map explains, from which intensities are those of one modality
BETTER = 1.5  # times less variance unexplained, or intensities do not contradict


@dataclass(frozen=True)
class Rival:
    """Another place that fits about as well."""

    share: float  # of the chosen place's score
    shift: Tensor  # shape: (D,), in the fixed image's world
    by: str  # "edges" or "intensities"


def rival(small: Reduced, matrix: Tensor) -> Rival | None:
    """The best other place by a shift of the fixed points before `matrix` (D+1, D+1); None where there is none."""
    return _by_edges(small, matrix) or _by_intensities(small, matrix)


def peak_ratio(small: Reduced, matrix: Tensor, turned: bool = True) -> float:
    """Agreement of edges at a transform by that at the best other place: elsewhere by a shift, or `turned` as well.

    It is the pair's own measure of chance, and means the same for images of any size. Known from the correlation of particle
    images (Keane and Adrian 1990, doi 10.1088/0957-0233/1/11/013). 0 where no edges agree; NaN where there is no other place.
    """
    level = _level(small, RATIO_PIXELS[small.fixed.levels[0].grid.ndim])
    grid = small.fixed.levels[level].grid
    score, overlap, zero = _maps(small, level, matrix)
    least, reach = COVERED * overlap.max(), max(PEAK, round(APART * max(grid.shape)))
    peak = score[_around(zero, PEAK)].max()
    others = np.where(overlap >= least, score, -np.inf)
    others[_around(zero, reach)] = -np.inf
    best = others.max()
    for rotation in rotations(grid.ndim, TURNS[grid.ndim])[1:] if turned else ():  # the first is none
        about = homogeneous(rotation, grid.centre) @ translation(-grid.centre)
        score, overlap, _ = _maps(small, level, matrix @ about)
        best = max(best, score[overlap >= least].max(initial=-np.inf))
    if peak <= 0:
        return 0.0
    return float(peak / best) if best > 0 else math.nan


def _level(small: Reduced, most: int) -> int:
    """The finest level of at most so many pixels, for a map of every shift."""
    sizes = [level.data[0, 0].numel() for level in small.fixed.levels]
    return next((number for number, size in enumerate(sizes) if size <= most), len(sizes) - 1)


def _maps(small: Reduced, level: int, matrix: Tensor) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Agreement of edges and overlap at every shift from a transform, and the entry of no shift."""
    fixed, canvas = small.fixed.levels[level], moving_edges(small, level, matrix)
    maps = GradientAngle()
    maps.begin(fixed, canvas, fixed.grid.shape, LEAST_OVERLAP)
    score, overlap = (part[0].numpy() for part in maps.maps(canvas))
    return score, overlap, [-first for first in maps.first]


def _around(place: Sequence[int], reach: int) -> tuple[slice, ...]:
    return tuple(slice(max(0, at - reach), at + reach + 1) for at in place)


def _by_edges(small: Reduced, matrix: Tensor) -> Rival | None:
    level = _level(small, PIXELS)
    grid = small.fixed.levels[level].grid
    score, overlap, zero = _maps(small, level, matrix)
    score = np.where(overlap >= LEAST_OVERLAP * overlap.max(), score, 0)
    near = _around(zero, PEAK)
    peak = score[near].max()
    if peak <= 0:
        return None
    own = [
        int(at) + part.start for at, part in zip(np.unravel_index(score[near].argmax(), score[near].shape), near, strict=True)
    ]
    regions, _ = ndimage.label(score >= NEARLY * peak, np.ones((3,) * score.ndim))
    others = np.where((regions > 0) & (regions != regions[tuple(own)]), score, 0)
    if not others.any():
        return None
    place = np.unravel_index(others.argmax(), others.shape)
    steps = torch.tensor([float(at - start) for at, start in zip(place, zero, strict=True)]).flip(0).double()
    return Rival(float(others.max() / peak), -grid.world_from_index[:-1, :-1] @ steps, "edges")


def _by_intensities(small: Reduced, matrix: Tensor) -> Rival | None:
    """Where images of one modality correlate far better: a camera's pattern agrees at one place, the scene at another."""
    fixed, moving = small.grays
    _, found, weight = paired_values(fixed, moving, matrix[None])
    shape = fixed.grid.shape
    weights = torch.ones(1, 1, *shape) if fixed.mask is None else fixed.mask
    here, there = (_between(pixels.reshape(1, 1, *shape))[0, 0] for pixels in (fixed.data, found.mT))
    inside = weight.view(shape)
    reach = max(1, round(FAR * max(shape)))
    steps = [range(-min(reach, length // 4), min(reach, length // 4) + 1) for length in shape]
    best, at_zero, shift = 0.0, 0.0, (0,) * len(shape)
    for step in np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, len(shape)).tolist():
        mine = tuple(slice(max(0, -s), length - max(0, s)) for s, length in zip(step, shape, strict=True))
        its = tuple(slice(max(0, s), length + min(0, s)) for s, length in zip(step, shape, strict=True))
        parts = here[mine], there[its], weights[0, 0][mine] * inside[its]
        value = float(correlation(*(part.reshape(1, -1) for part in parts)) ** 2)  # the share of the variance explained
        at_zero = value if not any(step) else at_zero
        if value > best:
            best, shift = value, tuple(step)
    if best < LINEAR or 1 - at_zero < BETTER * (1 - best) or max(map(abs, shift)) < 2:
        return None
    steps_back = torch.tensor(shift[::-1], dtype=torch.float64)
    return Rival(best / max(at_zero, 1e-6), fixed.grid.world_from_index[:-1, :-1] @ steps_back, "intensities")


def _between(pixels: Tensor) -> Tensor:
    """What of an image (1, 1, *shape) is finer than one Gaussian and coarser than another."""
    fine, coarse = (gaussian(pixels, share * max(pixels.shape[2:])) for share in SCENE)
    return fine - coarse
