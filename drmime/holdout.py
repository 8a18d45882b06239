"""Blocks of the fixed image that a fit does not use, and what they say of it: how smooth a deformation has to be.

A deformation with many coefficients also fits what is only noise, or content of one image alone. The similarity on blocks that
the fit did not use rises for true deformations only. So it chooses among smoother versions of the result, and the map stays
linear unless a deformation raises the similarity there by more than chance.
"""

import copy
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scipy import special
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.evaluation import draw
from drmime.image.pyramid import Pyramid
from drmime.optimise import Outcome
from drmime.sampling import FixedSamples, Overlap, Sampler, fixed_samples, read
from drmime.soft import Penalty
from drmime.transform.base import Model

SIDE = 0.12  # of a block, in units of half the longest side of the fixed image
PIXELS = 3  # of the coarsest level along a block, at least: neighbouring pixels share what they show
EVERY = 5  # one of so many blocks is held out
GROUPS = 16  # of these blocks, over which the gain varies by chance
STEPS = 64  # sets of points that are drawn to judge
MOST_POINTS = 2**19  # drawn in all, unless one set has more
FEWEST = 32  # points of a group on a level; groups with fewer are left out
LEAST_GROUPS = 3  # with fewer left there is no evidence, and the map stays linear
FACTORS = (73856093, 19349663, 83492791)  # large primes, which scatter the numbers of neighbouring blocks


@dataclass(frozen=True)
class Blocks:
    """The blocks of a fixed image; one of `EVERY` is held out, in no order."""

    side: float  # in units of the fixed frame

    @classmethod
    def over(cls, fixed: Pyramid) -> "Blocks":
        finest, coarsest = fixed.levels[0].grid, fixed.levels[-1].grid
        return cls(max(SIDE, PIXELS * float(coarsest.spacing.max() / (finest.extent.max() / 2))))

    def used(self, points: Tensor) -> Tensor:
        """Whether a fit may use points of the fixed frame. (..., D) -> (...), bool"""
        return self.number(points) % EVERY > 0

    def group(self, points: Tensor) -> Tensor:
        """The number of the group of held-out points. (..., D) -> (...), int64"""
        return self.number(points) // EVERY % GROUPS

    def number(self, points: Tensor) -> Tensor:
        """A number of the block in which each point lies. (..., D) -> (...), int64"""
        cells = ((points.detach() + 1) / self.side).floor().long()
        mixed = torch.stack([factor * one for factor, one in zip(FACTORS, cells.unbind(-1), strict=False)]).sum(0)
        mixed = (mixed ^ (mixed >> 9)) * 2654435761 % 2**31
        return mixed >> 8


def supported(
    outcome: Outcome,
    fixed: Pyramid,
    moving: Pyramid,
    metric: Similarity,
    sampler: Sampler,
    weights: Tensor,
    overlap: Overlap,
    penalty: Penalty | None,
    chance: float,
) -> tuple[Outcome, Tensor]:
    """The outcome of a fit that did not see the held-out `Blocks`, made as smooth as these say; linear if they are too few.

    The chance in a gain is estimated by leaving out one group of blocks after the other (jackknife, Efron and Stein 1981, doi
    10.1214/aos/1176345462): so the similarity, which is no mean over points, is always that of nearly all of them.

    The gain must exceed what chance reaches with the probability `chance`, by Student's t of so many groups. That the best of
    several smoother versions is taken is not counted.

    With it comes the gain of similarity over the linear map, 0 where that is kept. shape: (B,)

    The other arguments are those of the run; they are left as they are, but for the random numbers of `sampler`.
    """
    models = [*outcome.model.smoother(), outcome.model]
    sampler.generator.manual_seed(1)  # the same points, whatever other pairs of a batch have used
    blocks = Blocks.over(fixed)
    held = HeldOut(_held(fixed, sampler, blocks), blocks, moving, copy.deepcopy(metric), weights)
    every = torch.cat([held.similarities(model, [None]) for model in models])  # shape: (models, B)
    if penalty is not None:  # what noise of the landmarks explains is no evidence
        with torch.no_grad():
            every = every - torch.stack([penalty(model) for model in models]).to(every).clamp(min=penalty.noise)
    gains = (every - every[0]).nan_to_num(-math.inf)
    gain, best = gains.max(0)
    some = held.known()  # shape: (GROUPS, B)
    parts = held.similarities(_combined(models, best), range(GROUPS)) - held.similarities(models[0], range(GROUPS))
    count = some.sum(0)
    mean = parts.where(some, 0).sum(0) / count.clamp(min=1)
    error = ((parts - mean).where(some, 0).square().sum(0) * (count - 1) / count.clamp(min=1)).sqrt()
    least = special.stdtrit((count.cpu().numpy() - 1).clip(min=1), 1 - min(chance, 0.5))  # a gain below 0 is none
    sure = (gain > torch.as_tensor(least).to(gain) * error) & (count >= LEAST_GROUPS)
    model = _combined(models, torch.where(sure, best, 0))
    kept = replace(outcome, model=model, transforms=model.result(), overlap=overlap(model).cpu())
    return kept, torch.where(sure, gain, 0).cpu()


@dataclass(frozen=True)
class HeldOut:
    """Points of the blocks that are held out, and how their similarity is computed."""

    points: Sequence[FixedSamples]
    blocks: Blocks
    moving: Pyramid
    metric: Similarity  # a copy
    weights: Tensor  # of the levels

    @functools.cached_property
    def groups(self) -> list[Tensor]:
        """The number of the group of each point."""
        return [self.blocks.group(some.points) for some in self.points]

    def known(self) -> Tensor:
        """Which groups have enough points on every level. shape: (GROUPS, B), bool"""
        rows = []
        for group in range(GROUPS):
            here = zip(self.points, self.groups, strict=True)
            counts = torch.cat([(some.inside * (which == group)).sum(-1) for some, which in here])
            rows.append(counts.amin(0) >= FEWEST)
        return torch.stack(rows)

    def similarities(self, model: Model, left_out: Sequence[int | None]) -> Tensor:
        """Of all held-out points but those of a group, for each such group. shape: (len(left_out), B), float64"""
        rows = [self.weights.new_zeros(())] * len(left_out)
        generator = getattr(self.metric, "generator", None)
        with torch.no_grad():
            for some, group in zip(self.points, self.groups, strict=True):
                here, there, weight = read(some, self.moving, model, self.metric)
                for at, which in enumerate(left_out):
                    if isinstance(generator, torch.Generator):
                        generator.manual_seed(0)  # the same random partners each time
                    draw([some], self.metric)
                    kept = weight if which is None else weight * (group != which)
                    similarity = self.metric(here, there, kept, some.levels)
                    rows[at] = rows[at] + (self.weights[some.levels, None] * similarity).sum(0)
        return torch.stack(rows).double()


def _held(fixed: Pyramid, sampler: Sampler, blocks: Blocks) -> list[FixedSamples]:
    """Points of the blocks that are held out."""
    points = sum(sampler.count(grid) for grid in sampler.grids)
    steps = list(fixed_samples(fixed, sampler, max(1, min(STEPS, MOST_POINTS // points))))
    return [
        _where(FixedSamples(parts[0].levels, *(torch.cat([part[at] for part in parts], 2) for at in (1, 2, 3))), blocks)
        for parts in zip(*steps, strict=True)
    ]


def _where(samples: FixedSamples, blocks: Blocks) -> FixedSamples:
    """The held-out samples that have a valid pixel; where a level or pair has fewer than others, the rest is not inside."""
    chosen = ~blocks.used(samples.points) & (samples.inside > 0)
    count = max(2, int(chosen.sum(-1).max()))  # the random partner of a point is another one
    order = chosen.int().argsort(dim=-1, descending=True, stable=True)[..., :count, None]

    def of(values: Tensor) -> Tensor:
        wide = values.expand(*chosen.shape, values.shape[-1])
        return wide.gather(2, order.expand(-1, -1, -1, values.shape[-1]))

    inside = of((samples.inside * chosen)[..., None])[..., 0]
    return FixedSamples(samples.levels, of(samples.points), of(samples.values), inside)


def _combined(models: Sequence[Model], which: Tensor) -> Model:
    """A model of which each pair (B,) has the parameters of the model of that number."""
    made = copy.deepcopy(models[-1])
    with torch.no_grad():
        for parts in zip(*(one.parameters() for one in (made, *models)), strict=True):
            stacked = torch.stack(list(parts[1:]), 1)
            parts[0].copy_(stacked[torch.arange(len(which), device=which.device), which])
    return made
