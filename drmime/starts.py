"""Which start: what proposes some, how the first is chosen among them, and why it may be wrong.

A quick look at few pixels is enough for two pairs of three: several starts have come to the same place then, and none
elsewhere is half as good. For the others a thorough one follows; what it leaves unclear too is started anew from all around its
place and polished by MINE, and what still has a rival is said to be doubtful.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drmime import lie
from drmime.grid import Grid, scaled
from drmime.image import Image
from drmime.initialise import Initialiser, nothing
from drmime.initialise.base import corner_distances
from drmime.initialise.features import Features
from drmime.initialise.search import Search
from drmime.ladder import QUICK_RUNGS, RUNGS, Candidate, Rung, climb, polished, scores_at, shapely
from drmime.transform import LieTransform

QUICK: dict[int, dict[str, Any]] = {  # a first look, by dimension: so many poses that several candidates lie near the right one
    2: {"size": 64, "step": 5.0, "scales": (0.85, 1.0, 1.18), "count": 10, "apart": 0.03},
    3: {"size": 24, "scales": (0.85, 1.0, 1.18)},
}
CLEAR = 20.0  # standard deviations, from which a first look may be enough
RIVAL = 0.5  # share of the best one's evidence that no start elsewhere may have then
AROUND = {2: (0.08,), 3: (0.2,)}  # radians, logarithms of a scale, or half sides, by which starts around one are off it
CLOSER = {2: (0.02, 0.04), 3: (0.05, 0.1)}  # likewise, around a start that a thorough look left unclear
SAME = (0.7, 0.02)  # share of the evidence, and of the diagonal, with which another start has come to the same place
DOUBTFUL = 0.8  # a start elsewhere for which this share of the best one's evidence speaks
APART = 0.05  # of the fixed image's diagonal: corners further off, on average, are elsewhere
NEARBY = 0.25  # of the fixed image's diagonal, likewise: within it a start is one that the given start may have meant
SURE = 50.0  # standard deviations; below, a look at the mirrored image is worth its time however clear the start is
CHANCE = 8.0  # standard deviations; neighbouring pixels are not independent, so chance reaches several
COARSE = RUNGS[0].levels  # where proper and mirrored starts are compared before any is refined


@dataclass(frozen=True)
class Ranking:
    """The starts of one pair, the one used first, and why it may be wrong, in sentences."""

    candidates: tuple[Candidate, ...]
    doubts: tuple[str, ...] = ()


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
        return Ranking((Candidate("given", float(scores_at(fixed, moving, [given])), given),))
    own = [(name, find) for name, find in searching if find is not None]
    thorough = suited(generators) if len(own) < len(searching) else []
    auto = bool(thorough)
    looks: list[tuple[Sequence[tuple[str, Initialiser]], Sequence[Rung]]] = [(thorough, RUNGS)]
    if auto:
        looks.insert(0, (suited(generators, quick=True), QUICK_RUNGS))
    kept = [("given", given), *_proposed(fixed, moving, own)]
    for look, rungs in looks:
        found = [*kept, *_proposed(fixed, moving, look)]
        candidates = climb(fixed, moving, found, generators, seed, rungs)
        candidates, enough = _settled(fixed, moving, candidates, generators, seed)
        if enough:
            break
        if (best := candidates[0]).source not in dict(kept):  # of a look that was not enough
            kept.append((best.source, best.matrix))
    candidates = _as_given(candidates, given, fixed.grid)
    if auto and not enough:
        nearby = climb(fixed, moving, _around(candidates[0], generators, fixed.grid, CLOSER), generators, seed)
        candidates = (_better(candidates[0], nearby[0]), *candidates[1:])
    doubt = doubts(candidates, fixed.grid)
    if len(candidates) == 1 and (auto or any(find is not nothing for _, find in own)):
        doubt += ("Doubtful: no other start was found than the given one. Look at the overlay.",)
    if auto and (not enough or candidates[0].score < SURE):
        doubt += _mirrored(fixed, moving, found, candidates[0], generators, seed)
    if auto and not enough:
        candidates = (polished(fixed, moving, candidates[0], generators, seed), *candidates[1:])
    return Ranking(candidates, doubt)


def _proposed(fixed: Image, moving: Image, look: Sequence[tuple[str, Initialiser]]) -> list[tuple[str, Tensor]]:
    """What each of a look finds, with its name."""
    return [(name, scaled(matrix.double().cpu(), fixed.grid)) for name, find in look for matrix in find(fixed, moving)]


def _as_given(candidates: tuple[Candidate, ...], given: Tensor, fixed: Grid) -> tuple[Candidate, ...]:
    """Where about as much speaks for a start near the given one, that goes first: who gave it may know something."""
    for number, one in enumerate(candidates):
        if one.evidence <= DOUBTFUL * candidates[0].evidence:
            break
        if not apart(one.matrix, given, fixed, NEARBY):
            return (one, *candidates[:number], *candidates[number + 1 :])
    return candidates


def suited(generators: Mapping[str, Tensor], mirrored: bool = False, quick: bool = False) -> list[tuple[str, Initialiser]]:
    """What "auto" is for a group: a search without the rotations or scales that the group lacks; where it has both, in 2-D,
    matched corners as well, which find some of what a search at low resolution misses. Nothing for a group that lacks a shift:
    a search tries them all. `quick`: the first look, at fewer pixels and without corners. `mirrored`: such a look at
    reflected poses instead of proper ones.
    """
    shifts, turns, scales = (_holds(generators, block) for block in ("translation", "rotation", "scale"))
    if not shifts:
        return []
    ndim = len(next(iter(generators.values()))) - 1
    quick = quick or mirrored
    options = dict(QUICK[ndim]) if quick else {}
    options |= {} if scales else {"scales": (1.0,)}
    made: list[tuple[str, Initialiser]] = [("search", Search(rotate=turns, mirrored=mirrored, **options))]
    if turns and scales and ndim == 2 and not quick:
        made.append(("features", Features()))
    return made


def _holds(generators: Mapping[str, Tensor], block: str) -> bool:
    """Whether a group moves along all that a block of `lie.GROUPS` does."""
    own = torch.stack(list(generators.values()))
    both = torch.cat([own, torch.stack(list(lie.generators([block], own.shape[-1] - 1).values()))])
    first, second = (torch.linalg.matrix_rank(matrices.flatten(1)) for matrices in (own, both))
    return bool(first == second)


def _mirrored(
    fixed: Image,
    moving: Image,
    proper: Sequence[tuple[str, Tensor]],
    best: Candidate,
    generators: Mapping[str, Tensor],
    seed: int,
) -> tuple[str, ...]:
    """A sentence where a reflected start fits far better than the best of the `proper` ones."""
    found = _proposed(fixed, moving, suited(generators, mirrored=True))
    if not found:
        return ()
    scores = scores_at(fixed, moving, [matrix for _, matrix in (*proper, *found)], COARSE)
    if scores[len(proper) :].max() < scores[: len(proper)].max():
        return ()
    other = climb(fixed, moving, found, generators, seed)[0]
    if best.evidence > DOUBTFUL * other.evidence or other.score < max(CHANCE, best.score):
        return ()
    return (
        f"The moving image seems to be mirrored: edges agree by {other.score:.0f} standard deviations when it is, by "
        f'{best.score:.0f} when it is not. Pass initialiser={{"name": "search", "mirrored": True}}.',
    )


def _settled(
    fixed: Image, moving: Image, candidates: tuple[Candidate, ...], generators: Mapping[str, Tensor], seed: int
) -> tuple[tuple[Candidate, ...], bool]:
    """The candidates, and whether the first is so far above all others, and so well settled, that no search need go on.

    Settled: others have come to its place. One alone may have stopped on the way; others a little to all sides of it are
    started then, and the best of them takes its place.
    """
    best, *others = candidates
    if not stands_out(candidates, fixed.grid):
        return candidates, False
    if _agreed(candidates, fixed.grid):
        return candidates, True
    around = climb(fixed, moving, _around(best, generators, fixed.grid, AROUND), generators, seed)
    return (_better(best, around[0]), *others), _agreed(around, fixed.grid)


def _better(one: Candidate, other: Candidate) -> Candidate:
    return max(one, other, key=lambda candidate: candidate.evidence)


def stands_out(candidates: Sequence[Candidate], fixed: Grid) -> bool:
    """Whether edges agree, and far more speaks for the first candidate than for any elsewhere; false of a single one."""
    return len(candidates) > 1 and candidates[0].score > CLEAR and _rival(candidates, fixed, RIVAL) is None


def _agreed(candidates: Sequence[Candidate], fixed: Grid) -> bool:
    """Whether another has come to the place of the first."""
    best, *others = candidates
    share, near = SAME
    strong = (other for other in others if other.evidence > share * best.evidence)
    return any(not apart(best.matrix, other.matrix, fixed, near) for other in strong)


def _around(
    best: Candidate, generators: Mapping[str, Tensor], fixed: Grid, far: Mapping[int, Sequence[float]]
) -> list[tuple[str, Tensor]]:
    """The start, and others as `far` as that (by dimension) to either side of it along each generator that keeps shapes."""
    basis = shapely(generators)
    axes = torch.eye(len(basis), dtype=torch.float64)
    off = torch.cat([torch.zeros_like(axes[:1]), *(side * length * axes for length in far[fixed.ndim] for side in (1, -1))])
    matrices = LieTransform(basis, best.matrix.expand(len(off), -1, -1), fixed).matrix(off)
    return [(best.source, matrix) for matrix in matrices.detach()]


def _rival(candidates: Sequence[Candidate], fixed: Grid, share: float) -> Candidate | None:
    """The best start elsewhere, if more than this share of the first one's evidence speaks for it."""
    best, *others = candidates
    strong = (other for other in others if other.evidence > share * best.evidence)
    return next((other for other in strong if apart(best.matrix, other.matrix, fixed)), None)


def doubts(candidates: Sequence[Candidate], fixed: Grid) -> tuple[str, ...]:
    """Why the first candidate may be wrong, in sentences; none where nothing speaks against it."""
    best = candidates[0]
    if best.score < CHANCE:
        return (f"Doubtful: edges agree no more than by chance ({best.score:.0f} standard deviations). Look at the overlay.",)
    if other := _rival(candidates, fixed, DOUBTFUL):
        share = other.evidence / best.evidence
        used = "the one used, which is nearer to the given start" if share > 1 else "the one used"  # `_as_given`
        return (
            f"Doubtful: about as much speaks for a start elsewhere ({other.source}, {share:.0%} "
            f"of the evidence) as for {used}. Look at the overlay.",
        )
    return ()


def apart(one: Tensor, other: Tensor, fixed: Grid, share: float = APART) -> bool:
    """Whether two transforms take the corners of `fixed` to places more than a share of its diagonal apart."""
    return float(corner_distances(one, other, fixed).mean()) > share
