"""Which of the starts of one pair goes first, and what speaks against it: comparisons of what has been refined."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.start.doubts import Doubt, Doubts
from drmime.start.propose.base import corner_distances
from drmime.start.refine import Candidate

# peak ratio from which a look may be enough: of 684 right starts 93 %, of 304 wrong ones 3 % (1.3 to 1.5: 95 to 90, 6 to 2)
CLEAR = 1.4
RIVAL = 0.5  # share of the best one's evidence that no start elsewhere may have then
SAME = (0.7, 0.02)  # share of the evidence, and of the diagonal, with which another start has come to the same place
DOUBTFUL = 0.8  # a start elsewhere for which this share of the best one's evidence speaks
APART = 0.05  # of the fixed image's diagonal: corners further off, on average, are elsewhere
NEARBY = 0.25  # of the fixed image's diagonal, likewise: within it a start is one that the given start may have meant
CHANCE = 1.2  # peak ratio below which a result is doubted: of the same starts 3 % of the right, 86 % of the wrong ones


def as_given(candidates: tuple[Candidate, ...], given: Tensor, fixed: Grid) -> tuple[Candidate, ...]:
    """Where about as much speaks for a start near the given one, that goes first: who gave it may know something."""
    for number, one in enumerate(candidates):
        if one.evidence <= DOUBTFUL * candidates[0].evidence:
            break
        if not apart(one.matrix, given, fixed, NEARBY):
            return (one, *candidates[:number], *candidates[number + 1 :])
    return candidates


def stronger(one: Candidate, other: Candidate) -> Candidate:
    return max(one, other, key=lambda candidate: candidate.evidence)


def stands_out(candidates: Sequence[Candidate], fixed: Grid) -> bool:
    """Whether far more speaks for the first candidate than for any elsewhere; false of a single one."""
    return len(candidates) > 1 and elsewhere(candidates, fixed, RIVAL) is None


def agreed(candidates: Sequence[Candidate], fixed: Grid) -> bool:
    """Whether another has come to the place of the first."""
    best, *others = candidates
    share, near = SAME
    strong = (other for other in others if other.evidence > share * best.evidence)
    return any(not apart(best.matrix, other.matrix, fixed, near) for other in strong)


def elsewhere(candidates: Sequence[Candidate], fixed: Grid, share: float = DOUBTFUL) -> Candidate | None:
    """The best start elsewhere, if more than this share of the first one's evidence speaks for it."""
    best, *others = candidates
    strong = (other for other in others if other.evidence > share * best.evidence)
    return next((other for other in strong if apart(best.matrix, other.matrix, fixed)), None)


def doubts(candidates: Sequence[Candidate], fixed: Grid, ratio: float) -> Doubts:
    """Why the first candidate, with this peak ratio, may be wrong, as other places and the other candidates say."""
    best = candidates[0]
    if ratio < CHANCE:
        return {Doubt.CHANCE: {"ratio": ratio}}
    if other := elsewhere(candidates, fixed):
        return {Doubt.ELSEWHERE: {"source": other.source, "share": other.evidence / best.evidence}}  # above 1: see `as_given`
    return {}


def apart(one: Tensor, other: Tensor, fixed: Grid, share: float = APART) -> bool:
    """Whether two transforms take the corners of `fixed` to places more than a share of its diagonal apart."""
    return float(corner_distances(one, other, fixed).mean()) > share


def starts_of(name: str, found: Any, ndim: int) -> Tensor:
    """What a proposer gave, as float64 on the CPU. shape: (K, D+1, D+1)

    Raises:
        InputError: something else than finite matrices that can be inverted.
    """
    form = f"{name}: expected a tensor of matrices of shape (K, {ndim + 1}, {ndim + 1})"
    if not isinstance(found, Tensor) or found.ndim != 3 or found.shape[1:] != (ndim + 1, ndim + 1) or found.is_complex():
        raise InputError(f"{form}, got {f'shape {tuple(found.shape)}' if isinstance(found, Tensor) else shown(found)}")
    matrices = found.detach().double().cpu()
    if not matrices.isfinite().all():
        raise InputError(f"{form}, got NaN or infinity")
    if bool((torch.linalg.det(matrices[:, :-1, :-1]) == 0).any() or (matrices[:, -1, -1] == 0).any()):
        raise InputError(f"{form} that can be inverted, got a singular one")
    return matrices
