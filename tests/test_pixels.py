"""Which axes are space, which one holds channels, and which are empty."""

from typing import Any

import numpy as np
import pytest
import torch

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import homogeneous
from drmime.image.pixels import Pixels, arranged, each


@pytest.mark.parametrize(
    ("shape", "tensor", "asked", "expected", "axis"),
    [
        ((12, 14), False, "auto", (1, 12, 14), None),
        ((12, 14, 3), False, "auto", (3, 12, 14), 2),
        ((3, 12, 14), True, "auto", (3, 12, 14), 0),
        ((12, 14, 1), False, "auto", (1, 12, 14), 2),
        ((1, 12, 14), False, "auto", (1, 12, 14), 0),
        ((1, 12, 14), True, "auto", (1, 12, 14), 0),
        ((1, 12, 14), False, None, (1, 12, 14), None),
        ((9, 12, 14), False, "auto", (1, 9, 12, 14), None),
        ((9, 12, 14), False, 0, (9, 12, 14), 0),
        ((1, 9, 12, 14), False, "auto", (1, 9, 12, 14), 0),
        ((1, 12, 14, 3), False, "auto", (3, 12, 14), 2),
        ((12, 14), False, 0, (1, 12, 14), None),  # meant for the other image
        ((12, 14), False, -1, (1, 12, 14), None),
    ],
)
def test_by_the_shape(shape: tuple, tensor: bool, asked: Any, expected: tuple, axis: int | None) -> None:
    found = arranged(Pixels(np.zeros(shape)), asked, "fixed", tensor)
    assert found.channels.shape == expected
    assert found.axis == axis


def test_a_source_that_says_where_channels_are_is_believed_unless_told_otherwise() -> None:
    source = Pixels(np.zeros((9, 12, 14)), Grid.regular((12, 14), (2, 3)), (1, 2), 0)
    assert arranged(source, "auto", "fixed").channels.shape == (9, 12, 14)
    assert arranged(source, "auto", "fixed").grid.spacing.tolist() == [3, 2]
    with pytest.raises(InputError, match=r"axis 0 .* neither space nor channels"):
        arranged(source, None, "fixed")


def test_a_grid_keeps_the_axes_that_are_left() -> None:
    world = homogeneous(torch.tensor([[0.0, -2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 5.0]]).double(), torch.arange(3.0).double())
    grid = Grid((9, 12, 14), world)
    source = Pixels(np.zeros((9, 12, 14)), grid, (0, 1, 2))
    flat = arranged(source, 0, "fixed").grid
    assert flat.shape == (12, 14)
    assert flat.world_from_index.tolist() == [[0, -2, 0], [1, 0, 1], [0, 0, 1]]
    assert arranged(source, 2, "fixed").grid.shape == (9, 12)


def test_an_oblique_plane_has_lengths_alone() -> None:
    angle = torch.tensor(0.3, dtype=torch.float64)
    turn = torch.tensor([[1, 0, 0], [0, angle.cos(), -angle.sin()], [0, angle.sin(), angle.cos()]]).double()
    grid = Grid((1, 12, 14), homogeneous(turn * torch.tensor([0.5, 2.0, 3.0]).double(), torch.ones(3).double()))
    flat = grid.along((1, 2))
    assert torch.allclose(flat.world_from_index, Grid.regular((12, 14), (2.0, 0.5)).world_from_index)


def test_masks_follow_their_axes() -> None:
    mask = np.random.default_rng(0).random((1, 12, 14, 3)) > 0.5
    found = arranged(Pixels(np.zeros((1, 12, 14, 3)), mask=mask), "auto", "fixed")
    assert np.array_equal(found.mask, np.moveaxis(mask[0], -1, 0))


@pytest.mark.parametrize("value", ["auto", None, 2, -1])
def test_one_value_is_for_both_images_and_two_are_one_each(value: Any) -> None:
    assert each("channel_axis", value) == (value, value)
    assert each("channel_axis", [value, 0]) == (value, 0)
    for wrong in ([], [value], (1, 2, 3)):
        with pytest.raises(InputError, match="channel_axis: expected one value, or two"):
            each("channel_axis", wrong)
