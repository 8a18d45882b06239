"""Landmarks as soft constraints: a penalty for the distances at which a map misses them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drmime.errors import InputError, number
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.points.corresponding import corresponding, in_worlds
from drmime.transform.base import Model

ACCURACY = 0.005  # of the moving image's longest side
STRETCH = 20.0  # times the median stretch between two landmarks: what is stretched more, or as much less, is contradictory
MOST = 2000  # landmarks; all pairs of them are compared
SURE = 1.65  # standard deviations above its mean that noise alone may reach: 95 % of a normal distribution


class SoftLandmarks:
    """Corresponding points that pull the map, beside the similarity of the images.

    The similarity, in nats, is reduced by `weight` times the mean of (distance / accuracy)² / 2: a landmark that is missed by
    its accuracy costs half a nat.

    Args:
        fixed, moving: (N, D), row i corresponds to row i, in pixels of their image, x first, 0-based, pixel centres; or paths
            of files of points.
        accuracy: standard deviation of each coordinate of a landmark, in pixels of the moving image; by default 0.5 % of its
            longest side.
        weight: of the penalty.

    Raises:
        InputError: points that are not finite or not (N, 2) or (N, 3), unequal numbers, or a number out of its range.
    """

    def __init__(self, fixed: Any, moving: Any, accuracy: float | None = None, weight: float = 1.0) -> None:
        self.fixed, self.moving = corresponding(fixed, moving)
        if len(self.fixed) > MOST:
            raise InputError(f"landmarks: expected at most {MOST}, got {len(self.fixed)}")
        self.accuracy = None if accuracy is None else number("landmarks accuracy", accuracy, 0)
        self.weight = number("landmarks weight", weight, 0)

    def settings(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        points = {"fixed": self.fixed.tolist(), "moving": self.moving.tolist()}
        return {**points, "accuracy": self.accuracy, "weight": self.weight}

    def on(self, fixed: Grid, moving: Grid) -> "Located":
        """The landmarks of two images on these grids, as they were given.

        Raises:
            InputError: images of another dimension, or landmarks that contradict each other.
        """
        here, there = in_worlds((self.fixed, self.moving), (fixed, moving))
        pixel = float(moving.spacing.min())
        accuracy = ACCURACY * float(moving.extent.max()) if self.accuracy is None else self.accuracy * pixel
        _agree(here, there, float(fixed.spacing.min()), accuracy)
        return Located(here, there, accuracy, self.weight)


@dataclass(frozen=True)
class Located:
    """Landmarks in the worlds of two images."""

    fixed: Tensor  # shape: (N, D), world, float64, on the CPU
    moving: Tensor  # shape: (N, D)
    accuracy: float  # world units of the moving image
    weight: float

    def between(self, fixed: Grid, moving: Grid, device: torch.device) -> "Penalty":
        """The penalty of models on a device between the frames of these grids."""
        here, there = (
            apply(torch.linalg.inv(grid.world_from_frame), points, is_affine=True)[0].to(device)
            for grid, points in ((fixed, self.fixed), (moving, self.moving))
        )
        count, ndim = here.shape
        noise = self.weight * (ndim + SURE * (2 * ndim / count) ** 0.5) / 2
        return Penalty(here, there, self.weight * (float(moving.world_from_frame[0, 0]) / self.accuracy) ** 2 / 2, noise)


@dataclass(frozen=True)
class Penalty:
    """Half the mean squared distance of the landmarks from where a model maps them, weighted."""

    fixed: Tensor  # shape: (N, D), of the fixed frame
    moving: Tensor  # shape: (N, D), of the moving frame
    factor: float  # of squared distances in units of the moving frame
    noise: float  # penalty of the true map that landmarks of this accuracy seldom exceed

    def __call__(self, model: Model) -> Tensor:
        """shape: (B,)"""
        places = model(self.fixed[None, None], slice(0, 1))
        return self.factor * (places.points[0] - self.moving).square().sum(-1).mean(-1)


def _agree(here: Tensor, there: Tensor, pixel: float, accuracy: float) -> None:
    """InputError if landmarks contradict each other: the map between two of them would stretch unlike that between most.

    A pair of landmarks is stretched by the distance of the moving points over that of the fixed ones, each known to a pixel
    and to the accuracy.
    """
    if len(here) < 2:
        return
    first, second = torch.triu_indices(len(here), len(here), 1)
    before, after = (here[first] - here[second]).norm(dim=1), (there[first] - there[second]).norm(dim=1)
    usual = float(((after + accuracy) / (before + pixel)).median())
    too_far = after - 4 * accuracy > STRETCH * usual * (before + pixel)
    too_near = usual * before - 4 * accuracy > STRETCH * (after + accuracy)
    wrong = (too_far | too_near).nonzero()[:, 0]
    if len(wrong):
        worst = int(torch.cat([first[wrong], second[wrong]]).bincount().argmax())  # that of most contradictions
        pair = wrong[(first[wrong] == worst) | (second[wrong] == worst)][0]
        other = int(first[pair] + second[pair]) - worst
        raise InputError(
            f"landmarks: row {worst} (from 0) contradicts others: from row {other} its fixed point is "
            f"{float(before[pair]):.4g} away and its moving point {float(after[pair]):.4g}. Correct or remove it."
        )
