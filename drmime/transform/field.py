"""Dense displacement fields, as other programs write them, and inverses that are computed numerically."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply, invertible
from drmime.saved import fields
from drmime.transform.base import Transform, from_state

ROUNDS = 30  # of Newton's method
EXACT = 1e-12  # of the largest coordinate: no more rounds are needed
NEAR = 1e-7  # likewise: what ends farther off has no inverse


@dataclass(frozen=True, eq=False)
class FieldTransform(Transform):
    """Points plus displacements that are interpolated linearly between pixels; outside the field the nearest ones are used."""

    displacements: Tensor  # world units, x first. shape: (D, *grid.shape), float64, on the CPU
    grid: Grid

    @property
    def ndim(self) -> int:
        return len(self.displacements)

    def __call__(self, points: Tensor) -> Tensor:
        flat = points.reshape(1, -1, self.ndim)
        known = flat.isfinite().all(-1, keepdim=True)
        index = apply(self.grid.index_from_world, flat.where(known, 0), is_affine=True)[0]
        unit = index * 2 / (self.grid.size - 1).clamp(min=1) - 1
        read = F.grid_sample(
            self.displacements[None],
            unit.view(1, *[1] * (self.ndim - 1), -1, self.ndim),
            padding_mode="border",
            align_corners=True,
        )
        moved = flat + read.flatten(2).mT
        return moved.where(known, math.nan).view(points.shape)

    def inverse(self) -> Transform:
        return Inverse(self)

    def describe(self, fixed: Grid) -> str:
        """Text with the size of the field and the lengths of its displacements."""
        lengths = self.displacements.norm(dim=0)
        return (
            f"displacement field of shape {self.grid.shape}: displacements of {float(lengths.mean()):.3g} on average and "
            f"at most {float(lengths.max()):.3g}"
        )

    def state(self) -> dict[str, Any]:
        rows = self.displacements.flatten(1).tolist()
        world = self.grid.world_from_index.tolist()
        return {"kind": "field", "shape": list(self.grid.shape), "world_from_index": world, "displacements": rows}

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> "FieldTransform":
        shape, world, rows = fields(state, {"shape": [int], "world_from_index": [[float]], "displacements": [[float]]}).values()
        values = torch.as_tensor(np.array(rows, dtype=np.float64))
        if len(shape) != ndim or min(shape) < 1 or values.shape != (ndim, math.prod(shape)) or not values.isfinite().all():
            raise ValueError(f"expected {ndim} finite displacements for each pixel of a field in {ndim} dimensions")
        return cls(values.view(ndim, *shape), Grid(tuple(shape), invertible(world, ndim)))


@dataclass(frozen=True, eq=False)
class Inverse(Transform):
    """The inverse of a transform that does not know its own, by Newton's method; NaN where that does not end."""

    forward: Transform

    @property
    def ndim(self) -> int:
        return self.forward.ndim

    @property
    def detail(self) -> float:
        return self.forward.detail

    def __call__(self, points: Tensor) -> Tensor:
        found = 2 * points - self.forward(points)  # exact for shifts
        known = found.isfinite().all(-1, keepdim=True)
        size = points.where(known, 0).abs().max().clamp(min=1) if points.numel() else torch.ones(())
        for _ in range(ROUNDS):
            off = self.forward(found) - points
            if not bool((off.abs() > EXACT * size).any()):  # false of NaN
                break
            step, failed = torch.linalg.solve_ex(self.forward.jacobian(found), off[..., None])
            found = found - step[..., 0].where(failed[..., None] == 0, math.nan)
        off = (self.forward(found) - points).abs().amax(-1, keepdim=True)
        return found.where(off <= NEAR * size, math.nan)

    def jacobian(self, points: Tensor) -> Tensor:
        return torch.linalg.inv(self.forward.jacobian(self(points)))

    def inverse(self) -> Transform:
        return self.forward

    def describe(self, fixed: Grid) -> str:
        return f"inverse of ({self.forward.describe(fixed)})"

    def state(self) -> dict[str, Any]:
        return {"kind": "inverse", "of": self.forward.state()}

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> "Inverse":
        return cls(from_state(fields(state, {"of": {str: object}})["of"], ndim))


def sampled(transform: Transform, grid: Grid) -> FieldTransform:
    """The displacements of a transform at the pixels of a grid.

    Raises:
        InputError: a pixel has no image.
    """
    points = grid.world_points()
    moved = torch.cat([transform(part) - part for part in points.split(2**18)])
    if not moved.isfinite().all():
        raise InputError("displacement field: expected a map that takes every pixel somewhere, got one with a horizon")
    return FieldTransform(moved.mT.reshape(grid.ndim, *grid.shape).contiguous(), grid)
