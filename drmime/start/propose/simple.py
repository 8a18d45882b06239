"""Starts that need no search: the identity, or a shift."""

import torch
from torch import Tensor

from drmime.geometry.matrices import apply, translation
from drmime.image.image import Image
from drmime.start.propose.base import mass_of


class Identity:
    """The identity: equal world coordinates in both images."""

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        return torch.eye(fixed.grid.ndim + 1, dtype=torch.float64)[None]


class Centre:
    """The centre of one image onto the centre of the other."""

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        return translation(moving.grid.centre - fixed.grid.centre)[None]


class Mass:
    """Centre of mass onto centre of mass, where mass is the distance of a pixel from the background (`base.mass_of`)."""

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        return translation(_centre_of_mass(moving) - _centre_of_mass(fixed))[None]


def _centre_of_mass(image: Image) -> Tensor:
    """World coordinates of the centre of mass of a single image. shape: (D,)"""
    weight = mass_of(image).to(torch.float64)
    points = []
    for axis, length in reversed(list(enumerate(image.grid.shape))):  # x first
        others = [a + 2 for a in range(image.grid.ndim) if a != axis]
        profile = weight.sum([0, 1, *others]).cpu()
        points.append((profile @ torch.arange(length, dtype=torch.float64)) / profile.sum())
    return apply(image.grid.world_from_index, torch.stack(points)[None])[0][0]
