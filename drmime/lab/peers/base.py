"""`Problem`, the input of every peer, and functions that peers share.

A peer is a function `peer(problem, **options)` that does all preparation (imports, conversions) and returns the function that
is timed: from a seed to `moving_from_fixed` in pixels, x first: a matrix (D+1, D+1) or a `Transform`.

Peers with physical units use a common world: the origin is the first pixel of each image, the axes are those of the arrays, and
the unit is the mean side of a pixel of the fixed image. Step sizes are therefore independent of the units of the images.
"""

import contextlib
import importlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drmime.errors import InputError, number, numbers, whole
from drmime.geometry.matrices import affine
from drmime.registry import known
from drmime.transform.base import Transform

Run = Callable[[int], np.ndarray | Transform]  # seed -> moving_from_fixed in pixels, x first; a matrix has (D+1, D+1)
Peer = Callable[..., Run]  # of a problem and options

GROUPS = ("translation", "rigid", "similarity", "affine")  # each contains those before it
LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green and blue (ITU-R BT.601)
SMALLEST_SIDE = 16  # pixels; shortest side on a level of a pyramid


@dataclass(frozen=True, eq=False)
class Problem:
    """Two images, their geometry and the start. `Problem.of` makes one from checked arguments."""

    fixed: np.ndarray  # array order, channels last
    moving: np.ndarray
    fixed_spacing: tuple[float, ...]  # array order
    moving_spacing: tuple[float, ...]
    start: np.ndarray  # moving_from_fixed in pixels, x first. shape: (D+1, D+1)
    threads: int = 1

    @classmethod
    def of(
        cls,
        fixed: np.ndarray,
        moving: np.ndarray,
        fixed_spacing: Sequence[float],
        moving_spacing: Sequence[float],
        *,
        start: np.ndarray | None = None,
        threads: int = 1,
    ) -> "Problem":
        """Make a checked problem. `fixed_spacing` gives the number of spatial axes; `start` is centre on centre if None.

        Raises:
            InputError: the images are not 2-D or 3-D with real, finite values, or spacings or the start do not fit them.
        """
        spacings = _spacing("fixed_spacing", fixed_spacing), _spacing("moving_spacing", moving_spacing)
        ndim = len(spacings[0])
        if len(spacings[1]) != ndim:
            raise InputError(f"moving_spacing: expected {ndim} numbers as for the fixed image, got {moving_spacing!r}")
        for role, pixels in (("fixed", fixed), ("moving", moving)):
            _check_pixels(role, pixels, ndim)
        if start is None:
            start = centre_on_centre(fixed.shape[:ndim], moving.shape[:ndim], *spacings)
        return cls(fixed, moving, *spacings, _affine("start", start, ndim), whole("threads", threads, 1))

    @property
    def ndim(self) -> int:
        return len(self.fixed_spacing)

    @property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels along x, y[, z] of the fixed and of the moving image. each (D,)"""
        return np.array(self.fixed.shape[self.ndim - 1 :: -1]), np.array(self.moving.shape[self.ndim - 1 :: -1])

    @property
    def pixel_sides(self) -> tuple[np.ndarray, np.ndarray]:
        """World length of a pixel along x, y[, z] of the fixed and of the moving image. each (D,)"""
        unit = math.prod(self.fixed_spacing) ** (1 / self.ndim)
        return np.array(self.fixed_spacing[::-1]) / unit, np.array(self.moving_spacing[::-1]) / unit

    @property
    def world_start(self) -> np.ndarray:
        """The start as a map from fixed to moving world coordinates. shape: (D+1, D+1)"""
        fixed, moving = (np.diag([*sides, 1.0]) for sides in self.pixel_sides)
        return moving @ self.start @ np.linalg.inv(fixed)

    def in_pixels(self, moving_from_fixed: np.ndarray) -> np.ndarray:
        """Convert moving_from_fixed from world to pixel coordinates. shape: (D+1, D+1)

        Raises:
            RuntimeError: it is not finite or not of full rank, so that there is no result.
        """
        fixed, moving = (np.diag([*sides, 1.0]) for sides in self.pixel_sides)
        return usable(np.linalg.inv(moving) @ moving_from_fixed @ fixed)

    def grays(self) -> tuple[np.ndarray, np.ndarray]:
        """Both images with one channel, float32, contiguous, for peers without colour."""
        return luminance(self.fixed, self.ndim), luminance(self.moving, self.ndim)


def luminance(pixels: np.ndarray, ndim: int) -> np.ndarray:
    """One channel, float32: the luminance of RGB or RGBA, the mean of other channels. shape: (*shape,)"""
    if pixels.ndim == ndim:
        return np.ascontiguousarray(pixels, np.float32)
    colour = pixels.shape[-1] in (3, 4)
    return (pixels[..., :3] @ LUMINANCE if colour else pixels.mean(-1, dtype=np.float64)).astype(np.float32)


def centre_on_centre(
    fixed: Sequence[int], moving: Sequence[int], fixed_spacing: Sequence[float], moving_spacing: Sequence[float]
) -> np.ndarray:
    """The map of centre to centre in physical units, the default start of `register`; shapes and spacings in array order.
    -> moving_from_fixed in pixels, x first. shape: (D+1, D+1)"""
    ratio = np.array(fixed_spacing[::-1]) / np.array(moving_spacing[::-1])
    return affine(np.diag(ratio), (np.array(moving[::-1]) - 1) / 2 - ratio * (np.array(fixed[::-1]) - 1) / 2)


def probed(mapped: Callable[[list[float]], Any], ndim: int) -> np.ndarray:
    """The matrix of an affine map, computed from the images of points. shape: (D+1, D+1)"""
    origin, *ends = (np.array(mapped(point), float) for point in [[0.0] * ndim, *np.eye(ndim).tolist()])
    return affine(np.stack([end - origin for end in ends], 1), origin)


def usable(matrix: np.ndarray) -> np.ndarray:
    """`matrix`, if it is finite and of full rank.

    Raises:
        RuntimeError: it is not finite, or not of full rank.
    """
    if np.isfinite(matrix).all() and np.linalg.matrix_rank(matrix) == len(matrix):
        return matrix
    raise RuntimeError(f"ended with a matrix that cannot be used: {matrix.tolist()}")


def package(name: str, *parts: str) -> Any:
    """Import the module `name` and load its `parts` (attributes that some packages load late).

    Raises:
        InputError: it is not installed.
    """
    with tolerant():
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            message = f"this method needs the package {name.partition('.')[0]}: pip install 'drmime[peers]'"
            raise InputError(f"{message} ({error})") from error
        for part in parts:
            getattr(module, part)
    return module


@contextlib.contextmanager
def tolerant() -> Iterator[None]:
    """Ignore DeprecationWarning (also as a decorator): if warnings are errors, it makes SWIG's wrappers of ITK abort."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def only(peer: str, problem: Problem, *dimensions: int) -> None:
    """Raise an InputError if `peer` does not support the dimension of `problem`."""
    if problem.ndim not in dimensions:
        expected = " or ".join(f"{ndim}-D" for ndim in dimensions)
        raise InputError(f"{peer}: expected {expected} images, got {problem.ndim}-D ones. Leave this method out for them.")


def within(kind: str, name: str, group: str) -> str:
    """The smaller of two groups of transforms: `name` if `group` contains it, else `group`."""
    return min(name, known(kind, group, GROUPS), key=GROUPS.index)


def capped(factors: Iterable[int], sides: np.ndarray) -> list[list[int]]:
    """Shrink factors (L, D) of levels, limited for each axis so that sides (D,) keep `SMALLEST_SIDE` pixels."""
    return [[min(factor, max(1, int(side) // SMALLEST_SIDE)) for side in sides] for factor in factors]


def listed(name: str, values: Any, count: int | None = None, least: float = 0) -> list[float]:
    """`values` as a list. Raises: InputError: they are not (`count`, if given) numbers of at least `least`."""
    array = numbers(name, values, "a list of numbers")
    if array.ndim == 1 and len(array) == (count or len(array)) > 0 and (array >= least).all() and np.isfinite(array).all():
        return list(array.tolist())
    many = f"{count} numbers" if count else "numbers"
    raise InputError(f"{name}: expected a list of {many} of at least {least:g}, got {values!r}")


def counts(name: str, values: Any, length: int | None = None, least: int = 1) -> list[int]:
    """`listed` for whole numbers."""
    return [whole(name, int(value) if value.is_integer() else value, least) for value in listed(name, values, length, least)]


def _spacing(name: str, values: Any) -> tuple[float, ...]:
    array = numbers(name, values, "2 or 3 numbers")
    if array.shape not in ((2,), (3,)):
        raise InputError(f"{name}: expected 2 or 3 numbers, one for each axis of space, got {values!r}")
    return tuple(number(name, value, 0) for value in array.tolist())


def _check_pixels(role: str, pixels: Any, ndim: int) -> None:
    if not isinstance(pixels, np.ndarray) or pixels.ndim not in (ndim, ndim + 1) or pixels.dtype.kind not in "buif":
        came = f"shape {pixels.shape} of {pixels.dtype}" if isinstance(pixels, np.ndarray) else repr(type(pixels).__name__)
        raise InputError(f"{role}: expected an array of real numbers with {ndim} axes, and channels last if any, got {came}")
    if pixels.size == 0 or not np.isfinite(pixels).all():
        raise InputError(f"{role}: expected finite pixels, got none or some that are not. Fill them first.")


def _affine(name: str, matrix: Any, ndim: int) -> np.ndarray:
    array = numbers(name, matrix)
    square = array.shape == (ndim + 1, ndim + 1) and np.isfinite(array).all()
    if square and (array[-1] == np.eye(ndim + 1)[-1]).all() and np.linalg.matrix_rank(array) == ndim + 1:
        return array
    raise InputError(f"{name}: expected an invertible affine matrix of shape {(ndim + 1, ndim + 1)}, got {array.tolist()}")
