"""The file of the verdict's model is complete and sensible, and its functions do what they say."""

import math

import pytest

from drmime.verdict.calibration import Calibration, Scale, calibration

RIGHT = {
    **{"in_place": 0.9, "in_place_coarse": 0.9, "residual": 5e-4, "displaced": 1e-3, "peak_ratio": 4.0, "information": 10.0},
    **{"blocks": 20.0, "agreeing": 19.0, "rival": 0.1, "shifted": 0.0, "overlap": 0.9, "distortion": 1.02},
}
WRONG = RIGHT | {
    "in_place": 0.05,
    "in_place_coarse": 0.05,
    "residual": 0.04,
    "displaced": 0.04,
    "peak_ratio": 0.9,
    **{"information": 0.5, "agreeing": 1.0},
}


def test_right_figures_are_probable_and_wrong_ones_are_not() -> None:
    assert calibration().aligned(RIGHT) > 0.95
    assert calibration().aligned(WRONG) < 0.05


@pytest.mark.parametrize("name", sorted(calibration().probability.keys() - {"intercept"}))
def test_a_better_figure_is_never_less_probable(name: str) -> None:
    scale = calibration().scales[name]
    values = [scale.low + (scale.high - scale.low) * share for share in (0.0, 0.1, 0.3, 0.6, 1.0)]
    values = values if scale.larger else values[::-1]
    found = [calibration().aligned(RIGHT | {name: value}) for value in values]
    assert found == sorted(found)


def test_the_expected_error_grows_with_the_shifts_of_blocks_and_lies_in_its_interval() -> None:
    errors = [calibration().expected(RIGHT | {"residual": value, "displaced": value}) for value in (1e-3, 4e-3, 0.016, 0.05)]
    assert [error.median for error in errors] == sorted(error.median for error in errors)
    assert all(error.low < error.median < error.high for error in errors)
    assert 0.3 < errors[2].median / 0.016 < 3


def test_unknown_figures_are_bad_ones() -> None:
    unknown = RIGHT | dict.fromkeys(("in_place", "peak_ratio", "residual", "displaced"), math.nan)
    assert calibration().aligned(unknown) < 0.3
    scale = Scale(low=0.0, high=1.0, unknown=0.0, logarithm=False, usual=0.5, larger=True)
    assert scale(math.nan) == scale(-3) == 0
    assert scale(7) == 1
    assert scale.unusual(math.nan)
    assert not scale.unusual(0.6)
    assert Scale(low=1.0, high=4.0, unknown=1.0, logarithm=True, usual=2.0, larger=False)(2.0) == math.log(2)


def test_a_probability_is_the_logistic_function_of_a_weighted_sum() -> None:
    scale = {"low": 0.0, "high": 10.0, "unknown": 0.0, "logarithm": False, "usual": 1.0, "larger": True}
    made = Calibration.of(
        {
            "figures": {"a": scale, "b": scale},
            "probability": {"a": 2.0, "intercept": -1.0},
            "error": {"b": 1.0, "intercept": 0.0},
        }
        | {"spread": [-1.0, 2.0]}
    )
    assert made.aligned({"a": 0.5, "b": 0.0}) == 0.5
    assert made.expected({"a": 0.0, "b": 3.0}) == pytest.approx((math.exp(3), math.exp(2), math.exp(5)))
