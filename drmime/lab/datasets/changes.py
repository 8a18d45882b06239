"""Known motions, applied to a moving image with known alignment and to its points and labels.

A motion is applied in world coordinates (pixels times spacing), so that a rotation stays a rotation where voxels are not cubes;
shifts are shares of the image's sides. Pixels outside the image become black.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import affine, mapped
from drmime.lab.datasets.bending import bent, seen_points
from drmime.lab.datasets.case import Case, Change, regular_points, within
from drmime.lab.datasets.reading import expected_points
from drmime.registry import known
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample

FEWEST = 5  # points; with fewer the error is not meaningful
FOREGROUND_STEP = 97  # step between the foreground voxels that are taken as points

Motion = Callable[[Case, np.random.Generator], Case]


def changed(case: Case, change: Change, name: str) -> Case:
    """Apply `change` to a case; random numbers depend on its seed and the pair's `name`.

    Raises:
        InputError: an unknown motion or one of another dimension, no ground truth, or fewer than `FEWEST` points in the result.
    """
    random = np.random.default_rng([change.seed, zlib.crc32(name.encode())])
    motion = MOTIONS[known("motion", change.motion, MOTIONS)]
    return motion(with_itself(case) if change.recoloured else case, random)


def with_itself(case: Case) -> Case:
    """The fixed image and a recoloured copy as moving image, which are aligned."""
    points = regular_points(case.fixed.shape[: case.ndim]) if case.fixed_points is None else case.fixed_points
    return replace(
        case,
        moving=recoloured(case.fixed, case.ndim),
        moving_spacing=case.fixed_spacing,
        moving_world=case.fixed_world,
        fixed_points=points,
        moving_points=points,
        moving_labels=case.fixed_labels,
        truth=np.eye(case.ndim + 1),
    )


def recoloured(pixels: np.ndarray, ndim: int) -> np.ndarray:
    """Convert to gray (uint8) with a non-monotone map of intensities that also inverts them; 0 to 255."""
    gray = pixels.astype(np.float32) if pixels.ndim == ndim else pixels.mean(axis=-1, dtype=np.float32)
    low, high = np.percentile(gray, (0.5, 99.5))
    shares = np.clip((gray - low) / max(high - low, 1e-6), 0, 1)
    return np.rint(127.5 - 127.5 * np.sin(2.5 * np.pi * shares)).astype(np.uint8)


# ---- motions


def moved(case: Case, random: np.random.Generator, degrees: float, shift: float, scale: float) -> Case:
    """Apply a random affine map on the same canvas: up to `degrees`, a `shift` in shares of the sides, and `scale` per axis."""
    turn = rotation(case.ndim, random, degrees)
    linear = turn @ np.diag(random.uniform(1 - scale, 1 + scale, case.ndim))
    return _on_same_canvas(_with_true_points(case), linear, random.uniform(-shift, shift, case.ndim))


def turned(case: Case, random: np.random.Generator) -> Case:
    """Rotate by any angle about the centre (in 3-D any axis) and shift by up to 10 %, on a canvas that holds all of it."""
    _require_truth(case)
    shift = _sides(case) * random.uniform(-0.1, 0.1, case.ndim)
    return _on_larger_canvas(case, rotation(case.ndim, random, 180), shift)


def crop(case: Case, random: np.random.Generator) -> Case:
    """Crop a random part of half the area (volume) and rotate it by any angle; points outside it are removed."""
    _require_truth(case)
    part = np.rint(_sides(case) * 0.5 ** (1 / case.ndim)).astype(int)
    start = random.integers(0, _sides(case) - part + 1)
    window = tuple(slice(at, at + length) for at, length in zip(start[::-1], part[::-1], strict=True))
    cut = replace(
        _mapped_truth(case, about(start, np.zeros(case.ndim), np.eye(case.ndim))),
        moving=case.moving[window],
        moving_labels=None if case.moving_labels is None else case.moving_labels[window],
    )
    return _on_larger_canvas(_without_outside_points(cut), rotation(case.ndim, random, 180), np.zeros(case.ndim))


def volume(case: Case, random: np.random.Generator) -> Case:
    """Apply any 3-D rotation and a shift of up to 30 % on the same canvas; points are voxels of the foreground."""
    if case.ndim != 3:
        raise InputError(f"motion 'volume': expected 3-D images, got {case.ndim}-D ones. Use 'large' or 'turned'.")
    gray = case.fixed if case.fixed.ndim == 3 else case.fixed.mean(axis=-1)
    foreground = np.argwhere(gray > gray.mean())[::FOREGROUND_STEP, ::-1].astype(float)
    linear = Rotation.from_quat(random.normal(size=4)).as_matrix()  # uniform over all rotations
    return _on_same_canvas(_with_true_points(case, foreground), linear, random.uniform(-0.3, 0.3, 3))


def deformed(case: Case, random: np.random.Generator, share: float) -> Case:
    """Deform smoothly, by `share` of the diagonal on average; points are those where the fixed image varies (`bending`)."""
    points = None if case.truth is None else seen_points(case)
    return _without_outside_points(bent(_with_true_points(case, points), random, share))


MOTIONS: dict[str, Motion] = {
    "small": partial(moved, degrees=5, shift=0.05, scale=0.05),
    "medium": partial(moved, degrees=15, shift=0.1, scale=0.1),
    "large": partial(moved, degrees=180, shift=0.3, scale=0.15),
    "turned": turned,
    "crop": crop,
    "volume": volume,
    **{f"bent{percent}": partial(deformed, share=percent / 100) for percent in (0, 1, 2, 4)},
}


# ---- parts of motions


def rotation(ndim: int, random: np.random.Generator, degrees: float) -> np.ndarray:
    """A random rotation by up to `degrees` either way, in 3-D about a random axis. -> (D, D), x first"""
    angle = np.radians(random.uniform(-degrees, degrees))
    axis = random.normal(size=3) if ndim == 3 else np.array([0.0, 0.0, 1.0])
    return Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()[:ndim, :ndim]


def about(old: np.ndarray, new: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """The homogeneous matrix of x -> linear (x - old) + new. (D,), (D,), (D, D) -> (D+1, D+1)"""
    return affine(linear, new - linear @ old)


def _sides(case: Case) -> np.ndarray:
    """Pixels of the moving image along x, y[, z]. shape: (D,)"""
    return np.array(case.moving.shape[: case.ndim][::-1])


def _require_truth(case: Case) -> None:
    if case.moving_points is None and case.moving_labels is None:
        raise InputError(
            "a motion needs images of which something is known: expected landmarks, labels, a truth, or images that are "
            "aligned already (already_aligned, truth 'identity'), got none. recoloured: true needs none."
        )


def _with_true_points(case: Case, points: np.ndarray | None = None) -> Case:
    """Replace points by `points` (or a regular grid) mapped by the true matrix; keep the landmarks if there is no matrix."""
    _require_truth(case)
    if case.truth is None:
        return case
    shapes = case.fixed.shape[: case.ndim], case.moving.shape[: case.ndim]
    fixed_points, moving_points = expected_points(case.truth, *shapes, points)
    return replace(case, fixed_points=fixed_points, moving_points=moving_points)


def _on_same_canvas(case: Case, linear: np.ndarray, shift: np.ndarray) -> Case:
    middle = (_sides(case) - 1) / 2
    matrix = about(middle, middle + _sides(case) * shift, _in_pixels(linear, case.moving_spacing))
    return _without_outside_points(_resampled(case, matrix, case.moving.shape[: case.ndim]))


def _on_larger_canvas(case: Case, linear: np.ndarray, shift: np.ndarray) -> Case:
    """Apply `linear` and `shift` (pixels) on a canvas that holds the image; relative errors still refer to the old canvas."""
    linear, sides = _in_pixels(linear, case.moving_spacing), _sides(case)
    canvas = np.ceil(np.abs(linear) @ sides + 2 * np.abs(shift)).astype(int)
    matrix = about((sides - 1) / 2, (canvas - 1) / 2 + shift, linear)
    return replace(_resampled(case, matrix, canvas[::-1].tolist()), extent=case.moving.shape[: case.ndim])


def _in_pixels(linear: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Convert a linear map from world to pixel coordinates (x first)."""
    lengths = np.array(spacing[::-1])
    return linear * lengths / lengths[:, None]


def _resampled(case: Case, matrix: np.ndarray, shape: Sequence[int]) -> Case:
    """Resample the moving image and its labels under `matrix` (new from old pixels) to `shape`, and map points and truth."""
    grids = Grid.regular(case.moving.shape[: case.ndim]), Grid.regular(shape)
    old, axis = MatrixTransform(torch.as_tensor(np.linalg.inv(matrix))), -1 if case.moving.ndim > case.ndim else None
    labels = case.moving_labels
    return replace(
        _mapped_truth(case, matrix),
        moving=resample(case.moving, old, *grids, channel_axis=axis),
        moving_labels=None if labels is None else resample(labels, old, *grids, interpolation="nearest", channel_axis=None),
    )


def _mapped_truth(case: Case, matrix: np.ndarray) -> Case:
    """Map the moving points and the truth by `matrix` (new from old pixels)."""
    return replace(
        case,
        moving_points=None if case.moving_points is None else mapped(matrix, case.moving_points),
        truth=None if case.truth is None else matrix @ case.truth,
    )


def _without_outside_points(case: Case) -> Case:
    """Keep only points that lie in the moving image."""
    if case.fixed_points is None or case.moving_points is None:
        return case
    inside = within(case.moving_points, case.moving.shape[: case.ndim])
    if inside.sum() < FEWEST:
        raise InputError(
            f"expected at least {FEWEST} points in the moved image, got {inside.sum()} of {len(inside)}: too few to judge"
        )
    return replace(case, fixed_points=case.fixed_points[inside], moving_points=case.moving_points[inside])
