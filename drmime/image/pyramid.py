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

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.image import Image, read_unit

KERNEL = (1 / 8, 3 / 8)  # outer and inner weights
COARSEST_SIDE = 16  # pixels; coarser levels hold too little to score
THIN = 3  # times as many pixels along the longest side as along a thin one
UNEQUAL = 4.0  # ratio of the sides of a pixel up to which short axes are left as they are while others are halved


class Pyramid:
    """An image and coarser ones, finest first, that are read together."""

    def __init__(self, levels: Sequence[Image]) -> None:
        self.levels = list(levels)
        world_from_frame = self.levels[0].grid.world_from_frame
        stacked = torch.stack([level.grid.unit_from_world @ world_from_frame for level in self.levels])
        self.unit_from_frame = stacked[:, None].to(self.levels[0].data)

    @classmethod
    def of(cls, image: Image, levels: int) -> "Pyramid":
        """`image` and what is left of it after each halving; the image keeps them, so that they are made once."""
        while len(image.coarser) < levels - 1:
            image.coarser.append(halved(image.coarser[-1] if image.coarser else image))
        return cls([image, *image.coarser[: levels - 1]])

    def described(self, describe: Callable[[Image], Image]) -> "Pyramid":
        """The same levels with other channels."""
        return Pyramid([describe(level) for level in self.levels])

    def masked_as(self, other: "Pyramid") -> "Pyramid":
        """The same levels with the masks of `other`, which has as many."""
        return Pyramid([replace(mine, mask=its.mask) for mine, its in zip(self.levels, other.levels, strict=True)])

    def at(self, points: Tensor, valid: Tensor | None = None, levels: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """`Image.at` on some levels at once: values (L, B, N, C), inside (L, B, N).

        `points` (L, B, N, D) of the finest level's frame; those that are not `valid` (L, B, N) are outside.
        """
        unit, all_valid = apply(self.unit_from_frame[levels], points, is_affine=True)
        return read_unit(self.levels[levels], unit, all_valid if valid is None else valid)


def possible_levels(grid: Grid) -> int:
    """How many levels `grid` has before no side is left that could be halved and keep 16 pixels; at least 1."""
    levels = 1
    while axes := _fine_axes(grid):
        grid, levels = grid.halved(axes), levels + 1
    return levels


def _fine_axes(grid: Grid, least: int = COARSEST_SIDE) -> Sequence[int]:
    """The axes (array order) to halve: those that keep `least` pixels and are not already much coarser than the finest of them.

    None is, unless all others are coarser or thin, as the slices of a slab: these stay as they are.
    """
    spacing, shape = grid.spacing.flip(0).tolist(), grid.shape
    long = [axis for axis, length in enumerate(shape) if length // 2 >= least]
    finest = min((spacing[axis] for axis in long), default=0.0)
    axes = [axis for axis in long if spacing[axis] < 1.5 * finest]
    short = [axis for axis in range(grid.ndim) if axis not in long and spacing[axis] < 1.5 * finest]
    longest = max((shape[axis] for axis in axes), default=0)
    thin = all(THIN * shape[axis] <= longest and 2 * finest <= UNEQUAL * spacing[axis] for axis in short)
    return axes if thin else []


def halved(image: Image) -> Image:
    """The next coarser level."""
    axes = _fine_axes(image.grid) or _fine_axes(image.grid, 1)
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
        rows = data.movedim(axis + 2, 0)
        half = len(rows) // 2
        even, odd, end = rows[: 2 * half : 2], rows[1 : 2 * half : 2], rows[min(2 * half, len(rows) - 1)]
        sums = (even + odd).mul_(inner)  # and their neighbours to either side, without a padded copy
        sums[0].add_(even[0], alpha=outer)
        sums[1:].add_(odd[:-1], alpha=outer)
        sums[:-1].add_(even[1:], alpha=outer)
        sums[-1].add_(end, alpha=outer)
        data = sums.movedim(0, axis + 2)
    return data.contiguous()
