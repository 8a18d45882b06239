"""Images of other packages: their pixels, geometry and masks, taken by what the objects offer.

No package is imported for it: whoever has such an object has imported its package already.
"""

import sys
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drmime.errors import InputError
from drmime.image.pixels import Pixels
from drmime.image.readers import from_nifti, from_picture, from_simpleitk, placed

CHANNELS = ("c", "channel", "channels", "band", "bands", "rgb", "rgba", "component")  # names of a dimension, in small letters
EVEN = 1e-3  # share of a step by which coordinates may be off a regular grid


def from_object(data: Any, role: str, labels: bool = False) -> Pixels:
    """Pixels of an array, a tensor, or an image of itk, SimpleITK, ANTs, nibabel, xarray, Pillow or numpy.ma.

    Raises:
        InputError: none of these, or one that cannot be taken.
    """
    try:
        if isinstance(data, Pixels):
            return data
        if isinstance(data, Tensor):
            return Pixels(_of_tensor(data))
        if isinstance(data, np.ma.MaskedArray):
            return Pixels(np.ma.getdata(data), mask=~np.ma.getmaskarray(data))
        if isinstance(data, Image.Image):
            return from_picture(data, labels)
        for offers, take in OBJECTS:
            if all(hasattr(data, name) for name in offers):
                return take(data)
        return Pixels(_array(data))
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(role) else f"{role} image: {text}") from error
    except Exception as error:  # whatever another package's object raises
        raise InputError(f"{role} image: a {type(data).__name__} that cannot be taken as an array ({error})") from error


def _array(data: Any) -> np.ndarray:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise InputError(f"expected an array, got rows of unequal length ({error})") from error


def _of_tensor(tensor: Tensor) -> np.ndarray:
    """Raises: InputError: a tensor without values, or of another than a dense layout."""
    if tensor.is_meta:
        raise InputError("expected a tensor with values, got one on the device meta")
    if tensor.layout != torch.strided:
        raise InputError(f"expected a dense tensor, got layout {tensor.layout}. Use .to_dense().")
    plain = tensor.detach().cpu()
    plain = plain.dequantize() if plain.is_quantized else plain.resolve_conj().resolve_neg()
    narrow = plain.is_floating_point() and plain.dtype not in (torch.float16, torch.float32, torch.float64)
    return (plain.float() if narrow else plain).numpy()


def _of_simpleitk(image: Any) -> Pixels:
    return from_simpleitk(image, sys.modules[type(image).__module__.partition(".")[0]])


def _of_itk(image: Any) -> Pixels:
    itk = sys.modules["itk"]
    array = np.array(itk.array_view_from_image(image))
    ndim = image.GetImageDimension()
    direction = np.array(itk.array_from_matrix(image.GetDirection()))
    grid = placed(array.shape[:ndim], direction * np.array(image.GetSpacing()), np.array(image.GetOrigin()))
    return Pixels(array, grid, tuple(range(ndim)), -1 if array.ndim > ndim else None)


def _of_ants(image: Any) -> Pixels:
    """Arrays of ANTs have x first, channels last."""
    array, ndim = np.asarray(image.numpy()), image.dimension
    several = array.ndim > ndim
    axes = [*reversed(range(ndim)), *range(ndim, array.ndim)]
    array = np.ascontiguousarray(array.transpose(axes))
    grid = placed(array.shape[:ndim], np.array(image.direction) * np.array(image.spacing), np.array(image.origin))
    return Pixels(array, grid, tuple(range(ndim)), -1 if several else None)


def _of_xarray(data: Any) -> Pixels:
    """Dimensions by name; pixel lengths and place by their coordinates, where they have some."""
    array = np.asarray(data.values)
    named = [at for at, name in enumerate(data.dims) if str(name).lower() in CHANNELS]
    space = [at for at in range(array.ndim) if at not in named]
    for at in [at for at in space if array.shape[at] == 1][: max(0, len(space) - 2)]:
        space.remove(at)  # an empty one, such as a single time
    steps, firsts, stated = [], [], False
    for at in space:
        name = data.dims[at]
        step, first = 1.0, 0.0
        if name in data.coords and array.shape[at] > 1 and np.asarray(data.coords[name].values).dtype.kind in "uif":
            values = np.asarray(data.coords[name].values, dtype=np.float64)
            gaps = np.diff(values)
            step, first, stated = float(gaps.mean()), float(values[0]), True
            if step == 0 or np.abs(gaps - step).max() > EVEN * abs(step):
                raise InputError(f"the coordinates of dimension {name!r} are not evenly spaced: resample it to a regular grid")
        steps.append(step)
        firsts.append(first)
    grid = None
    if stated and len(space) in (2, 3):
        grid = placed(tuple(array.shape[at] for at in space), np.diag(steps[::-1]), firsts[::-1])
    channel_axis: int | str | None = named[0] if named else "auto" if len(space) > 2 and not stated else None
    return Pixels(array, grid, tuple(space) if grid is not None else (), channel_axis)


OBJECTS = (  # what an object must offer, and who takes it then
    (("GetNumberOfComponentsPerPixel", "GetPixelIDTypeAsString", "GetDirection"), _of_simpleitk),
    (("GetLargestPossibleRegion", "GetSpacing", "GetDirection"), _of_itk),
    (("numpy", "spacing", "origin", "direction", "dimension"), _of_ants),
    (("affine", "dataobj", "get_data_dtype"), from_nifti),
    (("dims", "coords", "values"), _of_xarray),
)
