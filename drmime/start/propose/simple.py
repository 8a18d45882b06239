"""Starts that need no search: a shift at most."""

import torch
from torch import Tensor

from drmime.geometry.matrices import apply, translation
from drmime.image.image import Image
from drmime.start.propose.base import mass_of


class Identity:
    """The two worlds as they are."""

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        return torch.eye(fixed.grid.ndim + 1, dtype=torch.float64).repeat(fixed.data.shape[0], 1, 1)


class Centre:
    """The centre of one image onto the centre of the other."""

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        return translation(moving.grid.centre - fixed.grid.centre).repeat(fixed.data.shape[0], 1, 1)


class Mass:
    """Centre of mass onto centre of mass, where mass is the distance of a pixel from the background (`base.mass_of`)."""

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        shifts = [to - origin for origin, to in zip(_centres_of_mass(fixed), _centres_of_mass(moving), strict=True)]
        return torch.stack([translation(shift) for shift in shifts])


def _centres_of_mass(image: Image) -> list[Tensor]:
    """World coordinates of each pair's centre of mass. each (D,)"""
    weight = mass_of(image).to(torch.float64)
    points = []
    for axis, length in reversed(list(enumerate(image.grid.shape))):  # x first
        others = [a + 2 for a in range(image.grid.ndim) if a != axis]
        profile = weight.sum([1, *others]).cpu()
        points.append((profile @ torch.arange(length, dtype=torch.float64)) / profile.sum(-1))
    centres, _ = apply(image.grid.world_from_index, torch.stack(points, -1))
    return list(centres)
