"""A Gaussian pyramid of images and masks; the grid of every level gives the exact positions of its pixels.

Each halving filters with the binomial kernel (1 3 3 1)/8 (variance 3/4 of a squared pixel) and keeps every second sample, in
one pass along each axis. The kernel has even length, so a coarse pixel is centred between the two it replaces; this half-pixel
shift is part of the level's grid. Masked pixels are excluded by normalised convolution (Knutsson and Westin 1993, doi
10.1109/CVPR.1993.341081), so that values outside a mask have no effect on coarse levels.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.image import Image, batch, read_unit

KERNEL = (1 / 8, 3 / 8)  # outer and inner weights
COARSEST_SIDE = 16  # pixels; coarser levels hold too few pixels for a metric
THIN_RATIO = 3  # an axis is thin if the longest has at least this many times its pixels
MAX_ANISOTROPY = 4.0  # largest ratio of pixel sides up to which thin axes are kept while others are halved


class Pyramid:
    """The levels of an image, finest first, which are sampled together."""

    def __init__(self, levels: Sequence[Image]) -> None:
        self.levels = list(levels)
        world_from_frame = self.levels[0].grid.world_from_frame
        stacked = torch.stack([level.grid.unit_from_world @ world_from_frame for level in self.levels])
        # from the finest level's frame to the unit coordinates of each level. shape: (L, 1, D+1, D+1), float64
        self.unit_from_frame = stacked[:, None].to(self.levels[0].data.device)

    @classmethod
    def of(cls, image: Image, levels: int) -> "Pyramid":
        """The pyramid of `image` with `levels` levels. Levels are cached in the image, so that each is computed once."""
        while len(image.coarser) < levels - 1:
            image.coarser.append(halved(image.coarser[-1] if image.coarser else image))
        return cls([image, *image.coarser[: levels - 1]])

    @classmethod
    def joined(cls, several: Sequence["Pyramid"]) -> "Pyramid":
        """Pyramids on equal grids as one batch."""
        return cls([batch(levels) for levels in zip(*(one.levels for one in several), strict=True)])

    def described(self, describe: Callable[[Image], Image]) -> "Pyramid":
        """A pyramid with `describe` applied to each level."""
        return Pyramid([describe(level) for level in self.levels])

    def masked_as(self, other: "Pyramid") -> "Pyramid":
        """The same levels with the masks of `other`, which has the same number of levels."""
        return Pyramid([replace(mine, mask=its.mask) for mine, its in zip(self.levels, other.levels, strict=True)])

    def at(self, points: Tensor, levels: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """`Image.at` on several levels at once: values (L, B, N, C), inside (L, B, N).

        `points` (L, B, N, D) are in the finest level's frame coordinates.
        """
        unit, _ = apply(self.unit_from_frame[levels].to(points), points, is_affine=True)
        return read_unit(self.levels[levels], unit)


def possible_levels(grid: Grid) -> int:
    """The number of levels that `grid` allows, where each halved side must keep at least `COARSEST_SIDE` pixels; at least 1."""
    levels = 1
    while axes := _axes_to_halve(grid):
        grid, levels = grid.halved(axes), levels + 1
    return levels


def level_grids(grid: Grid, levels: int) -> list[Grid]:
    """The grids of `levels` levels of an image on `grid`, finest first."""
    grids = [grid]
    while len(grids) < levels:
        grids.append(grids[-1].halved(_next_axes(grids[-1])))
    return grids


def _next_axes(grid: Grid) -> Sequence[int]:
    """The axes (array order) along which the next level is halved. If no side keeps `COARSEST_SIDE` pixels, down to 1 pixel."""
    return _axes_to_halve(grid) or _axes_to_halve(grid, 1)


def _axes_to_halve(grid: Grid, least: int = COARSEST_SIDE) -> Sequence[int]:
    """The axes (array order) to halve: those that keep `least` pixels and whose spacing is below 1.5 times the finest of these.

    There are none unless every other axis has coarser spacing or is thin (such as the slices of a slab); thin axes are kept.
    """
    spacing, shape = grid.spacing.flip(0).tolist(), grid.shape
    long = [axis for axis, length in enumerate(shape) if length // 2 >= least]
    finest = min((spacing[axis] for axis in long), default=0.0)
    axes = [axis for axis in long if spacing[axis] < 1.5 * finest]
    short = [axis for axis in range(grid.ndim) if axis not in long and spacing[axis] < 1.5 * finest]
    longest = max((shape[axis] for axis in axes), default=0)
    thin = all(THIN_RATIO * shape[axis] <= longest and 2 * finest <= MAX_ANISOTROPY * spacing[axis] for axis in short)
    return axes if thin else []


def halved(image: Image) -> Image:
    """The next coarser level of `image`, halved along `_next_axes`."""
    axes = _next_axes(image.grid)
    grid = image.grid.halved(axes)
    if image.mask is None:
        return Image(_blur_and_halve(image.data, axes), grid)
    share = _blur_and_halve(image.mask, axes)
    data = _blur_and_halve(image.data * image.mask, axes) / share.clamp(min=1e-6)
    inside = share > 0.5
    thin = ~inside.flatten(1).any(1).view(-1, *[1] * (share.ndim - 1))  # masks that would vanish keep all pixels they touch
    return Image(data, grid, torch.where(thin, share > 0, inside).to(share.dtype))


def _blur_and_halve(data: Tensor, axes: Sequence[int]) -> Tensor:
    """Filter and halve (B, C, *shape) along each of `axes`, edge pixels replicated."""
    return torch.cat([_halved(channel, axes) for channel in data.split(1, 1)], 1)  # one channel at a time in memory


def _halved(data: Tensor, axes: Sequence[int]) -> Tensor:
    outer, inner = KERNEL
    for axis in axes:
        rows = data.movedim(axis + 2, 0)
        half = len(rows) // 2
        even, odd, end = rows[: 2 * half : 2], rows[1 : 2 * half : 2], rows[min(2 * half, len(rows) - 1)]
        sums = (even + odd).mul_(inner)  # the inner two weights; the outer two are added without a padded copy
        sums[0].add_(even[0], alpha=outer)
        sums[1:].add_(odd[:-1], alpha=outer)
        sums[:-1].add_(even[1:], alpha=outer)
        sums[-1].add_(end, alpha=outer)
        data = sums.movedim(0, axis + 2)
    return data.contiguous()
