"""A pair in memory, and functions on its points.

Points are in pixels, x first, 0-based, pixel centres; shapes and spacings are in array order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from drmime.geometry.grid import Grid
from drmime.image.pixels import Pixels

PER_AXIS = {2: 20, 3: 8}  # points along each axis of the grid that replaces landmarks if the truth is a matrix


@dataclass(frozen=True)
class Change:
    """A known motion that is applied to the moving image of a pair with known alignment.

    All random numbers depend on `seed` and the pair's name only, so that the change is the same in every process.
    """

    motion: str  # a name of `changes.MOTIONS`
    seed: int = 0
    recoloured: bool = False  # the fixed image under a non-monotone map of intensities replaces the moving image


@dataclass(frozen=True)
class Case:
    """A pair in memory: arrays in array order, channels last; points in pixels, x first."""

    fixed: np.ndarray
    moving: np.ndarray
    fixed_spacing: tuple[float, ...]  # array order, as `register` takes it
    moving_spacing: tuple[float, ...]
    fixed_points: np.ndarray | None = None  # shape: (N, D)
    moving_points: np.ndarray | None = None  # shape: (N, D), the same points in the moving image
    fixed_labels: np.ndarray | None = None  # shape: the fixed image's, without channels
    moving_labels: np.ndarray | None = None
    extent: tuple[int, ...] | None = None  # shape that relative errors refer to, if the moving image's canvas was enlarged
    notes: tuple[str, ...] = ()
    truth: np.ndarray | None = None  # shape: (D+1, D+1), moving_from_fixed in pixels, if it is known as a matrix
    fixed_world: np.ndarray | None = None  # shape: (D+1, D+1), world_from_index, x first; by default from the spacing only
    moving_world: np.ndarray | None = None

    @property
    def ndim(self) -> int:
        return len(self.fixed_spacing)

    @property
    def grids(self) -> tuple[Grid, Grid]:
        """The grids of the fixed and of the moving image."""
        images = (self.fixed, self.fixed_spacing, self.fixed_world), (self.moving, self.moving_spacing, self.moving_world)
        fixed, moving = (
            Grid.regular(pixels.shape[: self.ndim], spacing)
            if world is None
            else Grid(pixels.shape[: self.ndim], torch.as_tensor(world))
            for pixels, spacing, world in images
        )
        return fixed, moving

    @property
    def images(self) -> list[Pixels]:
        """The fixed and the moving image with their grids, as `register` takes them."""
        return [
            Pixels(self.with_channels(pixels), grid, tuple(range(self.ndim)), -1)
            for pixels, grid in zip((self.fixed, self.moving), self.grids, strict=True)
        ]

    def with_channels(self, image: np.ndarray) -> np.ndarray:
        """One of the images with an axis of channels, also if it is gray."""
        return image if image.ndim > self.ndim else image[..., None]


def regular_points(shape: Sequence[int]) -> np.ndarray:
    """The centres of equal boxes that fill an image of `shape`, 20 along each axis in 2-D, 8 in 3-D. -> (N, D), pixels"""
    ndim = len(shape)
    boxes = np.indices((PER_AXIS[ndim],) * ndim).reshape(ndim, -1).T[:, ::-1]
    return (boxes + 0.5) / PER_AXIS[ndim] * np.array(shape[::-1]) - 0.5


def within(points: np.ndarray, shape: Sequence[int], margin: float = 0.0) -> np.ndarray:
    """Which points (N, D) lie in an image of `shape`, or at most `margin` pixels outside its outer edge. -> (N,), bool"""
    return np.all((points >= -0.5 - margin) & (points <= np.array(shape[::-1]) - 0.5 + margin), axis=1)
