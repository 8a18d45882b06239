"""A Gaussian pyramid in which every level knows exactly where its pixels lie, masks included.

Each halving filters with the binomial kernel (1 3 3 1)/8 (variance 3/4 of a pixel) and keeps every second sample, in one
pass along each axis. The kernel is even, so a coarse pixel lies in the middle of the two it replaces: the half-pixel
shift is in the grid of the level, not in anybody's head. Masked pixels are left out by normalised convolution (Knutsson
and Westin 1993, doi 10.1109/CVPR.1993.341081), so that nothing outside a mask leaks into a coarse level.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from drmime.grid import Grid, apply
from drmime.image import Image, read_unit

KERNEL = (1 / 8, 3 / 8)  # outer and inner weights
COARSEST_SIDE = 16  # pixels; coarser levels hold too little to score


class Pyramid:
    """An image and coarser ones, finest first, that are read together."""

    def __init__(self, levels: Sequence[Image]) -> None:
        self.levels = list(levels)
        stacked = torch.stack([level.grid.unit_from_world for level in self.levels])
        self.unit_from_world = stacked[:, None].to(self.levels[0].data.device)

    @classmethod
    def of(cls, image: Image, levels: int) -> "Pyramid":
        """`image` and what is left of it after each halving."""
        made = [image]
        while len(made) < levels:
            made.append(_halve(made[-1]))
        return cls(made)

    def described(self, describe: Callable[[Image], Image]) -> "Pyramid":
        """The same levels with other channels."""
        return Pyramid([describe(level) for level in self.levels])

    def masked_as(self, other: "Pyramid") -> "Pyramid":
        """The same levels with the masks of `other`, which has as many."""
        return Pyramid([replace(mine, mask=its.mask) for mine, its in zip(self.levels, other.levels, strict=True)])

    def at(
        self, points: Tensor, world_from_points: Tensor, levels: slice = slice(None), is_affine: bool = False
    ) -> tuple[Tensor, Tensor]:
        """`Image.at` on some levels at once: (L, B, N, D), (L, B or 1, D+1, D+1) -> values (L, B, N, C), inside (L, B, N)."""
        unit, in_front = apply((self.unit_from_world[levels] @ world_from_points).to(points.dtype), points, is_affine)
        return read_unit(self.levels[levels], unit, in_front)


def possible_levels(grid: Grid) -> int:
    """How many levels `grid` has before a side that is to be halved would fall under 16 pixels; at least 1."""
    levels = 1
    while min(grid.shape[axis] for axis in _fine_axes(grid)) // 2 >= COARSEST_SIDE:
        grid, levels = grid.halved(_fine_axes(grid)), levels + 1
    return levels


def _fine_axes(grid: Grid) -> Sequence[int]:
    """The axes (array order) to halve: those not already much coarser than the finest, as slices of a volume may be."""
    spacing = grid.spacing.flip(0).tolist()
    return [axis for axis, length in enumerate(spacing) if length < 1.5 * min(spacing)]


def _halve(image: Image) -> Image:
    axes = _fine_axes(image.grid)
    grid = image.grid.halved(axes)
    if image.mask is None:
        return Image(_blur_and_halve(image.data, axes), grid)
    share = _blur_and_halve(image.mask, axes)
    data = _blur_and_halve(image.data * image.mask, axes) / share.clamp(min=1e-6)
    inside = share > 0.5
    thin = ~inside.flatten(1).any(1).view(-1, *[1] * (share.ndim - 1))  # a mask that would vanish keeps what it touches
    return Image(data, grid, torch.where(thin, share > 0, inside).to(share.dtype))


def _blur_and_halve(data: Tensor, axes: Sequence[int]) -> Tensor:
    """(B, C, *shape) -> half as many pixels along each of `axes`, edges continued."""
    return torch.cat([_halved(channel, axes) for channel in data.split(1, 1)], 1)  # one at a time in memory


def _halved(data: Tensor, axes: Sequence[int]) -> Tensor:
    outer, inner = KERNEL
    for axis in axes:
        dim = axis + 2
        half = data.shape[dim] // 2
        first, last = data.narrow(dim, 0, 1), data.narrow(dim, data.shape[dim] - 1, 1)
        padded = torch.cat([first, data, last], dim).movedim(dim, 0)
        taps = [padded[tap : tap + 2 * half - 1 : 2] for tap in range(4)]
        data = (taps[0] + taps[3]).mul_(outer).add_(taps[1] + taps[2], alpha=inner).movedim(0, dim)
    return data.contiguous()
