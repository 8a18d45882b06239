"""How precisely the optimum is known: the covariance of small deviations from the result.

Around the optimum the similarity is a quadratic function of small deviations, of curvature H; its gradient varies with the
points from which it is estimated, with covariance S. The optimum then varies with the covariance H⁻¹ S H⁻¹, the sandwich
estimate (Huber 1967). S is measured over fresh points, H by differences of gradients at the same points. This tells how
precisely the optimum of the similarity is known, not whether it is the right optimum.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.image.pyramid import Pyramid
from drmime.optimise import Outcome, score
from drmime.sampling import FixedSamples, Sampler, fixed_samples
from drmime.transform.base import Model, Transform

DRAWS = 12  # sets of points over which the gradient's covariance is taken
CURVED = 3  # of these, sets at which the curvature is measured
STEP = 1.0  # pixels of the finest level: deviation at which gradients are compared
FLATTEST = 1e-4  # of the largest curvature: a flatter direction is taken as this
# Factor of the standard deviations, calibrated by known maps (`experiments/deviations.py`); below 1, since the result is an
# average over the last steps, which varies less than one set of points does. Intervals of 90 % then hold 91 %; 0.45: 89, 0.55: 93
INFLATION = 0.5
MOST = 16  # coefficients of a model; of more, precision is not measured


def with_precision(
    outcome: Outcome, fixed: Pyramid, moving: Pyramid, metric: Similarity, sampler: Sampler, weights: Tensor
) -> list[Transform]:
    """The transforms of an outcome, with their precision where it can be measured and the run of the pair ended as planned.

    The other arguments are those of the run; they are left as they are, but for the random numbers of `sampler`.
    """
    local = outcome.model.around()
    if local is None or len(list(local.parameters())) != 1 or next(local.parameters())[0].numel() > MOST:
        return outcome.transforms
    found = covariance(local, fixed, moving, copy.deepcopy(metric), sampler, weights)
    found[[not stop.success for stop in outcome.stops]] = math.nan
    return outcome.model.result(found)


def covariance(local: Model, fixed: Pyramid, moving: Pyramid, metric: Similarity, sampler: Sampler, weights: Tensor) -> Tensor:
    """The covariance of the coefficients of `local`, whose map at zero coefficients is the result of each pair.

    `weights`: of the levels, as in the last stage. `local`, `metric` and `sampler` are used up.

    Returns:
        shape (B, K, K), float64, on the CPU; NaN for a pair whose similarity is not finite, does not vary with the points, or
        does not depend on the coefficients.
    """
    (parameter,) = local.parameters()
    grid = fixed.levels[0].grid
    step = STEP * float(grid.spacing.min() / grid.world_from_frame[0, 0])
    sampler.generator.manual_seed(0)  # the same points, whatever other pairs of a batch have used
    deviations = step * torch.eye(parameter[0].numel(), dtype=parameter.dtype, device=parameter.device)

    def gradient(number: int, points: Sequence[FixedSamples], deviation: Tensor) -> Tensor:
        """The gradient of the similarity at a deviation (K,), over the set of points of this number. shape: (B, K)"""
        with torch.no_grad():
            parameter.copy_(deviation.view(parameter.shape[1:]).expand_as(parameter))
        if isinstance(generator := getattr(metric, "generator", None), torch.Generator):
            generator.manual_seed(number)  # the same random partners at every deviation
        total = (weights[:, None] * score(points, moving, local, metric)).sum()
        return torch.autograd.grad(total, parameter)[0].flatten(1).double().cpu()

    noise, rows = [], []
    for number, points in enumerate(fixed_samples(fixed, sampler, DRAWS)):
        noise.append(gradient(number, points, torch.zeros_like(deviations[0])))
        if number < CURVED:
            slopes = [gradient(number, points, one) - gradient(number, points, -one) for one in deviations]
            rows.append(torch.stack(slopes, 1) / (2 * step))
    off = torch.stack(noise) - torch.stack(noise).mean(0)
    spread = torch.einsum("sbi,sbj->bij", off, off) / (DRAWS - 1)
    curvature = -torch.stack(rows).mean(0)
    return INFLATION**2 * _sandwich(curvature, spread)


def _sandwich(curvature: Tensor, spread: Tensor) -> Tensor:
    """H⁻¹ S H⁻¹ of each pair; NaN where it is not known. (B, K, K) twice -> (B, K, K)"""
    known = (curvature.isfinite() & spread.isfinite()).flatten(1).all(1) & (spread.flatten(1).amax(1) > 0)
    values, vectors = torch.linalg.eigh(((curvature + curvature.mT) / 2).where(known[:, None, None], 0))
    largest = values.amax(-1, keepdim=True)
    known &= largest[:, 0] > 0
    inverse = vectors / values.clamp(min=FLATTEST * largest.clamp(min=1e-300))[:, None] @ vectors.mT
    return (inverse @ spread @ inverse).where(known[:, None, None], math.nan)
