"""`as_image`: the one place where input images are checked. Code that receives its result does not check it again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError, numbers
from drmime.geometry.grid import Grid
from drmime.image.image import SMALLEST_SIDE, Image
from drmime.image.io import read_image
from drmime.image.objects import from_object
from drmime.image.pixels import Pixels, arranged, chosen


def as_image(
    data: Any,
    *,
    role: str = "given",
    mask: Any = None,
    spacing: Sequence[float] | None = None,
    channel_axis: int | str | None = "auto",
    channel: int | None = None,
    nan: str = "error",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Image:
    """Check one image of 2 or 3 spatial dimensions and convert it to an `Image` with B = 1.

    `data`: a path, array, tensor, `Image`, `Pixels`, or an image of itk, SimpleITK, ANTs, nibabel, xarray, Pillow or numpy.ma.

    Args:
        role: the name of the image in error messages.
        mask: array or path, of the image's spatial shape; nonzero is valid. It is intersected with the image's own mask.
        spacing: pixel lengths in array order; by default those of the file or object, else 1.
        channel_axis: the axis of the channels; None for no channels; "auto": the axis that the file or object states, else
            the last axis (of a tensor the first) of three or more if its length is 2 to 4, else an axis of length 1.
        channel: the number of the one channel to compare; None for all.
        nan: "error", or "mask" to mask NaN and infinite pixels.

    Raises:
        InputError: the data cannot be registered; the message gives the reason in one sentence.

    Example:
        >>> image = as_image(np.random.default_rng(0).random((20, 30, 3)), spacing=(0.5, 0.5))
        >>> image.grid.shape, image.data.shape
        ((20, 30), torch.Size([1, 3, 20, 30]))
    """
    channel_axis = "auto" if isinstance(data, Image) else channel_axis  # an Image has its own channel axis
    source = arranged(load(data, role, whole=False), channel_axis, role, isinstance(data, Tensor), SMALLEST_SIDE)
    array = chosen(source.channels, channel, role)
    finest = None if source.finest is None else _grid(source.finest.shape, spacing, source.finest, role)
    grid = finest.level(array.shape[1:]) if finest else _grid(array.shape[1:], spacing, source.grid, role)
    with np.errstate(over="ignore"):  # values that overflow become infinite and are reported below
        array = np.array(array, dtype=np.float64 if dtype == torch.float64 else np.float32, order="C")  # always a copy
    pixels = torch.as_tensor(array, device=device)[None]
    inside = mask_of(mask, array.shape[1:], role, finest)
    if isinstance(data, Image) and data.mask is not None:
        known = data.mask[0, 0].cpu().numpy() > 0
        inside = known if inside is None else inside & known
    own: np.ndarray | None = None if source.mask is None else np.all(chosen(source.mask, channel, role), 0)
    if own is not None:
        inside = own if inside is None else inside & own
    finite = np.isfinite(array).all(0)
    if own is not None:  # pixels outside the image's own mask may hold any value
        pixels = torch.where(torch.as_tensor(own, device=device), pixels, 0)
        finite |= ~own
    if not finite.all():
        if nan != "mask":
            raise InputError(
                f"{role} image: expected finite values, got {int((~finite).sum())} pixels with NaN or infinity. "
                'Repair them, or pass nan="mask" (--nan mask) to leave them out.'
            )
        inside = finite if inside is None else inside & finite
        pixels = torch.where(torch.as_tensor(finite, device=device), pixels, 0)
    weights = None if inside is None else torch.as_tensor(inside, device=device).to(dtype)[None, None]
    image = Image(pixels, grid, weights, finest, source.note)
    _check_content(image, role)
    return image


def load(data: Any, role: str, labels: bool = False, whole: bool = True) -> Pixels:
    """The pixels of a path, array, tensor, `Image` or image of another package; if not `whole`, of a slide a coarser level.

    Raises:
        InputError: it cannot be read, or its dtype is not bool, integer or real.
    """
    data = _from_image(data, role) if isinstance(data, Image) else data
    pixels = read_image(data, labels, whole) if isinstance(data, (str, Path)) else from_object(data, role, labels)
    if pixels.array.dtype.kind not in "buif":
        raise InputError(
            f"{role} image: expected bool, integer or real numbers, got dtype {pixels.array.dtype}. Convert it first."
        )
    return pixels


def _from_image(image: Image, role: str) -> Pixels:
    """The pixels and grid of an `Image` with B = 1, without its mask: values outside it are checked like all others."""
    if len(image.data) != 1:
        raise InputError(f"{role} image: expected an Image of one, got a batch of {len(image.data)}. Pass a list of images.")
    pixels = image.data[0].detach().cpu()
    pixels = pixels if pixels.dtype == torch.float64 else pixels.float()
    return Pixels(pixels.numpy(), image.grid, tuple(range(1, image.grid.ndim + 1)), 0, finest=image.finest, note=image.note)


def _grid(shape: Sequence[int], spacing: Sequence[float] | None, grid: Grid | None, role: str) -> Grid:
    if spacing is None:
        return Grid.regular(shape) if grid is None else grid
    form = f"{len(shape)} positive lengths in array order"
    lengths = np.atleast_1d(numbers(f"{role} spacing", spacing, form))
    if lengths.shape != (len(shape),) or not ((lengths > 1e-12) & (lengths < 1e12)).all():
        raise InputError(f"{role} spacing: expected {form}, got {spacing!r}")
    return Grid.regular(shape, lengths.tolist())


def mask_of(mask: Any, shape: tuple[int, ...], role: str, finest: Grid | None = None) -> np.ndarray | None:
    """Which pixels an array or file selects, those that are not 0, for an image of this shape; None for None.

    The mask of a coarser level of an image (`finest`: the grid of its finest one) may have any number of pixels over the same
    extent.

    Raises:
        InputError: another shape, or no such pixel.
    """
    if mask is None:
        return None
    array = load(mask, f"{role} mask of the", labels=True, whole=finest is None).array
    if finest is not None and array.ndim == len(shape) and _same_extent(finest.shape, array.shape):
        places = [((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, array.shape, strict=True)]
        array = array[np.ix_(*places)]
    if array.shape != shape:
        empty = tuple(at for at, length in enumerate(array.shape) if length == 1)
        if isinstance(mask, (list, tuple)) or array.squeeze(empty).shape != shape:
            raise InputError(f"{role} mask: expected the image's shape {shape}, got {array.shape}")
        array = array.squeeze(empty)
    inside = (array != 0) & np.isfinite(array)
    if not inside.any():
        raise InputError(f"{role} mask: expected at least one nonzero pixel, got none")
    return inside


def _same_extent(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes have the same proportions, to two pixels."""
    ratios = np.divide(one, other)
    return bool(ratios.max() <= ratios.min() * (1 + 2 / min(*one, *other)))


def _check_content(image: Image, role: str) -> None:
    values = image.data.flatten(2)
    if image.mask is not None:
        if not image.mask.any():
            raise InputError(f"{role} image: no valid pixel is left inside the mask")
        values = values[..., image.mask.flatten() > 0]
    if bool((values.amin(-1) == values.amax(-1)).all()):
        where, ask = ("everywhere", "image") if image.mask is None else ("under its mask", "mask")
        value = float(values[0, 0, 0])
        raise InputError(f"{role} image: expected some contrast, got one value ({value:g}) {where}; is this the right {ask}?")
