"""What is searched for a start: quick and thorough looks for every pair, and further ones where these find nothing clear."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drmime.geometry import lie
from drmime.geometry.grid import Grid
from drmime.start.propose.base import Proposer
from drmime.start.propose.features import Features
from drmime.start.propose.search import Search
from drmime.start.refine import QUICK_ROUNDS, ROUNDS, Round

QUICK: dict[int, dict[str, Any]] = {  # a first look, by dimension: so many poses that several candidates lie near the right one
    2: {"size": 64, "step": 5.0, "scales": (0.85, 1.0, 1.18), "count": 10, "apart": 0.03},
    3: {"scales": (1.0,)},
}
THOROUGH: dict[int, dict[str, Any]] = {2: {}, 3: {"scales": (0.85, 1.0, 1.18), "step": 20.0}}  # most volumes have a spacing
SMALL_OVERLAP: dict[str, Any] = {"least_overlap": 0.1, "scales": (0.85, 1.0, 1.18)}
ANY_SCALE: dict[str, Any] = {"size": 128, "least_overlap": 0.3, "scales": tuple(1.25**k for k in range(-9, 10))}
ANY_PIXELS: dict[str, Any] = {
    "size": 64,
    "step": 10.0,
    "largest_rotation": 30,
    "scales": (0.7, 1.0, 1.4),
    "aspects": (2.0, 4.0),
    "least_overlap": 0.2,
}


@dataclass(frozen=True)
class Look:
    """What proposes starts, and how they are refined."""

    name: str
    proposers: Sequence[tuple[str, Proposer]] = ()
    rounds: Sequence[Round] = ROUNDS
    further: bool = False  # not taken where edges agree well enough


def looks(generators: Mapping[str, Tensor], fixed: Grid, moving: Grid) -> list[Look]:
    """What "auto" is for a group and images on these grids, the quickest first; none for a group that lacks a shift.

    Small overlaps, other scales and pixels of unequal sides are searched in two dimensions, the last two where no spacing is
    given and the group can follow.
    """
    thorough = suited(generators)
    if not thorough:
        return []
    made = [Look("a quick search", suited(generators, quick=True), QUICK_ROUNDS), Look("a thorough search", thorough)]
    if fixed.ndim == 2:
        made.append(Look("a search of small overlaps", _searches(generators, SMALL_OVERLAP), further=True))
        unknown = without_spacing(fixed, moving)
        if unknown and holds(generators, "scale"):
            made.append(Look("a search of all scales", _searches(generators, ANY_SCALE), further=True))
        if unknown and holds(generators, "stretch"):
            made.append(Look("a search of unequal pixels", _searches(generators, ANY_PIXELS), further=True))
    return made


def without_spacing(fixed: Grid, moving: Grid) -> bool:
    """Whether both images came without spacing, or with one that says nothing: scales and sides of pixels are unknown."""
    return bool((fixed.spacing == 1).all() and (moving.spacing == 1).all())


def suited(generators: Mapping[str, Tensor], mirrored: bool = False, quick: bool = False) -> list[tuple[str, Proposer]]:
    """A search without the rotations or scales that a group lacks; where it has both, in 2-D, matched corners as well, which
    find some of what a search at low resolution misses. Nothing for a group that lacks a shift: a search tries them all.

    `quick`: the first look, at fewer pixels and without corners. `mirrored`: such a look at reflected poses instead of proper
    ones.
    """
    if not holds(generators, "translation"):
        return []
    ndim = len(next(iter(generators.values()))) - 1
    quick = quick or mirrored
    made = _searches(generators, (QUICK if quick else THOROUGH)[ndim] | {"mirrored": mirrored})
    if not quick and ndim == 2 and holds(generators, "rotation") and holds(generators, "scale"):
        made.append(("features", Features()))
    return made


def _searches(generators: Mapping[str, Tensor], options: Mapping[str, Any]) -> list[tuple[str, Proposer]]:
    """A search with some options, without the rotations or scales that the group lacks."""
    scales = {} if holds(generators, "scale") else {"scales": (1.0,)}
    return [("search", Search(rotate=holds(generators, "rotation"), **(dict(options) | scales)))]


def holds(generators: Mapping[str, Tensor], block: str) -> bool:
    """Whether a group moves along all that a block of `lie.GROUPS` does."""
    own = torch.stack(list(generators.values()))
    both = torch.cat([own, torch.stack(list(lie.generators([block], own.shape[-1] - 1).values()))])
    first, second = (torch.linalg.matrix_rank(matrices.flatten(1)) for matrices in (own, both))
    return bool(first == second)
