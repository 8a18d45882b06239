"""Shifts of images of one modality: the fast sums equal the slow ones, peaks have a chance, errors are as expected."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from drmime.shifts.contrast import Level, flattened, levels_of
from drmime.shifts.pair import Match, Prepared, levels_for, match
from drmime.shifts.surface import best_shifts, correlations

TRANSLATION = np.zeros((2, 3, 3))
TRANSLATION[0, 0, 2] = TRANSLATION[1, 1, 2] = 1
RIGID = np.concatenate([TRANSLATION, np.array([[[0, -1, 31.5], [1, 0, -31.5], [0, 0, 0]]]) / 32])


def texture(shape: tuple[int, ...], seed: int = 0, smooth: float = 1.5) -> np.ndarray:
    image = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), smooth)
    return image / image.std()


def views(shift: tuple[float, float], noise: float = 0.0, seed: int = 0, angle: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two views of 64² pixels of one texture: pixel x, y of the first is pixel (x, y) + shift of the second, turned."""
    scene = texture((140, 140), seed)
    random = np.random.default_rng(seed + 1000)
    rows, columns = np.mgrid[:64, :64].astype(float)
    x, y = columns - shift[0], rows - shift[1]
    c, s = math.cos(-angle), math.sin(-angle)
    x, y = 31.5 + c * (x - 31.5) - s * (y - 31.5), 31.5 + s * (x - 31.5) + c * (y - 31.5)
    second = map_coordinates(scene, [y + 40, x + 40], order=5)
    return tuple(image + noise * random.standard_normal((64, 64)) for image in (scene[40:104, 40:104], second))  # type: ignore[return-value]


def measured(one: np.ndarray, other: np.ndarray, basis: np.ndarray = TRANSLATION, **options: object) -> Match | None:
    count = levels_for([one.shape, other.shape], 512)
    return match(Prepared(one, None, count), Prepared(other, None, count), basis, 1e-3, **options)  # type: ignore[arg-type]


def test_correlations_are_those_of_each_overlap() -> None:
    one, other = texture((20, 26), 1), texture((17, 30), 2)
    score, overlap = correlations(one, other)
    for rows, columns in ((0, 0), (3, -7), (-12, 20)):
        ys = [y for y in range(20) if 0 <= y + rows < 17]
        xs = [x for x in range(26) if 0 <= x + columns < 30]
        first = one[np.ix_(ys, xs)].ravel()
        second = other[np.ix_([y + rows for y in ys], [x + columns for x in xs])].ravel()
        at = rows + 19, columns + 25
        assert overlap[at] == len(first)
        assert score[at] == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-3)


def test_the_sums_without_masks_equal_those_with_full_masks() -> None:
    one, other = texture((20, 26), 1), texture((17, 30), 2)
    fast = correlations(one, other)
    slow = correlations(one, other, np.ones(one.shape, bool), np.ones(other.shape, bool))
    enough = fast[1] >= 16
    assert np.array_equal(fast[1], slow[1])
    assert np.abs(fast[0] - slow[0])[enough].max() < 0.01


def test_masked_pixels_have_no_effect() -> None:
    one, other = views((5, -3))
    mask = np.ones(one.shape, bool)
    mask[:, 20:30] = False
    spoiled = np.where(mask, one, 1e3)
    found = [match(Prepared(image, mask, 1), Prepared(other, None, 1), TRANSLATION, 1e-3) for image in (one, spoiled)]
    assert found[0] is not None
    assert found[1] is not None
    assert np.array_equal(found[0].matrix, found[1].matrix)
    assert np.abs(found[0].matrix[:2, 2] - [5, -3]).max() < 0.05


@pytest.mark.parametrize("shift", [(0.0, 0.0), (7.0, -4.0), (3.5, 2.25), (-20.3, 11.6), (52.4, 0.2)])
def test_known_shifts_are_found(shift: tuple[float, float]) -> None:
    found = measured(*views(shift))
    assert found is not None
    assert np.abs(found.matrix[:2, 2] - shift).max() < 0.05


def test_a_small_turn_is_found() -> None:
    found = measured(*views((2.3, -1.6), angle=math.radians(2)), RIGID)
    assert found is not None
    corners = np.array([[10, 10, 1], [50, 12, 1], [30, 52, 1.0]])
    c, s = math.cos(math.radians(2)), math.sin(math.radians(2))
    middle = corners[:, :2] - 31.5
    there = middle @ np.array([[c, s], [-s, c]]) + 31.5 + [2.3, -1.6]
    assert np.abs((corners @ found.matrix.T)[:, :2] - there).max() < 0.1


def test_errors_are_as_large_as_expected() -> None:
    """Noise of half the contrast: root mean square of true by expected errors."""
    ratios = []
    for seed in range(20):
        shift = tuple(np.random.default_rng(seed).uniform(-10, 10, 2))
        found = measured(*views(shift, noise=0.5, seed=seed))  # type: ignore[arg-type]
        assert found is not None
        ratios.append(np.hypot(*(found.matrix[:2, 2] - shift)) / found.error)
    assert 0.6 < np.sqrt(np.mean(np.square(ratios))) < 1.6


def test_light_has_no_effect() -> None:
    """A constant, a factor, and a slow change of light over one image."""
    one, other = views((9.4, -6.7))
    slope = np.linspace(0.6, 1.4, 64)[:, None]
    found = [measured(image, other) for image in (one, one + 100, 3 * one, (one + 5) * slope)]
    for two in found:
        assert two is not None
        assert found[0] is not None
        assert np.abs(two.matrix - found[0].matrix).max() < 0.05


def test_what_chance_gives_is_no_match() -> None:
    """Of 60 pairs of unrelated images, some smooth, none has a peak of a chance below 1 in 1,000; and few below 1 in 10."""
    chances = []
    for seed in range(60):
        one, other = (texture((64, 64), 2 * seed + which, 0.8 + seed % 3) for which in (0, 1))
        (peak,) = best_shifts(*(flattened(Level(image.astype(np.float32))) for image in (one, other)))
        chances.append(peak.chance)
    assert min(chances) > 1e-3
    assert np.mean(np.array(chances) < 0.1) < 0.25


def test_empty_and_repeated_images_give_no_match() -> None:
    one, _ = views((0, 0))
    stripes = np.tile(np.sin(np.arange(64) / 2), (64, 1))
    assert measured(one, np.full((64, 64), 7.0)) is None
    assert measured(np.zeros((64, 64)), np.zeros((64, 64))) is None
    assert measured(stripes, np.roll(stripes, 3, 1)) is None


def test_only_shifts_near_the_expected_one() -> None:
    one, other = views((12, 0))
    assert measured(one, other, near=(0, 0), reach=(5, 5)) is None
    found = measured(one, other, near=(0, 10), reach=(5, 5))
    assert found is not None
    assert np.abs(found.matrix[:2, 2] - [12, 0]).max() < 0.05


def test_coarse_levels_lead_to_the_same_place() -> None:
    scene = texture((300, 300), 3, 3.0)
    one, other = scene[:260, :260], scene[33:293, 21:281]
    found = match(Prepared(one, None, 3), Prepared(other, None, 3), TRANSLATION, 1e-3)
    assert found is not None
    assert np.abs(found.matrix[:2, 2] - [-21, -33]).max() < 0.03


def test_volumes() -> None:
    basis = np.zeros((3, 4, 4))
    basis[[0, 1, 2], [0, 1, 2], 3] = 1
    scene = texture((40, 48, 52), 4)
    found = match(Prepared(scene[:30], None, 1), Prepared(scene[4:34, 2:, 5:], None, 1), basis, 1e-3)
    assert found is not None
    assert np.abs(found.matrix[:3, 3] - [-5, -2, -4]).max() < 0.05


def test_levels_are_means_of_valid_pixels() -> None:
    data = np.arange(35.0).reshape(5, 7)
    mask = np.ones((5, 7), bool)
    mask[0, 0] = False
    first, second = levels_of(data, mask, 2)
    assert second.shape == (2, 3)
    assert second.data[1, 1] == data[2:4, 2:4].mean()
    assert second.mask is not None
    assert not second.mask[0, 0]
    assert second.mask.sum() == 5
    assert first.data[0, 0] == 0
