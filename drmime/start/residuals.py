"""Whether a transform is right everywhere in the image: blocks of both images are compared over small shifts.

Under the right transform most blocks agree best without a further shift. A wrong transform can have a high score over the whole
image if strong edges happen to coincide; the best shifts of its blocks are then distributed as by chance. The optimiser uses
only sums over the image, so this is independent evidence (`experiments/README.md` has the figures).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.geometry.grid import unravel
from drmime.image.image import Image
from drmime.start.score import Reduced, moving_edges

BLOCKS = {2: 8, 3: 4}  # along the longest side, by dimension
SMALLEST = 400  # least pixels of a block: smaller blocks agree elsewhere too often under the right transform
REACH = 0.06  # of the diagonal: the largest shift along each axis
NEAR = 0.012  # of the diagonal: a block agrees in place if its best shift is not longer
COVERED = 0.5  # share of a block's pixels that must be valid in both images
CLEAR = 0.1  # edge energy that a block must have, as a share of the mean over blocks
FEWEST = 12  # least number of blocks for a meaningful share


@dataclass(frozen=True)
class Residuals:
    """The shifts at which blocks of the fixed image agree best with the warped moving image."""

    shifts: Tensor  # shape: (N, D), pixels of the level compared, in array order
    diagonal: float  # of the fixed image, in pixels of that level

    @property
    def near(self) -> float:
        """The share of blocks that agree best in place; NaN for too few blocks. By chance about 0.03 in 2-D, 0.003 in 3-D."""
        if len(self.shifts) < FEWEST:
            return math.nan
        return float((self.shifts.norm(dim=-1) <= NEAR * self.diagonal).double().mean())


def residuals(small: Reduced, matrix: Tensor) -> Residuals:
    """The residual shifts under a transform (D+1, D+1), moving_from_fixed, on the finest level of a reduced pair."""
    fixed = small.fixed.levels[0]
    canvas = moving_edges(small, 0, matrix)
    shape, ndim = fixed.grid.shape, fixed.grid.ndim
    diagonal = math.hypot(*shape)
    reach, side = max(2, round(REACH * diagonal)), math.ceil(max(max(shape) / BLOCKS[ndim], SMALLEST ** (1 / ndim)))
    here, there = _masked(fixed), _masked(canvas)
    blocks, windows = _cut(here, side, 0), _cut(there, side, reach)
    strength = blocks[:, :-1].square().sum(1, keepdim=True)
    pixels, shown = blocks[:, -1:], _cut(there[:, -1:], side, 0)
    full = side**ndim
    energy = strength.flatten(1).sum(1)
    chosen = (pixels.flatten(1).sum(1) >= COVERED * full) & ((pixels * shown).flatten(1).sum(1) >= COVERED * full)
    chosen &= energy >= CLEAR * energy.mean()
    blocks, windows, strength, pixels = (part[chosen] for part in (blocks, windows, strength, pixels))
    if not len(blocks):
        return Residuals(torch.zeros(0, ndim), diagonal)
    agreement = _correlated(blocks[:, :-1], windows[:, :-1])
    chance = _correlated(strength, windows[:, :-1].square().sum(1, keepdim=True)) / (here.shape[1] - 1)
    covered = _correlated(pixels, windows[:, -1:]) >= COVERED * pixels.flatten(1).sum(1).view(-1, *[1] * ndim)
    score = torch.where(covered, agreement / (chance + 1e-3).sqrt(), -math.inf)
    best = unravel(score.flatten(1).argmax(1), score.shape[1:])
    return Residuals((best - reach).float(), diagonal)


def _masked(edges: Image) -> Tensor:
    """Orientation tensors without their strength, 0 outside the mask, and the mask as last channel. shape: (1, C, *shape)"""
    mask = torch.ones_like(edges.data[:, :1]) if edges.mask is None else edges.mask
    return torch.cat([edges.data[:, :-1] * mask, mask], 1)


def _cut(data: Tensor, side: int, margin: int) -> Tensor:
    """Blocks of `side` pixels that cover (1, C, *shape), each with a margin, 0 outside the image. shape: (N, C, *sides)"""
    shape = data.shape[2:]
    ends = [end for length in reversed(shape) for end in (margin, -length % side + margin)]
    parts = F.pad(data, ends)[0]
    for axis in range(1, len(shape) + 1):
        parts = parts.unfold(axis, side + 2 * margin, side)
    return parts.flatten(1, len(shape)).transpose(0, 1)


def _correlated(blocks: Tensor, windows: Tensor) -> Tensor:
    """Cross-correlation of blocks (N, C, *sides) with windows (N, C, *longer sides), summed over C. shape: (N, *places)"""
    sides, longer = blocks.shape[2:], windows.shape[2:]
    axes = tuple(range(1, 1 + len(sides)))
    spectra = torch.fft.rfftn(windows, longer, tuple(axis + 1 for axis in axes))
    spectra = (spectra * torch.fft.rfftn(blocks, longer, tuple(axis + 1 for axis in axes)).conj()).sum(1)
    places = tuple(slice(0, long - side + 1) for side, long in zip(sides, longer, strict=True))
    return torch.fft.irfftn(spectra, longer, axes)[(slice(None), *places)]
