"""Blocks of the fixed image that a fit does not use, and what they say of it: how smooth a deformation has to be.

A deformation with many coefficients also fits what is only noise, or content of one image alone. The similarity on blocks that
the fit did not use rises for true deformations only. So it chooses among smoother versions of the result, and the map stays
linear unless a deformation raises the similarity there by more than chance.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.image.pyramid import Pyramid
from drmime.optimise import Outcome, score
from drmime.sampling import FixedSamples, Overlap, Sampler, fixed_samples
from drmime.transform.base import Model

SIDE = 0.12  # of a block, in units of half the longest side of the fixed image
EVERY = 5  # one of so many blocks is held out
GROUPS = 8  # of these blocks, over which the gain varies by chance
STEPS = 24  # sets of points that are drawn to judge
MOST_POINTS = 2**19  # drawn in all, unless one set has more
FEWEST = 32  # points of a group on a level; groups with fewer are left out
LEAST_GROUPS = 3  # with fewer left there is no evidence, and the map stays linear
SURE = 1.65  # standard errors that the gain over the linear map must reach: 95 % of a normal distribution
FACTORS = (73856093, 19349663, 83492791)  # large primes, which scatter the numbers of neighbouring blocks


def used(points: Tensor) -> Tensor:
    """Whether a fit may use points of the fixed frame. (..., D) -> (...), bool"""
    return _number(points) % EVERY > 0


def supported(
    outcome: Outcome, fixed: Pyramid, moving: Pyramid, metric: Similarity, sampler: Sampler, weights: Tensor, overlap: Overlap
) -> Outcome:
    """The outcome of a fit that saw only `used` points, made as smooth as the other points say; linear if they are too few.

    The other arguments are those of the run; they are left as they are, but for the random numbers of `sampler`.
    """
    models = [*outcome.model.smoother(), outcome.model]
    trial, rows, known = copy.deepcopy(metric), [], []
    sampler.generator.manual_seed(1)  # the same points, whatever other pairs of a batch have used
    for number, points in enumerate(_held(fixed, sampler)):
        row = []
        for model in models:
            if isinstance(generator := getattr(trial, "generator", None), torch.Generator):
                generator.manual_seed(number)  # the same random partners for every model
            with torch.no_grad():
                row.append((weights[:, None] * score(points, moving, model, trial)).sum(0))
        rows.append(torch.stack(row))
        known.append(torch.cat([part.inside.sum(-1) for part in points]).amin(0) >= FEWEST)
    gains = torch.stack(rows).double()
    gains = gains - gains[:, :1]  # over the linear map. shape: (groups, models, B)
    some = torch.stack(known)[:, None].expand_as(gains) & gains.isfinite()
    count = some.sum(0)
    mean = gains.where(some, 0).sum(0) / count.clamp(min=1)
    error = ((gains - mean).where(some, 0).square().sum(0) / (count - 1).clamp(min=1) / count.clamp(min=1)).sqrt()
    best = mean.argmax(0, keepdim=True)
    sure = (mean > SURE * error).gather(0, best)[0] & (count.amin(0) >= LEAST_GROUPS)
    best = best[0]
    model = _combined(models, torch.where(sure, best, 0))
    return replace(outcome, model=model, transforms=model.result(), overlap=overlap(model))


def _number(points: Tensor) -> Tensor:
    """A number of the block in which each point lies, in no order. (..., D) -> (...), int64"""
    cells = ((points.detach() + 1) / SIDE).floor().long()
    mixed = (cells * cells.new_tensor(FACTORS[: points.shape[-1]])).sum(-1)
    mixed = (mixed ^ (mixed >> 9)) * 2654435761 % 2**31
    return mixed >> 8


def _held(fixed: Pyramid, sampler: Sampler) -> Iterator[list[FixedSamples]]:
    """Points of each group of blocks that are held out."""
    points = sum(sampler.count(grid) for grid in sampler.grids)
    steps = list(fixed_samples(fixed, sampler, max(1, min(STEPS, MOST_POINTS // points))))
    joined = [
        FixedSamples(parts[0].levels, *(torch.cat([part[at] for part in parts], 2) for at in (1, 2, 3)))
        for parts in zip(*steps, strict=True)
    ]
    for group in range(GROUPS):
        yield [_where(part, group) for part in joined]


def _where(samples: FixedSamples, group: int) -> FixedSamples:
    """The samples of a group that have a valid pixel; where a level or pair has fewer than others, the rest is not inside."""
    number = _number(samples.points)
    chosen = (number % EVERY == 0) & (number // EVERY % GROUPS == group) & (samples.inside > 0)
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
