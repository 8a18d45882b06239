"""The stages of a registration: one after the other each maximises the similarity over its own family of transforms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from drmime.checks import Options
from drmime.holdout import supported, used
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.optimise import Observer, Outcome, Run, Step, Stop, maximise
from drmime.precision import with_precision
from drmime.sampling import Overlap
from drmime.soft import Located, Penalty
from drmime.transform.base import Hints, Model
from drmime.transform.linear import MatrixTransform, matrix_of

UNBENT = "Deformation: none; there is no evidence of a deformation in the parts of the image that its fit did not use."


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

    def model(self, asked: Options, stage: int, start: Tensor) -> Model:
        """The model of a stage that begins at matrices (B, D+1, D+1)."""
        made = asked.stages[stage].model(start, self.fixed.grid, self.moving.grid, self.hints)
        return made.to(self.fixed.data.device)

    @property
    def penalty(self) -> Penalty | None:
        """Of landmarks."""
        return None if self.landmarks is None else self.landmarks.between(self.fixed.grid, self.moving.grid)


def not_begun(problem: Problem, start: Tensor, asked: Options) -> Outcome:
    """The outcome of Ctrl-C before the first step: the transforms are the starts."""
    model = problem.model(asked, 0, start)
    transforms = model.result()
    count = len(transforms)
    return Outcome(
        transforms=transforms,
        history=[torch.zeros(0, problem.levels) for _ in range(count)],
        totals=[torch.zeros(0) for _ in range(count)],
        stops=[Stop.INTERRUPTED] * count,
        overlap=problem.overlap(model),
        model=model,
        notes=[()] * count,
    )


def solved(problem: Problem, start: Tensor, asked: Options) -> Outcome:
    """The outcome of all stages from the starts (B, D+1, D+1). The metric learns on; the points are drawn on."""
    metric, sampler, levels = asked.metric, asked.sampler, problem.levels
    random = torch.Generator().manual_seed(asked.seed)
    plain = Pyramid.of(problem.fixed, levels)
    fixed = plain.described(metric.describe)
    sampler.begin(plain.masked_as(fixed), random)  # points are drawn where the described image is valid
    del plain  # frees its memory
    moving = Pyramid.of(problem.moving, levels).described(metric.describe)
    channels = fixed.levels[0].data.shape[1], moving.levels[0].data.shape[1]
    metric.begin(levels, len(problem.fixed.data), channels, random, problem.fixed.data)
    penalty = problem.penalty
    schedules = [stage.schedule(asked.schedule) for stage in asked.stages]
    watching = [watcher for watcher in asked.observers if isinstance(watcher, Observer)]
    planned = sum(metric.warmup + schedule.steps for schedule in schedules)
    for watcher in watching:
        watcher.begin(Run(problem.fixed, problem.moving, problem.settings, planned))

    taken = 0

    def observe(step: Step) -> None:
        for observer in asked.observers:
            observer(replace(step, index=taken + step.index))

    def run(number: int, start: Tensor) -> Outcome:
        model, parts = problem.model(asked, number, start), (metric, sampler)
        linear, rest = asked.stages[number].linear, asked.stages[number + 1 :]
        among = None if linear else used
        found = maximise(fixed, moving, model, *parts, schedules[number], problem.overlap, observe, among, penalty)
        if Stop.INTERRUPTED in found.stops or any(stage.linear for stage in rest):
            return found
        weights = schedules[number].weights(levels)[-1].to(problem.fixed.data)
        try:
            if linear:
                state = random.get_state()  # the points go on as if the precision had not been measured
                transforms = with_precision(found, fixed, moving, *parts, weights)
                random.set_state(state)
                return replace(found, transforms=transforms)
            kept = supported(found, fixed, moving, *parts, weights, problem.overlap, penalty)
            unbent = [
                stop.success and isinstance(one, MatrixTransform) for stop, one in zip(kept.stops, kept.transforms, strict=True)
            ]
            return replace(kept, notes=[(UNBENT,) if one else () for one in unbent])
        except KeyboardInterrupt:
            return interrupted(found)

    outcome = run(0, start)
    for number in range(1, len(schedules)):
        if Stop.INTERRUPTED in outcome.stops or not any(stop.success for stop in outcome.stops):
            break
        taken = max(map(len, outcome.totals))
        before = torch.stack([matrix_of(transform) for transform in outcome.transforms])
        then = run(number, before)
        outcome = _after(outcome, then, asked.stages[number].linear)
        outcome = interrupted(outcome) if Stop.INTERRUPTED in then.stops else outcome
    for watcher in watching:
        watcher.end(outcome)
    return outcome


def interrupted(outcome: Outcome) -> Outcome:
    return replace(outcome, stops=[Stop.INTERRUPTED] * len(outcome.stops))


def _after(first: Outcome, then: Outcome, linear: bool) -> Outcome:
    """The outcome of two stages, of which the second is linear or deforms.

    A pair that failed in the first keeps its result, as does one that the second left undeformed.
    """
    failed = [not stop.success for stop in first.stops]
    same = [
        not linear and stop.success and isinstance(transform, MatrixTransform)
        for stop, transform in zip(then.stops, then.transforms, strict=True)
    ]
    kept = [one or other for one, other in zip(failed, same, strict=True)]
    whole = replace(
        then,
        history=[torch.cat(both) for both in zip(first.history, then.history, strict=True)],
        totals=[torch.cat(both) for both in zip(first.totals, then.totals, strict=True)],
    )
    pairs = range(len(kept))
    parts = {
        name: [getattr(first if kept[pair] else whole, name)[pair] for pair in pairs]
        for name in ("transforms", "history", "totals", "stops")
    }
    return Outcome(
        **parts,
        overlap=torch.where(torch.tensor(kept), first.overlap, then.overlap),
        model=then.model,
        notes=[() if failed[pair] else then.notes[pair] for pair in pairs],
    )
