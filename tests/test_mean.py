"""The mean pose: motions cancel, whatever the root and the order; chains are products of neighbours."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import logm
from textures import busy
from torch import Tensor

from drmime import InputError, Stack, register_stack
from drmime.geometry import lie
from drmime.geometry.grid import Grid
from drmime.image.image import Image
from drmime.stack.mean import mean_pose

GRID = Grid((60, 80), torch.tensor([[0.5, 0, 400.0], [0, -0.5, 9000.0], [0, 0, 1]], dtype=torch.float64))
SIDE = 72
SHIFTS = np.array([[0.0, 0.0], [3.0, -2.0], [-4.0, 1.0], [2.0, 5.0], [5.0, -3.0]])  # x, y


def maps(group: str, count: int = 7, size: float = 0.3, grid: Grid = GRID) -> Tensor:
    """Random maps of a group, world, the first one the identity."""
    basis = lie.generators(group, grid.ndim)
    random = torch.Generator().manual_seed(3)
    values = size * torch.randn(count, len(basis), generator=random, dtype=torch.float64)
    values[0] = 0
    made = lie.exp(values, torch.stack(list(basis.values())))
    return grid.world_from_frame @ made @ torch.linalg.inv(grid.world_from_frame)


def mean_log(matrices: Tensor, grid: Grid = GRID) -> np.ndarray:
    inner = torch.linalg.inv(grid.world_from_frame) @ matrices @ grid.world_from_frame
    return np.mean([logm(one.numpy()) for one in inner], 0)


@pytest.mark.parametrize("group", ["translation", "rigid", "similarity", "affine"])
def test_the_mean_of_the_logarithms_is_zero(group: str) -> None:
    matrices = maps(group)
    found = mean_pose(matrices, GRID)
    assert np.abs(mean_log(matrices @ found)).max() < 1e-9
    inner = torch.linalg.inv(GRID.world_from_frame) @ found @ GRID.world_from_frame
    if group == "rigid":
        assert torch.allclose(inner[:2, :2] @ inner[:2, :2].T, torch.eye(2, dtype=torch.float64))
    if group == "translation":
        assert torch.allclose(found[:2, 2], -matrices[:, :2, 2].mean(0))


def test_in_three_dimensions() -> None:
    grid = Grid.regular((20, 30, 40))
    matrices = maps("rigid", grid=grid)
    assert np.abs(mean_log(matrices @ mean_pose(matrices, grid), grid)).max() < 1e-9


@pytest.mark.parametrize("group", ["rigid", "affine"])
def test_neither_root_nor_order_nor_units_change_the_mean(group: str) -> None:
    matrices = maps(group)
    wanted = matrices @ mean_pose(matrices, GRID)
    others = matrices.flip(0)
    assert torch.allclose((others @ mean_pose(others, GRID)).flip(0), wanted, atol=1e-7)
    rooted = matrices @ torch.linalg.inv(matrices[4])
    assert torch.allclose(rooted @ mean_pose(rooted, GRID), wanted, atol=1e-7)
    longer = torch.diag(torch.tensor([1000.0, 1000, 1], dtype=torch.float64))
    scaled = longer @ matrices @ torch.linalg.inv(longer)
    grid = Grid(GRID.shape, longer @ GRID.world_from_index)
    assert torch.allclose(torch.linalg.inv(longer) @ scaled @ mean_pose(scaled, grid) @ longer, wanted, atol=1e-7)


def test_one_map_is_its_own_mean() -> None:
    assert torch.allclose(
        maps("affine")[3:4] @ mean_pose(maps("affine")[3:4], GRID), torch.eye(3, dtype=torch.float64), atol=1e-9
    )


@pytest.mark.parametrize("degrees", [[0, 180], [0, 90, 180, 270]])
def test_half_a_turn_has_no_mean(degrees: list[float]) -> None:
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    turns = torch.eye(3, dtype=torch.float64).repeat(len(degrees), 1, 1)
    turns[:, 0, 0], turns[:, 0, 1], turns[:, 1, 0], turns[:, 1, 1] = angles.cos(), -angles.sin(), angles.sin(), angles.cos()
    with pytest.raises(InputError, match="mean"):
        mean_pose(turns, Grid.regular((20, 20)))


# ---- stacks


def sections() -> list[np.ndarray]:
    grid = Grid.regular((SIDE, SIDE))
    scene = busy(grid, seed=5)
    return [scene(grid.index_points() - torch.as_tensor(shift)).view(SIDE, SIDE).numpy() for shift in SHIFTS]


def aligned(images: list[Any], reference: str, **options: Any) -> Stack:
    return register_stack(images, reference=reference, pairs="correlation", transform="translation", **options)


def shifts(stack: Stack) -> np.ndarray:
    return np.array([found.matrix[:2, 2] for found in stack.registrations if found is not None])


def test_of_known_shifts_the_mean_is_zero() -> None:
    stack = aligned(sections(), "mean")
    assert stack.mean
    assert np.abs(shifts(stack).mean(0)).max() < 1e-9
    assert np.abs(shifts(stack) - SHIFTS + SHIFTS.mean(0)).max() < 0.05
    assert "the mean pose, on the grid of image" in str(stack)
    fixed = {tuple(found.fixed_grid.shape) for found in stack.registrations if found is not None}
    assert fixed == {(SIDE, SIDE)}
    assert "mean pose" in stack.registrations[stack.reference].notes[0]  # type: ignore[union-attr]


def test_the_reversed_images_have_the_same_mean() -> None:
    one, other = aligned(sections(), "mean"), aligned(sections()[::-1], "mean")
    assert np.abs(shifts(one) - shifts(other)[::-1]).max() < 0.02


def test_loops_close_and_the_maps_between_images_are_those_of_any_reference() -> None:
    images = sections()
    one, other = aligned(images, "mean"), aligned(images, "first")
    for stack in (one, other):
        assert all(found is not None for found in stack.registrations)
    between = [
        [found.matrix @ np.linalg.inv(stack.registrations[2].matrix) for found in stack.registrations] for stack in (one, other)
    ]  # type: ignore[union-attr]
    assert np.abs(np.array(between[0]) - between[1]).max() < 0.01


def test_a_ruined_image_has_no_part_in_the_mean() -> None:
    images = sections()
    images[2] = np.random.default_rng(0).random((SIDE, SIDE))
    stack = aligned(images, "mean")
    assert stack.ruined == (2,)
    kept = np.delete(SHIFTS, 2, 0)
    assert np.abs(shifts(stack) - kept + kept.mean(0)).max() < 0.05


def test_a_chain_is_the_product_of_its_neighbours() -> None:
    stack = aligned(sections(), "previous")
    assert (stack.reference, stack.mean) == (0, False)
    assert [(pair.first, pair.second) for pair in stack.pairs] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    product = np.eye(3)
    for pair, found in zip(stack.pairs, stack.registrations[1:], strict=True):
        product = pair.registration.matrix @ product
        assert found is not None
        assert np.abs(found.matrix - product).max() < 1e-9
    assert np.abs(shifts(stack) - SHIFTS).max() < 0.05


def test_a_chain_passes_over_a_ruined_image() -> None:
    images = [*sections(), *sections()]
    images[3] = np.random.default_rng(0).random((SIDE, SIDE))
    stack = aligned(images, "previous")
    assert stack.ruined == (3,)
    known = [(pair.first, pair.second) for pair in stack.pairs if pair.link is not None]
    assert known == [(0, 1), (1, 2), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (2, 4)]
    assert np.abs(shifts(stack) - np.delete(np.tile(SHIFTS, (2, 1)), 3, 0)).max() < 0.05


def test_a_chain_needs_a_given_order() -> None:
    with pytest.raises(InputError, match="'previous' is for images whose order is given"):
        aligned(sections(), "previous", order="auto")
    with pytest.raises(InputError, match="'mean', 'first', 'previous'"):
        aligned(sections(), "median")


def test_by_search_the_mean_is_that_of_world_coordinates() -> None:
    """Images of other sizes and pixel lengths: their worlds are compared, not their pixels."""
    images = [Image(torch.as_tensor(one)[None, None].float(), Grid.regular((SIDE, SIDE), [0.5, 0.5])) for one in sections()[:3]]
    options: dict[str, Any] = {"transform": "translation", "levels": 2, "schedule": {"steps": 60}, "device": "cpu"}
    stack = register_stack(images, reference="mean", **options)
    assert np.abs(shifts(stack).mean(0)).max() < 1e-9
    assert np.abs(shifts(stack) - 0.5 * (SHIFTS[:3] - SHIFTS[:3].mean(0))).max() < 0.25
