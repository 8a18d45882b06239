"""Blocks of a right transform leave nothing to shift; those of a wrong one scatter."""

import math
from dataclasses import replace

import pytest
import torch
from alike import bent, pairs
from counting import Counting
from posed import Case
from torch import Tensor

from drmime.geometry.matrices import translation
from drmime.start import residuals as module
from drmime.start.residuals import BLOCKS, CLARITY, FEWEST, NEAR, REACH, Residuals, _correlated, _cut, residuals
from drmime.start.score import Reduced
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform


def of(case: Case, matrix: Tensor) -> Residuals:
    [found] = residuals(case.inputs().reduced(matrix), [MatrixTransform(matrix)])
    return found


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
    [found] = residuals(small, [MatrixTransform(case.truth @ translation(step))])
    expected = torch.tensor([0.0] * (ndim - 1) + [-pixels])
    assert found.near < 0.1
    assert float(((found.shifts - expected).norm(dim=-1) < 1.5).double().mean()) > 0.7


def test_of_few_blocks_nothing_is_said() -> None:
    assert math.isnan(made(torch.zeros(FEWEST - 1, 2)).near)
    assert made(torch.zeros(0, 2)).weighted == 0
    assert made(torch.zeros(1, 2)).weighted < 0.6 < made(torch.zeros(20, 2)).weighted
    assert made(torch.zeros(FEWEST, 2)).near == 1
    far = torch.tensor([[0.0, 100 * NEAR + 1]]).repeat(FEWEST, 1)
    assert made(far).near == 0


def made(shifts: Tensor, clarity: float = 5.0) -> Residuals:
    count, ndim = shifts.shape
    centres = 100 * torch.rand(count, ndim, generator=torch.Generator().manual_seed(0))
    return Residuals(shifts, 100, centres, torch.full((count,), clarity), 12, 6)


def test_clear_blocks_count_more_than_unclear_ones() -> None:
    shifts = torch.zeros(20, 2)
    shifts[:10] = 5
    found = made(shifts)
    assert found.near == 0.5
    assert 0.4 < found.weighted < 0.5
    clear = replace(found, clarity=torch.tensor([CLARITY[0]] * 10 + [CLARITY[1]] * 10))
    assert clear.weighted > 0.7
    assert replace(found, clarity=torch.full((20,), CLARITY[0])).weighted < 0.2


def test_the_smooth_shifts_are_those_of_most_blocks(ndim: int) -> None:
    """Three blocks of four follow an affine map; the others are far from it."""
    found = made(torch.zeros(80, ndim))
    truth = 0.02 * (found.centres.flip(-1) - 50) + 1
    shifts = truth.clone()
    shifts[::4] = 6 * torch.randn(20, ndim, generator=torch.Generator().manual_seed(1))
    smooth = replace(found, shifts=shifts).smooth()
    assert float((smooth - truth).norm(dim=-1).max()) < 0.3
    assert made(torch.zeros(0, ndim)).smooth().shape == (0, ndim)


def test_without_overlap_there_are_no_blocks(ndim: int) -> None:
    case = Case(ndim)
    away = case.truth @ translation(torch.full((ndim,), 1e4, dtype=torch.float64))
    assert len(of(case, away).shifts) == 0


@pytest.mark.parametrize("side", [3, 4])
def test_blocks_cover_the_image_and_correlate_as_sums_of_products(ndim: int, side: int) -> None:
    shape = (7, 6, 5)[:ndim]
    data = torch.rand(3, 2, *shape, generator=torch.Generator().manual_seed(side), dtype=torch.float64)
    blocks, windows = _cut(data, side, 0), _cut(data, side, 2)
    assert blocks.shape[: ndim + 1] == (3, *(math.ceil(length / side) for length in shape))
    assert torch.equal(_cut(data[1:2], side, 2)[0], windows[1])
    blocks, windows = blocks.flatten(0, ndim), windows.flatten(0, ndim)
    assert torch.equal(windows[(slice(None), slice(None), *[slice(2, 2 + side)] * ndim)], blocks)
    assert float(blocks.sum()) == pytest.approx(float(data.sum()))
    sums = _correlated(blocks, windows)
    assert sums.shape[1:] == (5,) * ndim
    one = tuple(slice(1, 1 + side) for _ in range(ndim))  # the second place along each axis
    expected = (blocks * windows[(slice(None), slice(None), *one)]).flatten(1).sum(1)
    assert torch.allclose(sums[(slice(None), *[1] * ndim)], expected)


def test_dimensions_have_their_numbers() -> None:
    assert set(BLOCKS) == {2, 3}


# Several pairs at once


def same(found: Residuals, alone: Residuals) -> bool:
    """To rounding in float32: a clarity is about 5, a shift at most 10 pixels."""
    assert (found.side, found.reach, found.diagonal) == (alone.side, alone.reach, alone.diagonal)
    assert torch.equal(found.centres, alone.centres)
    return all(
        torch.allclose(a, b, rtol=0, atol=1e-3) for a, b in ((found.shifts, alone.shifts), (found.clarity, alone.clarity))
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("level", [0, 1])
def test_each_pair_of_a_batch_has_the_shifts_that_it_has_alone(ndim: int, masked: bool, level: int) -> None:
    several, transforms = pairs(ndim, 4, masked)
    level = min(level, len(several[0].fixed.levels) - 1)
    alone = [residuals(one, [transform], level)[0] for one, transform in zip(several, transforms, strict=True)]
    assert len(alone[0].shifts) > 3
    assert len(alone[3].shifts) == 0
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        found = residuals(Reduced.joined([several[at] for at in order]), [transforms[at] for at in order], level)
        assert all(same(one, alone[at]) for one, at in zip(found, order, strict=True))


def test_deformations_stand_beside_matrices(ndim: int) -> None:
    several, matrices = (some[:2] for some in pairs(ndim, 4))
    transforms: list[Transform] = [matrices[0] @ bent(ndim, 1), matrices[1]]
    found = residuals(Reduced.joined(several), transforms)
    for one, small, transform in zip(found, several, transforms, strict=True):
        assert same(one, residuals(small, [transform])[0])


def test_the_number_of_windows_that_are_correlated_at_once_changes_nothing(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    several, transforms = pairs(ndim, 4)
    small = Reduced.joined(several)
    whole = residuals(small, transforms)
    for values in (1e5, 1):  # a few blocks, one block
        monkeypatch.setattr(module, "VALUES", int(values))
        assert all(same(one, other) for one, other in zip(residuals(small, transforms), whole, strict=True))


def test_many_pairs_take_about_as_many_operations_as_one(ndim: int) -> None:
    several, transforms = pairs(ndim, 16)
    counts = []
    for count in (1, 16):
        small = Reduced.joined(several[:count])
        with Counting() as counted:
            residuals(small, transforms[:count])
        counts.append(counted)
    assert counts[1].operations.total() < 1.1 * counts[0].operations.total()
    assert counts[1].waits.total() == counts[0].waits.total()
