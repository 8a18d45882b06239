"""What is known of a map apart from the images: landmarks, and a mask of what is not deformed."""

from typing import Any

import numpy as np
import torch

from drmime import checks
from drmime.checks import Options
from drmime.geometry.grid import Grid
from drmime.image.door import mask_of
from drmime.soft import Located
from drmime.transform.base import Held, Hints

Given = tuple[Hints, Located | None]


def read_hints(affine_mask: Any, asked: Options, fixed: Grid, moving: Grid, count: int | None) -> Given:
    """The hints of `register`, whose argument and other options these are, and the landmarks.

    `fixed`, `moving`: the grids of the images as they were given. `count`: of the images if they are in lists.

    Raises:
        InputError: a mask or landmarks that cannot be used with these images or with this transform.
    """
    held, located = None, None
    if affine_mask is not None:
        masks = [affine_mask] if count is None else checks.one_each(affine_mask, count, "affine")
        read = [mask_of(mask, fixed.shape, "affine") for mask in masks]
        full = [np.zeros(fixed.shape, bool) if mask is None else mask for mask in read]
        held = Held(torch.as_tensor(np.stack(full)), fixed)
    if asked.landmarks is not None:
        located = asked.landmarks.on(fixed, moving)
    return Hints(None if located is None else (located.fixed, located.moving), held), located
