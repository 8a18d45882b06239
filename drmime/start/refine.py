"""From many starts to one: candidates are refined together, the worse ones are dropped, and the best goes on.

Where the truth lies is nearly always among the first candidates of a search; which one it is, intensities do not say: mutual
information prefers candidates of small overlap. The agreement of gradient directions mostly does, more often with the other
factors of the evidence beside it (`drmime.start.score`), and it also brings a candidate from some per cent off to its local
maximum. Where that maximum is beside the place, mutual information leads back, once the place is chosen
(`experiments/README.md` has the figures).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drmime.compare.angle import GradientAngle
from drmime.compare.base import Similarity
from drmime.compare.mine import MINE
from drmime.geometry.grid import scale_of, unravel
from drmime.image.pyramid import Pyramid
from drmime.optimise import Stop, maximise
from drmime.sampling import Overlap, Sampler, Uniform
from drmime.schedule import Schedule
from drmime.start.inputs import Inputs
from drmime.transform.linear import LieModel, matrix_of


@dataclass(frozen=True)
class Round:
    """Which candidates enter it, how many levels are used, counted from the coarsest, and for how long.

    Far from the optimum, stretch and shear raise the score of wrong places: the first steps keep shapes.
    """

    keep: int
    least: float  # share of the best one's evidence that a candidate needs to enter: refinement does not make up for more
    levels: int
    steps: int
    points: int  # of a level
    stretch: bool = True  # False: shifts, rotations and scales alone, as far as the group has them


ROUNDS = (
    Round(keep=20, least=0.2, levels=2, steps=25, points=1024, stretch=False),
    Round(keep=4, least=0.3, levels=3, steps=50, points=2048),
)
QUICK_ROUNDS = tuple(replace(one, points=1024) for one in ROUNDS)  # saturated images, say, need the others
SPREAD = 4.0  # largest scale by the least one of starts that are refined together
RATE = 0.01  # Adam's first
NEVER = 1e-9  # pixels: no transform stands as still as that
POLISH = Schedule(steps=150, rate=0.001, tolerance=NEVER)
WORSE = 0.5  # share of the evidence that a polished start must have kept


@dataclass(frozen=True, eq=False)
class Candidate:
    """A start, and who proposed it."""

    source: str
    matrix: Tensor  # shape: (D+1, D+1), moving_from_fixed, world; refined as far as it came
    evidence: float = math.nan  # by which the starts of one pair are ranked (`drmime.start.score`)


def refined(inputs: Inputs, proposals: Sequence[tuple[str, Tensor]], rounds: Sequence[Round] = ROUNDS) -> tuple[Candidate, ...]:
    """All starts proposed for one pair, the best first; those that stayed longest are refined furthest.

    `proposals`: sources and matrices (D+1, D+1). Perspective is left to the metric asked for. Starts of far different scales
    are refined apart from each other: each group is seen at pixels that suit it.
    """
    scales = [scale_of(matrix, inputs.fixed.grid) for _, matrix in proposals]
    first = scales[min(1, len(scales) - 1)]  # that was found
    groups: dict[int, list[tuple[str, Tensor]]] = {}
    for scale, one in zip(scales, proposals, strict=True):
        groups.setdefault(round(math.log(scale / first, SPREAD)), []).append(one)
    found = [candidate for some in groups.values() for candidate in _together(inputs, some, rounds)]
    return tuple(sorted(found, key=lambda candidate: -candidate.evidence))


def _together(inputs: Inputs, proposals: Sequence[tuple[str, Tensor]], rounds: Sequence[Round]) -> list[Candidate]:
    """Starts of about one scale, refined as one batch, in their order."""
    random = torch.Generator().manual_seed(inputs.seed)
    matrices = torch.stack([matrix for _, matrix in proposals])
    small = inputs.reduced(matrices[min(1, len(matrices) - 1)])
    order, first = torch.arange(len(proposals)), small.coarsest(rounds[0].levels)
    for one in rounds:
        values, ranks = first.judged(matrices[order])[1].sort(descending=True, stable=True)
        order = order[ranks][: max(1, min(one.keep, int((values > one.least * values[0]).sum())))]
        part, allowed = small.coarsest(one.levels), inputs.affine if one.stretch else inputs.similarity
        plan = Schedule(one.steps, RATE, tolerance=NEVER)
        parts = GradientAngle(), Strength(one.points), plan
        matrices[order] = _moved(part.fixed, part.moving, matrices[order], allowed, *parts, random)
    evidence = small.judged(matrices)[1].tolist()  # of all at one level, so that they compare
    return [Candidate(source, *rest) for (source, _), *rest in zip(proposals, matrices, evidence, strict=True)]


def polished(inputs: Inputs, best: Candidate) -> Candidate:
    """`best` refined by what MINE sees, intensities beside edges; `best` itself where far less evidence speaks for that.

    Edges come to rest beside the place where one image draws lines of its own: both sides of a road on a map, bone beside skin.
    """
    metric, small = MINE(), inputs.reduced(best.matrix)
    here, there = (levels.described(metric.describe) for levels in small.plain)
    if any(level.mask is not None and not level.mask.any() for level in here.levels):  # so thin a mask is lost on the way
        return best
    parts = metric, Uniform(), POLISH, torch.Generator().manual_seed(inputs.seed)
    matrix = _moved(here, there, best.matrix[None], inputs.affine, *parts)[0]
    before, after = small.judged(torch.stack([best.matrix, matrix]))[1].tolist()
    return best if after < WORSE * before else Candidate(best.source, matrix, after)


def _moved(
    fixed: Pyramid,
    moving: Pyramid,
    starts: Tensor,
    generators: Mapping[str, Tensor],
    metric: Similarity,
    sampler: Sampler,
    schedule: Schedule,
    random: torch.Generator,
) -> Tensor:
    """Starts (K, D+1, D+1) after some steps of a metric on levels that it has described, as one batch."""
    count, levels, like = len(starts), len(fixed.levels), fixed.levels[0].data
    model = LieModel(generators, starts, fixed.levels[0].grid, moving.levels[0].grid)
    sampler.begin(fixed, random)
    metric.begin(levels, count, (like.shape[1], moving.levels[0].data.shape[1]), random, like)
    copies = Pyramid([level.copies(count) for level in moving.levels])
    overlap = Overlap(fixed.levels[0], copies.levels[0])
    outcome = maximise(fixed, copies, model, metric, sampler, schedule, overlap, lambda step: None)
    if Stop.INTERRUPTED in outcome.stops:
        raise KeyboardInterrupt
    return torch.stack([matrix_of(transform) for transform in outcome.transforms])


class Strength(Sampler):
    """Points as often as directions are clear there: the last component of the described fixed image's tensors."""

    def begin(self, fixed: Pyramid, generator: torch.Generator) -> None:
        super().begin(fixed, generator)
        self.cumulative = []
        for level in fixed.levels:
            strength = level.data[:, -1].flatten(1).double().cpu() + 1e-9
            self.cumulative.append(strength.cumsum(1) / strength.sum(1, keepdim=True))

    def index(self, level: int, steps: int) -> Tensor:
        grid, cumulative = self.grids[level], self.cumulative[level]
        draws = self.spread(self.count(grid), grid.ndim + 1, steps)
        chosen = torch.searchsorted(cumulative, draws[..., 0].contiguous()).clamp(max=cumulative.shape[1] - 1)
        return unravel(chosen, grid.shape).flip(-1) + draws[..., 1:] - 0.5
