"""Warping: the right pixels, in the dtype, range and layout of what was given."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from problems import linear, rotation, translation, world_points
from scipy import ndimage
from tolerances import EXACT

import drmime.transform.warp
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.parts import INTERPOLATIONS
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample

KINDS = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]
SHAPES = {2: (11, 13), 3: (9, 10, 12)}


def pixels(kind: str, shape: tuple[int, ...] = (11, 13)) -> np.ndarray:
    values = np.random.default_rng(0).random(shape)
    return values > 0.5 if kind == "bool" else (values * 100).astype(kind)


def warp(moving: Any, matrix: torch.Tensor, fixed: tuple[int, ...] | None = None, **options: Any) -> np.ndarray:
    """`resample` in pixels; the spatial shape is that of an array without channels unless options tell."""
    shape = options.pop("shape", None) or tuple(moving.shape)
    return resample(moving, MatrixTransform(matrix), Grid.regular(shape), Grid.regular(fixed or shape), **options)


def eye(ndim: int) -> torch.Tensor:
    return torch.eye(ndim + 1, dtype=torch.float64)


# ---- the right pixels


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_identity_returns_the_array(kind: str, interpolation: str, ndim: int) -> None:
    moving = pixels(kind, SHAPES[ndim])
    warped = warp(moving, eye(ndim), interpolation=interpolation)
    assert warped.dtype == moving.dtype
    assert np.array_equal(warped, moving)


@pytest.mark.parametrize("kind", [">u2", ">f4"])
def test_the_byte_order_is_kept(kind: str) -> None:
    warped = warp(pixels(kind), eye(2))
    assert warped.dtype == np.dtype(kind)
    assert np.array_equal(warped, pixels(kind))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float32"])
def test_a_shift_by_whole_pixels_moves_them(kind: str, interpolation: str, ndim: int) -> None:
    moving = pixels(kind, SHAPES[ndim])
    warped = warp(moving, translation(*[3.0, -2.0, 1.0][:ndim]), interpolation=interpolation, fill=1)
    expected = np.full_like(moving, 1)
    expected[..., 2:, :-3] = moving[..., :-2, 3:] if ndim == 2 else 1
    if ndim == 3:
        expected[:-1, 2:, :-3] = moving[1:, :-2, 3:]
    assert np.array_equal(warped, expected)


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_shift_by_parts_of_a_pixel_is_exact_on_a_ramp(interpolation: str, kind: str, ndim: int) -> None:
    shape = (52,) * 2 if ndim == 2 else (46,) * 3
    grid, function = Grid.regular(shape), linear([0.5, -0.3, 0.2][:ndim], 20.0)
    shift = torch.tensor([0.37, -0.81, 0.5][:ndim], dtype=torch.float64)
    ramp = function(world_points(grid)).view(shape).numpy().astype(kind)
    expected = function(world_points(grid) + shift).view(shape).numpy()
    margin = 20 if interpolation == "cubic" else 1  # the mirrored border of the spline decays by 0.27 a pixel
    inner = (slice(margin, -margin),) * ndim
    tolerance = 1e-5 if kind == "float32" else 1e-9
    assert np.abs(warp(ramp, translation(*shift), interpolation=interpolation) - expected)[inner].max() < tolerance


def test_cubic_is_nearer_to_a_smooth_function_than_linear(ndim: int) -> None:
    shape = (30,) * ndim

    def function(points: torch.Tensor) -> np.ndarray:
        return torch.cos(points * 0.5).prod(-1).view(shape).numpy()

    points = world_points(Grid.regular(shape))
    inner = (slice(5, -5),) * ndim
    errors = [
        np.abs(warp(function(points), translation(*[0.4] * ndim), interpolation=name) - function(points + 0.4))[inner].max()
        for name in ("nearest", "linear", "cubic")
    ]
    assert errors[2] < errors[1] / 10 < errors[0] / 20


@pytest.mark.parametrize(("shift", "source"), [(0.4, 0), (0.6, 1), (-0.4, 0), (-0.6, -1)])
def test_nearest_takes_the_nearest_pixel(shift: float, source: int) -> None:
    moving = np.arange(143).reshape(11, 13)
    warped = warp(moving, translation(shift, 0.0), interpolation="nearest")
    assert np.array_equal(warped[:, 2:-2], moving[:, 2 + source : 11 + source])


def test_nearest_takes_each_pixel_once_under_a_shift_by_half_a_pixel() -> None:
    warped = warp(np.arange(143).reshape(11, 13), translation(0.5, 0.0), interpolation="nearest")
    assert (np.diff(warped[:, 1:-1], axis=1) == 1).all()


def test_the_matrix_takes_fixed_pixels_to_moving_pixels_x_first() -> None:
    moving = np.zeros((11, 13), np.uint8)
    moving[2, 7] = 9  # y = 2, x = 7
    quarter = rotation(2, math.pi / 2)  # (x, y) -> (-y, x)
    warped = warp(moving, translation(12.0, 0.0) @ quarter, fixed=(13, 11))
    assert np.argwhere(warped).tolist() == [[5, 2]]  # (x=2, y=5) -> (12 - 5, 2)
    assert np.array_equal(warped, np.rot90(moving))


def test_the_fixed_grid_may_be_of_any_size(ndim: int) -> None:
    shape = SHAPES[ndim]
    moving = pixels("int16", shape)
    larger = warp(moving, eye(ndim), fixed=tuple(n + 3 for n in shape), fill=-1)
    assert larger.shape == tuple(n + 3 for n in shape)
    inner = tuple(slice(n) for n in shape)
    assert np.array_equal(larger[inner], moving)
    larger[inner] = -1
    assert (larger == -1).all()
    assert np.array_equal(warp(moving, eye(ndim), fixed=(4,) * ndim), moving[(slice(4),) * ndim])


def test_every_second_pixel_is_read_by_a_scale_of_two(ndim: int) -> None:
    moving = pixels("int16", SHAPES[ndim])
    double = torch.diag(torch.tensor([2.0] * ndim + [1.0], dtype=torch.float64))
    every_second = moving[(slice(None, None, 2),) * ndim]
    assert np.array_equal(warp(moving, double, fixed=every_second.shape), every_second)


def test_the_same_pixels_come_in_chunks_of_any_size(monkeypatch: pytest.MonkeyPatch, ndim: int) -> None:
    moving = pixels("float32", SHAPES[ndim])
    matrix = rotation(ndim, 0.3) @ translation(*[0.7] * ndim)
    whole = {name: warp(moving, matrix, interpolation=name) for name in INTERPOLATIONS}
    assert moving.size < drmime.transform.warp.CHUNK
    for chunk in (1 if ndim == 2 else 50, 7, moving.size - 1, moving.size):
        monkeypatch.setattr(drmime.transform.warp, "CHUNK", chunk)
        for name in INTERPOLATIONS:
            assert np.array_equal(warp(moving, matrix, interpolation=name), whole[name])


# ---- fill


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("shift", "outside"), [(0.5, 0), (0.51, 1), (1.5, 1), (1.51, 2), (100.0, 13)])
def test_pixels_more_than_half_a_pixel_outside_are_filled(shift: float, outside: int, interpolation: str) -> None:
    moving = pixels("uint8") + np.uint8(1)
    right = warp(moving, translation(shift, 0.0), interpolation=interpolation, fill=0)
    left = warp(moving[:, ::-1], translation(-shift, 0.0), interpolation=interpolation, fill=0)
    for warped in (right, left[:, ::-1]):
        assert (warped[:, 13 - outside :] == 0).all()
        assert (warped[:, : 13 - outside] > 0).all()


def test_the_outer_half_of_a_border_pixel_has_its_value() -> None:
    moving = pixels("float64")
    right, above = warp(moving, translation(0.4, 0.0)), warp(moving, translation(0.0, -0.4))
    assert np.allclose(right[:, -1], moving[:, -1], rtol=0, atol=100 * EXACT)
    assert np.allclose(above[0], moving[0], rtol=0, atol=100 * EXACT)


def test_behind_the_horizon_is_filled() -> None:
    bent = eye(2).clone()
    bent[2, 0] = -0.2  # the horizon is at x = 5
    warped = warp(pixels("uint8") + np.uint8(1), bent, fill=0)
    assert (warped[:, 5:] == 0).all()
    assert (warped[:, 0] > 0).all()


@pytest.mark.parametrize(
    ("kind", "fill"),
    [("uint8", 255), ("int8", -128), ("float32", math.nan), ("float32", -math.inf), ("bool", True), ("int64", 2**60 + 1)],
)
def test_any_fill_that_the_dtype_holds_is_used_exactly(kind: str, fill: Any) -> None:
    corner = warp(pixels(kind), translation(100.0, 0.0), fill=fill)[0, 0]
    assert np.array_equal(corner, np.array(fill, kind), equal_nan=kind == "float32")


@pytest.mark.parametrize("fill", [0.1, np.float64(0.1), np.float32(0.1)])
def test_a_fill_is_rounded_to_the_precision_of_the_image(fill: Any) -> None:
    assert warp(pixels("float32"), translation(100.0, 0.0), fill=fill)[0, 0] == np.float32(0.1)


@pytest.mark.parametrize(
    ("kind", "fill"),
    [
        ("uint8", -1),
        ("uint8", 256),
        ("uint8", 0.5),
        ("uint8", math.nan),
        ("int16", math.inf),
        ("int64", math.nan),
        ("bool", 2),
        ("float32", 1e40),
        ("uint8", "a"),
        ("uint8", None),
        ("uint8", [1, 2]),
    ],
)
def test_a_fill_that_the_dtype_cannot_hold_is_refused(kind: str, fill: Any) -> None:
    with pytest.raises(InputError, match="fill"):
        warp(pixels(kind), eye(2), fill=fill)


# ---- range and labels


@pytest.mark.parametrize("kind", ["bool", "uint8", "int16", "float32", "float64"])
def test_cubic_overshoot_does_not_leave_the_range(kind: str) -> None:
    step = np.zeros((20, 20), kind)
    step[:, 10:] = True if kind == "bool" else 200
    assert ndimage.shift(step.astype(float), (0, 0.4), order=3).max() > step.max()  # it would
    warped = warp(step, translation(0.4, 0.0), interpolation="cubic", channel_axis=None)
    assert warped.min() == step.min()
    assert warped.max() == step.max()


def test_whole_numbers_are_rounded_not_cut() -> None:
    moving = np.tile(np.arange(13, dtype=np.uint8), (11, 1))
    assert np.array_equal(warp(moving, translation(-0.3, 0.0))[:, 1:], moving[:, 1:])  # 0.7 is nearer to 1
    assert np.array_equal(warp(moving, translation(0.3, 0.0))[:, :-1], moving[:, :-1])


@pytest.mark.parametrize("fill", [0, 0.0, -1, np.int8(-1), np.float32(0)])
def test_labels_beyond_the_precision_of_floats_are_kept_and_never_blended(fill: Any, ndim: int) -> None:
    labels = 2**53 + 1 + np.arange(math.prod(SHAPES[ndim]), dtype=np.int64).reshape(SHAPES[ndim])
    matrix = rotation(ndim, 0.3) @ translation(*[0.7] * ndim)
    warped = warp(labels, matrix, interpolation="nearest", fill=fill)
    assert warped.dtype == np.int64
    assert set(warped.flat) <= {*labels.flat, int(fill)}
    assert len(set(warped.flat)) > labels.size / 2
    assert np.array_equal(warp(labels, eye(ndim), interpolation="nearest", fill=fill), labels)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_pixel_that_is_not_finite_spoils_only_its_neighbourhood(interpolation: str) -> None:
    moving = pixels("float32", (30, 30))
    moving[4, 4] = math.nan
    warped = warp(moving, translation(0.5, 0.0), interpolation=interpolation)
    assert np.isfinite(warped[15:, 15:]).all()
    assert np.isnan(warped).any()  # what is not known is not made up


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_pixel_that_is_not_finite_stays_alone_when_nothing_moves_but_by_rounding(interpolation: str) -> None:
    moving = pixels("float32", (30, 30))
    moving[4, 4] = math.nan
    warped = warp(moving, translation(1e-12, -1e-12), interpolation=interpolation)
    assert np.argwhere(np.isnan(warped)).tolist() == [[4, 4]]


def test_the_input_is_never_changed() -> None:
    moving = pixels("float64")
    before = moving.copy()
    for name in INTERPOLATIONS:
        warp(moving, rotation(2, 0.2), interpolation=name)
    assert np.array_equal(moving, before)


# ---- channels and inputs


@pytest.mark.parametrize(("axis", "option"), [(-1, "auto"), (-1, -1), (2, 2), (0, 0), (1, 1)])
def test_colours_are_warped_channel_by_channel_and_stay_where_they_were(axis: int, option: Any) -> None:
    channels = [pixels("uint8"), pixels("uint8") // 2, 100 - pixels("uint8")]
    matrix = rotation(2, 0.3)
    warped = warp(np.stack(channels, axis), matrix, (7, 8), shape=(11, 13), channel_axis=option)
    expected = np.stack([warp(channel, matrix, (7, 8), channel_axis=None) for channel in channels], axis)
    assert warped.dtype == np.uint8
    assert np.array_equal(warped, expected)


def test_tensors_have_their_channels_first() -> None:
    channels = torch.as_tensor(np.stack([pixels("float32"), pixels("float32") / 2]))
    warped = warp(channels, rotation(2, 0.3), (7, 8), shape=(11, 13))
    assert isinstance(warped, np.ndarray)
    assert np.array_equal(warped, np.stack([warp(c.numpy(), rotation(2, 0.3), (7, 8)) for c in channels]))


def test_colour_volumes_are_warped() -> None:
    volume = pixels("uint8", (9, 10, 12, 3))
    warped = warp(volume, translation(2.0, 0.0, 0.0), shape=(9, 10, 12))
    assert np.array_equal(warped[:, :, :-2], volume[:, :, 2:])


def test_an_unknown_interpolation_is_told_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"'liner'; did you mean 'linear'\? Known: bspline, cubic, lanczos, linear, majority, nearest"
    ):
        warp(pixels("uint8"), eye(2), interpolation="liner")


@pytest.mark.parametrize("shape", [(13, 11), (11, 13, 3), (11, 12)])
def test_an_image_of_another_shape_than_was_registered_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected the moving image's shape \(11, 13\)"):
        warp(pixels("uint8", shape), eye(2), shape=(11, 13), channel_axis=None)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_the_largest_of_wide_integers_do_not_wrap_around(dtype: str) -> None:
    moving = np.full((8, 8), np.iinfo(dtype).max, dtype)
    moving[0, 0] = 0
    warped = warp(moving, translation(0.5, 0.0), interpolation="linear", fill=0)
    assert (warped[2:, 1:-1] == np.iinfo(dtype).max).all()
