"""Transforms that are one homogeneous matrix, and the model that optimises them: the exponential of weighted generators."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drmime.errors import InputError, switch
from drmime.geometry import lie
from drmime.geometry.grid import Grid, linear_part, scaled
from drmime.geometry.matrices import apply, invertible, slopes, square
from drmime.registry import known
from drmime.saved import fields
from drmime.transform.base import NO_HINTS, Family, Hints, Model, Places, Transform


@dataclass(frozen=True, eq=False)
class MatrixTransform(Transform):
    """An affine or projective map, x first."""

    matrix: Tensor  # shape: (D+1, D+1), float64, on the CPU; moving_from_fixed in world coordinates

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", torch.as_tensor(self.matrix).detach().to("cpu", torch.float64, copy=True))

    @property
    def ndim(self) -> int:
        return len(self.matrix) - 1

    @property
    def detail(self) -> float:
        return 0.0 if bool(self.matrix[-1, :-1].any()) else math.inf

    def __call__(self, points: Tensor) -> Tensor:
        places, in_front = apply(self.matrix, points)
        return torch.where(in_front[..., None], places, math.nan)

    def jacobian(self, points: Tensor) -> Tensor:
        denominator = points @ self.matrix[-1, :-1] + self.matrix[-1, -1]
        return slopes(self.matrix, points) / denominator[..., None, None]

    def inverse(self) -> "MatrixTransform":
        inverse = torch.linalg.inv(self.matrix)  # with the right sign: positive denominators stay positive
        return MatrixTransform(inverse / (inverse[-1, -1].abs() or 1))

    def joined(self, other: Transform) -> Transform | None:
        return MatrixTransform(self.matrix @ other.matrix) if isinstance(other, MatrixTransform) else None

    def describe(self, fixed: Grid | None) -> str:
        """Text with the shift of the fixed image's centre (without it, of the origin), rotation, scales and perspective."""
        return _in_words(self, fixed)

    def state(self) -> dict[str, Any]:
        return {"kind": "matrix", "matrix": self.matrix.tolist()}

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> "MatrixTransform":
        return cls(invertible(fields(state, {"matrix": [[float]]})["matrix"], ndim))


@dataclass(frozen=True, eq=False)
class LieTransform(MatrixTransform):
    """A matrix, with the generators and final coefficients of the `LieModel` that found it."""

    generators: Mapping[str, Tensor]  # shape: (D+1, D+1) each, of the fixed frame
    coefficients: Mapping[str, float]
    # independent small deviations of one standard deviation each, by which points vary before `matrix` is applied to them.
    # shape: (K, D+1, D+1), fixed world; None if not known
    modes: Tensor | None = None

    def deviation(self, points: Tensor) -> Tensor:
        if self.modes is None:
            return super().deviation(points)
        moved = points[..., None, :, :] @ self.modes[:, :-1, :-1].mT + self.modes[:, None, :-1, -1]
        moved = moved - points[..., None, :, :] * (points @ self.modes[:, -1, :-1].mT + self.modes[:, -1, -1]).mT[..., None]
        return (self.jacobian(points)[..., None, :, :, :] @ moved[..., None])[..., 0].square().sum(-3).sqrt()

    def state(self) -> dict[str, Any]:
        basis = {name: generator.tolist() for name, generator in self.generators.items()}
        modes = None if self.modes is None else self.modes.tolist()
        return {
            **super().state(),
            **{"kind": "lie", "generators": basis, "coefficients": dict(self.coefficients), "modes": modes},
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> "LieTransform":
        kinds = {
            "matrix": [[float]],
            "generators": {str: [[float]]},
            "coefficients": {str: float},
            "modes": (None, [[[float]]]),
        }
        matrix, generators, coefficients, modes = fields(state, kinds).values()
        basis = {name: square(rows, ndim) for name, rows in generators.items()}
        known = {name: float(value) for name, value in coefficients.items()}
        return cls(
            invertible(matrix, ndim), basis, known, torch.stack([square(rows, ndim) for rows in modes]) if modes else None
        )


class LieModel(Model):
    """A start times the exponential of weighted Lie-algebra generators, one for each pair (DRMIME, arXiv 2001.09865).

    moving_from_fixed = start @ world_from_frame @ exp(sum_k theta_k B_k) @ frame_from_world

    The exponential acts in the frame of the fixed grid and the start is applied after it. So any invertible start can be used
    with any group, without a matrix logarithm, and the conditioning does not depend on the position of the moving image in the
    world. Matrices are float64, since world coordinates can be large. At zero coefficients the map is the start.
    """

    basis: Tensor
    start: Tensor
    world_from_frame: Tensor
    frame_from_world: Tensor
    start_in_frames: Tensor

    def __init__(
        self,
        generators: Mapping[str, Tensor],
        start: Tensor,
        fixed: Grid,
        moving: Grid,
        finest_vector: bool = False,
        parametrisation: str = "exponential",
    ) -> None:
        """
        Args:
            generators: by name, (D+1, D+1) each, of the fixed frame.
            start: (B, D+1, D+1), moving_from_fixed, world.
            fixed, moving: grids of the finest levels.
            finest_vector: add DRMIME's second vector of coefficients, which acts on the finest level only.
            parametrisation: a name of `lie.PARAMETRISATIONS`; the function used as exp above.
        """
        super().__init__()
        self.generators, self.fixed, self.moving = dict(generators), fixed, moving
        self.parametrisation = lie.PARAMETRISATIONS[parametrisation]
        count = (start.shape[0], 2 if finest_vector else 1, len(self.generators))
        self.coefficients = nn.Parameter(torch.zeros(count, dtype=torch.float64))  # shape: (B, 1 or 2, K)
        self.register_buffer("basis", torch.stack(list(generators.values())))
        self.register_buffer("start", start.to(torch.float64))
        self.register_buffer("world_from_frame", fixed.world_from_frame)
        self.register_buffer("frame_from_world", torch.linalg.inv(fixed.world_from_frame))
        in_frames = torch.linalg.inv(moving.world_from_frame) @ self.start @ fixed.world_from_frame
        self.register_buffer("start_in_frames", in_frames)
        self.is_affine = not bool(self.basis[:, -1].any() or self.start[:, -1, :-1].any())

    def forward(self, points: Tensor, levels: slice) -> Places:
        return self._placed(points, levels, None)

    def mapped(self, points: Tensor, levels: slice, then: Tensor) -> Places:
        return self._placed(points, levels, then)

    def _placed(self, points: Tensor, levels: slice, then: Tensor | None) -> Places:
        """`forward`, or `mapped`: matrices are multiplied before they are applied to the many points."""
        matrix = self.start_in_frames @ self.parametrisation(self._by_level(levels), self.basis)
        whole = matrix if then is None else then @ matrix
        places, valid = apply(whole.to(points), points, self.is_affine)
        jacobian = matrix[..., None, :-1, :-1] if self.is_affine else slopes(matrix, points.to(matrix))
        return Places(places, valid, jacobian)

    def result(self, covariance: Tensor | None = None) -> list[Transform]:
        with torch.no_grad():
            coefficients = self.coefficients.sum(1)
            matrices = scaled(self.matrices(coefficients).cpu(), self.fixed)
        named = [dict(zip(self.generators, values, strict=True)) for values in coefficients.tolist()]
        known = [None] * len(matrices) if covariance is None else covariance
        return [
            LieTransform(matrix, self.generators, values, None if spread is None else self._modes(spread))
            for matrix, values, spread in zip(matrices, named, known, strict=True)
        ]

    def around(self, copies: int = 1) -> "LieModel":
        with torch.no_grad():
            start = self.matrices(self.coefficients.sum(1)).repeat_interleave(copies, 0)
        return LieModel(self.generators, start.cpu(), self.fixed, self.moving).to(start.device)

    def _modes(self, covariance: Tensor) -> Tensor | None:
        """`LieTransform.modes` for a covariance (K, K) of coefficients; None if it is not finite. shape: (K, D+1, D+1)"""
        if not covariance.isfinite().all():
            return None
        values, vectors = torch.linalg.eigh(covariance)
        basis = self.world_from_frame.cpu() @ self.basis.cpu() @ self.frame_from_world.cpu()
        return torch.einsum("km,kij->mij", vectors * values.clamp(min=0).sqrt(), basis)

    def curves(self) -> Mapping[str, Tensor]:
        values = self.coefficients.detach().sum(1).unbind(1)
        return {f"coefficients/{name}": value for name, value in zip(self.generators, values, strict=True)}

    def matrices(self, coefficients: Tensor) -> Tensor:
        """moving_from_fixed at `coefficients` (..., B, K) of the finest level, world. shape: (..., B, D+1, D+1)"""
        moved = self.parametrisation(coefficients, self.basis)
        return self.start @ self.world_from_frame @ moved @ self.frame_from_world

    def _by_level(self, levels: slice) -> Tensor:
        """The coefficients that act on each level; one row if they are the same on all. shape: (L or 1, B, K)"""
        shared, *finest = self.coefficients.unbind(1)
        if not finest:
            return shared[None]
        return torch.stack([shared + finest[0] if level == 0 else shared for level in range(levels.start, levels.stop)])


@dataclass(frozen=True)
class LieGroup(Family):
    """A Lie group: matrices that are exponentials of weighted generators (DRMIME, arXiv 2001.09865).

    Args:
        generators: a name of `drmime.geometry.lie.GROUPS`; a list of blocks ("rotation") or single generators ("scale",
            "shear_xy"); or a mapping of names to other generators, (D+1, D+1) each, in the fixed frame (centred on the
            image, in units of half its longest side).
        parametrisation: "exponential": the matrix exponential of the weighted sum of generators; "direct": the identity plus
            that sum, so that entries of the matrix are optimised directly; the matrix may then leave the group.
        finest_vector: add DRMIME's second coefficient vector, which acts on the finest level only.

    Raises:
        InputError: an unknown name.
    """

    generators: str | Sequence[str] | Mapping[str, Tensor] = "affine"
    parametrisation: str = "exponential"
    finest_vector: bool = False

    def __post_init__(self) -> None:
        known("parametrisation", self.parametrisation, lie.PARAMETRISATIONS)
        switch("transform finest_vector", self.finest_vector)
        if not isinstance(self.generators, Mapping):
            self.basis(3)  # raises for unknown names; those of 2-D exist in 3-D as well

    def basis(self, ndim: int) -> dict[str, Tensor]:
        return lie.generators(self.generators, ndim)

    def model(self, start: Tensor, fixed: Grid, moving: Grid, hints: Hints = NO_HINTS) -> LieModel:
        return LieModel(self.basis(fixed.ndim), start, fixed, moving, self.finest_vector, self.parametrisation)


translation = functools.partial(LieGroup, "translation")
rigid = functools.partial(LieGroup, "rigid")
similarity = functools.partial(LieGroup, "similarity")
affine = functools.partial(LieGroup, "affine")
projective = functools.partial(LieGroup, "projective")


def matrix_of(transform: Transform) -> Tensor:
    """The homogeneous matrix, moving_from_fixed in world coordinates, of a transform. shape: (D+1, D+1), float64

    Raises:
        InputError: the transform is not one matrix.
    """
    if isinstance(transform, MatrixTransform):
        return transform.matrix
    raise InputError(f"expected a transform that is one matrix, got a {type(transform).__name__}. Map points with it instead.")


def _in_words(transform: MatrixTransform, fixed: Grid | None) -> str:
    """`MatrixTransform.describe`."""
    middle = "origin" if fixed is None else "fixed image's centre"
    fixed = Grid.regular((1,) * transform.ndim) if fixed is None else fixed  # whose centre is the origin
    centre, perspective = fixed.centre, (transform.matrix[-1, :-1] / (transform.matrix[-1, -1] or 1)).numpy()
    ndim, shift = transform.ndim, (transform(centre[None])[0] - centre).tolist()
    left, scales, right = np.linalg.svd(linear_part(transform.matrix, fixed).numpy())
    rotation = left @ right
    mirrored = np.linalg.det(rotation) < 0
    rotation[:, 0] *= -1 if mirrored else 1
    if ndim == 2:
        angle = f"{np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0])):.3f}"
    else:
        angle = f"{np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))):.3f}"
    words = [
        f"shift of the {middle} ({', '.join(f'{value:.3f}' for value in shift)})",
        ("mirrored, x reversed; then " if mirrored else "")
        + f"rotation {angle} degrees"
        + (" from x towards y" if ndim == 2 else ""),
        f"scales along the principal axes ({', '.join(f'{value:.4f}' for value in scales)})",
    ]
    if np.abs(perspective).max() > 0:
        words.append(f"perspective ({', '.join(f'{value:.2e}' for value in perspective)})")
    return "fixed to moving: " + "; ".join(words)
