"""A pair in memory, and the few things that are asked of its points.

Points are in pixels, x first, 0-based, pixel centres; shapes and spacings are in array order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from drmime.geometry.grid import Grid

PER_AXIS = {2: 20, 3: 8}  # points of a regular grid, which stand for an image whose truth is a matrix


@dataclass(frozen=True)
class Change:
    """What is done to a moving image that overlays its fixed one, or to a real one, so that the answer is known.

    Everything is drawn from `seed` and the pair's name alone: the same change is made wherever it is made.
    """

    motion: str  # a name of `changes.MOTIONS`
    seed: int = 0
    recoloured: bool = (
        False  # the fixed image, its intensities through a map that is not monotone, takes the moving one's place
    )


@dataclass(frozen=True)
class Case:
    """A pair in memory: arrays in array order, channels last; points in pixels, x first."""

    fixed: np.ndarray
    moving: np.ndarray
    fixed_spacing: tuple[float, ...]  # array order, as `register` takes it
    moving_spacing: tuple[float, ...]
    fixed_points: np.ndarray | None = None  # shape: (N, D)
    moving_points: np.ndarray | None = None  # shape: (N, D), where they lie in the moving image
    fixed_labels: np.ndarray | None = None  # shape: the fixed image's, without channels
    moving_labels: np.ndarray | None = None
    extent: tuple[int, ...] | None = None  # shape that errors are shares of, where the moving image's canvas has grown
    notes: tuple[str, ...] = ()
    truth: np.ndarray | None = None  # shape: (D+1, D+1), moving_from_fixed in pixels, where it is known as a matrix
    fixed_world: np.ndarray | None = None  # shape: (D+1, D+1), world_from_index, x first; by default that of the spacing alone
    moving_world: np.ndarray | None = None

    @property
    def ndim(self) -> int:
        return len(self.fixed_spacing)

    @property
    def grids(self) -> tuple[Grid, Grid]:
        """Where the pixels of both images lie."""
        images = (self.fixed, self.fixed_spacing, self.fixed_world), (self.moving, self.moving_spacing, self.moving_world)
        fixed, moving = (
            Grid.regular(pixels.shape[: self.ndim], spacing)
            if world is None
            else Grid(pixels.shape[: self.ndim], torch.as_tensor(world))
            for pixels, spacing, world in images
        )
        return fixed, moving


def regular_points(shape: Sequence[int]) -> np.ndarray:
    """The middles of equal boxes that fill an image of `shape`: 20 along each axis in 2-D, 8 in 3-D. -> (N, D)"""
    ndim = len(shape)
    boxes = np.indices((PER_AXIS[ndim],) * ndim).reshape(ndim, -1).T[:, ::-1]
    return (boxes + 0.5) / PER_AXIS[ndim] * np.array(shape[::-1]) - 0.5


def within(points: np.ndarray, shape: Sequence[int], margin: float = 0.0) -> np.ndarray:
    """Which points (N, D) lie in an image of `shape`, or at most `margin` pixels from its outer edge. -> (N,)"""
    return np.all((points >= -0.5 - margin) & (points <= np.array(shape[::-1]) - 0.5 + margin), axis=1)
