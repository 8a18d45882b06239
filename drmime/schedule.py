"""`Schedule`: steps, learning rate and stopping criteria of a run, and the weights of the levels over its steps."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError, number, numbers, shown, whole

FINAL_RATE = 0.02  # rate at the end of the cosine decay, as a share of the first rate


@dataclass(frozen=True)
class Schedule:
    """Steps, learning rate, level weights and stopping criteria of a run.

    Args:
        steps: number of steps of the transform, after the metric's warm-up.
        rate: Adam's first learning rate for the coefficients; about the displacement in a step, in units of half the fixed
            image's longest side.
        level_weights: weights of the levels in the loss, finest first; equal by default. Or a list of such lists, each for an
            equal part of the steps: `[[0, 0, 1], [0, 1, 0], [1, 0, 0]]` uses three levels one after the other, coarsest first.
        tolerance: pixels of the moving image; a transform that moves less in 50 steps has converged.
        least_overlap: least share of the fixed image that must lie on the moving image; with less a run has failed.

    Raises:
        InputError: a number out of its range, or weights that are negative, all 0 or no numbers.

    Example:
        >>> Schedule(steps=100, level_weights=[3, 1]).weights(2).tolist()
        [[0.75, 0.25]]
    """

    steps: int = 70
    rate: float = 0.0007
    level_weights: Any = None
    tolerance: float = 0.01
    least_overlap: float = 0.02

    def __post_init__(self) -> None:
        whole("schedule steps", self.steps, 1, 10**7)
        number("schedule rate", self.rate, 0)
        number("schedule tolerance", self.tolerance, 0)
        number("schedule least_overlap", self.least_overlap, 0, 1)
        if self.level_weights is not None:
            self._stages()

    def weights(self, levels: int) -> Tensor:
        """Weights of the levels, finest first, with sum 1 in each of S stages; surplus weights are ignored. -> (S, levels)

        Raises:
            InputError: fewer weights than levels, or only weights of 0.
        """
        if self.level_weights is None:
            return torch.full((1, levels), 1 / levels, dtype=torch.float64)
        array = self._stages(levels)
        return torch.as_tensor(array / array.sum(1, keepdims=True))

    def _stages(self, levels: int | None = None) -> np.ndarray:
        """The level weights as an array: one row for each stage, cut to `levels` columns if given; checked."""
        name = "schedule level_weights"
        array = np.atleast_2d(numbers(name, self.level_weights))
        good = array.ndim == 2 and array.shape[1] >= (levels or 1) and len(array) and ((array >= 0) & (array < 1e12)).all()
        if not good or not array[:, :levels].sum(1).all():
            many = f"{levels} numbers of at least 0" if levels else "as many numbers of at least 0 as levels"
            raise InputError(f"{name}: expected {many}, not all 0, or a list of such lists, got {shown(self.level_weights)}")
        return array[:, :levels]


def stage_of(index: int, steps: int, stages: int) -> int:
    """The number of the stage, of `stages` equal parts of the steps, that a step is in; steps before 0 are in the first."""
    return min(max(index, 0) * stages // steps, stages - 1)


def cosine(index: int, steps: int) -> float:
    """Share of the first rate at a step: 1 until step 0, then half a cosine down to `FINAL_RATE`."""
    progress = min(max(index, 0) / steps, 1)
    return FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * progress)) / 2
