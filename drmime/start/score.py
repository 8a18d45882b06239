"""The score of a start (agreement of edge directions) and its evidence, by which the starts of one pair are ranked:

    evidence = score * (floor + NMI of intensities) * sqrt(overlap) * (1 + weight * correlation of edge strengths) / distortion

Each factor is there for pairs on which the others fail (`experiments/README.md` has the counts). Edge directions do not
distinguish one ring or grid from another. Edge strengths are correlated if two cameras took one scene, hardly if two scanners
did. Intensities separate the head from the background of a PET image that has few edges, but mislead in images taken at night.
The division is there because far from the optimum stretch and scale raise the score of wrong poses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from drmime.compare.angle import GradientAngle
from drmime.compare.base import shares
from drmime.compare.histogram import entropies
from drmime.geometry.grid import Grid, linear_part
from drmime.geometry.matrices import apply
from drmime.image.image import Image, batch, read_unit
from drmime.image.pyramid import Pyramid, possible_levels
from drmime.start.propose.angle import AngleMaps
from drmime.start.propose.base import pyramid, reduced
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform

SIDE = {2: 256, 3: 64}  # pixels along the fixed image's longest side, by dimension
LEVELS = 3  # pyramid levels of a reduced pair
BINS = 16  # of the joint histogram of intensities, along each axis
NMI_FLOOR = 0.02  # added to the NMI of intensities: where they are independent, the other factors decide
TOGETHER = 2**23  # points of all pairs and transforms at which images are read in one call, to limit the memory
STRENGTH = 2.0  # weight of the correlation of edge strengths; from 1 to 3 the counts are the same


@dataclass(frozen=True)
class Reduced:
    """Pairs of images at a few coarse levels, as orientation tensors of their edges; and their gray values at the second level.

    The pairs of a batch have equal grids.
    """

    fixed: Pyramid  # orientation tensors
    moving: Pyramid
    plain: tuple[Pyramid, Pyramid]  # fixed and moving intensities, for other metrics to describe
    grays: tuple[Image, Image]  # fixed and moving means over the channels
    scales: tuple[float, ...]  # expected ratios of a moving length to a fixed one: 1 (equal world units), ratio of the sizes
    # by level and least overlap
    _begun: dict[tuple[int, float], AngleMaps] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, fixed: Sequence[Image], moving: Sequence[Image], scale: float) -> "Reduced":
        """Reduce pairs of images (B = 1 each) on equal grids to at most `LEVELS` levels with pixels of corresponding size.

        `scale`: world length in the moving images that corresponds to length 1 in the fixed images.
        """
        first, second = fixed[0].grid, moving[0].grid
        finest = [float(grid.spacing.min()) for grid in (first, second)]
        spacing = max(float(first.extent.max()) / SIDE[first.ndim], finest[0], finest[1] / scale)
        asked = (fixed, spacing), (moving, spacing * scale)
        small = [reduced([pyramid(image) for image in images], length) for images, length in asked]
        count = min(LEVELS, *(possible_levels(image.grid) for image in small))
        here, there = (Pyramid.of(image, count) for image in small)
        level = min(1, count - 1)
        sizes = float((second.extent.prod() / first.extent.prod()) ** (1 / first.ndim))
        grays = _gray(here, level), _gray(there, level)
        describe = GradientAngle().describe
        return cls(here.described(describe), there.described(describe), (here, there), grays, (1.0, sizes))

    @classmethod
    def joined(cls, several: Sequence["Reduced"]) -> "Reduced":
        """The reduced images of several pairs on equal grids as one batch; of one alone the same object."""
        first = several[0]
        if len(several) == 1:
            return first
        fixed, moving = Pyramid.joined([one.fixed for one in several]), Pyramid.joined([one.moving for one in several])
        here, there = (Pyramid.joined([one.plain[role] for one in several]) for role in (0, 1))
        grays = batch([one.grays[0] for one in several]), batch([one.grays[1] for one in several])
        return cls(fixed, moving, (here, there), grays, first.scales)

    def pair(self, number: int) -> "Reduced":
        """The reduced images of one pair of the batch; they share their memory with the batch."""
        return self if len(self.fixed.levels[0].data) == 1 else self._some(slice(number, number + 1))

    def _some(self, chosen: slice) -> "Reduced":
        """Some pairs of the batch, in the memory of the batch."""

        def of(levels: Pyramid) -> Pyramid:
            return Pyramid([level.chosen(chosen) for level in levels.levels])

        here, there = self.plain
        grays = self.grays[0].chosen(chosen), self.grays[1].chosen(chosen)
        return Reduced(of(self.fixed), of(self.moving), (of(here), of(there)), grays, self.scales)

    def maps(self, level: int, least_overlap: float) -> AngleMaps:
        """Maps of the agreement of edges with moving edges on the fixed grid of a level, begun once: the fixed side is kept."""
        key = level, least_overlap
        if key not in self._begun:
            fixed = self.fixed.levels[level]
            self._begun[key] = AngleMaps()
            self._begun[key].begin(fixed, fixed, fixed.grid.shape, least_overlap)
        return self._begun[key]

    def coarsest(self, count: int) -> "Reduced":
        """The same pairs with their `count` coarsest levels only, or all if they have fewer."""
        chosen = slice(-min(count, len(self.fixed.levels)), None)
        fixed, moving = (Pyramid(levels.levels[chosen]) for levels in (self.fixed, self.moving))
        return replace(self, fixed=fixed, moving=moving)

    def score_and_evidence(self, matrices: Tensor) -> tuple[Tensor, Tensor]:
        """Score and evidence of transforms (B, K, D+1, D+1), moving_from_fixed, over every pixel of the finest level.

        Each of the B pairs has K transforms. Returns the score, agreement of edge directions in standard deviations for
        independent pixels, and the evidence, which has no unit and is comparable between starts of one pair only.
        shape: (B, K) each, on the device of the images
        """
        most = max(1, TOGETHER // (matrices.shape[1] * math.prod(self.fixed.levels[0].grid.shape)))
        if most < len(matrices):
            parts = [slice(start, start + most) for start in range(0, len(matrices), most)]
            scores, evidences = zip(*(self._some(part).score_and_evidence(matrices[part]) for part in parts), strict=True)
            return torch.cat(scores), torch.cat(evidences)
        metric = GradientAngle()
        known, found, weight = paired_values(self.fixed.levels[0], self.moving.levels[0], matrices)
        linear = linear_part(matrices, self.fixed.levels[0].grid)
        found = metric.turn(found, linear[:, :, None])
        score = metric.score(known, found, weight) * math.sqrt(weight.shape[-1])
        strengths = correlation(known[..., -1], found[..., -1], weight)
        first, second, weight = paired_values(*self.grays, matrices)
        overlap = weight.mean(-1)
        dependence = NMI_FLOOR + nmi(first[..., 0], second[..., 0], weight)
        distorted = distortion(linear, self.scales).to(score)
        return score, score * dependence * overlap.sqrt() * (1 + STRENGTH * strengths.clamp(min=0)) / distorted


def distortion(linear: Tensor, scales: Sequence[float]) -> Tensor:
    """How far linear maps (..., D, D) are from a rotation times one of `scales`, as a factor; 1 for such a map. shape: (...)

    It is the larger of two ratios: largest to smallest singular value, and mean scale to the nearest of `scales` (or inverse).
    """
    stretches = torch.linalg.svdvals(linear)
    scale = stretches.log().mean(-1, keepdim=True)
    off = (scale - torch.tensor(scales).to(scale).log()).abs().amin(-1).exp()
    return torch.maximum(stretches[..., 0] / stretches[..., -1], off)


def correlation(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Weighted correlation coefficients of values (..., N) with weights (..., N); 0 if one side is constant. shape: (...)"""
    share = shares(weight)
    first, second = (values - (share * values).sum(-1, keepdim=True) for values in (first, second))
    sizes = [(share * values.square()).sum(-1) for values in (first, second)]
    return (share * first * second).sum(-1) / (sizes[0] * sizes[1]).sqrt().clamp(min=1e-6)


def nmi(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Mutual information of intensities (..., N) in [0, 1], divided by the geometric mean of their entropies. shape: (...)

    `weight`: (..., N), of the full shape; the intensities can be broadcast to it. The result is between 0 and 1.
    """
    rows, columns = ((values.clamp(0, 1) * (BINS - 1)).round().long() for values in (first, second))
    joint = weight.new_zeros(*weight.shape[:-1], BINS * BINS).scatter_add_(-1, rows * BINS + columns, weight)
    joint = shares(joint)
    one, other, both = entropies(joint.unflatten(-1, (BINS, BINS)))
    return (one + other - both).clamp(min=0) / (one * other).sqrt().clamp(min=1e-3)


def _gray(levels: Pyramid, number: int) -> Image:
    level = levels.levels[number]
    return Image(level.data.mean(1, keepdim=True), level.grid, level.mask)


def moving_edges(small: Reduced, level: int, transforms: Sequence[Transform]) -> Image:
    """Orientation tensors of the moving images at a level, warped onto the fixed grid; 0 outside either image or its mask.

    `transforms`: one for each of the B pairs.
    """
    fixed = small.fixed.levels[level]
    places = _places(transforms, fixed)
    canvas = _read_at(places, fixed, small.moving.levels[level])
    values = canvas.data.flatten(2).mT[None]  # (1, B, N, C), as a metric takes them
    slopes = _affine_slopes(transforms, fixed.grid)
    slopes = _slopes(places, fixed.grid) if slopes is None else slopes
    found = GradientAngle().turn(values, slopes[None].to(values).nan_to_num(posinf=0, neginf=0))[0]
    return replace(canvas, data=torch.where(canvas.valid > 0, found.mT.reshape(canvas.data.shape), 0))


def moved(fixed: Image, moving: Image, transforms: Sequence[Transform]) -> Image:
    """The moving images read at the fixed images' pixels, each by its transform; the mask is 0 outside either or its mask."""
    return _read_at(_places(transforms, fixed), fixed, moving)


def _places(transforms: Sequence[Transform], fixed: Image) -> Tensor:
    """Where each transform maps the pixels of the fixed image, on its device; NaN without an image. (B, N, D), float64"""
    device, grid = fixed.data.device, fixed.grid
    matrices = _matrices(transforms)
    if matrices is None:
        points = grid.world_points()
        return _joined([transform(points) for transform in transforms]).to(device)
    # float64, so that places on the border of an image are inside it whatever the number of pairs
    world_from_index = (matrices @ grid.world_from_index).to(device)
    places, in_front = apply(world_from_index, grid.index_points()[None].to(device))
    return torch.where(in_front[..., None], places, math.nan)


def _matrices(transforms: Sequence[Transform]) -> Tensor | None:
    """The matrices of transforms, (B, D+1, D+1) float64 on the CPU; None if one of them is not a matrix."""
    found = [transform.matrix for transform in transforms if isinstance(transform, MatrixTransform)]
    return _joined(found) if len(found) == len(transforms) else None


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of equal shape as one batch; a single one is not copied."""
    return parts[0][None] if len(parts) == 1 else torch.stack(list(parts))


def _read_at(places: Tensor, fixed: Image, moving: Image) -> Image:
    """The moving images at places (B, N, D) in their world, one for each pixel of the fixed images."""
    count = len(places)
    unit, _ = apply(moving.grid.unit_from_world.to(places.device), places, is_affine=True)
    values, inside = read_unit([moving], unit[None].to(moving.data), places.isfinite().all(-1)[None])
    data, mask = (part.reshape(count, -1, *fixed.grid.shape) for part in (values[0].mT, inside[0]))
    return Image(data, fixed.grid, mask if fixed.mask is None else mask * fixed.mask)


def _affine_slopes(transforms: Sequence[Transform], grid: Grid) -> Tensor | None:
    """The derivatives of affine maps, one for all pixels of a pair: (B, 1, D, D); None if one of the maps is not affine."""
    matrices = _matrices(transforms)
    if matrices is not None:
        return None if bool(matrices[:, -1, :-1].any()) else linear_part(matrices, grid)[:, None]
    if not all(math.isinf(transform.detail) for transform in transforms):
        return None
    return torch.stack([transform.jacobian(grid.centre[None]) for transform in transforms])


def _slopes(places: Tensor, grid: Grid) -> Tensor:
    """The derivatives of maps at the pixels of a grid, from the differences of their places (B, N, D). shape: (B, N, D, D)

    Some tens of times faster than the exact ones of a deformation, and exact for affine maps.
    """
    axes = list(range(1, grid.ndim + 1))
    along = torch.gradient(places.view(-1, *grid.shape, grid.ndim), dim=axes)
    per_pixel = torch.stack(along[::-1], -1)  # x first
    return per_pixel.flatten(1, -3) @ torch.linalg.inv(grid.world_from_index[:-1, :-1]).to(places.device)


def paired_values(fixed: Image, moving: Image, matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values of both images of each pair at every fixed pixel, for each of its moving_from_fixed matrices (B, K, D+1, D+1).

    Returns fixed values (B, 1, N, C), the same for all K, moving values (B, K, N, C), and weights (B, K, N): 0 outside either
    image or its mask.
    """
    points = fixed.grid.index_points().to(fixed.data)
    unit_from_index = moving.grid.unit_from_world @ (matrices @ fixed.grid.world_from_index)
    values, inside = read_unit([moving], *(part[None] for part in apply(unit_from_index.to(points), points)))
    known = fixed.data.flatten(2).mT[:, None]
    return known, values[0], inside[0] if fixed.mask is None else inside[0] * fixed.mask.flatten(1)[:, None]
