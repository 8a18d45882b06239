"""The search for the starts of a batch of pairs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from drmime.image.image import Image
from drmime.optimise import Observer
from drmime.part import Part
from drmime.prepare import Images
from drmime.start.inputs import Inputs, side_by_side
from drmime.start.plan import Plan
from drmime.start.propose.base import pyramid
from drmime.start.ranking import Ranking, ranking
from drmime.start.refine import Candidate


def inputs_of(pairs: Images, basis: Mapping[str, Tensor], seed: int, graphs: bool) -> list[Inputs]:
    """What the search uses of each pair of a batch; `basis`: generators of the transform."""
    return [Inputs(*two, basis, seed, graphs) for two in zip(_singles(pairs.fixed), _singles(pairs.moving), strict=True)]


def rankings(inputs: Sequence[Inputs], given: Tensor, plan: Plan, observers: Sequence[Any], part: Part) -> list[Ranking]:
    """The starts of each pair. After Ctrl-C: the best so far of pairs whose search has begun, the given ones of the others."""
    found: list[Ranking] = []
    watching = [watcher for watcher in observers if isinstance(watcher, Observer)]
    size = side_by_side(inputs)
    for first in range(0, len(inputs), size):
        some = slice(first, first + size)
        if any(one.interrupted for one in found):
            found += map(unsearched, given[some])
            continue
        which = _which(part, first, len(inputs[some]))

        def tell(what: str, share: float, which: str = which) -> None:
            for watcher in watching:
                watcher.starting(which + what, share)

        found += ranking(inputs[some], list(given[some]), plan, tell)
    return found


def unsearched(start: Tensor) -> Ranking:
    """The given start after Ctrl-C, without a search."""
    return Ranking((Candidate("given", start),), math.nan, interrupted=True)


def _which(part: Part, first: int, count: int) -> str:
    """Which pairs are searched, for observers: `count` of them from number `first` of the part on."""
    if part.count == 1:
        return ""
    number = part.done + first + 1
    return f"pair {number} of {part.count}, " if count == 1 else f"pairs {number} to {number + count - 1} of {part.count}, "


def _singles(images: Image) -> list[Image]:
    """The images of a batch one by one, with the levels of its pyramid, which the optimisation uses as well."""
    if len(images.data) == 1:
        return [images]
    pyramid(images)
    return [images.pair(number) for number in range(len(images.data))]
