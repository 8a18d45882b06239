"""What `register` finds changes with its input as it must: images swapped, transposed, padded, cut, in other units."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

import drmime
from drmime.geometry.matrices import mapped

skimage_data = pytest.importorskip("skimage.data", reason="scikit-image brings the picture")
PIXELS = 0.5  # that a corner may move: other random points are drawn, and others lie at the edge
PAD = 24


@functools.cache
def images() -> tuple[np.ndarray, np.ndarray]:
    """A colour photograph, and the same in other colours, turned by 20 degrees and shifted."""
    fixed = skimage_data.astronaut()[60:280, 120:360].astype(float)
    angle = np.radians(20)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(fixed.shape[:2]) - 1) / 2
    offset = middle - linear @ middle + [7, -11]
    moving = [ndimage.affine_transform(255 - fixed[..., c], linear, offset, order=1, mode="reflect") for c in (1, 2, 0)]
    return fixed, np.stack(moving, -1)


def found(fixed: np.ndarray, moving: np.ndarray, **options: object) -> np.ndarray:
    """fixed to moving, in pixels."""
    return drmime.register(fixed, moving, transform="similarity", device="cpu", **options).pixel_matrix


@functools.cache
def known() -> np.ndarray:
    return found(*images())


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


SWAPPED_AXES = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
Relation = tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]  # what is found, and what that should be
RELATIONS: dict[str, Relation] = {
    "swapped": (lambda: found(*images()[::-1]), lambda: np.linalg.inv(known())),
    "transposed": (
        lambda: found(*(pixels.swapaxes(0, 1) for pixels in images())),
        lambda: SWAPPED_AXES @ known() @ SWAPPED_AXES,
    ),
    "affine intensities": (lambda: found(3 * images()[0] + 100, 0.01 * images()[1] - 5), known),
    "channels in another order": (lambda: found(images()[0][..., ::-1], images()[1][..., [1, 2, 0]]), known),
    "in other units": (lambda: found(*images(), fixed_spacing=(0.25, 0.25), moving_spacing=(0.25, 0.25)), known),
    "fixed padded": (
        lambda: found(np.pad(images()[0], ((PAD, PAD), (PAD, PAD), (0, 0))), images()[1]),
        lambda: known() @ shift(-PAD, -PAD),
    ),
    "moving padded": (
        lambda: found(images()[0], np.pad(images()[1], ((PAD, PAD), (PAD, PAD), (0, 0)))),
        lambda: shift(PAD, PAD) @ known(),
    ),
    "fixed cut": (lambda: found(images()[0][PAD:-PAD, PAD:-PAD], images()[1]), lambda: known() @ shift(PAD, PAD)),
}


@pytest.mark.parametrize("name", RELATIONS)
def test_what_is_found_changes_as_it_must(name: str) -> None:
    matrix, expected = (make() for make in RELATIONS[name])
    height, width = images()[0].shape[:2]
    inner = np.array([[x, y] for x in (0.3 * width, 0.7 * width) for y in (0.3 * height, 0.7 * height)])
    assert np.linalg.norm(mapped(matrix, inner) - mapped(expected, inner), axis=1).max() < PIXELS
