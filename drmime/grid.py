"""Where pixels lie: shape, pixel-to-world matrix, and the four coordinate frames.

| frame | what |
|---|---|
| index | pixel centres, x first |
| world | physical units, or pixels when none are given |
| frame | centred on the grid, divided by ONE scalar (half its longest side), so that a rotation stays a rotation |
| unit  | [-1, 1] from the outer edge of the first pixel to the outer edge of the last |

Matrices are named `a_from_b` and are float64, homogeneous, coordinates x first. Shapes and spacings are in array order
(slowest axis first), as NumPy has them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Grid:
    """Pixels of a given shape (array order) at the places that `world_from_index` says; geometry only."""

    shape: tuple[int, ...]
    world_from_index: Tensor  # shape: (D+1, D+1), float64

    @classmethod
    def regular(cls, shape: Sequence[int], spacing: Sequence[float] | None = None) -> "Grid":
        """An axis-aligned grid whose first pixel centre is the origin; `spacing` in array order, 1 by default."""
        spacing = [1.0] * len(shape) if spacing is None else spacing
        return cls(tuple(shape), torch.diag(torch.tensor([*reversed(spacing), 1.0], dtype=torch.float64)))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def size(self) -> Tensor:
        """Pixels along x, y[, z]. shape: (D,)"""
        return torch.tensor(self.shape[::-1], dtype=torch.float64)

    @cached_property
    def spacing(self) -> Tensor:
        """World length of one pixel along x, y[, z]. shape: (D,)"""
        return self.world_from_index[:-1, :-1].norm(dim=0)

    @cached_property
    def extent(self) -> Tensor:
        """World length of the whole grid along x, y[, z]. shape: (D,)"""
        return self.size * self.spacing

    @cached_property
    def index_from_world(self) -> Tensor:
        return torch.linalg.inv(self.world_from_index)

    @cached_property
    def unit_from_index(self) -> Tensor:
        return scale_and_shift(2 / self.size, 1 / self.size - 1)

    @cached_property
    def unit_from_world(self) -> Tensor:
        return self.unit_from_index @ self.index_from_world

    @cached_property
    def centre(self) -> Tensor:
        """World coordinates of the middle of the grid. shape: (D,)"""
        middle = (self.size - 1) / 2
        return self.world_from_index[:-1, :-1] @ middle + self.world_from_index[:-1, -1]

    @cached_property
    def world_from_frame(self) -> Tensor:
        radius = self.extent.max() / 2
        return scale_and_shift(radius.expand(self.ndim), self.centre)

    @cached_property
    def world_from_unit(self) -> Tensor:
        return torch.linalg.inv(self.unit_from_world)

    def index_points(self) -> Tensor:
        """Index coordinates of every pixel in array order. shape: (prod(shape), D), float64"""
        axes = [torch.arange(n, dtype=torch.float64) for n in self.shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2).flip(-1)

    def corners(self) -> Tensor:
        """World coordinates of the outer corners. shape: (2**D, D)"""
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * self.ndim)
        return apply(self.world_from_unit, signs)[0]

    def along(self, axes: Sequence[int]) -> "Grid":
        """The grid of some of the axes (array order), in as many dimensions of the world.

        Where these axes run along world axes, those are kept, with origin and direction. A plane that is oblique to the world
        axes gets a regular grid of its pixel lengths: its origin and direction are dropped.
        """
        if len(axes) == self.ndim:
            return self
        columns = [self.ndim - 1 - axis for axis in reversed(axes)]
        shape = tuple(self.shape[axis] for axis in axes)
        linear = self.world_from_index[:-1, columns]
        rows = (linear.abs() > 1e-6 * linear.abs().max()).any(1).nonzero()[:, 0]
        if len(rows) != len(axes):
            return Grid.regular(shape, self.spacing[columns].flip(0).tolist())
        return Grid(shape, homogeneous(linear[rows], self.world_from_index[rows, -1]))

    def halved(self, axes: Sequence[int]) -> "Grid":
        """The grid of half as many pixels along `axes` (array order), each in the middle of the two it replaces."""
        factor = torch.tensor([2.0 if axis in axes else 1.0 for axis in range(self.ndim)], dtype=torch.float64).flip(0)
        shape = tuple(n // 2 if axis in axes else n for axis, n in enumerate(self.shape))
        return Grid(shape, self.world_from_index @ scale_and_shift(factor, (factor - 1) / 2))


def homogeneous(linear: Tensor, shift: Tensor) -> Tensor:
    """The homogeneous matrix of x -> linear x + shift. (..., D, D), (..., D) -> (..., D+1, D+1)"""
    side = linear.shape[-1] + 1
    matrix = linear.new_zeros(*linear.shape[:-2], side, side)
    matrix[..., :-1, :-1], matrix[..., :-1, -1], matrix[..., -1, -1] = linear, shift, 1
    return matrix


def scale_and_shift(scale: Tensor, shift: Tensor) -> Tensor:
    """The homogeneous matrix of x -> scale * x + shift. (D,), (D,) -> (D+1, D+1)"""
    return homogeneous(torch.diag(scale), shift)


def translation(shift: Tensor) -> Tensor:
    """The homogeneous matrix of x -> x + shift. (D,) -> (D+1, D+1)"""
    return scale_and_shift(torch.ones_like(shift), shift)


def border(shape: Sequence[int]) -> Tensor:
    """True for the outermost pixels. shape: `shape`, bool"""
    edge = torch.ones(*shape, dtype=torch.bool)
    edge[(slice(1, -1),) * len(shape)] = False
    return edge


def apply(matrix: Tensor, points: Tensor, is_affine: bool = False) -> tuple[Tensor, Tensor]:
    """Map points by homogeneous matrices: (..., D+1, D+1), (..., N, D) -> points (..., N, D), in_front (..., N).

    Where a projective denominator is not positive the point lies at or behind the horizon: it has no image, `in_front`
    is False, and the returned coordinates are finite but mean nothing. `is_affine`: the last rows are known to be 0 … 0 1.
    """
    if is_affine:
        places = combined(points, matrix[..., :-1, :-1]) + matrix[..., None, :-1, -1]
        return places, torch.ones((), dtype=torch.bool, device=places.device).expand(places.shape[:-1])
    homogeneous = combined(points, matrix[..., :-1]) + matrix[..., None, :, -1]
    denominator = homogeneous[..., -1:]
    in_front = denominator > 1e-6
    return homogeneous[..., :-1] / torch.where(in_front, denominator, 1.0), in_front[..., 0]


def slopes(matrix: Tensor, points: Tensor) -> Tensor:
    """Of mapped points by points, times their positive denominators. (..., D+1, D+1), (..., N, D) -> (..., N, D, D)"""
    places, _ = apply(matrix, points)
    return matrix[..., None, :-1, :-1] - places[..., :, None] * matrix[..., None, -1:, :-1]


def linear_part(matrix: Tensor, grid: Grid) -> Tensor:
    """What maps (..., D+1, D+1) are to first order in the middle of `grid`; the upper left of affine ones. (..., D, D)

    The middle is in front of the horizon (`scaled`).
    """
    middle = grid.centre.to(matrix)
    denominator = matrix[..., -1, :-1] @ middle + matrix[..., -1, -1]
    return slopes(matrix, middle[None])[..., 0, :, :] / denominator[..., None, None]


def mapped(matrix: Tensor, points: Tensor) -> np.ndarray:
    """`apply` for people: (D+1, D+1), (N, D) -> (N, D), NaN where a point has no image."""
    places, in_front = apply(matrix.double(), points.double())
    return torch.where(in_front[:, None], places, torch.nan).numpy()


def combined(values: Tensor, matrix: Tensor) -> Tensor:
    """values @ matrixᵀ, (..., N, m) and (..., n, m) -> (..., N, n), for a handful of columns.

    The result lies in memory column by column, whatever `values` does: loops over a handful of entries are slow.
    """
    if values.is_cuda:  # where products of matrices may be set to fewer digits (TF32) than coordinates need
        return (matrix[..., None] * values.mT[..., None, :, :]).sum(-2).mT
    return (matrix @ values.mT).mT


def affine(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """`homogeneous` of arrays: the matrix of x -> linear x + shift. (D, D), (D,) -> (D+1, D+1), float64"""
    parts = (torch.tensor(np.ascontiguousarray(part, np.float64)) for part in (linear, shift))
    return homogeneous(*parts).numpy()


def scaled(matrix: Tensor, grid: Grid) -> Tensor:
    """The same projective map in the scale and sign that `apply` needs, for images on `grid`. (..., D+1, D+1), the same

    The denominator is positive in the middle of the grid (the matrix is all zero if it is zero there), and the last entry
    is 1 or -1 wherever it is not 0.
    """
    denominator = matrix[..., -1, :-1] @ grid.centre.to(matrix) + matrix[..., -1, -1]
    last = matrix[..., -1, -1].abs()
    return matrix * (denominator.sign() / torch.where(last > 0, last, 1))[..., None, None]
