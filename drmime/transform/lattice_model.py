"""The model of maps by a field between control points, whatever makes the field and however it carries points."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.transform.base import Held, Model, Places, Transform
from drmime.transform.coefficients import Coefficients
from drmime.transform.deformation import DeformationModel
from drmime.transform.lattice import Lattice
from drmime.transform.lattice_transform import LatticeTransform


class LatticeModel(DeformationModel):
    """A deformation by a field between control points of the fixed frame."""

    free: Tensor

    def __init__(
        self,
        start: Tensor,
        fixed: Grid,
        moving: Grid,
        lattice: Lattice,
        coefficients: Coefficients,
        kind: type[LatticeTransform],
        bending: float = 0.0,
        volume: float = 0.0,
        held: Held | None = None,
    ) -> None:
        """
        Args:
            start, fixed, moving: as of `DeformationModel`.
            lattice: in the fixed frame.
            bending, volume: weights of the mean squares of second derivatives and of the divergence of the field.
            held: pixels of the fixed image that are not deformed.

        Raises:
            InputError: no control point is free.
        """
        super().__init__(start, fixed, moving)
        self.lattice, self.kind = lattice, kind
        self.coefficients, self.bending, self.volume = coefficients, bending, volume
        free = torch.ones(1, *lattice.shape, dtype=torch.bool)
        if held is not None:
            free = lattice.apart_from(held.mask, torch.linalg.inv(fixed.world_from_frame) @ held.grid.world_from_index)
        if not free.flatten(1).any(1).all():
            raise InputError(
                "affine_mask: expected some place that may be deformed, at least two control points from the mask, got none. "
                "Give a smaller mask or a smaller spacing."
            )
        self.register_buffer("free", free[:, None].double())

    def field(self) -> Tensor:
        """At the control points. shape: (B, D, *lattice.shape)"""
        return self.coefficients() * self.free

    def forward(self, points: Tensor, levels: slice) -> Places:
        batch, ndim = len(self.start), self.fixed.ndim
        count, _, number, _ = points.shape
        here = points.expand(-1, batch, -1, -1).transpose(0, 1).reshape(batch, -1, ndim)
        field = self.field().to(points)
        bent = self.kind.carried(field, self.lattice, here)
        local = self._local(field.detach(), self.kind.between(here, bent.detach())).view(batch, count, number, ndim, ndim)
        return self.placed(bent.view(batch, count, number, ndim).transpose(0, 1), local.transpose(0, 1))

    def result(self, covariance: Tensor | None = None) -> list[Transform]:
        with torch.no_grad():
            fields = self.field().cpu()
        world = self.fixed.world_from_frame
        return self.chained([self.kind(field, self.lattice, world) if field.any() else None for field in fields])

    def smoother(self) -> list[Model]:
        models: list[Model] = []
        for coefficients in self.coefficients.smoother():
            model = copy.deepcopy(self)
            model.coefficients = coefficients
            models.append(model)
        return models

    def penalty(self) -> Tensor:
        """Weighted mean squares of second derivatives and of the divergence of the field. shape: (B,)

        The logarithm of a flow's change of volume at a point is the divergence summed over the point's path; its square is at
        most the sum of the squares.
        """
        total = self.start.new_zeros(len(self.start))
        if not (self.bending or self.volume):
            return total
        field, spacing = self.field(), self.lattice.spacing
        axes = range(2, field.ndim)
        if self.bending:
            for first in axes:
                for second in range(first, field.ndim):
                    curved = field.diff(dim=first).diff(dim=second) / spacing**2
                    share = 1 if first == second else 2
                    total = total + self.bending * share * curved.square().flatten(2).mean(2).sum(1)
        if self.volume:
            inner = [field[:, -1 - at].diff(dim=at + 1) for at in range(len(axes))]  # components are x first
            cut = [part[(slice(None), *(slice(0, n - 1) for n in self.lattice.shape))] for part in inner]
            total = total + self.volume * (sum(cut[1:], cut[0]) / spacing).square().flatten(1).mean(1)
        return total

    def curves(self) -> Mapping[str, Tensor]:
        with torch.no_grad():
            lengths = self.field().norm(dim=1).flatten(1)
        return {"deformation/mean": lengths.mean(1), "deformation/largest": lengths.amax(1)}

    def _local(self, field: Tensor, places: Tensor) -> Tensor:
        """The derivative of the map to first order, from central differences of the control points. -> (B, N, D, D)"""
        ndim, spacing = self.fixed.ndim, self.lattice.spacing
        gradients = torch.stack(torch.gradient(field, spacing=spacing, dim=list(range(2, 2 + ndim)))[::-1], 2)
        found = self.lattice.at(gradients.flatten(1, 2), places).unflatten(-1, (ndim, ndim))
        return found + torch.eye(ndim, dtype=found.dtype, device=found.device)
