"""The calibrated model of the verdict: from the figures of the evidence to a probability and an expected error.

`calibration.json` holds its numbers, fitted by `experiments/calibrate.py` to registrations with known errors. Figures are
clipped to the range there, taken as logarithms where it says so, and joined by two linear functions: one is the logit of the
probability that the median error is below 1 % of the moving image's diagonal, the other the logarithm of that error.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Scale:
    """How a figure enters the linear functions, and which values are usual."""

    low: float  # values are clipped to low … high
    high: float
    unknown: float  # used where the figure is not a finite number
    logarithm: bool
    usual: float  # 95 % of right results are on the better side of it
    larger: bool  # whether larger values are better

    def __call__(self, value: float) -> float:
        clipped = min(max(value if math.isfinite(value) else self.unknown, self.low), self.high)
        return math.log(clipped) if self.logarithm else clipped

    def unusual(self, value: float) -> bool:
        """Whether a figure is worse than in 95 % of right results; so is one that is not known."""
        value = value if math.isfinite(value) else self.unknown
        return value < self.usual if self.larger else value > self.usual


class Range(NamedTuple):
    """A median and the interval around it that holds 90 % of all cases."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """The numbers of the model."""

    scales: Mapping[str, Scale]
    probability: Mapping[str, float]  # weights by figure, and "intercept"
    error: Mapping[str, float]
    spread: tuple[float, float]  # 5 and 95 % quantiles of the logarithm of true over expected error

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Calibration":
        scales = {name: Scale(**scale) for name, scale in state["figures"].items()}
        return cls(scales, state["probability"], state["error"], tuple(state["spread"]))

    def aligned(self, figures: Mapping[str, float]) -> float:
        """The probability that the median error is below 1 % of the moving image's diagonal."""
        return 1 / (1 + math.exp(-self._linear(self.probability, figures)))

    def expected(self, figures: Mapping[str, float]) -> Range:
        """The expected median error, as a share of the moving image's diagonal."""
        logarithm = self._linear(self.error, figures)
        return Range(*(math.exp(logarithm + off) for off in (0.0, *self.spread)))

    def _linear(self, weights: Mapping[str, float], figures: Mapping[str, float]) -> float:
        terms = (weight * self.scales[name](figures[name]) for name, weight in weights.items() if name != "intercept")
        return weights["intercept"] + sum(terms)


@functools.cache
def calibration() -> Calibration:
    """The calibration that comes with the program."""
    return Calibration.of(json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")))
