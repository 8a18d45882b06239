"""`Source`: an image with several levels of resolution that is read by level and region, so that it may exceed the memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.headers import fits
from drmime.image.pixels import Pixels

LARGEST = {
    2: 2**23,
    3: 2**24,
}  # most pixels of the finest level that is registered, by dimension: sampled points need no more
LEAST = 32  # pixels along an axis that is halved
ALIKE = 1.5  # ratio of pixel lengths up to which axes are halved together, as in pyramids
BAND = 2**24  # values read at a time while a level is made coarser


@dataclass(frozen=True, eq=False)
class Source:
    """The levels of an image, finest first, and where they lie in one world.

    Each of `arrays` has a shape, a dtype and slices, as arrays of NumPy, Zarr and Dask have.
    """

    name: str  # of the file, in error messages
    arrays: tuple[Any, ...]
    axes: str  # a letter for each axis: T time, C channels, S samples of a colour, Z, Y, X
    grid: Grid  # of the spatial axes of the finest level
    masks: tuple[Any, ...] = ()  # of each level which values are valid, of the shape of the level; none if all are
    nodata: float | None = None  # as in `Pixels`
    note: str = ""  # likewise

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial axes, in array order."""
        return space_of(self.axes, self.arrays[0].shape)

    @property
    def others(self) -> tuple[int, ...]:
        return tuple(at for at in range(len(self.axes)) if at not in self.space)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of the axes that are not spatial."""
        return tuple(self.arrays[0].shape[at] for at in self.others)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.arrays[0].dtype)

    def grids(self) -> list[Grid]:
        """Of each level."""
        return [self.grid.level([array.shape[at] for at in self.space]) for array in self.arrays]

    def planes(self, level: int, first: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """A box of a level, `first` pixel and `shape` in array order, for each entry of the other axes. -> (K, *shape)

        Raises:
            InputError: the file is damaged.
        """
        return self._box(self.arrays, level, first, shape)

    def valid(self, level: int, first: Sequence[int], shape: Sequence[int]) -> np.ndarray | None:
        """Which values of `planes` are valid, bool, of the same shape; None if all of the image are. InputError as there."""
        return self._box(self.masks, level, first, shape) if self.masks else None

    def pixels(self, level: int = 0) -> Pixels:
        """A level as a whole.

        Raises:
            InputError: the file is damaged, or the level does not fit the memory.
        """
        fits(self.name, math.prod(self.arrays[level].shape) * self.dtype.itemsize)
        grid, key = self.grids()[level], (slice(None),) * len(self.axes)
        mask = self._read(self.masks, level, key) if self.masks else None
        return self._as_pixels(self._read(self.arrays, level, key), grid, mask)

    def reduced(self) -> Pixels:
        """The finest level of at most `LARGEST` pixels; if there is none, means over blocks of the coarsest, as float32.

        Its `finest` is the grid of the finest level.

        Raises:
            InputError: the file is damaged.
        """
        level, factors = self._reduction()
        found = self._averaged(self.grids()[level], factors) if max(factors) > 1 else self.pixels(level)
        return replace(found, finest=self.grid)

    def reduced_grid(self) -> Grid:
        """The grid of `reduced`, for which no pixel is read."""
        level, factors = self._reduction()
        grid = self.grids()[level]
        return grid.grouped([length // factor for length, factor in zip(grid.shape, factors, strict=True)], factors)

    def _reduction(self) -> tuple[int, list[int]]:
        """The level that `reduced` reads, and by how much it makes each axis coarser."""
        grids, most = self.grids(), LARGEST[self.grid.ndim]
        few = [level for level, grid in enumerate(grids) if math.prod(grid.shape) <= most]
        return (few[0], [1] * self.grid.ndim) if few else (len(grids) - 1, _factors(grids[-1], most))

    def _averaged(self, grid: Grid, factors: Sequence[int]) -> Pixels:
        """Means over blocks of so many pixels along each spatial axis of the coarsest level, read in bands."""
        shape = tuple(length // factor for length, factor in zip(grid.shape, factors, strict=True))
        rows = max(1, BAND // (factors[0] * math.prod(grid.shape[1:]) * math.prod(self.lengths)))
        out = np.empty((math.prod(self.lengths), *shape), np.float32)
        inside = np.ones(out.shape, bool) if self.masks else None
        for start in range(0, shape[0], rows):
            count = min(rows, shape[0] - start)
            size = [factor * length for factor, length in zip(factors, (count, *shape[1:]), strict=True)]
            box = len(self.arrays) - 1, (factors[0] * start, *[0] * (len(shape) - 1)), size
            out[:, start : start + count] = block_means(self.planes(*box), factors, np.float32)
            if inside is not None:  # a pixel is valid if all that it replaces are
                inside[:, start : start + count] = block_means(self._box(self.masks, *box), factors, np.float32) == 1
        order = np.argsort((*self.others, *self.space))
        whole = out.reshape(*self.lengths, *shape).transpose(order)
        mask = None if inside is None else inside.reshape(*self.lengths, *shape).transpose(order)
        return self._as_pixels(whole, grid.grouped(shape, factors), mask)

    def _as_pixels(self, array: np.ndarray, grid: Grid, mask: np.ndarray | None) -> Pixels:
        """The pixels of a level; several channels of RGB each become one axis of channels, the last."""
        mask = None if mask is None or mask.all() else mask
        letters, axes = [self.axes[at] for at in self.space], self.axes
        if {"S", "C"} <= set(axes) and min(array.shape[axes.index(name)] for name in "CS") > 1:
            array = np.moveaxis(array, (axes.index("C"), axes.index("S")), (-2, -1))
            array = array.reshape(*array.shape[:-2], -1)
            axes = axes.replace("C", "").replace("S", "") + "C"
        named = [at for at, name in enumerate(axes) if name in "SC"]
        named = [at for at in named if array.shape[at] > 1] or named
        axis = named[0] if named else "auto" if len(letters) < array.ndim else None
        space = tuple(axes.index(letter) for letter in letters)
        return Pixels(array, grid, space, axis, mask, axes, None, self.nodata, self.note)

    def _box(self, arrays: Sequence[Any], level: int, first: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        key = [slice(None)] * len(self.axes)
        for axis, start, length in zip(self.space, first, shape, strict=True):
            key[axis] = slice(start, start + length)
        return self._read(arrays, level, tuple(key)).transpose(*self.others, *self.space).reshape(-1, *shape)

    def _read(self, arrays: Sequence[Any], level: int, key: tuple[slice, ...]) -> np.ndarray:
        try:
            return np.asarray(arrays[level][key])
        except (InputError, MemoryError):
            raise
        except Exception as error:  # decoders raise many kinds of errors on damaged data
            if "imagecodecs" in str(error):
                raise InputError(f"{self.name}: this compression needs imagecodecs: pip install 'drmime[slides]'") from error
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{self.name}: level {level} is truncated or damaged ({why})") from error


def block_means(planes: np.ndarray, factors: Sequence[int], dtype: Any) -> np.ndarray:
    """Means over blocks of `factors` pixels along each axis of planes, in a dtype. (K, *shape) -> (K, *shape / factors)"""
    parts = [part for length, factor in zip(planes.shape[1:], factors, strict=True) for part in (length // factor, factor)]
    return planes.reshape(len(planes), *parts).mean(tuple(range(2, 2 * len(factors) + 1, 2)), dtype=dtype)


def space_of(axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The spatial axes, in array order, of an array whose axes have these letters; Z of length 1 is none."""
    return tuple(at for at, name in enumerate(axes) if name in "YX" or (name == "Z" and shape[at] > 1))


def _factors(grid: Grid, most: int) -> list[int]:
    """By how much each axis is reduced for at most so many pixels: first the axes with the shortest pixels, as in pyramids."""
    factors = np.ones(grid.ndim, int)
    spacing, shape = grid.spacing.flip(0).numpy(), np.array(grid.shape)
    while np.prod(shape // factors) > most:
        long = shape // factors >= LEAST
        lengths = np.where(long, spacing * factors, np.inf)
        factors[lengths < ALIKE * lengths.min() if long.any() else shape // factors == (shape // factors).max()] *= 2
    return [int(factor) for factor in factors]
