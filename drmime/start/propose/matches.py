"""The similarity or affine map on which most of many matched places agree.

Pairs of matches give hypotheses (RANSAC, Fischler and Bolles 1981, doi 10.1145/358669.358692, but deterministic instead of
random); the best are refined by least squares over the matches that agree.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError, whole
from drmime.geometry.matrices import homogeneous
from drmime.image.image import Image
from drmime.start.propose.base import directions, distinct, stacked

MATCHES = 150  # most matches used, the best first
HYPOTHESES = 800  # most pairs of matches tried
LARGEST_TURN, LARGEST_RATIO = 0.4, 1.4  # radians and scale by which a pair of matches may differ from what is expected
TOLERANCE = 0.025  # of the longest side: distance up to which a match agrees
APART = 0.1  # of the diagonal: candidates whose corners are all nearer than that are one
REFITS = 4  # of the affine map
FEWEST_FOR_AFFINE = 8  # matches
LARGEST_STRETCH = 1.6  # largest to smallest stretch of an affine map


class Hypothesis(NamedTuple):
    """The similarity b = linear * a + shift, on complex places, on which most matches (a, b) agree."""

    support: float  # number of matches that agree, weighted from 1 to 0 by their distance
    linear: Tensor
    shift: Tensor
    a: Tensor  # shape: (M,), complex
    b: Tensor  # shape: (M,), complex


def mutual(likeness: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of (N, M) that are each other's maximum, at most `MATCHES` of them, the best first."""
    best, partner = likeness.max(1)
    rows = torch.nonzero(likeness.argmax(0)[partner] == torch.arange(len(partner)))[:, 0]
    rows = rows[best[rows].argsort(descending=True, stable=True)[:MATCHES]]
    return rows, partner[rows]


def hypothesis(a: Tensor, b: Tensor, expected: Tensor, tolerance: float) -> Hypothesis | None:
    """The similarity of most support from places `a` to `b`, (M,) complex; None if no two matches are as expected.

    `expected`: rotation and scale expected of each match or of all, (M,) or (), complex. `tolerance`: world length.
    """
    i, j = torch.triu_indices(len(a), len(a), 1)
    far_enough = (a[j] - a[i]).abs() > 3 * tolerance
    i, j = i[far_enough], j[far_enough]
    linear = (b[j] - b[i]) / (a[j] - a[i])
    off = linear / expected.expand(len(a))[i]
    likely = (off.abs().log().abs() < math.log(LARGEST_RATIO)) & (off.angle().abs() < LARGEST_TURN)
    linear, i = linear[likely], i[likely]
    if not len(i):
        return None
    linear, i = linear[:: len(i) // HYPOTHESES + 1], i[:: len(i) // HYPOTHESES + 1]
    shift = b[i] - linear * a[i]
    errors = (linear[:, None] * a + shift[:, None] - b).abs() / linear.abs()[:, None]
    support, index = (1 - (errors / tolerance).square()).clamp(min=0).sum(1).max(0)
    return Hypothesis(float(support), linear[index], shift[index], a, b)


class Matched:
    """Base of proposers that match places, 2-D only; subclasses find and describe the places (`hypotheses`)."""

    what: str  # subject and verb of the message for volumes, such as "features are"

    def __init__(self, name: str, count: int, least: int, side: int, smallest: int, keypoints: int) -> None:
        """`name`: of the proposer in messages; `smallest`: least `side` allowed; for the others see the subclasses."""
        self.count = whole(f"{name}: count", count, 1, 10_000)
        self.least = whole(f"{name}: least", least, 3)
        self.side = whole(f"{name}: side", side, smallest, 2**13)
        self.keypoints = whole(f"{name}: keypoints", keypoints, 10, 10**5)

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        """moving_from_fixed, world units, best first. shape: (K, 3, 3), 0 <= K <= count

        Raises:
            InputError: images that are not 2-D.
        """
        if fixed.grid.ndim != 2:
            raise InputError(f"{self.what} for 2-D images, got 3-D. Take a global search, the moments of mass or landmarks.")
        axes = directions(fixed.grid)
        tolerance = TOLERANCE * float(fixed.grid.extent.max())
        first = sorted(self.hypotheses(fixed, moving, axes, tolerance), key=lambda one: -one.support)[: 4 * self.count]
        maps = sorted((_refined(one, tolerance) for one in first), key=lambda pair: -pair[0])
        matrices = [_in_world(map_, fixed, moving, axes) for support, map_ in maps if support >= self.least]
        return distinct(stacked(matrices, 2), fixed.grid, self.count, APART, np.amax)

    def hypotheses(self, fixed: Image, moving: Image, axes: Tensor, tolerance: float) -> list[Hypothesis]:
        """Similarities between places in world units from the images' centres, along the columns of `axes`."""
        raise NotImplementedError


def _refined(one: Hypothesis, tolerance: float) -> tuple[float, Tensor]:
    """Support and map (2, 3) after least squares over the matches that agree: affine if they determine an acceptable one."""
    a, b = (torch.view_as_real(places).double() for places in (one.a, one.b))
    a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
    (c, s), shift = torch.view_as_real(one.linear).tolist(), torch.view_as_real(one.shift).double()
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
    """The map (2, 3) from (M, 3) to (M, 2) by least squares; None if it is singular, mirrored or stretched too much."""
    # by the normal equations: the last digit of LAPACK's least squares depends on the memory addresses
    solution, _ = torch.linalg.solve_ex(a.T @ a, a.T @ b)
    if not solution.isfinite().all() or torch.linalg.det(solution[:2]) <= 0:
        return None
    stretch = torch.linalg.svdvals(solution[:2])
    return solution.T if stretch[0] < LARGEST_STRETCH * stretch[1] else None


def _errors(map_: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Distances of mapped places from their matches, in units of the fixed world. (2, 3), (M, 3), (M, 2) -> (M,)"""
    return (a @ map_.T - b).norm(dim=1) / torch.linalg.det(map_[:, :2]).sqrt()


def _in_world(map_: Tensor, fixed: Image, moving: Image, axes: Tensor) -> Tensor:
    """moving_from_fixed of a map (2, 3) between places along `axes` from the images' centres. shape: (3, 3)"""
    linear = axes @ map_[:, :2] @ axes.T
    return homogeneous(linear, moving.grid.centre + axes @ map_[:, 2] - linear @ fixed.grid.centre)
