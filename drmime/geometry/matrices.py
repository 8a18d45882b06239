"""Make homogeneous matrices and apply them to points. Products compose by adjacent names: `a_from_b @ b_from_c`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import numbers


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


def affine(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """`homogeneous` for NumPy arrays: the matrix of x -> linear x + shift. (D, D), (D,) -> (D+1, D+1), float64"""
    parts = (torch.tensor(np.ascontiguousarray(part, np.float64)) for part in (linear, shift))
    return homogeneous(*parts).numpy()


def square(rows: Any, ndim: int) -> Tensor:
    """Convert rows of numbers to a homogeneous matrix (D+1, D+1), float64.

    Raises:
        ValueError: the shape is wrong, or a number is not finite.
    """
    matrix = torch.as_tensor(np.array(rows, dtype=float))
    if matrix.shape != (ndim + 1, ndim + 1) or not matrix.isfinite().all():
        raise ValueError(f"expected a finite matrix of {ndim + 1} rows and columns")
    return matrix


def invertible(rows: Any, ndim: int) -> Tensor:
    """`square` for invertible matrices. Raises: ValueError: likewise, or the matrix has no inverse."""
    matrix = square(rows, ndim)
    if np.linalg.det(matrix.numpy()) == 0:  # the numerical rank would depend on the units
        raise ValueError("expected an invertible matrix")
    return matrix


def apply(matrix: Tensor, points: Tensor, is_affine: bool = False) -> tuple[Tensor, Tensor]:
    """Map points by homogeneous matrices: (..., D+1, D+1), (..., N, D) -> points (..., N, D), in_front (..., N).

    A point whose projective denominator is not positive lies at or behind the horizon and has no image: `in_front` is False
    and the returned coordinates are finite but meaningless. `is_affine`: the last rows are known to be 0 … 0 1.
    """
    if is_affine:
        linear, shift = matrix[..., :-1, :].split([points.shape[-1], 1], -1)
        places = combined(points, linear, shift)
        return places, torch.ones((), dtype=torch.bool, device=places.device).expand(places.shape[:-1])
    homogeneous = combined(points, *matrix.split([points.shape[-1], 1], -1))
    denominator = homogeneous[..., -1:]
    in_front = denominator > 1e-6
    return homogeneous[..., :-1] / torch.where(in_front, denominator, 1.0), in_front[..., 0]


def slopes(matrix: Tensor, points: Tensor) -> Tensor:
    """Jacobians of the map at points, times the positive denominators. (..., D+1, D+1), (..., N, D) -> (..., N, D, D)"""
    places, _ = apply(matrix, points)
    return matrix[..., None, :-1, :-1] - places[..., :, None] * matrix[..., None, -1:, :-1]


def mapped(matrix: Any, points: Any) -> np.ndarray:
    """Map points (N, D) by a matrix (D+1, D+1), both arrays or lists. -> (N, D); NaN where a point is behind the horizon"""
    places, in_front = apply(torch.as_tensor(numbers("matrix", matrix)), torch.as_tensor(numbers("points", points)))
    return torch.where(in_front[:, None], places, torch.nan).numpy()


def combined(values: Tensor, matrix: Tensor, shift: Tensor | None = None) -> Tensor:
    """values @ matrixᵀ + shiftᵀ, (..., N, m), (..., n, m) and (..., n, 1) -> (..., N, n), for few columns (N large).

    The result is stored column by column, whatever the layout of `values`: inner loops over few entries are slow.
    """
    if values.device.type != "cpu":  # matrix products may be set to TF32, which is too imprecise for coordinates
        product = (matrix[..., None] * values.mT[..., None, :, :]).sum(-2)
        return (product if shift is None else product + shift).mT
    if values.ndim == matrix.ndim == 2:
        product = matrix @ values.mT
        return (product if shift is None else product + shift).mT
    # torch.broadcast_shapes would import a symbolic algebra package
    lead = np.broadcast_shapes(values.shape[:-2], matrix.shape[:-2])
    matrix, columns = _as_list(matrix, lead), _as_list(values.mT, lead)
    product = torch.bmm(matrix, columns) if shift is None else torch.baddbmm(_as_list(shift, lead), matrix, columns)
    return product.view(*lead, *product.shape[-2:]).mT


def _as_list(matrices: Tensor, lead: tuple[int, ...]) -> Tensor:
    """Matrices (..., n, m), broadcast to the leading sides `lead`, as one list of them. shape: (prod(lead), n, m)"""
    matrices = matrices if matrices.shape[:-2] == lead else matrices.expand(*lead, -1, -1)
    return matrices if len(lead) == 1 else matrices.flatten(0, -3)
