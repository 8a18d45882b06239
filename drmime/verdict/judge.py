"""`Verdict`: aligned, doubtful or failed, with the probability, the expected error, and the doubts that explain it."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from drmime.geometry.grid import Grid
from drmime.start.doubts import Doubt, Doubts, Figures
from drmime.transform.base import Transform
from drmime.verdict.calibration import Range, calibration
from drmime.verdict.evidence import Blocks, Evidence

# least probability with which a result is called aligned; with 0.3 to 0.5 it doubts 3.2 to 5.2 % of right results and 98.1 to
# 98.6 % of those more than 3 % off (`experiments/calibrate.py`)
LIKELY = 0.45
# below it a result is called failed; 0.05 to 0.15: 92 to 97 % of pairs that do not belong together, 0 to 0.5 % of right results
UNLIKELY = 0.1
# share of the score of another shift: of a repeated texture 0.95 and more, where a part of the scene moves by itself 0.85;
# 0.75 to 0.85 doubt one right real result of 405
REPEATED = 0.8
HARD = (Doubt.MIRRORED, Doubt.SHIFTED)  # doubts that the figures cannot outweigh: edges are blind to them
REASONS = {  # the doubt that an unusual figure gives
    "peak_ratio": Doubt.CHANCE,
    "in_place": Doubt.SCATTERED,
    "residual": Doubt.DISPLACED,
    "information": Doubt.UNRELATED,
    "overlap": Doubt.OVERLAP,
    "distortion": Doubt.DISTORTED,
    "rival": Doubt.ELSEWHERE,
}


class Status(enum.StrEnum):
    """Whether the images are aligned."""

    ALIGNED = "aligned"
    DOUBTFUL = "doubtful"
    FAILED = "failed"


@dataclass(frozen=True)
class Verdict:
    """Whether a result is aligned, how sure that is, and how far off it is expected to be.

    The error meant is the median distance, over the fixed image, between where a point is mapped and where it belongs.
    """

    status: Status
    probability: float  # that the median error is below 1 % of the diagonal of the moving image as registered; NaN if unknown
    expected_error: Range  # median error in world units of the moving image, with an interval that holds 90 % of cases
    expected_pixels: Range  # the same in pixels of the moving image
    figures: Mapping[str, float] = field(default_factory=dict)  # of `drmime.verdict.evidence`

    def inverse(self, transform: Transform, fixed: Grid) -> "Verdict":
        """The verdict for the inverse of `transform`: errors are then in the fixed image. The probability stays as it is."""
        scale = _mean_scale(transform, fixed)
        world = Range(*(value / scale for value in self.expected_error))
        pixels = Range(*(value / float(fixed.extent.norm() / fixed.size.norm()) for value in world))
        return replace(self, expected_error=world, expected_pixels=pixels)

    def after(self, first: "Verdict", transform: Transform, fixed: Grid) -> "Verdict":
        """The verdict for `transform` (on the grid `fixed`), which this one is about, applied after that of `first`.

        The probability is that of both. Squares of errors add, with those of `first` scaled by `transform`.
        """
        scale = _mean_scale(transform, fixed)
        pixel = self.expected_error.median / self.expected_pixels.median if self.expected_pixels.median else math.nan
        errors = [math.hypot(own, scale * other) for own, other in zip(self.expected_error, first.expected_error, strict=True)]
        probability = self.probability * first.probability
        statuses = [self.status, first.status, _status(probability)]
        status = max(statuses, key=list(Status).index)
        return Verdict(status, probability, Range(*errors), Range(*(error / pixel for error in errors)))

    def __str__(self) -> str:
        if math.isnan(self.probability):
            return str(self.status)
        median, low, high = (f"{value:.2g}" for value in self.expected_pixels)
        return f"{self.status} (probability {self.probability:.0%}, expected error {median} pixels, {low} to {high})"


def _mean_scale(transform: Transform, fixed: Grid) -> float:
    """The mean scale factor of a transform at the centre of `fixed`."""
    return float(transform.jacobian(fixed.centre[None])[0].det().abs()) ** (1 / fixed.ndim)


def _status(probability: float) -> Status:
    """The status by the probability alone."""
    return Status.ALIGNED if probability >= LIKELY else Status.FAILED if probability < UNLIKELY else Status.DOUBTFUL


UNKNOWN = Range(math.nan, math.nan, math.nan)
NO_VERDICT = Verdict(Status.FAILED, math.nan, UNKNOWN, UNKNOWN)


class Judgement(NamedTuple):
    """What is said about one result."""

    verdict: Verdict
    doubts: Doubts  # none if the result is aligned
    blocks: Blocks | None  # None if not measured


def unknown(known: Doubts) -> Judgement:
    """The judgement of a registration that has not ended as planned, with the doubts of the search for its start."""
    return Judgement(NO_VERDICT, known, None)


def judged(found: Evidence, known: Doubts, moving: Grid) -> Judgement:
    """The judgement of a result by its evidence, and by the doubts that the search for its start has told.

    A result is doubtful whatever its probability if there is one of the doubts of `HARD`.
    """
    model, figures = calibration(), found.figures
    probability = model.aligned(figures)
    doubts: dict[Doubt, Figures] = dict(known)
    if found.shifted and found.shifted.share >= REPEATED:
        shift = [float(f"{value:.3g}") for value in found.shifted.shift.tolist()]
        doubts[Doubt.SHIFTED] = {"by": found.shifted.by, "shift": shift, "share": found.shifted.share}
    status = _status(probability)
    if status is Status.ALIGNED:
        doubts = {doubt: doubts[doubt] for doubt in HARD if doubt in doubts}
        status = Status.DOUBTFUL if doubts else status
    else:
        doubts |= {
            doubt: {part: figures[part] for part in doubt.figures if part in figures} | {"usual": model.scales[name].usual}
            for name, doubt in REASONS.items()
            if math.isfinite(figures[name]) and model.scales[name].unusual(figures[name])
        }
        if not figures["blocks"]:
            doubts[Doubt.UNSEEN] = {}
            status = Status.DOUBTFUL if figures["overlap"] >= model.scales["overlap"].usual else status
        doubts = doubts or {Doubt.IMPROBABLE: {"probability": probability}}
    share = model.expected(figures)
    if status is Status.FAILED:
        share = share._replace(high=1.0)  # of the diagonal: a block's shift is searched up to 6 % of it
    world, pixels = (Range(*(value * float(length.norm()) for value in share)) for length in (moving.extent, moving.size))
    return Judgement(Verdict(status, probability, world, pixels, figures), doubts, found.blocks)
