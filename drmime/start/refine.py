"""From many starts to one: candidates are refined together, the losers are dropped, and the best goes on.

Where the truth lies is nearly always among the first candidates of a search; which one it is, intensities do not say: mutual
information prefers candidates of small overlap. The gradient-angle score mostly does, more often with other witnesses beside it
(`drmime.start.score`), and it also brings a candidate from some per cent off to the top of its own hill. Where that hill is
beside the place, mutual information leads back, once the place is chosen (`experiments/README.md` has the figures).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drmime.compare import MINE, GradientAngle, Similarity
from drmime.geometry.grid import Grid, linear_part, unravel
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.optimise import Schedule, Stop, maximise
from drmime.sampling import Overlap, Sampler, Uniform
from drmime.start.score import Reduced
from drmime.transform.linear import LieTransform


@dataclass(frozen=True)
class Rung:
    """One round: which candidates enter it, how many levels are used, counted from the coarsest, and for how long.

    Before a start is near, edges are as glad to be stretched onto wrong ones: the first steps keep shapes.
    """

    keep: int
    least: float  # share of the best one's evidence that a candidate needs to enter: refinement does not make up for more
    levels: int
    steps: int
    points: int  # of a level
    stretch: bool = True  # False: shifts, rotations and scales alone, as far as the group has them


RUNGS = (
    Rung(keep=20, least=0.2, levels=2, steps=25, points=1024, stretch=False),
    Rung(keep=4, least=0.3, levels=3, steps=50, points=2048),
)
QUICK_RUNGS = tuple(replace(rung, points=1024) for rung in RUNGS)  # saturated images, say, need the others
SPREAD = 4.0  # largest scale by the least one of starts that are refined together
CLIMB_RATE = 0.01
POLISH = Schedule(steps=150, rate=0.001, tolerance=0, least_overlap=0.02)
WORSE = 0.5  # share of the evidence that a polished start must have kept


@dataclass(frozen=True)
class Candidate:
    """A start: who proposed it, and how well edges agree there, in standard deviations of chance."""

    source: str
    score: float
    matrix: Tensor  # shape: (D+1, D+1), moving_from_fixed, world; refined as far as it came
    evidence: float = math.nan  # by which the starts of one pair are ranked (`drmime.start.score`)


def climb(
    fixed: Image,
    moving: Image,
    proposals: Sequence[tuple[str, Tensor]],
    generators: Mapping[str, Tensor],
    seed: int,
    rungs: Sequence[Rung] = RUNGS,
) -> tuple[Candidate, ...]:
    """All starts proposed for one pair, the best first; those that stayed longest are refined furthest.

    `proposals`: sources and matrices (D+1, D+1). The images are normalised, B = 1. Perspective is left to the metric asked for.
    Starts of far different scales are refined apart from each other: each group is seen at pixels that suit it.
    """
    basis = _without_perspective(generators)
    scales = [scale_of(matrix, fixed.grid) for _, matrix in proposals]
    first = scales[min(1, len(scales) - 1)]  # that was found
    groups: dict[int, list[tuple[str, Tensor]]] = {}
    for scale, one in zip(scales, proposals, strict=True):
        groups.setdefault(round(math.log(scale / first, SPREAD)), []).append(one)
    climbed = [candidate for some in groups.values() for candidate in _together(fixed, moving, some, basis, seed, rungs)]
    return tuple(sorted(climbed, key=lambda candidate: -candidate.evidence))


def _together(
    fixed: Image,
    moving: Image,
    proposals: Sequence[tuple[str, Tensor]],
    basis: Mapping[str, Tensor],
    seed: int,
    rungs: Sequence[Rung],
) -> list[Candidate]:
    """Starts of about one scale, refined as one batch, in their order."""
    random = torch.Generator().manual_seed(seed)
    matrices = torch.stack([matrix for _, matrix in proposals])
    small = reduced_pair(fixed, moving, matrices)
    order, first = torch.arange(len(proposals)), small.coarsest(rungs[0].levels)
    for rung in rungs:
        values, ranks = first.judged(matrices[order])[1].sort(descending=True, stable=True)
        order = order[ranks][: max(1, min(rung.keep, int((values > rung.least * values[0]).sum())))]
        part, allowed = small.coarsest(rung.levels), basis if rung.stretch else shapely(basis)
        plan = Schedule(rung.steps, CLIMB_RATE, tolerance=0, least_overlap=0.02)
        parts = GradientAngle(), Strength(rung.points), plan
        matrices[order] = _refined(part.fixed, part.moving, matrices[order], allowed, *parts, random, fixed.grid)
    score, evidence = (values.tolist() for values in small.judged(matrices))  # of all at one level, so that they compare
    return [Candidate(source, *rest) for (source, _), *rest in zip(proposals, score, matrices, evidence, strict=True)]


def polished(fixed: Image, moving: Image, best: Candidate, generators: Mapping[str, Tensor], seed: int) -> Candidate:
    """`best` refined by what MINE sees, intensities beside edges; `best` itself where far less evidence speaks for that.

    Edges come to rest beside the place where one image draws lines of its own: both sides of a road on a map, bone beside skin.
    """
    metric, small = MINE(), reduced_pair(fixed, moving, best.matrix[None])
    here, there = (levels.described(metric.describe) for levels in small.plain)
    if any(level.mask is not None and not level.mask.any() for level in here.levels):  # so thin a mask is lost on the way
        return best
    parts = metric, Uniform(), POLISH, torch.Generator().manual_seed(seed)
    matrix = _refined(here, there, best.matrix[None], _without_perspective(generators), *parts, fixed.grid)[0]
    both = torch.stack([best.matrix, matrix])
    scores, evidences = (values.tolist() for values in small.judged(both))
    if evidences[1] < WORSE * evidences[0]:
        return best
    return Candidate(best.source, scores[1], matrix, evidences[1])


def scores_at(fixed: Image, moving: Image, starts: Sequence[Tensor], levels: int = RUNGS[-1].levels) -> Tensor:
    """The scores of starts as they come, on as many of the levels on which candidates are compared. shape: (K,)"""
    matrices = torch.stack([*starts])
    return reduced_pair(fixed, moving, matrices).coarsest(levels).judged(matrices)[0]


def _without_perspective(generators: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that are affine; all of them where none is."""
    return {name: matrix for name, matrix in generators.items() if not matrix[-1].any()} or dict(generators)


def shapely(generators: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that shift, turn and scale and no more; all of them where none does."""
    return {name: matrix for name, matrix in generators.items() if _keeps_shape(matrix)} or dict(generators)


def _keeps_shape(generator: Tensor) -> bool:
    linear = generator[:-1, :-1]
    even = linear.diagonal().mean() * torch.eye(len(linear)).to(linear)
    return bool(((linear + linear.mT) / 2 - even).abs().max() < 1e-9)


def reduced_pair(fixed: Image, moving: Image, starts: Tensor) -> Reduced:
    """Both images at the levels of the rungs, whose pixels are of one size under the second start, the first that was found."""
    return Reduced.of(fixed, moving, scale_of(starts[min(1, len(starts) - 1)], fixed.grid), RUNGS[-1].levels)


def scale_of(start: Tensor, fixed: Grid) -> float:
    """World length in the moving image of one in the fixed image."""
    return float(linear_part(start, fixed).det().abs().clamp(min=1e-90)) ** (1 / fixed.ndim)


def _refined(
    fixed: Pyramid,
    moving: Pyramid,
    starts: Tensor,
    generators: Mapping[str, Tensor],
    metric: Similarity,
    sampler: Sampler,
    schedule: Schedule,
    random: torch.Generator,
    grid: Grid,
) -> Tensor:
    """Starts (K, D+1, D+1) after some steps of a metric on levels that it has described, as one batch."""
    count, levels, like = len(starts), len(fixed.levels), fixed.levels[0].data
    transform = LieTransform(generators, starts, grid)
    sampler.begin(fixed, random)
    metric.begin(levels, count, (like.shape[1], moving.levels[0].data.shape[1]), random, like)
    weights = torch.full((1, levels), 1 / levels).to(like)
    copies = Pyramid([level.copies(count) for level in moving.levels])
    overlap = Overlap(fixed.levels[0], copies.levels[0])
    outcome = maximise(fixed, copies, transform, metric, sampler, schedule, weights, overlap, lambda step: None)
    if Stop.INTERRUPTED in outcome.stops:
        raise KeyboardInterrupt
    return outcome.matrix


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
