"""Grids to warp to: the union of two images, other pixel lengths, other shapes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError, numbers, whole
from drmime.geometry.grid import Grid
from drmime.image.crs import check_crs
from drmime.image.door import load
from drmime.image.io import open_source
from drmime.image.planes import planes_of
from drmime.transform.base import Transform
from drmime.transform.warp import in_pixels

EDGE = 1e-6  # pixels; what reaches less than that into a pixel does not need it
LATTICE = 9  # points along each axis of the moving image by which its extent in the fixed image is found
MOST_PIXELS = 2**48  # of a result; more do not fit any memory


def union(transform: Transform, fixed: Grid, moving: Grid) -> Grid:
    """The fixed grid, extended by whole pixels to hold the moving image.

    Raises:
        InputError: the moving image reaches behind the horizon of the transform.
    """
    along = torch.linspace(0, 1, LATTICE, dtype=torch.float64)
    points = torch.cartesian_prod(*[along] * moving.ndim) * moving.size - 0.5
    places = in_pixels(transform, fixed, moving).inverse()(points)
    if not places.isfinite().all():
        raise InputError("union: the moving image reaches behind the horizon of the transform; take the grid 'fixed'")
    low = (places.amin(0) + 0.5 + EDGE).floor().clamp(max=0)
    high = torch.maximum((places.amax(0) + 0.5 - EDGE).ceil(), fixed.size)
    return fixed.cut([int(n) for n in low.flip(0)], [int(n) for n in (high - low).flip(0)])


def with_spacing(grid: Grid, spacing: Any) -> Grid:
    """The grid with pixels of other lengths between the same edges; lengths are rounded so that whole pixels fit.

    Raises:
        InputError: `spacing` is not one positive length, or one for each axis in array order.
    """
    form = f"one positive length, or {grid.ndim} in array order"
    lengths = np.atleast_1d(numbers("spacing", spacing, form))
    if lengths.shape not in ((1,), (grid.ndim,)) or not ((lengths > 0) & np.isfinite(lengths)).all():
        raise InputError(f"spacing: expected {form}, got {spacing!r}")
    counts = np.maximum(1, np.rint(grid.extent.flip(0).numpy() / lengths))
    if np.prod(counts) > MOST_PIXELS:
        raise InputError(f"spacing: {spacing!r} makes a result of {np.prod(counts):.2g} pixels. Give larger lengths.")
    return grid.resized([int(n) for n in counts])


def with_shape(grid: Grid, shape: Sequence[int] | None, name: str) -> Grid:
    """The grid with another shape between the same edges, unless it is None.

    Raises:
        InputError: it is no shape of this dimension; `name` is that of the option.
    """
    if shape is None:
        return grid
    if not isinstance(shape, Sequence) or len(shape) != grid.ndim:
        raise InputError(f"{name}: expected {grid.ndim} whole numbers in array order, got {shape!r}")
    return grid.resized([whole(name, length, 1) for length in shape])


def grid_of(image: Any) -> Grid:
    """The grid of an image, of a series that of each of its images; regular if the image states none."""
    if isinstance(image, (str, Path)) and (levels := open_source(image)) is not None:
        return levels.grid
    source = planes_of(load(image, "grid"), "auto", "grid", tensor=isinstance(image, Tensor))
    return Grid.regular(source.planes.shape[1:]) if source.grid is None else source.grid


def lying(grid: Grid | None, shape: Sequence[int], registered: Grid) -> Grid | None:
    """Where an image of a shape (array order) that states `grid` lies in the world of the registered image; None: not known.

    It lies where its own grid says if both state their place. Else its outer edges are those of the registered image if it has
    the same shape, or states pixel lengths that make it as large. TIFF states lengths without a place.

    Raises:
        InputError: both are georeferenced, in other coordinate reference systems.
    """
    if grid is not None and grid.placed and registered.placed:
        check_crs(registered, grid, ("the registered image", "this one"))
        return grid
    if tuple(shape) == registered.shape or (grid is not None and grid.of_same_extent(registered)):
        return registered.resized(shape)
    return None


def check_view(transform: Transform, target: Grid, moving: Grid) -> None:
    """Check that a grid to warp to meets the moving image.

    Raises:
        InputError: it does not: nothing but fill would be written.
    """
    along = torch.linspace(0, 1, LATTICE, dtype=torch.float64)
    points = torch.cartesian_prod(*[along] * target.ndim) * target.size - 0.5
    places = in_pixels(transform, target, moving)(points)
    beside = (places.amax(0) < -0.5) | (places.amin(0) > moving.size - 0.5)  # of one side, of a convex box
    if bool(beside.any()):
        raise InputError(f"grid: expected a grid that meets the warped image, got {target}, where there is nothing of it")


def check_overlap(image: Grid, registered: Grid) -> None:
    """Check that the boxes around two grids in the world have something in common.

    Raises:
        InputError: they have not.
    """
    (low, high), (least, most) = ((grid.corners().amin(0), grid.corners().amax(0)) for grid in (image, registered))
    if bool((low >= most).any() or (high <= least).any()):
        raise InputError(
            f"warp: expected an image that overlaps the registered moving image, which lies from {least.tolist()} to "
            f"{most.tolist()}, got one from {low.tolist()} to {high.tolist()}. If its geometry is wrong, pass an array."
        )
