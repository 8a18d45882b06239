"""What the search for a start asks of the images of a pair, for several pairs at once: `drmime.start.together` calls these.

Each function takes one request per pair and gives one answer for each, in their order.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from drmime.start.inputs import Inputs, at_scales
from drmime.start.looks import spans
from drmime.start.propose.search import Search
from drmime.start.refine import Candidate, Polish, Round, polished, refined
from drmime.start.residuals import residuals
from drmime.start.rivals import Rival, peak_ratio, rival
from drmime.start.score import Reduced
from drmime.start.together import in_groups
from drmime.transform.linear import MatrixTransform

ALL = 100  # levels, more than any reduced pair has


class Place(NamedTuple):
    """A start of a pair."""

    inputs: Inputs
    matrix: Tensor  # shape: (D+1, D+1), moving_from_fixed, world


class Several(NamedTuple):
    """Starts of a pair, to compare on the reduced images that suit one of them."""

    inputs: Inputs
    matrix: Tensor  # the one; shape: (D+1, D+1)
    matrices: Tensor  # all; shape: (K, D+1, D+1)
    levels: int = ALL  # so many of the coarsest are used


class Proposals(NamedTuple):
    """Starts of a pair to refine, with their sources."""

    inputs: Inputs
    found: Sequence[tuple[str, Tensor]]
    rounds: Sequence[Round]


class Searching(NamedTuple):
    """A search in the images of a pair, and what is told the share of it that is done."""

    inputs: Inputs
    search: Search
    tell: Callable[[float], None]


def scores(asked: Sequence[Several]) -> list[tuple[Tensor, Tensor]]:
    """Score and evidence of starts (`Reduced.score_and_evidence`), on the CPU. shape: (K,) each"""

    def scored(small: Reduced, some: Sequence[Several]) -> list[tuple[Tensor, Tensor]]:
        most = max(len(one.matrices) for one in some)
        padded = [torch.cat([one.matrices, one.matrices[:1].expand(most - len(one.matrices), -1, -1)]) for one in some]
        found = torch.stack(small.coarsest(some[0].levels).score_and_evidence(torch.stack(padded))).cpu()
        counts = [len(one.matrices) for one in some]
        return [(score[:count], known[:count]) for count, score, known in zip(counts, *found, strict=True)]

    return at_scales(asked, scored, lambda one: one.levels)


def ratios(asked: Sequence[Place]) -> list[float]:
    """The peak ratio of each start."""
    turned = spans(asked[0].inputs.generators, "rotation")
    return at_scales(asked, lambda small, some: peak_ratio(small, _transforms(some), turned))


def other_places(asked: Sequence[Place]) -> list[Rival | None]:
    """Another place that a shift leads to and that fits about as well as each start."""
    return at_scales(asked, lambda small, some: rival(small, _transforms(some)))


def in_place(asked: Sequence[Place]) -> list[float]:
    """The share of blocks that agree best where each start puts them (`Residuals.near`)."""
    return at_scales(asked, lambda small, some: [one.near for one in residuals(small, _transforms(some))])


def refinements(asked: Sequence[Proposals]) -> list[tuple[Candidate, ...]]:
    """The starts of each pair, refined, by decreasing evidence."""

    def compute(some: Sequence[Proposals]) -> list[tuple[Candidate, ...]]:
        return refined([one.inputs for one in some], [one.found for one in some], some[0].rounds)

    return in_groups(asked, lambda one: tuple(one.rounds), compute)


def polishes(asked: Sequence[Polish]) -> list[Candidate]:
    """Each start, refined by MINE."""
    return polished([one.inputs for one in asked], [one.best for one in asked])


def searches(asked: Sequence[Searching]) -> list[Tensor]:
    """What each search proposes. shape: (K, D+1, D+1)"""

    def compute(some: Sequence[Searching]) -> list[Tensor]:
        return some[0].search.many([one.inputs.fixed for one in some], [one.inputs.moving for one in some], some[0].tell)

    return in_groups(asked, lambda one: id(one.search), compute)


def _transforms(asked: Sequence[Place]) -> list[MatrixTransform]:
    return [MatrixTransform(one.matrix) for one in asked]


ORDER = (scores, ratios, other_places, in_place, refinements, polishes, searches)  # the cheapest first
