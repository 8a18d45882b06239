"""Lie groups as lists of named generators, in any dimension.

A transform is exp(sum_k theta_k B_k): with all theta zero it is exactly the identity, and every theta gives an invertible
matrix of the group. A group is a list of blocks; each block spans one kind of motion. All generators have similar
magnitude: a coefficient of 0.01 moves the edge of an image by about 1 % of its half side.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from drmime.errors import InputError
from drmime.registry import known

AXES = "xyz"
HALVINGS = 6  # of a matrix before its series is computed, and squarings afterwards

GROUPS: dict[str, tuple[str, ...]] = {
    "translation": ("translation",),
    "rigid": ("translation", "rotation"),
    "similarity": ("translation", "rotation", "scale"),
    "affine": ("translation", "rotation", "scale", "stretch", "shear"),
    "projective": ("translation", "rotation", "scale", "stretch", "shear", "perspective"),
}


def generators(group: str | Sequence[str] | Mapping[str, Tensor], ndim: int) -> dict[str, Tensor]:
    """Generators by name, each (D+1, D+1) float64, coordinates x first, of a group in `ndim` (2 or 3) dimensions.

    `group` is a name in `GROUPS`, a list of blocks ("rotation") or single generators ("scale", "translation_x",
    "shear_xy"), or a mapping from names to the caller's own matrices.

    Raises:
        InputError: an unknown name, no generator at all, or a matrix of the wrong shape or with values that are not finite.
    """
    if isinstance(group, Mapping):
        return {str(name): _checked_matrix(name, matrix, ndim) for name, matrix in group.items()} or _raise_no_generator()
    every = _every(ndim)
    blocks = {name.split("_")[0] for name in every}
    if isinstance(group, str):
        wanted: Sequence[str] = GROUPS[known("group of generators", group, GROUPS)]
    elif not isinstance(group, Sequence):
        raise InputError(f"generators: expected a name, a list of generators or a mapping, got {group!r}")
    else:
        wanted = [known("generator", name, {*blocks, *every}) for name in group]
    chosen = {name: matrix for name, matrix in every.items() if name in wanted or name.split("_")[0] in wanted}
    return chosen or _raise_no_generator()


def exp(coefficients: Tensor, basis: Tensor) -> Tensor:
    """The matrix exponential of the weighted sum of generators: (..., K), (K, n, n) -> (..., n, n)."""
    weighted = _weighted(coefficients, basis)
    # torch's function chooses the degree of its series by the norms, for which it waits for a GPU
    return torch.linalg.matrix_exp(weighted) if weighted.device.type == "cpu" else exp_by_series(weighted)


def exp_by_series(matrices: Tensor) -> Tensor:
    """The matrix exponential by a series of fixed degree, scaled and squared (Moler and Van Loan, doi 10.1137/S00361445024180).

    (..., n, n) -> (..., n, n). In float64 the relative error is 3e-14 for norms up to 16, and 1e-8 up to 64.
    """
    small = matrices.reshape(-1, *matrices.shape[-2:]) / 2**HALVINGS
    one = torch.eye(small.shape[-1], dtype=small.dtype, device=small.device).expand_as(small)
    second = small.bmm(small)
    third, fourth = second.bmm(small), second.bmm(second)
    powers = torch.stack([one, small, second, third]).flatten(1)
    first, middle, last = (_series(small.dtype, small.device) @ powers).view(3, *small.shape).unbind()
    found = torch.baddbmm(first, fourth, torch.baddbmm(middle, fourth, last))
    for _ in range(HALVINGS):
        found = found.bmm(found)
    return found.view_as(matrices)


@functools.cache
def _series(dtype: torch.dtype, device: torch.device) -> Tensor:
    """1 / k! for k from 0 to 11. shape: (3, 4)"""
    with torch.inference_mode(False):
        return torch.tensor([1 / math.factorial(k) for k in range(12)], dtype=dtype, device=device).view(3, 4)


def direct(coefficients: Tensor, basis: Tensor) -> Tensor:
    """The identity plus the weighted sum of generators, `exp` to first order: (..., K), (K, n, n) -> (..., n, n)."""
    return torch.eye(basis.shape[-1], dtype=basis.dtype, device=basis.device) + _weighted(coefficients, basis)


def _weighted(coefficients: Tensor, basis: Tensor) -> Tensor:
    """The weighted sum of generators. (..., K), (K, n, n) -> (..., n, n)"""
    return (coefficients @ basis.flatten(1)).unflatten(-1, basis.shape[1:])


PARAMETRISATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"exponential": exp, "direct": direct}


@functools.cache
@torch.inference_mode(False)  # kept, so they must also be usable where gradients are computed
def _every(ndim: int) -> Mapping[str, Tensor]:
    """All named generators, in the order in which groups list them."""

    def unit(*entries: tuple[int, int, float]) -> Tensor:
        matrix = torch.zeros(ndim + 1, ndim + 1, dtype=torch.float64)
        for row, column, value in entries:
            matrix[row, column] = value
        return matrix

    axes, last = range(ndim), ndim
    pairs = [(i, j) for i in axes for j in axes if i < j]
    named = {f"translation_{AXES[i]}": unit((i, last, 1)) for i in axes}
    named |= {f"rotation_{AXES[i]}{AXES[j]}": unit((j, i, 1), (i, j, -1)) for i, j in pairs}
    named |= {"scale": unit(*((i, i, 1) for i in axes))}
    named |= {f"stretch_{AXES[i]}": unit((i, i, 1), (i + 1, i + 1, -1)) for i in axes[:-1]}
    named |= {f"shear_{AXES[i]}{AXES[j]}": unit((i, j, 1), (j, i, 1)) for i, j in pairs}
    named |= {f"perspective_{AXES[i]}": unit((last, i, 1)) for i in axes}
    return named


def _checked_matrix(name: str, matrix: Tensor, ndim: int) -> Tensor:
    try:
        matrix = torch.as_tensor(matrix, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"generator {name!r}: expected a matrix of numbers, got {matrix!r}") from error
    if matrix.shape != (ndim + 1, ndim + 1) or not matrix.isfinite().all():
        raise InputError(
            f"generator {name!r}: expected a finite matrix of shape {(ndim + 1, ndim + 1)}, got {tuple(matrix.shape)}"
        )
    return matrix.cpu().clone()


def _raise_no_generator() -> dict[str, Tensor]:
    raise InputError("generators: expected at least one, got none")


def affine_generators(generators: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The generators without a perspective part; all generators if every one has such a part."""
    return {name: matrix for name, matrix in generators.items() if not matrix[-1].any()} or dict(generators)


def similarity_generators(generators: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The generators that only translate, rotate or scale uniformly; all generators if there is none of these."""
    return {name: matrix for name, matrix in generators.items() if _is_similarity(matrix)} or dict(generators)


def _is_similarity(generator: Tensor) -> bool:
    linear = generator[:-1, :-1]
    even = linear.diagonal().mean() * torch.eye(len(linear)).to(linear)
    return not bool(generator[-1].any()) and bool(((linear + linear.mT) / 2 - even).abs().max() < 1e-9)
