"""How precisely the optimum is known: the covariance of small deviations from the result.

Around the optimum the similarity is a quadratic function of small deviations, of curvature H; its gradient varies with the
points from which it is estimated, with covariance S. The optimum then varies with the covariance H⁻¹ S H⁻¹, the sandwich
estimate (Huber 1967). S is measured over fresh points, H by differences of gradients at the same points. This tells how
precisely the optimum of the similarity is known, not whether it is the right optimum.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.image.pyramid import Pyramid
from drmime.optimise import score
from drmime.sampling import FixedSamples, Sampler, fixed_samples
from drmime.transform.base import Model, Transform

DRAWS = 12  # sets of points over which the gradient's covariance is taken
CURVED = 3  # of these, sets at which the curvature is measured
STEP = 1.0  # pixels of the finest level: deviation at which gradients are compared
FLATTEST = 1e-4  # of the largest curvature: a flatter direction is taken as this
# Factor of the standard deviations, calibrated by known maps (`experiments/README.md`). It is below 1, since the result is an
# average over the last steps, which vary less than one set of points does; 0.5 to 0.6 hold 88 to 92 % in intervals of 90 %
INFLATION = 0.55
MOST = 16  # coefficients of a model; of more, precision is not measured


def with_precision(
    model: Model, fixed: Pyramid, moving: Pyramid, metric: Similarity, sampler: Sampler, weights: Tensor
) -> list[Transform]:
    """The transforms of a model, with their precision where it can be measured. Arguments as in `covariance`."""
    local = model.around()
    return model.result(None if local is None else covariance(local, fixed, moving, metric, sampler, weights))


def covariance(
    local: Model, fixed: Pyramid, moving: Pyramid, metric: Similarity, sampler: Sampler, weights: Tensor
) -> Tensor | None:
    """The covariance of the coefficients of `local`, whose map at zero coefficients is the result of each pair.

    `weights`: of the levels, as in the last stage. The other arguments are those of the run.

    Returns:
        shape (B, K, K), float64, on the CPU; NaN for a pair whose similarity is not finite; None if the model has more than
        one parameter, or too many coefficients.
    """
    (parameter, *others) = local.parameters()
    count = parameter[0].numel()
    if others or count > MOST:
        return None
    sets = list(fixed_samples(fixed, sampler, DRAWS))
    step = STEP * 2 / max(fixed.levels[0].grid.shape)  # in halves of the longest side

    def gradients(deviation: Tensor, some: Sequence[Sequence[FixedSamples]]) -> Tensor:
        """Gradients of the similarity at a deviation (K,). shape: (sets, B, K)"""
        with torch.no_grad():
            parameter.copy_(deviation.view(parameter.shape[1:]).expand_as(parameter))
        found = []
        for number, points in enumerate(some):
            if generator := getattr(metric, "generator", None):
                generator.manual_seed(number)  # the same random partners at every deviation
            total = (weights[:, None] * score(points, moving, local, metric)).sum()
            found.append(torch.autograd.grad(total, parameter)[0].flatten(1))
        return torch.stack(found).double().cpu()

    nowhere = torch.zeros(count, dtype=parameter.dtype, device=parameter.device)
    noise = gradients(nowhere, sets)
    noise = noise - noise.mean(0)
    spread = torch.einsum("sbi,sbj->bij", noise, noise) / (DRAWS - 1)
    axes = step * torch.eye(count, dtype=parameter.dtype, device=parameter.device)
    rows = [(gradients(axis, sets[:CURVED]) - gradients(-axis, sets[:CURVED])).mean(0) / (2 * step) for axis in axes]
    curvature = -torch.stack(rows, 1)
    finite = (curvature.isfinite() & spread.isfinite()).flatten(1).all(1)[:, None, None]
    values, vectors = torch.linalg.eigh(((curvature + curvature.mT) / 2).where(finite, 0))
    values = values.clamp(min=FLATTEST * values.amax(-1, keepdim=True).clamp(min=1e-12))
    inverse = vectors / values[:, None] @ vectors.mT
    return (INFLATION**2 * inverse @ spread @ inverse).where(finite, math.nan)
