"""The mean pose of many images: a frame of reference that no image is at, in which their motions cancel."""

import numpy as np
import torch
from scipy.linalg import expm, logm
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid

CLOSE = 1e-12  # largest entry of the mean logarithm at which the iteration ends, in frame units
ENOUGH = 1e-9  # likewise, with which the mean counts as found after the last iteration
STEPS = 200  # iterations; small motions take 3 to 6


def mean_pose(matrices: Tensor, grid: Grid) -> Tensor:
    """The map root_from_mean, world, for which the logarithms of the maps `matrices @ root_from_mean` have the mean zero.

    It is the exponential barycentre of the maps: the same whichever image is the root and however images are ordered, and in
    every group of transforms to which the maps belong (Pennec and Arsigny 2013, doi 10.1007/978-3-642-30232-9_7).

    Args:
        matrices: image_from_root, world, affine. shape: (N, D+1, D+1), float64.
        grid: of the root, in whose frame the iteration computes.

    Returns:
        shape: (D+1, D+1), float64.

    Raises:
        InputError: the motions have no mean near them: some differ by about half a turn.
    """
    world = grid.world_from_frame
    maps = (torch.linalg.inv(world) @ matrices @ world).numpy()
    moved = np.eye(maps.shape[-1])
    for _ in range(STEPS):
        middle = np.mean([_log(one @ moved) for one in maps], 0)
        moved = moved @ expm(-middle)
        if np.abs(middle).max() <= CLOSE:
            break
    if not np.abs(np.mean([_log(one @ moved) for one in maps], 0)).max() <= ENOUGH:
        raise InputError("reference: these images have no mean pose; choose one of them, as 'auto' does")
    return world @ torch.as_tensor(moved) @ torch.linalg.inv(world)


def _log(matrix: np.ndarray) -> np.ndarray:
    """The principal logarithm. InputError if there is none that is real."""
    values = np.linalg.eigvals(matrix)
    if ((values.real <= 0) & (np.abs(values.imag) <= ENOUGH * np.abs(values))).any():
        raise InputError("reference: images that differ by half a turn or a mirror image have no mean; choose one of them")
    return np.real(logm(matrix))
