"""Evidence on whether a result is aligned: figures that the optimiser did not use, or used only in sums over the whole image.

    blocks, agreeing the number of the fixed image's blocks that can be compared, and of those whose edges agree best in place
    in_place         share of the blocks that agree in place, weighted by how clearly; few blocks bring it near 0
    in_place_coarse  the same at half the resolution
    residual         median shift of the affine map that fits the best shifts of most blocks, as a share of the diagonal
    displaced        mean length of the best shifts of blocks, weighted by how clear they are, as a share of the diagonal
    peak_ratio       agreement of edges at the transform, divided by that at the best other shift or rotation
    information      mutual information of intensities at the transform, in standard deviations over shifts elsewhere
    rival            evidence of the best start elsewhere, divided by that of the start used; 0 without one
    shifted          score of the best other shift, near or far, divided by that at the transform; 0 if it is below 0.7
    overlap          share of the fixed image that lies on the moving one
    distortion       stretch, or deviation of the scale from that of the images' sizes, as a factor

The transform is judged as it is: the figures are of the result, not of its start.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply, homogeneous
from drmime.image.image import Image
from drmime.start.inputs import Inputs, at_scales
from drmime.start.looks import spans
from drmime.start.propose.cross import CrossMaps
from drmime.start.residuals import Residuals, residuals
from drmime.start.rivals import APART, COVERED, Rival, around, by_edges, by_intensities, peak_ratio
from drmime.start.score import Reduced, distortion, moved
from drmime.transform.base import Transform

BINS = 8  # of intensities in each image
PIXELS = {2: 2**14, 3: 2**15}  # most pixels of the images whose mutual information is computed at every shift


class Blocks(NamedTuple):
    """Errors measured on blocks of the fixed image; a block's error is where its edges agree best, less where it is mapped."""

    points: np.ndarray  # shape: (N, D), the centres of the blocks, world of the fixed image, x first
    errors: np.ndarray  # shape: (N, D), world of the moving image, x first
    weights: np.ndarray  # shape: (N,), how clearly each block agrees there
    side: float  # of a block, world of the fixed image
    chance: float  # scatter of the errors of blocks that match by chance: of all shifts searched, world of the moving image

    def inverse(self, transform: Transform) -> "Blocks":
        """The blocks for the inverse of `transform`: moving and fixed image exchanged."""
        points = torch.as_tensor(self.points)
        slopes = transform.jacobian(points).numpy()
        errors = -np.linalg.solve(slopes, self.errors[..., None])[..., 0] if len(points) else self.errors
        scale = float(np.mean(np.abs(np.linalg.det(slopes)))) ** (1 / points.shape[1]) if len(points) else 1.0
        return Blocks(transform(points).numpy(), errors, self.weights, self.side * scale, self.chance / scale)


@dataclass(frozen=True)
class Evidence:
    """The figures of one result, by name, and the errors of its blocks."""

    figures: dict[str, float]
    blocks: Blocks
    shifted: Rival | None = None  # another shift that fits about as well


class Result(NamedTuple):
    """The result of one pair, of which evidence is wanted."""

    inputs: Inputs
    transform: Transform
    rivals: Sequence[float] | None  # evidence of starts elsewhere by that of the one used; None if no other was compared
    overlap: float  # as in `Registration`
    linear: Tensor  # `linear_at_centre` of the transform

    @property
    def matrix(self) -> Tensor:
        """A map of the scale at which the reduced images are compared. shape: (D+1, D+1)"""
        return homogeneous(self.linear, self.linear.new_zeros(len(self.linear)))


def evidence(
    inputs: Sequence[Inputs],
    transforms: Sequence[Transform],
    rivals: Sequence[Sequence[float] | None],
    overlaps: Sequence[float],
) -> list[Evidence]:
    """The evidence on the transforms of several pairs.

    `rivals`: of each pair the evidence of the starts elsewhere, divided by that of the one used; None if no other start was
    compared. `overlaps`: as in `Registration`.
    """
    linear = [linear_at_centre(transform, one.fixed.grid) for one, transform in zip(inputs, transforms, strict=True)]
    return at_scales([Result(*one) for one in zip(inputs, transforms, rivals, overlaps, linear, strict=True)], _evidence)


def _evidence(small: Reduced, results: Sequence[Result]) -> list[Evidence]:
    """`evidence` of pairs at one scale."""
    transforms, generators = [one.transform for one in results], results[0].inputs.generators
    fine = residuals(small, transforms)
    coarse = residuals(small, transforms, min(1, len(small.fixed.levels) - 1))
    shifted = _shifted(small, transforms) if spans(generators, "translation") else [None] * len(results)
    ratios = peak_ratio(small, transforms, spans(generators, "rotation"))
    known = information(small, transforms)
    grid, found = small.fixed.levels[0].grid, []
    for number, result in enumerate(results):
        rival, blocks = shifted[number], _blocks(grid, fine[number], result.transform, result.linear)
        figures = {
            "peak_ratio": ratios[number],
            "information": known[number],
            "rival": math.nan if result.rivals is None else max(result.rivals, default=0.0),
            "shifted": rival.share if rival else 0.0,
            "overlap": result.overlap,
            "distortion": float(distortion(result.linear[None], small.scales)),
        }
        found.append(Evidence({**_of_blocks(fine[number], coarse[number]), **figures}, blocks, rival))
    return found


def _of_blocks(fine: Residuals, coarse: Residuals) -> dict[str, float]:
    """The figures that the shifts of blocks give, by name."""
    smooth = fine.smooth().norm(dim=-1)
    return {
        "in_place": fine.weighted,
        "in_place_coarse": coarse.weighted,
        "blocks": float(len(smooth)),
        "agreeing": float(fine.in_place.sum()),
        "residual": float(smooth.median()) / fine.diagonal if len(smooth) else math.nan,
        "displaced": fine.mean_shift / fine.diagonal,
    }


def information(small: Reduced, transforms: Sequence[Transform]) -> list[float]:
    """Mutual information of intensities of each pair at its transform, in standard deviations over the shifts elsewhere.

    NaN for a pair without any.
    """
    fixed, canvas = _shrunk(small.grays[0]), _shrunk(moved(*small.grays, transforms))
    maps = CrossMaps(BINS)
    maps.begin(fixed, canvas, canvas.grid.shape)
    scores, overlaps = (part.double().cpu().numpy() for part in maps.maps(canvas))
    zero, apart = [-first for first in maps.first], max(2, round(APART * max(fixed.grid.shape)))
    return [_deviations(*maps_, zero, apart) for maps_ in zip(scores, overlaps, strict=True)]


def _deviations(score: np.ndarray, overlap: np.ndarray, zero: Sequence[int], apart: int) -> float:
    """The score at shifts around `zero`, in standard deviations over the shifts more than `apart` pixels from it."""
    elsewhere = overlap >= COVERED * overlap.max()
    elsewhere[around(zero, apart)] = False
    others = score[elsewhere]
    if not len(others) or (spread := others.std()) <= 0:
        return math.nan
    return float((score[around(zero, 1)].max() - np.median(others)) / spread)


def _shifted(small: Reduced, transforms: Sequence[Transform]) -> list[Rival | None]:
    """Of each pair the other shift with the largest share of the score, by edges or by intensities."""
    both = zip(by_edges(small, transforms), by_intensities(small, transforms), strict=True)
    return [max((one for one in two if one is not None), key=lambda one: one.share, default=None) for two in both]


def linear_at_centre(transform: Transform, fixed: Grid) -> Tensor:
    """The linear part of a transform at the fixed image's centre. shape: (D, D)"""
    linear = transform.jacobian(fixed.centre[None])[0]
    usable = bool(linear.isfinite().all()) and abs(float(linear.det())) > 0
    return linear if usable else torch.eye(len(linear), dtype=torch.float64)


def _shrunk(image: Image) -> Image:
    """The images averaged in blocks of two pixels along each axis until they have at most `PIXELS`; geometry is dropped."""
    data, mask = image.data, image.valid
    pool = F.avg_pool2d if image.grid.ndim == 2 else F.avg_pool3d
    while math.prod(data.shape[2:]) > PIXELS[image.grid.ndim]:
        share = pool(mask, 2, ceil_mode=True)
        data, mask = pool(data * mask, 2, ceil_mode=True) / share.clamp(min=1e-6), (share > 0.5).to(data)
    return Image(data, Grid.regular(tuple(data.shape[2:])), mask)


def _blocks(grid: Grid, found: Residuals, transform: Transform, linear: Tensor) -> Blocks:
    """The errors of the blocks in world units; `linear` is the transform's linear part."""
    here, there = (
        apply(grid.world_from_index, places.flip(-1).double(), is_affine=True)[0]
        for places in (found.centres, found.centres + found.shifts)
    )
    errors = transform(there) - transform(here)
    known = errors.isfinite().all(-1)
    points, off, weights = (part[known].double().numpy() for part in (here, errors, found.weights))
    spacing = float(grid.spacing.max())
    reach = found.reach * spacing * float(linear.det().abs()) ** (1 / grid.ndim)
    return Blocks(points, off, weights, found.side * spacing, math.sqrt(grid.ndim / 3) * reach)
