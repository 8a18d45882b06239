"""Busy scenes for searches: detail everywhere, nothing repeated, known at every point of the world, and what goes with them."""

import math

import torch
from problems import Function
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.image import Image

WAVES = 40


def busy(grid: Grid, seed: int = 0, finest: float = 0.14) -> Function:
    """Waves in all directions, of lengths from `finest` to 0.8 of the side of `grid`; values within about [-1, 1]."""
    random = torch.Generator().manual_seed(seed)
    side = float(grid.extent.prod()) ** (1 / grid.ndim)
    lengths = side * finest * (0.8 / finest) ** torch.rand(WAVES, generator=random, dtype=torch.float64)
    directions = torch.randn(WAVES, grid.ndim, generator=random, dtype=torch.float64)
    waves = 2 * math.pi * directions / (directions.norm(dim=1) * lengths)[:, None]
    phases = 2 * math.pi * torch.rand(WAVES, generator=random, dtype=torch.float64)
    heights = lengths / lengths.norm()
    centre = grid.centre
    return lambda points: torch.tanh(1.5 * (torch.sin((points.to(torch.float64) - centre) @ waves.T + phases) @ heights))


def inverted(function: Function) -> Function:
    """The same edges with other intensities on their two sides."""
    return lambda points: torch.exp(-function(points))


def corner_error(found: Tensor, truth: Tensor, image: Image) -> float:
    """Mean distance between where two transforms take the corners of `image`, by the diagonal of where they lie."""
    corners = image.grid.corners()
    places = apply(truth, corners)[0]
    scale = float(truth[:-1, :-1].det().abs()) ** (1 / image.grid.ndim)
    distance = (apply(found, corners)[0] - places).norm(dim=1).mean()
    return float(distance) / (scale * float(image.grid.extent.norm()))


def about(linear: Tensor, fixed: Tensor, moving: Tensor) -> Tensor:
    """The homogeneous matrix of x -> linear (x - fixed) + moving."""
    matrix = torch.eye(len(fixed) + 1, dtype=torch.float64)
    matrix[:-1, :-1], matrix[:-1, -1] = linear, moving - linear @ fixed
    return matrix


def turn(degrees: float, axis: tuple[float, float, float] | None = None) -> Tensor:
    """The rotation of the plane, or about an axis of space (Rodrigues)."""
    angle = math.radians(degrees)
    if axis is None:
        return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    x, y, z = (torch.tensor(axis, dtype=torch.float64) / math.hypot(*axis)).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
