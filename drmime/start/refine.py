"""Refinement of candidates: they are refined together in rounds, and those with little evidence are dropped before each.

The right pose is nearly always among the first candidates of a search. Mutual information of intensities does not identify it,
since it prefers candidates of small overlap. The agreement of gradient directions mostly does, and more often together with
the other factors of the evidence (`drmime.start.score`). Maximising it also brings a candidate that is off by a few per cent
to the local maximum. Where that maximum lies beside the right pose, refinement by mutual information (`polished`) corrects it
after the start is chosen (`experiments/README.md` has the figures).
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
    """One round of refinement.

    Far from the optimum, stretch and shear raise the score of wrong poses, so the first round is without them.
    """

    keep: int  # most candidates that enter
    least: float  # share of the best one's evidence that a candidate needs to enter: refinement hardly recovers a larger gap
    levels: int  # pyramid levels used, counted from the coarsest
    steps: int
    points: int  # sampled on each level
    stretch: bool = True  # False: only shifts, rotations and uniform scale, as far as the group has them


ROUNDS = (
    Round(keep=20, least=0.2, levels=2, steps=25, points=1024, stretch=False),
    Round(keep=4, least=0.3, levels=3, steps=50, points=2048),
)
QUICK_ROUNDS = tuple(replace(one, points=1024) for one in ROUNDS)  # too few points for some images, such as saturated ones
SPREAD = 4.0  # largest ratio of two scales of starts that are refined together
RATE = 0.01  # Adam's first rate
NEVER = 1e-9  # pixels: a tolerance so small that no run stops early
POLISH = Schedule(steps=150, rate=0.001, tolerance=NEVER)
WORSE = 0.5  # share of the evidence below which a polished start is rejected


@dataclass(frozen=True, eq=False)
class Candidate:
    """A start of one pair."""

    source: str  # name of what proposed it
    matrix: Tensor  # shape: (D+1, D+1), moving_from_fixed, world; after the refinement that it had
    evidence: float = math.nan  # by which the starts of one pair are ranked (`drmime.start.score`)


def refined(inputs: Inputs, proposals: Sequence[tuple[str, Tensor]], rounds: Sequence[Round] = ROUNDS) -> tuple[Candidate, ...]:
    """All starts proposed for one pair, refined, by decreasing evidence; candidates that enter more rounds are refined more.

    `proposals`: sources and matrices (D+1, D+1), moving_from_fixed, world. Perspective is not refined here. Starts whose
    scales differ by more than about `SPREAD` are refined in separate groups, since the pixel size depends on the scale.
    """
    scales = [scale_of(matrix, inputs.fixed.grid) for _, matrix in proposals]
    first = scales[min(1, len(scales) - 1)]  # of the first proposal after the given start
    groups: dict[int, list[tuple[str, Tensor]]] = {}
    for scale, one in zip(scales, proposals, strict=True):
        groups.setdefault(round(math.log(scale / first, SPREAD)), []).append(one)
    found = [candidate for some in groups.values() for candidate in _refined_group(inputs, some, rounds)]
    return tuple(sorted(found, key=lambda candidate: -candidate.evidence))


def _refined_group(inputs: Inputs, proposals: Sequence[tuple[str, Tensor]], rounds: Sequence[Round]) -> list[Candidate]:
    """Starts of about one scale, refined as one batch; the result is in the order of `proposals`."""
    random = torch.Generator().manual_seed(inputs.seed)
    matrices = torch.stack([matrix for _, matrix in proposals])
    small = inputs.reduced(matrices[min(1, len(matrices) - 1)])
    order, first = torch.arange(len(proposals)), small.coarsest(rounds[0].levels)
    for one in rounds:
        values, ranks = first.score_and_evidence(matrices[order])[1].sort(descending=True, stable=True)
        order = order[ranks][: max(1, min(one.keep, int((values > one.least * values[0]).sum())))]
        part, allowed = small.coarsest(one.levels), inputs.affine if one.stretch else inputs.similarity
        plan = Schedule(one.steps, RATE, tolerance=NEVER)
        parts = GradientAngle(), Strength(one.points), plan
        matrices[order] = _optimised(part.fixed, part.moving, matrices[order], allowed, *parts, random)
    evidence = small.score_and_evidence(matrices)[1].tolist()  # of all on one level, so that the values are comparable
    return [Candidate(source, *rest) for (source, _), *rest in zip(proposals, matrices, evidence, strict=True)]


def polished(inputs: Inputs, best: Candidate) -> Candidate:
    """`best` refined by MINE, on intensities and edges; `best` itself if its refinement has far less evidence.

    The agreement of edges has its maximum beside the right pose if one image has edges that the other lacks: both sides of a
    road on a map, bone beside skin.
    """
    metric, small = MINE(), inputs.reduced(best.matrix)
    here, there = (levels.described(metric.describe) for levels in small.plain)
    if any(level.mask is not None and not level.mask.any() for level in here.levels):  # a thin mask can vanish on coarse levels
        return best
    parts = metric, Uniform(), POLISH, torch.Generator().manual_seed(inputs.seed)
    matrix = _optimised(here, there, best.matrix[None], inputs.affine, *parts)[0]
    before, after = small.score_and_evidence(torch.stack([best.matrix, matrix]))[1].tolist()
    return best if after < WORSE * before else Candidate(best.source, matrix, after)


def _optimised(
    fixed: Pyramid,
    moving: Pyramid,
    starts: Tensor,
    generators: Mapping[str, Tensor],
    metric: Similarity,
    sampler: Sampler,
    schedule: Schedule,
    random: torch.Generator,
) -> Tensor:
    """Starts (K, D+1, D+1) after the schedule's steps of maximising a metric, as one batch, on pyramids that it described."""
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
    """Draws pixels with probability proportional to edge strength, the last component of the fixed orientation tensors."""

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
