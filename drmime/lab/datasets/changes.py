"""Motions of which the answer is known: done to a moving image whose place is known already, and to its points and labels.

A motion is in the world (pixels times spacing), so that a rotation stays one where voxels are not cubes; shifts are in shares
of the image's sides. Outside the image there is black.
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
from drmime.lab.datasets.case import Case, Change, regular_points, within
from drmime.lab.datasets.reading import expected_points
from drmime.registry import known
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample

FEWEST = 5  # points, or the error says nothing
EVERY = 97  # of the foreground's voxels, one is a point

Motion = Callable[[Case, np.random.Generator], Case]


def changed(case: Case, change: Change, name: str) -> Case:
    """The case under `change`, drawn from its seed and the pair's `name`.

    Raises:
        InputError: an unknown motion, one of another dimension, or nothing or too little is known of the result.
    """
    random = np.random.default_rng([change.seed, zlib.crc32(name.encode())])
    motion = MOTIONS[known("motion", change.motion, MOTIONS)]
    return motion(with_itself(case) if change.recoloured else case, random)


def with_itself(case: Case) -> Case:
    """The fixed image and its recoloured self, which overlay."""
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
    """Gray, inverted, and through a map of intensities that is not monotone; 0 to 255."""
    gray = pixels.astype(np.float32) if pixels.ndim == ndim else pixels.mean(axis=-1, dtype=np.float32)
    low, high = np.percentile(gray, (0.5, 99.5))
    shares = np.clip((gray - low) / max(high - low, 1e-6), 0, 1)
    return np.rint(127.5 - 127.5 * np.sin(2.5 * np.pi * shares)).astype(np.uint8)


# ---- motions


def moved(case: Case, random: np.random.Generator, degrees: float, shift: float, scale: float) -> Case:
    """An affine map that stays in its frame, of up to `degrees`, `shift` in sides, and `scale` along each axis."""
    turn = rotation(case.ndim, random, degrees)
    linear = turn @ np.diag(random.uniform(1 - scale, 1 + scale, case.ndim))
    return _in_frame(_by_truth(case), linear, random.uniform(-shift, shift, case.ndim))


def turned(case: Case, random: np.random.Generator) -> Case:
    """Any angle about the middle (in 3-D about any axis), a shift of up to 10 %, on a canvas that holds all of it."""
    _expect_knowledge(case)
    shift = _sides(case) * random.uniform(-0.1, 0.1, case.ndim)
    return _on_grown_canvas(case, rotation(case.ndim, random, 180), shift)


def crop(case: Case, random: np.random.Generator) -> Case:
    """A part of half the area (volume) at any place, turned by any angle; points are those that lie in it."""
    _expect_knowledge(case)
    part = np.rint(_sides(case) * 0.5 ** (1 / case.ndim)).astype(int)
    start = random.integers(0, _sides(case) - part + 1)
    window = tuple(slice(at, at + length) for at, length in zip(start[::-1], part[::-1], strict=True))
    cut = replace(
        _with_map(case, about(start, np.zeros(case.ndim), np.eye(case.ndim))),
        moving=case.moving[window],
        moving_labels=None if case.moving_labels is None else case.moving_labels[window],
    )
    return _on_grown_canvas(_inside(cut), rotation(case.ndim, random, 180), np.zeros(case.ndim))


def volume(case: Case, random: np.random.Generator) -> Case:
    """Any rotation of a 3-D image and a shift of up to 30 % within its frame; points are the foreground's voxels."""
    if case.ndim != 3:
        raise InputError(f"motion 'volume': expected 3-D images, got {case.ndim}-D ones. Use 'large' or 'turned'.")
    gray = case.fixed if case.fixed.ndim == 3 else case.fixed.mean(axis=-1)
    foreground = np.argwhere(gray > gray.mean())[::EVERY, ::-1].astype(float)
    linear = Rotation.from_quat(random.normal(size=4)).as_matrix()  # uniform over all rotations
    return _in_frame(_by_truth(case, foreground), linear, random.uniform(-0.3, 0.3, 3))


MOTIONS: dict[str, Motion] = {
    "small": partial(moved, degrees=5, shift=0.05, scale=0.05),
    "medium": partial(moved, degrees=15, shift=0.1, scale=0.1),
    "large": partial(moved, degrees=180, shift=0.3, scale=0.15),
    "turned": turned,
    "crop": crop,
    "volume": volume,
}


# ---- what they are made of


def rotation(ndim: int, random: np.random.Generator, degrees: float) -> np.ndarray:
    """By up to `degrees` either way; in 3-D about an axis of any direction. -> (D, D), x first"""
    angle = np.radians(random.uniform(-degrees, degrees))
    axis = random.normal(size=3) if ndim == 3 else np.array([0.0, 0.0, 1.0])
    return Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()[:ndim, :ndim]


def about(old: np.ndarray, new: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """The homogeneous matrix of x -> linear (x - old) + new."""
    return affine(linear, new - linear @ old)


def _sides(case: Case) -> np.ndarray:
    """Pixels of the moving image along x, y[, z]."""
    return np.array(case.moving.shape[: case.ndim][::-1])


def _expect_knowledge(case: Case) -> None:
    if case.moving_points is None and case.moving_labels is None:
        raise InputError(
            "a motion needs images of which something is known: expected landmarks, labels, a truth, or images that are "
            "aligned already (already_aligned, truth 'identity'), got none. recoloured: true needs none."
        )


def _by_truth(case: Case, points: np.ndarray | None = None) -> Case:
    """With `points` (or a regular grid) and where the truth says that they lie; with its landmarks if there is no truth."""
    _expect_knowledge(case)
    if case.truth is None:
        return case
    shapes = case.fixed.shape[: case.ndim], case.moving.shape[: case.ndim]
    fixed_points, moving_points = expected_points(case.truth, *shapes, points)
    return replace(case, fixed_points=fixed_points, moving_points=moving_points)


def _in_frame(case: Case, linear: np.ndarray, shift: np.ndarray) -> Case:
    middle = (_sides(case) - 1) / 2
    matrix = about(middle, middle + _sides(case) * shift, _in_pixels(linear, case.moving_spacing))
    return _inside(_carried(case, matrix, case.moving.shape[: case.ndim]))


def _on_grown_canvas(case: Case, linear: np.ndarray, shift: np.ndarray) -> Case:
    """`shift` in pixels; errors stay shares of the image before its canvas grew."""
    linear, sides = _in_pixels(linear, case.moving_spacing), _sides(case)
    canvas = np.ceil(np.abs(linear) @ sides + 2 * np.abs(shift)).astype(int)
    matrix = about((sides - 1) / 2, (canvas - 1) / 2 + shift, linear)
    return replace(_carried(case, matrix, canvas[::-1].tolist()), extent=case.moving.shape[: case.ndim])


def _in_pixels(linear: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """A linear map of the world (x first) as one of pixels."""
    lengths = np.array(spacing[::-1])
    return linear * lengths / lengths[:, None]


def _carried(case: Case, matrix: np.ndarray, shape: Sequence[int]) -> Case:
    """The moving image, its labels and points under `matrix` (new from old pixels) in a frame of `shape`."""
    grids = Grid.regular(case.moving.shape[: case.ndim]), Grid.regular(shape)
    old, axis = MatrixTransform(torch.as_tensor(np.linalg.inv(matrix))), -1 if case.moving.ndim > case.ndim else None
    labels = case.moving_labels
    return replace(
        _with_map(case, matrix),
        moving=resample(case.moving, old, *grids, channel_axis=axis),
        moving_labels=None if labels is None else resample(labels, old, *grids, interpolation="nearest", channel_axis=None),
    )


def _with_map(case: Case, matrix: np.ndarray) -> Case:
    """What is known of the moving image, mapped by `matrix`."""
    return replace(
        case,
        moving_points=None if case.moving_points is None else mapped(matrix, case.moving_points),
        truth=None if case.truth is None else matrix @ case.truth,
    )


def _inside(case: Case) -> Case:
    """With the points alone that lie in the moving image."""
    if case.fixed_points is None or case.moving_points is None:
        return case
    inside = within(case.moving_points, case.moving.shape[: case.ndim])
    if inside.sum() < FEWEST:
        raise InputError(
            f"expected at least {FEWEST} points in the moved image, got {inside.sum()} of {len(inside)}: too few to judge"
        )
    return replace(case, fixed_points=case.fixed_points[inside], moving_points=case.moving_points[inside])
