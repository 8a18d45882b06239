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
from typing import NamedTuple

import torch
from torch import Tensor

from drmime.compare.angle import GradientAngle
from drmime.compare.base import Similarity
from drmime.compare.mine import MINE
from drmime.geometry.grid import Grid, scales_of, unravel
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.optimise import Stop, maximise
from drmime.sampling import Overlap, Sampler, Uniform
from drmime.schedule import Schedule
from drmime.start.inputs import Inputs, at_scales, nearest_class, reduced_together
from drmime.start.score import Reduced
from drmime.start.together import in_groups, places_of
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


class Polish(NamedTuple):
    """A start of a pair to polish."""

    inputs: Inputs
    best: Candidate

    @property
    def matrix(self) -> Tensor:
        return self.best.matrix


def refined(
    inputs: Sequence[Inputs], proposals: Sequence[Sequence[tuple[str, Tensor]]], rounds: Sequence[Round] = ROUNDS
) -> list[tuple[Candidate, ...]]:
    """All starts proposed for each pair, refined, by decreasing evidence; candidates that enter more rounds are refined more.

    The pairs have equal grids, generators and seeds; the result for each is the same as alone. `proposals`: for each pair,
    sources and matrices (D+1, D+1), moving_from_fixed, world. Perspective is not refined here. Starts of one pair whose scales
    differ by more than about `SPREAD` are refined in separate groups, since the pixel size depends on the scale.
    """
    groups = [
        (number, scale, [some[place] for place in places])
        for number, (some, pair) in enumerate(zip(proposals, inputs, strict=True))
        for scale, places in _by_scale(torch.stack([matrix for _, matrix in some]), pair.fixed.grid)
    ]

    def together(alike: Sequence[tuple[int, float, Sequence[tuple[str, Tensor]]]]) -> list[list[Candidate]]:
        return _refined_groups([inputs[number] for number, *_ in alike], [some for *_, some in alike], alike[0][1], rounds)

    found: list[list[Candidate]] = [[] for _ in inputs]
    for (number, *_), candidates in zip(groups, in_groups(groups, lambda group: group[1], together), strict=True):
        found[number].extend(candidates)
    return [tuple(sorted(some, key=lambda candidate: -candidate.evidence)) for some in found]


def _by_scale(matrices: Tensor, fixed: Grid) -> list[tuple[float, list[int]]]:
    """The starts (K, D+1, D+1) of one pair in groups of about one scale: the `scale_class` of each, and numbers of starts."""
    scales = scales_of(matrices, fixed)
    second = min(1, len(scales) - 1)  # the first proposal after the given start
    groups = places_of([round(math.log(scale / scales[second], SPREAD)) for scale in scales]).values()
    return [(nearest_class(scales[some[min(1, len(some) - 1)]]), some) for some in groups]


def _refined_groups(
    inputs: Sequence[Inputs], groups: Sequence[Sequence[tuple[str, Tensor]]], scale: float, rounds: Sequence[Round]
) -> list[list[Candidate]]:
    """Groups of starts, each of one pair, refined as one batch on images of one `scale_class`; in the order of `groups`.

    Groups of fewer starts than the largest are filled up with copies of one of their starts, which are dropped at the end.
    """
    counts = torch.tensor([len(group) for group in groups])
    most, number = int(counts.max()), torch.arange(len(groups))[:, None]
    filled = [torch.stack([matrix for _, matrix in (*group, *[group[0]] * (most - len(group)))]) for group in groups]
    matrices, order = torch.stack(filled), torch.arange(most).expand(len(groups), -1)
    small = reduced_together(inputs, scale)
    first, random = small.coarsest(rounds[0].levels), torch.Generator().manual_seed(inputs[0].seed)
    for one in rounds:
        order, counts = _kept(first.score_and_evidence(matrices[number, order])[1].cpu(), order, counts, one)
        part, allowed = small.coarsest(one.levels), inputs[0].affine if one.stretch else inputs[0].similarity
        parts = GradientAngle(), Strength(one.points), Schedule(one.steps, RATE, tolerance=NEVER)
        better = _optimised(part.fixed, part.moving, matrices[number, order], allowed, *parts, random, inputs[0].graphs)
        real = torch.arange(order.shape[1]) < counts[:, None]
        matrices[number.expand_as(order)[real], order[real]] = better[real]
    evidence = small.score_and_evidence(matrices)[1].tolist()  # of all on one level, so that the values are comparable
    return [
        [Candidate(source, *rest) for (source, _), *rest in zip(group, some, values[: len(group)], strict=False)]
        for group, some, values in zip(groups, matrices, evidence, strict=True)
    ]


def _kept(evidence: Tensor, order: Tensor, counts: Tensor, one: Round) -> tuple[Tensor, Tensor]:
    """The candidates that enter a round, by decreasing evidence, and their numbers for each group.

    `evidence` (G, K) is that of the candidates `order` (G, K), of which the first `counts` (G,) are no copies. The result's
    rows are filled up with the best candidate. shape: (G, K') and (G,)
    """
    column = torch.arange(order.shape[1])
    values, ranks = evidence.where(column < counts[:, None], -math.inf).sort(descending=True, stable=True)
    counts = (values > one.least * values[:, :1]).sum(1).clamp(1, one.keep)
    order = order.gather(1, ranks)
    return torch.where(column < counts[:, None], order, order[:, :1])[:, : int(counts.max())], counts


def polished(inputs: Sequence[Inputs], best: Sequence[Candidate]) -> list[Candidate]:
    """The `best` candidate of each pair refined by MINE, on intensities and edges; itself if it then has far less evidence.

    The pairs have equal grids, generators and seeds; the result for each is the same as alone. The agreement of edges has its
    maximum beside the right pose if one image has edges that the other lacks: both sides of a road on a map, bone beside skin.
    """
    return at_scales([Polish(*one) for one in zip(inputs, best, strict=True)], _polished)


def _polished(small: Reduced, some: Sequence[Polish]) -> list[Candidate]:
    """`polished` for pairs on images of one `scale_class`, as one batch."""
    metric, inputs, best = MINE(), some[0].inputs, [one.best for one in some]
    here, there = (levels.described(metric.describe) for levels in small.plain)
    vanished = _vanished(here)  # these are run with the others, and their results are dropped
    if all(vanished):
        return best
    parts = metric, Uniform(), POLISH, torch.Generator().manual_seed(inputs.seed), inputs.graphs
    starts = torch.stack([one.matrix for one in best])[:, None]
    both = torch.cat([starts, _optimised(here, there, starts, inputs.affine, *parts)], 1)
    evidence = small.score_and_evidence(both)[1].tolist()
    return [
        one if gone or after < WORSE * before else Candidate(one.source, matrix, after)
        for one, gone, matrix, (before, after) in zip(best, vanished, both[:, 1], evidence, strict=True)
    ]


def _vanished(levels: Pyramid) -> list[bool]:
    """Whether the mask of each pair has vanished on a level, as a thin one can on coarse levels."""
    masks = [level.mask.flatten(1) for level in levels.levels if level.mask is not None]
    if not masks:
        return [False] * len(levels.levels[0].data)
    empty: list[bool] = torch.stack([~mask.any(1) for mask in masks]).any(0).tolist()
    return empty


def _optimised(
    fixed: Pyramid,
    moving: Pyramid,
    starts: Tensor,
    generators: Mapping[str, Tensor],
    metric: Similarity,
    sampler: Sampler,
    schedule: Schedule,
    random: torch.Generator,
    graphs: bool,
) -> Tensor:
    """Starts (B, K, D+1, D+1) after the schedule's steps of maximising a metric, as one batch, on pyramids that it described.

    Each of the B pairs has K starts, which share its images.
    """
    levels, like = len(fixed.levels), fixed.levels[0].data
    pairs, copies = starts.shape[:2]
    model = LieModel(generators, starts.flatten(0, 1), fixed.levels[0].grid, moving.levels[0].grid).to(like.device)
    sampler.begin(fixed, random)
    metric.begin(levels, pairs * copies, (like.shape[1], moving.levels[0].data.shape[1]), random, like)
    overlap = Overlap(fixed.levels[0], moving.levels[0])
    outcome = maximise(
        fixed, moving, model, metric, sampler, schedule, overlap, lambda step: None, copies=copies, graphs=graphs
    )
    if Stop.INTERRUPTED in outcome.stops:
        raise KeyboardInterrupt
    return torch.stack([matrix_of(transform) for transform in outcome.transforms]).view_as(starts)


class Strength(Sampler):
    """Draws pixels with probability proportional to edge strength, the last component of the fixed orientation tensors."""

    def choose(self, level: Image) -> Tensor | None:
        return None  # strength is 0 outside the mask

    def begin(self, fixed: Pyramid, generator: torch.Generator) -> None:
        super().begin(fixed, generator)
        self.cumulative = []
        for level in fixed.levels:
            strength = level.data[:, -1].flatten(1).double().cpu() + 1e-9
            total = strength.cumsum(1)
            self.cumulative.append(total / total[:, -1:])

    def index(self, level: int, steps: int) -> Tensor:
        grid, cumulative = self.grids[level], self.cumulative[level]
        draws = self.spread(self.count(grid), grid.ndim + 1, steps)
        heights = draws[..., 0].expand(len(cumulative), -1).contiguous()
        chosen = torch.searchsorted(cumulative, heights).clamp(max=cumulative.shape[1] - 1)
        return unravel(chosen, grid.shape).flip(-1) + draws[..., 1:] - 0.5
