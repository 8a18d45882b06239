"""The optimisation loop: all pyramid levels jointly, Adam on the model's parameters (DRMIME, arXiv 2001.09865).

The pairs of a batch do not influence each other: each has its own parameters, network weights and stopping criteria, and Adam,
the decay of the rate and the checks treat each pair separately.
"""

import copy
import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drmime.adam import Adam
from drmime.compare.base import Similarity
from drmime.evaluation import Evaluation
from drmime.geometry.matrices import apply
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.sampling import Overlap, Sampler, fixed_samples
from drmime.schedule import Schedule, cosine, stage_of
from drmime.transform.base import Model, Transform

LAST_STEPS = 20  # last steps over which the similarity of a result is averaged
CHECK_EVERY = 10  # steps between checks, each of which waits for the device
WINDOW = 50  # steps; a transform that moves less than the tolerance in them has converged
PLACES = 9  # along each axis of the fixed image, at which the movement of a transform is measured
SMOOTHING = 0.1  # rate of the running averages from which the best transform is taken


class Stop(enum.Enum):
    """Why a run ended; each value is a sentence for the user."""

    CONVERGED = "Converged: the transform no longer changes."
    STEPS = "Finished: all planned steps were taken."
    NO_OVERLAP = "Failed: the images or their masks do not overlap at the start. Give another start."
    OVERLAP_LOST = "Failed: the moving image drifted out of the fixed one. Give a closer start or a smaller transform."
    NOT_FINITE = "Failed: the similarity is no longer a finite number. Lower the rate or use dtype float64."
    INTERRUPTED = "Interrupted: the result is the best so far."

    @property
    def success(self) -> bool:
        return self in (Stop.CONVERGED, Stop.STEPS)


@dataclass(frozen=True)
class Step:
    """What an observer receives after each step; tensors are detached and on the device."""

    index: int
    similarity: Tensor  # shape: (levels, B), at the step's start
    total: Tensor  # shape: (B,), weighted mean of the levels, less the penalties of the model and of landmarks
    model: Model  # at the step's start; it changes with the next step

    @property
    def transforms(self) -> list[Transform]:
        """The transform of each pair at the step's start; computed at every access."""
        return self.model.result()


@dataclass(frozen=True)
class Run:
    """What an observer receives before the first step."""

    fixed: Image  # normalised, finest level
    moving: Image
    settings: Mapping[str, Any]
    steps: int  # steps planned, warm-up included


class Observer:
    """Observes a run. All methods are optional. A function of a `Step` can be used instead of an observer.

    `begin` is called before the first step, the observer itself after each step, and `end` after the last one.
    """

    def starting(self, what: str, share: float) -> None:
        """Called before `begin`, during the search for starts: the current stage and the share of it that is done."""

    def begin(self, run: Run) -> None: ...

    def __call__(self, step: Step) -> None: ...

    def end(self, outcome: "Outcome") -> None: ...


@dataclass(frozen=True)
class Outcome:
    """The result of a run, for each pair."""

    transforms: list[Transform]
    history: list[Tensor]  # per pair (steps taken, levels), on the CPU
    totals: list[Tensor]  # per pair (steps taken,), weighted means of the levels, less penalties
    stops: list[Stop]
    overlap: Tensor  # shape: (B,), see `drmime.sampling.Overlap`
    model: Model  # at the result
    notes: list[tuple[str, ...]]  # what was done differently from what was asked


def maximise(
    fixed: Pyramid,
    moving: Pyramid,
    model: Model,
    metric: Similarity,
    sampler: Sampler,
    schedule: Schedule,
    overlap: Overlap,
    observe: Callable[[Step], None],
    used: Callable[[Tensor], Tensor] | None = None,
    penalty: Callable[[Model], Tensor] | None = None,
    copies: int = 1,
    graphs: bool = False,
) -> Outcome:
    """Maximise the similarity of all levels, weighted by the schedule, less the model's penalty.

    Args:
        fixed, moving: pyramids described by the metric, with equal numbers of levels.
        model: maps the fixed to the moving frame; its parameters are changed.
        metric, sampler: `begin` has been called on both.
        schedule: steps, rate, weights of the levels and stopping criteria.
        overlap: computes the overlap, which must not fall below `schedule.least_overlap`.
        observe: called after each step.
        used: which points of the fixed frame (..., D) are used, if not all.
        penalty: of the map, such as that of landmarks. -> (B,)
        copies: of each pair: so many consecutive transforms of the model, and so many results, are of one pair of images.
        graphs: repeat the operations of a step as a CUDA graph (`drmime.repeated`).

    Returns:
        The outcome. Its transforms are running averages of the parameters, taken where the running average of the similarity
        was highest in the last stage and the second half of the steps, since the similarity of a single step is noisy. After
        Ctrl-C it is the outcome so far, with `Stop.INTERRUPTED`.
    """
    optimiser = Adam([(list(model.parameters()), schedule.rate), (list(metric.parameters()), metric.rate)])
    evaluate = Evaluation(moving, model, metric, penalty, copies, graphs)
    weights = schedule.weights(len(fixed.levels))[..., None].to(fixed.levels[0].data).unbind(0)  # of each stage, (levels, 1)
    stages, levels = len(weights), len(fixed.levels)
    tracker = Tracker(model, fixed.levels[0], moving.levels[0], schedule, metric.warmup, levels, overlap)
    try:
        steps = metric.warmup + schedule.steps
        for index, points in enumerate(fixed_samples(fixed, sampler, steps, used)):
            stage = stage_of(index - metric.warmup, schedule.steps, stages)
            similarity, total, gradients = evaluate(points, weights[stage], moves=index >= metric.warmup)
            done = tracker.update(index, similarity, total, stage, stages)
            observe(Step(index, similarity, total, model))
            if done:
                break
            # Only the model's rate decays: the metric's network continues to learn as the alignment improves.
            optimiser.rates[0] = schedule.rate * cosine(index - metric.warmup, schedule.steps)
            optimiser.step(gradients)
        return tracker.outcome(Stop.STEPS)
    except KeyboardInterrupt:
        return tracker.outcome(Stop.INTERRUPTED)


class Tracker:
    """Keeps, for each pair, the best parameters so far, and whether and why it has stopped.

    A pair that has stopped keeps its result while others of the batch continue, so that the result is the same as alone.
    """

    def __init__(
        self,
        model: Model,
        fixed: Image,
        moving: Image,
        schedule: Schedule,
        warmup: int,
        levels: int,
        overlap: Overlap,
    ) -> None:
        self.model, self.schedule, self.warmup, self.levels = model, schedule, warmup, levels
        self.overlap = overlap
        along = torch.linspace(-1, 1, PLACES, dtype=torch.float64)
        frame_from_unit = torch.linalg.inv(fixed.grid.world_from_frame) @ fixed.grid.world_from_unit
        unit = torch.cartesian_prod(*[along] * fixed.grid.ndim)
        self.places = apply(frame_from_unit, unit, is_affine=True)[0][None, None].to(fixed.data.device)
        self.pixels = float(moving.grid.world_from_frame[0, 0] / moving.grid.spacing.min())  # per unit of the moving frame
        self.average, self.best = copy.deepcopy(model), copy.deepcopy(model)  # running averages of parameters, and their best
        places = self._mapped()
        batch = len(places)
        self.running = torch.ones(batch, dtype=torch.bool, device=places.device)
        self.stops: list[Stop | None] = [None] * batch
        self.lengths = [0] * batch
        self.stage = 0
        self.history: list[Tensor] = []
        self.totals: list[Tensor] = []
        self.average_score = self.best_score = places.new_full((batch,), -math.inf)
        self.anchor = places

    def update(self, index: int, similarity: Tensor, total: Tensor, stage: int, stages: int) -> bool:
        """Record one step, before the optimiser's step; True if all pairs have stopped."""
        self.history.append(similarity)
        self.totals.append(total)
        self._average(total.to(self.average_score), index, fresh=index == self.warmup or stage > self.stage)
        self.stage = stage
        moved = index - self.warmup
        if index == 0 or moved % CHECK_EVERY == 0:
            bad = ~similarity.isfinite().all(0)
            apart = self.overlap(self.model) < self.schedule.least_overlap
            still = torch.zeros_like(bad)
            if moved > 0 and moved % WINDOW == 0:
                places = self._mapped()
                drift = (places - self.anchor).norm(dim=-1).amax(-1) * self.pixels
                self.anchor = places
                still = (drift < self.schedule.tolerance) & (stage == stages - 1)
            self._stop(torch.stack([apart, bad, still]).tolist(), first=index == 0)
        return not any(stop is None for stop in self.stops)

    def outcome(self, reason: Stop) -> Outcome:
        """The result of every pair; `reason` is why those stop that are still running."""
        steps = len(self.history)
        lengths = [steps if stop is None else length for stop, length in zip(self.stops, self.lengths, strict=True)]
        history = torch.stack(self.history).cpu() if steps else torch.zeros(0, self.levels, len(lengths))
        totals = torch.stack(self.totals).cpu() if steps else torch.zeros(0, len(lengths))
        return Outcome(
            transforms=self.best.result(),
            history=[history[:length, :, pair] for pair, length in enumerate(lengths)],
            totals=[totals[:length, pair] for pair, length in enumerate(lengths)],
            stops=[stop or reason for stop in self.stops],
            overlap=self.overlap(self.best).cpu(),
            model=self.best,
            notes=[()] * len(lengths),
        )

    @torch.no_grad()
    def _average(self, total: Tensor, index: int, fresh: bool) -> None:
        """Running averages of similarity and parameters once the transform moves, and the best of them."""
        rate = SMOOTHING if index > self.warmup else 1.0
        self.average_score = total if rate == 1 or fresh else self.average_score.lerp(total, rate)
        better = self.running & (self.average_score > self.best_score)
        arrived = index == self.warmup + self.schedule.steps // 2  # an earlier high score may be noise: compare anew
        if fresh or arrived:  # earlier scores are not comparable: network in warm-up, or other weights
            better = self.running & self.average_score.isfinite()
        self.best_score = torch.where(better, self.average_score, self.best_score)
        three = (part.parameters() for part in (self.model, self.average, self.best))
        for current, average, best in zip(*three, strict=True):
            average.lerp_(current, rate)
            best.copy_(torch.where(better.view(-1, *[1] * (best.ndim - 1)), average, best))

    def _stop(self, which: Sequence[Sequence[bool]], first: bool) -> None:
        """Stop pairs by rows of flags (B,): without overlap, not finite, at rest; `first`: at the first step."""
        reasons = Stop.NO_OVERLAP if first else Stop.OVERLAP_LOST, Stop.NOT_FINITE, Stop.CONVERGED
        for reason, row in zip(reasons, which, strict=True):
            for pair, flag in enumerate(row):
                if flag and self.stops[pair] is None:
                    self.stops[pair], self.lengths[pair] = reason, len(self.history)
                    self.running[pair] = False

    @torch.no_grad()
    def _mapped(self) -> Tensor:
        """Places over the fixed image, its corners among them, under the averaged transform. (B, P, D), in the moving frame"""
        return self.average(self.places, slice(0, 1)).points[0]
