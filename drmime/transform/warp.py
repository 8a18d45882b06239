"""Warping of arrays by a transform: dtype, value range and channel layout are kept, labels are not blended."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.door import load
from drmime.image.headers import memory
from drmime.image.planes import planes_of
from drmime.parts import INTERPOLATIONS, LABEL_INTERPOLATIONS
from drmime.registry import known
from drmime.transform.base import Transform
from drmime.transform.interpolate import majority
from drmime.transform.linear import MatrixTransform
from drmime.transform.places import places

CHUNK = 2**20  # output pixels processed at a time; limits the memory for coordinates
# standard deviation in pixels by which an image is taken to be blurred by its own sampling (Lowe 2004, doi
# 10.1023/B:VISI.0000029664.99615.94, section 3.3); anti-aliasing adds what is missing to that of the coarser pixels
OWN_BLUR = 0.5
LEAST_BLUR = 0.15  # pixels; a Gaussian of less changes no pixel by more than 1e-9 of its neighbour
EDGE = 1e-6  # of a pixel: keeps border pixels inside despite rounding
MOST_VOTES = 9  # places inside a pixel, along one axis, that vote for its label


def resample(
    moving: Any,
    transform: Transform,
    moving_grid: Grid,
    fixed_grid: Grid,
    interpolation: str = "linear",
    fill: float = 0,
    channel_axis: Any = "auto",
) -> np.ndarray:
    """Resample `moving` on `fixed_grid`: each pixel takes the value at its place under `transform` (fixed to moving world).

    `interpolation`, `fill`: as for `pulled`; `channel_axis`: as for `drmime.image.planes.planes_of`.

    Returns:
        an array of the shape of `fixed_grid`, with dtype and channel axis of `moving`.

    Raises:
        InputError: as `pulled`; another shape than that of `moving_grid`.
    """
    source = planes_of(load(moving, "moving"), channel_axis, "moving", tensor=isinstance(moving, Tensor))
    if source.planes.shape[1:] != moving_grid.shape:
        raise InputError(f"warp: expected the moving image's shape {moving_grid.shape}, got {source.planes.shape[1:]}")
    return source.whole(pulled(source.planes, transform, moving_grid, fixed_grid, interpolation, fill))


def pulled(
    planes: np.ndarray,
    transform: Transform,
    moving_grid: Grid,
    fixed_grid: Grid,
    interpolation: str = "linear",
    fill: float = 0,
    antialias: bool = False,
) -> np.ndarray:
    """Planes on `moving_grid`, read at the places of the pixels of `fixed_grid`. (K, *shape) -> (K, *shape), same dtype

    Args:
        interpolation: a name of `INTERPOLATIONS`, or "majority": the label that covers most of a pixel.
        fill: the value where `moving_grid` has no pixel.
        antialias: blur first where the pixels of `fixed_grid` are coarser; not with "nearest" and "majority".

    Raises:
        InputError: an unknown interpolation, a fill that the dtype cannot hold, or a result that does not fit the memory.
    """
    known("interpolation", interpolation, {*INTERPOLATIONS, *LABEL_INTERPOLATIONS})
    if (size := len(planes) * math.prod(fixed_grid.shape) * planes.dtype.itemsize) > memory():
        raise InputError(f"warp: an image of shape {fixed_grid.shape} takes {size / 2**30:.3g} GiB, more than this machine has")
    outside = fill_of(fill, planes.dtype)
    view = View.of(transform, moving_grid, fixed_grid, interpolation, antialias)
    rows = max(1, CHUNK // ((1 + len(view.votes)) * math.prod(fixed_grid.shape[1:])))
    out = np.empty((len(planes), *fixed_grid.shape), planes.dtype)

    @functools.lru_cache(maxsize=4)  # of small images the places serve all planes
    def band(start: int) -> tuple[list[np.ndarray], np.ndarray]:
        count = min(rows, fixed_grid.shape[0] - start)
        return view.places((start, *[0] * (fixed_grid.ndim - 1)), (count, *fixed_grid.shape[1:]))

    for plane, target in zip(planes, out, strict=True):
        read = view.reader(plane)
        for start in range(0, len(target), rows):
            found, inside = band(start)
            part = target[start : start + rows]
            part[:] = np.where(inside, read(found), outside).reshape(part.shape)
    return out


@dataclass(frozen=True, eq=False)
class View:
    """How the pixels of a grid are read from a moving image."""

    mapping: Transform  # from pixels of the grid to those of the moving image
    moving_shape: tuple[int, ...]
    ends: np.ndarray  # pixels of the moving image at which it ends, array order. shape: (D,)
    interpolation: str
    blur: Sequence[float]  # standard deviations, pixels of the moving image, array order
    votes: np.ndarray  # places in a pixel that vote for its label; none but for "majority". shape: (V, D), array order

    @classmethod
    def of(
        cls,
        transform: Transform,
        moving: Grid,
        fixed: Grid,
        interpolation: str,
        antialias: bool = False,
        finest: Grid | None = None,
    ) -> "View":
        """`finest`: the grid of the finest level, where `moving` is that of a coarser one, which may end before it."""
        corners = (finest or moving).corners()
        ends = apply(moving.index_from_world, corners, is_affine=True)[0].amax(0).flip(0).numpy()
        mapping = in_pixels(transform, fixed, moving)
        slopes = slopes_of(mapping, fixed)
        votes = _offsets(slopes)[:, ::-1] if interpolation == "majority" else np.zeros((0, fixed.ndim))
        blur = _blur(slopes) if antialias else [0.0] * fixed.ndim
        return cls(mapping, moving.shape, ends, interpolation, blur, votes)

    def places(self, first: Sequence[int], shape: Sequence[int]) -> tuple[list[np.ndarray], np.ndarray]:
        """Places in the moving image of the pixels of a box, and whether each pixel is inside, (N,).

        Places are arrays (D, N) in array order: one, for "majority" one for each vote.
        """
        centres = places(self.mapping, first, shape)
        ends = np.array(self.moving_shape)[:, None] - 0.5
        inside = np.all((centres >= -0.5 - EDGE) & (centres <= self.ends[:, None] + EDGE), axis=0)  # false of NaN
        starts = [np.add(first, vote) for vote in self.votes]
        every = [places(self.mapping, start, shape) for start in starts] if starts else [centres]
        return [np.nan_to_num(one).clip(-0.5, ends) for one in every], inside

    def reader(self, plane: np.ndarray) -> Callable[[list[np.ndarray]], np.ndarray]:
        """A function from what `places` gives to values of a plane, or of the part of it in which these places are."""
        if self.interpolation == "majority":
            return lambda found: majority(plane, found)
        read = INTERPOLATIONS[self.interpolation](plane, self.blur)
        return lambda found: read(found[0])


def in_pixels(transform: Transform, fixed: Grid, moving: Grid) -> Transform:
    """The transform from index coordinates of the fixed image to those of the moving image, x first."""
    return MatrixTransform(moving.index_from_world) @ transform @ MatrixTransform(fixed.world_from_index)


def in_world(transform: Transform, fixed: Grid, moving: Grid) -> Transform:
    """The inverse of `in_pixels`: the transform in world coordinates of one in index coordinates."""
    return MatrixTransform(moving.world_from_index) @ transform @ MatrixTransform(fixed.index_from_world)


def overlap(transform: Transform, fixed: Grid, moving: Grid) -> float:
    """The share of the fixed image that lies on the moving one, without masks, by 33 places along each axis."""
    axes = [(torch.arange(33, dtype=torch.float64) + 0.5) * n / 33 - 0.5 for n in fixed.shape[::-1]]
    places = in_pixels(transform, fixed, moving)(torch.cartesian_prod(*axes))
    return float(((places >= -0.5) & (places <= moving.size - 0.5)).all(-1).double().mean())


def fill_of(fill: float, dtype: np.dtype) -> np.ndarray:
    """`fill` as a number of `dtype`; InputError if it is not one number that `dtype` holds, integers exactly."""
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(fill)
            cast = value.astype(dtype)
        same = value.ndim == 0 and value.dtype.kind in "buif"
        exact = bool(cast == value) or (dtype.kind == "f" and bool(np.isfinite(cast) == np.isfinite(value)))
    except (TypeError, ValueError, OverflowError):
        same = exact = False
    if not (same and exact):
        raise InputError(f"warp: expected a fill value that dtype {dtype} can hold, got {fill!r}")
    return cast


def slopes_of(mapping: Transform, fixed: Grid) -> np.ndarray:
    """Absolute derivatives of moving pixels (rows) by fixed pixels (columns), x first: the medians over the image. (D, D)"""
    axes = [torch.linspace(0, n - 1, 3, dtype=torch.float64) for n in fixed.shape[::-1]]
    points = torch.cartesian_prod(*axes)
    slopes = mapping.jacobian(points)[mapping(points).isfinite().all(-1)]
    return slopes.abs().median(0).values.numpy() if len(slopes) else np.eye(fixed.ndim)


def _blur(slopes: np.ndarray) -> list[float]:
    """Standard deviations, along each axis of the moving image, of the Gaussian that is missing for coarser pixels. (D,)"""
    missing = OWN_BLUR * np.sqrt(np.maximum(np.square(slopes).sum(1) - 1, 0))[::-1]
    return np.where(missing < LEAST_BLUR, 0, missing).tolist()


def _offsets(slopes: np.ndarray) -> np.ndarray:
    """Places in a fixed pixel that vote for its label, as many for each moving pixel under it, from its centre. (V, D)"""
    under = np.maximum(1, np.ceil(np.linalg.norm(slopes, axis=0) - 1e-6))  # moving pixels along each axis of the fixed one
    counts = np.minimum(under * np.ceil(3 / under), MOST_VOTES).astype(int)
    return np.array(list(itertools.product(*[(np.arange(count) + 0.5) / count - 0.5 for count in counts])))
