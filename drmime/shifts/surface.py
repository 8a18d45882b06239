"""Normalised cross-correlation of two images at every whole-pixel shift, with masks, and how likely chance gives its peak.

The correlation is normalised within the overlap of each shift (Padfield 2012, doi 10.1109/TIP.2011.2181402). Its peak is
compared with the peaks at all other shifts of the same two images, which are right nowhere: their heights beyond a
threshold follow an exponential distribution (peaks over threshold; Pickands 1975, doi 10.1214/aos/1176343003), which gives the
number of peaks as high as the best one that chance is expected to bring.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft
from scipy.ndimage import maximum_filter

APART = 3  # pixels: a peak is the largest value within this distance along each axis
OWN = 12  # pixels: other peaks this near to the best one belong to it and tell nothing about chance
# share of the peaks, the highest, from which the distribution of chance is fitted; 0.02 to 0.1: 468 or 469 right links
TAIL = 0.05
FEWEST = 10  # other peaks in the tail; with fewer the chance is not known
NARROWEST = 4  # pixels: least side of the overlap of a shift
CLOSEST = 0.999  # correlations above it are not told apart
SMALLEST = 0.002  # least share of the smaller image in the overlap of a shift


@dataclass(frozen=True)
class Peak:
    """The best whole-pixel shift of two images."""

    shift: np.ndarray  # moving pixel = fixed pixel + shift, array order. shape: (D,), int
    score: float  # normalised cross-correlation in the overlap, -1 to 1
    chance: float  # expected number of peaks as high among the shifts that were looked at, if nothing belongs together
    overlap: int  # pixels


def best_shifts(
    fixed: np.ndarray,
    moving: np.ndarray,
    fixed_mask: np.ndarray | None = None,
    moving_mask: np.ndarray | None = None,
    near: Sequence[float] | None = None,
    reach: Sequence[float] | float = math.inf,
    count: int = 1,
) -> list[Peak]:
    """The shifts at which two images agree best, and how likely they are chance.

    Args:
        fixed, moving: (*shape) of any two shapes, with local mean 0 (`drmime.shifts.contrast.flattened`), 0 outside masks.
        fixed_mask, moving_mask: bool, of the same shapes; None if all pixels are valid.
        near, reach: only shifts within `reach` pixels of `near` along each axis are looked at, both in array order; the
            distribution of chance is that of all shifts.

        count: most peaks that are returned.

    Returns:
        the highest peaks, the highest first; none if no shift has enough overlap or the images are empty.

    Example:
        >>> image = np.random.default_rng(0).standard_normal((40, 50))
        >>> (found,) = best_shifts(image, np.roll(image, (3, -5), axis=(0, 1)))
        >>> found.shift, found.chance < 1e-6
        (array([ 3, -5]), True)
    """
    score, overlap = correlations(fixed, moving, fixed_mask, moving_mask)
    least = SMALLEST * min(fixed.size, moving.size)
    wide = _wide(fixed.shape, moving.shape)
    allowed = wide & (overlap >= max(least, NARROWEST**fixed.ndim))
    height = np.where(allowed, evidence(score, overlap), -np.inf)
    peaks = np.flatnonzero((height == maximum_filter(height, 2 * APART + 1, mode="constant", cval=-np.inf)) & (height > 0))
    places = np.stack(np.unravel_index(peaks, height.shape), -1) - (np.array(fixed.shape) - 1)
    heights = height.ravel()[peaks]
    inside = np.ones(len(peaks), bool)
    if near is not None:
        inside = (np.abs(places - np.asarray(near)) <= np.asarray(reach)).all(1)
    found = []
    for best in np.flatnonzero(inside)[np.argsort(-heights[inside], kind="stable")[:count]]:
        others = (np.abs(places - places[best]) > OWN).any(1)
        chance = _chance(heights[best], heights[others], int(others.sum()), int(inside.sum()))
        at = peaks[best]
        found.append(Peak(places[best], float(score.flat[at]), chance, round(float(overlap.flat[at]))))
    return found


def evidence(score: Any, pixels: Any) -> Any:
    """The root of twice the logarithm of the likelihood ratio of two normal variables with and without correlation.

    It puts correlations in overlaps of different sizes on one scale.
    """
    return np.sqrt(-pixels * np.log1p(-np.square(np.clip(score, 0, CLOSEST))))


def _chance(height: float, others: np.ndarray, count: int, looked: int) -> float:
    """The expected number of chance peaks of at least this height among `looked` ones. `others`: heights of chance peaks."""
    tail = min(max(FEWEST, int(TAIL * count)), count - 1)
    if tail < FEWEST:
        return float(looked)
    top = np.sort(others)[-tail - 1 :]
    excess = max(float((top[1:] - top[0]).mean()), 1e-12)
    return looked * min(1.0, tail / count * math.exp(min(0.0, -(height - float(top[0])) / excess)))


def correlations(
    fixed: np.ndarray, moving: np.ndarray, fixed_mask: np.ndarray | None = None, moving_mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The normalised cross-correlation and the number of overlapping pixels at every shift; arguments as of `best_shifts`.

    Returns:
        two arrays of shape fixed + moving - 1: entry i is of the shift i - (fixed - 1). Where nothing overlaps both are 0.
    """
    full = tuple(f + m - 1 for f, m in zip(fixed.shape, moving.shape, strict=True))
    padded = tuple(fft.next_fast_len(length, real=True) for length in full)
    crop = tuple(slice(length) for length in full)

    def spectrum(array: np.ndarray, turned: bool) -> np.ndarray:
        array = np.flip(array) if turned else array
        return fft.rfftn(array.astype(np.float32), padded)

    def product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return fft.irfftn(one * other, padded)[crop]

    cross = product(spectrum(fixed, True), spectrum(moving, False))
    if fixed_mask is None and moving_mask is None:
        sums = [_sums(np.ones_like(fixed), moving.shape, True), _sums(fixed, moving.shape, True)]
        sums += [_sums(np.square(fixed), moving.shape, True)]
        sums += [_sums(moving, fixed.shape, False), _sums(np.square(moving), fixed.shape, False)]
    else:
        there = spectrum(np.ones(fixed.shape) if fixed_mask is None else fixed_mask, True)
        here = spectrum(np.ones(moving.shape) if moving_mask is None else moving_mask, False)
        sums = [np.rint(product(there, here)), product(spectrum(fixed, True), here)]
        sums += [product(spectrum(np.square(fixed), True), here)]
        sums += [product(there, spectrum(moving, False)), product(there, spectrum(np.square(moving), False))]
    overlap = np.maximum(sums[0], 0)
    count = np.maximum(overlap, 1)
    energies = [np.maximum(sums[at + 1] - np.square(sums[at]) / count, 0) for at in (1, 3)]
    # an energy of less than this share of the largest is rounding of the FFT
    usable = np.logical_and(*(energy > 1e-5 * energy.max() for energy in energies))
    below = np.sqrt(np.maximum(energies[0] * energies[1], np.finfo(np.float32).tiny))
    score = np.where(usable, (cross - sums[1] * sums[3] / count) / below, 0)
    return np.clip(score, -1, 1), overlap


def _sums(array: np.ndarray, other: Sequence[int], is_fixed: bool) -> np.ndarray:
    """The sum of an array within its overlap with an image of shape `other`, at every shift. -> (fixed + moving - 1)"""
    total = array.astype(np.float64)
    for axis, (own, its) in enumerate(zip(array.shape, other, strict=True)):
        total = np.insert(total.cumsum(axis), 0, 0, axis)
        first = np.arange(own + its - 1) - (own - 1 if is_fixed else its - 1)  # the shift
        first = -first if is_fixed else first  # of the other image's first pixel in this one
        total = total.take(np.clip(first + its, 0, own), axis) - total.take(np.clip(first, 0, own), axis)
    return total


def _wide(fixed: Sequence[int], moving: Sequence[int]) -> np.ndarray:
    """The shifts whose overlap has `NARROWEST` pixels along each axis. shape: fixed + moving - 1, bool"""
    found: np.ndarray = np.ones((), bool)
    for own, its in zip(fixed, moving, strict=True):
        shift = np.arange(own + its - 1) - (own - 1)
        length = np.minimum(own, its - shift) - np.maximum(0, -shift)
        found = found[..., None] & (length >= min(NARROWEST, own, its))
    return found
