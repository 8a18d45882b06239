"""A start from corresponding points: least squares in any group, by Levenberg-Marquardt on the group itself.

A step multiplies the matrix by the exponential of a small element of the algebra, so every iterate belongs to the group and
the derivatives at zero have a closed form (Marquardt 1963, doi 10.1137/0111030; on groups: Absil, Mahony and Sepulchre 2008,
isbn 9780691132983, chapter 8). The iteration starts at many rotations, so that large ones are found as well.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry import lie
from drmime.geometry.grid import Grid, scaled
from drmime.geometry.matrices import apply
from drmime.image.image import Image
from drmime.points.corresponding import corresponding, in_worlds
from drmime.start.propose.base import Proposer

Group = str | Sequence[str] | Mapping[str, Tensor]

STEPS = 200
ANGLES = 8  # initial rotations in 2-D
FLAT = 1e-5  # of the largest singular value: smaller ones count as 0, as for points on a line or in a plane
SQUASHED = 1e-3  # smallest to largest stretch of a map, below which the points are taken to be mirrored


class Landmarks:
    """The map of `group` that takes the fixed points to the moving points with the least sum of squared distances.

    Args:
        fixed_points, moving_points: (N, D), row i corresponds to row i, in pixels of their image, x first, 0-based, pixel
            centres; or paths of CSV files with columns x,y[,z].
        group: as for `drmime.geometry.lie.generators`.

    Raises:
        InputError: a bad file, points not finite or not (N, 2) or (N, 3), unequal numbers, fewer than the group needs.
    """

    def __init__(self, fixed_points: Any, moving_points: Any, group: Group = "rigid") -> None:
        self.fixed_points, self.moving_points = corresponding(fixed_points, moving_points)
        self.generators = lie.generators(group, self.fixed_points.shape[1])
        _check_counts(self.fixed_points, self.moving_points, self.generators)

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        """moving_from_fixed, world units. (1, D+1, D+1). InputError as `fit`, and for images of another dimension."""
        return self.on(fixed.grid, moving.grid)(fixed, moving)

    def on(self, fixed: Grid, moving: Grid) -> Proposer:
        """The proposer for points in pixels of images on these grids, whatever levels of them it is given."""
        sources, targets = in_worlds((self.fixed_points, self.moving_points), (fixed, moving))
        return lambda image, _: fit(sources, targets, self.generators, image.grid)[None]


def fit(fixed_points: Tensor, moving_points: Tensor, group: Mapping[str, Tensor], grid: Grid) -> Tensor:
    """moving_from_fixed of a group that takes (N, D) world points to (N, D) world points best, by least squares.

    `group` is what `drmime.geometry.lie.generators` returns; they act in the frame of `grid`, the fixed grid, as in
    `LieModel`. The last entry is 1 (-1 if the world's origin lies behind a projective map's horizon).
    shape: (D+1, D+1), float64

    Raises:
        InputError: unequal numbers of points, too few, or all on one point, line or plane; points that are mirrored.
    """
    _check_counts(fixed_points, moving_points, group)
    frame_from_world = torch.linalg.inv(grid.world_from_frame)
    source, _ = apply(frame_from_world, fixed_points.to(torch.float64))
    target, _ = apply(frame_from_world, moving_points.to(torch.float64))
    basis = torch.stack(list(group.values()))
    _check_spread(source, target, basis)
    matrices, costs = _refined(_starts(source, target, basis), source, target, basis)
    best = matrices[costs.argmin()]
    images, _ = apply(best, source)
    slopes = best[:-1, :-1] - images[..., None] * best[-1, :-1]  # of the map at each point, but for a factor. (N, D, D)
    stretches = torch.linalg.svdvals(slopes)
    if (stretches[:, -1] < SQUASHED * stretches[:, 0]).all():
        raise InputError(
            "landmarks: the best map squashes the image flat, as where one set of points is the mirror image of the other. "
            "Check that rows correspond and that x comes before y; flip one image if it is mirrored."
        )
    matrix = scaled(grid.world_from_frame @ best @ frame_from_world, grid)
    return matrix if matrix[-1, -1] == 0 else matrix / matrix[-1, -1].abs()  # 1 to the last digit


def _check_counts(fixed_points: Tensor, moving_points: Tensor, group: Mapping[str, Tensor]) -> None:
    if fixed_points.shape != moving_points.shape:
        got = f"{tuple(fixed_points.shape)} fixed and {tuple(moving_points.shape)} moving"
        raise InputError(f"landmarks: expected as many fixed as moving points, of one dimension, got {got}")
    count, ndim = fixed_points.shape
    least = math.ceil(_rank(torch.stack(list(group.values())).flatten(1)) / ndim)
    if count < least:
        raise InputError(f"landmarks: expected at least {least} pairs for this group in {ndim}-D, got {count}")


def _check_spread(source: Tensor, target: Tensor, basis: Tensor) -> None:
    """Check that the points determine a map and its inverse: the generators' displacements are linearly independent."""
    spreads = [(points - points.mean(0)).norm() for points in (source, target)]
    size = spreads[0] / spreads[1] if spreads[1] > 0 else 1.0
    identity = torch.eye(len(basis[0]), dtype=torch.float64)[None]
    for role, points in (("fixed", source), ("moving", (target - target.mean(0)) * size + source.mean(0))):
        if _rank(_jacobian(identity, points, basis)[0]) < _rank(basis.flatten(1)):
            raise InputError(
                f"landmarks: the {role} points do not determine a map of this group: they coincide, lie on one line or, in "
                "3-D, in one plane. Add points elsewhere, or take a smaller group."
            )


def _rank(matrix: Tensor) -> int:
    values = torch.linalg.svdvals(matrix)
    return int((values > FLAT * values.max()).sum())


def _starts(source: Tensor, target: Tensor, basis: Tensor) -> Tensor:
    """Initial maps in the group: coarse rotations, scale by the ratio of spreads, centroid on centroid. (S, D+1, D+1)"""
    ndim = source.shape[1]
    parts = lie.generators(["translation", "rotation", "scale"], ndim)
    parts = {
        name: part for name, part in parts.items() if _rank(torch.stack([*basis, part]).flatten(1)) == _rank(basis.flatten(1))
    }
    planes = [part for name, part in parts.items() if name.startswith("rotation")]
    starts = torch.eye(ndim + 1, dtype=torch.float64)[None]
    if len(planes) == 1:
        angles = torch.arange(ANGLES, dtype=torch.float64) * (2 * math.pi / ANGLES)
        starts = lie.exp(angles[:, None], planes[0][None])
    elif planes:
        starts = _cube_rotations()
    if "scale" in parts:
        starts[:, :-1, :-1] *= (target - target.mean(0)).norm() / (source - source.mean(0)).norm()
    shifts = target.mean(0) - apply(starts, source.mean(0)[None])[0][:, 0]
    free = torch.tensor([f"translation_{axis}" in parts for axis in lie.AXES[:ndim]])
    starts[:, :-1, -1] = torch.where(free, shifts, 0)
    return starts


def _cube_rotations() -> Tensor:
    """The 24 rotations of a cube. shape: (24, 4, 4)"""
    signs = torch.diag_embed(torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3))
    every = torch.cat([signs[:, :, list(order)] for order in itertools.permutations(range(3))])
    return F.pad(every[torch.linalg.det(every) > 0], (0, 1, 0, 1)) + torch.diag(
        torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    )


def _jacobian(matrices: Tensor, source: Tensor, basis: Tensor) -> Tensor:
    """Derivatives of the points mapped by `matrices @ exp(delta)`, at delta = 0: (S, n, n), (N, D) -> (S, N * D, K)"""
    homogeneous = torch.cat([source, torch.ones_like(source[:, :1])], 1)
    image = torch.einsum("sij,nj->sni", matrices, homogeneous)
    moved = torch.einsum("sij,kjl,nl->snik", matrices, basis, homogeneous)
    below = image[:, :, -1:, None]
    return ((moved[:, :, :-1] - image[:, :, :-1, None] / below * moved[:, :, -1:]) / below).flatten(1, 2)


def _misfit(matrices: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals (S, N * D) and their sums of squares (S,), infinite where a point has no image."""
    images, in_front = apply(matrices, source)
    residuals = (images - target).flatten(1)
    costs = residuals.square().sum(1)
    return residuals, torch.where(in_front.all(1) & costs.isfinite(), costs, math.inf)


def _refined(matrices: Tensor, source: Tensor, target: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt from all initial maps at once: the final matrices (S, D+1, D+1) and their costs (S,)."""
    damping = torch.full_like(matrices[:, 0, 0], 1e-3)
    residuals, costs = _misfit(matrices, source, target)
    least: Tensor | None = None  # of the diagonal; keeps the system solvable if a scale has gone to 0
    for _ in range(STEPS):
        jacobian = _jacobian(matrices, source, basis)
        normal = jacobian.mT @ jacobian
        diagonal = normal.diagonal(dim1=1, dim2=2)
        least = 1e-12 * diagonal.amax(1, keepdim=True) if least is None else least
        normal = normal + torch.diag_embed(damping[:, None] * diagonal + least)
        steps = torch.linalg.solve(normal, -(jacobian.mT @ residuals[..., None]))[..., 0]
        trials = matrices @ lie.exp(steps, basis)
        new_residuals, new_costs = _misfit(trials, source, target)
        better = new_costs < costs
        matrices = torch.where(better[:, None, None], trials, matrices)
        residuals = torch.where(better[:, None], new_residuals, residuals)
        costs = torch.where(better, new_costs, costs)
        damping = torch.where(better, damping / 8, damping * 4).clamp(min=1e-14)
        if ((steps.abs().amax(1) < 1e-13) | (damping > 1e3)).all():
            break
    return matrices, costs
