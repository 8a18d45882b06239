"""Measures of alignment: landmark errors, overlap of labels, and statistical comparison of two methods.

Points are in pixels, x first, one per row; shapes and spacings are in array order. An error is never NaN: it is infinite for a
point without an image, that is, behind the horizon of a projective map.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

import numpy as np
import torch
from scipy import stats

from drmime.errors import InputError, numbers
from drmime.geometry.grid import Grid, scaled
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample

RESAMPLES = 9999  # of the bootstrap
BATCH = 256  # resamples computed at a time, to limit memory


class Known(Protocol):
    """A pair with known landmarks or labels: a `drmime.lab.datasets.Case`, or any object with these attributes."""

    @property
    def fixed(self) -> np.ndarray: ...  # only its shape is read, spatial axes first
    @property
    def moving(self) -> np.ndarray: ...
    @property
    def moving_spacing(self) -> tuple[float, ...]: ...
    @property
    def fixed_points(self) -> np.ndarray | None: ...  # shape: (N, D)
    @property
    def moving_points(self) -> np.ndarray | None: ...
    @property
    def fixed_labels(self) -> np.ndarray | None: ...
    @property
    def moving_labels(self) -> np.ndarray | None: ...
    @property
    def extent(self) -> tuple[int, ...] | None: ...  # shape that relative errors refer to, if not the moving image's


def tre(found: Any, expected: Any, spacing: Sequence[float] | None = None) -> np.ndarray:
    """Target registration error: distances (N,) between points (N, D), in pixels times `spacing`; inf where `found` is NaN.

    Raises:
        InputError: points of different shapes, `expected` not finite, or a spacing of the wrong length.
    """
    found, expected = _points(found, expected)
    steps = _sides("spacing", spacing, expected.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        distances = np.hypot.reduce((found - expected) * steps, axis=1, initial=0.0)
    return np.where(np.isnan(distances), np.inf, distances)


def rtre(found: Any, expected: Any, shape: Sequence[int], spacing: Sequence[float] | None = None) -> np.ndarray:
    """Relative TRE (N,): `tre` divided by the diagonal of the moving image of this `shape`.

    Source: ANHIR, Borovec et al. 2020, doi 10.1109/TMI.2020.2986331.

    Raises:
        InputError: as `tre`; a shape of the wrong length.
    """
    errors = tre(found, expected, spacing)
    ndim = np.shape(expected)[1]
    return errors / np.linalg.norm(_sides("shape", shape, ndim) * _sides("spacing", spacing, ndim))


def naed(found: Any, expected: Any, shape: Sequence[int]) -> float:
    """Normalised Average Euclidean Distance of points (N, D) in an image of this `shape`; NaN without points.

    DRMIME (arXiv 2001.09865) introduces it for normalised coordinates but does not define the normalisation. Here each
    coordinate is divided by the image's side in pixels along its axis, so that the image is the unit square (cube), and
    Euclidean distances are averaged. With coordinates in [-1, 1] every value would be twice as large.

    Raises:
        InputError: as `tre`; a shape of the wrong length.
    """
    found, expected = _points(found, expected)
    sides = _sides("shape", shape, expected.shape[1])
    return _mean(tre(found / sides, expected / sides))


def robustness(before: Any, after: Any) -> float:
    """ANHIR's robustness: the share of landmarks whose error (N,) has decreased; NaN without landmarks.

    Source: Borovec et al. 2020, doi 10.1109/TMI.2020.2986331.

    Raises:
        InputError: errors of different lengths.
    """
    before, after = _errors(before, after)
    return _mean(after < before)


def success_rate(errors: Any, threshold: float) -> float:
    """The share of `errors` (N,) below `threshold`; NaN and infinity count as not below. NaN without errors."""
    return _mean(numbers("errors", errors) < threshold)


def dice(first: Any, second: Any) -> dict[int, float]:
    """Dice overlap 2|A∩B| / (|A| + |B|) by label, except 0, of two label maps of one shape.

    Raises:
        InputError: maps of different shapes, or values that are not whole numbers.
    """
    first, second = _labels("first", first), _labels("second", second)
    if first.shape != second.shape:
        raise InputError(f"dice: expected two label maps of one shape, got {first.shape} and {second.shape}")
    mine, other, both = _sizes(first), _sizes(second), _sizes(first[first == second])
    return {label: 2 * both.get(label, 0) / (mine.get(label, 0) + other.get(label, 0)) for label in sorted(mine | other)}


def scores(transform: Transform | Any, case: Known, start: Transform | Any) -> dict[str, float]:
    """All scores of a transform that the landmarks and labels of `case` allow.

    With landmarks: naed, tre_mean, tre_median, tre_max (pixels times the moving spacing), rtre_mean, rtre_median, rtre_max,
    start_rtre_median (of `start`) and robustness (relative to `start`). With both label maps and at least one label: dice, the
    mean over labels after the moving map is warped with nearest-neighbour interpolation.

    Args:
        transform: from fixed to moving pixels, x first; or its matrix (D+1, D+1), which may be projective.
        start: likewise, the transform before the registration.

    Raises:
        InputError: the transform, points or label maps do not fit the images.
    """
    grids = [Grid.regular(image.shape[: len(case.moving_spacing)]) for image in (case.fixed, case.moving)]
    found, begun = (as_transform(name, value, grids[0]) for name, value in (("transform", transform), ("start", start)))
    out: dict[str, float] = {}
    if case.fixed_points is not None and case.moving_points is not None and len(case.fixed_points):
        out |= _landmark_scores(found, begun, case, case.fixed_points, case.moving_points)
    if case.fixed_labels is not None and case.moving_labels is not None:
        warped = resample(case.moving_labels, found, grids[1], grids[0], "nearest", channel_axis=None)
        overlaps = dice(case.fixed_labels, warped)
        out |= {"dice": fmean(overlaps.values())} if overlaps else {}
    return out


def _landmark_scores(
    transform: Transform, start: Transform, case: Known, points: np.ndarray, expected: np.ndarray
) -> dict[str, float]:
    spacing = case.moving_spacing
    shape = case.moving.shape[: len(spacing)] if case.extent is None else case.extent
    places = torch.as_tensor(numbers("fixed_points", points))
    if places.ndim != 2 or places.shape[1] != transform.ndim:
        raise InputError(f"fixed_points: expected an array of shape (N, {transform.ndim}), x first, got {tuple(places.shape)}")
    found, begun = (mapping(places).numpy() for mapping in (transform, start))
    errors, before = tre(found, expected, spacing), tre(begun, expected, spacing)
    shares = rtre(found, expected, shape, spacing)
    return {
        "naed": naed(found, expected, shape),
        **{f"tre_{name}": float(of(errors)) for name, of in (("mean", np.mean), ("median", np.median), ("max", np.max))},
        **{f"rtre_{name}": float(of(shares)) for name, of in (("mean", np.mean), ("median", np.median), ("max", np.max))},
        "start_rtre_median": float(np.median(rtre(begun, expected, shape, spacing))),
        "robustness": robustness(before, errors),
    }


@dataclass(frozen=True)
class Comparison:
    """Comparison of two methods on the same pairs. Differences are first - second: negative if the first has smaller errors."""

    count: int  # pairs compared
    left_out: int  # pairs where either error is not finite
    mean_difference: float  # NaN if no pair is left
    t_test: float  # two-sided p-value of Student's paired t-test; NaN for fewer than two pairs
    wilcoxon: float  # two-sided p-value of Wilcoxon's signed-rank test; NaN if no pair is left


def compare(first: Any, second: Any) -> Comparison:
    """Compare the errors (N,) of two methods on the same N pairs. If all differences are 0, both p-values are 1.

    Raises:
        InputError: errors of different lengths.
    """
    first, second = _errors(first, second)
    finite = np.isfinite(first) & np.isfinite(second)
    first, second = first[finite], second[finite]
    left_out = int((~finite).sum())
    if not len(first):
        return Comparison(0, left_out, math.nan, math.nan, math.nan)
    if (first == second).all():
        return Comparison(len(first), left_out, 0.0, 1.0 if len(first) > 1 else math.nan, 1.0)
    size = max(np.abs(first).max(), np.abs(second).max())  # neither test depends on the unit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about few, equal or nearly equal differences; the p-value is used as it is
        t_test = stats.ttest_rel(first / size, second / size).pvalue if len(first) > 1 else math.nan
        wilcoxon = stats.wilcoxon(first / size, second / size).pvalue
        difference = float(np.mean(first - second))
    return Comparison(len(first), left_out, difference, float(t_test), float(wilcoxon))


def interval(values: Any, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bootstrap confidence interval of the mean of `values` (N,), in any order; (mean, mean) if all are equal.

    Bias-corrected and accelerated (Efron 1987, doi 10.1080/01621459.1987.10478410); percentiles if undefined.

    Raises:
        InputError: a value that is not finite.
    """
    values = np.sort(numbers("values", values), axis=None)
    if not np.isfinite(values).all():
        raise InputError("interval: expected finite values, got NaN or infinity. Leave them out and say how many.")
    mean = _mean(values)
    if len(values) < 2 or values[0] == values[-1]:
        return mean, mean
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about an undefined BCa interval, for which the next method is used
            options = {"confidence_level": confidence, "n_resamples": RESAMPLES, "batch": BATCH, "method": method}
            found = stats.bootstrap((values,), np.mean, random_state=np.random.default_rng(seed), **options)
        low, high = map(float, found.confidence_interval)
        if low <= high:
            break
    return low, high


def as_transform(name: str, value: Any, fixed: Grid) -> Transform:
    """A transform of images whose fixed grid is `fixed`, from itself or from its matrix (D+1, D+1); `name` is for messages.

    Raises:
        InputError: of another dimension, or something else.
    """
    if isinstance(value, Transform):
        if value.ndim != fixed.ndim:
            raise InputError(f"{name}: expected a transform of {fixed.ndim} dimensions, got one of {value.ndim}")
        return value
    array = numbers(name, value, "a matrix of real numbers")
    if array.shape != (fixed.ndim + 1, fixed.ndim + 1):
        raise InputError(f"{name}: expected a ({fixed.ndim + 1}, {fixed.ndim + 1}) matrix, got shape {array.shape}")
    return MatrixTransform(scaled(torch.as_tensor(array), fixed))  # scale and sign of a homography are arbitrary


def _points(found: Any, expected: Any) -> tuple[np.ndarray, np.ndarray]:
    found, expected = numbers("found points", found), numbers("expected points", expected)
    if found.shape != expected.shape or expected.ndim != 2:
        raise InputError(f"expected found and expected points of one shape (N, D), got {found.shape} and {expected.shape}")
    if not np.isfinite(expected).all():
        raise InputError("expected points: expected finite numbers, got NaN or infinity")
    return found, expected


def _sides(name: str, value: Any, ndim: int) -> np.ndarray:
    """One positive length per axis, given in array order (1 each by default) and returned x first. shape: (D,)"""
    sides = np.ones(ndim) if value is None else numbers(name, value)
    if sides.shape != (ndim,) or not ((sides > 0) & (sides < np.inf)).all():
        raise InputError(f"{name}: expected {ndim} positive numbers in array order, got {value!r}")
    return sides[::-1]


def _errors(first: Any, second: Any) -> tuple[np.ndarray, np.ndarray]:
    first, second = numbers("errors", first), numbers("errors", second)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"expected errors of two methods on the same pairs, shape (N,), got {first.shape} and {second.shape}")
    return first, second


def _labels(name: str, value: Any) -> np.ndarray:
    labels = np.asarray(value)
    whole = labels.dtype.kind in "biu" or (labels.dtype.kind == "f" and bool((labels == np.floor(labels)).all()))
    if not whole or (labels.dtype.kind == "f" and not np.isfinite(labels).all()):
        raise InputError(f"dice: expected whole numbers in the {name} label map, got dtype {labels.dtype}")
    return labels


def _sizes(labels: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(labels, return_counts=True)
    return {int(label): int(count) for label, count in zip(found, counts, strict=True) if label}


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else math.nan
