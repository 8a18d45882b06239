"""Read the files of one pair into a `Case`. Each file is read once; error messages name the file."""

import numpy as np
import torch

from drmime.errors import InputError, existing_file
from drmime.geometry.grid import Grid, scaled
from drmime.geometry.matrices import mapped
from drmime.image.door import load
from drmime.image.pixels import arranged
from drmime.lab.datasets.case import Case, regular_points, within
from drmime.points.files import read_landmarks
from drmime.result import Registration
from drmime.settings import rows_of_numbers
from drmime.transform.base import Transform
from drmime.transform.formats.itk import Itk
from drmime.transform.linear import matrix_of
from drmime.transform.warp import in_pixels

IDENTITY = "identity"  # the truth of images whose pixels are aligned already
ITK = (".tfm", ".xfm")  # file endings of ITK transforms
REGISTRATION = ".json"  # of registrations that `Registration.save` wrote
OUTSIDE = 0.5  # pixels by which a landmark may lie outside its image, because of rounding


def read_case(
    *,
    fixed: str,
    moving: str,
    fixed_landmarks: str = "",
    moving_landmarks: str = "",
    fixed_labels: str = "",
    moving_labels: str = "",
    truth: str = "",
) -> Case:
    """Read the files of a pair; the arguments are the fields of `Pair` ("" for none).

    Raises:
        InputError: a file is missing or damaged, or does not fit the others.
    """
    first, fixed_grid = read_pixels(fixed, "fixed")
    second, moving_grid = read_pixels(moving, "moving")
    if fixed_grid.ndim != moving_grid.ndim:
        raise InputError(
            f"expected two images of the same dimension, got {fixed_grid.ndim}-D {fixed}, {moving_grid.ndim}-D {moving}"
        )
    matrix = read_truth(truth, fixed_grid, moving_grid) if truth else None
    notes = [
        f"only one of the two images has {what}: not used"
        for what, one, other in (("landmarks", fixed_landmarks, moving_landmarks), ("labels", fixed_labels, moving_labels))
        if bool(one) != bool(other)
    ]
    points: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    if fixed_landmarks and moving_landmarks:
        points = read_points(fixed_landmarks, moving_landmarks, fixed_grid.shape, moving_grid.shape)
    elif matrix is not None:
        points = expected_points(matrix, fixed_grid.shape, moving_grid.shape)
        if points[0] is None or not len(points[0]):
            raise InputError(
                f"{truth}: maps no point of the fixed image into the moving one. Is it from fixed to moving pixels?"
            )
    labelled = bool(fixed_labels and moving_labels)
    return Case(
        fixed=first,
        moving=second,
        fixed_spacing=spacing_of(fixed_grid),
        moving_spacing=spacing_of(moving_grid),
        fixed_world=fixed_grid.world_from_index.numpy(),
        moving_world=moving_grid.world_from_index.numpy(),
        fixed_points=points[0],
        moving_points=points[1],
        fixed_labels=read_labels(fixed_labels, fixed, fixed_grid.shape) if labelled else None,
        moving_labels=read_labels(moving_labels, moving, moving_grid.shape) if labelled else None,
        notes=tuple(notes),
        truth=matrix,
    )


def read_pixels(path: str, role: str) -> tuple[np.ndarray, Grid]:
    """Pixels in array order, channels last, without a constant alpha channel; and their grid, regular if none is stated."""
    source = arranged(load(path, f"{role} image {path}: the"), "auto", f"{path}: the {role}")
    channels = source.channels
    grid = Grid.regular(channels.shape[1:]) if source.grid is None else source.grid
    if len(channels) in (2, 4) and (channels[-1] == channels[-1].flat[0]).all():
        channels = channels[:-1]
    return channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1), grid


def spacing_of(grid: Grid) -> tuple[float, ...]:
    """The spacing of `grid` in array order."""
    return tuple(grid.spacing.flip(0).tolist())


def read_points(
    fixed: str, moving: str, fixed_shape: tuple[int, ...], moving_shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Read the landmarks of both images, from one file if the paths are equal and not CSV. -> (N, D), (N, D)

    Raises:
        InputError: a file is missing or damaged, or landmarks are none, unequal in number, of another dimension or outside.
    """
    both = fixed == moving and not fixed.lower().endswith(".csv")
    points = read_both(fixed, len(fixed_shape)) if both else (read_landmarks(fixed), read_landmarks(moving))
    for path, these, shape in zip((fixed, moving), points, (fixed_shape, moving_shape), strict=True):
        _check_points(path, these, shape)
    if len(points[0]) != len(points[1]):
        raise InputError(
            f"expected as many landmarks in both images, got {len(points[0])} in {fixed} and {len(points[1])} in {moving}"
        )
    return points


def read_both(path: str, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Read a text file with one row per landmark: its position in the fixed, then in the moving image. -> (N, D), (N, D)"""
    text = existing_file(path, "a landmark file").read_text(encoding="utf-8", errors="replace")
    try:
        rows = rows_of_numbers(text)
    except ValueError as error:
        raise InputError(f"{path}: expected numbers alone ({error})") from error
    for number, row in enumerate(rows, 1):
        if len(row) != 2 * ndim or not np.isfinite(row).all():
            raise InputError(
                f"{path}: expected {2 * ndim} finite numbers in every row (fixed, then moving), got {row} in row {number}"
            )
    both = np.array(rows).reshape(-1, 2 * ndim)
    return both[:, :ndim], both[:, ndim:]


def _check_points(path: str, points: np.ndarray, shape: tuple[int, ...]) -> None:
    if not len(points):
        raise InputError(f"{path}: expected at least one landmark, got none")
    if points.shape[1] != len(shape):
        raise InputError(f"{path}: expected landmarks of {len(shape)} coordinates, as the image has, got {points.shape[1]}")
    outside = np.flatnonzero(~within(points, shape, OUTSIDE))
    if len(outside):
        size, first = " x ".join(map(str, shape[::-1])), outside[0]
        raise InputError(
            f"{path}: {len(outside)} of {len(points)} landmarks lie outside the image of {size} pixels; the first is number "
            f"{first + 1}, at {points[first].tolist()}. Expected pixels, x first, 0-based."
        )


def read_labels(path: str, image: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read a label map. Raises: InputError: it is missing or damaged, or its shape is not that of the image."""
    labels = arranged(load(path, f"{path}: the label", labels=True), None, f"{path}: the label").channels[0]
    if labels.shape != shape:
        raise InputError(f"{path}: expected labels of shape {shape}, as {image} has, got {labels.shape}")
    return labels


def read_truth(path: str, fixed: Grid, moving: Grid) -> np.ndarray:
    """Read moving_from_fixed in pixels (D+1, D+1) from a text file, an ITK transform or a saved registration (both in world
    units), or the identity.

    Raises:
        InputError: the file is missing, is no such matrix or transform, or the matrix is not invertible.
    """
    size = fixed.ndim + 1
    if path == IDENTITY:
        return np.eye(size)
    if path.lower().endswith(ITK):
        return _linear(path, Itk().read(existing_file(path, "an ITK transform")), fixed, moving)
    if path.lower().endswith(REGISTRATION):
        saved = Registration.load(path)
        for role, own, grid in (("fixed", saved.fixed_grid, fixed), ("moving", saved.moving_grid, moving)):
            if not own.covers_alike(grid):
                raise InputError(f"{path}: expected a registration of these images, got one whose {role} image lay elsewhere")
        return _linear(path, saved.transform, fixed, moving)
    text = existing_file(path, "a text file with a matrix").read_text(encoding="utf-8", errors="replace")
    form = f"{path}: expected a matrix of {size} x {size} numbers, from fixed pixels to moving pixels"
    try:
        matrix = np.array(rows_of_numbers(text))
    except ValueError as error:
        raise InputError(f"{form} ({error})") from error
    if matrix.shape != (size, size):
        raise InputError(f"{form}, got shape {matrix.shape}")
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < size:
        raise InputError(f"{form} that can be inverted, got {matrix.tolist()}")
    return scaled(torch.as_tensor(matrix), fixed).numpy()


def _linear(path: str, transform: Transform, fixed: Grid, moving: Grid) -> np.ndarray:
    """A transform of fixed to moving world points (LPS millimetres; pixels if a file states no unit) as a matrix in pixels."""
    if transform.ndim != fixed.ndim:
        raise InputError(f"{path}: expected a linear {fixed.ndim}-D transform, got {transform.ndim}-D")
    return matrix_of(in_pixels(transform, fixed, moving)).numpy()


def expected_points(
    matrix: np.ndarray, fixed_shape: tuple[int, ...], moving_shape: tuple[int, ...], points: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`points` (default: a regular grid over the fixed image) and their true positions, if inside. -> (N, D), (N, D)"""
    points = regular_points(fixed_shape) if points is None else points
    targets = mapped(matrix, points)
    inside = within(targets, moving_shape)
    return points[inside], targets[inside]
