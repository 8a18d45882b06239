"""Which start: what proposes some, how the first is chosen among them, and why it may be wrong.

One look follows another until a start is settled. A quick look at few pixels is enough for two pairs of three: several starts
have come to the same place then, and none elsewhere is half as good. A thorough look follows, and where edges say little of
what it found, further ones: at smaller overlaps, at scales from 1/8 to 8, at pixels of unequal sides. What they leave unclear
is started anew from all around its place and polished by MINE, and what still has a rival, or blocks that agree elsewhere, is
doubted.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drmime.geometry.grid import linear_part, scaled
from drmime.start.choose import (
    CHANCE,
    CLEAR,
    DOUBTFUL,
    RIVAL,
    agreed,
    apart,
    as_given,
    doubts,
    elsewhere,
    stands_out,
    starts_of,
    stronger,
)
from drmime.start.doubts import Doubt, Doubts
from drmime.start.inputs import Inputs
from drmime.start.looks import Look, holds, looks, suited, without_spacing
from drmime.start.plan import Plan
from drmime.start.propose.base import Proposer
from drmime.start.propose.search import Search
from drmime.start.refine import ROUNDS, Candidate, Round, polished, refined
from drmime.start.residuals import residuals
from drmime.start.rivals import Rival, peak_ratio, rival
from drmime.transform.linear import LieModel

AROUND = {2: (0.08,), 3: (0.1,)}  # radians, logarithms of a scale, or half sides, by which starts around one are off it
CLOSER = {2: (0.02, 0.04), 3: (0.05, 0.1)}  # likewise, around a start that a thorough look left unclear
BETWEEN = (0.17, 0.38, 0.5, 0.71)  # of the way between two starts: their peak is one if the evidence is nearly the same there
JOINED = 0.95  # share of the lower one's evidence, everywhere between
STRETCHED = 1.3  # of one direction against another; affine maps between the real pairs here have up to 1.2
SURE = 1.8  # peak ratio below which a look at the mirrored image is worth its time however clear the start is
SETTLED = 0.25  # share of the image's blocks that agree where they lie, without which looks go on; chance is 0.03
# likewise, below which a result is doubted; 0.14 to 0.19 doubt the same real pairs (`experiments/README.md`)
SCATTERED = 0.16
COARSE = ROUNDS[0].levels  # where proper and mirrored starts are compared before any is refined


Tell = Callable[[str, float], None]  # what is being done, in a few words, and how much of it is


@dataclass(frozen=True)
class Ranking:
    """The starts of one pair, the one used first, why it may be wrong, and what else to tell, in sentences."""

    candidates: tuple[Candidate, ...]
    ratio: float  # of the one used, see `peak_ratio`
    doubts: Doubts = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    interrupted: bool = False  # by Ctrl-C: the best so far


def ranking(inputs: Inputs, given: Tensor, plan: Plan, tell: Tell = lambda what, share: None) -> Ranking:
    """All starts of one pair: the given one (D+1, D+1) and what `plan` asks for.

    `tell` hears what is being done. On Ctrl-C the best so far is all there is.
    """
    starts = Starts(inputs, given, tell)
    try:
        return starts.ranking(plan)
    except KeyboardInterrupt:
        return Ranking((starts.best,), starts.ratios.get(starts.best, math.nan), interrupted=True)


class Starts:
    """The starts of one pair while they are looked for. `best` is the best so far, whatever happens."""

    def __init__(self, inputs: Inputs, given: Tensor, tell: Tell) -> None:
        self.inputs, self.given, self.tell = inputs, given, tell
        self.grid = inputs.fixed.grid
        self.best = Candidate("given", given)
        self.ratios: dict[Candidate, float] = {}
        self._held: dict[Candidate, bool] = {}

    def ranking(self, plan: Plan) -> Ranking:
        """See `ranking`."""
        if not plan.refine:
            return Ranking((self.best,), self.ratio(self.best))
        taken = looks(self.inputs.generators, self.grid, self.inputs.moving.grid) if plan.search else []
        found, candidates, enough = self._looked(plan.asked, taken or [Look("the given start")])
        best, *others = as_given(candidates, self.given, self.grid)
        if taken and not enough:
            self.tell("starts around the best one", 0.0)
            self.best = best = stronger(best, self._refined(self._around(best, CLOSER))[0])
            self.tell("polishing the best start", 0.0)
            self.best = best = polished(self.inputs, best)
        doubt = dict(doubts([best, *others], self.grid, self.ratio(best)))
        if not enough:
            doubt |= {**self._shifted(best), **self._scattered(best)}
        if not others and (taken or plan.asked):
            doubt[Doubt.ALONE] = {}
        if taken and not (enough and self.ratio(best) >= SURE):
            doubt |= self._mirrored(found, best)
        return Ranking((best, *others), self.ratio(best), doubt, self._stretch_noted(best))

    def _looked(
        self, asked: Sequence[tuple[str, Proposer]], taken: Sequence[Look]
    ) -> tuple[Sequence[tuple[str, Tensor]], tuple[Candidate, ...], bool]:
        """Looks until one is enough: what the last one found, that refined, and whether it was enough.

        What the user asked for, and the best of each look that was not enough, is among what the next one refines.
        """
        first = [("given", self.given), *self._proposed(asked)]
        bests: list[Candidate] = []
        found, candidates, enough = first, tuple[Candidate, ...](), False
        for look in taken:
            if look.further and self._sure(candidates):
                break
            found = [*first, *((one.source, one.matrix) for one in bests), *self._proposed(look.proposers, look.name)]
            self.tell(f"{look.name}: refining what it found", 0.0)
            candidates, enough = self._settled(self._refined(found, look.rounds))
            self.best = candidates[0]
            enough = enough and (look.further or not self._stretched(self.best))
            if enough:
                break
            if self.best.source not in dict(first):  # what comes twice to one place would seem to be confirmed
                bests = [one for one in bests if apart(one.matrix, self.best.matrix, self.grid)] + [self.best]
        return found, candidates, enough

    def _proposed(self, proposers: Sequence[tuple[str, Proposer]], what: str = "") -> list[tuple[str, Tensor]]:
        """What each of them finds, with its name; `what` is how that is called."""
        found: list[tuple[str, Tensor]] = []
        for name, find in proposers:
            self.tell(what or name, 0.0)
            heard = [functools.partial(self.tell, what or name)] if isinstance(find, Search) else []
            matrices = find(self.inputs.fixed, self.inputs.moving, *heard)
            checked = starts_of(f"start {name}", matrices, self.grid.ndim)
            found.extend((name, scaled(matrix, self.grid)) for matrix in checked)
        return found

    def _refined(self, found: Sequence[tuple[str, Tensor]], rounds: Sequence[Round] = ROUNDS) -> tuple[Candidate, ...]:
        return refined(self.inputs, found, rounds)

    def _settled(self, candidates: tuple[Candidate, ...]) -> tuple[tuple[Candidate, ...], bool]:
        """The candidates, and whether the first is so far above all others, and so well settled, that no search need go on.

        Settled: others have come to its place. One alone may have stopped on the way; others a little to all sides of it are
        started then, and the best of them takes its place.
        """
        count = len(candidates)
        best, *others = candidates = self._peaks(candidates)
        alone = count > len(candidates) == 1
        if not (alone or stands_out(candidates, self.grid)) or not self.ratio(best) >= CLEAR:
            return candidates, False
        if count > len(candidates) or agreed(candidates, self.grid):
            return candidates, self._holds(best)
        around = self._refined(self._around(best, AROUND))
        better = stronger(best, around[0])
        return (better, *others), agreed(around, self.grid) and self._holds(better)

    def _sure(self, candidates: Sequence[Candidate]) -> bool:
        """Whether nothing speaks against the first candidate, so that others are not looked for."""
        best = candidates[0]
        return not self._stretched(best) and elsewhere(candidates, self.grid) is None and self._holds(best)

    def _holds(self, best: Candidate) -> bool:
        """Whether edges agree far better than at wrong places, no shift fits about as well, and enough of the image's blocks
        agree where they lie.
        """
        if best not in self._held:
            clear = self.ratio(best) >= CLEAR and self._rival(best) is None
            self._held[best] = clear and not residuals(self.inputs.reduced(best.matrix), best.matrix).near < SETTLED
        return self._held[best]

    def ratio(self, best: Candidate) -> float:
        """Its peak ratio, counted once."""
        if best not in self.ratios:
            turned = holds(self.inputs.generators, "rotation")
            self.ratios[best] = peak_ratio(self.inputs.reduced(best.matrix), best.matrix, turned)
        return self.ratios[best]

    def _scattered(self, best: Candidate) -> Doubts:
        """Whether blocks of the image agree elsewhere."""
        near = residuals(self.inputs.reduced(best.matrix), best.matrix).near
        return {Doubt.SCATTERED: {"near": near}} if near < SCATTERED else {}

    def _stretched(self, best: Candidate) -> bool:
        """Whether a start has a shape that pixels of unequal sides may be to blame for, of images without spacing."""
        unknown = self.grid.ndim == 2 and without_spacing(self.grid, self.inputs.moving.grid)
        return unknown and self._stretch(best) > STRETCHED

    def _stretch(self, candidate: Candidate) -> float:
        """By how much a start stretches one direction against another."""
        stretches = torch.linalg.svdvals(linear_part(candidate.matrix, self.grid))
        return float(stretches[0] / stretches[-1])

    def _stretch_noted(self, best: Candidate) -> tuple[str, ...]:
        """What to tell of a start's shape."""
        if not self._stretched(best):
            return ()
        return (
            f"The start stretches one direction against another by {self._stretch(best):.2f}. If pixels have unequal sides, "
            "pass fixed_spacing and moving_spacing.",
        )

    def _peaks(self, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """Without those that stand elsewhere on the first one's own peak, which is broad where an image is smooth or small."""
        best, *others = candidates
        strong = [one for one in others if one.evidence > RIVAL * best.evidence and apart(best.matrix, one.matrix, self.grid)]
        if not strong:
            return candidates
        between = [torch.lerp(best.matrix, one.matrix, share) for one in strong for share in BETWEEN]
        judged = self.inputs.reduced(best.matrix).judged(torch.stack(between))[1]
        evidence = judged.view(len(strong), -1).amin(1).tolist()
        joined = {one for one, least in zip(strong, evidence, strict=True) if least > JOINED * one.evidence}
        return tuple(one for one in candidates if one not in joined)

    def _rival(self, best: Candidate) -> Rival | None:
        """Another place by a shift, if the group has all shifts."""
        if not holds(self.inputs.generators, "translation"):
            return None
        return rival(self.inputs.reduced(best.matrix), best.matrix)

    def _shifted(self, best: Candidate) -> Doubts:
        """Whether a shift of the start fits about as well."""
        if (other := self._rival(best)) is None:
            return {}
        shift = [float(f"{value:.3g}") for value in other.shift.tolist()]
        return {Doubt.SHIFTED: {"by": other.by, "shift": shift, "share": other.share}}

    def _mirrored(self, proper: Sequence[tuple[str, Tensor]], best: Candidate) -> Doubts:
        """Whether a reflected start fits far better than the best of the `proper` ones."""
        found = self._proposed(suited(self.inputs.generators, mirrored=True), "a search of the mirrored image")
        if not found:
            return {}
        matrices = torch.stack([matrix for _, matrix in (*proper, *found)])
        scores = self.inputs.reduced(best.matrix).coarsest(COARSE).judged(matrices)[0]
        if scores[len(proper) :].max() < scores[: len(proper)].max():
            return {}
        other = self._refined(found)[0]
        ratio, mirrored = self.ratio(best), self.ratio(other)
        if best.evidence > DOUBTFUL * other.evidence or not mirrored >= max(CHANCE, ratio):
            return {}
        return {Doubt.MIRRORED: {"mirrored": mirrored, "ratio": ratio}}

    def _around(self, best: Candidate, far: Mapping[int, Sequence[float]]) -> list[tuple[str, Tensor]]:
        """The start, and others as `far` as that (by dimension) to either side of it along each generator that keeps shapes."""
        basis = self.inputs.similarity
        axes = torch.eye(len(basis), dtype=torch.float64)
        steps = [torch.zeros_like(axes[:1]), *(side * length * axes for length in far[self.grid.ndim] for side in (1, -1))]
        off = torch.cat(steps)
        model = LieModel(basis, best.matrix.expand(len(off), -1, -1), self.grid, self.inputs.moving.grid)
        return [(best.source, matrix) for matrix in model.matrices(off)]
