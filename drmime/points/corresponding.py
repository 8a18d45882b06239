"""Corresponding points of two images, as options give them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError, numbers
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


def _points(points: Any, role: str) -> Tensor:
    if isinstance(points, (str, Path)):
        return torch.as_tensor(read_landmarks(points))
    array = numbers(f"landmarks: {role} points", points, "rows of 2 or 3 coordinates, or the path of a CSV file")
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise InputError(f"landmarks: expected {role} points of shape (N, 2) or (N, 3), got {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"landmarks: expected finite {role} points, got NaN or infinity")
    return torch.as_tensor(array)
