"""The similarity or affine map on which most of many matched places agree.

By all pairs of matches (RANSAC, Fischler and Bolles 1981, doi 10.1145/358669.358692, without the chance), then by least squares
over the matches that agree.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from drmime.errors import InputError, whole
from drmime.geometry.matrices import homogeneous
from drmime.image.image import Image
from drmime.start.propose.base import directions, distinct, stacked

MATCHES = 150  # the best of one list
HYPOTHESES = 800  # of each list
LARGEST_TURN, LARGEST_RATIO = 0.4, 1.4  # radians and scale by which a pair of matches may differ from what is expected
TOLERANCE = 0.025  # of the longest side
APART = 0.1  # of the diagonal: candidates whose corners are nearer than that are one
REFITS = 4
FEWEST_FOR_AFFINE = 8  # matches
LARGEST_STRETCH = 1.6  # of an affine map, one direction against the other


class Hypothesis(NamedTuple):
    """The similarity b = linear * a + shift, on complex places, that the most matches (a, b) agree on."""

    support: float
    linear: Tensor
    shift: Tensor
    a: Tensor  # shape: (M,), complex
    b: Tensor  # shape: (M,), complex


def mutual(likeness: Tensor) -> tuple[Tensor, Tensor]:
    """The rows and columns of (N, M) that are each other's best, at most `MATCHES` of them, the best first."""
    best, partner = likeness.max(1)
    rows = torch.nonzero(likeness.argmax(0)[partner] == torch.arange(len(partner)))[:, 0]
    rows = rows[best[rows].argsort(descending=True, stable=True)[:MATCHES]]
    return rows, partner[rows]


def hypothesis(a: Tensor, b: Tensor, expected: Tensor, tolerance: float) -> Hypothesis | None:
    """The similarity of most support, from places `a` to `b`, (M,) complex, each with the turn and scale `expected` of it,
    (M,) or (), complex; None where no two matches are as expected.
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
    """A start by matched places, 2-D only: what differs is how places are found and described (`hypotheses`)."""

    what: str  # subject and verb of the sentence that refuses volumes

    def __init__(self, name: str, count: int, least: int, side: int, smallest: int, keypoints: int) -> None:
        """`name` is that of the proposer in messages, `smallest` the least `side`."""
        self.count = whole(f"{name}: count", count, 1, 10_000)
        self.least = whole(f"{name}: least", least, 3)
        self.side = whole(f"{name}: side", side, smallest, 2**13)
        self.keypoints = whole(f"{name}: keypoints", keypoints, 10, 10**5)

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        """moving_from_fixed, world units, best first. shape: (K, 3, 3), 0 <= K <= count"""
        if fixed.grid.ndim != 2:
            raise InputError(f"{self.what} for 2-D images, got 3-D. Take a global search, the moments of mass or landmarks.")
        axes = directions(fixed.grid)
        tolerance = TOLERANCE * float(fixed.grid.extent.max())
        first = sorted(self.hypotheses(fixed, moving, axes, tolerance), key=lambda one: -one.support)[: 4 * self.count]
        maps = sorted((_refined(one, tolerance) for one in first), key=lambda pair: -pair[0])
        matrices = [_in_world(map_, fixed, moving, axes) for support, map_ in maps if support >= self.least]
        return distinct(stacked(matrices, 2), fixed.grid, self.count, APART, torch.amax)

    def hypotheses(self, fixed: Image, moving: Image, axes: Tensor, tolerance: float) -> list[Hypothesis]:
        """Similarities between places in world units from the images' centres, along the columns of `axes`."""
        raise NotImplementedError


def _refined(one: Hypothesis, tolerance: float) -> tuple[float, Tensor]:
    """Support and map (2, 3) after least squares over the matches that agree: affine where they carry one."""
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
