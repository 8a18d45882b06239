"""Pictures that show whether two images are aligned: pure functions from arrays to 8-bit RGB.

A blend has the fixed image in magenta and the moving one in green, so that structure both share turns gray; a checkerboard
puts tiles of both side by side, so that edges continue across tiles where they are aligned. Colours over the fixed image show
the remaining error. Volumes are shown as three orthogonal middle slices side by side.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import translation
from drmime.image.door import load
from drmime.image.pixels import Arranged, arranged, each
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample
from drmime.verdict.errormap import error_map
from drmime.verdict.evidence import Blocks

QUANTILES = (0.002, 0.998)  # shown as black and white, so that one hot pixel does not darken a picture
LONGEST = 800  # pixels of a tile's long side: a compromise between detail and file size
ENOUGH = {2: 1600, 3: 256}  # most pixels along any side of the images that a picture is made from, by dimension
SEPARATOR = 4  # pixels of white between tiles
WHITE = 255
# colours of no error, half of `LARGEST`, and all of it (those of Okabe and Ito)
ERRORS = np.array([[0, 114, 178], [240, 228, 66], [213, 94, 0]])
LARGEST = 0.03  # of the moving image's diagonal: larger errors have the same colour
OPACITY = 0.6  # of these colours over the gray image
MESH = 20  # cells of the lines of `mesh` along the longest side of the moving image
LINES = ERRORS[2]


def gray_picture(array: Any, channel_axis: int | str | None = "auto") -> np.ndarray:
    """An image of any dtype as 8-bit gray, the mean of its channels, scaled between robust quantiles. -> (H, W)"""
    return _gray(_flat(array, channel_axis))


def blend(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Blend two 8-bit gray pictures, fixed in magenta and moving in green. (H, W) twice -> (H, W, 3)"""
    return np.stack([fixed, moving, fixed], -1)


def checkerboard(first: np.ndarray, second: np.ndarray, tiles: int = 8) -> np.ndarray:
    """Alternating tiles of two pictures, `tiles` of them along the longer side. (H, W[, 1 or 3]) twice -> (H, W, 3)"""
    first, second = _rgb(first), _rgb(second)
    side = max(first.shape[:2]) / tiles
    row, column = (np.arange(length) // side for length in first.shape[:2])
    return np.where(((row[:, None] + column) % 2 == 0)[..., None], first, second)


def overlay(
    fixed: Any,
    before: Any,
    after: Any,
    channel_axis: int | str | None = "auto",
    spacing: Sequence[float] | None = None,
    error: np.ndarray | None = None,
) -> np.ndarray:
    """Four pictures in one: above, blends of fixed with before (left) and after (right); below, checkerboards likewise.

    With `error`, shares of `LARGEST` at each pixel (NaN where unknown), there is a third row: the fixed image, and the same
    with colours from blue (no error) by yellow to red (`LARGEST` and more), gray where the error is not known.

    The images have the same spatial shape; `spacing` (array order) keeps the proportions of unequal pixels. Checkerboards keep
    the colours of RGB images. -> (H, W, 3) uint8
    """
    still, *movers = (shrink(_flat(image, channel_axis, spacing), LONGEST) for image in (fixed, before, after))
    limits = _limits(np.stack([mover.mean(0) for mover in movers]))  # one intensity scale for both sides
    hues = _limits(np.stack(movers)) if len(movers[0]) == 3 else limits
    blends = [blend(_gray(still), _gray(mover, limits)) for mover in movers]
    boards = [checkerboard(_coloured(still), _coloured(mover, hues)) for mover in movers]
    picture = _stack([_stack(blends, 1), _stack(boards, 1)], 0)
    if error is None:
        return picture
    return _stack([picture, _stack([_rgb(_gray(still)), coloured_errors(_gray(still), error, spacing)], 1)], 0)


def coloured_errors(
    gray: np.ndarray, error: np.ndarray, spacing: Sequence[float] | None = None, longest: int = LONGEST
) -> np.ndarray:
    """The third row of `overlay`: colours of errors over an 8-bit gray picture (H, W) of their image. -> (H, W, 3) uint8"""
    known = np.isfinite(error)
    parts = shrink(_flat(np.stack([np.where(known, error, 0), known]).astype(float), 0, spacing, fill=0), longest)
    share = np.clip(parts[0] / np.maximum(parts[1], 1e-6), 0, 1)
    colours = np.stack([np.interp(share, (0, 0.5, 1), channel) for channel in ERRORS.T], -1)
    opacity = OPACITY * (parts[1] > 0.5)[..., None]
    return np.rint((1 - opacity) * gray[..., None] + opacity * colours).astype(np.uint8)


def compare(
    fixed: Any,
    moving: Any,
    transform: Transform,
    fixed_grid: Grid,
    moving_grid: Grid,
    channel_axis: int | str | None = "auto",
    blocks: Blocks | None = None,
) -> np.ndarray:
    """The `overlay` of a registration: before is centre on centre without rotation, after is `transform`.

    `blocks`: the errors measured on blocks of the image, if any, from which the third row is made.

    Raises:
        InputError: an image whose shape is not that of its grid.
    """
    axes = each("channel_axis", channel_axis)
    still, fixed_grid = _registered(fixed, axes[0], fixed_grid, "overlay: expected the fixed image's")
    mover, moving_grid = _registered(moving, axes[1], moving_grid, "overlay: expected the moving image's")
    start = MatrixTransform(translation(moving_grid.centre - fixed_grid.centre))
    dark = float(mover.min())  # fills pixels outside the moving image without changing the quantiles
    sides = [resample(mover, one, moving_grid, fixed_grid, fill=dark, channel_axis=0) for one in (start, transform)]
    error = None if blocks is None else relative_errors(blocks, fixed_grid, moving_grid)
    return overlay(still, sides[0], sides[1], channel_axis=0, spacing=fixed_grid.spacing.flip(0).tolist(), error=error)


def mesh(
    moving: Any, transform: Transform, fixed_grid: Grid, moving_grid: Grid, channel_axis: int | str | None = "auto"
) -> np.ndarray:
    """Lines at equal distances on the moving image, as it is (left) and warped to the fixed grid (right). -> (H, W, 3) uint8

    Raises:
        InputError: an image whose shape is not that of its grid.
    """
    mover, moving_grid = _registered(moving, channel_axis, moving_grid, "mesh: expected the moving image's")
    mover = mover.mean(0, keepdims=True)
    fixed_grid = fixed_grid.resized([min(length, ENOUGH[fixed_grid.ndim]) for length in fixed_grid.shape])
    spacing = moving_grid.spacing.flip(0).tolist()
    cell = float(moving_grid.extent.max()) / MESH
    lines = np.zeros((1, *moving_grid.shape), np.float32)
    for axis, length in enumerate(spacing, 1):
        number = np.floor((np.arange(lines.shape[axis]) + 0.5) * length / cell)
        first = np.flatnonzero(np.diff(number, prepend=-1))
        wide = max(1, round(max(moving_grid.shape) / LONGEST))  # pixels
        lines[(slice(None),) * axis + (np.minimum(first[:, None] + np.arange(wide), lines.shape[axis] - 1).ravel(),)] = 1
    gray = mover.astype(np.float32)
    after = [resample(one, transform, moving_grid, fixed_grid, fill=float(one.min()), channel_axis=0) for one in (gray, lines)]
    pictures = []
    sides = spacing, fixed_grid.spacing.flip(0).tolist()
    for (gray, drawn), lengths in zip(((mover, lines), after), sides, strict=True):
        picture, line = (shrink(_flat(one, 0, lengths, fill=0), LONGEST) for one in (gray, drawn))
        opacity = line[0].clip(0, 1)[..., None]
        pictures.append(np.rint((1 - opacity) * _gray(picture)[..., None] + opacity * LINES).astype(np.uint8))
    height = max(len(one) for one in pictures)
    padded = [np.pad(one, ((0, height - len(one)), (0, 0), (0, 0)), constant_values=WHITE) for one in pictures]
    return _stack(padded, 1)


def relative_errors(blocks: Blocks, fixed: Grid, moving: Grid) -> np.ndarray:
    """The `error_map` in shares of `LARGEST`, for `coloured_errors`."""
    return error_map(blocks, fixed, moving) / (LARGEST * float(moving.size.norm()))


def _few_pixels(channels: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """The image and its grid, reduced by area averaging to at most `ENOUGH` pixels along each side."""
    shape = tuple(min(length, ENOUGH[grid.ndim]) for length in grid.shape)
    if shape == grid.shape:
        return channels, grid
    few = [
        F.interpolate(torch.as_tensor(one.astype(np.float32))[None, None], size=shape, mode="area")[0, 0] for one in channels
    ]
    return torch.stack(few).numpy(), grid.resized(shape)


def thumbnail(
    image: Any, longest: int, channel_axis: int | str | None = "auto", spacing: Sequence[float] | None = None
) -> np.ndarray:
    """A small 8-bit picture of any image: RGB in colour, a volume as three slices, `longest` pixels. -> (H, W, 3)"""
    return _rgb(_coloured(shrink(_flat(image, channel_axis, spacing), longest)))


def shrink(channels: np.ndarray, longest: int) -> np.ndarray:
    """(C, H, W) reduced by area averaging so that its long side has `longest` pixels; smaller images are unchanged."""
    factor = longest / max(channels.shape[1:])
    if factor >= 1:
        return channels
    for axis in (1, 2):
        length = channels.shape[axis]
        edges = np.linspace(0, length, max(1, round(length * factor)) + 1)
        whole = np.minimum(edges.astype(int), length - 1)
        part = (edges - whole).reshape([-1 if a == axis else 1 for a in range(3)])
        sums = np.cumsum(channels, axis, dtype=np.float64)
        values = channels.take(whole, axis)
        upto = sums.take(whole, axis) - values + part * values  # the integral from 0 to each edge
        channels = np.diff(upto, axis=axis) / (edges[1] - edges[0])
    return channels


def _flat(
    image: Any, channel_axis: int | str | None, spacing: Sequence[float] | None = None, fill: float | None = None
) -> np.ndarray:
    """Finite pixels of a picture, channels first: a 2-D image, or three slices of a volume side by side. -> (C, H, W)

    `fill`: value beside the smaller slices, by default the lowest.
    """
    channels = _shown(_load(image, channel_axis))
    lengths = [1.0] * (channels.ndim - 1) if spacing is None else spacing
    if channels.ndim == 3:
        return _square(channels, lengths)
    middle = [length // 2 for length in channels.shape[1:]]
    slices = []
    for axis in range(3):
        others = [length for a, length in enumerate(lengths) if a != axis]
        slices.append(_square(channels.take(middle[axis], axis + 1), others))
    height = max(part.shape[1] for part in slices)
    return np.concatenate([_padded(part, height, fill) for part in slices], 2)


def _load(image: Any, channel_axis: int | str | None) -> Arranged:
    """An image, of a slide a coarser level."""
    return arranged(load(image, "picture", whole=False), channel_axis, "picture", tensor=isinstance(image, Tensor))


def _registered(image: Any, channel_axis: int | str | None, grid: Grid, expected: str) -> tuple[np.ndarray, Grid]:
    """The channels of an image that was registered on `grid`, in few pixels, and their grid.

    Raises:
        InputError: another shape; the message begins with `expected`.
    """
    found = _load(image, channel_axis)
    shape = found.channels.shape[1:]
    given = shape if found.finest is None else found.finest.shape
    if given != grid.shape:
        raise InputError(f"{expected} shape {grid.shape}, got {given}")
    return _few_pixels(_shown(found), grid if found.finest is None else grid.level(shape))


def _shown(image: Arranged) -> np.ndarray:
    """The channels with the lowest of their valid values where they are not finite, or no-data."""
    valid = np.isfinite(image.channels)
    valid = valid if image.mask is None else valid & image.mask
    if valid.all():
        return image.channels
    return np.where(valid, image.channels, image.channels[valid].min() if valid.any() else 0)


def _square(channels: np.ndarray, lengths: Sequence[float]) -> np.ndarray:
    """Repeat rows or columns, so that pixels of unequal `lengths` (array order) become square."""
    for axis, length in enumerate(lengths, 1):
        size = channels.shape[axis]
        places = (np.arange(round(size * length / min(lengths))) * min(lengths) / length).astype(int)
        channels = channels if len(places) == size else channels.take(places.clip(max=size - 1), axis)
    return channels


def _padded(channels: np.ndarray, height: int, fill: float | None) -> np.ndarray:
    missing, value = height - channels.shape[1], channels.min() if fill is None else fill
    return np.pad(channels, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)), constant_values=value)


def _gray(channels: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    return _scaled(channels.mean(0, keepdims=True), limits)[..., 0]


def _coloured(channels: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """RGB as it is, anything else in gray. (C, H, W) -> (H, W, 3 or 1)"""
    return _scaled(channels if len(channels) == 3 else channels.mean(0, keepdims=True), limits)


def _scaled(channels: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """8 bits between `limits`, by default the image's own; one scale for all channels keeps hues. (C, H, W) -> (H, W, C)"""
    low, high = _limits(channels) if limits is None else limits
    scaled = (channels.astype(np.float64) - low) / (high - low)
    return np.moveaxis(np.rint(scaled.clip(0, 1) * WHITE).astype(np.uint8), 0, -1)


def _limits(values: np.ndarray) -> tuple[float, float]:
    values = values.astype(np.float64)
    low, high = map(float, np.quantile(values, QUANTILES))
    if high <= low:  # nearly all pixels are equal
        low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1


def _rgb(picture: np.ndarray) -> np.ndarray:
    return np.broadcast_to(picture if picture.ndim == 3 else picture[..., None], (*picture.shape[:2], 3))


def _stack(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Two pictures in a row (1) or a column (0), white between them."""
    shape = list(parts[0].shape)
    shape[axis] = SEPARATOR
    return np.concatenate([parts[0], np.full(shape, WHITE, np.uint8), parts[1]], axis)
