"""The pyramid: every level holds the values that belong where its grid says its pixels are."""

import math
from collections.abc import Sequence

import pytest
import torch
from problems import linear, oblique, photograph, scene, world_points
from tolerances import TOLERANCE

from drmime.geometry.grid import Grid
from drmime.image.image import Image, batch
from drmime.image.pyramid import Pyramid, possible_levels

SIZES = {2: (64, 61), 3: (34, 32, 35)}
SHAPES = [(64, 48), (61, 47), (64, 33), (34, 32, 35)]


def interior(data: torch.Tensor, ndim: int, margin: int = 1) -> torch.Tensor:
    """Without the pixels that the continued edges have touched."""
    return data[(..., *[slice(margin, -margin)] * ndim)]


def blocks(shape: Sequence[int], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A mask of the left two thirds. shape: (1, 1, *shape)"""
    mask = torch.zeros(1, 1, *shape, dtype=dtype)
    mask[..., : 2 * shape[-1] // 3] = 1
    return mask


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_linear_ramp_is_itself_at_every_level(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    grid = oblique(shape, offset=5.0)
    function = linear([0.02, -0.01, 0.015][: len(shape)], 0.3)
    for level in Pyramid.of(photograph(function, grid=grid, dtype=dtype), 3).levels:
        expected = function(world_points(level.grid)).view(level.grid.shape)
        difference = interior(level.data[0, 0].double() - expected, len(shape))
        assert difference.abs().max() < 2 * TOLERANCE[dtype]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("frequency", [0.1, 0.35])
def test_a_wave_keeps_its_place_and_is_damped_as_the_filter_says(shape: tuple[int, ...], frequency: float) -> None:
    """The kernel (1 3 3 1)/8 has the real response 3/4 cos(w/2) + 1/4 cos(3w/2) about the middle of its taps."""
    grid = Grid.regular(shape)
    waves = torch.tensor([frequency, -0.7 * frequency, 0.5 * frequency][: len(shape)], dtype=torch.float64)
    levels = Pyramid.of(photograph(lambda points: torch.cos(points @ waves + 0.4), grid=grid), 3).levels
    response = 1.0
    for number, level in enumerate(levels):
        expected = response * torch.cos(world_points(level.grid) @ waves + 0.4).view(level.grid.shape)
        difference = interior(level.data[0, 0] - expected, len(shape))
        assert difference.abs().max() < 10 * TOLERANCE[torch.float64]
        w = waves * 2**number
        response *= float((3 / 4 * torch.cos(w / 2) + 1 / 4 * torch.cos(3 * w / 2)).prod())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_constant_stays_constant_to_the_edges(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    image = photograph(lambda points: points[..., 0] * 0 + 0.3, grid=Grid.regular(shape), dtype=dtype)
    for level in Pyramid.of(image, 3).levels:
        assert torch.allclose(level.data, torch.full_like(level.data, 0.3), rtol=0, atol=TOLERANCE[dtype])


def test_the_first_level_is_the_image_and_the_sizes_halve(ndim: int) -> None:
    shape = (33, 40, 35)[:ndim]
    image = photograph(scene(Grid.regular(shape)), grid=Grid.regular(shape))
    levels = Pyramid.of(image, 3).levels
    assert levels[0] is image
    assert [level.grid.shape for level in levels] == [tuple(n // 2**k for n in shape) for k in range(3)]
    assert all(level.data.shape[2:] == level.grid.shape for level in levels)
    assert len(Pyramid.of(image, 1).levels) == 1


def test_a_smooth_image_read_at_coarse_pixels_is_near_the_coarse_values(ndim: int) -> None:
    """The blur of the first halving adds 3/8 of the second derivative along each axis, and little else."""
    grid = Grid.regular((64, 60, 62)[:ndim])
    function = scene(grid)
    coarse = Pyramid.of(photograph(function, grid=grid), 2).levels[1]
    points = world_points(coarse.grid).requires_grad_()
    values = function(points)
    (slope,) = torch.autograd.grad(values.sum(), points, create_graph=True)
    second = sum(torch.autograd.grad(slope[:, axis].sum(), points, retain_graph=True)[0][:, axis] for axis in range(ndim))
    bare = interior((coarse.data[0, 0] - values.detach().view(coarse.grid.shape)), ndim).abs().max()
    corrected = coarse.data[0, 0] - (values.detach() + 3 / 8 * second).view(coarse.grid.shape)
    assert interior(corrected, ndim).abs().max() < 0.2 * bare


def test_a_batch_with_channels_is_halved_as_each_alone(dtype: torch.dtype) -> None:
    grid = Grid.regular((40, 37))
    images = [
        photograph(scene(grid, seed), scene(grid, seed + 5), grid=grid, dtype=dtype)  # two channels
        for seed in range(3)
    ]
    pyramids = [Pyramid.of(image, 2).levels for image in (batch(images), *images)]
    for together, *alone in zip(*pyramids, strict=True):
        assert torch.equal(together.data, torch.cat([image.data for image in alone]))


# ---- masks


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nothing_outside_the_mask_leaks_into_any_level(shape: tuple[int, ...]) -> None:
    grid = Grid.regular(shape)
    mask, data = blocks(shape), photograph(scene(grid), grid=grid).data
    tame, wild = (
        Pyramid.of(Image(torch.where(mask > 0, data, outside), grid, mask), 3).levels
        for outside in (torch.zeros_like(data), 1e6)
    )
    for left, right in zip(tame, wild, strict=True):
        inside = left.mask > 0
        assert torch.equal(left.mask, right.mask)
        assert torch.equal(left.data[inside], right.data[inside])
        assert inside.any()
        assert not inside.all()
        assert left.data[inside].max() <= data[mask > 0].max() + TOLERANCE[torch.float64]


def test_a_constant_inside_a_mask_stays_constant_up_to_its_border(ndim: int) -> None:
    shape = (40, 36, 38)[:ndim]
    mask = blocks(shape)
    data = torch.where(mask > 0, 0.7 * mask, 1e6)
    for level in Pyramid.of(Image(data, Grid.regular(shape), mask), 3).levels:
        inside = level.data[level.mask > 0]
        assert torch.allclose(inside, torch.full_like(inside, 0.7), rtol=0, atol=TOLERANCE[torch.float64])


def test_masks_stay_zero_or_one_and_keep_their_place(ndim: int) -> None:
    shape = (48, 48, 48)[:ndim]
    mask = blocks(shape)  # columns 0 to 31, an edge that falls between coarse pixels
    for level in Pyramid.of(Image(torch.rand_like(mask), Grid.regular(shape), mask), 3).levels:
        x = world_points(level.grid)[:, 0].view(level.grid.shape)
        assert torch.equal(level.mask[0, 0], (x < 31.5).double())


def test_a_full_mask_changes_nothing(dtype: torch.dtype) -> None:
    grid = Grid.regular((40, 37))
    image = photograph(scene(grid), grid=grid, dtype=dtype)
    masked = Image(image.data, grid, torch.ones_like(image.data))
    for plain, covered in zip(Pyramid.of(image, 3).levels, Pyramid.of(masked, 3).levels, strict=True):
        assert torch.allclose(plain.data, covered.data, rtol=0, atol=TOLERANCE[dtype])
        assert covered.mask.all()


# ---- read together


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("levels", [slice(None), slice(0, 3), slice(0, 1), slice(1, 3)], ids=str)
def test_levels_are_read_together_as_each_alone(levels: slice, masked: bool, ndim: int, dtype: torch.dtype) -> None:
    grid = oblique(SIZES[ndim], offset=9.0)
    images = [photograph(scene(grid, seed), scene(grid, seed + 5), grid=grid, dtype=dtype) for seed in range(2)]
    mask = blocks(grid.shape, dtype).expand(2, -1, *grid.shape).clone() if masked else None
    pyramid = Pyramid.of(Image(batch(images).data, grid, mask), 3)
    wanted = pyramid.levels[levels]
    points = 2.4 * torch.rand(len(wanted), 2, 300, ndim, dtype=torch.float64).to(dtype) - 1.2  # a part lies outside
    values, inside = pyramid.at(points, levels)
    assert values.shape == (len(wanted), 2, 300, 2)
    assert inside.shape == (len(wanted), 2, 300)
    assert inside.dtype == values.dtype == dtype
    for number, level in enumerate(wanted):
        alone, within = level.at(points[number], grid.world_from_frame[None])
        assert torch.equal(inside[number], within)
        assert 0 < within.mean() < 1
        seen = within > 0
        assert torch.allclose(values[number][seen], alone[seen], rtol=0, atol=2 * TOLERANCE[dtype])


def test_the_gradient_reaches_the_points_of_every_level(ndim: int) -> None:
    grid = oblique(SIZES[ndim], offset=9.0)
    slopes = torch.tensor([0.02, -0.01, 0.015][:ndim], dtype=torch.float64)
    pyramid = Pyramid.of(photograph(linear(slopes.tolist()), grid=grid), 3)
    points = torch.zeros(3, 1, 1, ndim, dtype=torch.float64, requires_grad=True)
    pyramid.at(points)[0].sum().backward()
    for gradient in points.grad[:, 0, 0]:  # a ramp has its slope at every level
        assert torch.allclose(gradient / grid.world_from_frame[0, 0], slopes, rtol=0, atol=10 * TOLERANCE[torch.float64])


# ---- which axes, how many levels


def test_slices_far_apart_are_not_merged_until_the_other_axes_have_caught_up() -> None:
    grid = Grid.regular((20, 64, 64), (4.0, 1.0, 1.0))
    levels = Pyramid.of(photograph(linear([0.01, 0.02, 0.03]), grid=grid), 4).levels
    assert [level.grid.shape for level in levels] == [(20, 64, 64), (20, 32, 32), (20, 16, 16), (10, 8, 8)]
    assert [level.grid.spacing.tolist() for level in levels] == [[1, 1, 4], [2, 2, 4], [4, 4, 4], [8, 8, 8]]


def test_slices_half_as_far_again_apart_are_not_merged_but_nearer_ones_are() -> None:
    image = photograph(linear([0.1, 0.1, 0.1]), grid=Grid.regular((32, 32, 32), (1.5, 1.0, 1.0)))
    assert Pyramid.of(image, 2).levels[1].grid.shape == (32, 16, 16)
    image = photograph(linear([0.1, 0.1, 0.1]), grid=Grid.regular((32, 32, 32), (1.4, 1.0, 1.0)))
    assert Pyramid.of(image, 2).levels[1].grid.shape == (16, 16, 16)


@pytest.mark.parametrize(
    ("shape", "spacing", "levels"),
    [
        ((8, 8), None, 1),
        ((31, 31), None, 1),
        ((32, 32), None, 2),
        ((33, 1000), None, 4),  # a strip: its short side stays
        ((48, 64), None, 2),
        ((64, 100), None, 3),
        ((256, 256), None, 5),
        ((1000, 1000), None, 6),
        ((64, 64, 64), None, 3),
        ((8, 64, 64), (5.0, 1.0, 1.0), 3),
        ((8, 64, 64), None, 3),  # a slab, likewise
        ((20, 40, 40), None, 1),
    ],
)
def test_the_coarsest_level_keeps_16_pixels_along_every_halved_side(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, levels: int
) -> None:
    grid = Grid.regular(shape, spacing)
    assert possible_levels(grid) == levels
    if levels > 1 and math.prod(shape) < 1e5:
        coarsest = Pyramid.of(photograph(linear([1.0] * len(shape)), grid=grid), levels).levels[-1]
        assert min(n for n, first in zip(coarsest.grid.shape, shape, strict=True) if n < first) >= 16
