"""The similarity at the points of a step, and its gradients."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.image.pyramid import Pyramid
from drmime.repeated import Repeated
from drmime.sampling import FixedSamples, read
from drmime.transform.base import Model


def draw(points: Sequence[FixedSamples], metric: Similarity) -> None:
    """Let the metric draw its random numbers for a step at these points, before it compares them."""
    metric.draw({some.levels.start: some.points.shape[2] for some in points})


def score(points: Sequence[FixedSamples], moving: Pyramid, model: Model, metric: Similarity, copies: int = 1) -> Tensor:
    """Similarity at the points of a step, for which `draw` was called. shape: (levels, B)

    `copies`: of each moving image, so that one batch can have several sets of points or maps of one pair.
    """
    scores = []
    for some in points:
        here, there, weight = read(some, moving, model, metric, copies)
        scores.append(metric(here, there, weight, some.levels))
    return scores[0] if len(scores) == 1 else torch.cat(scores)


@dataclass(frozen=True, eq=False)
class Total:
    """The similarity of all levels, weighted, less penalties, and its gradients."""

    moving: Pyramid
    model: Model
    metric: Similarity
    penalty: Callable[[Model], Tensor] | None
    copies: int

    def __call__(self, levels: Sequence[slice], weights: Tensor, *parts: Tensor) -> Sequence[Any]:
        """The similarity (levels, B), the total (B,), and the gradients of the negative sum of the totals.

        The gradients are for all parameters of the model, then of the metric; None for one that requires none, or that the
        total does not depend on.

        `weights`: of the levels (levels, 1). `parts`: points, values and inside of the `FixedSamples` on each of `levels`.
        """
        each = (parts[first : first + 3] for first in range(0, len(parts), 3))
        points = [FixedSamples(some, *three).repeated(self.copies) for some, three in zip(levels, each, strict=True)]
        similarity = score(points, self.moving, self.model, self.metric, self.copies)
        total = (weights * similarity).sum(0)
        for term in (self.model.penalty(), self.penalty(self.model) if self.penalty else None):
            total = total if term is None else total - term
        parameters = [*self.model.parameters(), *self.metric.parameters()]
        wanted = [one for one in parameters if one.requires_grad]
        # of a sum: a gradient of its own at each total would import a symbolic algebra package
        found = iter(torch.autograd.grad(total.sum().neg(), wanted, allow_unused=True))
        return similarity.detach(), total.detach(), *(next(found) if one.requires_grad else None for one in parameters)


class Evaluation:
    """Evaluates the `Total` of each step."""

    def __init__(
        self,
        moving: Pyramid,
        model: Model,
        metric: Similarity,
        penalty: Callable[[Model], Tensor] | None = None,
        copies: int = 1,
        graphs: bool = False,
    ) -> None:
        """Arguments as of `drmime.optimise.maximise`."""
        self.total = Total(moving, model, metric, penalty, copies)
        self.device = moving.levels[0].data.device if graphs else None
        self.kind: object = None
        self.repeated = Repeated(self.total)

    def __call__(
        self, points: Sequence[FixedSamples], weights: Tensor, moves: bool
    ) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
        """What `Total` gives at the points of a step; with graphs, the gradients are overwritten by the next call.

        `weights`: of the levels (levels, 1). `moves`: whether the model is optimised, or the metric alone.
        """
        model, metric = self.total.model, self.total.metric
        draw(points, metric)
        model.requires_grad_(moves)
        levels, parts = [some.levels for some in points], [part for some in points for part in some[1:]]
        kind = moves, levels, [part.shape for part in parts]
        if kind != self.kind:  # what is recorded is of one kind of steps
            self.kind, self.repeated = kind, Repeated(functools.partial(self.total, levels), self.device)
        similarity, total, *gradients = self.repeated(weights, *parts)
        return (similarity, total, gradients) if self.device is None else (similarity.clone(), total.clone(), gradients)
