"""The search for a start: looks (`drmime.start.looks`) are taken one after the other until a start is settled.

A quick look at few pixels is enough for two pairs of three: several candidates were refined to the same place, and none
elsewhere has half of their evidence. Otherwise a thorough look follows, and if its best start is not well supported, further
looks: at smaller overlaps, at scales from 1/8 to 8, at pixels of unequal sides. If the best start is still not settled, further
starts around it are refined and the best one is refined by MINE. Whether the result is right is for `drmime.verdict`.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drmime.geometry.grid import linear_part, scaled
from drmime.start import questions
from drmime.start.choose import (
    CHANCE,
    CLEAR,
    CLOSE,
    RIVAL,
    agreed,
    apart,
    as_given,
    elsewhere,
    rivals,
    stands_out,
    starts_of,
    stronger,
)
from drmime.start.doubts import Doubt, Doubts, Figures
from drmime.start.inputs import Inputs
from drmime.start.looks import Look, looks, mirrored_search, spans, without_spacing
from drmime.start.plan import Plan
from drmime.start.propose.base import Proposer
from drmime.start.propose.search import Search
from drmime.start.refine import ROUNDS, Candidate, Polish, Round
from drmime.start.rivals import Rival
from drmime.start.together import Ask, together
from drmime.transform.linear import LieModel

# offsets of starts around another one, by dimension: radians, logarithms of a scale, or halves of the longest side
AROUND = {2: (0.08,), 3: (0.1,)}
CLOSER = {2: (0.02, 0.04), 3: (0.05, 0.1)}  # likewise, around a start that is not settled after all looks
BETWEEN = (0.17, 0.38, 0.5, 0.71)  # positions between two starts, as shares of the way, where the evidence is compared
JOINED = 0.95  # share of the lower evidence of two starts; they are on one peak if it is higher at all these positions
STRETCHED = 1.3  # largest to smallest stretch of a start, above which it is suspect; real affine pairs here have up to 1.2
SURE = 1.8  # peak ratio below which the mirrored image is searched as well, even if the start is settled
SETTLED = 0.25  # least share of the image's blocks that agree in place for a start to be settled; by chance 0.03
COARSE = ROUNDS[0].levels  # levels on which proper and mirrored starts are compared before any is refined


Tell = Callable[[str, float], None]  # called with a name of the current stage and the share of it that is done


@dataclass(frozen=True)
class Ranking:
    """The starts of one pair, and reasons why the one used may be wrong."""

    candidates: tuple[Candidate, ...]  # the one used first
    ratio: float  # peak ratio of the one used, see `peak_ratio`
    doubts: Doubts = field(default_factory=dict)
    rivals: tuple[float, ...] | None = None  # evidence of candidates elsewhere by that of the one used; None without others
    notes: tuple[str, ...] = ()  # further remarks for the user, in sentences
    interrupted: bool = False  # by Ctrl-C: `candidates` holds the best start so far


def ranking(
    inputs: Sequence[Inputs], given: Sequence[Tensor], plan: Plan, tell: Tell = lambda what, share: None
) -> list[Ranking]:
    """Search for the starts of pairs whose images have equal grids: of each the given one (D+1, D+1, moving_from_fixed, world)
    and those that `plan` asks for.

    The pairs are searched side by side (`drmime.start.together`); each has the starts that it has alone. `tell` is called with
    the name of each stage and the share of it that is done. After Ctrl-C the result of a pair that is not finished holds only
    the best start so far.
    """
    fixed, moving = inputs[0].fixed.grid, inputs[0].moving.grid
    taken = looks(inputs[0].generators, fixed, moving) if plan.search else []
    mirrored = mirrored_search(inputs[0].generators)
    searched = [Starts(*one, tell, mirrored) for one in zip(inputs, given, strict=True)]
    return together([one.ranking(plan, taken) for one in searched], questions.ORDER, lambda number: searched[number].so_far())


class Starts:
    """The search for the start of one pair. `best` is the best start so far."""

    def __init__(self, inputs: Inputs, given: Tensor, tell: Tell, mirrored: Sequence[tuple[str, Proposer]] = ()) -> None:
        """`mirrored`: what proposes reflected starts."""
        self.inputs, self.given, self.tell, self.mirrored = inputs, given, tell, mirrored
        self.grid = inputs.fixed.grid
        self.best = Candidate("given", given)
        self.ratios: dict[Candidate, float] = {}
        self._support: dict[Candidate, bool] = {}

    def so_far(self) -> Ranking:
        """The best start so far, after Ctrl-C."""
        return Ranking((self.best,), self.ratios.get(self.best, math.nan), interrupted=True)

    async def ranking(self, plan: Plan, taken: Sequence[Look]) -> Ranking:
        """See `ranking`; `taken`: the looks to take, if none is enough."""
        if not plan.refine:
            return Ranking((self.best,), await self.ratio(self.best))
        found, candidates, enough = await self._search(plan.asked, taken or [Look("the given start")])
        best, *others = as_given(candidates, self.given, self.grid)
        if taken and not enough:
            self.tell("starts around the best one", 0.0)
            self.best = best = stronger(best, (await self._refined(self._around(best, CLOSER)))[0])
            self.tell("polishing the best start", 0.0)
            self.best = best = await Ask(questions.polishes, Polish(self.inputs, best))
        doubt = dict[Doubt, Figures]()
        if not others and (taken or plan.asked):
            doubt[Doubt.ALONE] = {}
        if taken and not (enough and await self.ratio(best) >= SURE):
            doubt |= await self._mirrored(found, best)
        known = best.evidence > 0 and found[1:]
        compared = rivals([best, *others], self.grid) if known else None
        return Ranking((best, *others), await self.ratio(best), doubt, compared, self._stretch_noted(best))

    async def _search(
        self, asked: Sequence[tuple[str, Proposer]], taken: Sequence[Look]
    ) -> tuple[Sequence[tuple[str, Tensor]], tuple[Candidate, ...], bool]:
        """Take looks until a start is settled: the last look's proposals, its candidates (best first), and whether it settled.

        Each look also refines the proposals that the user asked for and the best starts of the looks before it.
        """
        first = [("given", self.given), *await self._proposed(asked)]
        bests: list[Candidate] = []
        found, candidates, enough = first, tuple[Candidate, ...](), False
        for look in taken:
            if look.further and await self._skips_further(candidates):
                break
            proposed = await self._proposed(look.proposers, look.name)
            found = [*first, *((one.source, one.matrix) for one in bests), *proposed]
            self.tell(f"{look.name}: refining what it found", 0.0)
            candidates, enough = await self._settle(await self._refined(found, look.rounds))
            self.best = candidates[0]
            enough = enough and (look.further or not self._stretched(self.best))
            if enough:
                break
            if self.best.source not in dict(first):  # proposed again, it would reach the same place twice and seem confirmed
                bests = [one for one in bests if apart(one.matrix, self.best.matrix, self.grid)] + [self.best]
        return found, candidates, enough

    async def _proposed(self, proposers: Sequence[tuple[str, Proposer]], what: str = "") -> list[tuple[str, Tensor]]:
        """The proposals of each proposer, with its name; `what` is the stage's name for `tell`, by default the proposer's."""
        found: list[tuple[str, Tensor]] = []
        for name, find in proposers:
            self.tell(what or name, 0.0)
            tell = functools.partial(self.tell, what or name)
            if type(find) is Search:  # a class of its own may do something else
                matrices = await Ask(questions.searches, questions.Searching(self.inputs, find, tell))
            else:
                matrices = find(*self.inputs.on_cpu, *([tell] if isinstance(find, Search) else []))
            checked = starts_of(f"start {name}", matrices, self.grid.ndim)
            found.extend((name, matrix) for matrix in scaled(checked, self.grid))
        return found

    async def _refined(self, found: Sequence[tuple[str, Tensor]], rounds: Sequence[Round] = ROUNDS) -> tuple[Candidate, ...]:
        return await Ask(questions.refinements, questions.Proposals(self.inputs, found, rounds))

    async def _settle(self, candidates: tuple[Candidate, ...]) -> tuple[tuple[Candidate, ...], bool]:
        """The candidates without duplicates of the first one's peak, and whether the first is settled, so that no look follows.

        It is settled if it stands out, others were refined to its place, and it is well supported. If it alone reached its
        place, its refinement may have ended early: starts around it are refined then, and the best of all takes its place.
        """
        count = len(candidates)
        best, *others = candidates = await self._distinct_peaks(candidates)
        alone = count > len(candidates) == 1
        if not (alone or stands_out(candidates, self.grid)) or not await self.ratio(best) >= CLEAR:
            return candidates, False
        if count > len(candidates) or agreed(candidates, self.grid):
            return candidates, await self._supported(best)
        around = await self._refined(self._around(best, AROUND))
        better = stronger(best, around[0])
        return (better, *others), agreed(around, self.grid) and await self._supported(better)

    async def _skips_further(self, candidates: Sequence[Candidate]) -> bool:
        """Whether further looks are skipped: the first candidate is well supported, without rival or suspect stretch."""
        best = candidates[0]
        return not self._stretched(best) and not elsewhere(candidates, self.grid) and await self._supported(best)

    async def _supported(self, best: Candidate) -> bool:
        """Whether a start is well supported: high peak ratio, no other shift fits about as well, and enough of the image's
        blocks agree best where the start puts them.
        """
        if best not in self._support:
            clear = await self.ratio(best) >= CLEAR and await self._rival(best) is None
            self._support[best] = clear and not await Ask(questions.in_place, self._at(best)) < SETTLED
        return self._support[best]

    async def ratio(self, best: Candidate) -> float:
        """The peak ratio of a start; computed once for each."""
        if best not in self.ratios:
            self.ratios[best] = await Ask(questions.ratios, self._at(best))
        return self.ratios[best]

    def _at(self, start: Candidate) -> questions.Place:
        return questions.Place(self.inputs, start.matrix)

    def _stretched(self, best: Candidate) -> bool:
        """Whether a start of 2-D images without spacing stretches so much that unequal pixel sides are a likely cause."""
        unknown = self.grid.ndim == 2 and without_spacing(self.grid, self.inputs.moving.grid)
        return unknown and self._stretch(best) > STRETCHED

    def _stretch(self, candidate: Candidate) -> float:
        """The ratio of a start's largest to its smallest stretch."""
        stretches = torch.linalg.svdvals(linear_part(candidate.matrix, self.grid))
        return float(stretches[0] / stretches[-1])

    def _stretch_noted(self, best: Candidate) -> tuple[str, ...]:
        """A note on the stretch of a start, if it is suspect."""
        if not self._stretched(best):
            return ()
        return (
            f"The start stretches one direction against another by {self._stretch(best):.2f}. If pixels have unequal sides, "
            "pass fixed_spacing and moving_spacing.",
        )

    async def _distinct_peaks(self, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """The candidates without those elsewhere on the peak of the first; peaks of smooth or small images are broad."""
        best, strong = candidates[0], elsewhere(candidates, self.grid, RIVAL)
        if not strong:
            return candidates
        between = [torch.lerp(best.matrix, one.matrix, share) for one in strong for share in BETWEEN]
        _, evidence = await Ask(questions.scores, questions.Several(self.inputs, best.matrix, torch.stack(between)))
        lowest = evidence.view(len(strong), -1).amin(1).tolist()
        joined = {one for one, least in zip(strong, lowest, strict=True) if least > JOINED * one.evidence}
        return tuple(one for one in candidates if one not in joined)

    async def _rival(self, best: Candidate) -> Rival | None:
        """Another place that a shift leads to and that fits about as well, if the group has all shifts."""
        if not spans(self.inputs.generators, "translation"):
            return None
        return await Ask(questions.other_places, self._at(best))

    async def _mirrored(self, proper: Sequence[tuple[str, Tensor]], best: Candidate) -> Doubts:
        """The doubt that the moving image is mirrored, if a reflected start fits far better than all `proper` ones."""
        found = await self._proposed(self.mirrored, "a search of the mirrored image")
        if not found:
            return {}
        matrices = torch.stack([matrix for _, matrix in (*proper, *found)])
        compared, _ = await Ask(questions.scores, questions.Several(self.inputs, best.matrix, matrices, COARSE))
        if compared[len(proper) :].max() < compared[: len(proper)].max():
            return {}
        other = (await self._refined(found))[0]
        ratio, mirrored = await self.ratio(best), await self.ratio(other)
        if best.evidence > CLOSE * other.evidence or not mirrored >= max(CHANCE, ratio):
            return {}
        return {Doubt.MIRRORED: {"mirrored": mirrored, "ratio": ratio}}

    def _around(self, best: Candidate, far: Mapping[int, Sequence[float]]) -> list[tuple[str, Tensor]]:
        """The start, and others at distances `far` (by dimension), both ways along each generator of `Inputs.similarity`."""
        basis = self.inputs.similarity
        axes = torch.eye(len(basis), dtype=torch.float64)
        steps = [torch.zeros_like(axes[:1]), *(side * length * axes for length in far[self.grid.ndim] for side in (1, -1))]
        off = torch.cat(steps)
        model = LieModel(basis, best.matrix.expand(len(off), -1, -1), self.grid, self.inputs.moving.grid)
        return [(best.source, matrix) for matrix in model.matrices(off)]
