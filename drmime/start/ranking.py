"""Which start: what proposes some, how the first is chosen among them, and why it may be wrong.

One look follows another until a start is settled. A quick look at few pixels is enough for two pairs of three: several starts
have come to the same place then, and none elsewhere is half as good. A thorough look follows, and where edges say little of
what it found, further ones: at smaller overlaps, at scales from 1/8 to 8, at pixels of unequal sides. What they leave unclear
is started anew from all around its place and polished by MINE, and what still has a rival, or blocks that agree elsewhere, is
said to be doubtful.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drmime.geometry.grid import Grid, linear_part, scaled
from drmime.image.image import Image
from drmime.start.choose import CHANCE, DOUBTFUL, RIVAL, agreed, apart, as_given, doubts, stands_out, starts_of, stronger
from drmime.start.doubts import Doubt, Doubts
from drmime.start.looks import Look, holds, looks, suited, without_spacing
from drmime.start.propose import Initialiser, nothing
from drmime.start.propose.search import Search
from drmime.start.refine import RUNGS, Candidate, Rung, climb, polished, reduced_pair, scores_at, shapely
from drmime.start.residuals import residuals
from drmime.start.rivals import Rival, rival
from drmime.start.score import Reduced
from drmime.transform.linear import LieTransform

AROUND = {2: (0.08,), 3: (0.1,)}  # radians, logarithms of a scale, or half sides, by which starts around one are off it
CLOSER = {2: (0.02, 0.04), 3: (0.05, 0.1)}  # likewise, around a start that a thorough look left unclear
BETWEEN = (0.17, 0.38, 0.5, 0.71)  # of the way between two starts: their peak is one if the evidence is nearly the same there
JOINED = 0.95  # share of the lower one's evidence, everywhere between
STRETCHED = 1.3  # of one direction against another; affine maps between the real pairs here have up to 1.2
SURE = 50.0  # standard deviations; below, a look at the mirrored image is worth its time however clear the start is
SETTLED = 0.25  # share of the image's blocks that agree where they lie, without which looks go on; chance is 0.03
# likewise, below which a result is doubted; 0.14 to 0.19 doubt the same real pairs (`experiments/README.md`)
SCATTERED = 0.16
COARSE = RUNGS[0].levels  # where proper and mirrored starts are compared before any is refined


Tell = Callable[[str, float], None]  # what is being done, in a few words, and how much of it is


@dataclass(frozen=True)
class Ranking:
    """The starts of one pair, the one used first, why it may be wrong, and what else to tell, in sentences."""

    candidates: tuple[Candidate, ...]
    doubts: Doubts = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    interrupted: bool = False  # by Ctrl-C: the best so far


class Starts:
    """The starts of one pair while they are looked for. `best` is the best so far, whatever happens."""

    def __init__(
        self, fixed: Image, moving: Image, given: Tensor, generators: Mapping[str, Tensor], seed: int, tell: Tell
    ) -> None:
        self.fixed, self.moving, self.given = fixed, moving, given
        self.generators, self.seed, self.tell = generators, seed, tell
        self.best = Candidate("given", math.nan, given)

    def ranking(self, searching: Sequence[tuple[str, Initialiser | None]]) -> Ranking:
        """See `ranking`."""
        try:
            return self._ranking(searching)
        except KeyboardInterrupt:
            return Ranking((self.best,), interrupted=True)

    def _ranking(self, searching: Sequence[tuple[str, Initialiser | None]]) -> Ranking:
        if not searching:
            return Ranking((Candidate("given", float(scores_at(self.fixed, self.moving, [self.given])), self.given),))
        own = [(name, find) for name, find in searching if find is not None]
        taken = looks(self.generators, self.fixed.grid, self.moving.grid) if len(own) < len(searching) else []
        auto = bool(taken)
        found, candidates, enough = self._looked(own, taken or [Look("the given start")])
        candidates = as_given(candidates, self.given, self.fixed.grid)
        if auto and not enough:
            self.tell("starts around the best one", 0.0)
            nearby = self._climbed(_around(candidates[0], self.generators, self.fixed.grid, CLOSER))
            candidates = (stronger(candidates[0], nearby[0]), *candidates[1:])
        self.best = candidates[0]
        doubt = dict(doubts(candidates, self.fixed.grid) or ({} if enough else self._rivalled(candidates[0])))
        if len(candidates) == 1 and (auto or any(find is not nothing for _, find in own)):
            doubt[Doubt.ALONE] = {}
        notes = self._stretch_noted(candidates[0])
        if auto and (not enough or candidates[0].score < SURE):
            doubt |= self._mirrored(found, candidates[0])
        if auto and not enough:
            self.tell("polishing the best start", 0.0)
            candidates = (polished(self.fixed, self.moving, candidates[0], self.generators, self.seed), *candidates[1:])
        if not enough:
            doubt |= self._scattered(candidates[0])
        return Ranking(candidates, doubt, notes)

    def _looked(
        self, own: Sequence[tuple[str, Initialiser]], taken: Sequence[Look]
    ) -> tuple[Sequence[tuple[str, Tensor]], tuple[Candidate, ...], bool]:
        """Looks until one is enough: what the last one found, that refined, and whether it was enough.

        What the user asked for, and the best of each look that was not enough, is among what the next one refines.
        """
        asked = [("given", self.given), *self._proposed(own)]
        bests: list[Candidate] = []
        found, candidates, enough = asked, tuple[Candidate, ...](), False
        for look in taken:
            if look.further and self._sure(candidates):
                break
            found = [*asked, *((one.source, one.matrix) for one in bests), *self._proposed(look.proposers, look.name)]
            self.tell(f"{look.name}: refining what it found", 0.0)
            candidates, enough = self._settled(self._climbed(found, look.rungs))
            self.best = candidates[0]
            enough = enough and (look.further or not self._stretched(self.best))
            if enough:
                break
            if self.best.source not in dict(asked):  # what comes twice to one place would seem to be confirmed
                bests = [one for one in bests if apart(one.matrix, self.best.matrix, self.fixed.grid)] + [self.best]
        return found, candidates, enough

    def _proposed(self, proposers: Sequence[tuple[str, Initialiser]], what: str = "") -> list[tuple[str, Tensor]]:
        """What each of them finds, with its name; `what` is how that is called."""
        found: list[tuple[str, Tensor]] = []
        for name, find in proposers:
            self.tell(what or name, 0.0)
            if isinstance(find, Search):
                matrices = find(self.fixed, self.moving, functools.partial(self.tell, what or name))
            else:
                matrices = find(self.fixed, self.moving)
            checked = starts_of(f"initialiser {name}", matrices, self.fixed.grid.ndim)
            found.extend((name, scaled(matrix, self.fixed.grid)) for matrix in checked)
        return found

    def _climbed(self, found: Sequence[tuple[str, Tensor]], rungs: Sequence[Rung] = RUNGS) -> tuple[Candidate, ...]:
        return climb(self.fixed, self.moving, found, self.generators, self.seed, rungs)

    def _settled(self, candidates: tuple[Candidate, ...]) -> tuple[tuple[Candidate, ...], bool]:
        """The candidates, and whether the first is so far above all others, and so well settled, that no search need go on.

        Settled: others have come to its place. One alone may have stopped on the way; others a little to all sides of it are
        started then, and the best of them takes its place.
        """
        count = len(candidates)
        best, *others = candidates = self._peaks(candidates)
        if not stands_out(candidates, self.fixed.grid) and not (count > len(candidates) == 1):
            return candidates, False
        if count > len(candidates) or agreed(candidates, self.fixed.grid):
            return candidates, self._holds(best)
        around = self._climbed(_around(best, self.generators, self.fixed.grid, AROUND))
        better = stronger(best, around[0])
        return (better, *others), agreed(around, self.fixed.grid) and self._holds(better)

    def _sure(self, candidates: Sequence[Candidate]) -> bool:
        """Whether edges agree so well at the first candidate, and nothing speaks against it, that others are not looked for."""
        best = candidates[0]
        if best.score < SURE or self._stretched(best) or doubts(candidates, self.fixed.grid):
            return False
        return self._holds(best)  # last: it takes a map of scores

    def _holds(self, best: Candidate) -> bool:
        """Whether no shift of a start fits about as well, and enough blocks of the image agree where they lie."""
        small = self._reduced(best)
        return self._rival(best, small) is None and not residuals(small, best.matrix).near < SETTLED

    def _reduced(self, best: Candidate) -> Reduced:
        return reduced_pair(self.fixed, self.moving, best.matrix[None])

    def _scattered(self, best: Candidate) -> Doubts:
        """Whether blocks of the image agree elsewhere."""
        near = residuals(self._reduced(best), best.matrix).near
        return {Doubt.SCATTERED: {"near": near}} if near < SCATTERED else {}

    def _stretch_noted(self, best: Candidate) -> tuple[str, ...]:
        """What to tell of a start's shape."""
        if not self._stretched(best):
            return ()
        return (
            f"The start stretches one direction against another by {_stretch(best, self.fixed.grid):.2f}. If pixels have "
            "unequal sides, pass fixed_spacing and moving_spacing.",
        )

    def _stretched(self, best: Candidate) -> bool:
        """Whether a start has a shape that pixels of unequal sides may be to blame for, of images without spacing."""
        fixed = self.fixed.grid
        return fixed.ndim == 2 and without_spacing(fixed, self.moving.grid) and _stretch(best, fixed) > STRETCHED

    def _peaks(self, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """Without those that stand elsewhere on the first one's own peak, which is broad where an image is smooth or small."""
        best, *others = candidates
        strong = [
            one for one in others if one.evidence > RIVAL * best.evidence and apart(best.matrix, one.matrix, self.fixed.grid)
        ]
        if not strong:
            return candidates
        between = [torch.lerp(best.matrix, one.matrix, share) for one in strong for share in BETWEEN]
        small = self._reduced(best)
        evidence = small.judged(torch.stack(between))[1].view(len(strong), -1).amin(1).tolist()
        joined = [one for one, least in zip(strong, evidence, strict=True) if least > JOINED * one.evidence]
        return tuple(one for one in candidates if all(one is not other for other in joined))

    def _rival(self, best: Candidate, small: Reduced) -> Rival | None:
        """Another place by a shift, if the group has all shifts."""
        if not holds(self.generators, "translation"):
            return None
        return rival(small, best.matrix)

    def _rivalled(self, best: Candidate) -> Doubts:
        """Whether a shift of the start fits about as well."""
        if (other := self._rival(best, self._reduced(best))) is None:
            return {}
        shift = ", ".join(f"{value:.3g}" for value in other.shift.tolist())
        return {Doubt.SHIFTED: {"by": other.by, "shift": shift, "share": other.share}}

    def _mirrored(self, proper: Sequence[tuple[str, Tensor]], best: Candidate) -> Doubts:
        """Whether a reflected start fits far better than the best of the `proper` ones."""
        found = self._proposed(suited(self.generators, mirrored=True), "a search of the mirrored image")
        if not found:
            return {}
        scores = scores_at(self.fixed, self.moving, [matrix for _, matrix in (*proper, *found)], COARSE)
        if scores[len(proper) :].max() < scores[: len(proper)].max():
            return {}
        other = self._climbed(found)[0]
        if best.evidence > DOUBTFUL * other.evidence or other.score < max(CHANCE, best.score):
            return {}
        return {Doubt.MIRRORED: {"mirrored": other.score, "score": best.score}}


def ranking(
    fixed: Image,
    moving: Image,
    given: Tensor,
    searching: Sequence[tuple[str, Initialiser | None]],
    generators: Mapping[str, Tensor],
    seed: int,
    tell: Tell = lambda what, share: None,
) -> Ranking:
    """All starts of one pair: the given one (D+1, D+1) and what each of `searching` finds; None is the search that suits.

    `tell` hears what is being done. On Ctrl-C the best so far is all there is.
    """
    return Starts(fixed, moving, given, generators, seed, tell).ranking(searching)


def _stretch(candidate: Candidate, fixed: Grid) -> float:
    """By how much a start stretches one direction against another."""
    stretches = torch.linalg.svdvals(linear_part(candidate.matrix, fixed))
    return float(stretches[0] / stretches[-1])


def _around(
    best: Candidate, generators: Mapping[str, Tensor], fixed: Grid, far: Mapping[int, Sequence[float]]
) -> list[tuple[str, Tensor]]:
    """The start, and others as `far` as that (by dimension) to either side of it along each generator that keeps shapes."""
    basis = shapely(generators)
    axes = torch.eye(len(basis), dtype=torch.float64)
    off = torch.cat([torch.zeros_like(axes[:1]), *(side * length * axes for length in far[fixed.ndim] for side in (1, -1))])
    matrices = LieTransform(basis, best.matrix.expand(len(off), -1, -1), fixed).matrix(off)
    return [(best.source, matrix) for matrix in matrices.detach()]
