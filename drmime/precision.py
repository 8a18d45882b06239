"""How precisely the optimum is known: the covariance of small deviations from the result.

Around the optimum the similarity is a quadratic function of small deviations, of curvature H; its gradient varies with the
points from which it is estimated, with covariance S. The optimum then varies with the covariance H⁻¹ S H⁻¹, the sandwich
estimate (Huber 1967). S is measured over fresh points, H by differences of gradients at the same points. This tells how
precisely the optimum of the similarity is known, not whether it is the right optimum.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.evaluation import draw, score
from drmime.image.pyramid import Pyramid
from drmime.optimise import Outcome
from drmime.sampling import FixedSamples, Sampler, fixed_samples
from drmime.transform.base import Model, Transform

DRAWS = 12  # sets of points over which the gradient's covariance is taken
CURVED = 3  # of these, sets at which the curvature is measured
STEP = 1.0  # pixels of the finest level: deviation at which gradients are compared
FLATTEST = 1e-4  # of the largest curvature: a flatter direction is taken as this
# Factor of the standard deviations, calibrated by known maps (`experiments/deviations.py`); below 1, since the result is an
# average over the last steps, which varies less than one set of points does. Of 90 % hold 91 %; with 0.45 89, with 0.55 93
INFLATION = 0.5
MOST = 16  # coefficients of a model; of more, precision is not measured
TOGETHER = (
    2**16
)  # points of a pair at which gradients are computed in one call; 2**15 to 2**17 take the same time within a third

Asked = tuple[Sequence[FixedSamples], Tensor]  # a set of points, and the deviation (K,) at which a gradient is taken over it


def with_precision(
    outcome: Outcome, fixed: Pyramid, moving: Pyramid, metric: Similarity, sampler: Sampler, weights: Tensor
) -> list[Transform]:
    """The transforms of an outcome, with their precision where it can be measured and the run of the pair ended as planned.

    The other arguments are those of the run; they are left as they are, but for the random numbers of `sampler`.
    """
    local = outcome.model.around()
    if local is None or len(list(local.parameters())) != 1 or next(local.parameters())[0].numel() > MOST:
        return outcome.transforms
    found = covariance(local, fixed, moving, metric, sampler, weights)
    found[[not stop.success for stop in outcome.stops]] = math.nan
    return outcome.model.result(found)


def covariance(local: Model, fixed: Pyramid, moving: Pyramid, metric: Similarity, sampler: Sampler, weights: Tensor) -> Tensor:
    """The covariance of the coefficients of `local`, whose map at zero coefficients is the result of each pair.

    `weights`: of the levels, as in the last stage. The random numbers of `sampler` are used up.

    Returns:
        shape (B, K, K), float64, on the CPU; NaN for a pair whose similarity is not finite, does not vary with the points, or
        does not depend on the coefficients.
    """
    (parameter,) = local.parameters()
    grid, count = fixed.levels[0].grid, parameter[0].numel()
    step = STEP * float(grid.spacing.min() / grid.world_from_frame[0, 0])
    sampler.generator.manual_seed(0)  # the same points, whatever other pairs of a batch have used
    sides = step * torch.eye(count, dtype=parameter.dtype, device=parameter.device)
    here = torch.zeros_like(sides[:1])
    draws = fixed_samples(fixed, sampler, DRAWS)  # drawn as they are needed: with all pixels they are large
    at_once = functools.partial(_at_once, moving, local, metric, weights)
    curved = [
        _gradients([points], torch.cat([here, sides, -sides]), functools.partial(at_once, seed))
        for seed, points in enumerate(itertools.islice(draws, CURVED))
    ]
    noise = torch.cat([*(one[:, :1] for one in curved), _gradients(draws, here, functools.partial(at_once, CURVED))], 1)
    rows = torch.stack([one[:, 1:].unflatten(1, (2, count)) for one in curved], 1)
    off = noise - noise.mean(1, keepdim=True)
    spread = off.mT @ off / (DRAWS - 1)
    curvature = -((rows[:, :, 0] - rows[:, :, 1]) / (2 * step)).mean(1)
    return INFLATION**2 * _sandwich(curvature, spread)


def _gradients(
    draws: Iterable[Sequence[FixedSamples]], deviations: Tensor, at_once: Callable[[Sequence[Asked]], Tensor]
) -> Tensor:
    """Gradients of the similarity over each set of points, at each deviation (E, K). shape: (B, sets * E, K), float64, CPU"""
    found, waiting = [], list[Asked]()
    for points in draws:
        size = sum(some.points[:, 0, :, 0].numel() for some in points)
        for deviation in deviations:
            if waiting and (len(waiting) + 1) * size > TOGETHER:
                found.append(at_once(waiting))
                waiting = []
            waiting.append((points, deviation))
    return torch.cat([*found, at_once(waiting)], 1)


def _at_once(moving: Pyramid, local: Model, metric: Similarity, weights: Tensor, seed: int, asked: Sequence[Asked]) -> Tensor:
    """Gradients for sets of points, each at its deviation, in one call: as those of copies of each pair.

    `seed`: of the random partners, which are the same for all. shape: (B, len(asked), K), float64, on the CPU
    """
    count, (before,) = len(asked), local.parameters()
    copies = cast(Model, local.around(count))  # as `local` has one
    (parameter,) = copies.parameters()
    with torch.no_grad():
        parameter.copy_(torch.stack([one for _, one in asked]).repeat(len(before), 1).view_as(parameter))
    repeated = metric.repeated(count)
    if isinstance(generator := getattr(repeated, "generator", None), torch.Generator):  # a copy
        generator.manual_seed(seed)
    points = [_joined(some, len(before)) for some in zip(*(points for points, _ in asked), strict=True)]
    draw(points, repeated)
    total = (weights[:, None] * score(points, moving, copies, repeated, count)).sum()
    found = torch.autograd.grad(total, parameter)[0].view(len(before), count, -1)
    return found.double().cpu()


def _joined(sets: Sequence[FixedSamples], pairs: int) -> FixedSamples:
    """Sets of points of the same levels as those of one batch of copies: B pairs with E sets each become B E pairs."""
    parts = zip(*((one.points, one.values, one.inside) for one in sets), strict=True)
    joined = (torch.stack([one.expand(-1, pairs, *one.shape[2:]) for one in part], 2).flatten(1, 2) for part in parts)
    return FixedSamples(sets[0].levels, *joined)


def _sandwich(curvature: Tensor, spread: Tensor) -> Tensor:
    """H⁻¹ S H⁻¹ of each pair; NaN where it is not known. (B, K, K) twice -> (B, K, K)"""
    known = (curvature.isfinite() & spread.isfinite()).flatten(1).all(1) & (spread.flatten(1).amax(1) > 0)
    values, vectors = torch.linalg.eigh(((curvature + curvature.mT) / 2).where(known[:, None, None], 0))
    largest = values.amax(-1, keepdim=True)
    known &= largest[:, 0] > 0
    inverse = vectors / values.clamp(min=FLATTEST * largest.clamp(min=1e-300))[:, None] @ vectors.mT
    return (inverse @ spread @ inverse).where(known[:, None, None], math.nan)
