"""scikit-image's phase correlation: a translation, found in the frequency domain."""

import functools
import itertools

import numpy as np
from scipy.ndimage import affine_transform

from drmime.errors import InputError, whole
from drmime.geometry.matrices import affine
from drmime.lab.peers.base import Problem, Run, package

MAX_CANVAS = 2**28  # pixels; largest canvas, 2 GB in double precision


def phase(problem: Problem, upsampling: int = 10) -> Run:
    """The translation at the highest peak of the phase correlation, applied before the start; 2-D or 3-D, on gray images.

    Guizar-Sicairos et al. 2008, DOI 10.1364/OL.33.000156, and Kuglin and Hines 1975; scikit-image's
    phase_cross_correlation. It needs arrays of one shape: both images are resampled (which is timed) to a canvas of the fixed
    image's pixels that holds both at the start, with their mean outside. A Hann window fades their borders to the mean, since
    borders would cause a strong peak. The seed has no effect.

    Args:
        upsampling: the resolution of the shift is 1 / `upsampling` pixels of the fixed image.

    Raises:
        InputError: an invalid option, images too far apart for one array, or scikit-image is not installed.
    """
    factor = whole("upsampling", upsampling, 1)
    registration = package("skimage.registration")
    images = [_windowed(pixels) for pixels in problem.grays()]
    shifts, shape = _canvas(problem)

    def run(seed: int) -> np.ndarray:
        fixed, moving = (
            _on_canvas(image, matrix @ shifts, shape)
            for image, matrix in zip(images, (np.eye(problem.ndim + 1), problem.start), strict=True)
        )
        if not (np.any(fixed) and np.any(moving)):
            raise RuntimeError("phase: an image without contrast has no phases to compare")
        shift, _, _ = registration.phase_cross_correlation(fixed, moving, upsample_factor=factor)
        return problem.start @ affine(np.eye(problem.ndim), -np.array(shift[::-1], float))

    return run


def _canvas(problem: Problem) -> tuple[np.ndarray, tuple[int, ...]]:
    """The canvas that holds both images: fixed_from_canvas in pixels (D+1, D+1), and its shape in array order."""
    fixed, moving = (np.array(list(itertools.product(*([-0.5, side - 0.5] for side in sides)))) for sides in problem.sides)
    fixed_from_moving = np.linalg.inv(problem.start)
    corners = np.vstack([fixed, moving @ fixed_from_moving[:-1, :-1].T + fixed_from_moving[:-1, -1]])
    low, high = np.floor(corners.min(0) + 0.5 + 1e-6), np.ceil(corners.max(0) - 0.5 - 1e-6)
    sides = high - low + 1
    if sides.prod() > MAX_CANVAS:
        raise InputError(f"phase: one array that holds both images would have {sides.prod():.2g} pixels. Give a nearer start.")
    return affine(np.eye(problem.ndim), low), tuple(sides.astype(int)[::-1].tolist())


def _windowed(image: np.ndarray) -> np.ndarray:
    """`image` minus its mean, times a Hann window, which is 0 beyond its borders."""
    windows = np.meshgrid(*(np.hanning(side + 2)[1:-1] for side in image.shape), indexing="ij", sparse=True)
    return (image - image.mean()) * functools.reduce(np.multiply, windows)


def _on_canvas(image: np.ndarray, image_from_canvas: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`image` resampled at the pixels of a canvas, 0 outside."""
    if image.shape == shape and np.allclose(image_from_canvas, np.eye(len(shape) + 1), atol=1e-9):
        return image
    linear, shift = image_from_canvas[:-1, :-1][::-1, ::-1], image_from_canvas[-2::-1, -1]  # in array order
    return affine_transform(image, linear, shift, shape, order=1, mode="constant", cval=0.0)
