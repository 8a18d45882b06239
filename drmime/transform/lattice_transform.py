"""Maps of points by a field between control points: the flow of velocities, and displacements (free-form deformation).

An affine map is the flow of v(x) = L x during unit time; here v is a cubic B-spline (Arsigny et al. 2006, doi
10.1007/11866565_113). A flow of smooth velocities has no folds, and the flow of -v is its inverse. Points are carried by
Runge-Kutta steps, each for itself, so that memory does not grow with the image.
"""

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from drmime.errors import number
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply, invertible
from drmime.saved import fields
from drmime.transform.base import Transform
from drmime.transform.field import Inverse
from drmime.transform.lattice import MOST_CONTROLS, Lattice

TURN = 0.5  # largest product of the velocities' slope and the length of a step, of a result
MOST_STEPS = 256
SEEN = 17  # places along each axis at which a transform is described


def flow(velocity: Callable[[Tensor], Tensor], points: Tensor, steps: int) -> Tensor:
    """Where `points` are carried in unit time; classical Runge-Kutta method of fourth order in equal steps.

    With 0 `steps`: one step of the midpoint rule, which costs half as much as one of these.
    """
    if not steps:
        return points + velocity(points + velocity(points) / 2)
    step = 1 / steps
    for _ in range(steps):
        first = velocity(points)
        second = velocity(points + step / 2 * first)
        third = velocity(points + step / 2 * second)
        fourth = velocity(points + step * third)
        points = points + step / 6 * (first + 2 * (second + third) + fourth)
    return points


@dataclass(frozen=True, eq=False)
class LatticeTransform(Transform):
    """A map that a field between control points makes of points of the fixed frame."""

    field: Tensor  # of the control points, frame units, x first. shape: (D, *lattice.shape), float64, on the CPU
    lattice: Lattice  # in frame coordinates
    world_from_frame: Tensor  # shape: (D+1, D+1), float64

    kind: ClassVar[str]  # in files

    @staticmethod
    @abstractmethod
    def carried(field: Tensor, lattice: Lattice, points: Tensor, steps: int = 0) -> Tensor:
        """Where points of the frame (B, N, D) are carried by fields (B, D, *lattice.shape).

        `steps`: as of `flow`; by default as precisely as a fit needs.
        """

    @staticmethod
    def between(here: Tensor, there: Tensor) -> Tensor:
        """Where the slope of the field is about that of the map, for points that are carried to `there`."""
        return here

    @property
    def steps(self) -> int:
        return 1

    @property
    def ndim(self) -> int:
        return len(self.field)

    @property
    def detail(self) -> float:
        """The distance of control points."""
        return self.lattice.spacing * float(torch.linalg.matrix_norm(self.world_from_frame[:-1, :-1], -2))

    @functools.cached_property
    def frame_from_world(self) -> Tensor:
        return torch.linalg.inv(self.world_from_frame)

    def __call__(self, points: Tensor) -> Tensor:
        flat = apply(self.frame_from_world, points.reshape(1, -1, self.ndim), is_affine=True)[0]
        known = flat.isfinite().all(-1, keepdim=True)
        there = self.carried(self.field[None], self.lattice, flat.where(known, 0), self.steps)
        return apply(self.world_from_frame, there.where(known, math.nan), is_affine=True)[0].view(points.shape)

    def describe(self, fixed: Grid) -> str:
        """Text with the distance of the control points, the lengths of displacements and the changes of volume."""
        places = fixed.resized([min(length, SEEN) for length in fixed.shape]).world_points()
        lengths = (self(places) - places).norm(dim=-1)
        volumes = self.jacobian(places).det()
        spacing = self.lattice.spacing * float(self.world_from_frame[0, 0])
        return (
            f"deformation with control points every {spacing:.4g}: displacements of {float(lengths.mean()):.3g} on average and "
            f"at most {float(lengths.max()):.3g}, volumes times {float(volumes.min()):.3g} to {float(volumes.max()):.3g}"
        )

    def state(self) -> dict[str, Any]:
        return {
            **{"kind": self.kind, "shape": list(self.lattice.shape), "first": list(self.lattice.first)},
            **{"spacing": self.lattice.spacing, "world_from_frame": self.world_from_frame.tolist()},
            "field": self.field.flatten(1).tolist(),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> Self:
        kinds = {"shape": [int], "first": [float], "spacing": float}
        found = fields(state, {**kinds, "world_from_frame": [[float]], "field": [[float]]})
        shape, first = tuple(found["shape"]), tuple(found["first"])
        places = all(isinstance(place, (int, float)) and math.isfinite(place) for place in first)
        if not places or len(shape) != ndim or len(first) != ndim or min(shape) < 2 or math.prod(shape) > MOST_CONTROLS:
            raise ValueError(f"expected the shape and the first place of control points in {ndim} dimensions, got {shape}")
        field = torch.as_tensor(np.array(found["field"], dtype=np.float64))
        if field.shape != (ndim, math.prod(shape)) or not field.isfinite().all():
            raise ValueError(f"expected {ndim} numbers for each of {math.prod(shape)} control points")
        lattice = Lattice(shape, first, number("spacing", found["spacing"], 0))
        return cls(field.view(ndim, *shape), lattice, invertible(found["world_from_frame"], ndim))


class VelocityTransform(LatticeTransform):
    """The flow of a stationary velocity field; frame units per unit time."""

    kind = "velocity"

    @staticmethod
    def carried(field: Tensor, lattice: Lattice, points: Tensor, steps: int = 0) -> Tensor:
        return flow(lambda places: lattice.at(field, places), points, steps)

    @staticmethod
    def between(here: Tensor, there: Tensor) -> Tensor:
        return (here + there) / 2

    @functools.cached_property
    def steps(self) -> int:
        """Steps of Runge-Kutta, so many that none turns or stretches much."""
        axes = range(1, self.field.ndim)
        steepest = max(float(self.field.diff(dim=axis).norm(dim=0).max()) for axis in axes) / self.lattice.spacing
        return min(max(2, math.ceil(steepest / TURN)), MOST_STEPS)

    def inverse(self) -> "VelocityTransform":
        return replace(self, field=-self.field)


class BSplineTransform(LatticeTransform):
    """Points plus displacements (free-form deformation: Rueckert et al. 1999, doi 10.1109/42.796284); it may fold."""

    kind = "bspline"

    @staticmethod
    def carried(field: Tensor, lattice: Lattice, points: Tensor, steps: int = 0) -> Tensor:
        return points + lattice.at(field, points)

    def inverse(self) -> Transform:
        return Inverse(self)
