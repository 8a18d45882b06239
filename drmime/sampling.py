"""Samplers: draw new points in each step, inside the fixed mask, on every level, in the frame of the fixed grid.

All pairs of a batch use one stream of random numbers, each with its own mask, so a pair has the same points as it has alone.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.device import sent
from drmime.errors import InputError, number, whole
from drmime.geometry.grid import Grid, unravel
from drmime.geometry.matrices import apply
from drmime.image.image import Image, read_unit
from drmime.image.orientation import widened
from drmime.image.pyramid import Pyramid
from drmime.transform.base import Model

POINTS = 2048  # on each level
OVERLAP_SIDE = {2: 100, 3: 24}  # points along each axis at which the overlap is computed, by dimension
EDGE = 1e-6  # pixels beyond the outer edge that count as inside: keeps border pixels inside despite rounding
AHEAD = 2**16  # points of one pair drawn and read in one call, for several steps, since every call has a fixed cost


class Sampler:
    """Draws points for every level. `begin` is called once in a run, then `draw` for several steps at a time."""

    def __init__(self, points: int | float = POINTS) -> None:
        """`points` on each level: a whole number of at least 16, or a fraction of the level's pixels if below 1."""
        is_share = isinstance(points, float) and points < 1
        self.points = number("sampler points", points, 0, 1) if is_share else whole("sampler points", points, 16, 2**24)

    def begin(self, fixed: Pyramid, generator: torch.Generator) -> None:
        """Prepare for a run with this fixed pyramid; `generator` (on the CPU) is the source of all random numbers."""
        levels, self.generator = fixed.levels, generator
        self.grids, self.like = [level.grid for level in levels], levels[0].data.new_empty(0)
        frame_from_world = torch.linalg.inv(self.grids[0].world_from_frame)
        self.frame_from_index = torch.stack([frame_from_world @ grid.world_from_index for grid in self.grids])[:, None]
        self.tables = [None if (chosen := self.choose(level)) is None else _table(chosen) for level in levels]
        counts = [self.count(grid) for grid in self.grids]
        alike = len(set(counts)) == 1
        self.groups = [slice(0, len(counts))] if alike else [slice(level, level + 1) for level in range(len(counts))]
        self.ahead = max(1, AHEAD // sum(counts))

    def choose(self, level: Image) -> Tensor | None:
        """The pixels to draw from, nonzero in (B, 1, *shape); None for all pixels."""
        return level.mask

    def draw(self, steps: int) -> list[tuple[slice, Tensor]]:
        """Points in the fixed frame for some steps, by slices of levels, finest first: (L, B or 1, steps * N, D), step by step.

        All levels are in one slice if they have equal numbers of points, else each is in its own.
        """
        drawn = []
        for group in self.groups:
            indices = torch.stack([self.index(level, steps) for level in range(group.start, group.stop)])
            points = apply(self.frame_from_index[group], indices, is_affine=True)[0]
            drawn.append((group, sent(points, self.like)))
        return drawn

    def count(self, grid: Grid) -> int:
        """The number of points drawn on a level in each step."""
        return int(self.points) if self.points >= 1 else max(16, round(self.points * math.prod(grid.shape)))

    def index(self, level: int, steps: int) -> Tensor:
        """Index coordinates, x first, of new points on one level. shape: (B or 1, steps * N, D)"""
        grid, table = self.grids[level], self.tables[level]
        count = self.count(grid)
        orders = torch.stack([torch.randperm(count, generator=self.generator) for _ in range(steps)])
        order = (orders + count * torch.arange(steps)[:, None]).flatten()
        draws = self.spread(count, grid.ndim + 1, steps)[:, order]  # shuffled: MINE treats neighbours in the list as unrelated
        if table is None:
            chosen = (draws[..., 0] * math.prod(grid.shape)).long()
        else:
            pixels, counts = table  # (B, most), (B, 1)
            chosen = pixels.gather(1, (draws[..., 0] * counts).long())
        return unravel(chosen, grid.shape).flip(-1) + draws[..., 1:] - 0.5

    def spread(self, count: int, columns: int, steps: int) -> Tensor:
        """Random numbers as `uniform`, but stratified in the first column. shape: (1, steps * count, columns)

        In each step it has one number in each of `count` equal parts of [0, 1), ascending. Points chosen from a list by it
        cover the list evenly, which lowers the noise of averages over the points.
        """
        draws = self.uniform(steps * count, columns)
        draws[..., 0] = (draws[..., 0] + torch.arange(count).repeat(steps)) / count
        return draws

    def uniform(self, count: int, columns: int) -> Tensor:
        """Uniform random numbers in [0, 1). shape: (1, count, columns), float64"""
        return torch.rand(1, count, columns, dtype=torch.float64, generator=self.generator)


class Uniform(Sampler):
    """Points uniform over the fixed image, or over its mask."""


class Jittered(Sampler):
    """One random point in each cell of a regular grid of about `points` cells; covers evenly, with less noise."""

    def choose(self, level: Image) -> Tensor | None:
        return None

    def count(self, grid: Grid) -> int:
        return math.prod(self._cells(grid).shape)

    def index(self, level: int, steps: int) -> Tensor:
        grid = self.grids[level]
        cells = self._cells(grid)
        corners = cells.index_points().repeat(steps, 1)
        return (corners + self.uniform(len(corners), grid.ndim)) * (grid.size / cells.size) - 0.5

    def _cells(self, grid: Grid) -> Grid:
        side = (math.prod(grid.shape) / super().count(grid)) ** (1 / grid.ndim)
        return Grid.regular([max(1, round(n / side)) for n in grid.shape])


class EveryPixel(Sampler):
    """Every pixel of every level, each step: exact and slow, for small images and deterministic metrics."""

    def __init__(self) -> None:
        super().__init__()

    def begin(self, fixed: Pyramid, generator: torch.Generator) -> None:
        super().begin(fixed, generator)
        self.drawn = super().draw(1)

    def choose(self, level: Image) -> Tensor | None:
        return None

    def count(self, grid: Grid) -> int:
        return math.prod(grid.shape)

    def index(self, level: int, steps: int) -> Tensor:
        return self.grids[level].index_points()[None]

    def draw(self, steps: int) -> list[tuple[slice, Tensor]]:
        return [(levels, points.repeat(1, 1, steps, 1)) for levels, points in self.drawn]


class Edges(Sampler):
    """Points uniform over the neighbourhood of edges, as DRMIME samples (dilated Canny).

    In 2-D Canny edges of the channel mean (kornia); in 3-D the tenth of the voxels with the largest gradient.
    """

    def __init__(self, points: int | float = POINTS, dilation: int = 2) -> None:
        """`points`: as for `Sampler`. `dilation`: pixels by which edges are widened on every side."""
        super().__init__(points)
        self.dilation = whole("sampler dilation", dilation, 0, 1024)

    def choose(self, level: Image) -> Tensor | None:
        gray = level.normalised().data.mean(1, keepdim=True)
        edges = _canny(gray) if level.grid.ndim == 2 else _steepest(gray)
        near = widened(edges, self.dilation)
        near = near if level.mask is None else near * level.mask
        if not near.flatten(1).any(1).all():
            raise InputError(f"sampler 'edges': no edge found on a level of shape {level.grid.shape}; use sampler 'uniform'")
        return near


def _canny(gray: Tensor) -> Tensor:
    from kornia.filters import canny  # on demand: its import takes a while and few runs need it

    return canny(gray)[1]


def _steepest(gray: Tensor) -> Tensor:
    magnitude = sum((slope**2 for slope in torch.gradient(gray, dim=[2, 3, 4])), torch.zeros_like(gray))
    count = max(1, magnitude[0].numel() // 10)
    least = magnitude.flatten(1).topk(count).values[:, -1].view(-1, 1, 1, 1, 1)
    return ((magnitude >= least) & (magnitude > 0)).to(gray)


def _table(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Flat numbers of the nonzero pixels of each pair, padded to equal length, and their count: (B, most), (B, 1)."""
    lists = [row.flatten().nonzero()[:, 0].cpu() for row in chosen]
    return torch.nn.utils.rnn.pad_sequence(lists, batch_first=True), torch.tensor([[len(row)] for row in lists])


class FixedSamples(NamedTuple):
    """Points of one step on some levels, with the values of the fixed image there; with B = 1 it is used for all pairs."""

    levels: slice
    points: Tensor  # shape: (L, B or 1, N, D), of the fixed frame
    values: Tensor  # shape: (L, B or 1, N, Cf)
    inside: Tensor  # shape: (L, B or 1, N), 1 where the fixed image has a valid pixel

    def repeated(self, copies: int) -> "FixedSamples":
        """The samples for a batch of so many consecutive copies of each pair; what is the same for all pairs is not copied."""
        parts = self.points.mT, self.values.mT, self.inside
        if copies == 1 or all(part.shape[1] == 1 for part in parts):
            return self
        points, values, inside = (part if part.shape[1] == 1 else part.repeat_interleave(copies, 1) for part in parts)
        return FixedSamples(self.levels, points.mT, values.mT, inside)


def fixed_samples(
    fixed: Pyramid, sampler: Sampler, steps: int, used: Callable[[Tensor], Tensor] | None = None
) -> Iterator[list[FixedSamples]]:
    """Yield the samples of one step after the other, on all levels. Several steps are drawn and read at once, which is faster.

    `used`: which points (..., D) count as inside, if not all.

    Only the size of the last draw depends on `steps`, so runs of different length have the same points in all other draws.
    """
    for start in range(0, steps, sampler.ahead):
        some = min(sampler.ahead, steps - start)
        yield from zip(*(_read_fixed(fixed, *drawn, some, used) for drawn in sampler.draw(some)), strict=True)


def _read_fixed(
    fixed: Pyramid, levels: slice, points: Tensor, steps: int, used: Callable[[Tensor], Tensor] | None
) -> Iterator[FixedSamples]:
    values, inside = fixed.at(points.expand(-1, len(fixed.levels[0].data), -1, -1), levels=levels)
    inside = inside if used is None else inside * used(points)
    each_step = (of_all.unflatten(2, (steps, -1)).unbind(2) for of_all in (points, values, inside))
    return (FixedSamples(levels, *parts) for parts in zip(*each_step, strict=True))


def read(
    here: FixedSamples, moving: Pyramid, model: Model, metric: Similarity, copies: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Values of both images at the fixed points `here`, which the model maps, in the axes of the fixed image.

    `copies`: so many consecutive entries of the batch share each moving image.

    Returns fixed values (L, B, N, Cf), moving values (L, B, N, Cm), and weights (L, B, N) that are 1 where both images
    have a valid pixel.
    """
    unit, valid, jacobian = model.mapped(here.points, here.levels, moving.unit_from_frame[here.levels])
    if copies > 1:  # several lists of points for each image
        unit, valid = unit.unflatten(1, (-1, copies)), valid.unflatten(1, (-1, copies))
    values, in_moving = read_unit(moving.levels[here.levels], unit, valid)
    if copies > 1:
        values, in_moving = values.mT.flatten(1, 2).mT, in_moving.flatten(1, 2)
    weight = here.inside * in_moving
    return here.values.expand(-1, weight.shape[1], -1, -1), metric.turn(values, jacobian), weight


class Overlap:
    """The share of the fixed image, or of its mask, that lies on the moving image or its mask; values play no role."""

    def __init__(self, fixed: Image, moving: Image) -> None:
        grid, cells = fixed.grid, [min(length, OVERLAP_SIDE[fixed.grid.ndim]) for length in fixed.grid.shape]
        middles = (Grid.regular(cells).index_points() + 0.5) * grid.size / torch.tensor(cells[::-1]) - 0.5
        frame_from_index = torch.linalg.inv(grid.world_from_frame) @ grid.world_from_index
        device = fixed.data.device
        self.points = apply(frame_from_index, middles, is_affine=True)[0].to(device)
        self.inside = _at_nearest(fixed, middles[None].to(device))  # shape: (B or 1, P)
        self.moving = moving
        self.index_from_frame = (moving.grid.index_from_world @ moving.grid.world_from_frame).to(device)

    @torch.no_grad()
    def __call__(self, model: Model) -> Tensor:
        """The overlap under each transform, of which each pair can have several, one after the other. shape: (B,), float64"""
        there = model(self.points[None, None], slice(0, 1))
        places, _ = apply(self.index_from_frame, there.points[0], is_affine=True)
        inside = self.inside if len(self.inside) == 1 else self.inside.repeat_interleave(len(places) // len(self.inside), 0)
        both = inside & there.valid[0] & _at_nearest(self.moving, places)
        return both.double().sum(-1) / inside.double().sum(-1).clamp(min=1)


def _at_nearest(image: Image, places: Tensor) -> Tensor:
    """Whether index coordinates (B or 1, P, D) lie on a pixel inside the mask. shape: (B or 1, P)

    Of a multiple of B lists of coordinates, consecutive ones are of one image.
    """
    size = image.grid.size.to(places.device)
    inside = ((places >= -0.5 - EDGE) & (places <= size - 0.5 + EDGE)).all(-1)
    if image.mask is None:
        return inside
    pixels = places.nan_to_num().round().clamp(min=0).minimum(size - 1).long().flip(-1)
    rows = torch.arange(len(image.mask), device=image.mask.device)
    rows = rows.repeat_interleave(max(1, len(pixels) // len(rows)))[:, None]
    return inside & (image.mask[:, 0][(rows, *pixels.unbind(-1))] > 0.5)
