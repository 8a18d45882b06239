"""Thin-plate splines through landmarks (Bookstein 1989, doi 10.1109/34.24792), refined by the similarity of the images."""

import copy
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drmime.errors import InputError, number
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply, invertible
from drmime.saved import fields
from drmime.schedule import Schedule
from drmime.transform.base import NO_HINTS, Hints, Model, Places, Transform
from drmime.transform.coefficients import SHARES
from drmime.transform.deformation import Deformation, DeformationModel
from drmime.transform.field import Inverse

TINY = 1e-24  # squared distance below which two points are taken to coincide
MOST = 2000  # landmarks; a matrix of their number squared is inverted
CLOSEST = 1e-6  # distance of two fixed landmarks, half longest sides, with any stiffness
CHUNK = 2**22  # radial functions that are computed at a time
FLAT = 1e-6  # smallest to largest spread of the fixed landmarks


@dataclass(frozen=True, eq=False)
class ThinPlateTransform(Transform):
    """The smoothest map that moves centres by given displacements; stiffness 0 moves them exactly so."""

    centres: Tensor  # shape: (N, D), frame units, x first, float64, on the CPU
    displacements: Tensor  # shape: (N, D)
    stiffness: float
    world_from_frame: Tensor  # shape: (D+1, D+1), float64

    @property
    def ndim(self) -> int:
        return self.centres.shape[1]

    @functools.cached_property
    def frame_from_world(self) -> Tensor:
        return torch.linalg.inv(self.world_from_frame)

    @functools.cached_property
    def weights(self) -> Tensor:
        """Of the radial functions and of 1, x, y(, z). shape: (N + D + 1, D)"""
        return solver(self.centres, self.stiffness) @ self.displacements

    def __call__(self, points: Tensor) -> Tensor:
        moved = torch.cat([part + functions(part, self.centres) @ self.weights for part in self._parts(points)])
        return apply(self.world_from_frame, moved, is_affine=True)[0].view(points.shape)

    def jacobian(self, points: Tensor) -> Tensor:
        turned = torch.cat([self.weights.mT @ gradients(part, self.centres) for part in self._parts(points)])
        return (torch.eye(self.ndim).to(turned) + turned).view(*points.shape, self.ndim)

    def _parts(self, points: Tensor) -> Sequence[Tensor]:
        """Points of the frame, so few at a time that memory does not grow with the number of centres. (N, D) each"""
        flat = apply(self.frame_from_world, points.reshape(-1, self.ndim), is_affine=True)[0]
        return flat.split(max(1, CHUNK // len(self.centres)))

    def inverse(self) -> Transform:
        return Inverse(self)

    def describe(self, fixed: Grid) -> str:
        """Text with the number of landmarks and the lengths of their displacements."""
        lengths = self.displacements.norm(dim=1) * float(self.world_from_frame[0, 0])
        return (
            f"thin-plate spline through {len(lengths)} landmarks: they are moved by {float(lengths.mean()):.3g} on average and "
            f"at most {float(lengths.max()):.3g}"
        )

    def state(self) -> dict[str, Any]:
        return {
            **{"kind": "tps", "centres": self.centres.tolist(), "displacements": self.displacements.tolist()},
            **{"stiffness": self.stiffness, "world_from_frame": self.world_from_frame.tolist()},
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> "ThinPlateTransform":
        kinds = {"centres": [[float]], "displacements": [[float]], "stiffness": float, "world_from_frame": [[float]]}
        found = fields(state, kinds)
        centres, moved = (torch.as_tensor(np.array(found[name], dtype=np.float64)) for name in ("centres", "displacements"))
        if centres.ndim != 2 or centres.shape[1] != ndim or centres.shape != moved.shape or not moved.isfinite().all():
            raise ValueError(f"expected as many finite displacements as centres in {ndim} dimensions")
        check(centres, 0)
        stiffness = 0.0 if found["stiffness"] == 0 else number("stiffness", found["stiffness"], 0)
        return cls(centres, moved, stiffness, invertible(found["world_from_frame"], ndim))


class ThinPlateModel(DeformationModel):
    """A thin-plate spline. It begins at the landmarks: the parameters are what is added to their displacements."""

    centres: Tensor
    first: Tensor
    solver: Tensor

    def __init__(self, start: Tensor, fixed: Grid, moving: Grid, landmarks: tuple[Tensor, Tensor], stiffness: float) -> None:
        """
        Args:
            start, fixed, moving: as of `DeformationModel`.
            landmarks: as of `Hints`.
            stiffness: as of `ThinPlate`.
        """
        super().__init__(start, fixed, moving)
        self.stiffness = stiffness
        frame = torch.linalg.inv(fixed.world_from_frame)
        centres = apply(frame, landmarks[0], is_affine=True)[0]
        check(centres, 0 if stiffness else float(fixed.spacing.min() / fixed.world_from_frame[0, 0]))
        back = apply(frame @ torch.linalg.inv(self.start), landmarks[1])[0]  # before the start is applied
        self.shifts = nn.Parameter(torch.zeros(len(start), *centres.shape, dtype=torch.float64))
        self.register_buffer("centres", centres)
        self.register_buffer("first", back - centres)  # shape: (B, N, D)
        self.register_buffer("solver", solver(centres, stiffness))

    def displacements(self) -> Tensor:
        """Of the landmarks. shape: (B, N, D)"""
        return self.first + self.shifts

    def forward(self, points: Tensor, levels: slice) -> Places:
        weights = self.solver @ self.displacements()  # they are large, and their sum is small: float64
        moved, local = [], []
        for part in points.double().split(max(1, CHUNK // len(self.centres)), 2):
            moved.append(functions(part, self.centres) @ weights)
            with torch.no_grad():
                local.append(weights.mT[:, None] @ gradients(part, self.centres))
        slopes = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device) + torch.cat(local, 2).to(points)
        return self.placed(points + torch.cat(moved, 2).to(points), slopes)

    def result(self, covariance: Tensor | None = None) -> list[Transform]:
        with torch.no_grad():
            moved = self.displacements().cpu()
        made = functools.partial(ThinPlateTransform, self.centres.cpu())
        world = self.fixed.world_from_frame
        return self.chained([made(shifts, self.stiffness, world) if shifts.any() else None for shifts in moved])

    def smoother(self) -> list[Model]:
        models: list[Model] = []
        for share in SHARES:
            model = copy.deepcopy(self)
            with torch.no_grad():
                model.shifts.copy_(self.displacements() * share - self.first)
            models.append(model)
        return models

    def curves(self) -> Mapping[str, Tensor]:
        lengths = self.displacements().detach().norm(dim=2)
        return {"deformation/mean": lengths.mean(1), "deformation/largest": lengths.amax(1)}


@dataclass(frozen=True)
class ThinPlate(Deformation):
    """A thin-plate spline whose centres are the `landmarks` of `register`, from where the images refine it.

    Args:
        stiffness: 0: the spline passes through the landmarks; more: it is smoother and passes by them.
        steps, rate: those of `drmime.Schedule`, for this stage.

    Raises:
        InputError: a number out of its range; in `model`: no landmarks, fewer than D + 1, on one line (plane), or nearer to
            each other than a pixel without stiffness; a mask that is to stay affine, which this family cannot do.
    """

    stiffness: float = 0.0
    steps: int = 150
    rate: float = 0.0005

    def __post_init__(self) -> None:
        if self.stiffness != 0:
            number("transform stiffness", self.stiffness, 0)
        Schedule(steps=self.steps, rate=self.rate)

    def model(self, start: Tensor, fixed: Grid, moving: Grid, hints: Hints = NO_HINTS) -> ThinPlateModel:
        if hints.landmarks is None:
            raise InputError("transform tps: expected landmarks (--landmarks, --landmark-weight), its centres, got none")
        if hints.held is not None:
            raise InputError("affine_mask: expected a deformation by a field, such as 'affine+velocity', got 'tps'")
        return ThinPlateModel(start, fixed, moving, hints.landmarks, self.stiffness)


def check(centres: Tensor, apart: float) -> None:
    """InputError if landmarks (N, D) of the fixed frame do not determine a thin-plate spline; `apart`: the least distance."""
    count, ndim = centres.shape
    if not ndim < count <= MOST:
        raise InputError(f"landmarks: expected {ndim + 1} to {MOST} for a thin-plate spline in {ndim}-D, got {count}")
    spread = torch.linalg.svdvals(centres - centres.mean(0))
    if not float(spread[-1]) > FLAT * float(spread[0]):
        raise InputError("landmarks: expected fixed points that are not all on one line (in 3-D: plane). Add one elsewhere.")
    found = torch.cdist(centres, centres) + torch.diag(centres.new_full((count,), math.inf))
    if float(found.min()) < max(apart, CLOSEST):
        first, second = divmod(int(found.argmin()), count)
        raise InputError(
            f"landmarks: the fixed points of rows {first} and {second} (from 0) are too near to each other; remove one of "
            "them, or, if they are not the same, give the thin-plate spline a stiffness"
        )


def functions(points: Tensor, centres: Tensor) -> Tensor:
    """Radial functions of each centre, and 1, x, y(, z). (..., D), (N, D) -> (..., N + D + 1)"""
    squares = (points[..., None, :] - centres).square().sum(-1).clamp(min=TINY)
    radial = squares * squares.log() / 2 if points.shape[-1] == 2 else -squares.sqrt()
    return torch.cat([radial, torch.ones_like(points[..., :1]), points], -1)


def gradients(points: Tensor, centres: Tensor) -> Tensor:
    """Of `functions`. -> (..., N + D + 1, D)"""
    ndim = points.shape[-1]
    off = points[..., None, :] - centres
    squares = off.square().sum(-1, keepdim=True).clamp(min=TINY)
    radial = off * (squares.log() + 1) if ndim == 2 else -off / squares.sqrt()
    linear = torch.eye(ndim + 1, ndim, dtype=points.dtype, device=points.device).roll(1, 0)
    return torch.cat([radial, linear.expand(*points.shape[:-1], -1, -1)], -2)


def solver(centres: Tensor, stiffness: float) -> Tensor:
    """The matrix from displacements of the centres to the weights of `functions`. (N, D) -> (N + D + 1, N)"""
    count, ndim = centres.shape
    table = functions(centres, centres)
    whole = centres.new_zeros(count + ndim + 1, count + ndim + 1)
    whole[:count] = table
    whole[count:, :count] = table[:, count:].mT
    whole[:count, :count] += stiffness * torch.eye(count).to(centres)
    return torch.linalg.inv(whole)[:, :count]
