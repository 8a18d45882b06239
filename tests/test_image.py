"""Images: reading them anywhere in the world, and the one door where they are checked."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from problems import Scene, linear, oblique, photograph, translation, world_points
from tolerances import TOLERANCE

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import scale_and_shift
from drmime.image.door import as_image
from drmime.image.image import Image, batch
from drmime.image.pixels import Pixels, arranged


def identity(ndim: int) -> torch.Tensor:
    return torch.eye(ndim + 1, dtype=torch.float64)[None]


def frame_points(grid: Grid, world: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """World points (N, D) in the frame of `grid` (1, N, D), which is how the loop gives them, and the matrix back."""
    frame = (world - grid.centre) / grid.world_from_frame[0, 0]
    return frame[None].to(dtype), grid.world_from_frame[None]


def gray(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape or (12, 10), dtype=np.float32)


def door(data: Any, **options: Any) -> Image:
    return as_image(data, role="fixed", **options)


@pytest.fixture
def always_warn() -> Iterator[None]:
    """Let torch give each warning every time, so that the order of tests does not matter."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


# ---- at


def test_an_image_sampled_on_its_own_grid_is_the_image(grid: Grid, smooth: Scene, dtype: torch.dtype) -> None:
    image = photograph(smooth, lambda points: 1 - smooth(points), grid=grid, dtype=dtype)
    values, inside = image.at(*frame_points(grid, world_points(grid), dtype))
    assert values.dtype == inside.dtype == dtype
    assert torch.allclose(values[0].T.view_as(image.data[0]), image.data[0], rtol=0, atol=TOLERANCE[dtype])
    assert inside.all()


def test_linear_functions_are_interpolated_exactly_between_pixels(grid: Grid, dtype: torch.dtype) -> None:
    function = linear([0.02, -0.03, 0.01][: grid.ndim], 0.5)
    image = photograph(function, grid=grid, dtype=dtype)
    index = torch.rand(200, grid.ndim, dtype=torch.float64) * (grid.size - 1)  # between the outermost pixel centres
    world = index @ grid.world_from_index[:-1, :-1].T + grid.world_from_index[:-1, -1]
    values, inside = image.at(*frame_points(grid, world, dtype))
    assert torch.allclose(values[0, :, 0].double(), function(world), rtol=0, atol=TOLERANCE[dtype])
    assert inside.all()


def test_gradients_with_respect_to_the_points_are_the_slopes(ndim: int) -> None:
    slopes = torch.tensor([0.02, -0.03, 0.01][:ndim], dtype=torch.float64)
    image = photograph(linear(slopes.tolist()), grid=Grid.regular((8, 9, 10)[:ndim]))
    points = (1 + 5 * torch.rand(1, 20, ndim, dtype=torch.float64)).requires_grad_()
    image.at(points, identity(ndim))[0].sum().backward()
    assert torch.allclose(points.grad, slopes.expand_as(points), rtol=0, atol=TOLERANCE[torch.float64])


def test_inside_ends_at_the_outer_edge_of_the_outermost_pixels(ndim: int) -> None:
    grid = Grid.regular((8, 9, 10)[:ndim])
    image = photograph(linear([1.0] * ndim), grid=grid)
    for axis in range(ndim):
        points = ((grid.size - 1) / 2).repeat(4, 1)
        points[:, axis] = torch.tensor([-0.49, -0.51, grid.size[axis] - 0.51, grid.size[axis] - 0.49])
        assert image.at(points[None], identity(ndim))[1][0].tolist() == [1, 0, 1, 0]


def test_behind_the_horizon_is_outside_and_values_stay_finite() -> None:
    image = photograph(linear([0.1, 0.1]), grid=Grid.regular((9, 9)))
    bent = identity(2).clone()
    bent[0, -1, 0] = -0.25  # the horizon is at x = 4
    values, inside = image.at(torch.tensor([[[1.0, 1.0], [4.0, 4.0], [6.0, 4.0]]], dtype=torch.float64), bent)
    assert inside.tolist() == [[1, 0, 0]]
    assert values.isfinite().all()


def test_a_point_counts_only_when_all_pixels_it_is_read_from_are_in_the_mask(ndim: int, dtype: torch.dtype) -> None:
    grid = Grid.regular((9,) * ndim)
    image = photograph(linear([0.1] * ndim), grid=grid, dtype=dtype)
    mask = torch.zeros_like(image.data)
    mask[..., 2:5] = 1  # columns 2 to 4
    points = torch.full((1, 6, ndim), 4.0, dtype=dtype)
    points[0, :, 0] = torch.tensor([1.5, 1.9, 2.0, 3.5, 4.0, 4.5])
    assert Image(image.data, grid, mask).at(points, identity(ndim))[1].tolist() == [[0, 0, 1, 1, 1, 0]]


@pytest.mark.parametrize("offset", [1e4, 1e7])
def test_large_world_coordinates_cost_no_precision(offset: float, ndim: int) -> None:
    shape = (24, 33, 20)[:ndim]
    index = torch.rand(100, ndim, dtype=torch.float64) * (torch.tensor(shape[::-1]) - 1)
    values = []
    for shift in (0.0, offset):
        grid = oblique(shape, offset=shift)
        here = translation(*-grid.world_from_index[:-1, -1])
        image = photograph(linear([0.03] * ndim), grid=grid, scene_from_world=here, dtype=torch.float32)
        world_from_pixels = grid.world_from_index[None]
        values.append(image.at(index[None].float(), world_from_pixels)[0])
    assert torch.allclose(values[0], values[1], rtol=0, atol=TOLERANCE[torch.float32] + 1e-14 * offset)


def test_a_batch_is_read_as_each_image_alone(grid: Grid, smooth: Scene, dtype: torch.dtype) -> None:
    images = [photograph(smooth, grid=grid, dtype=dtype), photograph(lambda p: 1 - smooth(p), grid=grid, dtype=dtype)]
    images[1] = Image(images[1].data, grid, (images[1].data > 0.5).to(dtype))
    points = torch.rand(2, 50, grid.ndim, dtype=dtype) * 2 - 1
    matrices = torch.stack([grid.world_from_frame, grid.world_from_frame @ scale_and_shift(*[grid.size / grid.size * 0.9] * 2)])
    together = batch(images).at(points, matrices)
    for number, image in enumerate(images):
        alone = image.at(points[number : number + 1], matrices[number : number + 1])
        assert torch.allclose(together[0][number], alone[0][0], rtol=0, atol=TOLERANCE[dtype])
        assert torch.equal(together[1][number], alone[1][0])


# ---- normalised


def test_normalised_is_in_zero_to_one_and_does_not_mind_a_hot_pixel() -> None:
    values = torch.linspace(-3, 5, 64 * 64, dtype=torch.float64).view(1, 1, 64, 64)
    hot = values.clone()
    hot[..., 10, 10] = 1e6
    plain, robust = (Image(v, Grid.regular((64, 64))).normalised().data for v in (values, hot))
    assert float(plain.min()) == 0
    assert float(plain.max()) == 1
    others = values < 1e5
    others[..., 10, 10] = False
    assert torch.allclose(plain[others], robust[others], rtol=0, atol=1e-3)
    assert values.max() == 5  # the input stays as it was


def test_normalised_looks_only_inside_the_mask() -> None:
    values = torch.linspace(0, 1, 40 * 40, dtype=torch.float64).view(1, 1, 40, 40)
    mask = torch.zeros_like(values)
    mask[..., 10:30, :] = 1
    wild = torch.where(mask > 0, values, 1e6)
    tame, robust = (Image(v, Grid.regular((40, 40)), mask).normalised().data for v in (values, wild))
    assert torch.equal(tame[mask > 0], robust[mask > 0])


def test_normalised_by_a_reference_keeps_intensities_comparable() -> None:
    grid = Grid.regular((40, 40))
    dark = Image(torch.linspace(0, 1, 1600, dtype=torch.float64).view(1, 1, 40, 40), grid)
    half = Image(dark.data / 2, grid)
    assert torch.allclose(half.normalised(dark).data, dark.normalised().data / 2, rtol=0, atol=1e-3)
    assert torch.allclose(half.normalised().data, dark.normalised().data, rtol=0, atol=TOLERANCE[torch.float64])


def test_a_sparse_image_keeps_its_few_bright_pixels_when_normalised() -> None:
    values = torch.zeros(1, 1, 64, 64)
    values[..., 5, 5] = 7
    assert Image(values, Grid.regular((64, 64))).normalised().data[0, 0, 5, 5] == 1


# ---- batch


def test_a_batch_keeps_masks_and_gives_images_without_one_a_full_mask() -> None:
    half = np.zeros((12, 10), bool)
    half[:6] = True
    together = batch([door(gray()), door(gray(), mask=half)])
    assert together.data.shape == (2, 1, 12, 10)
    assert together.mask.flatten(1).mean(1).tolist() == [1, 0.5]
    assert batch([door(gray()), door(gray())]).mask is None


def test_a_batch_of_one_is_the_image() -> None:
    image = door(gray())
    assert batch([image]) is image
    assert image.to("cpu") is image


# ---- the door: what passes


@pytest.mark.parametrize("kind", ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"])
def test_every_integer_dtype_keeps_its_values(kind: str) -> None:
    pixels = (gray() * 100).astype(kind) if kind != "bool" else gray() > 0.5
    image = door(pixels)
    assert image.data.dtype == torch.float32
    assert image.data.shape == (1, 1, 12, 10)
    assert np.array_equal(image.data[0, 0].numpy(), pixels.astype(np.float32))
    assert image.mask is None


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "longdouble", ">f4", ">f8"])
def test_every_real_dtype_keeps_its_values(kind: str) -> None:
    pixels = gray().astype(kind)
    assert np.array_equal(door(pixels, dtype=torch.float64).data[0, 0].numpy(), pixels.astype(np.float64))


@pytest.mark.parametrize("kind", [">u2", ">i4"])
def test_pixels_of_another_byte_order_keep_their_values(kind: str) -> None:
    pixels = (gray() * 1000).astype(kind)
    assert np.array_equal(door(pixels).data[0, 0].numpy(), pixels.astype(np.float32))


def test_the_largest_unsigned_integers_do_not_turn_negative() -> None:
    pixels = np.zeros((12, 10), np.uint64)
    pixels[3, 3] = 2**64 - 1
    assert door(pixels).data.min() == 0
    assert door(pixels).data.max() == 2.0**64


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.uint8, torch.bool])
def test_tensors_of_every_kind_are_taken(kind: torch.dtype) -> None:
    pixels = (torch.as_tensor(gray()) * 2).floor().to(kind)
    assert torch.equal(door(pixels).data[0, 0], pixels.float())


def test_a_tensor_with_a_gradient_is_taken_without_it() -> None:
    assert not door(torch.as_tensor(gray()).requires_grad_()).data.requires_grad


def test_arrays_that_cannot_be_written_are_taken(always_warn: None) -> None:
    pixels = gray()
    pixels.flags.writeable = False
    assert np.array_equal(door(pixels).data[0, 0].numpy(), pixels)


@pytest.mark.parametrize(
    "view", [lambda a: a[::-1], lambda a: a.T, lambda a: a[::2, ::-1], np.asfortranarray], ids=["flip", "T", "steps", "order"]
)
def test_any_memory_layout_is_taken(view: Any) -> None:
    pixels = view(gray(20, 24))
    assert np.array_equal(door(pixels).data[0, 0].numpy(), pixels)


def test_lists_of_lists_are_taken() -> None:
    assert np.array_equal(door(gray().tolist()).data[0, 0].numpy(), gray())


def test_the_input_is_never_changed() -> None:
    pixels, mask = gray(), gray() > 0.5
    pixels[0, 0] = math.nan
    before = pixels.copy(), mask.copy()
    door(pixels, mask=mask, nan="mask").normalised()
    assert np.array_equal(pixels, before[0], equal_nan=True)
    assert np.array_equal(mask, before[1])


@pytest.mark.parametrize("path", [str, Path], ids=["str", "Path"])
def test_a_path_is_read(path: type, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", gray())
    assert np.array_equal(door(path(tmp_path / "a.npy")).data[0, 0].numpy(), gray())


def test_eight_pixels_a_side_are_enough_and_seven_are_not() -> None:
    assert door(gray(8, 8)).grid.shape == (8, 8)
    with pytest.raises(InputError, match=r"at least 8 pixels .* \(7, 7\)"):
        door(gray(7, 7))


@pytest.mark.parametrize("spacing", [(2, 0.5), [2.0, 0.5], np.array([2, 0.5])], ids=["tuple", "list", "array"])
def test_spacing_is_in_array_order(spacing: Any) -> None:
    assert door(gray(), spacing=spacing).grid.spacing.tolist() == [0.5, 2.0]


# ---- the door: channels


@pytest.mark.parametrize(
    ("shape", "axis", "channels", "spatial"),
    [
        ((12, 10), "auto", 1, (12, 10)),
        ((12, 10, 3), "auto", 3, (12, 10)),
        ((12, 10, 4), "auto", 4, (12, 10)),
        ((12, 10, 2), "auto", 2, (12, 10)),
        ((12, 10, 9), "auto", 1, (12, 10, 9)),
        ((12, 10, 9, 3), "auto", 3, (12, 10, 9)),
        ((3, 12, 10), 0, 3, (12, 10)),
        ((12, 3, 10), 1, 3, (12, 10)),
        ((12, 10, 3), -1, 3, (12, 10)),
        ((12, 10, 9), 2, 9, (12, 10)),
        ((9, 12, 10, 11), 0, 9, (12, 10, 11)),
        ((12, 10, 1), -1, 1, (12, 10)),
        ((12, 10), None, 1, (12, 10)),
        ((12, 10, 9), None, 1, (12, 10, 9)),
    ],
)
def test_channels_of_arrays(shape: tuple, axis: Any, channels: int, spatial: tuple) -> None:
    pixels = gray(*shape)
    image = door(pixels, channel_axis=axis)
    assert image.data.shape == (1, channels, *spatial)
    assert image.grid.shape == spatial
    expected = (
        pixels[None] if channels == 1 and len(shape) == len(spatial) else np.moveaxis(pixels, -1 if axis == "auto" else axis, 0)
    )
    assert np.array_equal(image.data[0].numpy(), expected)


@pytest.mark.parametrize(
    ("shape", "channels", "spatial"),
    [((3, 12, 10), 3, (12, 10)), ((2, 9, 12, 10), 2, (9, 12, 10)), ((9, 12, 10), 1, (9, 12, 10)), ((12, 10), 1, (12, 10))],
)
def test_channels_of_tensors_come_first(shape: tuple, channels: int, spatial: tuple) -> None:
    pixels = torch.as_tensor(gray(*shape))
    image = door(pixels)
    assert image.grid.shape == spatial
    assert torch.equal(image.data[0], pixels.view(channels, *spatial))


def test_the_axis_that_held_the_channels_is_told() -> None:
    assert arranged(Pixels(gray(12, 10, 3)), "auto", "fixed").axis == 2
    assert arranged(Pixels(gray(3, 12, 10)), "auto", "fixed", tensor=True).axis == 0
    assert arranged(Pixels(gray(12, 10)), "auto", "fixed").axis is None


# ---- the door: what is refused


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gray(40), "2 or 3 spatial axes"),
        (gray(8, 8, 8, 8, 8), "2 or 3 spatial axes"),
        (gray(8, 8, 8, 8), "2 or 3 spatial axes"),
        (np.float32(3), "2 or 3 spatial axes"),
        (gray(1, 40), "at least 8 pixels"),
        (gray(40, 1), "at least 8 pixels"),
        (gray(12, 3, 10), r"at least 8 pixels .* got shape \(12, 3, 10\)\. A volume may have 4 along one axis"),
        (gray(12, 7, 7), "at least 8 pixels"),
        (np.zeros((0, 10)), r"at least 8 pixels along every axis, got shape \(0, 10\)"),
        (np.zeros((12, 0, 3)), r"at least 8 pixels along every axis, got shape \(12, 0\)"),
        (np.zeros((12, 10, 0)), r"at least 8 pixels along every axis, got shape \(12, 10, 0\)"),
        (torch.zeros(2, 12, 0), r"at least 8 pixels along every axis, got shape \(12, 0\)"),
        ([], "2 or 3 spatial axes"),
        (np.full((12, 10), 5.0), r"contrast, got one value \(5\) everywhere; is this the right image"),
        (np.zeros((12, 10, 3)), "contrast"),
        (gray().astype(object), "dtype object"),
        (gray().astype(complex), "dtype complex128"),
        (torch.zeros(12, 10, dtype=torch.complex64), "dtype complex64"),
        (np.full((12, 10), "a"), "dtype <U1"),
        (np.zeros((12, 10), "datetime64[s]"), "dtype datetime64"),
        (np.zeros((12, 10), [("a", "f4")]), "dtype"),
        (None, "dtype object"),
        ({"a": 1}, "dtype object"),
        ([[1, 2], [3]], "fixed image"),
        (torch.as_tensor(gray()).to_sparse(), "fixed image"),
        ("no/such/file.png", "does not exist"),
        ("a" * 300 + ".png", "expected an image file"),
    ],
)
def test_what_is_no_image_is_refused_in_words(data: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        door(data)


@pytest.mark.parametrize("shape", [(0, 10), (12, 0), (0, 12, 10)])
def test_what_is_only_looked_at_may_be_small_but_not_empty(shape: tuple) -> None:
    assert arranged(Pixels(gray(1, 1)), "auto", "picture").channels.shape == (1, 1, 1)
    with pytest.raises(InputError, match=r"^picture image: expected at least 1 pixel along every axis"):
        arranged(Pixels(np.zeros(shape)), "auto", "picture")


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_messages_say_which_image(role: str) -> None:
    for data, options in [(gray(40), {}), (gray(7, 7), {}), (np.zeros((9, 9)), {}), (gray(), {"spacing": 1})]:
        with pytest.raises(InputError, match=f"^{role}"):
            as_image(data, role=role, **options)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_pixels_that_are_not_finite_are_refused_or_left_out(bad: float, kind: str) -> None:
    pixels = gray(12, 10, 3).astype(kind)
    pixels[2, 3, 1] = pixels[4, 5] = bad
    with pytest.raises(InputError, match=r'got 2 pixels with NaN or infinity.*nan="mask"'):
        door(pixels)
    image = door(pixels, nan="mask")
    assert (image.mask[0, 0] == 0).nonzero().tolist() == [[2, 3], [4, 5]]
    assert image.data.isfinite().all()
    assert torch.equal(image.data[0, :, 0, 0].double(), torch.as_tensor(pixels[0, 0].astype(float)))


def test_left_out_pixels_join_the_mask() -> None:
    pixels, mask = gray(), np.ones((12, 10), bool)
    pixels[0, 0] = math.nan
    mask[1, 1] = False
    assert (door(pixels, mask=mask, nan="mask").mask[0, 0] == 0).nonzero().tolist() == [[0, 0], [1, 1]]


def test_an_image_of_nan_has_nothing_left() -> None:
    with pytest.raises(InputError, match="no valid pixel"):
        door(gray() * math.nan, nan="mask")


def test_values_beyond_the_working_dtype_are_not_finite_either() -> None:
    pixels = gray().astype(np.float64)
    pixels[0, 0] = 1e39
    assert door(pixels, dtype=torch.float64).data.max() == 1e39
    with pytest.raises(InputError, match=r"1 pixels?"):
        door(pixels)


def test_an_image_that_is_constant_inside_its_mask_is_refused() -> None:
    pixels, mask = gray(), np.zeros((12, 10), bool)
    mask[3:5, 3:5] = True
    pixels[mask] = 0.5
    with pytest.raises(InputError, match=r"contrast, got one value \(0.5\) under its mask; is this the right mask"):
        door(pixels, mask=mask)


@pytest.mark.parametrize("value", [0.0, 1.0, 200.0, 255.0, 65535.0, -1e30])
def test_a_channel_of_one_value_says_nothing(value: float) -> None:
    """As the opacity of an opaque picture does."""
    pixels = np.stack([gray(), np.full((12, 10), value)], -1)
    data = door(pixels, channel_axis=-1).normalised().data
    assert data[:, 0].min() == 0
    assert data[:, 0].max() == 1
    assert not data[:, 1].any()


def test_one_dark_pixel_among_millions_of_equal_ones_is_its_contrast() -> None:
    pixels = np.full((2048, 1024), 200.0)
    pixels[3, 1] = 10  # between those that quantiles are taken of
    data = door(pixels).normalised().data
    assert data[0, 0, 3, 1] == 0
    assert data.sum() == data.numel() - 1


def test_one_channel_with_contrast_is_enough() -> None:
    pixels = np.zeros((12, 10, 3), np.uint8)
    pixels[3, 3, 1] = 9
    assert door(pixels).data.shape[1] == 3


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((12, 11)), r"image's shape \(12, 10\), got \(12, 11\)"),
        (np.ones((12, 10, 2)), "image's shape"),
        (np.ones(120), "image's shape"),
        (np.zeros((12, 10), bool), "at least one nonzero"),
        (np.ones((12, 10), complex), "complex"),
        ("no/such/mask.png", "does not exist"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        door(gray(), mask=mask)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int16", "float32"])
def test_any_nonzero_mask_value_counts(kind: str) -> None:
    mask = np.zeros((12, 10), kind)
    mask[2:9] = np.ones(1, kind) if kind == "bool" else 3
    image = door(gray(12, 10, 3), mask=mask)
    assert image.mask.shape == (1, 1, 12, 10)
    assert np.array_equal(image.mask[0, 0].numpy(), (mask != 0).astype(np.float32))


def test_a_pixel_whose_mask_is_nan_does_not_count() -> None:
    mask = np.ones((12, 10))
    mask[0, 0] = math.nan
    assert (door(gray(), mask=mask).mask[0, 0] == 0).nonzero().tolist() == [[0, 0]]


@pytest.mark.parametrize(
    "spacing",
    [1, 2.0, (1,), (1, 1, 1), (0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), "ab", ["a", "b"], [[1], [2, 3]], [None, 1], ()],
    ids=repr,
)
def test_a_spacing_that_is_not_one_positive_length_an_axis_is_refused(spacing: Any) -> None:
    with pytest.raises(InputError, match=r"^fixed spacing: expected 2 positive lengths in array order"):
        door(gray(), spacing=spacing)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((12, 10, 3), 3), ((12, 10, 3), -4), ((12, 10, 3), "last"), ((12, 10, 3), 1.0), ((9, 9, 9, 9), None)],
)
def test_a_channel_axis_that_is_not_there_is_refused(shape: tuple, axis: Any) -> None:
    with pytest.raises(InputError, match="channel_axis"):
        door(gray(*shape), channel_axis=axis)


def test_no_channels_at_all_are_refused() -> None:
    for shape, axis in [((12, 10, 0), -1), ((0, 12, 10), 0)]:
        with pytest.raises(InputError, match="at least one channel, got none"):
            door(np.zeros(shape), channel_axis=axis)


@pytest.mark.parametrize("shape", [(0, 10), (1, 10), (7, 8)])
def test_too_few_pixels_are_told_before_anything_that_does_not_fit_them(shape: tuple) -> None:
    with pytest.raises(InputError, match="at least 8 pixels"):
        door(gray(*shape), mask=np.zeros(shape), spacing=(0, 0))


# ---- the door: anything at all

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.unicode_string_dtypes(max_len=3),
    st.just(np.dtype(object)),
)
SHAPES = st.one_of(
    st.lists(st.integers(0, 10), min_size=0, max_size=5),
    st.lists(st.integers(8, 9), min_size=2, max_size=2),
    st.tuples(st.integers(8, 9), st.integers(8, 9), st.integers(1, 4)),
).map(tuple)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "nan": st.sampled_from(["error", "mask"]),
        "channel_axis": st.sampled_from(["auto", None, 0, 1, -1, 5]),
        "dtype": st.sampled_from([torch.float32, torch.float64]),
    },
)


@given(kind=DTYPES, shape=SHAPES, options=OPTIONS, draw=st.data())
def test_any_array_gives_finite_pixels_or_an_input_error(kind: np.dtype, shape: tuple, options: dict, draw: Any) -> None:
    elements = st.integers(-9, 9) if kind.kind == "O" else None
    pixels = draw.draw(hnp.arrays(kind, shape, elements=elements, fill=st.nothing() if math.prod(shape) < 9 else None))
    try:
        image = door(pixels, **options)
    except InputError:
        return
    assert image.data.isfinite().all()
    assert image.data.shape[0] == 1
    assert image.data.shape[2:] == image.grid.shape
    shortest, next_one = sorted(image.grid.shape)[:2]
    assert next_one >= 8
    assert shortest >= (4 if image.grid.ndim == 3 else 8)
    inside = image.data if image.mask is None else image.data[(image.mask > 0).expand_as(image.data)]
    assert inside.min() < inside.max()
