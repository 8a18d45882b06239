"""The stages of a registration: one after the other each maximises the similarity over its own family of transforms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from drmime.checks import Options
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.optimise import Observer, Outcome, Run, Step, Stop, maximise
from drmime.precision import with_precision
from drmime.sampling import Overlap
from drmime.transform.base import Model
from drmime.transform.linear import matrix_of


@dataclass(frozen=True)
class Problem:
    """What is compared: images as the metric describes them, B pairs."""

    fixed: Image
    moving: Image
    settings: Mapping[str, Any]
    levels: int
    overlap: Overlap

    def model(self, asked: Options, stage: int, start: Tensor) -> Model:
        """The model of a stage that begins at matrices (B, D+1, D+1)."""
        made = asked.stages[stage].model(start, self.fixed.grid, self.moving.grid)
        return made.to(self.fixed.data.device)


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
        model = problem.model(asked, number, start)
        return maximise(fixed, moving, model, metric, sampler, schedules[number], problem.overlap, observe)

    outcome = run(0, start)
    for number in range(1, len(schedules)):
        if Stop.INTERRUPTED in outcome.stops or not any(stop.success for stop in outcome.stops):
            break
        taken = max(map(len, outcome.totals))
        before = torch.stack([matrix_of(transform) for transform in outcome.transforms])
        outcome = _after(outcome, run(number, before))
    for watcher in watching:
        watcher.end(outcome)
    if Stop.INTERRUPTED in outcome.stops:
        return outcome
    weights = asked.schedule.weights(levels)[-1].to(problem.fixed.data)
    try:
        return replace(outcome, transforms=with_precision(outcome, fixed, moving, metric, sampler, weights))
    except KeyboardInterrupt:
        return interrupted(outcome)


def interrupted(outcome: Outcome) -> Outcome:
    return replace(outcome, stops=[Stop.INTERRUPTED] * len(outcome.stops))


def _after(first: Outcome, then: Outcome) -> Outcome:
    """The outcome of two stages; a pair that failed in the first keeps its result."""
    good = [stop.success for stop in first.stops]

    def chosen(later: Sequence[Any], before: Sequence[Any]) -> list[Any]:
        return [new if use else old for use, new, old in zip(good, later, before, strict=True)]

    def joined(later: Sequence[Tensor], before: Sequence[Tensor]) -> list[Tensor]:
        return chosen([torch.cat(both) for both in zip(before, later, strict=True)], before)

    return Outcome(
        transforms=chosen(then.transforms, first.transforms),
        history=joined(then.history, first.history),
        totals=joined(then.totals, first.totals),
        stops=chosen(then.stops, first.stops),
        overlap=torch.where(torch.tensor(good), then.overlap, first.overlap),
        model=then.model,
    )
