"""Scores against answers that can be worked out by hand, and the laws that hold for all of them."""

import csv
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from drmime.errors import InputError
from drmime.geometry.matrices import mapped
from drmime.image.io import read_image
from drmime.lab import evaluate
from drmime.lab.evaluate import Comparison, compare, dice, interval, naed, robustness, rtre, scores, success_rate, tre
from drmime.points.files import read_landmarks
from drmime.transform.linear import MatrixTransform

SQUARE = np.array([[10.0, 10.0], [30.0, 10.0], [10.0, 25.0], [30.0, 25.0], [20.0, 17.0]])
finite = st.floats(allow_nan=False, allow_infinity=False)
maps = st.integers(1, 40).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2))


def shift(*by: float) -> np.ndarray:
    matrix = np.eye(len(by) + 1)
    matrix[:-1, -1] = by
    return matrix


def made(**known: Any) -> SimpleNamespace:
    """A pair of black images, 40 pixels wide and 30 high unless told."""
    image = np.zeros((30, 40))
    nothing = dict.fromkeys(("fixed_points", "moving_points", "fixed_labels", "moving_labels", "extent"))
    return SimpleNamespace(**{"fixed": image, "moving": image, "moving_spacing": (1.0, 1.0)} | nothing | known)


# --- distances


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_distance_of_a_known_shift(ndim: int) -> None:
    points = np.arange(4.0 * ndim).reshape(4, ndim)
    off = np.array([3.0, -4.0, 12.0][:ndim])
    assert np.allclose(tre(points + off, points), {2: 5, 3: 13}[ndim])


def test_spacing_is_in_array_order_and_points_are_x_first() -> None:
    assert tre([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.zeros((3, 3)), spacing=(5.0, 3.0, 2.0)).tolist() == [2, 3, 5]


@pytest.mark.parametrize("nowhere", [np.nan, np.inf, -np.inf])
def test_a_point_without_an_image_is_infinitely_far(nowhere: float) -> None:
    assert tre([[nowhere, 1], [1, 1]], [[1, 1], [1, 1]]).tolist() == [np.inf, 0]
    assert naed([[nowhere, 1], [1, 1]], [[1, 1], [1, 1]], (5, 5)) == np.inf


def test_distances_of_huge_coordinates_do_not_overflow() -> None:
    assert tre([[3e200, 4e200]], [[0, 0]]) == pytest.approx(5e200)


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0), (0.25, 0.25), (3.0, 0.5)])
def test_across_the_whole_image_is_an_rtre_of_one(spacing: tuple[float, float] | None) -> None:
    assert rtre([[40, 30]], [[0, 0]], (30, 40), spacing) == pytest.approx(1)


def test_along_one_side_of_a_3_4_5_image() -> None:
    found = rtre([[40, 0], [0, 30]], np.zeros((2, 2)), (30, 40))
    assert found == pytest.approx([0.8, 0.6])


def test_naed_sees_the_image_as_the_unit_square() -> None:
    assert naed([[40, 0]], [[0, 0]], (30, 40)) == pytest.approx(1)
    assert naed([[0, 30]], [[0, 0]], (30, 40)) == pytest.approx(1)
    assert naed([[40, 30]], [[0, 0]], (30, 40)) == pytest.approx(math.sqrt(2))
    assert naed([[40, 30, 20]], [[0, 0, 0]], (20, 30, 40)) == pytest.approx(math.sqrt(3))
    assert naed([[4, 0], [0, 0]], [[0, 0], [0, 0]], (30, 40)) == pytest.approx(0.05)  # a mean, not a median


def test_naed_of_a_square_image_is_the_mean_distance_over_its_side(rng: np.random.Generator) -> None:
    found, expected = rng.uniform(0, 64, (2, 20, 2))
    assert naed(found, expected, (64, 64)) == pytest.approx(tre(found, expected).mean() / 64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tre(np.zeros((3, 2)), np.zeros((4, 2))), r"one shape \(N, D\), got \(3, 2\) and \(4, 2\)"),
        (lambda: tre(np.zeros(3), np.zeros(3)), r"one shape \(N, D\)"),
        (lambda: tre([["a", "b"]], [[0, 0]]), "found points: expected real numbers"),
        (lambda: tre([[0, 0]], [[0, np.nan]]), "expected points: expected finite"),
        (lambda: tre([[0, 0]], [[0, 0]], spacing=(1.0,)), "spacing: expected 2 positive"),
        (lambda: tre([[0, 0]], [[0, 0]], spacing=(1.0, np.inf)), "spacing: expected 2 positive"),
        (lambda: rtre([[0, 0]], [[0, 0]], (3, 4, 5)), "shape: expected 2 positive"),
        (lambda: naed([[0, 0]], [[0, 0]], (0, 4)), "shape: expected 2 positive"),
        (lambda: naed([[0, 0]], [[0, 0]], (4, 4, 3)), "shape: expected 2 positive"),
    ],
)
def test_points_and_sides_that_do_not_fit(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_points_behind_the_horizon_have_no_image() -> None:
    matrix = np.array([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1.0]])  # the horizon is at x = 10
    assert np.allclose(mapped(matrix, [[5, 1]]), [[10, 2]])
    assert np.isnan(mapped(matrix, [[10, 1], [15, 1]])).all()


# --- shares


def test_robustness_counts_the_landmarks_that_came_nearer() -> None:
    assert robustness([4, 4, 4, 4], [3, 4, 5, np.inf]) == 0.25  # the same is not nearer
    assert robustness([np.inf, 1], [5, np.nan]) == 0.5
    assert math.isnan(robustness([], []))
    with pytest.raises(InputError, match=r"got \(2,\) and \(3,\)"):
        robustness([1, 2], [1, 2, 3])


def test_the_success_rate_counts_errors_below_the_threshold() -> None:
    assert success_rate([0.1, 0.2, 0.3, np.nan, np.inf], 0.2) == 0.2
    assert math.isnan(success_rate([], 0.2))


# --- labels


def test_dice_of_maps_worked_out_by_hand() -> None:
    first = np.array([[0, 1, 1, 2], [0, 1, 1, 7]])
    second = np.array([[0, 1, 1, 1], [3, 3, 0, 7]])
    assert dice(first, second) == {1: 2 * 2 / (4 + 3), 2: 0, 3: 0, 7: 1}
    assert dice(first.astype(np.float32), second.astype(np.int8)) == dice(first, second)
    assert dice(first > 0, second > 0) == {1: 2 * 5 / (6 + 6)}
    assert dice(np.zeros((2, 2)), np.zeros((2, 2))) == {}


@given(maps)
def test_dice_is_symmetric_and_agrees_with_sets(pair: tuple[list[int], list[int]]) -> None:
    first, second = pair
    found = dice(first, second)
    assert found == dice(second, first)
    assert set(found) == (set(first) | set(second)) - {0}
    for label, overlap in found.items():
        mine, other = ({place for place, value in enumerate(part) if value == label} for part in pair)
        assert overlap == pytest.approx(2 * len(mine & other) / (len(mine) + len(other)))


def test_label_maps_that_cannot_be_compared() -> None:
    with pytest.raises(InputError, match=r"one shape, got \(2, 3\) and \(3, 2\)"):
        dice(np.zeros((2, 3)), np.zeros((3, 2)))
    for bad in (0.5, np.nan, np.inf, "a"):
        with pytest.raises(InputError, match="whole numbers in the second label map"):
            dice([[0]], [[bad]])


# --- all scores of a case


def test_the_truth_scores_zero_and_the_start_what_it_was() -> None:
    truth = shift(3, -4)
    labels = np.zeros((30, 40), np.uint8)
    labels[10:20, 10:20], labels[22:25, 5:30] = 1, 4
    case = made(
        fixed_points=SQUARE,
        moving_points=SQUARE + np.array([3, -4]),
        fixed_labels=labels,
        moving_labels=np.roll(labels, (-4, 3), (0, 1)).astype(np.int16),
    )
    found = scores(truth, case, np.eye(3))
    assert found.pop("start_rtre_median") == pytest.approx(5 / 50)
    assert found.pop("robustness") == found.pop("dice") == 1
    names = {f"{kind}_{of}" for kind in ("tre", "rtre") for of in ("mean", "median", "max")}
    assert found == dict.fromkeys({"naed", *names}, 0)


def test_mean_median_and_maximum_of_errors_worked_out_by_hand() -> None:
    off = np.array([[0, 0], [5, 0], [0, 5], [10, 0], [0, 30]])
    found = scores(np.eye(3), made(fixed_points=SQUARE, moving_points=SQUARE + off, moving_spacing=(2.0, 2.0)), np.eye(3))
    assert (found["tre_mean"], found["tre_median"], found["tre_max"]) == (20, 10, 60)
    assert (found["rtre_mean"], found["rtre_median"], found["rtre_max"]) == pytest.approx((0.2, 0.1, 0.6))
    assert found["naed"] == pytest.approx((5 / 40 + 5 / 30 + 10 / 40 + 30 / 30) / 5)
    assert (found["robustness"], found["start_rtre_median"]) == (0, found["rtre_median"])


def test_errors_are_shares_of_the_moving_image_or_of_the_extent_given_instead() -> None:
    case = made(moving=np.zeros((60, 80, 3)), fixed_points=SQUARE, moving_points=SQUARE + np.array([0, 10]))
    assert scores(np.eye(3), case, np.eye(3))["rtre_max"] == pytest.approx(0.1)
    case.extent = (30, 40)
    found = scores(np.eye(3), case, np.eye(3))
    assert (found["rtre_max"], found["start_rtre_median"], found["naed"]) == pytest.approx((0.2, 0.2, 1 / 3))


def test_volumes_with_unequal_spacing() -> None:
    volume = np.zeros((10, 20, 30))
    labels = np.zeros(volume.shape, int)
    labels[3:5, 4:9, 5:9] = 2
    case = made(
        **{"fixed": volume, "moving": volume, "moving_spacing": (3.0, 1.0, 0.5)},
        **{"fixed_points": np.full((1, 3), 5.0), "moving_points": np.array([[7.0, 5.0, 6.0]])},
        **{"fixed_labels": labels, "moving_labels": np.roll(labels, (1, 2), (0, 2))},
    )
    found = scores(np.eye(4), case, np.eye(4))
    assert found["tre_max"] == pytest.approx(math.hypot(2 * 0.5, 1 * 3))
    assert found["rtre_max"] == pytest.approx(math.hypot(1, 3) / math.hypot(30, 20, 15))
    assert found["dice"] == pytest.approx(0.25)  # one slice of two, two columns of four
    assert scores(shift(2, 0, 1), case, np.eye(4))["dice"] == 1


def test_landmarks_behind_the_horizon_are_lost_and_the_rest_counts() -> None:
    horizon = np.array([[1, 0, 0], [0, 1, 0], [-1 / 25, 0, 1.0]])  # at x = 25: the two points at x = 30 lie behind it
    found = scores(horizon, made(fixed_points=SQUARE, moving_points=mapped(np.eye(3), SQUARE)), shift(50, 0))
    assert found["tre_max"] == found["tre_mean"] == found["naed"] == np.inf
    assert found["robustness"] == pytest.approx(2 / 5)
    assert math.isfinite(found["tre_median"])


def test_points_may_be_a_view_and_must_fit_the_images() -> None:
    case = made(fixed_points=SQUARE[:, ::-1][:, ::-1], moving_points=SQUARE)
    assert scores(MatrixTransform(torch.eye(3)), case, np.eye(3))["tre_max"] == 0
    with pytest.raises(InputError, match="expected a transform of 2 dimensions, got one of 3"):
        scores(MatrixTransform(torch.eye(4)), case, np.eye(3))
    with pytest.raises(InputError, match=r"fixed_points: expected an array of shape \(N, 2\)"):
        scores(np.eye(3), made(fixed_points=np.zeros((5, 3)), moving_points=SQUARE), np.eye(3))


@pytest.mark.parametrize("factor", [2.0, -1.0, 1e-9])
def test_a_homography_means_the_same_in_any_scale_and_sign(factor: float) -> None:
    matrix = np.array([[1.1, 0.1, 3], [0, 0.9, 2], [1e-3, 2e-3, 1]])
    labels = (np.arange(1200).reshape(30, 40) // 100).astype(np.uint8)
    case = made(fixed_points=SQUARE, moving_points=SQUARE, fixed_labels=labels, moving_labels=labels)
    expected = scores(matrix, case, np.eye(3))
    assert math.isfinite(expected["tre_max"])
    assert scores(matrix * factor, case, np.eye(3)) == pytest.approx(expected)


@pytest.mark.parametrize("matrix", [np.full((3, 3), np.nan), np.diag([1, 1, 0.0]), np.zeros((3, 3))])
def test_a_matrix_without_meaning_is_infinitely_wrong(matrix: np.ndarray) -> None:
    labels = np.ones((30, 40), np.uint8)
    case = made(fixed_points=SQUARE, moving_points=SQUARE, fixed_labels=labels, moving_labels=labels)
    found = scores(matrix, case, np.eye(3))
    assert (found["tre_median"], found["naed"], found["robustness"], found["dice"]) == (np.inf, np.inf, 0, 0)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, set()),
        ({"fixed_points": SQUARE}, set()),
        ({"fixed_points": SQUARE[:0], "moving_points": SQUARE[:0]}, set()),
        ({"fixed_labels": np.ones((30, 40), int)}, set()),
        ({"fixed_labels": np.zeros((30, 40), int), "moving_labels": np.zeros((30, 40), int)}, set()),
        ({"fixed_labels": np.ones((30, 40), int), "moving_labels": np.ones((30, 40), int)}, {"dice"}),
    ],
)
def test_without_a_truth_there_is_no_score(known: dict[str, np.ndarray], expected: set[str]) -> None:
    assert set(scores(np.eye(3), made(**known), np.eye(3))) == expected


def test_a_matrix_that_does_not_fit_the_images() -> None:
    with pytest.raises(InputError, match=r"transform: expected a \(3, 3\) matrix, got shape \(4, 4\)"):
        scores(np.eye(4), made(), np.eye(3))
    with pytest.raises(InputError, match=r"start: expected a \(3, 3\) matrix"):
        scores(np.eye(3), made(), np.eye(2))


def test_a_real_pair_gains_by_the_affine_map_that_fits_its_landmarks(data: Path) -> None:
    with (data / "pairs.csv").open(newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["pair"] == "he__pancyto" and row["suite"] == "ci")
    fixed, moving = (read_image(data / row[side]).array for side in ("fixed", "moving"))
    points, targets = (read_landmarks(data / row[f"{side}_landmarks"])[:69] for side in ("fixed", "moving"))
    homogeneous = np.c_[points, np.ones(len(points))]
    fitted = np.eye(3)
    fitted[:2] = np.linalg.lstsq(homogeneous, targets, rcond=None)[0].T
    case = made(fixed=fixed, moving=moving, fixed_points=points, moving_points=targets)
    before, after = scores(np.eye(3), case, np.eye(3)), scores(fitted, case, np.eye(3))
    assert before["robustness"] == 0
    assert before["rtre_median"] == before["start_rtre_median"] == after["start_rtre_median"]
    assert after["robustness"] > 0.9
    assert after["rtre_median"] < 0.0032 < before["rtre_median"]
    assert after["naed"] < before["naed"]


# --- comparisons


def test_both_tests_worked_out_by_hand() -> None:
    second = np.array([5.0, 6.0, 7.0, 8.0, 9.0])
    gain = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = compare(second - gain, second)
    t = gain.mean() / (gain.std(ddof=1) / math.sqrt(5))
    assert (found.count, found.left_out, found.mean_difference) == (5, 0, -3)
    assert found.t_test == pytest.approx(2 * stats.t.sf(t, 4))
    assert found.wilcoxon == pytest.approx(2 / 2**5)  # all five signs alike, in either direction


def test_no_difference_is_no_evidence() -> None:
    assert compare([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]) == Comparison(3, 0, 0, 1, 1)


def test_pairs_without_two_finite_errors_are_left_out_and_counted() -> None:
    first, second = [1, np.inf, np.nan, 4, 5, 7], [2, 2, 2, np.inf, 3, 9]
    found = compare(first, second)
    assert (found.count, found.left_out) == (3, 3)
    assert replace(found, left_out=0) == compare([1, 5, 7], [2, 3, 9])


def test_one_pair_says_little_and_none_nothing() -> None:
    one = compare([1.0], [3.0])
    assert (one.count, one.mean_difference, one.wilcoxon) == (1, -2, 1)
    assert math.isnan(one.t_test)
    none = compare([np.inf], [3.0])
    assert (none.count, none.left_out) == (0, 1)
    assert all(map(math.isnan, (none.mean_difference, none.t_test, none.wilcoxon)))


def test_errors_of_different_pairs_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="same pairs"):
        compare([1, 2], [1, 2, 3])


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=7))
def test_any_numbers_are_compared_and_the_other_way_round_too(pairs: list[tuple[float, float]]) -> None:
    first, second = ([value / 4 for value in side] for side in zip(*pairs, strict=True))  # so that differences are finite
    found, turned = compare(first, second), compare(second, first)
    assert found.count == len(pairs)
    assert 0 <= found.wilcoxon <= 1
    assert 0 <= found.t_test <= 1
    assert (turned.t_test, turned.wilcoxon) == pytest.approx((found.t_test, found.wilcoxon))


def test_p_values_are_uniform_where_there_is_no_difference(rng: np.random.Generator) -> None:
    p = np.array([(c.t_test, c.wilcoxon) for c in (compare(*rng.normal(size=(2, 20))) for _ in range(300))])
    assert stats.kstest(p[:, 0], "uniform").pvalue > 0.01
    assert 0.02 < (p[:, 1] < 0.05).mean() < 0.09


# --- intervals


def test_the_interval_is_about_that_of_the_normal_distribution(rng: np.random.Generator) -> None:
    values = rng.normal(3, 1, 400)
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_the_interval_covers_the_mean_as_often_as_it_says(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "RESAMPLES", 499)
    inside = [low < 1 < high for low, high in (interval(rng.exponential(1, 40), confidence=0.8) for _ in range(300))]
    assert 0.72 < np.mean(inside) < 0.86


def test_an_interval_of_nothing_to_draw_from() -> None:
    assert interval([2.5]) == (2.5, 2.5)
    assert interval([2.5, 2.5, 2.5]) == (2.5, 2.5)
    assert all(map(math.isnan, interval([])))
    with pytest.raises(InputError, match="finite"):
        interval([1, np.inf])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.randoms())
def test_the_interval_lies_among_the_values_in_any_order(values: list[float], random: Any) -> None:
    found = interval(values)
    assert min(values) - 1e-12 <= found[0] <= found[1] <= max(values) + 1e-12
    random.shuffle(values)
    assert interval(values) == found


def test_seeds_of_the_interval(rng: np.random.Generator) -> None:
    values = rng.exponential(1, 30)
    assert interval(values, seed=1) == interval(values, seed=1) != interval(values, seed=2)
