"""Deformations: the flow of a stationary velocity field, which is DRMIME's exponential with a generator for each place.

An affine map is the flow of v(x) = L x during unit time; here v is a cubic B-spline (Arsigny et al. 2006, doi
10.1007/11866565_113). A flow of smooth velocities has no folds, and the flow of -v is its inverse. Points are carried by
Runge-Kutta steps, each for itself, so that memory does not grow with the image.
"""

import copy
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drmime.errors import InputError, number, whole
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply, invertible, slopes
from drmime.saved import fields
from drmime.schedule import Schedule
from drmime.transform.base import Family, Model, Places, Transform
from drmime.transform.lattice import Lattice
from drmime.transform.linear import MatrixTransform

STEPS = 2  # of Runge-Kutta while the velocities are optimised: 4 give the same errors
TURN = 0.5  # largest product of the velocities' slope and the length of a step, of a result
MOST_STEPS = 256
SEEN = 17  # places along each axis at which a transform is described
SPACING = 0.08  # of control points by default, half longest sides
FINEST = 2.0  # pixels; control points may not be closer
MOST_CONTROLS = 2**22
LIMITS = (0, 1, 2, 4, 8)  # waves along the longest side above which smoother versions of a result have little


def flow(velocity: Callable[[Tensor], Tensor], points: Tensor, steps: int) -> Tensor:
    """Where `points` are carried in unit time; classical Runge-Kutta method of fourth order in equal steps."""
    step = 1 / steps
    for _ in range(steps):
        first = velocity(points)
        second = velocity(points + step / 2 * first)
        third = velocity(points + step / 2 * second)
        fourth = velocity(points + step * third)
        points = points + step / 6 * (first + 2 * (second + third) + fourth)
    return points


@dataclass(frozen=True, eq=False)
class VelocityTransform(Transform):
    """The flow of a stationary velocity field."""

    velocities: Tensor  # of the control points, frame units, x first. shape: (D, *lattice.shape), float64, on the CPU
    lattice: Lattice  # in frame coordinates
    world_from_frame: Tensor  # shape: (D+1, D+1), float64
    steps: int

    @property
    def ndim(self) -> int:
        return len(self.velocities)

    @functools.cached_property
    def frame_from_world(self) -> Tensor:
        return torch.linalg.inv(self.world_from_frame)

    def __call__(self, points: Tensor) -> Tensor:
        flat = apply(self.frame_from_world, points.reshape(1, -1, self.ndim), is_affine=True)[0]
        known = flat.isfinite().all(-1, keepdim=True)
        there = flow(lambda places: self.lattice.at(self.velocities[None], places), flat.where(known, 0), self.steps)
        return apply(self.world_from_frame, there.where(known, math.nan), is_affine=True)[0].view(points.shape)

    def inverse(self) -> "VelocityTransform":
        return replace(self, velocities=-self.velocities)

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
            **{"kind": "velocity", "shape": list(self.lattice.shape), "first": list(self.lattice.first)},
            **{"spacing": self.lattice.spacing, "steps": self.steps, "world_from_frame": self.world_from_frame.tolist()},
            "velocities": self.velocities.flatten(1).tolist(),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> "VelocityTransform":
        kinds = {"shape": [int], "first": [float], "spacing": float, "steps": int}
        found = fields(state, {**kinds, "world_from_frame": [[float]], "velocities": [[float]]})
        shape, first = tuple(found["shape"]), tuple(found["first"])
        places = all(isinstance(place, (int, float)) and math.isfinite(place) for place in first)
        if not places or len(shape) != ndim or len(first) != ndim or min(shape) < 2 or math.prod(shape) > MOST_CONTROLS:
            raise ValueError(f"expected the shape and the first place of control points in {ndim} dimensions, got {shape}")
        velocities = torch.as_tensor(np.array(found["velocities"], dtype=np.float64))
        if velocities.shape != (ndim, math.prod(shape)) or not velocities.isfinite().all():
            raise ValueError(f"expected {ndim} velocities for each of {math.prod(shape)} control points")
        lattice = Lattice(shape, first, number("spacing", found["spacing"], 0))
        steps = whole("steps", found["steps"], 1, MOST_STEPS)
        return cls(velocities.view(ndim, *shape), lattice, invertible(found["world_from_frame"], ndim), steps)


class VelocityModel(Model):
    """A flow of the fixed frame, after which the matrix of an earlier stage is applied; one for each pair.

    moving_from_fixed = start @ world_from_frame @ flow @ frame_from_world

    The parameters are weights of waves (cosines) over the lattice, from one along the image to one over two control points.
    Finer waves are reached more slowly: the weight of a wave is multiplied by (1 + w²)^-smoothness, where w is its number
    along the longest side. So the optimisation goes from coarse to fine, and where the images show nothing the field is
    smooth. At zero parameters the map is the start.
    """

    start: Tensor
    start_in_frames: Tensor
    squares: Tensor
    damping: Tensor

    def __init__(
        self, start: Tensor, fixed: Grid, moving: Grid, spacing: float, smoothness: float, bending: float, volume: float
    ) -> None:
        """
        Args:
            start: (B, D+1, D+1), moving_from_fixed, world.
            fixed, moving: grids of the finest levels.
            spacing: distance of control points, in units of half the longest side of the fixed image.
            smoothness, bending, volume: as of `Velocity`.
        """
        super().__init__()
        self.fixed, self.lattice, self.bending, self.volume = fixed, Lattice.over(fixed, spacing), bending, volume
        self.waves = nn.Parameter(torch.zeros(len(start), fixed.ndim, *self.lattice.shape, dtype=torch.float64))
        self.register_buffer("start", start.to(torch.float64))
        in_frames = torch.linalg.inv(moving.world_from_frame) @ self.start @ fixed.world_from_frame
        self.register_buffer("start_in_frames", in_frames)
        self.is_affine = not bool(self.start[:, -1, :-1].any())
        counts = [torch.arange(length, dtype=torch.float64) / (length * spacing) for length in self.lattice.shape]
        squares = torch.stack(torch.meshgrid(*counts, indexing="ij")).square().sum(0)
        self.register_buffer("squares", squares)
        self.register_buffer("damping", (1 + squares) ** -smoothness)
        for axis, length in enumerate(self.lattice.shape):
            self.register_buffer(f"cosines{axis}", _cosines(length))

    def velocities(self) -> Tensor:
        """Of the control points. shape: (B, D, *lattice.shape)"""
        found = self.waves * self.damping
        for axis in range(self.fixed.ndim):
            found = torch.tensordot(found, getattr(self, f"cosines{axis}"), dims=([2], [0]))  # the new axis is the last
        return found

    def forward(self, points: Tensor, levels: slice) -> Places:
        batch, ndim = len(self.waves), self.fixed.ndim
        count, _, number, _ = points.shape
        here = points.expand(-1, batch, -1, -1).transpose(0, 1).reshape(batch, -1, ndim)
        velocities = self.velocities().to(points)
        bent = flow(lambda places: self.lattice.at(velocities, places), here, STEPS)
        local = self._local(velocities.detach(), (here + bent.detach()) / 2).view(batch, count, number, ndim, ndim)
        bent = bent.view(batch, count, number, ndim).transpose(0, 1)
        matrix = self.start_in_frames[None].to(points)
        places, valid = apply(matrix, bent, self.is_affine)
        outer = matrix[..., None, :-1, :-1] if self.is_affine else slopes(matrix, bent.detach())
        return Places(places, valid, outer @ local.transpose(0, 1))

    def result(self, covariance: Tensor | None = None) -> list[Transform]:
        with torch.no_grad():
            velocities = self.velocities().cpu()
        steps = [max(STEPS, math.ceil(float(slope) / TURN)) for slope in _steepest(velocities) / self.lattice.spacing]
        return [
            MatrixTransform(matrix)
            @ VelocityTransform(field, self.lattice, self.fixed.world_from_frame, min(count, MOST_STEPS))
            if field.any()
            else MatrixTransform(matrix)
            for matrix, field, count in zip(self.start.cpu(), velocities, steps, strict=True)
        ]

    def smoother(self) -> list[Model]:
        models: list[Model] = []
        for limit in LIMITS:
            model = copy.deepcopy(self)
            with torch.no_grad():
                model.waves.mul_(1 / (1 + (self.squares / limit**2) ** 2) if limit else 0)
            models.append(model)
        return models

    def penalty(self) -> Tensor:
        """Weighted mean squares of second derivatives and of the divergence of the velocities. shape: (B,)

        The divergence, summed over the path of a point, is the logarithm of the change of volume there.
        """
        total = self.waves.new_zeros(len(self.waves))
        if not (self.bending or self.volume):
            return total
        velocities, spacing = self.velocities(), self.lattice.spacing
        axes = range(2, velocities.ndim)
        if self.bending:
            for first in axes:
                for second in range(first, velocities.ndim):
                    curved = velocities.diff(dim=first).diff(dim=second) / spacing**2
                    share = 1 if first == second else 2
                    total = total + self.bending * share * curved.square().flatten(2).mean(2).sum(1)
        if self.volume:
            inner = [velocities[:, -1 - at].diff(dim=at + 1) for at in range(len(axes))]  # components are x first
            cut = [part[(slice(None), *(slice(0, n - 1) for n in self.lattice.shape))] for part in inner]
            total = total + self.volume * (sum(cut[1:], cut[0]) / spacing).square().flatten(1).mean(1)
        return total

    def curves(self) -> Mapping[str, Tensor]:
        with torch.no_grad():
            lengths = self.velocities().norm(dim=1).flatten(1)
        return {"deformation/mean": lengths.mean(1), "deformation/largest": lengths.amax(1)}

    def _local(self, velocities: Tensor, places: Tensor) -> Tensor:
        """The derivative of the flow to first order, from central differences of the control points. -> (B, N, D, D)"""
        ndim, spacing = self.fixed.ndim, self.lattice.spacing
        gradients = torch.stack(torch.gradient(velocities, spacing=spacing, dim=list(range(2, 2 + ndim)))[::-1], 2)
        found = self.lattice.at(gradients.flatten(1, 2), places).unflatten(-1, (ndim, ndim))
        return found + torch.eye(ndim).to(found)


@dataclass(frozen=True)
class Velocity(Family):
    """Deformations after a linear stage, as in "affine+velocity": the flow of a stationary velocity field.

    Args:
        spacing: distance of the control points in world units; by default 4 % of the fixed image's longest side.
        smoothness: exponent by which fine waves are damped.
        bending: weight of the mean square of the velocities' second derivatives, in units of half the longest side.
        volume: weight of the mean square of the logarithm of changes of volume.
        steps, rate: those of `drmime.Schedule`, for this stage.

    Raises:
        InputError: a number out of its range.
    """

    spacing: float | None = None
    smoothness: float = 2.0
    bending: float = 0.0
    volume: float = 0.0
    steps: int = 500
    rate: float = 0.002

    linear = False

    def __post_init__(self) -> None:
        if self.spacing is not None:
            number("transform spacing", self.spacing, 0)
        for name in ("smoothness", "bending", "volume"):
            if getattr(self, name) != 0:
                number(f"transform {name}", getattr(self, name), 0)
        Schedule(steps=self.steps, rate=self.rate)

    def basis(self, ndim: int) -> dict[str, Tensor]:
        return {}

    def schedule(self, given: Schedule) -> Schedule:
        return replace(given, steps=self.steps, rate=self.rate)

    def model(self, start: Tensor, fixed: Grid, moving: Grid) -> VelocityModel:
        half = float(fixed.extent.max()) / 2
        spacing = SPACING if self.spacing is None else self.spacing / half
        least = FINEST * float(fixed.spacing.max()) / half
        if self.spacing is not None and spacing < least * (1 - 1e-9):
            raise InputError(
                f"transform spacing: expected control points at least {FINEST:g} pixels apart, which is {least * half:.4g}, "
                f"got {self.spacing:g}"
            )
        spacing = max(spacing, least)
        if math.prod(Lattice.over(fixed, spacing).shape) > MOST_CONTROLS:
            raise InputError(f"transform spacing: {self.spacing} makes more than {MOST_CONTROLS} control points. Give more.")
        return VelocityModel(start, fixed, moving, spacing, self.smoothness, self.bending, self.volume)


def _cosines(length: int) -> Tensor:
    """Waves (rows) at control points (columns), of mean square 1: the discrete cosine transform. shape: (length, length)"""
    order = torch.arange(length, dtype=torch.float64)
    waves = torch.cos(math.pi / length * order[:, None] * (order + 0.5))
    return waves * torch.where(order > 0, math.sqrt(2), 1)[:, None]


def _steepest(velocities: Tensor) -> Tensor:
    """The largest difference of neighbouring control points of each pair. (B, D, *shape) -> (B,)"""
    axes = range(2, velocities.ndim)
    return torch.stack([velocities.diff(dim=axis).norm(dim=1).flatten(1).amax(1) for axis in axes]).amax(0)
