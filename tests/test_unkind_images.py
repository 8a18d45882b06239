"""What microscopes, scanners and archives do to images: burnt-in text, frames, saturation, slivers, mirrors, nothing to see.

A real section and the same in other intensities, turned and shifted by a known map, both damaged; then `register` as it comes.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageDraw
from textures import turn

import drmime
from drmime import Doubt, InputError, Registration
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import mapped
from drmime.lab.datasets.case import regular_points, within
from drmime.lab.datasets.changes import about
from drmime.lab.evaluate import rtre
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample

skimage_data = pytest.importorskip("skimage.data", reason="scikit-image brings the section")
register = functools.partial(drmime.register, device="cpu")
NEAR = 0.01  # of the diagonal: below it, by the median of all points, a pair counts as aligned
SIDE = 256


@functools.cache
def section() -> np.ndarray:
    """Gray values in [0, 1]. shape: (256, 256)"""
    pixels = skimage_data.immunohistochemistry().astype(np.float32).mean(-1) / 255
    return pixels.reshape(SIDE, 2, SIDE, 2).mean((1, 3))


def recoloured(pixels: np.ndarray) -> np.ndarray:
    """Another modality: not a monotone function of the first."""
    return np.exp(-2 * pixels) + 0.3 * np.cos(6 * pixels)


def moved(pixels: np.ndarray, degrees: float = 25, mirror: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The image turned about its middle and shifted, and the matrix that took it there."""
    sides = np.array(pixels.shape[::-1])
    linear = turn(degrees).numpy() @ np.diag([-1, 1] if mirror else [1, 1])
    matrix = about((sides - 1) / 2, (sides - 1) / 2 + 0.03 * sides, linear)
    grid = Grid.regular(pixels.shape)
    return resample(pixels, MatrixTransform(np.linalg.inv(matrix)), grid, grid, channel_axis=None), matrix


def error(result: Registration, truth: np.ndarray, shape: tuple[int, ...]) -> float:
    """Median distance, in diagonals, over what of the fixed image is in the moving one."""
    points = regular_points(shape)
    expected = mapped(truth, points)
    return float(np.median(rtre(result.to_moving(points), expected, shape)[within(expected, shape)]))


def pair(**how: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    fixed = section()
    moving, truth = moved(fixed, **how)
    return fixed, recoloured(moving), truth


# ---- what is not part of the scene


def labelled(pixels: np.ndarray) -> np.ndarray:
    """Text, a colour bar and a scale, at the same place in every image of a device."""
    levels = (pixels - pixels.min()) / np.ptp(pixels) * 255
    picture = Picture.fromarray(levels.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for line in range(6):
        draw.text((6, 6 + 12 * line), "SPECIMEN 0815  GAIN 3  10 ms", fill=255)
    draw.rectangle((SIDE - 24, 60, SIDE - 12, 190), fill=255, outline=0)
    draw.text((SIDE // 2, SIDE - 16), "|---| 100 um", fill=255)
    return np.asarray(picture)


def framed(pixels: np.ndarray, width: int, value: float) -> np.ndarray:
    out = np.full_like(pixels, value)
    inner = slice(width, -width), slice(width // 2, -width // 2)
    out[inner] = pixels[inner]
    return out


DAMAGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "text at one place in both": (labelled, labelled),
    "black frames": (lambda x: framed(x, 30, 0.0), lambda x: framed(x, 30, 0.0)),
    "a white frame and a narrower black one": (lambda x: framed(x, 30, 1.0), lambda x: framed(x, 16, 0.0)),
    "half of the one and two thirds of the other saturated": (
        lambda x: np.minimum(x, np.quantile(x, 0.5)),
        lambda x: np.maximum(x, np.quantile(x, 0.6)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_the_scene_does_not_lead_away(damage: str) -> None:
    fixed, moving, truth = pair()
    one, other = DAMAGES[damage]
    result = register(one(fixed), other(moving))
    assert error(result, truth, fixed.shape) < NEAR, result
    assert not result.doubts


# ---- little to see


@pytest.mark.parametrize("height", [64, 32])
def test_a_sliver_is_aligned_along_its_length(height: int) -> None:
    fixed = skimage_data.immunohistochemistry()[200 : 200 + height].astype(np.float32).mean(-1) / 255
    moving, truth = moved(fixed, degrees=3)
    result = register(fixed, recoloured(moving))
    assert error(result, truth, fixed.shape) < NEAR, result
    assert result.history.shape[1] == 4  # its short side stays as it is where it cannot be halved


@pytest.mark.parametrize("side", [8, 12, 16])
def test_a_tiny_image_is_no_crash_and_right_or_doubtful(side: int) -> None:
    fixed = section()[100 : 100 + side, 100 : 100 + side]
    moving, truth = moved(fixed, degrees=6)
    result = register(fixed, recoloured(moving))
    assert np.isfinite(result.matrix).all()
    off = error(result, truth, fixed.shape) * np.hypot(*fixed.shape)
    assert off < 1 or result.doubts, result


def ramp(across: bool) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    return columns + 0.3 * rows if across else rows**2


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((SIDE, SIDE))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fixed", "moving"),
    [pytest.param(ramp(True), ramp(False), marks=pytest.mark.slow), (noise(0), noise(1))],
    ids=["ramps", "noise"],
)
def test_images_without_structure_are_doubtful(fixed: np.ndarray, moving: np.ndarray) -> None:
    assert register(fixed, moving).doubts


@pytest.mark.parametrize("group", ["translation", "rigid", "affine"])
def test_a_small_part_of_a_far_larger_image_is_found(group: str) -> None:
    whole = skimage_data.immunohistochemistry().astype(np.float32).mean(-1) / 255
    part, truth = whole[150:246, 200:296], np.array([[1.0, 0, 200], [0, 1, 150], [0, 0, 1]])
    result = register(part, recoloured(whole), transform=group)
    points = regular_points(part.shape)
    assert np.median(rtre(result.to_moving(points), mapped(truth, points), part.shape)) < NEAR, result


# ---- masks


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[rows, columns] = True
    return mask


def test_a_part_under_a_mask_is_enough() -> None:
    fixed, moving, truth = pair()
    result = register(fixed, moving, fixed_mask=box(slice(80, 180), slice(70, 170)))
    assert error(result, truth, fixed.shape) < NEAR, result


@pytest.mark.slow
def test_a_mask_that_leaves_a_few_pixels_is_doubtful() -> None:
    fixed, moving, _ = pair()
    assert register(fixed, moving, fixed_mask=box(slice(120, 123), slice(120, 123))).doubts


def test_a_mask_that_leaves_nothing_is_refused() -> None:
    fixed, moving, _ = pair()
    with pytest.raises(InputError, match="mask: expected at least one nonzero pixel"):
        register(fixed, moving, fixed_mask=box(slice(0), slice(0)))


@pytest.mark.slow
def test_masks_that_show_different_parts_are_doubtful() -> None:
    fixed, moving, _ = pair(degrees=0)
    top, bottom = box(slice(0, 20), slice(None)), box(slice(-20, None), slice(None))
    result = register(fixed, moving, fixed_mask=top, moving_mask=bottom)
    assert result.doubts or not result.stop.success, result


# ---- mirrors


@pytest.mark.slow
@pytest.mark.parametrize("picture", ["section", "brick"])
def test_a_mirrored_image_is_suspected_and_found_when_asked_for(picture: str) -> None:
    """Bricks lie along the same lines wherever they lie: edges agree by a hundred standard deviations in wrong poses."""
    fixed = section() if picture == "section" else skimage_data.brick().astype(np.float32)[::2, ::2] / 255
    moving, truth = moved(fixed, degrees=10, mirror=True)
    moving = recoloured(moving)
    result = register(fixed, moving)
    assert Doubt.MIRRORED in result.doubts
    (advice,) = [reason for reason in result.reasons if "mirrored" in reason]
    assert 'start={"name": "search", "mirrored": True}' in advice
    asked = register(fixed, moving, start={"name": "search", "mirrored": True})
    assert error(asked, truth, fixed.shape) < NEAR, asked
    assert not asked.notes
