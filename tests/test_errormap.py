"""The error map has the errors of the blocks where they are clear, in pixels of the moving image, and NaN elsewhere."""

import numpy as np
import pytest
import torch

from drmime.geometry.grid import Grid
from drmime.transform.linear import MatrixTransform
from drmime.verdict.errormap import error_map
from drmime.verdict.evidence import Blocks

SHAPES = {2: (60, 90), 3: (20, 24, 28)}


def blocks(grid: Grid, errors: np.ndarray, weight: float = 1.5, side: int = 10) -> Blocks:
    """Blocks of `side` pixels that cover a grid, with these errors: (D,) or one for each block."""
    cells = [length // side for length in grid.shape]
    centres = (np.indices(cells).reshape(grid.ndim, -1).T + 0.5) * side - 0.5
    world = grid.world_from_index.numpy()
    points = centres[:, ::-1] @ world[:-1, :-1].T + world[:-1, -1]
    every = np.broadcast_to(errors, points.shape).copy()
    return Blocks(points, every, np.full(len(points), weight), side * float(grid.spacing.max()), 8.0)


def test_equal_errors_give_their_length_in_pixels_everywhere(ndim: int) -> None:
    fixed, moving = Grid.regular(SHAPES[ndim], [0.5] * ndim), Grid.regular((40,) * ndim, [2.0] * ndim)
    found = error_map(blocks(fixed, np.array([6.0, 8.0, 0.0][:ndim]), side=4), fixed, moving)
    assert found.shape == fixed.shape
    assert found.dtype == np.float32
    assert np.allclose(found, 5)


def test_the_error_of_one_side_stays_on_that_side() -> None:
    grid = Grid.regular(SHAPES[2])
    some = blocks(grid, np.zeros(2))
    right = some.points[:, 0] > 45
    some.errors[right] = [4, 0]
    found = error_map(some, grid, grid)
    assert found[:, :30].max() < 0.2
    assert found[:, 60:].min() > 3.8


def test_nothing_is_said_where_no_block_is_clear(ndim: int) -> None:
    grid = Grid.regular(SHAPES[ndim])
    assert np.isnan(error_map(blocks(grid, np.zeros(ndim), weight=0.001), grid, grid)).all()
    nothing = np.zeros((0, ndim))
    assert np.isnan(error_map(Blocks(nothing, nothing, np.zeros(0), 1.0, 8.0), grid, grid)).all()
    some = blocks(grid, np.ones(ndim), side=4)
    some.weights[some.points[:, 0] > grid.shape[-1] / 2] = 0
    found = error_map(some, grid, grid)
    assert np.isnan(found[..., -1]).all()
    assert np.isfinite(found[..., 0]).all()


def test_nothing_is_said_where_blocks_match_by_chance(rng: np.random.Generator) -> None:
    """On the left errors in all directions, on the right the same error everywhere."""
    grid = Grid.regular(SHAPES[2])
    some = blocks(grid, np.array([6.0, 0.0]), side=5)
    left = some.points[:, 0] < 45
    some.errors[left] = rng.uniform(-9.8, 9.8, (left.sum(), 2))  # of chance 8 in two dimensions
    found = error_map(some, grid, grid)
    assert np.isnan(found[:, :35]).mean() > 0.9
    assert np.allclose(found[:, 65:], 6, atol=0.3)


def test_of_the_inverse_the_map_lies_on_the_other_image(ndim: int) -> None:
    grid = Grid.regular(SHAPES[ndim])
    matrix = torch.diag(torch.tensor([2.0] * ndim + [1.0], dtype=torch.float64))
    large = Grid.regular([2 * length for length in grid.shape])
    some = blocks(grid, np.array([4.0, 0, 0][:ndim]))
    turned = some.inverse(MatrixTransform(matrix))
    assert turned.side == pytest.approx(2 * some.side)
    assert turned.errors[:, 0] == pytest.approx(-2)
    assert np.nanmedian(error_map(turned, large, grid)) == pytest.approx(2)
