"""Interpolations: each makes, of one channel, a function from places to values, in the range and dtype of the channel.

Places are positions in pixels, (D, N), in array order (slowest axis first), inside the channel or up to half a pixel outside
it. Pixels that are not finite are left out; a value that would be interpolated from one of them is NaN.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

Reader = Callable[[np.ndarray], np.ndarray]  # places (D, N) -> values (N,)

NARROW = tuple(map(np.dtype, ("bool", "uint8", "int8", "uint16", "int16", "float16", "float32")))  # exact in float32
LANCZOS_RADIUS = 5  # pixels, as in SimpleITK's sitkLanczosWindowedSinc
LANCZOS_PIECE = 2**15  # places read at a time; limits the memory for weights
AT_PIXEL = 1e-9  # pixels; nearer than that to a pixel's centre along every axis, its own value is taken


def nearest(channel: np.ndarray, blur: Sequence[float]) -> Reader:
    """The value of the nearest pixel; `blur` is not used, since values are never blended."""
    last = np.array(channel.shape)[:, None] - 1
    return lambda places: channel[tuple(np.floor(places + 0.5).astype(np.intp).clip(0, last))]


def linear(channel: np.ndarray, blur: Sequence[float]) -> Reader:
    """Linear interpolation; edge pixels are repeated outside."""
    values = _filled(channel, blur)
    return _within_range(channel, blur, lambda places: _spline(values, places, 1, "nearest"))


def cubic(channel: np.ndarray, blur: Sequence[float]) -> Reader:
    """Cubic B-spline through the pixels, mirrored at the edge pixels (Unser et al. 1991, doi 10.1109/34.75515)."""
    coefficients = ndimage.spline_filter(_filled(channel, blur), 3, np.float64, "mirror")
    return _within_range(channel, blur, lambda places: _spline(coefficients, places, 3, "mirror"))


def lanczos(channel: np.ndarray, blur: Sequence[float]) -> Reader:
    """Sinc with a Lanczos window of radius 5; edge pixels are repeated outside.

    Duchon 1979, doi 10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2; the window is that of ITK's WindowedSincInterpolate.
    Weights are not normalised, as in ITK: a constant image is reproduced to about 0.1 %.
    """
    values = np.ascontiguousarray(_filled(channel, blur))

    def read(places: np.ndarray) -> np.ndarray:
        parts = [places[:, at : at + LANCZOS_PIECE] for at in range(0, places.shape[1], LANCZOS_PIECE)]
        return np.concatenate([_windowed_sinc(values, part) for part in parts])

    return _within_range(channel, blur, read)


def _spline(values: np.ndarray, places: np.ndarray, order: int, edge: str) -> np.ndarray:
    return ndimage.map_coordinates(values, places, output=np.float64, order=order, mode=edge, prefilter=False)


def _windowed_sinc(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    first = np.floor(places).astype(np.intp)
    offsets = np.arange(1 - LANCZOS_RADIUS, LANCZOS_RADIUS + 1)[:, None]
    strides = np.cumprod([1, *values.shape[:0:-1]])[::-1]
    weights, pixels = [], []  # of each axis, shape: (2 * LANCZOS_RADIUS, N)
    for axis, length in enumerate(values.shape):
        away = places[axis] - first[axis] - offsets
        weights.append(np.sinc(away) * np.sinc(away / LANCZOS_RADIUS))
        pixels.append((first[axis] + offsets).clip(0, length - 1) * strides[axis])
    flat, total = values.reshape(-1), np.zeros(places.shape[1])
    for taps in itertools.product(range(2 * LANCZOS_RADIUS), repeat=len(values.shape)):
        weight = np.prod([part[tap] for part, tap in zip(weights, taps, strict=True)], axis=0)
        total += weight * flat[sum(part[tap] for part, tap in zip(pixels, taps, strict=True))]
    return total


def _within_range(channel: np.ndarray, blur: Sequence[float], values_at: Reader) -> Reader:
    """A reader that rounds and clips to what the channel holds, in its dtype, and is NaN where a pixel is not finite."""
    valid = np.isfinite(channel)
    low, high = (channel[valid].min(), channel[valid].max()) if valid.any() else (0, 0)
    gaps = None if valid.all() else (~valid).astype(np.float32)
    at_centres = nearest(channel, ())

    def read(places: np.ndarray) -> np.ndarray:
        values = values_at(places)
        values = np.clip(np.rint(values) if channel.dtype.kind in "bui" else values, low, high)
        if gaps is not None:
            values[_spline(gaps, places, 1, "nearest") > 1e-6] = np.nan
        with np.errstate(invalid="ignore"):
            cast = values.astype(channel.dtype)
        cast[values >= float(high)], cast[values <= float(low)] = high, low  # float64 may exceed wide integers
        if not any(blur) and (own := (np.abs(places - np.rint(places)) < AT_PIXEL).all(0)).any():
            cast[own] = at_centres(places[:, own])
        return cast

    return read


def _filled(channel: np.ndarray, blur: Sequence[float]) -> np.ndarray:
    """The channel in floating point, blurred by standard deviations `blur` in pixels (D,).

    Pixels that are not finite are replaced by the nearest finite ones, which affects a spline least.
    """
    channel = filled(channel, np.isfinite(channel))
    values = channel.astype(np.float32 if channel.dtype in NARROW else np.float64)
    return ndimage.gaussian_filter(values, blur, mode="nearest") if any(blur) else values


def filled(channel: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The channel with the nearest valid pixel in place of each that is not; zeros if none is valid."""
    if valid.all():
        return channel
    if not valid.any():
        return np.zeros_like(channel)
    return channel[tuple(ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True))]


def majority(labels: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """The label that most of several sets of places (D, N) fall on, each read at the nearest pixel; of equals the lowest.

    Returns values (N,).
    """
    read = nearest(labels, ())
    votes = np.sort(np.stack([read(one) for one in places]), axis=0)
    best, count, most = votes[0], np.ones(votes.shape[1], int), np.ones(votes.shape[1], int)
    for before, vote in itertools.pairwise(votes):
        count = np.where(vote == before, count + 1, 1)
        best, most = np.where(count > most, vote, best), np.maximum(count, most)
    return best
