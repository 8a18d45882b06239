"""The map between two images of one modality to a fraction of a pixel, by Gauss-Newton steps from coarse to fine.

The residual is the difference of both images with their local mean and contrast removed, on the overlap (enhanced correlation,
Evangelidis and Psarakis 2008, doi 10.1109/TPAMI.2008.113; the mean gradient of both images, Malis 2004, doi
10.1109/ROBOT.2004.1308092). The expected error follows from the residuals themselves: the sandwich estimate with blocks of
pixels as units (Liang and Zeger 1986, doi 10.1093/biomet/73.1.13), which allows for residuals that are alike in neighbours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm
from scipy.ndimage import affine_transform, spline_filter

from drmime.shifts.contrast import Level, flattened

STEPS = 12  # Gauss-Newton steps at one level, at most
STILL = 0.01  # pixels of a level: a smaller step is the last one at it
FARTHEST = 2.5  # pixels of a level: a place that moves farther than this at one level has lost its peak
BLOCK = 8  # pixels of a level, side of the blocks of the sandwich estimate; more than the reach of the local mean
LEAST_SIDE = 4  # pixels of the overlap along an axis at a level that is used
LEAST_PIXELS = 64  # of the overlap at a level that is used
INDEPENDENT = 0.05  # least share of the squared gradients, in any direction, that both images have in common
ROUNDING = 1e-9  # of the trace, which is added to a matrix that is inverted
FLOOR = 0.02  # pixels: error that is left by interpolation and sampling, added to each estimate


@dataclass(frozen=True)
class Refined:
    """A map to a fraction of a pixel."""

    matrix: np.ndarray  # moving_from_fixed, pixels of the finest level, x first. shape: (D+1, D+1)
    error: float  # expected: root mean square over `places`, pixels of the finest level
    score: float  # correlation of the flattened images in the overlap at the finest level that was used
    pixels: int  # of the finest level, in that overlap
    places: np.ndarray  # corners and centre of the overlap, pixels of the fixed image, x first. shape: (2**D + 1, D)


def refined(
    fixed: Sequence[Level], moving: Sequence[Level], start: np.ndarray, basis: np.ndarray, enough: float = 0.0
) -> Refined | None:
    """The map near `start` under which two images agree best.

    Args:
        fixed, moving: levels of both, of half the size each, finest first (`drmime.shifts.contrast.levels_of`).
        start: moving_from_fixed, (D+1, D+1), pixels of the finest level, x first, right to about a pixel of the coarsest.
        basis: generators (K, D+1, D+1), pixels of the finest level, about the fixed image's centre, by which it may change.
        enough: expected error, pixels of the finest level, at which no finer level is looked at.

    Returns:
        the map; None if the images have no optimum near the start.
    """
    found, matrix = None, start
    for level in reversed(range(min(len(fixed), len(moving)))):
        step = _Step(fixed[level], moving[level], 2**level, basis, fixed[0].data.ndim)
        better = step.solved(matrix)
        if better is None:
            continue
        found, matrix = better, better.matrix
        if found.error <= enough:
            break
    return found


def scale_of_level(factor: int, ndim: int) -> np.ndarray:
    """From pixels of a level that is `factor` times coarser to those of the finest level. shape: (D+1, D+1)"""
    matrix = np.diag([float(factor)] * ndim + [1.0])
    matrix[:-1, -1] = (factor - 1) / 2
    return matrix


@dataclass(frozen=True)
class _Equations:
    """Gauss-Newton equations at a map."""

    normal: np.ndarray  # shape: (K, K)
    meat: np.ndarray  # variance of `pull`. shape: (K, K)
    pull: np.ndarray  # shape: (K,)
    score: float  # correlation
    pixels: int  # of the finest level


class _Step:
    """Gauss-Newton steps at one level."""

    def __init__(self, fixed: Level, moving: Level, factor: int, basis: np.ndarray, ndim: int) -> None:
        self.fixed, self.moving, self.factor = fixed, moving, factor
        self.fine = scale_of_level(factor, ndim)
        self.coarse = np.linalg.inv(self.fine)
        self.basis = self.coarse @ basis @ self.fine
        self.spline = spline_filter(moving.data.astype(np.float32), 3, output=np.float32, mode="mirror")

    def solved(self, start: np.ndarray) -> Refined | None:
        """The optimum near a map in pixels of the finest level; None if there is none, or too little overlap."""
        matrix = first = self.coarse @ start @ self.fine
        made: _Equations | None = None
        for _ in range(STEPS):
            window = self._overlap(matrix)
            made = None if window is None else self._equations(matrix, window)
            if made is None or window is None:
                return None
            places = _corners(window)
            change = np.linalg.solve(made.normal, made.pull)
            step = matrix @ expm(np.einsum("k,kij->ij", change, self.basis))
            moved = np.abs((step - matrix) @ places.T)[:-1].max()
            matrix = step
            if np.abs((matrix - first) @ places.T)[:-1].max() > FARTHEST:
                return None
            if moved < STILL:
                break
        if made is None or not np.isfinite(made.meat).all():
            return None
        inverse = np.linalg.inv(made.normal)
        moves = (self.basis @ places.T)[:, :-1]  # shape: (K, D, P)
        covariance = inverse @ made.meat @ inverse
        error = math.sqrt(max(0.0, float(np.einsum("kdp,kl,ldp->", moves, covariance, moves)) / len(places)))
        return Refined(
            matrix=self.fine @ matrix @ self.coarse,
            error=math.hypot(error * self.factor, FLOOR),
            score=made.score,
            pixels=made.pixels,
            places=(places @ self.fine.T)[:, :-1],
        )

    def _equations(self, matrix: np.ndarray, window: tuple[slice, ...]) -> "_Equations | None":
        """What the pixels of the overlap say at a map; None if the images have nothing in common there."""
        still = Level(self.fixed.data[window], None if self.fixed.mask is None else self.fixed.mask[window])
        moved = self._moved(matrix, window, still.shape)
        valid = _both(still.mask, moved.mask)
        if valid is not None:
            still, moved = (Level(np.where(valid, one.data, 0), valid) for one in (still, moved))
        one, other = flattened(still), flattened(moved)
        power = float((other * other).sum()), float((one * one).sum())
        if min(power) == 0:
            return None
        cross = float((one * other).sum())
        gain = max(cross / power[0], 0.1)
        other *= gain
        slopes = [self._moves(image, window, valid) for image in (one, other)]
        flat = [parts.reshape(len(parts), -1) for parts in slopes]
        mean = (flat[0] + flat[1]) / 2
        product = flat[0] @ flat[1].T
        normal = (product + product.T) / 2  # noise of both images is independent, so it cancels
        gram = mean @ mean.T
        gram += ROUNDING * np.trace(gram) * np.eye(len(gram))
        if np.linalg.eigvals(np.linalg.solve(gram, normal)).real.min() < INDEPENDENT:
            return None
        scores = mean * (one - other).ravel()
        pixels = (one.size if valid is None else int(valid.sum())) * self.factor**one.ndim
        score = cross / math.sqrt(power[0] * power[1])
        return _Equations(normal, _blockwise(scores.reshape(slopes[0].shape)), scores.sum(1), score, pixels)

    def _overlap(self, matrix: np.ndarray) -> tuple[slice, ...] | None:
        """The box of fixed pixels that can lie on the moving image; None if it is too small."""
        ends = np.array(self.moving.shape[::-1], float) - 1
        corners = np.stack(np.meshgrid(*[(0, end) for end in ends], indexing="ij"), -1).reshape(-1, len(ends))
        there = (np.hstack([corners, np.ones((len(corners), 1))]) @ np.linalg.inv(matrix).T)[:, :-1]
        low = np.maximum(np.ceil(there.min(0) - 1e-6), 0).astype(int)[::-1]
        high = np.minimum(np.floor(there.max(0) + 1e-6) + 1, self.fixed.shape[::-1]).astype(int)[::-1]
        sides = high - low
        least = [min(LEAST_SIDE, length) for length in self.fixed.shape]
        if (sides < least).any() or math.prod(sides.tolist()) < LEAST_PIXELS:
            return None
        return tuple(slice(first, end) for first, end in zip(low.tolist(), high.tolist(), strict=True))

    def _moved(self, matrix: np.ndarray, window: tuple[slice, ...], shape: tuple[int, ...]) -> Level:
        """The moving image on the pixels of the window, by cubic splines; the mask is None if all of them lie on it."""
        offset = np.array([part.start for part in window], float)
        linear, shift = matrix[:-1, :-1][::-1, ::-1], matrix[:-1, -1][::-1]
        first = linear @ offset + shift
        options = {"offset": first, "output_shape": shape, "prefilter": False, "mode": "mirror"}
        still = np.allclose(linear, np.eye(len(shape)), rtol=0, atol=1e-9)
        if still:
            data = shifted_spline(self.spline, first, shape)
        else:
            data = affine_transform(self.spline, linear, order=3, output=np.float32, **options)
        mask = None
        if self.moving.mask is not None:
            share = affine_transform(self.moving.mask.astype(np.float32), linear, order=1, **options)
            mask = share > 1 - 1e-3
        if not still:
            mask = _both(mask, self._inside(linear, first, shape))
        return Level(data, mask)

    def _inside(self, linear: np.ndarray, first: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
        """Which pixels lie on the moving image; None if all do."""
        places = np.tensordot(linear, np.indices(shape), 1) + first.reshape(-1, *[1] * len(shape))
        ends = np.array(self.moving.shape, float).reshape(-1, *[1] * len(shape)) - 1
        inside: np.ndarray = ((places >= -1e-6) & (places <= ends + 1e-6)).all(0)
        return None if inside.all() else inside

    def _moves(self, image: np.ndarray, window: tuple[slice, ...], valid: np.ndarray | None) -> np.ndarray:
        """Derivatives of an image by the coefficients of the basis at each pixel. shape: (K, *shape)"""
        slopes = np.stack([_slope(image, axis, valid) for axis in range(image.ndim)][::-1])  # x first
        shifts = self.basis[:, :-1, -1]
        if not self.basis[:, :-1, :-1].any():
            return np.tensordot(shifts, slopes, 1).astype(np.float32)
        index = np.indices(image.shape)[::-1] + np.array([part.start for part in window][::-1]).reshape(-1, *[1] * image.ndim)
        moves = np.tensordot(self.basis[:, :-1, :-1], index, 1) + shifts.reshape(*shifts.shape, *[1] * image.ndim)
        return (moves * slopes).sum(1).astype(np.float32)


def shifted_spline(coefficients: np.ndarray, first: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Values of a cubic B-spline on pixels that begin at `first` (array order), along each axis by itself; edges are mirrored.

    It equals `scipy.ndimage.affine_transform` of order 3 without a prefilter, with mode "mirror", in a tenth of the time.
    """
    values = coefficients
    for axis, (at, length) in enumerate(zip(first.tolist(), shape, strict=True)):
        whole = math.floor(at)
        t = at - whole
        weights = ((1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3)
        period = max(2 * values.shape[axis] - 2, 1)
        index = np.abs((np.arange(whole - 1, whole + length + 2) + period // 2) % period - period // 2)
        rows = np.moveaxis(values.take(index, axis), axis, 0)
        parts = [np.float32(weight / 6) * rows[place : place + length] for place, weight in enumerate(weights)]
        values = np.moveaxis(parts[0] + parts[1] + parts[2] + parts[3], 0, axis)
    return np.ascontiguousarray(values)


def _corners(window: Sequence[slice]) -> np.ndarray:
    """The corners and the centre of a box, homogeneous, x first. shape: (2**D + 1, D + 1)"""
    ends = [(float(side.start), float(side.stop - 1)) for side in reversed(window)]
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, len(ends))
    places = np.vstack([corners, corners.mean(0)])
    return np.hstack([places, np.ones((len(places), 1))])


def _slope(image: np.ndarray, axis: int, valid: np.ndarray | None) -> np.ndarray:
    """The central difference along an axis; 0 at the first and last pixel, and where a neighbour is not valid."""
    rows = np.moveaxis(image, axis, 0)
    found = np.zeros_like(rows)
    found[1:-1] = (rows[2:] - rows[:-2]) / 2
    if valid is not None:
        known = np.moveaxis(valid, axis, 0)
        found[1:-1] *= known[2:] & known[:-2] & known[1:-1]
    return np.moveaxis(found, 0, axis)


def _both(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return other if one is None else one if other is None else one & other


def _blockwise(scores: np.ndarray) -> np.ndarray:
    """The sum over blocks of the outer product of their summed scores. (K, *shape) -> (K, K)"""
    for axis, length in enumerate(scores.shape[1:], 1):
        edges = np.arange(0, length, BLOCK)
        scores = np.add.reduceat(scores, edges, axis, dtype=np.float64)
    flat = scores.reshape(len(scores), -1)
    blocks, number = flat.shape[1], len(flat)
    return flat @ flat.T * (blocks / (blocks - number)) if blocks > number else np.full((number, number), np.inf)
