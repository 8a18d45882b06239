"""Grids: the four frames lead into one another, and every level knows where its pixels lie."""

import math

import pytest
import torch
from problems import oblique, rotation, translation, world_points
from tolerances import EXACT

from drmime.geometry.grid import Grid, border, linear_part
from drmime.geometry.matrices import apply, homogeneous, scale_and_shift


def near(left: torch.Tensor, right: torch.Tensor | list, scale: float = 1.0) -> bool:
    return torch.allclose(left, torch.as_tensor(right, dtype=left.dtype), rtol=0, atol=EXACT * scale)


def test_shape_and_spacing_are_in_array_order_and_coordinates_x_first() -> None:
    grid = Grid.regular((3, 4, 5), (10.0, 2.0, 0.5))
    assert grid.size.tolist() == [5, 4, 3]
    assert grid.spacing.tolist() == [0.5, 2.0, 10.0]
    assert grid.extent.tolist() == [2.5, 8.0, 30.0]
    last_slice, second_row, first_column = 2, 1, 0
    flat = (last_slice * 4 + second_row) * 5 + first_column
    assert grid.index_points()[flat].tolist() == [0, 1, 2]
    assert world_points(grid)[flat].tolist() == [0.0, 2.0, 20.0]


def test_the_spacing_of_a_turned_grid_is_that_of_its_axes() -> None:
    assert near(oblique((8, 9, 10), (3.0, 2.0, 0.5)).spacing, [0.5, 2.0, 3.0])


def test_the_first_pixel_centre_is_the_origin(ndim: int) -> None:
    grid = Grid.regular((4, 5, 6)[:ndim])
    assert grid.ndim == ndim
    assert world_points(grid)[0].tolist() == [0.0] * ndim


@pytest.mark.parametrize(("there", "back"), [("world_from_index", "index_from_world"), ("world_from_unit", "unit_from_world")])
def test_frames_lead_there_and_back(grid: Grid, there: str, back: str) -> None:
    assert near(getattr(grid, there) @ getattr(grid, back), torch.eye(grid.ndim + 1), scale=100)


def test_unit_runs_from_outer_edge_to_outer_edge(grid: Grid) -> None:
    edges = torch.stack([torch.full((grid.ndim,), -0.5, dtype=torch.float64), grid.size - 0.5])
    unit, _ = apply(grid.unit_from_index, edges)
    assert near(unit, [[-1.0] * grid.ndim, [1.0] * grid.ndim])


def test_the_frame_is_isotropic_centred_and_of_half_the_longest_side(grid: Grid) -> None:
    linear = grid.world_from_frame[:-1, :-1]
    radius = float((grid.size * grid.spacing).max()) / 2
    assert near(linear, radius * torch.eye(grid.ndim, dtype=torch.float64))
    assert near(apply(grid.world_from_frame, torch.zeros(1, grid.ndim, dtype=torch.float64))[0][0], grid.centre)


def test_a_rotation_in_the_frame_keeps_world_distances() -> None:
    grid = Grid.regular((10, 40), (1.0, 3.0))
    turned = grid.world_from_frame @ rotation(2, 0.7) @ torch.linalg.inv(grid.world_from_frame)
    points = world_points(grid)
    assert near(torch.pdist(apply(turned, points)[0]), torch.pdist(points), scale=100)


def test_the_centre_is_the_mean_of_all_pixels(grid: Grid) -> None:
    assert near(grid.centre, world_points(grid).mean(0), scale=1e3)


def test_corners_are_the_outer_corners(grid: Grid) -> None:
    corners = grid.corners()
    index, _ = apply(grid.index_from_world, corners)
    assert corners.shape == (2**grid.ndim, grid.ndim)
    assert {tuple(corner) for corner in index.round(decimals=6).tolist()} == {
        tuple((n - 0.5) if number >> axis & 1 else -0.5 for axis, n in enumerate(grid.size.tolist()))
        for number in range(2**grid.ndim)
    }
    lengths = grid.size * grid.spacing
    assert float(torch.cdist(corners, corners).max()) == pytest.approx(float(lengths.norm()), abs=1e-9)


@pytest.mark.parametrize("shape", [(8, 12), (9, 13), (8, 9, 11)])
def test_a_coarse_pixel_lies_in_the_middle_of_those_it_replaces(shape: tuple[int, ...]) -> None:
    grid = oblique(shape, (1.0, 2.0, 0.5)[-len(shape) :], offset=3.0)
    coarse = grid.halved(range(len(shape)))
    fine = world_points(grid).view(*shape, -1)
    fine = fine[tuple(slice(2 * (n // 2)) for n in shape)]  # the last pixel of an odd side is in no pair
    for axis, n in enumerate(shape):
        fine = fine.unflatten(axis, (n // 2, 2)).mean(axis + 1)
    assert coarse.shape == tuple(n // 2 for n in shape)
    assert near(world_points(coarse), fine.flatten(0, -2), scale=100)


def test_halving_leaves_other_axes_alone() -> None:
    coarse = Grid.regular((5, 8, 9), (4.0, 1.0, 1.0)).halved([1, 2])
    assert coarse.shape == (5, 4, 4)
    assert coarse.spacing.tolist() == [2.0, 2.0, 4.0]
    assert world_points(coarse)[0].tolist() == [0.5, 0.5, 0.0]


def test_halving_twice_shifts_by_one_and_a_half_pixels() -> None:
    assert world_points(Grid.regular((16, 16)).halved([0, 1]).halved([0, 1]))[0].tolist() == [1.5, 1.5]


def test_a_homogeneous_matrix_maps_linearly_and_shifts(ndim: int) -> None:
    linear, shift = torch.randn(3, ndim, ndim).double(), torch.randn(ndim).double()
    points = torch.randn(5, ndim).double()
    for number, matrix in enumerate(homogeneous(linear, shift)):
        assert torch.allclose(apply(matrix, points)[0], points @ linear[number].T + shift)


def test_the_border_is_what_has_no_neighbour_on_a_side(ndim: int) -> None:
    shape = (4, 5, 3)[:ndim]
    edge = border(shape)
    assert edge.shape == shape
    assert int(edge.sum()) == math.prod(shape) - math.prod(n - 2 for n in shape)
    assert not edge[(slice(1, -1),) * ndim].any()
    assert border((1,) * ndim).all()


def test_scale_and_shift_scales_then_shifts() -> None:
    matrix = scale_and_shift(torch.tensor([2.0, 3.0]), torch.tensor([5.0, 7.0]))
    assert apply(matrix, torch.tensor([[10.0, 100.0]]))[0].tolist() == [[25.0, 307.0]]


def test_apply_divides_by_the_projective_denominator() -> None:
    matrix = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0, 1]])
    points, in_front = apply(matrix, torch.tensor([[2.0, 6.0]]))
    assert in_front.tolist() == [True]
    assert points.tolist() == [[1.0, 3.0]]


def test_an_affine_map_needs_no_denominator(ndim: int) -> None:
    matrices = torch.randn(4, ndim + 1, ndim + 1, dtype=torch.float64)
    matrices[:, -1] = torch.eye(ndim + 1)[-1]
    points = torch.randn(4, 20, ndim, dtype=torch.float64)
    (places, in_front), (known, everywhere) = apply(matrices, points, is_affine=True), apply(matrices, points)
    assert torch.allclose(places, known, atol=EXACT)
    assert torch.equal(in_front, everywhere)
    assert in_front.all()


def test_apply_maps_a_batch_as_it_maps_each() -> None:
    matrices = torch.stack([rotation(2, 0.3), translation(1.0, 2.0)])
    points = torch.rand(2, 5, 2, dtype=torch.float64)
    together, _ = apply(matrices, points)
    assert near(together, torch.stack([apply(m, p)[0] for m, p in zip(matrices, points, strict=True)]))


@pytest.mark.parametrize("x", [-1.0, -1.5, -1e6])
def test_points_at_and_behind_the_horizon_are_marked_and_stay_finite_with_finite_gradients(x: float) -> None:
    matrix = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1.0, 0, 1]], dtype=torch.float64, requires_grad=True)
    points = torch.tensor([[x, 2.0], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    mapped, in_front = apply(matrix, points)
    mapped.sum().backward()
    assert in_front.tolist() == [False, True]
    assert math.isfinite(float(mapped.detach().sum()))
    assert matrix.grad.isfinite().all()
    assert points.grad.isfinite().all()


def test_the_linear_part_is_the_slope_in_the_middle(ndim: int) -> None:
    grid = oblique((40, 50, 45)[:ndim], offset=300.0)
    random = torch.Generator().manual_seed(0)
    matrices = torch.eye(ndim + 1, dtype=torch.float64) + 0.2 * torch.rand(
        5, ndim + 1, ndim + 1, generator=random, dtype=torch.float64
    )
    matrices[:, -1, :-1] *= 0.01
    steps = 1e-4 * torch.eye(ndim, dtype=torch.float64)
    (up, _), (down, _) = (apply(matrices, grid.centre + side * steps) for side in (1, -1))
    assert torch.allclose(linear_part(matrices, grid), (up - down).mT / 2e-4, rtol=1e-5, atol=1e-7)


def test_the_linear_part_of_an_affine_map_is_its_upper_left(ndim: int) -> None:
    matrix = homogeneous(torch.rand(ndim, ndim).double(), torch.rand(ndim).double())
    assert torch.equal(linear_part(matrix, oblique((40, 50, 45)[:ndim], offset=300.0)), matrix[:-1, :-1])
