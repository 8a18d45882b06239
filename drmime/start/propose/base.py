"""Functions that proposers share: images on working grids, peaks of score maps, comparison of matrices, and mass."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from drmime.geometry.grid import Grid, border, linear_part, unravel
from drmime.geometry.matrices import apply, homogeneous, translation
from drmime.image.image import Image, batch
from drmime.image.pyramid import Pyramid, possible_levels

Proposer = Callable[[Image, Image], Tensor]  # fixed and moving, B = 1, to matrices (K, D+1, D+1), the best first
THIN = 8  # least pixels along an axis of a reduced image; along a shorter axis, such as of few slices, pixels are shorter


def directions(grid: Grid) -> Tensor:
    """World directions of the index axes, as columns of length 1. shape: (D, D)"""
    return grid.world_from_index[:-1, :-1] / grid.spacing


def working_spacing(fixed: Image, moving: Image, side: int) -> float:
    """World length of a working pixel: the longest of all sides has `side` pixels, unless no image has so fine a spacing."""
    longest = max(float(image.grid.extent.max()) for image in (fixed, moving))
    return max(longest / side, min(float(image.grid.spacing.min()) for image in (fixed, moving)))


def working_image(image: Image, spacing: float, axes: Tensor | None = None) -> Image:
    """The mean over channels on a grid of cubic pixels of length `spacing`, float32 on the CPU, with a mask always.

    The new grid has the centre of the old one and covers it. Its axes are those of the image or the columns of `axes` (D, D),
    orthonormal world directions. Finer images are averaged with a triangular filter as wide as two new pixels, over the pixels
    inside the mask. New pixels without any of these hold the mean of all others.
    """
    data = image.data.detach().mean(1, keepdim=True).float().cpu()
    mask = torch.ones_like(data) if image.mask is None else image.mask.float().cpu()
    factors = (spacing / image.grid.spacing).tolist()  # x first
    weights = [_triangles(length, factor) for length, factor in zip(image.grid.shape, reversed(factors), strict=True)]
    share = _along_axes(mask, weights)
    data = _along_axes(data * mask, weights) / share.clamp(min=1e-6)
    inside = (share > 0.5).float()
    shape = tuple(data.shape[2:])
    data = torch.where(share > 1e-3, data, (data * inside).sum() / inside.sum().clamp(min=1))
    result = Image(data, concentric(image.grid, directions(image.grid), shape, spacing), inside)
    if axes is None or torch.allclose(axes, directions(image.grid), atol=1e-6):
        return result
    return on_axes(result, axes, spacing)


def pyramid(image: Image) -> Pyramid:
    """The pyramid of `image` with all levels that its size allows."""
    return pyramids([image])[0]


def pyramids(images: Sequence[Image]) -> list[Pyramid]:
    """The pyramid of each of some images on equal grids."""
    count = possible_levels(images[0].grid)
    return [Pyramid.of(image, count) for image in images]


def reduced(levels: Sequence[Pyramid], spacing: float) -> Image:
    """The images of pyramids on equal grids, on a grid with pixels of world length `spacing`, as one batch.

    The grid has the axes of the images and covers them to half a pixel. Along an axis that would have fewer than `THIN` pixels
    they are shorter, down to those of the images.
    """
    grid = levels[0].levels[0].grid
    shorter = torch.maximum(grid.extent / THIN, grid.spacing).clamp(max=spacing)
    lengths = torch.where(grid.extent < THIN * spacing, shorter, spacing)
    longest = 1.01 * torch.maximum(lengths, grid.spacing)
    fine = [number for number, level in enumerate(levels[0].levels) if bool((level.grid.spacing <= longest).all())]
    level = batch([one.levels[max(fine, default=0)] for one in levels])  # the coarsest that is fine enough
    shape = tuple(max(1, round(count)) for count in (grid.extent / lengths).flip(0).tolist())
    made = level.on(concentric(grid, directions(grid), shape, lengths))
    return replace(made, data=made.data * made.valid)


def _triangles(length: int, factor: float) -> Tensor:
    """Weights of `length` old pixels in each new pixel, which is `factor` times as long; rows sum to 1. shape: (new, old)"""
    count = max(1, math.ceil(length / factor - 1e-6))
    middles = (length - 1) / 2 + factor * (torch.arange(count, dtype=torch.float64) - (count - 1) / 2)
    distances = (torch.arange(length) - middles.clamp(0, length - 1)[:, None]).abs()
    weights = (1 - distances / max(factor, 1)).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).float()


def _along_axes(data: Tensor, weights: list[Tensor]) -> Tensor:
    """(1, 1, *shape) with the weights (new, old) of each axis applied along it."""
    for axis, matrix in enumerate(weights):
        data = torch.tensordot(data, matrix, dims=([axis + 2], [1])).movedim(-1, axis + 2)
    return data


def concentric(grid: Grid, axes: Tensor, shape: tuple[int, ...], spacing: float | Tensor) -> Grid:
    """A grid with the centre of `grid`, its axes the columns of `axes`, with pixels of world length `spacing` (one or D)."""
    middle = (torch.tensor(shape[::-1], dtype=torch.float64) - 1) / 2
    return Grid(shape, homogeneous(axes * spacing, grid.centre) @ translation(-middle))


def on_axes(image: Image, axes: Tensor, spacing: float) -> Image:
    """The image on a grid with other axes and spacing and the same centre that covers it; otherwise as `working_image`."""
    reach = (axes.T @ (image.grid.corners() - image.grid.centre).T).abs().amax(1)  # half sides along the new axes
    shape = tuple(max(1, math.ceil(2 * half / spacing - 1e-6)) for half in reach.flip(0).tolist())
    made = image.on(concentric(image.grid, axes, shape, spacing))
    inside = made.valid
    mean = (made.data * inside).sum() / inside.sum().clamp(min=1)
    return replace(made, data=torch.where(inside > 0, made.data, mean))


def peaks(surfaces: Tensor, count: int, apart: int) -> tuple[Tensor, Tensor, Tensor]:
    """At most `count` highest entries of each surface (P, *shape) that are more than `apart` entries from each other.

    Returns numbers of surfaces (K,), indices (K, D) and heights (K,), on the CPU, one surface after the other, highest first in
    each. Values that are not above 0, and NaN, are no peaks.
    """
    shape, flat = surfaces.shape[1:], surfaces.flatten(1).nan_to_num(-1)
    reach = torch.arange(-apart, apart + 1, device=flat.device)
    around = torch.stack(torch.meshgrid(*[reach] * len(shape), indexing="ij"), -1).view(-1, len(shape))
    last = torch.tensor(shape, device=flat.device) - 1
    steps = torch.tensor([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], device=flat.device)
    places, heights = [], []
    for _ in range(count):
        height, entry = flat.max(1)
        place = unravel(entry, shape)
        near = (place[:, None] + around).clamp(min=0).minimum(last)
        flat.scatter_(1, (near * steps).sum(-1), -1)
        places.append(place)
        heights.append(height)
    place, height = torch.stack(places, 1).cpu(), torch.stack(heights, 1).cpu()
    found = height > 0
    return found.nonzero()[:, 0], place[found], height[found]


def stacked(matrices: Sequence[Tensor], ndim: int) -> Tensor:
    """Matrices (D+1, D+1), or none, as one tensor. shape: (K, D+1, D+1), float64"""
    return torch.stack([torch.eye(ndim + 1, dtype=torch.float64), *matrices])[1:]


def distinct(matrices: Tensor, grid: Grid, count: int, apart: float, over: Callable[..., np.ndarray] = np.mean) -> Tensor:
    """The first `count` of matrices (K, D+1, D+1), best first, without those near a better one.

    Two are near if the corner distance (see `corner_distances`), reduced `over` all corners, is at most `apart`.
    """
    return distinct_each([matrices], grid, count, apart, over)[0]


def distinct_each(
    several: Sequence[Tensor], grid: Grid, count: int, apart: float, over: Callable[..., np.ndarray] = np.mean
) -> list[Tensor]:
    """`distinct` of each of some lists of matrices."""
    matrices = torch.cat(list(several))
    places, units = (part.numpy() for part in _corners(matrices, grid))
    found, start = [], 0
    for some in several:
        rest = np.arange(start, start := start + len(some))
        kept: list[int] = []
        while len(rest) and len(kept) < count:
            kept.append(int(rest[0]))
            with np.errstate(divide="ignore", invalid="ignore"):  # at a singular matrix the unit is 0
                off = np.linalg.norm(places[rest] - places[rest[0]], axis=-1) / units[rest, None]
            rest = rest[over(off, -1) > apart]
        found.append(matrices[kept])
    return found


def corner_distances(matrices: Tensor, other: Tensor, grid: Grid) -> Tensor:
    """Distances between the corners of `grid` under matrices (..., D+1, D+1) and under `other`. shape: (..., 2**D)

    The unit is the diagonal of `grid`, times the scale of each matrix at the centre of `grid`.
    """
    places, units = _corners(matrices, grid)
    return (places - apply(other, grid.corners())[0]).norm(dim=-1) / units[..., None]


def _corners(matrices: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Where matrices (..., D+1, D+1) take the corners of `grid`, (..., 2**D, D), and the diagonal in their scale, (...)."""
    scale = linear_part(matrices, grid).det().abs() ** (1 / grid.ndim)
    return apply(matrices, grid.corners())[0], scale * grid.extent.norm()


def mass_of(image: Image) -> Tensor:
    """Difference of each pixel from the background, summed over channels; 0 outside the mask. shape: (B, 1, *shape)

    The background is the median of the image's border, so that a dark specimen on a bright background has the same mass as a
    bright one on a dark background.
    """
    background = _background(image).view(*image.data.shape[:2], *[1] * image.grid.ndim)
    weight = (image.data - background).abs().sum(1, keepdim=True)
    return weight if image.mask is None else weight * image.mask


def _background(image: Image) -> Tensor:
    """Median of each channel over the border, or over all valid pixels if the mask excludes the border. shape: (B, C)"""
    edge = border(image.grid.shape).to(image.data.device)
    medians = []
    for number, pixels in enumerate(image.data):
        inside = torch.ones_like(edge) if image.mask is None else image.mask[number, 0] > 0
        chosen = edge & inside
        medians.append(pixels[:, chosen if chosen.any() else inside].median(-1).values)
    return torch.stack(medians)
