"""`Image`: pixels on a grid, with a mask; interpolation, normalisation and batches."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply

SMALLEST_SIDE = 8  # pixels; smaller images hold too little to align
QUANTILES = (0.001, 0.999)  # that become 0 and 1 in a normalised image
VALID = 0.999  # a point is inside the mask if the mask interpolated there is larger


@dataclass(frozen=True, eq=False)
class Image:
    """A batch of images on one grid; `mask` is 1 at valid pixels and 0 elsewhere, None if all pixels are valid."""

    data: Tensor  # shape: (B, C, *grid.shape), floating point
    grid: Grid
    mask: Tensor | None = None  # shape: (B, 1, *grid.shape), same dtype as data
    finest: Grid | None = None  # of the finest level of the file if this is a coarser one
    note: str = ""  # what of the file was not read, a sentence
    coarser: list["Image"] = field(default_factory=list, init=False, repr=False)  # levels cached by `Pyramid.of`

    @classmethod
    def packed(cls, channels: Tensor, grid: Grid) -> "Image":
        """An image whose mask is the last of these channels (B, C + 1, *grid.shape), as `readable` has it: no copy is made."""
        made = cls(channels[:, :-1], grid, channels[:, -1:])
        made.__dict__["readable"] = channels
        return made

    @functools.cached_property
    def readable(self) -> Tensor:
        """The data and, if there is one, the mask as last channel: both are interpolated at once."""
        return self.data if self.mask is None else torch.cat([self.data, self.mask], 1)

    @property
    def valid(self) -> Tensor:
        """The mask, or ones without one. shape: (B, 1, *grid.shape)"""
        return torch.ones_like(self.data[:, :1]) if self.mask is None else self.mask

    def at(self, points: Tensor, world_from_points: Tensor) -> tuple[Tensor, Tensor]:
        """Linear interpolation at `points` (B, N, D) of any frame: values (B, N, C), inside (B, N) of data's dtype.

        `world_from_points` (B or 1, D+1, D+1), float64, is multiplied with the image's own matrix before it is applied to the
        points, on its device, so that large world coordinates lose no precision. `inside` is 0 outside the image, outside the
        mask and behind a projective horizon.
        """
        unit_from_points = (self.grid.unit_from_world.to(world_from_points.device) @ world_from_points).to(points)
        values, inside = read_unit([self], *(part[None] for part in apply(unit_from_points, points)))
        return values[0], inside[0]

    def on(self, grid: Grid) -> "Image":
        """The image interpolated linearly at the pixels of another grid; its mask is 0 outside this image and its mask."""
        count = len(self.data)
        points = grid.index_points()[None].to(self.data).expand(count, -1, -1)
        values, inside = self.at(points, grid.world_from_index[None])
        return Image(values.mT.reshape(count, -1, *grid.shape), grid, inside.view(count, 1, *grid.shape))

    def to(self, device: torch.device | str) -> "Image":
        """The image on another device; the same object if it is there already."""
        there = self.data.to(device)
        mask = None if self.mask is None else self.mask.to(there)
        return self if there is self.data else replace(self, data=there, mask=mask)

    def pair(self, number: int) -> "Image":
        """The image `number` of the batch, with B = 1, and with the cached levels."""
        one = replace(self, data=self.data[number, None], mask=None if self.mask is None else self.mask[number, None])
        one.coarser.extend(level.pair(number) for level in self.coarser)
        return one

    def chosen(self, numbers: Tensor | slice) -> "Image":
        """The images of these numbers as a batch, without cached levels: of a slice in the memory of this batch, else copied.

        `numbers`: a slice, or a tensor (N,), in which a number may occur more than once.
        """
        several = self.readable[numbers]
        return Image(several, self.grid) if self.mask is None else Image.packed(several, self.grid)

    def copies(self, count: int) -> "Image":
        """A batch that repeats this image (B = 1) `count` times without copying its data."""
        many = self.readable.expand(count, *self.readable.shape[1:])
        return Image(many, self.grid) if self.mask is None else Image.packed(many, self.grid)

    def normalised(self, reference: "Image | None" = None) -> "Image":
        """Map each channel linearly so that its 0.1 % and 99.9 % quantiles inside the mask become 0 and 1, and clip to [0, 1].

        Quantiles are robust to hot pixels, unlike the minimum and maximum. With a `reference` (an image with as many
        channels) its quantiles are used, so that intensities stay comparable.
        """
        return self.between(*(reference or self).limits())

    def between(self, low: Tensor, high: Tensor) -> "Image":
        """Map each channel linearly so that `low` and `high`, (B or 1, C, 1, ...) each, become 0 and 1, and clip to [0, 1]."""
        return replace(self, data=((self.data - low) / torch.where(high > low, high - low, 1)).clamp_(0, 1))

    def limits(self) -> tuple[Tensor, Tensor]:
        """The 0.1 % and 99.9 % quantiles of each channel; minimum and maximum if these are equal. (B, C, 1, ...) each"""
        shape = (*self.data.shape[:2], *[1] * self.grid.ndim)
        found = []
        for b, c in np.ndindex(*shape[:2]):
            inside = (self.data[b, c] if self.mask is None else self.data[b, c][self.mask[b, 0] > 0]).flatten()
            values = inside[:: max(1, len(inside) // 2**20)].cpu().numpy()
            low, high = np.quantile(values, QUANTILES).astype(values.dtype).tolist()
            found.append((low, high) if high > low else (float(inside.min()), float(inside.max())))
        lows, highs = torch.tensor(found, dtype=self.data.dtype).to(self.data.device).unbind(-1)
        return lows.view(shape), highs.view(shape)


def few_slices(shape: Sequence[int]) -> int:
    """The number of slices of a volume that has fewer than `SMALLEST_SIDE` along one axis; 0 of any other image."""
    fewest = min(shape)
    return fewest if len(shape) == 3 and fewest < SMALLEST_SIDE else 0


def read_unit(images: Sequence[Image], unit: Tensor, in_front: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`Image.at` on L images, at unit coordinates (L, B, N, D); points where `in_front` (L, B, N) is false are outside.

    Instead of N there can be K, N: K lists of points in each image. All images have a mask, or none. Numbers in `unit` that are
    not finite are replaced.

    Returns values (L, B, N, C), stored channel by channel, and inside (L, B, N).
    """
    plain, masked = unit.detach(), images[0].mask is not None
    inside = (plain.abs() <= 1).all(-1)
    inside = inside if in_front is None else inside & in_front
    # these are outside already; torch 2.13 on the CPU crashes in the backward pass at NaN. In place, so the gradient passes
    plain.nan_to_num_()
    levels, batch, *counts, ndim = unit.shape
    places = unit.view(levels, batch, *[1] * (ndim - len(counts)), *counts, ndim).unbind(0)
    values = torch.stack([_sample(image.readable, there) for image, there in zip(images, places, strict=True)])
    values = values.view(levels, batch, -1, *counts)  # shape: (L, B, C, N)
    if masked:
        inside &= values.detach()[:, :, -1] > VALID
        values = values[:, :, :-1]
    return values.movedim(2, -1), inside.to(values.dtype)


def _sample(data: Tensor, grid: Tensor) -> Tensor:
    """Interpolate (B, C, *shape) linearly at unit coordinates (B, *places, D), edge pixels replicated. -> (B, C, *places)

    This is the only place where `align_corners` of images is set.
    """
    return F.grid_sample(data, grid, mode="bilinear", padding_mode="border", align_corners=False)


def batch(images: Sequence[Image]) -> Image:
    """Join single images with equal grids and channels into one batch; one image alone is returned as it is."""
    first = images[0]
    if len(images) == 1:
        return first
    mask = None if all(image.mask is None for image in images) else torch.cat([image.valid for image in images])
    return Image(torch.cat([image.data for image in images]), first.grid, mask, first.finest)
