"""Problems whose answers are known: images that are smooth functions of the world, so that any warp of one is exact.

A `Scene` can be read at any point. `photograph` reads it at the pixels of a grid; with `scene_from_world` the camera is
moved, so that two photographs of one scene are related by a matrix that is known to the last digit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply, scale_and_shift
from drmime.image.image import Image

Function = Callable[[Tensor], Tensor]  # world points (..., D) -> values (...)


@dataclass(frozen=True, eq=False)
class Scene:
    """A sum of Gaussian blobs and one plane wave, within about [0, 1]."""

    centres: Tensor  # shape: (K, D), world
    widths: Tensor  # shape: (K,), standard deviations
    heights: Tensor  # shape: (K,)
    wave: Tensor  # shape: (D,), radians per world unit

    def __call__(self, points: Tensor) -> Tensor:
        points = points.to(torch.float64)
        distance = (points[..., None, :] - self.centres).norm(dim=-1)
        blobs = (self.heights * torch.exp(-0.5 * (distance / self.widths) ** 2)).sum(-1)
        return 0.1 + blobs + 0.1 * (1 + torch.sin(points @ self.wave)) / 2


def scene(grid: Grid, seed: int = 0, blobs: int = 6) -> Scene:
    """A scene that fills `grid`, asymmetric in every axis; its details are several pixels wide."""
    random = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64)

    radius = grid.world_from_frame[0, 0]
    centres, _ = apply(grid.world_from_unit, 1.4 * uniform(blobs, grid.ndim) - 0.7)
    widths = radius * (0.12 + 0.18 * uniform(blobs))
    direction = uniform(grid.ndim) + 0.2
    return Scene(centres, widths, (0.3 + 0.7 * uniform(blobs)) / 2, direction / direction.norm() * 2 * math.pi / radius)


def linear(slopes: Sequence[float], offset: float = 0.0) -> Function:
    """The function slopes . x + offset of world points, which linear interpolation reproduces exactly."""
    weights = torch.tensor(slopes, dtype=torch.float64)
    return lambda points: points.to(torch.float64) @ weights + offset


def world_points(grid: Grid) -> Tensor:
    """World coordinates of every pixel centre in array order. shape: (prod(shape), D), float64"""
    return apply(grid.world_from_index, grid.index_points())[0]


def photograph(
    *functions: Function, grid: Grid, scene_from_world: Tensor | None = None, dtype: torch.dtype = torch.float64
) -> Image:
    """One channel for each function, read where `scene_from_world` takes the pixels of `grid`; B = 1."""
    points = world_points(grid)
    if scene_from_world is not None:
        points, _ = apply(scene_from_world, points)
    channels = [function(points).view(grid.shape) for function in functions]
    return Image(torch.stack(channels)[None].to(dtype), grid)


def pair(
    moving_from_fixed: Tensor, fixed: Grid, moving: Grid, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Image, Image]:
    """Two photographs of one scene: the value of `fixed` at x is that of `moving` at moving_from_fixed x, exactly."""
    what = scene(fixed, seed)
    fixed_from_moving = torch.linalg.inv(moving_from_fixed)
    return (
        photograph(what, grid=fixed, dtype=dtype),
        photograph(what, grid=moving, scene_from_world=fixed_from_moving, dtype=dtype),
    )


def rotation(ndim: int, angle: float, plane: tuple[int, int] = (0, 1)) -> Tensor:
    """The homogeneous rotation by `angle` from the first axis of `plane` towards the second, written out."""
    matrix = torch.eye(ndim + 1, dtype=torch.float64)
    i, j = plane
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[j, i], matrix[i, j] = math.sin(angle), -math.sin(angle)
    return matrix


def translation(*shift: float) -> Tensor:
    """The homogeneous matrix of x -> x + shift, x first."""
    return scale_and_shift(torch.ones(len(shift), dtype=torch.float64), torch.tensor(shift, dtype=torch.float64))


def oblique(shape: Sequence[int], spacing: Sequence[float] | None = None, offset: float = 0.0) -> Grid:
    """A grid turned against the world's axes in every plane, with `spacing` (array order) and its origin far off."""
    ndim = len(shape)
    straight = Grid.regular(shape, spacing).world_from_index
    turned = rotation(ndim, 0.4)
    for axis in range(2, ndim):
        turned = turned @ rotation(ndim, -0.3, (axis - 1, axis))
    return Grid(tuple(shape), translation(*[offset * (axis + 1) for axis in range(ndim)]) @ turned @ straight)
