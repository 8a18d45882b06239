"""`Lattice`: control points at equal distances, between which a field is interpolated by cubic B-splines."""

import functools
import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply

MOST_CONTROLS = 2**22


@dataclass(frozen=True)
class Lattice:
    """The places of control points, which cover an image and one distance around it; coordinates of any frame, x first."""

    shape: tuple[int, ...]  # array order
    first: tuple[float, ...]  # coordinates of the control point of lowest index, x first
    spacing: float  # between neighbours along each axis

    @classmethod
    def over(cls, grid: Grid, spacing: float) -> "Lattice":
        """Over the image on `grid`, in its frame; `spacing` in units of half its longest side."""
        sides = grid.extent / (grid.extent.max() / 2)
        cells = [max(1, math.ceil(float(side) / spacing - 1e-6)) for side in sides]
        return cls(tuple(n + 3 for n in reversed(cells)), tuple(-(n / 2 + 1) * spacing for n in cells), spacing)

    def places(self) -> Tensor:
        """The control points, the last axis of the array fastest. shape: (N, D), float64, x first"""
        return torch.tensor(self.first, dtype=torch.float64) + self.spacing * Grid.regular(self.shape).index_points()

    def at(self, coefficients: Tensor, points: Tensor) -> Tensor:
        """The field at `points` (B, N, D). Outside the control points the nearest coefficients are repeated.

        A cubic B-spline is a weighted mean of linear interpolations at two places along each axis (Sigg and Hadwiger 2005, GPU
        Gems 2, chapter 20), which torch computes fast. (B, C, *shape), (B, N, D) -> (B, N, C)
        """
        first, last, one = _bounds(self, points.dtype, points.device)
        places = (points - first) / self.spacing
        whole = places.detach().floor()
        off = places - whole
        rest = 1 - off
        before = rest**3 / 6 + 2 / 3 - off**2 * (2 - off) / 2  # weight of the two control points at or below
        below = whole - (rest**3 / 6) / before
        above = whole + 1 + (off**3 / 6) / (1 - before)
        pairs = [(places * 2 / last - 1).unbind(-1) for places in (below, above)]
        shares = [share.unbind(-1) for share in (before, 1 - before)]
        ndim = len(self.shape)
        total = coefficients.new_zeros(())
        for corner in itertools.product((0, 1), repeat=ndim):
            unit = torch.stack([pairs[side][axis] for axis, side in enumerate(corner)], -1)
            weight = math.prod((shares[side][axis] for axis, side in enumerate(corner)), start=one)
            unit = unit.view(len(unit), *[1] * (ndim - 1), -1, ndim)
            read = F.grid_sample(coefficients, unit, padding_mode="border", align_corners=True)
            total = total + weight[:, None] * read.flatten(2)
        return total.mT

    def apart_from(self, held: Tensor, lattice_from_index: Tensor) -> Tensor:
        """Which control points have no influence on the pixels of masks. (B, *pixels) -> (B, *shape), bool, on the CPU"""
        free = []
        for mask in held.cpu():
            there = apply(lattice_from_index, mask.nonzero().flip(-1).double(), is_affine=True)[0]
            cells = ((there - torch.tensor(self.first, dtype=torch.float64)) / self.spacing).floor().long().flip(-1)
            near = torch.zeros(self.shape)
            near[tuple(cells.unbind(-1))] = 1
            for axis in range(len(self.shape)):  # the field between two control points depends on these and one on each side
                lines = F.max_pool1d(F.pad(near.movedim(axis, -1).flatten(0, -2), (2, 1)), 4, 1)
                near = lines.view(near.movedim(axis, -1).shape).movedim(-1, axis)
            free.append(near == 0)
        return torch.stack(free)


@functools.cache  # for good: a recorded step goes on reading them
def _bounds(lattice: Lattice, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The first place, the last index of each axis, x first, and a one, on the device; kept, since they are needed often."""
    with torch.inference_mode(False):
        values = (lattice.first, [length - 1 for length in lattice.shape[::-1]], 1.0)
        return tuple(torch.tensor(value, dtype=dtype, device=device) for value in values)  # type: ignore[return-value]
