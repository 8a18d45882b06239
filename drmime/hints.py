"""What is known of a map apart from the images: landmarks, and a mask of what is not deformed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from drmime.checks import Options
from drmime.geometry.grid import Grid
from drmime.image.door import mask_of
from drmime.soft import Located
from drmime.transform.base import Held, Hints


def read_held(affine_mask: Any, fixed: Grid) -> np.ndarray | None:
    """Which pixels of the fixed image, given on this grid, are not deformed; None if no mask is given. shape: (*shape)

    Raises:
        InputError: a mask that cannot be used with this image.
    """
    return mask_of(affine_mask, fixed.shape, "affine")


def hints_of(held: Sequence[np.ndarray | None], asked: Options, fixed: Grid, moving: Grid) -> tuple[Hints, Located | None]:
    """The hints of a batch, and the landmarks. `held`: `read_held` of each pair; the grids: of the images as they were given.

    Raises:
        InputError: landmarks that cannot be used with these images or with this transform.
    """
    located = None if asked.landmarks is None else asked.landmarks.on(fixed, moving)
    landmarks = None if located is None else (located.fixed, located.moving)
    if all(mask is None for mask in held):
        return Hints(landmarks), located
    full = [np.zeros(fixed.shape, bool) if mask is None else mask for mask in held]
    return Hints(landmarks, Held(torch.as_tensor(np.stack(full)), fixed)), located
