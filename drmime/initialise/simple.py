"""Starts that need no search: a shift at most."""

import torch
from torch import Tensor

from drmime.grid import apply, scale_and_shift
from drmime.image import Image


def identity(fixed: Image, moving: Image) -> Tensor:
    """The two worlds as they are."""
    return torch.eye(fixed.grid.ndim + 1, dtype=torch.float64).repeat(fixed.data.shape[0], 1, 1)


def centre(fixed: Image, moving: Image) -> Tensor:
    """The middle of one image onto the middle of the other."""
    start = identity(fixed, moving)
    start[:, :-1, -1] = moving.grid.centre - fixed.grid.centre
    return start


def mass(fixed: Image, moving: Image) -> Tensor:
    """Centre of mass onto centre of mass, where mass is the distance of a pixel from the background.

    The background is the median of the image's border, so that a dark specimen on bright ground weighs as a bright one on
    dark ground does.
    """
    shifts = [to - origin for origin, to in zip(_centres_of_mass(fixed), _centres_of_mass(moving), strict=True)]
    return torch.stack([scale_and_shift(torch.ones_like(shift), shift) for shift in shifts])


def _centres_of_mass(image: Image) -> list[Tensor]:
    """World coordinates of each pair's centre of mass. each (D,)"""
    background = _background(image).view(*image.data.shape[:2], *[1] * image.grid.ndim)
    weight = (image.data - background).abs().sum(1, keepdim=True)
    weight = (weight if image.mask is None else weight * image.mask).to(torch.float64)
    points = []
    for axis, length in reversed(list(enumerate(image.grid.shape))):  # x first
        others = [a + 2 for a in range(image.grid.ndim) if a != axis]
        profile = weight.sum([1, *others]).cpu()
        points.append((profile @ torch.arange(length, dtype=torch.float64)) / profile.sum(-1))
    centres, _ = apply(image.grid.world_from_index, torch.stack(points, -1))
    return list(centres)


def _background(image: Image) -> Tensor:
    """Median of each channel over the border, or over all pixels where the mask leaves none of it. shape: (B, C)"""
    border = torch.ones(image.grid.shape, dtype=torch.bool, device=image.data.device)
    border[tuple(slice(1, -1) for _ in image.grid.shape)] = False
    medians = []
    for number, pixels in enumerate(image.data):
        inside = torch.ones_like(border) if image.mask is None else image.mask[number, 0] > 0
        chosen = border & inside
        medians.append(pixels[:, chosen if chosen.any() else inside].median(-1).values)
    return torch.stack(medians)
