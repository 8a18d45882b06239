"""The demo's truth is true: the pair really is what its matrix says."""

import sys

import numpy as np
import pytest
from problems import translation

from drmime import InputError
from drmime.geometry.grid import Grid
from drmime.lab.demo import SIDE, Example, pair
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample


@pytest.fixture(scope="module")
def example() -> Example:
    pytest.importorskip("skimage")
    return pair()


def shift(x: float, y: float) -> MatrixTransform:
    return MatrixTransform(translation(x, y))


def test_error_is_exact(example: Example) -> None:
    assert example.error(example.truth) == 0
    assert example.error(shift(3, -4) @ example.truth) == pytest.approx(5)
    assert example.error(shift(0, 0)) > 10


def test_images_are_eight_bit_and_repeatable(example: Example) -> None:
    assert example.fixed.shape == (SIDE, SIDE, 3)
    assert example.moving.shape == (SIDE, SIDE)
    assert example.fixed.dtype == example.moving.dtype == np.uint8
    assert np.array_equal(pair().moving, example.moving)
    assert not np.array_equal(pair(seed=1).moving, example.moving)


def test_the_matrix_aligns_the_images(example: Example) -> None:
    """Under the truth the moved stain lies where the section is brown: red exceeds blue. A pixel off it fits less well."""
    grid = Grid.regular((SIDE, SIDE))
    brown = example.fixed[..., 0].astype(float) - example.fixed[..., 2]
    inside = resample(np.ones((SIDE, SIDE)), example.truth, grid, grid) > 0

    def likeness(transform: Transform) -> float:
        warped = resample(example.moving.astype(float), transform, grid, grid)
        return float(np.corrcoef(warped[inside], brown[inside])[0, 1])

    best = likeness(example.truth)
    assert best > 0.6
    assert all(likeness(shift(*by) @ example.truth) < best for by in ((1, 0), (-1, 0), (0, 1), (0, -1)))


def test_without_scikit_image_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(InputError, match=r"pip install 'drmime\[demo\]'"):
        pair()
