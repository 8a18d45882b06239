"""A start from matched corners, for images that share places but not intensities; 2-D only.

Rotation and scale are tried one after another rather than guessed from each corner, which is what fails between modalities.
In each, mutual nearest neighbours are fitted a similarity by all pairs of matches (RANSAC, Fischler and Bolles 1981,
doi 10.1145/358669.358692, without the chance), then an affine map by the matches that agree. Nothing here is random.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from drmime.errors import InputError, switch, whole
from drmime.grid import homogeneous
from drmime.image import Image
from drmime.initialise.base import directions, distinct, stacked, working_spacing
from drmime.initialise.corners import SECTORS, SMALLEST, Level, levels

MATCHES = 150  # the best of each rotation and scale
HYPOTHESES = 800  # of each rotation and scale
LARGEST_TURN, LARGEST_RATIO = 0.4, 1.4  # radians and scale by which a pair of matches may differ from what was tried
TOLERANCE = 0.025  # of the longest side
UNLIKE = 2.0  # images whose lengths differ by more than this factor may be in other units
APART = 0.1  # of the diagonal: candidates whose corners are nearer than that are one
REFITS = 4
FEWEST_FOR_AFFINE = 8  # matches
LARGEST_STRETCH = 1.6  # of an affine map, one direction against the other


class Features:
    """Similarities and affine maps on which many matched corners agree, best first; none where too few do.

    Args:
        multimodal: describe corners so that reversed contrast makes no difference. False is for images of one kind: from
            few keypoints it finds somewhat more.
        count: how many candidates to return at most.
        least: matches that must agree, each counted less the farther it is off. Pairs that share nothing reached 4 to 12; for
            98 of 100 pairs that do, the right map reached 8.
        side: pixels of the longest side to work at.
        keypoints: corners of each image and level.

    Raises:
        InputError: an option out of range, or, when called, images that are not 2-D.
    """

    def __init__(self, multimodal: bool = True, count: int = 4, least: int = 7, side: int = 400, keypoints: int = 600) -> None:
        self.harmonics = (2, 4) if switch("features: multimodal", multimodal) else (1, 2, 3)
        self.count = whole("features: count", count, 1)
        self.least = whole("features: least", least, 3)
        self.side = whole("features: side", side, 2 * SMALLEST)
        self.keypoints = whole("features: keypoints", keypoints, 10)

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        """moving_from_fixed, world units, best first. shape: (K, 3, 3), 0 <= K <= count"""
        if fixed.grid.ndim != 2:
            raise InputError("features are for 2-D images, got 3-D. Take a global search, the moments of mass or landmarks.")
        axes = directions(fixed.grid)
        tolerance = TOLERANCE * float(fixed.grid.extent.max())
        found = []
        for units in _units(fixed, moving, self.side):
            first, second = (
                levels(image, unit, axes, self.harmonics, self.keypoints)
                for image, unit in zip((fixed, moving), units, strict=True)
            )
            for i, near in enumerate(first):
                for far in second if i == 0 else second[:1]:
                    found += _hypotheses(near, far, tolerance)
        found.sort(key=lambda hypothesis: -hypothesis.support)
        refined = [_refined(hypothesis, tolerance) for hypothesis in found[: 4 * self.count]]
        refined.sort(key=lambda pair: -pair[0])
        matrices = [_in_world(map_, fixed, moving, axes) for support, map_ in refined if support >= self.least]
        return distinct(stacked(matrices, 2), fixed.grid, self.count, APART, torch.amax)


class _Hypothesis(NamedTuple):
    """The similarity b = linear * a + shift, on complex places, that the most matches (a, b) agree on."""

    support: float
    linear: Tensor
    shift: Tensor
    a: Tensor  # shape: (M,), complex
    b: Tensor  # shape: (M,), complex


def _units(fixed: Image, moving: Image, side: int) -> list[tuple[float, float]]:
    """Working pixels of the two images: of one world length, and where one image is far longer, also of their own."""
    shared = working_spacing(fixed, moving, side)
    own = [working_spacing(image, image, side) for image in (fixed, moving)]
    return [(shared, shared)] if max(own) < UNLIKE * min(own) else [(shared, shared), (own[0], own[1])]


def _hypotheses(near: Level, far: Level, tolerance: float) -> list[_Hypothesis]:
    """The best similarity of each rotation, near the scale at which pixels of both have one length."""
    if min(len(near.places), len(far.places)) < 2:
        return []
    found = []
    described = near.descriptors(0)
    for turn in range(SECTORS):
        likeness = described @ far.descriptors(turn).T
        best, partner = likeness.max(1)
        mutual = torch.nonzero(likeness.argmax(0)[partner] == torch.arange(len(partner)))[:, 0]
        mutual = mutual[best[mutual].argsort(descending=True, stable=True)[:MATCHES]]
        a, b = near.places[mutual], far.places[partner[mutual]]
        i, j = torch.triu_indices(len(a), len(a), 1)
        far_enough = (a[j] - a[i]).abs() > 3 * tolerance
        i, j = i[far_enough], j[far_enough]
        linear = (b[j] - b[i]) / (a[j] - a[i])
        tried = torch.polar(torch.tensor(far.spacing / near.spacing), torch.tensor(turn * 2 * math.pi / SECTORS))
        off = linear / tried
        likely = (off.abs().log().abs() < math.log(LARGEST_RATIO)) & (off.angle().abs() < LARGEST_TURN)
        linear, i = linear[likely], i[likely]
        if len(i):
            linear, i = linear[:: len(i) // HYPOTHESES + 1], i[:: len(i) // HYPOTHESES + 1]
            shift = b[i] - linear * a[i]
            errors = (linear[:, None] * a + shift[:, None] - b).abs() / linear.abs()[:, None]
            support, index = (1 - (errors / tolerance).square()).clamp(min=0).sum(1).max(0)
            found.append(_Hypothesis(float(support), linear[index], shift[index], a, b))
    return found


def _refined(hypothesis: _Hypothesis, tolerance: float) -> tuple[float, Tensor]:
    """Support and map (2, 3) after least squares over the matches that agree: affine where they carry one."""
    a, b = (torch.view_as_real(places).double() for places in (hypothesis.a, hypothesis.b))
    a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
    (c, s), shift = torch.view_as_real(hypothesis.linear).tolist(), torch.view_as_real(hypothesis.shift).double()
    best = torch.cat([torch.tensor([[c, -s], [s, c]], dtype=torch.float64), shift[:, None]], 1)
    for _ in range(REFITS):
        agree = _errors(best, a, b) < tolerance
        if agree.sum() < FEWEST_FOR_AFFINE:
            break
        trial = _affine(a[agree], b[agree])
        if trial is None:
            break
        best = trial
    return float((1 - (_errors(best, a, b) / tolerance).square()).clamp(min=0).sum()), best


def _affine(a: Tensor, b: Tensor) -> Tensor | None:
    """The map (2, 3) from (M, 3) to (M, 2) by least squares; None where it would squash, stretch or mirror too much."""
    # by the normal equations: LAPACK's least squares depends, in the last digit, on where in memory things lie
    solution, _ = torch.linalg.solve_ex(a.T @ a, a.T @ b)
    if not solution.isfinite().all() or torch.linalg.det(solution[:2]) <= 0:
        return None
    stretch = torch.linalg.svdvals(solution[:2])
    return solution.T if stretch[0] < LARGEST_STRETCH * stretch[1] else None


def _errors(map_: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Distances of images from partners, in units of the fixed world. (2, 3), (M, 3), (M, 2) -> (M,)"""
    return (a @ map_.T - b).norm(dim=1) / torch.linalg.det(map_[:, :2]).sqrt()


def _in_world(map_: Tensor, fixed: Image, moving: Image, axes: Tensor) -> Tensor:
    """moving_from_fixed of a map (2, 3) between places along `axes` from the images' centres. shape: (3, 3)"""
    linear = axes @ map_[:, :2] @ axes.T
    return homogeneous(linear, moving.grid.centre + axes @ map_[:, 2] - linear @ fixed.grid.centre)
