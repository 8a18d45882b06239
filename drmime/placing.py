"""Where the points and pixels of a `Registration` lie: what all that it carries along has in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError, numbers
from drmime.geometry.grid import Grid
from drmime.modes import own_defaults
from drmime.transform.base import Transform
from drmime.transform.grids import check_overlap, grid_of, lying, union, with_spacing


class Placing(ABC):
    """The methods of `Registration` that map points and choose grids. In the examples `result` shifts x by 2 and y by 1."""

    transform: Transform
    fixed_grid: Grid
    moving_grid: Grid

    @abstractmethod
    def inverse(self) -> Self:
        """The same with the fixed and the moving image exchanged."""

    @own_defaults
    def to_moving(self, points: Any) -> np.ndarray:
        """Map points of the fixed image to the moving image. (N, D) -> (N, D), world, x first

        A point on or behind the horizon of a projective transform becomes NaN.

        Raises:
            InputError: points that are not an array of numbers of shape (N, D).

        Example:
            >>> result.to_moving([[10, 20]])
            array([[12., 21.]])
        """
        return mapped(self.transform, self.transform.ndim, points)

    @own_defaults
    def to_fixed(self, points: Any) -> np.ndarray:
        """Map points of the moving image to the fixed image. (N, D) -> (N, D), world, x first; otherwise as `to_moving`

        Example:
            >>> result.to_fixed([[12, 21]])
            array([[10., 20.]])
        """
        return mapped(self.transform.inverse(), self.transform.ndim, points)

    @own_defaults
    def output_grid(self, grid: Any = "fixed", spacing: Any = None) -> Grid:
        """The grid that `warp` writes to; arguments as there.

        Raises:
            InputError: a grid of another dimension, pixel lengths that are not positive, or a moving image that reaches behind
                the horizon of the transform, so that it has no union with the fixed one.

        Example:
            >>> result.output_grid("union").shape  # 2 columns and 1 row more than the fixed image
            (65, 66)
        """
        ndim = self.fixed_grid.ndim
        if isinstance(grid, str) and grid in ("fixed", "union"):
            found = self.fixed_grid if grid == "fixed" else union(self.transform, self.fixed_grid, self.moving_grid)
        elif isinstance(grid, Grid):
            found = grid
        else:
            own = grid_of(grid)
            found = lying(own, own.shape, self.fixed_grid) or own
        if found.ndim != ndim:
            raise InputError(f"grid: expected {ndim} dimensions, as the registered images have, got {found.ndim}")
        return found if spacing is None else with_spacing(found, spacing)

    def _place(self, grid: Grid | None, shape: Sequence[int], same_extent: bool) -> Grid:
        """Where an image of the moving side lies, that states `grid` and has a shape."""
        registered = self.moving_grid
        if len(shape) != registered.ndim:
            raise InputError(f"warp: expected the moving image's shape {registered.shape}, got {shape}")
        if same_extent:
            return registered.resized(shape)
        found = lying(grid, shape, registered)
        if found is None:
            raise InputError(
                f"warp: expected the moving image's shape {registered.shape}, got {shape}. If it shows the same extent at "
                "another resolution, pass same_extent=True (--same-extent)."
            )
        check_overlap(found, registered)
        return found


def mapped(function: Callable[[Tensor], Tensor], ndim: int, points: Any) -> np.ndarray:
    """The points (N, D) that a function of tensors gives for an array of points (N, D); InputError if it is none."""
    form = f"an array of shape (N, {ndim}), x first"
    array = numbers("points", points, form)
    if array.ndim != 2 or array.shape[1] != ndim:
        raise InputError(f"points: expected {form}, got {array.shape}")
    return function(torch.as_tensor(array)).numpy()
