"""Whether a transform is right everywhere in the image: blocks of both images are compared over small shifts.

Under the right transform most blocks agree best without a further shift. A wrong transform can have a high score over the whole
image if strong edges happen to coincide; the best shifts of its blocks are then distributed as by chance. The optimiser uses
only sums over the image, so this is independent evidence (`experiments/README.md` has the figures).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.geometry.grid import unravel
from drmime.image.image import Image
from drmime.start.score import Reduced, moving_edges
from drmime.transform.base import Transform

BLOCKS = {2: 8, 3: 4}  # along the longest side, by dimension
SMALLEST = 400  # least pixels of a block: smaller blocks agree elsewhere too often under the right transform
REACH = 0.06  # of the diagonal: the largest shift along each axis
NEAR = 0.012  # of the diagonal: a block agrees in place if its best shift is not longer
COVERED = 0.5  # share of a block's pixels that must be valid in both images
CLEAR = 0.1  # edge energy that a block must have, as a share of the mean over blocks
FEWEST = 12  # least number of blocks for a meaningful share
# a block's clarity from which it has weight, and from which it has all of it. The best of all shifts of unrelated blocks has a
# clarity of 1.9 to 3.7 (80 %), that of right ones 2.1 to 7.4
CLARITY = (2.0, 3.0)
LEAST_WEIGHT = 0.05  # of a block that is less clear
MISSING = 3.0  # weight of blocks out of place that is added, so that few blocks are no strong evidence; 1 to 3 separate alike
ROUNDS = 20  # of the fit of an affine map to the shifts
VALUES = 2**26  # most values of windows that are correlated at once, which takes about eight times their memory
RIDGE = 1e-3  # added to the mean squares of coordinates (shares of the diagonal): few blocks fit a shift only


@dataclass(frozen=True)
class Residuals:
    """The shifts at which blocks of the fixed image agree best with the warped moving image."""

    shifts: Tensor  # shape: (N, D), pixels of the level compared, in array order
    diagonal: float  # of the fixed image, in pixels of that level
    centres: Tensor  # shape: (N, D), of the blocks; pixels of that level, in array order
    clarity: Tensor  # shape: (N,), height of the best agreement above the mean over all shifts, in standard deviations
    side: int  # of a block, pixels
    reach: int  # largest shift along each axis, pixels

    @property
    def near(self) -> float:
        """The share of blocks that agree best in place; NaN for too few blocks. By chance about 0.03 in 2-D, 0.003 in 3-D."""
        if len(self.shifts) < FEWEST:
            return math.nan
        return float(self.in_place.double().mean())

    @property
    def weighted(self) -> float:
        """The same with each block weighted by how clear its best shift is; few or unclear blocks are brought near 0."""
        return float((self.weights * self.in_place).sum() / (self.weights.sum() + MISSING))

    @property
    def mean_shift(self) -> float:
        """The mean length of the shifts, weighted by `weights`; NaN without blocks."""
        return float((self.weights * self.shifts.norm(dim=-1)).sum() / self.weights.sum())

    @property
    def weights(self) -> Tensor:
        """The weights of the blocks by their clarity, up to 1. shape: (N,)"""
        low, high = CLARITY
        return ((self.clarity - low) / (high - low)).clamp(LEAST_WEIGHT, 1)

    @property
    def in_place(self) -> Tensor:
        """Whether each block agrees best without a shift, or nearly so. shape: (N,), bool"""
        return self.shifts.norm(dim=-1) <= NEAR * self.diagonal

    def smooth(self) -> Tensor:
        """Shifts (N, D) of the blocks by the affine map that fits most of them: reweighted least squares, begun at no shift."""
        points = np.pad(self.centres.double().numpy() / self.diagonal, [(0, 0), (0, 1)], constant_values=1.0)
        shifts, weights = self.shifts.double().numpy() / self.diagonal, self.weights.double().numpy()[:, None]
        ridge = np.diag([RIDGE] * shifts.shape[1] + [1e-9])
        fitted = np.zeros_like(shifts)
        for _ in range(ROUNDS if len(shifts) else 0):
            off = np.linalg.norm(shifts - fitted, axis=-1, keepdims=True) / NEAR
            share = weights / (1 + off**2) ** 2
            inner = points.T @ (share * points) + share.sum() * ridge
            fitted = points @ np.linalg.solve(inner, points.T @ (share * shifts))
        return torch.as_tensor(fitted * self.diagonal)


def residuals(small: Reduced, transforms: Sequence[Transform], level: int = 0) -> list[Residuals]:
    """The residual shifts of each of B pairs under its transform, on a level of the reduced pairs."""
    fixed = small.fixed.levels[level]
    here, there = _masked(fixed), _masked(moving_edges(small, level, transforms))
    shape, ndim = fixed.grid.shape, fixed.grid.ndim
    diagonal = math.hypot(*shape)
    reach, side = max(2, round(REACH * diagonal)), math.ceil(max(max(shape) / BLOCKS[ndim], SMALLEST ** (1 / ndim)))
    blocks, windows = _cut(here, side, 0), _cut(there, side, reach)
    chosen = _chosen(blocks, _cut(there[:, -1:], side, 0)).cpu()
    pairs, numbers = chosen.nonzero(as_tuple=True)  # in the order of the pairs
    counts = [-(-length // side) for length in shape]
    places = unravel(numbers, counts)
    found = _best_shifts(blocks, windows, [pairs, *places.unbind(1)]).cpu()
    centres = (places * side + (side - 1) / 2).float()
    each = chosen.sum(1).tolist()
    parts = (part.split(each) for part in (found[:, :-1], centres, found[:, -1]))
    return [Residuals(shifts, diagonal, middles, clear, side, reach) for shifts, middles, clear in zip(*parts, strict=True)]


def _chosen(blocks: Tensor, shown: Tensor) -> Tensor:
    """The blocks that are compared: those with enough valid pixels in both images and enough edge energy. shape: (B, N), bool

    `blocks`: as of `_cut`, the mask as last channel. `shown`: the mask of the moving image, cut into the same blocks.
    """
    ndim = blocks.ndim // 2 - 1
    edges, mask = blocks.flatten(1, ndim).split([blocks.shape[ndim + 1] - 1, 1], 2)
    least = COVERED * math.prod(mask.shape[3:])
    energy = edges.square().flatten(2).sum(2)
    enough = (mask.flatten(2).sum(2) >= least) & ((mask * shown.flatten(1, ndim)).flatten(2).sum(2) >= least)
    return enough & (energy >= CLEAR * energy.mean(1, keepdim=True))


def _best_shifts(blocks: Tensor, windows: Tensor, chosen: Sequence[Tensor]) -> Tensor:
    """The shift at which each block agrees best with its window, pixels, and how clearly. shape: (M, D + 1)

    `blocks`, `windows`: as of `_cut`. `chosen`: the pairs and places of M blocks among them, (M,) each.
    """
    rows = [part.to(blocks.device) for part in chosen]
    ndim = len(rows) - 1
    at_once = max(1, VALUES // math.prod(windows.shape[ndim + 1 :]))
    found = [blocks.new_zeros(0, ndim + 1)]
    for first in range(0, len(rows[0]), at_once):
        some = tuple(part[first : first + at_once] for part in rows)
        scores = _scores(blocks[some], windows[some])
        best = unravel(scores.flatten(1).argmax(1), scores.shape[1:])
        shifts = best - scores.shape[1] // 2 + _between(scores, best)  # no shift is in the middle
        found.append(torch.cat([shifts, _clarity(scores.flatten(1))[:, None]], 1))
    return torch.cat(found)


def _scores(blocks: Tensor, windows: Tensor) -> Tensor:
    """Agreement of blocks with windows by the root of what chance gives, at each shift; -inf with few pixels. (M, *shifts)"""
    edges, others, pixels, mask = blocks[:, :-1], windows[:, :-1], blocks[:, -1:], windows[:, -1:]
    agreement = _correlated(edges, others)
    strengths = (part.square().sum(1, keepdim=True) for part in (edges, others))
    chance = _correlated(*strengths) / edges.shape[1]
    count = pixels.flatten(1).sum(1).view(-1, *[1] * (blocks.ndim - 2))
    covered = _correlated(pixels, mask).round() >= COVERED * count  # whole numbers: an FFT of other blocks rounds otherwise
    return torch.where(covered, agreement / (chance + 1e-3).sqrt(), -math.inf)


def _between(scores: Tensor, best: Tensor) -> Tensor:
    """The maximum of the parabola through the best entry and its neighbours, along each axis. shape: (N, D), in -0.5 … 0.5"""
    rows, offsets = torch.arange(len(best), device=best.device), []
    for axis, length in enumerate(scores.shape[1:]):
        step = torch.zeros_like(best)
        step[:, axis] = 1
        low, middle, high = (scores[(rows, *place.clamp(0, length - 1).T)] for place in (best - step, best, best + step))
        bend = low - 2 * middle + high
        offset = (low - high) / (2 * bend)
        inner = (best[:, axis] > 0) & (best[:, axis] < length - 1) & low.isfinite() & high.isfinite()
        offsets.append(torch.where((bend < 0) & inner, offset, 0).clamp(-0.5, 0.5))
    return torch.stack(offsets, 1)


def _clarity(scores: Tensor) -> Tensor:
    """How far the highest score of each row lies above the row's mean, in its standard deviations. (N, shifts) -> (N,)"""
    finite = scores.isfinite()
    count = finite.sum(1).clamp(min=1)
    mean = scores.where(finite, 0).sum(1) / count
    spread = ((scores - mean[:, None]).where(finite, 0).square().sum(1) / count).sqrt()
    return (scores.amax(1) - mean) / spread.clamp(min=1e-6)


def _masked(edges: Image) -> Tensor:
    """Orientation tensors without their strength, 0 outside the mask, and the mask as last channel. shape: (B, C, *shape)"""
    return torch.cat([edges.data[:, :-1] * edges.valid, edges.valid], 1)


def _cut(data: Tensor, side: int, margin: int) -> Tensor:
    """Blocks of `side` pixels that cover (B, C, *shape), each with a margin, 0 outside the image. (B, *counts, C, *sides)

    A view of the padded images: pixels in several margins are not copied.
    """
    shape = data.shape[2:]
    parts = F.pad(data, [end for length in reversed(shape) for end in (margin, -length % side + margin)])
    for axis in range(2, len(shape) + 2):
        parts = parts.unfold(axis, side + 2 * margin, side)
    return parts.movedim(1, len(shape) + 1)


def _correlated(blocks: Tensor, windows: Tensor) -> Tensor:
    """Cross-correlation of blocks (N, C, *sides) with windows (N, C, *longer sides), summed over C. shape: (N, *places)"""
    sides, longer = blocks.shape[2:], windows.shape[2:]
    axes = tuple(range(1, 1 + len(sides)))
    spectra = torch.fft.rfftn(windows, longer, tuple(axis + 1 for axis in axes))
    spectra = (spectra * torch.fft.rfftn(blocks, longer, tuple(axis + 1 for axis in axes)).conj()).sum(1)
    places = tuple(slice(0, long - side + 1) for side, long in zip(sides, longer, strict=True))
    return torch.fft.irfftn(spectra, longer, axes)[(slice(None), *places)]
