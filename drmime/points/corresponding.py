"""Corresponding points of two images, as options give them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError, numbers
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.points.files import read_landmarks


def corresponding(fixed_points: Any, moving_points: Any) -> tuple[Tensor, Tensor]:
    """Row i of the one corresponds to row i of the other: pixels of their image, x first. (N, D) twice, float64

    Args:
        fixed_points, moving_points: arrays, or paths of files of points.

    Raises:
        InputError: a bad file, points not finite or not (N, 2) or (N, 3), unequal numbers.
    """
    fixed, moving = _points(fixed_points, "fixed"), _points(moving_points, "moving")
    if fixed.shape != moving.shape:
        got = f"{tuple(fixed.shape)} fixed and {tuple(moving.shape)} moving"
        raise InputError(f"landmarks: expected as many fixed as moving points, of one dimension, got {got}")
    return fixed, moving


def in_worlds(points: tuple[Tensor, Tensor], grids: tuple[Grid, Grid]) -> tuple[Tensor, Tensor]:
    """Corresponding pixels (N, D) of the fixed and of the moving image in world coordinates; `grids` are those of the images.

    Raises:
        InputError: images of another dimension.
    """
    for role, pixels, grid in zip(("fixed", "moving"), points, grids, strict=True):
        if grid.ndim != pixels.shape[1]:
            raise InputError(f"landmarks: expected {grid.ndim}-D points for the {role} image, got {pixels.shape[1]}-D points")
    fixed, moving = (apply(grid.world_from_index, pixels)[0] for pixels, grid in zip(points, grids, strict=True))
    return fixed, moving


def _points(points: Any, role: str) -> Tensor:
    if isinstance(points, (str, Path)):
        return torch.as_tensor(read_landmarks(points))
    array = numbers(f"landmarks: {role} points", points, "rows of 2 or 3 coordinates, or the path of a CSV file")
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise InputError(f"landmarks: expected {role} points of shape (N, 2) or (N, 3), got {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"landmarks: expected finite {role} points, got NaN or infinity")
    return torch.as_tensor(array)
