"""The looks (stages of the search for a start): a quick and a thorough one, and further ones if no start is settled by then."""

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

QUICK: dict[int, dict[str, Any]] = {  # options of `Search`, by dimension; poses are dense, so several come near the right one
    2: {"size": 64, "step": 5.0, "scales": (0.85, 1.0, 1.18), "count": 10, "apart": 0.03},
    3: {"scales": (1.0,)},
}
# few scales in 3-D, since most volumes have a spacing
THOROUGH: dict[int, dict[str, Any]] = {2: {}, 3: {"scales": (0.85, 1.0, 1.18), "step": 20.0}}
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
    """One stage of the search: what proposes starts, and how they are refined."""

    name: str  # shown to observers
    proposers: Sequence[tuple[str, Proposer]] = ()
    rounds: Sequence[Round] = ROUNDS
    further: bool = False  # skipped if the best start so far is well supported (`Starts._skips_further`)


def looks(generators: Mapping[str, Tensor], fixed: Grid, moving: Grid) -> list[Look]:
    """The looks of "auto" for a group and images on these grids, the quickest first; none for a group that lacks a shift.

    Small overlaps, other scales and pixels of unequal sides are searched in 2-D only; the last two only if no spacing is given
    and the group has a scale or a stretch.
    """
    thorough = suited(generators)
    if not thorough:
        return []
    made = [Look("a quick search", suited(generators, quick=True), QUICK_ROUNDS), Look("a thorough search", thorough)]
    if fixed.ndim == 2:
        made.append(Look("a search of small overlaps", _searches(generators, SMALL_OVERLAP), further=True))
        unknown = without_spacing(fixed, moving)
        if unknown and spans(generators, "scale"):
            made.append(Look("a search of all scales", _searches(generators, ANY_SCALE), further=True))
        if unknown and spans(generators, "stretch"):
            made.append(Look("a search of unequal pixels", _searches(generators, ANY_PIXELS), further=True))
    return made


def without_spacing(fixed: Grid, moving: Grid) -> bool:
    """Whether all spacings are 1, as for images without spacing: their relative scale and pixel shapes are then unknown."""
    return bool((fixed.spacing == 1).all() and (moving.spacing == 1).all())


def suited(generators: Mapping[str, Tensor], mirrored: bool = False, quick: bool = False) -> list[tuple[str, Proposer]]:
    """The proposers that suit a group, by name: a search limited to the rotations and scales that the group has.

    In 2-D, matched corners are added if it has both; they find some starts that a search at low resolution misses. Empty for a
    group that lacks a shift, since a search tries all shifts.

    `quick`: the first look, at fewer pixels and without corners. `mirrored`: a quick look at reflected poses only.
    """
    if not spans(generators, "translation"):
        return []
    ndim = len(next(iter(generators.values()))) - 1
    quick = quick or mirrored
    made = _searches(generators, (QUICK if quick else THOROUGH)[ndim] | {"mirrored": mirrored})
    if not quick and ndim == 2 and spans(generators, "rotation") and spans(generators, "scale"):
        made.append(("features", Features()))
    return made


def _searches(generators: Mapping[str, Tensor], options: Mapping[str, Any]) -> list[tuple[str, Proposer]]:
    """A search with these options, limited to the rotations and scales that the group has."""
    scales = {} if spans(generators, "scale") else {"scales": (1.0,)}
    return [("search", Search(rotate=spans(generators, "rotation"), **(dict(options) | scales)))]


def spans(generators: Mapping[str, Tensor], block: str) -> bool:
    """Whether the generators of a group span those of a block of `lie.GROUPS`, such as "rotation"."""
    own = torch.stack(list(generators.values()))
    both = torch.cat([own, torch.stack(list(lie.generators([block], own.shape[-1] - 1).values()))])
    first, second = (torch.linalg.matrix_rank(matrices.flatten(1)) for matrices in (own, both))
    return bool(first == second)
