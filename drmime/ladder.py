"""From many starts to one: candidates are refined together, the losers are dropped, and the best goes on.

Where the truth lies is nearly always among the first candidates of a search; which one it is, intensities do not say: mutual
information prefers candidates of small overlap. The gradient-angle score mostly does, more often with other witnesses beside it
(`drmime.evidence`), and it also brings a candidate from some per cent off to the top of its own hill
(`experiments/README.md` has the figures).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drmime.evidence import Reduced
from drmime.grid import Grid
from drmime.image import Image
from drmime.initialise import Initialiser
from drmime.initialise.base import corner_distances
from drmime.initialise.features import Features
from drmime.initialise.search import Search
from drmime.metrics import GradientAngle
from drmime.optimise import Schedule, Stop, maximise
from drmime.pyramid import Pyramid
from drmime.sampling import Sampler, unravel
from drmime.transform import LieTransform

RATE = 0.01
DOUBTFUL = 0.8  # a start elsewhere for which this share of the best one's evidence speaks
APART = 0.05  # of the fixed image's diagonal: corners further off, on average, are elsewhere
GLANCE = 128  # pixels along the longest side, for a look at the mirrored image
SURE = 50.0  # standard deviations; below, a look at the mirrored image is worth its time
CHANCE = 8.0  # standard deviations; neighbouring pixels are not independent, so chance reaches several


@dataclass(frozen=True)
class Rung:
    """One round: how many levels are used, counted from the coarsest, for how long, and which candidates stay.

    Before a start is near, edges are as glad to be stretched onto wrong ones: the first steps keep shapes.
    """

    levels: int
    steps: int
    points: int
    keep: int
    least: float  # share of the best one's evidence that a candidate needs to stay: refinement does not make up for more
    stretch: bool = True  # False: shifts, rotations and scales alone, as far as the group has them


RUNGS = (
    Rung(levels=2, steps=0, points=16, keep=20, least=0.2),
    Rung(levels=2, steps=25, points=1024, keep=4, least=0.3, stretch=False),
    Rung(levels=3, steps=50, points=2048, keep=4, least=0.3),
)


@dataclass(frozen=True)
class Candidate:
    """A start: who proposed it, and how well edges agree there, in standard deviations of chance."""

    source: str
    score: float
    matrix: Tensor  # shape: (D+1, D+1), moving_from_fixed, world; refined as far as it came
    evidence: float = math.nan  # by which the starts of one pair are ranked (`drmime.evidence`)


@dataclass(frozen=True)
class Ranking:
    """The starts of one pair, the one used first, and why it may be wrong, in sentences."""

    candidates: tuple[Candidate, ...]
    doubts: tuple[str, ...] = ()


def climb(
    fixed: Image,
    moving: Image,
    proposals: Sequence[tuple[str, Tensor]],
    generators: Mapping[str, Tensor],
    seed: int,
) -> tuple[Candidate, ...]:
    """All starts proposed for one pair, the best first; those that stayed longest are refined furthest.

    `proposals`: sources and matrices (D+1, D+1). The images are normalised, B = 1. Perspective is left to the metric asked for.
    """
    basis = {name: matrix for name, matrix in generators.items() if not matrix[-1].any()} or dict(generators)
    shapely = {name: matrix for name, matrix in basis.items() if _keeps_shape(matrix)} or basis
    random = torch.Generator().manual_seed(seed)
    small = _reduced(fixed, moving, proposals)
    matrices = torch.stack([matrix for _, matrix in proposals])
    order = torch.arange(len(proposals))
    for rung in RUNGS:
        part = small.coarsest(rung.levels)
        if rung.steps:
            allowed = basis if rung.stretch else shapely
            matrices[order] = _refined(part.fixed, part.moving, matrices[order], allowed, rung, random, fixed.grid)
        values, ranks = part.judged(matrices[order])[1].sort(descending=True, stable=True)
        order = order[ranks][: max(1, min(rung.keep, int((values > rung.least * values[0]).sum())))]
    score, evidence = (values.tolist() for values in small.judged(matrices))  # of all at one level, so that they compare
    made = [Candidate(source, *rest) for (source, _), *rest in zip(proposals, score, matrices, evidence, strict=True)]
    return tuple(sorted(made, key=lambda candidate: -candidate.evidence))


def _keeps_shape(generator: Tensor) -> bool:
    """Whether it shifts, turns and scales and no more."""
    linear = generator[:-1, :-1]
    even = linear.diagonal().mean() * torch.eye(len(linear)).to(linear)
    return bool(((linear + linear.mT) / 2 - even).abs().max() < 1e-9)


def suited(generators: Mapping[str, Tensor], mirrored: bool = False) -> list[tuple[str, Initialiser]]:
    """What "auto" is for a group: a search without the rotations or scales that the group lacks; where it has both, in 2-D,
    matched corners as well, which find some of what a search at low resolution misses.
    """
    linear = torch.stack([matrix[:-1, :-1] for matrix in generators.values()])
    turns = bool((linear - linear.mT).abs().max() > 1e-9)
    scales = bool(linear.diagonal(dim1=1, dim2=2).sum(1).abs().max() > 1e-9)
    options: dict[str, Any] = {} if scales else {"scales": (1.0,)}
    if mirrored and linear.shape[-1] == 2:
        options["size"] = GLANCE
    made: list[tuple[str, Initialiser]] = [("search", Search(rotate=turns, mirrored=mirrored, **options))]
    if turns and scales and linear.shape[-1] == 2 and not mirrored:
        made.append(("features", Features()))
    return made


def ranking(
    fixed: Image,
    moving: Image,
    given: Tensor,
    searching: Sequence[tuple[str, Initialiser | None]],
    generators: Mapping[str, Tensor],
    seed: int,
) -> Ranking:
    """All starts of one pair: the given one (D+1, D+1) and what each of `searching` finds; None is the search that suits."""
    if not searching:
        return Ranking((Candidate("given", score_at(fixed, moving, given), given),))
    found = [("given", given)]
    for name, initialiser in searching:
        for source, find in [(name, initialiser)] if initialiser else suited(generators):
            found += [(source, matrix.to(given)) for matrix in find(fixed, moving)]
    candidates = climb(fixed, moving, found, generators, seed)
    doubt = doubts(candidates, fixed.grid)
    if candidates[0].score < SURE and any(initialiser is None for _, initialiser in searching):
        doubt += _mirrored(fixed, moving, found, candidates[0], generators, seed)
    return Ranking(candidates, doubt)


def _mirrored(
    fixed: Image,
    moving: Image,
    proper: Sequence[tuple[str, Tensor]],
    best: Candidate,
    generators: Mapping[str, Tensor],
    seed: int,
) -> tuple[str, ...]:
    """A sentence where a reflected start fits far better than the best of the `proper` ones."""
    found = [(source, matrix) for source, find in suited(generators, mirrored=True) for matrix in find(fixed, moving)]
    if not found or _coarse_score(fixed, moving, found) < _coarse_score(fixed, moving, proper):
        return ()
    other = climb(fixed, moving, found, generators, seed)[0]
    if best.evidence > DOUBTFUL * other.evidence or other.score < max(CHANCE, best.score):
        return ()
    return (
        f"The moving image seems to be mirrored: edges agree by {other.score:.0f} standard deviations when it is, by "
        f'{best.score:.0f} when it is not. Pass initialiser={{"name": "search", "mirrored": True}}.',
    )


def _coarse_score(fixed: Image, moving: Image, starts: Sequence[tuple[str, Tensor]]) -> float:
    """The best score among starts as they come, on the levels where the climb begins."""
    small = _reduced(fixed, moving, starts).coarsest(RUNGS[0].levels)
    return float(small.judged(torch.stack([matrix for _, matrix in starts]))[0].max())


def doubts(candidates: Sequence[Candidate], fixed: Grid) -> tuple[str, ...]:
    """Why the first candidate may be wrong, in sentences; none where nothing speaks against it."""
    best = candidates[0]
    if best.score < CHANCE:
        return (f"Doubtful: edges agree no more than by chance ({best.score:.0f} standard deviations). Look at the overlay.",)
    for other in candidates[1:]:
        if other.evidence > DOUBTFUL * best.evidence and apart(best.matrix, other.matrix, fixed):
            return (
                f"Doubtful: about as much speaks for a start elsewhere ({other.source}, {other.evidence / best.evidence:.0%} "
                "of the evidence) as for the one used. Look at the overlay.",
            )
    return ()


def apart(one: Tensor, other: Tensor, fixed: Grid) -> bool:
    """Whether two transforms take the corners of `fixed` to places more than `APART` apart."""
    return float(corner_distances(one, other, fixed).mean()) > APART


def score_at(fixed: Image, moving: Image, matrix: Tensor) -> float:
    """The score of one transform of one pair, at the finest level that candidates are compared on."""
    return float(_reduced(fixed, moving, [("", matrix)]).judged(matrix[None])[0])


def _reduced(fixed: Image, moving: Image, starts: Sequence[tuple[str, Tensor]]) -> Reduced:
    """Both images at the levels of the rungs, whose pixels are of one size under the first start found."""
    scale = float(starts[min(1, len(starts) - 1)][1][:-1, :-1].det().abs()) ** (1 / fixed.grid.ndim)
    return Reduced.of(fixed, moving, scale, max(rung.levels for rung in RUNGS))


def _refined(
    fixed: Pyramid,
    moving: Pyramid,
    starts: Tensor,
    generators: Mapping[str, Tensor],
    rung: Rung,
    random: torch.Generator,
    grid: Grid,
) -> Tensor:
    """Starts (K, D+1, D+1) after some steps of the gradient-angle score on described levels, as one batch."""
    count, levels = len(starts), len(fixed.levels)
    transform = LieTransform(generators, starts, grid)
    sampler = Strength(rung.points)
    sampler.begin(fixed, random)
    plan = Schedule(steps=rung.steps, rate=RATE, tolerance=0, least_overlap=0.02)
    weights = torch.full((1, levels), 1 / levels).to(fixed.levels[0].data)
    copies = Pyramid([level.copies(count) for level in moving.levels])
    outcome = maximise(fixed, copies, transform, GradientAngle(), sampler, plan, weights, lambda step: None)
    if Stop.INTERRUPTED in outcome.stops:
        raise KeyboardInterrupt
    return outcome.matrix


class Strength(Sampler):
    """Points as often as directions are clear there: the trace of the described fixed image's tensors."""

    def begin(self, fixed: Pyramid, generator: torch.Generator) -> None:
        super().begin(fixed, generator)
        self.cumulative = []
        for level in self.levels:
            strength = level.data[:, : level.grid.ndim].sum(1).flatten(1).double().cpu() + 1e-9
            self.cumulative.append(strength.cumsum(1) / strength.sum(1, keepdim=True))

    def index(self, level: int) -> Tensor:
        grid, cumulative = self.levels[level].grid, self.cumulative[level]
        draws = self.uniform(self.count(grid), grid.ndim + 1)
        chosen = torch.searchsorted(cumulative, draws[..., 0].contiguous()).clamp(max=cumulative.shape[1] - 1)
        return unravel(chosen, grid) + draws[..., 1:] - 0.5
