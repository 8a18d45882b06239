"""What all deformations share: the stage, and a model that bends the fixed frame and then applies the start."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from drmime.geometry import lie
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply, slopes
from drmime.schedule import Schedule
from drmime.transform.base import Family, Model, Places, Transform
from drmime.transform.linear import MatrixTransform


class Deformation(Family):
    """A family of maps that are no matrices; its stage stands last and has its own steps and rate."""

    linear = False
    steps: int
    rate: float

    def basis(self, ndim: int) -> dict[str, Tensor]:
        return lie.generators("affine", ndim)

    def schedule(self, given: Schedule) -> Schedule:
        return replace(given, steps=self.steps, rate=self.rate)


class DeformationModel(Model):
    """A deformation of the fixed frame, after which the matrix of an earlier stage is applied; one for each pair.

    moving_from_fixed = start @ world_from_frame @ deformation @ frame_from_world
    """

    start: Tensor
    start_in_frames: Tensor

    def __init__(self, start: Tensor, fixed: Grid, moving: Grid) -> None:
        """
        Args:
            start: (B, D+1, D+1), moving_from_fixed, world.
            fixed, moving: grids of the finest levels.
        """
        super().__init__()
        self.fixed = fixed
        self.register_buffer("start", start.to(torch.float64))
        in_frames = torch.linalg.inv(moving.world_from_frame) @ self.start @ fixed.world_from_frame
        self.register_buffer("start_in_frames", in_frames)
        self.is_affine = not bool(self.start[:, -1, :-1].any())

    def placed(self, bent: Tensor, local: Tensor) -> Places:
        """Where deformed points (L, B, N, D) of the fixed frame are in the moving frame.

        `local`: derivatives of the deformation there. shape: (L, B, N, D, D)
        """
        matrix = self.start_in_frames[None].to(bent)
        places, valid = apply(matrix, bent, self.is_affine)
        outer = matrix[..., None, :-1, :-1] if self.is_affine else slopes(matrix, bent.detach())
        return Places(places, valid, outer @ local)

    def chained(self, deformations: Sequence[Transform | None]) -> list[Transform]:
        """The transform of each pair; None stands for no deformation."""
        starts = [MatrixTransform(matrix) for matrix in self.start]
        return [start if bent is None else start @ bent for start, bent in zip(starts, deformations, strict=True)]
