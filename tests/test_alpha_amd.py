"""The metric `alpha_amd` against the definition, computed point by point and height by height."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from problems import rotation, translation
from torch import Tensor

import drmime
from drmime import InputError
from drmime.compare.alpha_amd import ROUNDING, AlphaAMD
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid

SHAPES = {2: (9, 12), 3: (8, 9, 10)}
CUTS = 4
CLOSE = 1e-6  # of distances in units of the frame; heights at the end of an interval are off by up to ROUNDING


def stepped(
    ndim: int, generator: torch.Generator, spacing: Sequence[float] | None = None, channels: int = 1, share: float | None = None
) -> Image:
    """Random blocks whose intensities are multiples of 1 / CUTS; `share` of the pixels, if given, is in the mask."""
    grid = Grid.regular(SHAPES[ndim], spacing)
    coarse = torch.rand(1, channels, *[math.ceil(n / 2) for n in grid.shape], generator=generator)
    levels = (coarse * (CUTS + 1)).floor() / CUTS
    for axis in range(2, ndim + 2):
        levels = levels.repeat_interleave(2, axis)
    data = levels[(..., *[slice(n) for n in grid.shape])].double()
    mask = None if share is None else (torch.rand(1, 1, *grid.shape, generator=generator) < share).double()
    return Image(data, grid, mask)


def definition(fixed: Image, moving: Image, moving_from_fixed: Tensor, weights: Tensor, limit: float, inverse: bool) -> float:
    """Minus the symmetric distance over the pixels of the fixed image, which the matrix maps onto pixels; B = 1."""
    places, _ = apply(fixed.grid.world_from_index, fixed.grid.index_points())
    there, _ = apply(moving_from_fixed, places)
    index = apply(moving.grid.index_from_world, there)[0].round().long()
    on = ((index >= 0) & (index < moving.grid.size)).all(-1)
    flat = np.ravel_multi_index(index.clamp(min=0).minimum(moving.grid.size.long() - 1).flip(-1).T.numpy(), moving.grid.shape)
    weight = weights * fixed.valid.flatten() * moving.valid.flatten()[flat] * on
    totals = []
    for channel in range(fixed.data.shape[1]):
        here, other = fixed.data[0, channel].flatten(), moving.data[0, channel].flatten()
        total = 0.0
        for point in weight.nonzero()[:, 0].tolist():
            partner = int(flat[point])
            total += float(weight[point]) * (
                point_to_set(there[point], float(here[point]), moving, other, limit, inverse)
                + point_to_set(places[point], float(other[partner]), fixed, here, limit, inverse)
            )
        totals.append(total / float(weight.sum()) / 2)
    return -float(np.mean(totals))


def point_to_set(point: Tensor, height: float, image: Image, heights: Tensor, limit: float, inverse: bool) -> float:
    """The integral over all heights of the distance to the cuts, which change only at the intensities that occur."""
    radius = float(image.grid.extent.max()) / 2
    pixels, _ = apply(image.grid.world_from_index, image.grid.index_points())
    away = (pixels - point).norm(dim=-1) / radius
    valid = image.valid.flatten() > 0
    total = 0.0
    for top, members in ((height, heights), (1 - height, 1 - heights))[: 2 if inverse else 1]:
        ends = sorted({0.0, top, *[float(h) for h in members.unique() if h < top]})
        for low, high in itertools.pairwise(ends):
            cut = (members >= (low + high) / 2) & valid
            total += (high - low) * (min(limit, float(away[cut].min())) if cut.any() else limit)
    return total


def score(metric: AlphaAMD, fixed: Image, moving: Image, moving_from_fixed: Tensor, weights: Tensor | None = None) -> Tensor:
    """The metric at all pixels of the fixed image. shape: (B,)"""
    points = fixed.grid.index_points()[None].expand(len(fixed.data), -1, -1).to(fixed.data)
    here, inside = metric.describe(fixed).at(points, fixed.grid.world_from_index[None])
    there, in_moving = metric.describe(moving).at(points, moving_from_fixed @ fixed.grid.world_from_index[None])
    return metric.score(here, there, inside * in_moving * (1 if weights is None else weights))


def quarter_turn(grid: Grid) -> Tensor:
    """A right angle about the centre of the grid in the plane of x and y, and one pixel along x."""
    centre = grid.centre.floor().tolist()
    turn = rotation(grid.ndim, math.pi / 2).round()
    return translation(*[c + (axis == 0) for axis, c in enumerate(centre)]) @ turn @ translation(*[-c for c in centre])


@pytest.mark.parametrize("inverse", [True, False])
@pytest.mark.parametrize("limit", [0.3, 5.0])
@pytest.mark.parametrize("turned", [False, True])
def test_the_score_is_the_definition(ndim: int, turned: bool, limit: float, inverse: bool, generator: torch.Generator) -> None:
    """With masks, weights and two channels, under a shift by whole pixels or a right angle."""
    fixed, moving = (stepped(ndim, generator, channels=2, share=0.8) for _ in range(2))
    matrix = quarter_turn(fixed.grid) if turned else translation(*[2.0, -1.0, 1.0][:ndim])
    weights = torch.rand(math.prod(fixed.grid.shape), generator=generator, dtype=torch.float64)
    metric = AlphaAMD(CUTS, limit, inverse)
    expected = definition(fixed, moving, matrix, weights, limit, inverse)
    assert expected < -0.01
    assert float(score(metric, fixed, moving, matrix, weights)) == pytest.approx(expected, abs=CLOSE)


def test_lengths_are_those_of_the_world(ndim: int, generator: torch.Generator) -> None:
    """Unequal spacings, and a moving image of another size of pixels: each direction in its own image."""
    spacing = [2.0, 1.0, 1.5][:ndim]
    fixed, moving = stepped(ndim, generator, spacing), stepped(ndim, generator, [3 * s for s in spacing])
    matrix = torch.diag(torch.tensor([3.0] * ndim + [1.0], dtype=torch.float64))
    expected = definition(fixed, moving, matrix, torch.ones(math.prod(fixed.grid.shape)), 0.5, True)
    assert float(score(AlphaAMD(CUTS), fixed, moving, matrix)) == pytest.approx(expected, abs=CLOSE)
    same = Image(moving.data, fixed.grid)
    assert float(score(AlphaAMD(CUTS), fixed, same, torch.eye(ndim + 1).double())) == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_has_no_distance_to_itself(ndim: int, dtype: torch.dtype, generator: torch.Generator) -> None:
    image = Image(torch.rand(2, 2, *SHAPES[ndim], generator=generator).to(dtype), Grid.regular(SHAPES[ndim]))
    metric = AlphaAMD()
    assert float(score(metric, image, image, torch.eye(ndim + 1).double()).abs().max()) < 2 * ROUNDING
    binary = Image((image.data > 0.5).to(dtype), image.grid)
    assert score(metric, binary, binary, torch.eye(ndim + 1).double()).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_swapped_images_have_the_same_distance(ndim: int, generator: torch.Generator) -> None:
    """Under a shift by whole pixels; the points that both show are the same ones."""
    fixed, moving = (stepped(ndim, generator, share=0.9) for _ in range(2))
    matrix = translation(*[2.0, -1.0, 1.0][:ndim])
    there, back = score(AlphaAMD(), fixed, moving, matrix), score(AlphaAMD(), moving, fixed, torch.linalg.inv(matrix))
    assert float(there) == pytest.approx(float(back), abs=1e-9)


def test_inverted_images_have_the_same_distance(ndim: int, generator: torch.Generator) -> None:
    """Bidirectional: the complement of the one set is compared with the complement of the other."""
    fixed, moving = (stepped(ndim, generator) for _ in range(2))
    matrix = translation(*[1.0, 1.0, 0.0][:ndim])
    plain = score(AlphaAMD(CUTS), fixed, moving, matrix)
    inverted = score(AlphaAMD(CUTS), *(Image(1 - image.data, image.grid) for image in (fixed, moving)), matrix)
    assert torch.allclose(plain, inverted, atol=1e-9)


def test_the_number_of_pixels_does_not_matter() -> None:
    """A square moved by a quarter of the side, in 64 and in 192 pixels. The edges of pixel sets differ by half a pixel."""
    scores = []
    for side in (64, 192):
        data = torch.zeros(2, 1, side, side, dtype=torch.float64)
        data[0, 0, side // 4 : side // 2, side // 4 : side // 2] = 1
        data[1] = data[0].roll(side // 4, -1)
        fixed, moving = (Image(image[None], Grid.regular((side, side))) for image in data)
        scores.append(float(score(AlphaAMD(), fixed, moving, torch.eye(3).double())))
    assert scores[0] == pytest.approx(scores[1], rel=0.1)


def test_the_number_of_cuts_does_not_matter_for_binary_images(generator: torch.Generator) -> None:
    fixed, moving = (
        Image((torch.rand(1, 1, 12, 12, generator=generator) > 0.7).double(), Grid.regular((12, 12))) for _ in "ab"
    )
    values = [float(score(AlphaAMD(cuts), fixed, moving, torch.eye(3).double())) for cuts in (1, 7, 32)]
    assert values == pytest.approx([values[0]] * 3, abs=1e-9)


def test_the_distance_to_an_empty_cut_is_the_limit() -> None:
    dark, bright = (Image(torch.full((1, 1, 8, 8), v, dtype=torch.float64), Grid.regular((8, 8))) for v in (0.0, 1.0))
    assert float(score(AlphaAMD(limit=0.7), dark, bright, torch.eye(3).double())) == pytest.approx(-0.7)


@pytest.mark.parametrize("shift", [0, 4, 8])
def test_the_distance_grows_in_proportion_to_the_shift_of_an_object_of_one_pixel(shift: int) -> None:
    """The object is `shift` pixels from the other, and the ground of the other 1 pixel from the ground, in both directions."""
    data = torch.zeros(1, 1, 40, 40, dtype=torch.float64)
    data[..., 20, 20] = 1
    image = Image(data, Grid.regular((40, 40)))
    expected = -(shift + 1) / 20 / (40 * (40 - shift)) if shift else 0.0
    assert float(score(AlphaAMD(limit=2.0), image, image, translation(float(shift), 0.0))) == pytest.approx(expected)


def test_masked_pixels_belong_to_no_set() -> None:
    """Their values have no effect, and the nearest object may not be a masked one."""
    data = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    data[..., 3, 3] = data[..., 12, 12] = 1
    mask = torch.ones_like(data)
    mask[..., 2:5, 2:5] = 0
    near = AlphaAMD(limit=5.0).describe(Image(data, Grid.regular((16, 16)), mask)).data[0, 1]
    assert float(near[3, 6]) == pytest.approx(math.hypot(9, 6) / 8)
    other = data.clone()
    other[..., 2:5, 2:5] = 0.4
    described = (AlphaAMD().describe(Image(values, Grid.regular((16, 16)), mask)).data[:, 1:] for values in (data, other))
    assert torch.equal(*described)


def test_gradients_of_the_transform_agree_with_differences(ndim: int, generator: torch.Generator) -> None:
    """Through the distances and through the heights, at points between pixels."""
    metric = AlphaAMD(limit=0.4)
    images = [Image(torch.rand(1, 2, *SHAPES[ndim], generator=generator).double(), Grid.regular(SHAPES[ndim])) for _ in "ab"]
    fixed, moving = (Pyramid([metric.describe(image)]) for image in images)
    points = (torch.rand(1, 1, 30, ndim, generator=generator).double() - 0.5) * 0.9

    def at(shift: Tensor) -> Tensor:
        (here, inside), (there, in_moving) = fixed.at(points), moving.at(points * (1 + shift[0]) + shift[1:])
        return metric(here, there, inside * in_moving, slice(0, 1))

    shift = torch.full((1 + ndim,), 0.013, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(at, shift, eps=1e-8, atol=1e-5)
    distances = [channel for channel in range(2 * metric.width) if channel % metric.width]
    (here, _), (there, _) = fixed.at(points), moving.at(points)
    there.requires_grad_()
    metric(here, there, torch.ones(1, 1, 30).double(), slice(0, 1)).sum().backward()
    assert there.grad[..., distances].abs().sum() > 0
    assert there.grad[..., :: metric.width].abs().sum() > 0


def test_a_pair_of_a_batch_is_described_as_alone(generator: torch.Generator) -> None:
    data = torch.rand(3, 2, 10, 11, generator=generator)
    mask = (torch.rand(3, 1, 10, 11, generator=generator) > 0.3).float()
    image = Image(data, Grid.regular((10, 11)), mask)
    together = AlphaAMD(3).describe(image)
    assert together.data.shape == (3, 2 * 7, 10, 11)
    for number in range(3):
        assert torch.equal(together.data[number, None], AlphaAMD(3).describe(image.pair(number)).data)


def test_gray_meets_each_channel(generator: torch.Generator) -> None:
    gray, rgb = (Image(torch.rand(1, c, 12, 12, generator=generator).double(), Grid.regular((12, 12))) for c in (1, 3))
    apart = [score(AlphaAMD(), gray, Image(rgb.data[:, [c]], rgb.grid), torch.eye(3).double()) for c in range(3)]
    assert torch.allclose(score(AlphaAMD(), gray, rgb, torch.eye(3).double()), torch.stack(apart).mean(0))
    metric = AlphaAMD()
    like = torch.zeros(1, 1, 12, 12)
    metric.begin(1, 1, (metric.width, 3 * metric.width), torch.Generator(), like)
    with pytest.raises(InputError, match="got 2 and 3"):
        metric.begin(1, 1, (2 * metric.width, 3 * metric.width), torch.Generator(), like)


def test_a_shape_far_off_is_found_where_the_squared_difference_is_flat() -> None:
    """Two rectangles that do not overlap at the start."""
    fixed, moving = np.zeros((2, 64, 64))
    fixed[12:28, 10:20] = 1
    moving[30:46, 28:38] = 1
    options = {"transform": "translation", "start": None, "levels": 2, "schedule": {"steps": 150, "rate": 0.02}}
    result = drmime.register(fixed, moving, metric="alpha_amd", **options)
    assert np.abs(result.to_moving([[15, 20]]) - [[33, 38]]).max() < 0.3
    lost = drmime.register(fixed, moving, metric="mse", **options)
    assert np.abs(lost.to_moving([[15, 20]]) - [[33, 38]]).max() > 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cuts": 0}, "metric cuts"),
        ({"cuts": 2.5}, "metric cuts"),
        ({"limit": 0}, "metric limit"),
        ({"limit": math.inf}, "metric limit"),
        ({"inverse": 1}, "metric inverse"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        AlphaAMD(**options)
