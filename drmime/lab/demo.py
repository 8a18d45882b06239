"""A real pair with known alignment: a stained tissue section in colour, and one of its stains under a known transform.

The section (colon, immunohistochemistry, from scikit-image) is stained blue for nuclei and brown (DAB) for a protein. Colour
deconvolution (Ruifrok and Johnston 2001) extracts the DAB: one channel, bright on dark as in fluorescence, while the section
has three, dark on bright. The two stains alone are not used as the pair: their mutual information is so small (0.08 nats when
aligned, 0.075 with one pixel of error) that no metric can align them to a pixel.
"""

from dataclasses import dataclass

import numpy as np
import torch

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.pictures import gray_picture
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample

SIDE = 384  # pixels; side of both images, cut from 512 so that the transformed window stays inside the section
TURN = 7.0  # degrees
SCALES = (1.04, 0.98)  # along x and y
SHEAR = 0.02
SHIFT = (19.0, -17.0)  # pixels, about 5 % of the side
NOISE = 3.0  # standard deviation in gray values of 255


@dataclass(frozen=True, eq=False)
class Example:
    """Two images and the true transform between them."""

    fixed: np.ndarray  # shape: (SIDE, SIDE, 3), uint8; the section
    moving: np.ndarray  # shape: (SIDE, SIDE), uint8; its DAB, transformed
    truth: Transform  # from fixed to moving pixels, x first

    def error(self, transform: Transform) -> float:
        """Mean distance in pixels between the images of a grid of fixed points under `transform` and under the truth."""
        axis = torch.linspace(0, SIDE - 1, 25, dtype=torch.float64)
        points = torch.cartesian_prod(axis, axis)
        return float((transform(points) - self.truth(points)).norm(dim=-1).mean())


def pair(seed: int = 0) -> Example:
    """Make the pair: the section, its transformed DAB with noise drawn from `seed`, and the true transform.

    Raises:
        InputError: scikit-image is not installed.
    """
    section, dab = _section()
    moving_from_fixed = _truth()
    margin = (len(dab) - SIDE) // 2
    section_from_moving = MatrixTransform(torch.as_tensor(_shift(margin, margin) @ np.linalg.inv(moving_from_fixed)))
    moved = resample(dab, section_from_moving, Grid.regular(dab.shape), Grid.regular((SIDE, SIDE)), "cubic")
    noise = np.random.default_rng(seed).normal(0, NOISE, moved.shape)
    noisy = np.rint(gray_picture(moved) + noise).clip(0, 255).astype(np.uint8)
    window = slice(margin, margin + SIDE)
    return Example(section[window, window], noisy, MatrixTransform(torch.as_tensor(moving_from_fixed)))


def _section() -> tuple[np.ndarray, np.ndarray]:
    """The section in colour (512, 512, 3), and the amount of DAB at each pixel (512, 512)."""
    try:
        from skimage import color, data
    except ImportError as error:
        raise InputError("the demo's images come with scikit-image: pip install 'drmime[demo]'") from error
    section = data.immunohistochemistry()
    return section, color.rgb2hed(section)[..., 2]


def _truth() -> np.ndarray:
    """Moving from fixed pixels: shear, scaling and rotation about the centre of the image, then a shift. -> (3, 3)"""
    angle, middle = np.radians(TURN), (SIDE - 1) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = np.eye(3)
    linear[:2, :2] = turn @ np.diag(SCALES) @ np.array([[1, SHEAR], [0, 1]])
    return _shift(middle + SHIFT[0], middle + SHIFT[1]) @ linear @ _shift(-middle, -middle)


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=float)
