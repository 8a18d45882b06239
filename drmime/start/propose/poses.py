"""Poses for searches: rotations spread evenly over all rotations or over those of a slab, and lengths that suit the FFT."""

import itertools
import math

import torch
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.lie import generators

BOXES = 16  # sample points along each axis, by which the largest possible overlap of two images is estimated
SLAB = 0.3  # thickness by the next longer side; below it two volumes overlap only at small rotations out of their plane


def rotations(ndim: int, step: float) -> Tensor:
    """Rotations about `step` degrees apart, the identity first. shape: (R, D, D), float64"""
    return _turns(max(1, round(360 / step))) if ndim == 2 else _spread(max(1, round(VOLUME / math.radians(step) ** 3)))


def planar(normal: Tensor, step: float, tilt: float) -> Tensor:
    """Rotations about `normal` (3,), about `step` degrees apart, the identity first, for a slab.

    Each is combined with the slab turned upside down or not, and flat or tilted by `tilt` radians. shape: (R, 3, 3), float64
    """
    others = torch.linalg.svd(normal[None])[2][1:]
    turns = _about(normal, torch.arange(count := max(1, round(360 / step))).double() * (2 * math.pi / count))
    flips = _about(others[0], torch.tensor([0, math.pi]).double())
    leans = torch.cat(
        [_about(others[0], torch.tensor([0, tilt, -tilt]).double()), _about(others[1], torch.tensor([tilt, -tilt]).double())]
    )
    return (leans[:, None, None] @ flips[:, None] @ turns).flatten(0, 2)


def thin_axis(grid: Grid) -> int | None:
    """The axis (x first) along which a volume is a slab; None if it is no slab."""
    thin, wide, _ = grid.extent.sort().values.tolist()
    return int(grid.extent.argmin()) if thin < SLAB * wide else None


def possible(poses: Tensor, scale: float, fixed: Grid, moving: Grid, least: float) -> list[int]:
    """The numbers of those poses (R, D, D) in which the share `least` of the smaller image can lie on the other one.

    Computed from the grids alone, with both centres on each other, where the overlap is largest.
    """
    steps = torch.arange(-1 + 1 / BOXES, 1, 2 / BOXES, dtype=torch.float64) / 2
    points = torch.cartesian_prod(*(steps * length for length in fixed.extent))
    axes = [grid.world_from_index[:-1, :-1] / grid.spacing for grid in (fixed, moving)]
    there = (points @ axes[0].T @ (scale * poses).mT @ axes[1]).abs() <= moving.extent / 2
    most = there.all(-1).double().mean(-1) * fixed.extent.prod()
    smaller = min(float(fixed.extent.prod()), float(moving.extent.prod()) / scale**fixed.ndim)
    return (most >= min(0.99, least) * smaller).nonzero()[:, 0].tolist()


def _about(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotations about a unit vector (3,) by angles (R,). shape: (R, 3, 3)"""
    x, y, z = axis.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]]).double()
    return torch.linalg.matrix_exp(angle[:, None, None] * cross)


def angles(rotations: Tensor) -> Tensor:
    """The angles of rotations (R, D, D), in radians. shape: (R,)"""
    traces = rotations.diagonal(dim1=-2, dim2=-1).sum(-1)
    cosines = traces / 2 if rotations.shape[-1] == 2 else (traces - 1) / 2
    return cosines.clamp(-1, 1).acos()


def mirror(ndim: int) -> Tensor:
    """The reflection of the first axis. shape: (D, D), float64"""
    return torch.diag(torch.tensor([-1.0] + [1.0] * (ndim - 1), dtype=torch.float64))


def nudges(ndim: int, angle: float) -> Tensor:
    """Rotations by plus and minus `angle` radians in each plane of two axes. shape: (R, D, D), float64"""
    planes = torch.stack([matrix[:-1, :-1] for matrix in generators(["rotation"], ndim).values()])
    return torch.linalg.matrix_exp(torch.cat([angle * planes, -angle * planes]))


VOLUME = 8 * math.pi**2 * 0.7  # of all rotations, in cubic radians, times the share of a cell that a ball fills, about 0.7
PSI = 1.533751168755204288118041  # the real root of psi⁴ = psi + 4


def _turns(count: int) -> Tensor:
    """`count` equally spaced rotations in 2-D, the identity first. shape: (R, 2, 2), float64"""
    angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def _spread(count: int) -> Tensor:
    """Super-Fibonacci spirals (Alexa 2022, doi 10.1109/CVPR52688.2022.00811), rotated so that the first is the identity."""
    number = torch.arange(count, dtype=torch.float64) + 0.5
    share = number / count
    r, big = share.sqrt(), (1 - share).sqrt()
    alpha, beta = 2 * math.pi * number / math.sqrt(2), 2 * math.pi * number / PSI
    matrices = _matrices(torch.stack([r * alpha.sin(), r * alpha.cos(), big * beta.sin(), big * beta.cos()], -1))
    return matrices @ matrices[:1].transpose(-1, -2)


def _matrices(quaternions: Tensor) -> Tensor:
    """Unit quaternions (R, 4), the real part first, to rotation matrices (R, 3, 3)."""
    w, x, y, z = quaternions.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def good_length(length: int) -> int:
    """The least number from `length` up whose prime factors are 2, 3 and 5, for which the FFT is fast.

    It equals `scipy.fft.next_fast_len`, whose import takes as long as a thousand transforms.
    """
    return next(number for number in itertools.count(max(1, length)) if 30 ** number.bit_length() % number == 0)
