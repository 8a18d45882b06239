"""Scenes that are synthesised: one label map in two "modalities" of random intensities, so that an encoder learns what all
modalities have in common, without real images (the idea of SynthMorph, Hoffmann et al. 2022, arXiv 2004.10282).

Of each modality the following is drawn anew: which fine labels it shows, the intensity of each label, which several labels may
share (so that edges are missing), the intensity of the empty surroundings (mostly black), the contrast of the details within a
label and its sign, an uneven illumination, blur, noise and gamma.
"""

import math

import numpy as np
from scipy import ndimage

from drmime.errors import whole
from drmime.image.door import as_image
from drmime.learn.patches import Overlaid

LABELS = (3, 12)  # fewest and most labels of a coarse and of a fine map, which are combined
SCALES = ((0.08, 0.25), (0.02, 0.06))  # smoothness of the coarse and of the fine map, as shares of the side
FINE = 0.7  # share of the scenes that have a fine label map
BACKGROUND = 0.5  # share of the scenes around whose content there is nothing
BRIGHT = 0.25  # share of these surroundings that are not black
MISSING = 0.6  # share of the fine labels, at most, that a modality does not show
MERGED = 0.6  # share of the labels, at most, that take the intensity of another one
DETAILS = (0.7, 4.0)  # pixels: smoothness of the details, which both modalities share
MOST = 4096  # scenes or pixels


def synthesised(count: int, side: int, ndim: int, seed: int, modality: str) -> list[Overlaid]:
    """`count` scenes of two images of `side` pixels along each axis, both of the one `modality`.

    Raises:
        InputError: a number out of its range.
    """
    for name, value, least, most in (("count", count, 1, MOST), ("side", side, 16, MOST), ("ndim", ndim, 2, 3)):
        whole(name, value, least, most)
    whole("seed", seed, 0)
    return [_scene(number, side, ndim, np.random.default_rng([seed, number]), modality) for number in range(count)]


def _scene(number: int, side: int, ndim: int, random: np.random.Generator, modality: str) -> Overlaid:
    shape = (side,) * ndim
    coarse, fine = (_labels(shape, random, least * side, most * side) for least, most in SCALES)
    if random.random() > FINE:
        fine = np.zeros_like(fine)
    details = _smooth(shape, _between(*DETAILS, random), random)
    around = np.zeros(shape, bool)
    if random.random() < BACKGROUND:
        field = _smooth(shape, _between(0.08, 0.25, random) * side, random)
        around = field > np.quantile(field, random.uniform(0.4, 0.9))
    images = [as_image(_coloured(coarse, fine, around, details, random).astype(np.float32)).normalised() for _ in range(2)]
    return Overlaid(images, (modality, modality), f"synthesised {number}")


def _labels(shape: tuple[int, ...], random: np.random.Generator, least: float, most: float) -> np.ndarray:
    """Where each of several smooth random fields is the largest."""
    count = int(random.integers(LABELS[0], LABELS[1] + 1))
    scale = _between(least, most, random)
    return np.argmax([_smooth(shape, scale * random.uniform(0.7, 1.4), random) for _ in range(count)], axis=0)


def _between(least: float, most: float, random: np.random.Generator) -> float:
    """A number whose logarithm is uniformly distributed."""
    return math.exp(random.uniform(math.log(least), math.log(most)))


def _smooth(shape: tuple[int, ...], scale: float, random: np.random.Generator) -> np.ndarray:
    """A Gaussian random field of standard deviation 1; `scale`: of its smoothness in pixels."""
    field = ndimage.gaussian_filter(random.standard_normal(shape), scale, mode="wrap")
    return field / field.std()


def _coloured(
    coarse: np.ndarray, fine: np.ndarray, around: np.ndarray, details: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """One modality of a label map."""
    seen = random.random(int(fine.max()) + 1) >= random.uniform(0, MISSING)
    labels = coarse * (fine.max() + 1) + fine * seen[fine]
    labels = np.unique(labels, return_inverse=True)[1].reshape(coarse.shape)
    count = int(labels.max()) + 1
    means = random.uniform(0, 1, count)
    merged = random.random(count) < random.uniform(0, MERGED)
    means[merged] = random.choice(means, int(merged.sum()))
    gains = random.uniform(0, 0.15) * random.standard_normal(count)
    values = means[labels] + gains[labels] * details
    values[around] = random.uniform(0, 1) if random.random() < BRIGHT else 0.0
    values = ndimage.gaussian_filter(values, _between(0.3, 3.0, random))
    illumination = _smooth(coarse.shape, random.uniform(0.2, 0.5) * coarse.shape[0], random)
    values = values * np.exp(random.uniform(0, 0.3) * illumination)
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-6)
    values = values ** math.exp(random.normal(0, 0.4))
    return values + random.uniform(0, 0.08) * random.standard_normal(labels.shape)
