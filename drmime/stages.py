"""The stages of a registration: one after the other each maximises the similarity over its own family of transforms."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from drmime.checks import Options
from drmime.compare.base import Similarity
from drmime.holdout import Blocks, supported
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.optimise import Observer, Outcome, Step, Stop, maximise
from drmime.part import Part, PartRun
from drmime.precision import with_precision
from drmime.sampling import Overlap
from drmime.soft import Located, Penalty
from drmime.transform.base import Family, Hints, Model
from drmime.transform.linear import MatrixTransform, matrix_of

UNBENT = "Deformation: none; there is no evidence of a deformation in the parts of the image that the fits did not use."


@dataclass(frozen=True)
class Problem:
    """What is compared: images as the metric describes them, B pairs."""

    fixed: Image
    moving: Image
    settings: Mapping[str, Any]
    levels: int
    overlap: Overlap
    hints: Hints
    landmarks: Located | None
    part: Part

    def model(self, family: Family, start: Tensor) -> Model:
        """The model of a family that begins at matrices (B, D+1, D+1)."""
        made = family.model(start, self.fixed.grid, self.moving.grid, self.hints)
        return made.to(self.fixed.data.device)

    @property
    def penalty(self) -> Penalty | None:
        """Of landmarks."""
        fixed, moving = self.fixed, self.moving
        return None if self.landmarks is None else self.landmarks.between(fixed.grid, moving.grid, fixed.data.device)


def not_begun(problem: Problem, start: Tensor, asked: Options) -> Outcome:
    """The outcome of Ctrl-C before the first step: the transforms are the starts."""
    model = problem.model(asked.stages[0].fits()[0], start)
    transforms = model.result()
    count = len(transforms)
    return Outcome(
        transforms=transforms,
        history=[torch.zeros(0, problem.levels) for _ in range(count)],
        totals=[torch.zeros(0) for _ in range(count)],
        stops=[Stop.INTERRUPTED] * count,
        overlap=problem.overlap(model).cpu(),
        model=model,
        notes=[()] * count,
    )


def solved(problem: Problem, start: Tensor, asked: Options) -> Outcome:
    """The outcome of all stages from the starts (B, D+1, D+1). The metric learns on; the points are drawn on."""
    try:
        return Solver(problem, asked).solved(start)
    except KeyboardInterrupt:
        return not_begun(problem, start, asked)


class Solver:
    """Takes the stages one after the other, and in each the fits of its family."""

    def __init__(self, problem: Problem, asked: Options) -> None:
        self.problem, self.asked, levels, metric = problem, asked, problem.levels, asked.metric
        self.random = torch.Generator().manual_seed(asked.seed)
        plain = Pyramid.of(problem.fixed, levels)
        self.fixed = plain.described(metric.describe)
        asked.sampler.begin(plain.masked_as(self.fixed), self.random)  # points are drawn where the described image is valid
        del plain  # frees its memory
        self.moving = Pyramid.of(problem.moving, levels).described(metric.describe)
        channels = self.fixed.levels[0].data.shape[1], self.moving.levels[0].data.shape[1]
        metric.begin(levels, len(problem.fixed.data), channels, self.random, problem.fixed.data)
        self.penalty = problem.penalty
        self.fits = [stage.fits()[:1] if stage.linear else stage.fits() for stage in asked.stages]
        self.watching = [watcher for watcher in asked.observers if isinstance(watcher, Observer)]
        self.taken = 0  # steps, of all fits

    def solved(self, start: Tensor) -> Outcome:
        problem = self.problem
        steps = [self.asked.metric.warmup + fit.schedule(self.asked.schedule).steps for fits in self.fits for fit in fits]
        for watcher in self.watching:
            watcher.begin(PartRun(problem.fixed, problem.moving, problem.settings, sum(steps), problem.part))
        outcome = self._stage(0, start)
        for number in range(1, len(self.fits)):
            if Stop.INTERRUPTED in outcome.stops or not any(stop.success for stop in outcome.stops):
                break
            before = torch.stack([matrix_of(transform) for transform in outcome.transforms])
            try:
                then = self._stage(number, before)
            except KeyboardInterrupt:
                outcome = interrupted(outcome)
                break
            outcome = _after(outcome, then, self.asked.stages[number].linear)
            outcome = interrupted(outcome) if Stop.INTERRUPTED in then.stops else outcome
        for watcher in self.watching:
            watcher.end(outcome)
        return outcome

    def _stage(self, number: int, start: Tensor) -> Outcome:
        """The outcome of the fit that gains most, for each pair."""
        metric = self.asked.metric
        others = [copy.deepcopy(metric) for _ in self.fits[number][1:]]  # every fit begins with the network of the stage before
        best, most = self._fitted(number, self.fits[number][0], metric, start)
        for family, other in zip(self.fits[number][1:], others, strict=True):
            if Stop.INTERRUPTED in best.stops:
                return best
            found, gain = self._fitted(number, family, other, start)
            if Stop.INTERRUPTED in found.stops:
                return interrupted(best)
            best, most = _chosen(best, found, (gain > most).tolist()), torch.maximum(most, gain)
        if self.asked.stages[number].linear:
            return best
        same = [isinstance(transform, MatrixTransform) for transform in best.transforms]
        notes: list[tuple[str, ...]] = [
            (UNBENT,) if one and stop.success else () for one, stop in zip(same, best.stops, strict=True)
        ]
        return replace(best, notes=notes)

    def _fitted(self, number: int, family: Family, metric: Similarity, start: Tensor) -> tuple[Outcome, Tensor]:
        """The outcome of one fit, and the similarity that its deformation gains; of a fit that failed -inf. shape: (B,)"""
        images, parts = (self.fixed, self.moving), (metric, self.asked.sampler)
        model, schedule = self.problem.model(family, start), family.schedule(self.asked.schedule)
        among, overlap = None if family.linear else Blocks.over(self.fixed).used, self.problem.overlap
        graphs = self.asked.device.graphs
        found = maximise(*images, model, *parts, schedule, overlap, self._observe, among, self.penalty, graphs=graphs)
        self.taken += max(map(len, found.totals))
        gain = torch.tensor([0.0 if stop.success else -math.inf for stop in found.stops])
        if Stop.INTERRUPTED in found.stops or any(stage.linear for stage in self.asked.stages[number + 1 :]):
            return found, gain
        weights = schedule.weights(self.problem.levels)[-1].to(self.problem.fixed.data)
        state = self.random.get_state()  # the points go on as if nothing had been measured
        try:
            if family.linear:
                return replace(found, transforms=with_precision(found, *images, *parts, weights)), gain
            kept, gained = supported(
                found, *images, *parts, weights, overlap, self.penalty, family.chance / len(self.fits[number])
            )
            return kept, gain + gained
        except KeyboardInterrupt:
            return interrupted(found), gain
        finally:
            self.random.set_state(state)

    def _observe(self, step: Step) -> None:
        for observer in self.asked.observers:
            observer(replace(step, index=self.taken + step.index))


def interrupted(outcome: Outcome) -> Outcome:
    return replace(outcome, stops=[Stop.INTERRUPTED] * len(outcome.stops))


def _after(first: Outcome, then: Outcome, linear: bool) -> Outcome:
    """The outcome of two stages, of which the second is linear or deforms.

    A pair that failed in the first keeps its result, as does one that the second left undeformed.
    """
    failed = [not stop.success for stop in first.stops]
    same = [
        not linear and (stop.success or stop is Stop.INTERRUPTED) and isinstance(transform, MatrixTransform)
        for stop, transform in zip(then.stops, then.transforms, strict=True)
    ]
    kept = [one or other for one, other in zip(failed, same, strict=True)]
    whole = replace(
        then,
        history=[torch.cat(both) for both in zip(first.history, then.history, strict=True)],
        totals=[torch.cat(both) for both in zip(first.totals, then.totals, strict=True)],
    )
    chosen = _chosen(first, whole, [not one for one in kept])
    return replace(chosen, notes=[() if one else notes for one, notes in zip(failed, then.notes, strict=True)])


def _chosen(first: Outcome, second: Outcome, which: Sequence[bool]) -> Outcome:
    """Of each pair the second outcome where `which` says so, else the first; the model is that of the second for all."""
    parts = {
        name: [two[1] if one else two[0] for one, *two in zip(which, getattr(first, name), getattr(second, name), strict=True)]
        for name in ("transforms", "history", "totals", "stops", "notes")
    }
    return Outcome(**parts, overlap=torch.where(torch.tensor(which), second.overlap, first.overlap), model=second.model)
