"""Transforms of other packages in memory, other than SimpleITK's; the package is not imported."""

from typing import Any

import numpy as np

from drmime.errors import InputError, numbers
from drmime.geometry.grid import Grid
from drmime.transform.base import Transform
from drmime.transform.formats.files import both_grids, from_matrix
from drmime.transform.warp import in_world


def of_skimage(transform: Any, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
    """The transform of a `skimage.transform.ProjectiveTransform` or a subclass, which takes fixed to moving pixels, x first.

    That is the direction in which `skimage.transform.warp(moving, transform)` uses it. Without grids pixels are the world.

    Raises:
        InputError: a transform that is not one matrix that can be inverted, one grid without the other, or another dimension.
    """
    rows = np.asarray(getattr(transform, "params", None))
    if rows.dtype.kind != "f" or rows.shape not in ((3, 3), (4, 4)):
        raise InputError(
            f"expected a scikit-image transform that is one matrix, such as AffineTransform, got a {type(transform).__name__}"
        )
    made = from_matrix(rows, type(transform).__name__)
    if fixed is None and moving is None:
        return made
    return in_world(made, *both_grids("scikit-image", made.ndim, fixed, moving))


def of_array(rows: Any, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
    """The transform of a homogeneous matrix, moving_from_fixed in world coordinates, x first; grids are not needed.

    Raises:
        InputError: not a matrix (3, 3) or (4, 4) that can be inverted.
    """
    form = "a matrix of shape (3, 3) or (4, 4)"
    matrix = numbers("matrix", rows, form)
    if matrix.shape not in ((3, 3), (4, 4)):
        raise InputError(f"matrix: expected {form}, got {matrix.shape}")
    return from_matrix(matrix, "matrix")
