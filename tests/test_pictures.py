"""Pictures are exact where an answer can be derived: what is aligned is gray, areas keep their mean, tiles take turns."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from drmime import InputError, Registration, Stop
from drmime.geometry.grid import Grid
from drmime.pictures import blend, checkerboard, coloured_errors, gray_picture, overlay, shrink
from drmime.transform.linear import MatrixTransform


def ramp(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=float).reshape(shape)


def registration(matrix: np.ndarray, fixed: Grid, moving: Grid) -> Registration:
    return Registration(MatrixTransform(matrix), fixed, moving, Stop.STEPS, 0.0, 1.0, np.zeros((0, 1)), {}, np.zeros(0))


def shift(*by: float) -> np.ndarray:
    matrix = np.eye(len(by) + 1)
    matrix[:-1, -1] = by
    return matrix


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_gray_spans_eight_bits_for_every_dtype(dtype: type) -> None:
    picture = gray_picture((ramp(20, 30) % 2).astype(dtype))
    assert picture.dtype == np.uint8
    assert picture.shape == (20, 30)
    assert set(np.unique(picture)) == {0, 255}


def test_gray_is_not_ruined_by_a_hot_pixel_or_nan() -> None:
    image = ramp(40, 40)
    plain = gray_picture(image).astype(int)
    image[3, 4], image[5, 6], image[7, 8] = 1e9, np.nan, np.inf
    assert np.median(np.abs(gray_picture(image).astype(int) - plain)) <= 1
    assert gray_picture(image)[5, 6] == 0


def test_gray_of_a_constant_and_of_nothing_finite_is_one_value() -> None:
    assert np.unique(gray_picture(np.full((9, 9), 7))).size == 1
    assert np.unique(gray_picture(np.full((9, 9), np.nan))).size == 1


def test_gray_takes_channels_wherever_they_are() -> None:
    image = ramp(20, 30, 3)
    assert np.array_equal(gray_picture(image), gray_picture(image.mean(-1)))
    assert np.array_equal(gray_picture(np.moveaxis(image, -1, 0), channel_axis=0), gray_picture(image))
    assert np.array_equal(gray_picture(torch.as_tensor(np.moveaxis(image, -1, 0))), gray_picture(image))


def test_blend_has_fixed_in_magenta_moving_in_green_and_the_same_in_gray() -> None:
    black, white = np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)
    assert blend(white, black)[0, 0].tolist() == [255, 0, 255]
    assert blend(black, white)[0, 0].tolist() == [0, 255, 0]
    same = blend(gray_picture(ramp(9, 9)), gray_picture(ramp(9, 9)))
    assert (same[..., 0] == same[..., 1]).all()
    assert (same[..., 1] == same[..., 2]).all()


def test_checkerboard_takes_turns() -> None:
    board = checkerboard(np.zeros((16, 32), np.uint8), np.full((16, 32, 3), 9, np.uint8), tiles=8)
    rows, columns = np.indices((16, 32)) // 4
    assert np.array_equal(board[..., 0], np.where((rows + columns) % 2, 9, 0))
    assert board.shape == (16, 32, 3)


@pytest.mark.parametrize(
    ("shape", "longest", "expected"), [((90, 120), 40, (30, 40)), ((100, 33), 7, (7, 2)), ((5, 6), 8, (5, 6))]
)
def test_shrink_averages_areas(shape: tuple[int, int], longest: int, expected: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((2, *shape))
    small = shrink(image, longest)
    assert small.shape == (2, *expected)
    assert np.allclose(small.mean((1, 2)), image.mean((1, 2)))


def test_shrink_by_a_whole_factor_is_the_mean_of_blocks() -> None:
    image = ramp(1, 8, 12)
    assert np.allclose(shrink(image, 6)[0], image[0].reshape(4, 2, 6, 2).mean((1, 3)))


def test_overlay_is_two_by_two_with_white_between() -> None:
    image = ramp(20, 30)
    panel = overlay(image, image[::-1], image)
    assert panel.shape == (44, 64, 3)
    assert (panel[20:24] == 255).all()
    assert (panel[:, 30:34] == 255).all()
    before, after = panel[:20, :30].astype(int), panel[:20, 34:].astype(int)
    assert np.ptp(after, axis=-1).max() <= 1  # aligned: gray, but for rounding
    assert np.ptp(before, axis=-1).max() > 100


def test_overlay_caps_the_side_of_a_tile() -> None:
    image = (ramp(900, 1000) % 251).astype(np.uint8)
    assert overlay(image, image, image).shape == (2 * 720 + 4, 2 * 800 + 4, 3)


def test_overlay_keeps_the_colours_of_rgb() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = ramp(16, 16)
    board = overlay(red, red, red)[20:, :16]
    assert board[..., 0].max() > 200
    assert (board[..., 1:] == 0).all()


def test_overlay_of_a_volume_shows_three_slices_of_square_pixels() -> None:
    volume = ramp(6, 10, 14)
    assert overlay(volume, volume, volume).shape == (2 * 10 + 4, 2 * (14 + 14 + 10) + 4, 3)
    stretched = overlay(volume, volume, volume, spacing=(2, 1, 1))
    assert stretched.shape == (2 * 12 + 4, 2 * (14 + 14 + 10) + 4, 3)


def test_errors_are_coloured_over_the_fixed_image_and_gray_where_unknown() -> None:
    gray = np.full((12, 30), 100, np.uint8)
    error = np.zeros((12, 30))
    error[:, 10:20], error[:, 20:] = 1.5, np.nan
    picture = coloured_errors(gray, error).astype(int)
    assert (picture[:, 20:] == 100).all()
    assert (picture[:, :9, 2] > picture[:, :9, 0] + 50).all()  # blue
    assert (picture[:, 11:19, 0] > picture[:, 11:19, 2] + 50).all()  # red
    panel = overlay(gray, gray, gray, error=error)
    assert panel.shape == (3 * 12 + 2 * 4, 64, 3)
    assert np.array_equal(panel[-12:, -30:], coloured_errors(panel[-12:, :30].mean(-1), error))


def test_errors_of_a_volume_are_three_slices_of_square_pixels() -> None:
    volume = ramp(6, 10, 14)
    assert overlay(volume, volume, volume, spacing=(2, 1, 1), error=np.full(volume.shape, 0.2)).shape == (3 * 12 + 8, 80, 3)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_registration_overlay_shows_before_and_after(channels: tuple[int, ...], tmp_path: Path) -> None:
    scene = np.random.default_rng(0).integers(0, 256, (50, 60, *channels)).astype(np.uint8)
    fixed, moving = scene[5:45, 5:55], scene  # the centre of one on the centre of the other: already aligned
    result = registration(shift(5, 5), Grid.regular((40, 50)), Grid.regular((50, 60)))
    panel = result.overlay(fixed, moving, tmp_path / "overlay.png")
    assert np.array_equal(panel[:, :50], panel[:, 54:])
    assert np.array_equal(iio.imread(tmp_path / "overlay.png"), panel)
    worse = registration(shift(9, 5), Grid.regular((40, 50)), Grid.regular((50, 60))).overlay(fixed, moving)
    assert np.abs(worse[:, :50].astype(int) - panel[:, :50]).max() <= 3  # the sides share one scale of gray
    assert not np.array_equal(worse[:, 54:], panel[:, 54:])


def test_registration_overlay_reads_nan_spacing_and_what_lies_outside() -> None:
    image = ramp(20, 30)
    image[4, 4] = np.nan
    grid = Grid.regular((20, 30), (2.0, 1.0))
    panel = registration(shift(1000, 0), grid, grid).overlay(image, image)
    assert panel.shape == (2 * 40 + 4, 2 * 30 + 4, 3)
    assert (panel[:40, 34:, 1] == 0).all()  # nothing of the moving image is in view: no green


def test_registration_overlay_refuses_another_shape() -> None:
    result = registration(np.eye(3), Grid.regular((20, 30)), Grid.regular((20, 30)))
    for fixed, moving in ((ramp(9, 30), ramp(20, 30)), (ramp(20, 30), ramp(9, 30))):
        with pytest.raises(InputError, match="shape"):
            result.overlay(fixed, moving)
