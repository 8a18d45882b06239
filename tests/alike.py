"""Pairs on equal grids that differ in scene, pose and mask: what a batch of them gives must be what each gives alone."""

import functools

import torch
from posed import SIDES, turn_in
from problems import photograph
from textures import about, busy, inverted
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import translation
from drmime.image.image import Image
from drmime.start.score import Reduced
from drmime.transform.lattice import Lattice
from drmime.transform.lattice_transform import VelocityTransform
from drmime.transform.linear import MatrixTransform


@functools.cache
def pairs(ndim: int, count: int, masked: bool = False) -> tuple[list[Reduced], list[MatrixTransform]]:
    """Reduced pairs, each alone, and their true transforms; of the last of several the images do not overlap."""
    made = [_pair(ndim, seed, masked) for seed in range(count)]
    small, truths = [one for one, _ in made], [truth for _, truth in made]
    if count > 1:
        truths[-1] = truths[-1] @ translation(torch.full((ndim,), 1e4, dtype=torch.float64))
    return small, [MatrixTransform(truth) for truth in truths]


def _pair(ndim: int, seed: int, masked: bool) -> tuple[Reduced, Tensor]:
    grid = Grid.regular(SIDES[ndim])
    scene = busy(grid, seed, 0.2 if ndim == 2 else 0.3)
    truth = about(turn_in(ndim, 10.0 * seed), grid.centre, grid.centre + seed)
    images = [photograph(scene, grid=grid, dtype=torch.float32).normalised()]
    back = torch.linalg.inv(truth)
    images += [photograph(inverted(scene), grid=grid, scene_from_world=back, dtype=torch.float32).normalised()]
    if masked:
        images = [Image(image.data, grid, _mask(grid, 2 * seed + role)) for role, image in enumerate(images)]
    return Reduced.of([images[0]], [images[1]], 1), truth


def _mask(grid: Grid, width: int) -> Tensor:
    """Without a border of some pixels on one side."""
    mask = torch.ones(1, 1, *grid.shape)
    mask[..., :width] = 0
    return mask


def bent(ndim: int, seed: int) -> VelocityTransform:
    """A deformation of these images."""
    grid = Grid.regular(SIDES[ndim])
    lattice = Lattice.over(grid, 0.4)
    random = torch.Generator().manual_seed(seed)
    field = 0.02 * torch.randn(ndim, *lattice.shape, dtype=torch.float64, generator=random)
    return VelocityTransform(field, lattice, grid.world_from_frame)
