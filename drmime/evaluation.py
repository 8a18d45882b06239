"""The similarity at the points of a step, and its gradients."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.image.pyramid import Pyramid
from drmime.repeated import Repeated
from drmime.sampling import FixedSamples, read
from drmime.transform.base import Model


def score(points: Sequence[FixedSamples], moving: Pyramid, model: Model, metric: Similarity, copies: int = 1) -> Tensor:
    """Similarity at the points of a step, for which the metric has drawn its random numbers. shape: (levels, B)

    `copies`: of each moving image, so that one batch can have several sets of points or maps of one pair.
    """
    scores = []
    for some in points:
        here, there, weight = read(some, moving, model, metric, copies)
        scores.append(metric(here, there, weight, some.levels))
    return scores[0] if len(scores) == 1 else torch.cat(scores)


class Evaluation:
    """Evaluates the loss of each step: the similarity of all levels, weighted, less penalties, and its gradients."""

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
        self.moving, self.model, self.metric, self.penalty, self.copies = moving, model, metric, penalty, copies
        self.device = moving.levels[0].data.device if graphs else None
        self.repeated: Repeated | None = None
        self.moves = False

    def __call__(self, points: Sequence[FixedSamples], weights: Tensor, moves: bool) -> tuple[Tensor, Tensor]:
        """The similarity (levels, B), and the total (B,), at points with the same `levels` and shapes in every call.

        `weights`: of the levels (levels, 1). `moves`: whether the model is optimised, or the metric alone. The gradients of the
        negative total are left in the parameters that are optimised, until the next call.
        """
        self.metric.draw({some.levels.start: some.points.shape[2] for some in points})
        self.model.requires_grad_(moves)
        if self.repeated is None or moves != self.moves:
            self.repeated, self.moves = Repeated(self._of([some.levels for some in points]), self.device), moves
        similarity, total, *gradients = self.repeated(weights, *(part for some in points for part in some[1:]))
        for parameter, gradient in zip(self._wanted(), gradients, strict=True):
            parameter.grad = gradient
        return (similarity, total) if self.device is None else (similarity.clone(), total.clone())

    def _wanted(self) -> list[torch.nn.Parameter]:
        """The parameters that are optimised."""
        return [one for part in (self.model, self.metric) for one in part.parameters() if one.requires_grad]

    def _of(self, levels: Sequence[slice]) -> Callable[..., Sequence[Tensor]]:
        """The function of the weights of the levels and the parts of all samples on `levels` that `__call__` repeats."""

        def evaluated(weights: Tensor, *parts: Tensor) -> Sequence[Tensor]:
            each = (parts[first : first + 3] for first in range(0, len(parts), 3))
            points = [FixedSamples(some, *three).repeated(self.copies) for some, three in zip(levels, each, strict=True)]
            similarity = score(points, self.moving, self.model, self.metric, self.copies)
            total = (weights * similarity).sum(0)
            for term in (self.model.penalty(), self.penalty(self.model) if self.penalty else None):
                total = total if term is None else total - term
            gradients = torch.autograd.grad(total.sum().neg(), self._wanted(), allow_unused=True)
            # in the layout of the parameters, which fused Adam takes for granted
            return similarity.detach(), total.detach(), *(one if one is None else one.contiguous() for one in gradients)

        return evaluated
