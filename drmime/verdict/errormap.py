"""A map of the remaining error over the fixed image, from the errors of its blocks."""

import math

import numpy as np
from scipy import ndimage

from drmime.geometry.grid import Grid
from drmime.start.residuals import LEAST_WEIGHT
from drmime.verdict.evidence import Blocks

CELLS = {2: 48, 3: 24}  # of the coarse grid along the longest side, by dimension, on which the map is computed
WIDTH = 1.0  # standard deviation of the Gaussian that smooths the errors, in sides of a block
REACH = 1.0  # sides of a block: farther from the centre of a block nothing is said
LEAST_COUNT = 2.0  # blocks, by the Gaussian's weights: of fewer nothing is said
BY_CHANCE = 0.6  # of the scatter by chance: where errors scatter more, most blocks have matched by chance
MEDIAN_ROUNDS = 20  # of Weiszfeld's algorithm for the median


def error_map(blocks: Blocks, fixed: Grid, moving: Grid) -> np.ndarray:
    """The error in pixels of the moving image at each pixel of the fixed image, NaN where nothing can be said. float32

    It is the length of the geometric median of the errors of the blocks around, weighted by how clear they are and by a
    Gaussian. Where these errors have all directions and lengths the blocks match by chance, and nothing can be said.
    """
    counts = [max(1, round(CELLS[fixed.ndim] * length / max(fixed.shape))) for length in fixed.shape]
    counts = [min(count, length) for count, length in zip(counts, fixed.shape, strict=True)]
    factors = np.array(fixed.shape) / counts
    cells = (np.indices(counts).reshape(fixed.ndim, -1).T + 0.5) * factors - 0.5  # pixels, array order
    world = fixed.world_from_index.numpy()
    places = cells[:, ::-1] @ world[:-1, :-1].T + world[:-1, -1]
    distances = np.linalg.norm(places[:, None] - blocks.points, axis=-1) / blocks.side
    weights = np.exp(-np.square(distances / WIDTH) / 2) * blocks.weights
    total = np.maximum(weights.sum(1), 1e-12)
    count = total**2 / np.maximum(np.square(weights).sum(1), 1e-24)  # of blocks, if their weights were equal
    median, scatter = _medians(blocks.errors, weights / total[:, None], blocks.chance)
    known = (
        (distances.min(1, initial=math.inf) <= REACH)
        & (count >= LEAST_COUNT)
        & (total > LEAST_WEIGHT)
        & (scatter <= BY_CHANCE * blocks.chance)
    )
    lengths = np.linalg.norm(median @ moving.index_from_world.numpy()[:-1, :-1].T, axis=1)
    return _enlarged(np.where(known, lengths, math.nan).reshape(counts), fixed.shape)


def _medians(errors: np.ndarray, shares: np.ndarray, chance: float) -> tuple[np.ndarray, np.ndarray]:
    """Geometric medians (cells, D) of errors (N, D) for weights (cells, N), and the mean distances (cells,) from them."""
    median = shares @ errors
    for _ in range(MEDIAN_ROUNDS):
        distances = np.linalg.norm(median[:, None] - errors, axis=-1)
        pull = shares / np.maximum(distances, 1e-3 * chance)
        median = pull @ errors / np.maximum(pull.sum(1), 1e-12)[:, None]
    return median, (shares * np.linalg.norm(median[:, None] - errors, axis=-1)).sum(1)


def _enlarged(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values of cells interpolated linearly to the pixels of an image; NaN where the nearest cell has none. float32"""
    known = np.isfinite(values)
    if not known.any():
        return np.full(shape, math.nan, np.float32)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    factors = [length / count for length, count in zip(shape, values.shape, strict=True)]
    filled, inside = (
        ndimage.zoom(part.astype(np.float32), factors, order=order, mode="nearest", grid_mode=True)
        for part, order in ((values[tuple(nearest)], 1), (known, 0))
    )
    return np.where(inside > 0, filled, np.float32(math.nan))
