"""Where the images are compared: points drawn anew each step, inside the fixed mask, on every level.

A sampler draws points in the frame of the fixed grid. All pairs of a batch share one stream of random numbers, each
reading it against its own mask: so a pair sees the same draws in a batch as it does alone.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from drmime.errors import InputError, number, whole
from drmime.geometry.grid import Grid, unravel
from drmime.geometry.matrices import apply
from drmime.image.image import Image
from drmime.image.orientation import widened
from drmime.image.pyramid import Pyramid
from drmime.transform.base import Model, Places

POINTS = 2048  # of a level
OVERLAP_SIDE = {2: 100, 3: 24}  # points along each axis by which the overlap is told, by dimension
EDGE = 1e-6  # pixels beyond the outer edge: rounding must not cost an image its border
AHEAD = 2**16  # points of one pair that are drawn and read together, for several steps: a call then costs less than its work


class Sampler:
    """Draws points for every level. `begin` once for a run, then `draw` for some steps at a time."""

    def __init__(self, points: int | float = POINTS) -> None:
        """`points` a level: a whole number, or a fraction of the level's pixels when below 1."""
        is_share = isinstance(points, float) and points < 1
        self.points = number("sampler points", points, 0, 1) if is_share else whole("sampler points", points, 16, 2**24)

    def begin(self, fixed: Pyramid, generator: torch.Generator) -> None:
        """Look at the fixed pyramid; `generator` (on the CPU) is the source of every draw."""
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
        """The pixels to draw from, (B, 1, *shape) nonzero; None for all of them."""
        return level.mask

    def draw(self, steps: int) -> list[tuple[slice, Tensor]]:
        """Points of the fixed frame, finest level first, for some steps: (L, B or 1, steps * N, D), one step after the other.

        All levels come together if each has as many points.
        """
        drawn = []
        for group in self.groups:
            indices = torch.stack([self.index(level, steps) for level in range(group.start, group.stop)])
            drawn.append((group, apply(self.frame_from_index[group], indices, is_affine=True)[0].to(self.like)))
        return drawn

    def count(self, grid: Grid) -> int:
        """Points drawn on a level."""
        return int(self.points) if self.points >= 1 else max(16, round(self.points * math.prod(grid.shape)))

    def index(self, level: int, steps: int) -> Tensor:
        """Index coordinates of fresh points on one level. (B or 1, steps * N, D)"""
        grid, table = self.grids[level], self.tables[level]
        count = self.count(grid)
        order = torch.cat([step * count + torch.randperm(count, generator=self.generator) for step in range(steps)])
        draws = self.spread(count, grid.ndim + 1, steps)[:, order]  # a metric may take neighbours in the list for strangers
        if table is None:
            chosen = (draws[..., 0] * math.prod(grid.shape)).long()
        else:
            pixels, counts = table  # (B, most), (B, 1)
            chosen = pixels.gather(1, (draws[..., 0] * counts).long())
        return unravel(chosen, grid.shape).flip(-1) + draws[..., 1:] - 0.5

    def spread(self, count: int, columns: int, steps: int) -> Tensor:
        """`uniform`, the first column in each step with one number in each of `count` equal parts of [0, 1), ascending: what
        is drawn from a list by it comes evenly from all of it, with less noise in what is averaged over the points.
        """
        draws = self.uniform(steps * count, columns)
        draws[..., 0] = (draws[..., 0] + torch.arange(count).repeat(steps)) / count
        return draws

    def uniform(self, count: int, columns: int) -> Tensor:
        return torch.rand(1, count, columns, dtype=torch.float64, generator=self.generator)


class Uniform(Sampler):
    """Points uniform over the fixed image, or over its mask."""


class Jittered(Sampler):
    """One point at random in every cell of a regular grid of about `points` cells; even cover, less noise."""

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
        """`dilation`: pixels by which edges are widened on every side."""
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
    """Flat numbers of the nonzero pixels of each pair, padded to the longest, and how many: (B, most), (B, 1)."""
    lists = [row.flatten().nonzero()[:, 0].cpu() for row in chosen]
    return torch.nn.utils.rnn.pad_sequence(lists, batch_first=True), torch.tensor([[len(row)] for row in lists])


class Seen(NamedTuple):
    """Points of one step on some levels, and what the fixed image shows there; one fixed image serves all pairs."""

    levels: slice
    points: Tensor  # shape: (L, B or 1, N, D), of the fixed frame
    values: Tensor  # shape: (L, B or 1, N, Cf)
    inside: Tensor  # shape: (L, B or 1, N), 1 where the fixed image has a valid pixel


def seen(fixed: Pyramid, sampler: Sampler, steps: int) -> Iterator[list[Seen]]:
    """The points of one step after the other, on all levels. Several steps are drawn and read at once: that is less work.

    How many are left decides on the last draw, so that runs of unlike length have the same points in all draws but that one.
    """
    for start in range(0, steps, sampler.ahead):
        some = min(sampler.ahead, steps - start)
        yield from zip(*(_read_fixed(fixed, *drawn, some) for drawn in sampler.draw(some)), strict=True)


def _read_fixed(fixed: Pyramid, levels: slice, points: Tensor, steps: int) -> Iterator[Seen]:
    values, inside = fixed.at(points.expand(-1, len(fixed.levels[0].data), -1, -1), levels=levels)
    each_step = (of_all.unflatten(2, (steps, -1)).unbind(2) for of_all in (points, values, inside))
    return (Seen(levels, *parts) for parts in zip(*each_step, strict=True))


def read(here: Seen, moving: Pyramid, there: Places) -> tuple[Tensor, Tensor, Tensor]:
    """Both images at the points `here` of the fixed one, which lie `there` in the moving one.

    Returns fixed values (L, B, N, Cf), moving values (L, B, N, Cm), and weights (L, B, N) that are 1 where both images
    have a valid pixel.
    """
    values, in_moving = moving.at(there.points, there.valid, here.levels)
    weight = here.inside * in_moving
    return here.values.expand(-1, weight.shape[1], -1, -1), values, weight


class Overlap:
    """The share of the fixed image, or of its mask, that lies on the moving image or its mask: geometry alone."""

    def __init__(self, fixed: Image, moving: Image) -> None:
        grid, cells = fixed.grid, [min(length, OVERLAP_SIDE[fixed.grid.ndim]) for length in fixed.grid.shape]
        middles = (Grid.regular(cells).index_points() + 0.5) * grid.size / torch.tensor(cells[::-1]) - 0.5
        frame_from_index = torch.linalg.inv(grid.world_from_frame) @ grid.world_from_index
        self.points = apply(frame_from_index, middles, is_affine=True)[0].to(fixed.data.device)
        self.inside = _at_nearest(fixed, middles[None])  # shape: (B or 1, P)
        self.moving, self.index_from_frame = moving, moving.grid.index_from_world @ moving.grid.world_from_frame

    @torch.no_grad()
    def __call__(self, model: Model) -> Tensor:
        """Under each of a model's transforms. shape: (B,), float64, on the CPU"""
        there = model(self.points[None, None], slice(0, 1))
        places, _ = apply(self.index_from_frame, there.points[0].cpu(), is_affine=True)
        both = self.inside & there.valid[0].cpu() & _at_nearest(self.moving, places)
        return both.double().sum(-1) / self.inside.double().sum(-1).clamp(min=1)


def _at_nearest(image: Image, places: Tensor) -> Tensor:
    """Whether index coordinates (B or 1, P, D) lie on a pixel that counts. (B or 1, P), on the CPU"""
    inside = ((places >= -0.5 - EDGE) & (places <= image.grid.size - 0.5 + EDGE)).all(-1)
    if image.mask is None:
        return inside
    pixels = places.nan_to_num().round().clamp(min=0).minimum(image.grid.size - 1).long().flip(-1).to(image.mask.device)
    rows = torch.arange(len(image.mask), device=image.mask.device)[:, None]
    return inside & (image.mask[:, 0][(rows, *pixels.unbind(-1))] > 0.5).cpu()
