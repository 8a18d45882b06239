"""Comparison of refined candidates: which one is used, and whether it is clearly the best."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.start.propose.base import corner_distances
from drmime.start.refine import Candidate

# least peak ratio with which a start can be settled; 93 % of 684 right starts and 3 % of 304 wrong ones reach it
# (1.3 to 1.5: 95 to 90 % and 6 to 2 %)
CLEAR = 1.4
RIVAL = 0.5  # share of the best one's evidence; a start is settled only if no start elsewhere has more
SAME_EVIDENCE = 0.7  # share of the best one's evidence that another start at the same place needs to confirm it
SAME_PLACE = 0.02  # of the fixed image's diagonal: mean corner distance up to which two starts have reached the same place
CLOSE = 0.8  # share of the best one's evidence; a start elsewhere with more is a rival of the best one
APART = 0.05  # of the fixed image's diagonal: a start is elsewhere if its mean corner distance is larger
NEARBY = 0.25  # of the fixed image's diagonal: a start is near the given one if its mean corner distance is smaller
CHANCE = 1.2  # peak ratio that a reflected start must have: 3 % of the same right starts and 86 % of the wrong ones are below


def as_given(candidates: tuple[Candidate, ...], given: Tensor, fixed: Grid) -> tuple[Candidate, ...]:
    """Candidates (best first), with one near the given start moved to the front if its evidence is about as high.

    The given start is prior knowledge of the user.
    """
    for number, one in enumerate(candidates):
        if one.evidence <= CLOSE * candidates[0].evidence:
            break
        if not apart(one.matrix, given, fixed, NEARBY):
            return (one, *candidates[:number], *candidates[number + 1 :])
    return candidates


def stronger(one: Candidate, other: Candidate) -> Candidate:
    """The candidate with more evidence."""
    return max(one, other, key=lambda candidate: candidate.evidence)


def stands_out(candidates: Sequence[Candidate], fixed: Grid) -> bool:
    """Whether the first candidate has far more evidence than any elsewhere; False if there is only one candidate."""
    return len(candidates) > 1 and not elsewhere(candidates, fixed, RIVAL)


def agreed(candidates: Sequence[Candidate], fixed: Grid) -> bool:
    """Whether another candidate with enough evidence was refined to the same place as the first."""
    least = SAME_EVIDENCE * candidates[0].evidence
    return any(one.evidence > least and away <= SAME_PLACE for one, away in _others(candidates, fixed))


def elsewhere(candidates: Sequence[Candidate], fixed: Grid, share: float = CLOSE) -> list[Candidate]:
    """The candidates elsewhere that have more than `share` of the first one's evidence, best first."""
    least = share * candidates[0].evidence
    return [one for one, away in _others(candidates, fixed) if one.evidence > least and away > APART]


def rivals(candidates: Sequence[Candidate], fixed: Grid) -> tuple[float, ...]:
    """The evidence of the candidates elsewhere, divided by that of the first one, which must be above 0."""
    return tuple(one.evidence / candidates[0].evidence for one, away in _others(candidates, fixed) if away > APART)


def _others(candidates: Sequence[Candidate], fixed: Grid) -> list[tuple[Candidate, float]]:
    """The candidates after the first, with the distances of `apart` from it."""
    best, *others = candidates
    if not others:
        return []
    away = corner_distances(best.matrix, torch.stack([one.matrix for one in others]), fixed).mean(-1)
    return list(zip(others, away.tolist(), strict=True))


def apart(one: Tensor, other: Tensor, fixed: Grid, share: float = APART) -> bool:
    """Whether the mean distance between the corners of `fixed` under two transforms is more than a share of its diagonal."""
    return float(corner_distances(one, other, fixed).mean()) > share


def starts_of(name: str, found: Any, ndim: int) -> Tensor:
    """The matrices that a proposer returned, checked, as float64 on the CPU. shape: (K, D+1, D+1)

    `name` is that of the proposer in messages.

    Raises:
        InputError: not finite, invertible matrices of this shape.
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
