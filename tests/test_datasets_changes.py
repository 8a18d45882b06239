"""Motions: what is planted in an image is found where the truth says that it went."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from drmime.errors import InputError
from drmime.lab.datasets.base import Case, Change
from drmime.lab.datasets.case import within
from drmime.lab.datasets.changes import FEWEST, MOTIONS, changed, recoloured, rotation

SIDES = {2: (60, 76), 3: (30, 36, 40)}
SPACINGS = {2: (1.0, 1.0), 3: (1.5, 1.0, 0.8)}
WIDTH = 2.0  # pixels, of a blob
BLOBS = 14
BENT = [motion for motion in MOTIONS if motion.startswith("bent")]
MOTIONS_OF = [
    (motion, ndim) for motion in MOTIONS for ndim in (2, 3) if motion not in BENT and (motion != "volume" or ndim == 3)
]


def planted(ndim: int, truth: bool = True) -> Case:
    """Two images that overlay, each with the same blobs at whole pixels, which are its landmarks and labels."""
    shape, random = SIDES[ndim], np.random.default_rng(0)
    points = np.empty((0, ndim))
    while len(points) < BLOBS:  # apart from each other, so that each can be found
        point = np.array([random.integers(4, side - 4) for side in shape[::-1]], float)
        if not len(points) or np.linalg.norm(points - point, axis=1).min() > 9:
            points = np.vstack([points, point])
    places = np.moveaxis(np.indices(shape), 0, -1)[..., ::-1]
    image = sum(np.exp(-(((places - point) / WIDTH) ** 2).sum(-1) / 2) for point in points).astype(np.float32)
    labels = sum(10 * number * (np.abs(places - point).max(-1) <= 1) for number, point in enumerate(points, 1)).astype(np.uint8)
    known = {"truth": np.eye(ndim + 1)} if truth else {}
    spacing = SPACINGS[ndim]
    return Case(image, image, spacing, spacing, points, points, labels, labels, **known)


# ---- deformations


@pytest.mark.parametrize("motion", BENT)
@pytest.mark.parametrize("truth", [True, False], ids=["matrix", "landmarks"])
def test_a_deformation_takes_the_points_where_it_takes_the_image(motion: str, truth: bool, ndim: int) -> None:
    """Every pixel holds its own coordinates, which are read at the points."""
    shape = SIDES[ndim]
    before = planted(ndim, truth)
    before = replace(before, moving=np.moveaxis(np.indices(shape), 0, -1)[..., ::-1].astype(float))
    after = changed(before, Change(motion, 1), "a")
    assert after.truth is None
    there = [ndimage.map_coordinates(after.moving[..., axis], after.moving_points.T[::-1], order=1) for axis in range(ndim)]
    lengths = np.linalg.norm(after.moving_points - after.fixed_points, axis=1) / np.linalg.norm(shape)
    inner = within(after.moving_points, shape, -3) & within(after.fixed_points, shape, -3)
    assert np.abs(np.stack(there, -1) - after.fixed_points)[inner].max() < 0.1
    assert lengths.mean() == pytest.approx(int(motion[4:]) / 100, rel=0.6, abs=1e-9)
    assert set(np.unique(after.moving_labels)) <= set(np.unique(before.moving_labels))


def test_errors_of_deformations_are_measured_where_something_is_seen() -> None:
    case = planted(2)
    half = replace(case, fixed=np.where(np.arange(SIDES[2][1]) < 30, case.fixed, 0), fixed_points=None, moving_points=None)
    after = changed(half, Change("bent2"), "a")
    assert len(after.fixed_points) > 20
    assert after.fixed_points[:, 0].max() < 36


# ---- the truth


@pytest.mark.parametrize(("motion", "ndim"), MOTIONS_OF)
def test_each_pixel_goes_where_the_truth_says(motion: str, ndim: int) -> None:
    """Every pixel holds its own coordinates, which linear interpolation keeps, and 1 as a sign that it is no black."""
    shape = SIDES[ndim]
    places = np.moveaxis(np.indices(shape), 0, -1)[..., ::-1]
    pixels = np.concatenate([places, np.ones((*shape, 1))], -1)
    before = replace(planted(ndim), moving=pixels)
    for seed in range(3):
        after = changed(before, Change(motion, seed), "a")
        seen = after.moving[..., -1] == 1
        origins, found = after.moving[seen][:, :-1], np.argwhere(seen)[:, ::-1]
        inner = ((origins >= origins.min(0) + 1) & (origins <= origins.max(0) - 1)).all(1)  # at an edge values are continued
        expected = origins @ after.truth[:-1, :-1].T + after.truth[:-1, -1]
        assert inner.sum() > 0.15 * math.prod(shape)
        assert np.abs(expected - found)[inner].max() < 1e-6


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize(("motion", "ndim"), MOTIONS_OF)
def test_points_go_with_the_image(motion: str, ndim: int, truth: bool) -> None:
    before = planted(ndim, truth=truth)
    for seed in range(4):
        after = changed(before, Change(motion, seed), "a")
        assert len(after.fixed_points) == len(after.moving_points) >= FEWEST
        assert within(after.moving_points, after.moving.shape[:ndim]).all()
        assert within(after.fixed_points, after.fixed.shape[:ndim]).all()
        assert np.array_equal(after.fixed, before.fixed)
        if truth:
            mapped = after.fixed_points @ after.truth[:-1, :-1].T + after.truth[:-1, -1]
            assert np.allclose(mapped, after.moving_points)
        else:  # the landmarks: each keeps its label
            assert after.truth is None
            numbers = [after.fixed_labels[tuple(point.astype(int)[::-1])] for point in after.fixed_points]
            places = np.rint(after.moving_points).astype(int).clip(0, np.array(after.moving.shape[:ndim][::-1]) - 1)
            carried = np.array([after.moving_labels[tuple(place[::-1])] for place in places])
            assert np.mean(carried == numbers) > 0.8  # but for those at an edge
            assert {*np.unique(after.moving_labels)} <= {*np.unique(before.moving_labels)}  # none is a blend


@pytest.mark.parametrize(("motion", "ndim"), MOTIONS_OF)
def test_a_change_is_the_same_wherever_it_is_made_and_another_for_another_name(motion: str, ndim: int) -> None:
    first, again, other_name, other_seed = (
        changed(planted(ndim), Change(motion, seed), name).truth for seed, name in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other_name)
    assert not np.allclose(first, other_seed)


@pytest.mark.parametrize(("motion", "ndim"), MOTIONS_OF)
def test_points_of_aligned_images_are_many(motion: str, ndim: int) -> None:
    after = changed(planted(ndim), Change(motion), "a")
    if motion in ("turned", "crop"):
        assert len(after.fixed_points) == BLOBS if motion == "turned" else FEWEST <= len(after.fixed_points) < BLOBS
    else:
        assert len(after.fixed_points) > 40


# ---- each motion


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("motion", "degrees", "shift", "scale"), [("small", 5, 0.05, 0.05), ("medium", 15, 0.1, 0.1)])
def test_a_motion_stays_within_its_size(motion: str, degrees: float, shift: float, scale: float, ndim: int) -> None:
    sides, lengths = np.array(SIDES[ndim][::-1]), np.array(SPACINGS[ndim][::-1])
    largest = np.zeros(3)
    for seed in range(30):
        truth = changed(planted(ndim), Change(motion, seed), "a").truth
        world = truth[:-1, :-1] / lengths * lengths[:, None]
        left, stretch, right = np.linalg.svd(world)
        angle = math.degrees(np.arccos(np.clip((np.trace(left @ right) - (ndim == 3)) / 2, -1, 1)))
        middle = (sides - 1) / 2
        moved = np.abs(truth[:-1, :-1] @ middle + truth[:-1, -1] - middle) / sides
        largest = np.maximum(largest, [angle / degrees, moved.max() / shift, np.abs(stretch - 1).max() / scale])
    assert (largest <= 1 + 1e-6).all()
    assert (largest > 0.7).all()


@pytest.mark.parametrize("motion", ["turned", "crop", "volume"])
def test_a_rigid_motion_keeps_lengths_in_the_world(motion: str) -> None:
    truth = changed(planted(3), Change(motion), "a").truth
    lengths = np.array(SPACINGS[3][::-1])
    world = truth[:-1, :-1] / lengths * lengths[:, None]
    assert np.allclose(world @ world.T, np.eye(3))
    assert np.linalg.det(world) == pytest.approx(1)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_turned_image_is_whole_on_a_larger_canvas(ndim: int) -> None:
    white = np.ones(SIDES[ndim], np.float32)
    for seed in range(5):
        after = changed(replace(planted(ndim), moving=white), Change("turned", seed), "a")
        assert after.extent == white.shape
        assert after.moving.size > white.size
        assert after.moving.sum() == pytest.approx(white.sum(), rel=0.01)  # nothing is cut
        assert len(after.moving_points) == BLOBS


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_crop_is_half_of_the_image(ndim: int) -> None:
    before = planted(ndim)
    after = changed(replace(before, moving=np.ones_like(before.moving)), Change("crop"), "a")
    assert np.prod(after.extent) == pytest.approx(np.prod(before.moving.shape) / 2, rel=0.05)
    assert after.moving.sum() == pytest.approx(np.prod(after.extent), rel=0.05)


def test_a_crop_with_too_few_landmarks_is_refused() -> None:
    case = planted(2)
    few = replace(case, fixed_points=case.fixed_points[:4], moving_points=case.moving_points[:4])
    with pytest.raises(InputError, match=rf"at least {FEWEST} points .*of 4: too few to judge"):
        changed(few, Change("crop"), "a")


def test_the_points_of_a_volume_are_its_foreground() -> None:
    before = planted(3)
    after = changed(before, Change("volume"), "a")
    at = tuple(after.fixed_points.astype(int).T[::-1])
    assert (before.fixed[at] > before.fixed.mean()).all()


# ---- recoloured


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_recoloured_fixed_image_takes_the_moving_ones_place(ndim: int) -> None:
    known = planted(ndim, truth=False)
    unknown = {"moving_points": None, "fixed_points": None, "moving_labels": None}
    before = replace(known, moving=np.zeros((9,) * ndim), **unknown)
    after = changed(before, Change("small", recoloured=True), "a")
    assert after.moving.shape == before.fixed.shape
    assert after.moving.dtype == np.uint8
    assert after.moving_labels.max() == 10 * BLOBS
    assert len(after.fixed_points) > 60
    assert np.array_equal(after.fixed, before.fixed)


@pytest.mark.parametrize(("shape", "ndim"), [((9, 10), 2), ((9, 10, 3), 2), ((5, 6, 7), 3), ((5, 6, 7, 2), 3)])
def test_recolouring_is_gray_and_not_monotone(shape: tuple[int, ...], ndim: int) -> None:
    pixels = np.linspace(0, 1000, math.prod(shape)).reshape(shape)
    new = recoloured(pixels, ndim)
    assert new.shape == shape[:ndim]
    steps = np.sign(np.diff(new.ravel().astype(int)))
    assert {-1, 1} <= {*steps}
    assert (recoloured(np.full(shape, 7), ndim) == 128).all()


# ---- what cannot be


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_motion_of_which_nothing_would_be_known_is_refused(motion: str) -> None:
    case = planted(3, truth=False)
    nothing = replace(case, fixed_points=None, moving_points=None, fixed_labels=None, moving_labels=None)
    with pytest.raises(InputError, match="images of which something is known"):
        changed(nothing, Change(motion), "a")
    labelled: dict[str, Any] = {"fixed_labels": case.fixed_labels, "moving_labels": case.moving_labels}
    after = changed(replace(nothing, **labelled), Change(motion), "a")
    assert after.fixed_points is None
    assert after.moving_labels.shape == after.moving.shape


def test_motions_that_do_not_suit_are_told() -> None:
    with pytest.raises(InputError, match="'volume': expected 3-D images, got 2-D"):
        changed(planted(2), Change("volume"), "a")
    with pytest.raises(InputError, match="unknown motion 'tiny'"):
        changed(planted(2), Change("tiny"), "a")


@given(st.integers(0, 2**32), st.floats(0, 180), st.sampled_from([2, 3]))
def test_a_rotation_is_one_and_no_larger_than_asked_for(seed: int, degrees: float, ndim: int) -> None:
    turn = rotation(ndim, np.random.default_rng(seed), degrees)
    assert np.allclose(turn @ turn.T, np.eye(ndim))
    assert np.linalg.det(turn) == pytest.approx(1)
    cosine = (np.trace(turn) - (ndim == 3)) / 2
    assert cosine >= math.cos(math.radians(degrees)) - 1e-9
