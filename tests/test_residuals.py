"""Blocks of a right transform leave nothing to shift; those of a wrong one scatter."""

import math

import pytest
import torch
from posed import Case
from torch import Tensor

from drmime.geometry.matrices import translation
from drmime.start.residuals import BLOCKS, FEWEST, NEAR, REACH, Residuals, _correlated, _cut, residuals


def of(case: Case, matrix: Tensor) -> Residuals:
    return residuals(case.inputs().reduced(matrix), matrix)


def test_all_blocks_agree_where_the_truth_puts_them_and_few_where_a_turn_by_a_right_angle_does(ndim: int) -> None:
    case = Case(ndim)
    assert of(case, case.truth).near > 0.8
    assert of(case, case.shifted(degrees=90)).near < 0.15


def test_a_small_shift_is_measured(ndim: int) -> None:
    """By a whole number of pixels of the level that is compared, within the reach."""
    case = Case(ndim)
    small = case.inputs().reduced(case.truth)
    grid = small.fixed.levels[0].grid
    pixels = max(2, math.floor(0.6 * REACH * math.hypot(*grid.shape)))
    step = torch.zeros(ndim, dtype=torch.float64)
    step[0] = pixels * grid.spacing[0]  # x is the last axis of an array
    found = residuals(small, case.truth @ translation(step))
    expected = torch.tensor([0.0] * (ndim - 1) + [-pixels])
    assert found.near < 0.1
    assert float(((found.shifts - expected).norm(dim=-1) < 1.5).double().mean()) > 0.7


def test_of_few_blocks_nothing_is_said() -> None:
    assert math.isnan(Residuals(torch.zeros(FEWEST - 1, 2), 100).near)
    assert Residuals(torch.zeros(FEWEST, 2), 100).near == 1
    far = torch.tensor([[0.0, 100 * NEAR + 1]]).repeat(FEWEST, 1)
    assert Residuals(far, 100).near == 0


def test_without_overlap_there_are_no_blocks(ndim: int) -> None:
    case = Case(ndim)
    away = case.truth @ translation(torch.full((ndim,), 1e4, dtype=torch.float64))
    assert len(of(case, away).shifts) == 0


@pytest.mark.parametrize("side", [3, 4])
def test_blocks_cover_the_image_and_correlate_as_sums_of_products(ndim: int, side: int) -> None:
    shape = (7, 6, 5)[:ndim]
    data = torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(side), dtype=torch.float64)
    blocks, windows = _cut(data, side, 0), _cut(data, side, 2)
    assert len(blocks) == math.prod(math.ceil(length / side) for length in shape)
    assert torch.equal(windows[(slice(None), slice(None), *[slice(2, 2 + side)] * ndim)], blocks)
    assert float(blocks.sum()) == pytest.approx(float(data.sum()))
    sums = _correlated(blocks, windows)
    assert sums.shape[1:] == (5,) * ndim
    one = tuple(slice(1, 1 + side) for _ in range(ndim))  # the second place along each axis
    expected = (blocks * windows[(slice(None), slice(None), *one)]).flatten(1).sum(1)
    assert torch.allclose(sums[(slice(None), *[1] * ndim)], expected)


def test_dimensions_have_their_numbers() -> None:
    assert set(BLOCKS) == {2, 3}
