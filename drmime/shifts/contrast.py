"""Images with local mean 0 and similar local contrast, so that slow changes of light have no effect; smaller levels."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

SMOOTH = 1.0  # pixels, standard deviation of the Gaussian that suppresses noise; 0.7, 1, 1.2: median errors 0.054, 0.059, 0.064
# pixels, half width of the boxes of local mean and local contrast; 5, 8: 354, 325 right links of tiles with uneven light,
# median errors 0.059, 0.069; 3 is as good as 5 but takes repeated texture for more wrong ones
REACH = 5
ROUNDING = 1e-6  # of the largest value: smaller contrasts are rounding


@dataclass(frozen=True, eq=False)
class Level:
    """An image of one channel with a mask, None if all pixels are valid. Values of invalid pixels are 0."""

    data: np.ndarray  # shape: (*shape), float32
    mask: np.ndarray | None = None  # shape: that of data, bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape


def levels_of(data: np.ndarray, mask: np.ndarray | None, count: int) -> list[Level]:
    """An image and `count` - 1 smaller ones, each of half the size, finest first.

    The pixel i of level l is the mean of the pixels 2^l i to 2^l (i + 1) - 1 along each axis; it is valid if all of them are.
    """
    found = [Level(np.ascontiguousarray(data, np.float32) * (1 if mask is None else mask), mask)]
    while len(found) < count:
        one = found[-1]
        valid = None if one.mask is None else _blocks(one.mask).all(1)
        mean = _blocks(one.data).mean(1, dtype=np.float32)
        shape = tuple(length // 2 for length in one.shape)
        mean = mean.reshape(shape)
        valid = None if valid is None else valid.reshape(shape)
        found.append(Level(mean if valid is None else mean * valid, valid))
    return found


def _blocks(array: np.ndarray) -> np.ndarray:
    """The pixels of each block of two pixels along each axis; an odd last pixel is left out. -> (blocks, 2**D)"""
    shape = [length // 2 for length in array.shape]
    even = array[tuple(slice(2 * length) for length in shape)]
    split = even.reshape([size for length in shape for size in (length, 2)])
    ndim = array.ndim
    return split.transpose(*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2)).reshape(-1, 2**ndim)


def flattened(image: Level) -> np.ndarray:
    """The image with local mean 0 and local standard deviation of about 1, smoothed; 0 where the mask is. -> float32

    Local contrast is divided by its own root mean square together with that of the whole image, so that parts that hold
    noise alone do not weigh as much as parts that hold structure.
    """
    data, mask = image.data, image.mask
    weight = None if mask is None else mask.astype(np.float32)
    share = None if weight is None else np.maximum(_box(weight), 1e-3)
    level = float(data.mean() if mask is None else data[mask].mean() if mask.any() else 0.0)
    data = data - level if weight is None or mask is None else np.where(mask, data - level, 0)  # keeps float32 precise
    smooth = gaussian_filter(data, SMOOTH, truncate=3)
    if weight is not None:
        smooth = np.where(weight > 0, smooth / np.maximum(gaussian_filter(weight, SMOOTH, truncate=3), 1e-3), 0)
    mean = _box(smooth if weight is None else smooth * weight)
    detail = smooth - (mean if share is None else mean / share)
    if weight is not None:
        detail *= weight
    power = _box(np.square(detail))
    power = np.maximum(power if share is None else power / share, 0)
    whole = float(power.mean() if mask is None else power[mask].mean() if mask.any() else 0.0)
    if whole <= (ROUNDING * float(np.abs(image.data).max(initial=0))) ** 2:
        return np.zeros_like(detail)
    return detail / np.sqrt(power + whole)


def _box(array: np.ndarray) -> np.ndarray:
    return uniform_filter(array, 2 * REACH + 1, mode="reflect")
