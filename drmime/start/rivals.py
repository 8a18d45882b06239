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

from drmime.geometry.grid import Grid
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


def rival(small: Reduced, transforms: Sequence[Transform]) -> list[Rival | None]:
    """The best other place of each pair, reached by a shift of the fixed points before its transform; None if there is none."""
    found = by_edges(small, transforms)
    missing = [number for number, one in enumerate(found) if one is None]
    if missing:
        some = Reduced.joined([small.pair(number) for number in missing])
        for number, one in zip(missing, by_intensities(some, [transforms[number] for number in missing]), strict=True):
            found[number] = one
    return found


def peak_ratio(small: Reduced, transforms: Sequence[Transform], turned: bool = True) -> list[float]:
    """Agreement of edges at the transform of each pair, divided by that at the best other place.

    Other places are shifts of at least `APART`, and rotations with any shift if `turned`. They show which agreement is due to
    chance for this pair, so the ratio means the same for images of any size. Such a ratio is known from the correlation of
    particle images (Keane and Adrian 1990, doi 10.1088/0957-0233/1/11/013). 0 if no edges agree; NaN without other places.
    """
    level = _level(small, RATIO_PIXELS[small.fixed.levels[0].grid.ndim])
    grid = small.fixed.levels[level].grid
    score, overlap, zero = _maps(small, level, transforms)
    least, reach = COVERED * _largest(overlap), max(PEAK, round(APART * max(grid.shape)))
    peak = _largest(_around(score, zero, PEAK))
    others = score.masked_fill_(overlap < least, -math.inf)
    _around(others, zero, reach).fill_(-math.inf)
    best = _largest(others)
    for rotation in rotations(grid.ndim, TURNS[grid.ndim])[1:] if turned else ():  # the first is the identity
        about = MatrixTransform(homogeneous(rotation, grid.centre) @ translation(-grid.centre))
        score, overlap, _ = _maps(small, level, [transform @ about for transform in transforms])
        best = torch.maximum(best, _largest(score.masked_fill_(overlap < least, -math.inf)))
    pairs = torch.stack([peak, best]).flatten(1).mT.tolist()
    return [0.0 if own <= 0 else own / other if other > 0 else math.nan for own, other in pairs]


def _level(small: Reduced, most: int) -> int:
    """The number of the finest level with at most `most` pixels, else the coarsest."""
    sizes = [level.data[0, 0].numel() for level in small.fixed.levels]
    return next((number for number, size in enumerate(sizes) if size <= most), len(sizes) - 1)


def _maps(small: Reduced, level: int, transforms: Sequence[Transform]) -> tuple[Tensor, Tensor, list[int]]:
    """Agreement of edges and overlap at every shift from the transforms, and the entry (array order) of the zero shift.

    Both are new tensors (B, *lengths).
    """
    maps = small.maps(level, LEAST_OVERLAP)
    score, overlap = maps.maps(moving_edges(small, level, transforms))
    return score, overlap, [-first for first in maps.first]


def _largest(maps: Tensor) -> Tensor:
    """The largest entry of each map (B, *lengths), which can be compared with it. shape: (B, 1, …)"""
    return maps.amax(tuple(range(1, maps.ndim)), keepdim=True)


def around(place: Sequence[int], reach: int) -> tuple[slice, ...]:
    """The part of an array within `reach` entries of a place along each axis."""
    return tuple(slice(max(0, at - reach), at + reach + 1) for at in place)


def _around(maps: Tensor, place: Sequence[int], reach: int) -> Tensor:
    """That part of each map (B, *lengths), a view."""
    return maps[(slice(None), *around(place, reach))]


def by_edges(small: Reduced, transforms: Sequence[Transform]) -> list[Rival | None]:
    """The highest other peak of each pair's agreement of edges, if it has at least `RIVAL_SHARE` of the chosen one's score."""
    level = _level(small, PIXELS)
    score, overlap, zero = _maps(small, level, transforms)
    scores = score.masked_fill_(overlap < LEAST_OVERLAP * _largest(overlap), 0).cpu().numpy()
    return [_other_peak(one, zero, small.fixed.levels[level].grid) for one in scores]


def _other_peak(score: np.ndarray, zero: Sequence[int], grid: Grid) -> Rival | None:
    """`by_edges` of one pair: its scores at all shifts, 0 where the overlap is too small, and the entry of the zero shift."""
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


def by_intensities(small: Reduced, transforms: Sequence[Transform]) -> list[Rival | None]:
    """A shift of each pair at which images of one modality correlate far better.

    There the scene agrees, while edges agree at the chosen place if a fixed pattern of the camera dominates them.
    """
    fixed, moving = small.grays
    canvas = moved(fixed, moving, transforms)
    masks = torch.cat([fixed.valid, canvas.valid], 1)
    scenes = _band_pass(torch.cat([fixed.data, canvas.data], 1)) * masks
    pairs = zip(scenes.cpu().numpy(), (masks > 0).cpu().numpy(), strict=True)
    return [_other_correlation(both, seen, fixed.grid) for both, seen in pairs]


def _other_correlation(scenes: np.ndarray, masks: np.ndarray, grid: Grid) -> Rival | None:
    """`by_intensities` of one pair: both images on the fixed grid, band-passed, and their masks. shape: (2, *shape) each"""
    shape = grid.shape
    reach = [min(max(1, round(FAR * max(shape))), length // 4) for length in shape]
    near = tuple(slice(length - 1 - far, length + far) for length, far in zip(shape, reach, strict=True))
    explained = correlations(*scenes, *masks)[0][near] ** 2  # the share of the variance explained
    place = np.unravel_index(explained.argmax(), explained.shape)
    best, at_zero = float(explained[place]), float(explained[tuple(reach)])
    shift = [int(at) - far for at, far in zip(place, reach, strict=True)]
    if best < LINEAR or 1 - at_zero < BETTER * (1 - best) or max(map(abs, shift)) < 2:
        return None
    steps_back = torch.tensor(shift[::-1], dtype=torch.float64)
    return Rival(best / max(at_zero, best / MOST), grid.world_from_index[:-1, :-1] @ steps_back, "intensities")


def _band_pass(pixels: Tensor) -> Tensor:
    """Images (B, C, *shape) smoothed by the finer Gaussian of `BAND`, less that smoothed by the coarser one."""
    fine, coarse = (gaussian(pixels, share * max(pixels.shape[2:])) for share in BAND)
    return fine - coarse
