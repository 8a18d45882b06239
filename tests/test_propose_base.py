"""Gray images on working grids: where their pixels lie, what they hold, what masks keep out."""

from typing import Any

import numpy as np
import pytest
import torch
from problems import linear, oblique, photograph, rotation, translation, world_points
from tolerances import TOLERANCE

from drmime.geometry.grid import Grid
from drmime.image.image import Image
from drmime.start.propose.base import (
    corner_distances,
    directions,
    distinct,
    mass_of,
    peaks,
    stacked,
    working_image,
    working_spacing,
)

NEAR = 100 * TOLERANCE[torch.float32]


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.5, 2.7])
def test_a_linear_function_stays_one(factor: float, ndim: int) -> None:
    """Every new pixel holds the value of the world at its own place, whatever the ratio of spacings and the axes."""
    grid = oblique((40, 50, 45)[:ndim], (0.9, 0.7, 0.8)[-ndim:], offset=3.0)
    function = linear([0.02, -0.03, 0.01][:ndim], 0.5)
    for axes in (None, torch.eye(ndim, dtype=torch.float64)):
        small = working_image(photograph(function, grid=grid), factor, axes)
        assert torch.allclose(small.grid.spacing, torch.full((ndim,), factor, dtype=torch.float64))
        assert torch.allclose(small.grid.centre, grid.centre)
        assert torch.allclose(directions(small.grid), directions(grid) if axes is None else axes)
        assert (small.grid.extent >= 0.999 * grid.extent).all() or axes is not None
        right = function(world_points(small.grid)).view(small.grid.shape).float()
        known = (small.mask[0, 0] > 0) & _far_from_edges(small, grid, 1.5 * factor + 1)
        assert known.float().mean() > 0.05
        a_twentieth_of_a_pixel = 0.05 * 0.037 * max(factor, 1)  # the middle of a triangle that is sampled is off by that
        assert torch.allclose(small.data[0, 0][known], right[known], atol=a_twentieth_of_a_pixel)


def _far_from_edges(small: Image, grid: Grid, margin: float) -> torch.Tensor:
    index = world_points(small.grid) @ grid.index_from_world[:-1, :-1].T + grid.index_from_world[:-1, -1]
    off = torch.minimum(index, grid.size - 1 - index) * grid.spacing
    return (off > margin).all(1).view(small.grid.shape)


def test_at_its_own_spacing_an_image_stays_as_it_is(ndim: int) -> None:
    image = Image(torch.rand(1, 1, *(20, 24, 22)[:ndim]), Grid.regular((20, 24, 22)[:ndim], [0.7] * ndim))
    same = working_image(image, 0.7)
    assert torch.allclose(same.data, image.data, atol=NEAR)
    assert torch.allclose(same.grid.world_from_index, image.grid.world_from_index)
    assert same.mask.min() == 1


def test_channels_are_averaged(ndim: int) -> None:
    shape = (20, 24, 22)[:ndim]
    image = Image(torch.rand(1, 3, *shape), Grid.regular(shape))
    mean = Image(image.data.mean(1, keepdim=True), image.grid)
    assert torch.allclose(working_image(image, 2.3).data, working_image(mean, 2.3).data, atol=NEAR)


def test_what_a_mask_covers_leaks_nowhere(ndim: int) -> None:
    shape = (30, 24, 28)[:ndim]
    data, mask = torch.full((1, 1, *shape), 0.25), torch.ones(1, 1, *shape)
    data[:, :, :13], mask[:, :, :13] = 1e4, 0
    for axes in (None, oblique(shape).world_from_index[:-1, :-1]):
        small = working_image(Image(data, Grid.regular(shape), mask), 2.0, axes)
        assert torch.allclose(small.data, torch.full_like(small.data, 0.25), atol=NEAR)
        assert 0 < small.mask.mean() < 1


def test_mass_is_the_distance_from_the_border(ndim: int) -> None:
    shape = (20, 24, 22)[:ndim]
    data = torch.full((1, 2, *shape), 0.75)
    data[0, 0, 5:9] -= 0.5
    data[0, 1, 7:9] += 0.25
    data[:, :, :, :4] = data[:, :, :, -4:] = 0.75
    image = Image(data, Grid.regular(shape))
    weight = mass_of(image)
    assert weight.shape == (1, 1, *shape)
    profile = weight[0, 0].movedim(0, -1)[(10,) * (ndim - 1)]
    assert torch.allclose(profile[[4, 6, 8, 9]], torch.tensor([0.0, 0.5, 0.75, 0.0]))


def test_the_working_spacing_suits_the_longer_and_is_never_finer_than_both() -> None:
    def image(shape: tuple[int, ...], spacing: float) -> Image:
        return Image(torch.zeros(1, 1, *shape), Grid.regular(shape, [spacing] * len(shape)))

    assert working_spacing(image((100, 400), 1.0), image((50, 50), 2.0), 200) == 2.0
    assert working_spacing(image((100, 100), 1.0), image((50, 900), 2.0), 200) == 9.0
    assert working_spacing(image((100, 100), 3.0), image((50, 90), 2.0), 500) == 2.0


def test_peaks_are_the_highest_places_of_a_map_apart_from_each_other() -> None:
    surface = torch.full((20, 20), -1.0)
    surface[3, 4], surface[4, 5], surface[15, 15], surface[15, 4] = 3, 2.5, 2, 1
    before = surface.clone()
    numbers, places, heights = peaks(torch.stack([surface, surface.T]), 3, 3)
    assert numbers.tolist() == [0, 0, 0, 1, 1, 1]
    assert places.tolist() == [[3, 4], [15, 15], [15, 4], [4, 3], [15, 15], [4, 15]]
    assert heights.tolist() == [3, 2, 1] * 2
    assert peaks(surface[None], 2, 3)[2].tolist() == [3, 2]
    assert peaks(surface[None], 9, 0)[2].tolist() == [3, 2.5, 2, 1]  # no more are above 0
    assert torch.equal(surface, before)
    surface[10, 10] = torch.nan
    assert peaks(surface[None], 9, 0)[2].tolist() == [3, 2.5, 2, 1]


def test_peaks_at_the_edge_of_a_volume_hide_what_is_near_them_and_no_more() -> None:
    surface = torch.zeros(1, 9, 10, 11)
    surface[0, 0, 9, 0], surface[0, 2, 7, 2], surface[0, 3, 9, 0], surface[0, 8, 0, 10] = 4, 3, 2, 1
    _, places, heights = peaks(surface, 3, 2)
    assert places.tolist() == [[0, 9, 0], [3, 9, 0], [8, 0, 10]]
    assert heights.tolist() == [4, 2, 1]


def test_corners_are_apart_by_shares_of_the_diagonal_in_the_scale_of_each_matrix(ndim: int) -> None:
    grid = oblique((20, 24, 22)[:ndim], (0.9, 0.7, 0.8)[-ndim:], offset=3.0)
    off = torch.zeros(ndim, dtype=torch.float64)
    off[0] = 0.1 * grid.extent.norm()
    eye, size = torch.eye(ndim + 1, dtype=torch.float64), torch.diag(torch.tensor([5.0] * ndim + [1.0], dtype=torch.float64))
    moved = translation(*off.tolist())
    same = torch.full((2**ndim,), 0.1, dtype=torch.float64)
    for one, other in ((eye, moved), (moved, eye), (size, size @ moved), (rotation(ndim, 1.0), rotation(ndim, 1.0) @ moved)):
        assert torch.allclose(corner_distances(one, other, grid), same)
    assert torch.allclose(corner_distances(torch.stack([moved, eye]), eye, grid), torch.stack([same, 0 * same]))


def test_corner_distances_are_in_the_scale_of_the_middle_wherever_the_origin_is() -> None:
    """Perspective about the middle of an image far from the origin: the upper left of the matrix is far from the scale."""
    grid = oblique((50, 60), offset=1000.0)
    perspective = torch.eye(3, dtype=torch.float64)
    perspective[2, 0] = 1e-3
    tilted = translation(*grid.centre.tolist()) @ perspective @ translation(*(-grid.centre).tolist())
    shifted = translation(0.1 * float(grid.extent.norm()), 0) @ tilted
    assert torch.allclose(corner_distances(shifted, tilted, grid), torch.full((4,), 0.1, dtype=torch.float64))


@pytest.mark.parametrize("over", [np.mean, np.amax])
def test_distinct_keeps_the_best_of_those_that_move_corners_alike(ndim: int, over: Any) -> None:
    grid = Grid.regular((20, 24, 22)[:ndim], [3.0] * ndim)
    diagonal = float(grid.extent.norm())
    matrices = stacked([translation(share * diagonal, *[0.0] * (ndim - 1)) for share in (0.3, 0.29, 0, 0.05, 0.1)], ndim)
    assert torch.equal(distinct(matrices, grid, 10, 0.08, over), matrices[[0, 2, 4]])
    assert torch.equal(distinct(matrices, grid, 2, 0.08, over), matrices[[0, 2]])
    assert distinct(stacked([], ndim), grid, 10, 0.08, over).shape == (0, ndim + 1, ndim + 1)


def test_distinct_looks_at_all_corners_or_at_the_worst() -> None:
    """A turn about one corner moves the opposite one by 0.1 of the diagonal, and all of them by 0.06 on average."""
    grid = Grid.regular((50, 50))
    corner = grid.corners()[0].tolist()
    turn = translation(*corner) @ rotation(2, 0.1) @ translation(*[-x for x in corner])
    matrices = stacked([torch.eye(3, dtype=torch.float64), turn], 2)
    assert len(distinct(matrices, grid, 10, 0.08, np.mean)) == 1
    assert len(distinct(matrices, grid, 10, 0.08, np.amax)) == 2
