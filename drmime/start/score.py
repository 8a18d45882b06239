"""How much speaks for a start: agreement of directions of edges, of their strengths, and of intensities.

No single factor is right everywhere. Directions alone cannot tell one ring or one grid from another; strong edges lie on
strong edges where two cameras saw one scene, and hardly so where two scanners did; intensities tell the head from the
background of a PET image whose edges say little, and mislead in images taken by night. Each alone is wrong on pairs where the
others are right, so a start is ranked by their product, divided by how far it stretches or rescales: far from the optimum,
stretch and scale raise the score of wrong places (`experiments/README.md` has the counts).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drmime.compare.angle import GradientAngle
from drmime.compare.base import shares
from drmime.compare.histogram import entropies
from drmime.geometry.grid import linear_part
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid, possible_levels
from drmime.start.propose.base import pyramid, reduced

SIDE = {2: 256, 3: 64}  # pixels along the fixed image's longest side, by dimension
LEVELS = 3  # of a reduced pair
BINS = 16  # of intensities
LEAST = 0.02  # of what intensities say: where they say nothing, the others decide
STRENGTH = 2.0  # weight of the correlation of strengths; from 1 to 3 the counts are the same


@dataclass(frozen=True)
class Reduced:
    """Two images at a few coarse levels: their edges as tensors, and at the second level their gray values."""

    fixed: Pyramid
    moving: Pyramid
    plain: tuple[Pyramid, Pyramid]  # both as they are, for other metrics to describe
    grays: tuple[Image, Image]
    scales: tuple[float, ...]  # of a moving length by a fixed one, as expected: that of the world, that of the sizes

    @classmethod
    def of(cls, fixed: Image, moving: Image, scale: float) -> "Reduced":
        """At most `LEVELS` levels of pixels of one size where `scale` is the moving world's length by the fixed world's."""
        finest = [float(image.grid.spacing.min()) for image in (fixed, moving)]
        spacing = max(float(fixed.grid.extent.max()) / SIDE[fixed.grid.ndim], finest[0], finest[1] / scale)
        small = [reduced(pyramid(image), length) for image, length in ((fixed, spacing), (moving, spacing * scale))]
        count = min(LEVELS, *(possible_levels(image.grid) for image in small))
        here, there = (Pyramid.of(image, count) for image in small)
        level = min(1, count - 1)
        sizes = float((moving.grid.extent.prod() / fixed.grid.extent.prod()) ** (1 / fixed.grid.ndim))
        grays = _gray(here, level), _gray(there, level)
        describe = GradientAngle().describe
        return cls(here.described(describe), there.described(describe), (here, there), grays, (1.0, sizes))

    def coarsest(self, count: int) -> "Reduced":
        chosen = slice(-min(count, len(self.fixed.levels)), None)
        fixed, moving = (Pyramid(levels.levels[chosen]) for levels in (self.fixed, self.moving))
        return replace(self, fixed=fixed, moving=moving)

    def judged(self, matrices: Tensor) -> tuple[Tensor, Tensor]:
        """Of transforms (K, D+1, D+1), over every pixel of the finest level: how well directions of edges agree, in
        standard deviations of independent pixels, and the evidence of all factors, in units that only compare. (K,) each
        """
        metric = GradientAngle()
        known, found, weight = paired_values(self.fixed.levels[0], self.moving.levels[0], matrices)
        linear = linear_part(matrices, self.fixed.levels[0].grid)
        found = metric.turn(found, linear[:, None])
        score = metric.score(known, found, weight) * math.sqrt(weight.shape[-1])
        alike = correlation(known[..., -1], found[..., -1], weight)
        first, second, weight = paired_values(*self.grays, matrices)
        overlap = weight.mean(-1)
        said = LEAST + shared(first[..., 0], second[..., 0], weight)
        change = unlikeness(linear, self.scales).to(score)
        return score, score * said * overlap.sqrt() * (1 + STRENGTH * alike.clamp(min=0)) / change


def unlikeness(linear: Tensor, scales: Sequence[float]) -> Tensor:
    """The larger of how far maps (K, D, D) stretch one direction against another, and of how far from the nearest of
    `scales` theirs is, as factors; 1 for a rotation in one of these scales. shape: (K,)
    """
    stretches = torch.linalg.svdvals(linear)
    scale = stretches.log().mean(-1, keepdim=True)
    off = (scale - torch.tensor(scales).to(scale).log()).abs().amin(-1).exp()
    return torch.maximum(stretches[:, 0] / stretches[:, -1], off)


def correlation(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Of values (K, N) with weights (K, N); 0 where one does not vary. shape: (K,)"""
    share = shares(weight)
    first, second = (values - (share * values).sum(-1, keepdim=True) for values in (first, second))
    sizes = [(share * values.square()).sum(-1) for values in (first, second)]
    return (share * first * second).sum(-1) / (sizes[0] * sizes[1]).sqrt().clamp(min=1e-6)


def shared(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Mutual information of intensities (K, N) in [0, 1] by the geometric mean of their entropies, from 0 to 1. shape: (K,)"""
    rows, columns = ((values.clamp(0, 1) * (BINS - 1)).round().long() for values in (first, second))
    joint = weight.new_zeros(len(weight), BINS * BINS).scatter_add_(1, rows * BINS + columns, weight)
    joint = shares(joint)
    one, other, both = entropies(joint.unflatten(-1, (BINS, BINS)))
    return (one + other - both).clamp(min=0) / (one * other).sqrt().clamp(min=1e-3)


def _gray(levels: Pyramid, number: int) -> Image:
    level = levels.levels[number]
    return Image(level.data.mean(1, keepdim=True), level.grid, level.mask)


def moving_edges(small: Reduced, level: int, matrix: Tensor) -> Image:
    """The moving image's edges at a level as a transform (D+1, D+1) brings them onto the fixed grid; 0 where a mask is."""
    fixed = small.fixed.levels[level]
    _, found, weight = paired_values(fixed, small.moving.levels[level], matrix[None])
    found = GradientAngle().turn(found, linear_part(matrix, fixed.grid)[None, None]) * weight[..., None]
    data, mask = (part.reshape(1, -1, *fixed.grid.shape) for part in (found.mT, weight))
    return Image(data, fixed.grid, mask)


def paired_values(fixed: Image, moving: Image, matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values of both images at every fixed pixel, for each matrix: (K, N, C) twice, and weights (K, N)."""
    count = len(matrices)
    points = fixed.grid.index_points()[None].to(fixed.data).expand(count, -1, -1)
    values, inside = moving.copies(count).at(points, matrices @ fixed.grid.world_from_index)
    known = fixed.data.flatten(2).transpose(1, 2).expand(count, -1, -1)
    return known, values, inside if fixed.mask is None else inside * fixed.mask.flatten(1)
