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
from drmime.start.inputs import Inputs
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


def evidence(inputs: Inputs, transform: Transform, rivals: Sequence[float] | None, overlap: float) -> Evidence:
    """The evidence on a transform of one pair.

    `rivals`: evidence of the starts elsewhere, divided by that of the one used; None if no other start was compared.
    `overlap`: as in `Registration`.
    """
    linear = _linear(transform, inputs.fixed.grid)
    small = inputs.reduced(homogeneous(linear, torch.zeros(len(linear), dtype=linear.dtype)))
    [fine] = residuals(small, [transform])
    [coarse] = residuals(small, [transform], min(1, len(small.fixed.levels) - 1))
    smooth = fine.smooth().norm(dim=-1)
    shifted = _shifted(small, transform) if spans(inputs.generators, "translation") else None
    [ratio] = peak_ratio(small, [transform], spans(inputs.generators, "rotation"))
    figures = {
        "in_place": fine.weighted,
        "in_place_coarse": coarse.weighted,
        "blocks": float(len(smooth)),
        "agreeing": float(fine.in_place.sum()),
        "residual": float(smooth.median()) / fine.diagonal if len(smooth) else math.nan,
        "displaced": fine.mean_shift / fine.diagonal,
        "peak_ratio": ratio,
        "information": information(small, transform),
        "rival": math.nan if rivals is None else max(rivals, default=0.0),
        "shifted": shifted.share if shifted else 0.0,
        "overlap": overlap,
        "distortion": float(distortion(linear[None], small.scales)),
    }
    return Evidence(figures, _blocks(small.fixed.levels[0].grid, fine, transform, linear), shifted)


def information(small: Reduced, transform: Transform) -> float:
    """Mutual information of intensities at a transform, in standard deviations over the shifts elsewhere; NaN without any."""
    fixed, canvas = _shrunk(small.grays[0]), _shrunk(moved(*small.grays, [transform]))
    maps = CrossMaps(BINS)
    maps.begin(fixed, canvas, canvas.grid.shape)
    values, overlap = (part[0].double().numpy() for part in maps.maps(canvas))
    zero = [-first for first in maps.first]
    elsewhere = overlap >= COVERED * overlap.max()
    elsewhere[around(zero, max(2, round(APART * max(fixed.grid.shape))))] = False
    others = values[elsewhere]
    if not len(others) or (spread := others.std()) <= 0:
        return math.nan
    return float((values[around(zero, 1)].max() - np.median(others)) / spread)


def _shifted(small: Reduced, transform: Transform) -> Rival | None:
    """The other shift with the largest share of the score, by edges or by intensities."""
    found = [one for one in (*by_edges(small, [transform]), *by_intensities(small, [transform])) if one is not None]
    return max(found, key=lambda one: one.share, default=None)


def _linear(transform: Transform, fixed: Grid) -> Tensor:
    """The linear part of a transform at the fixed image's centre. shape: (D, D)"""
    linear = transform.jacobian(fixed.centre[None])[0]
    usable = bool(linear.isfinite().all()) and abs(float(linear.det())) > 0
    return linear if usable else torch.eye(len(linear), dtype=torch.float64)


def _shrunk(image: Image) -> Image:
    """The image averaged in blocks of two pixels along each axis until it has at most `PIXELS`; geometry is dropped."""
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
