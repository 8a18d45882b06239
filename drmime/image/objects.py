"""Convert image objects of other packages to `Pixels`: values, geometry and mask.

Objects are recognised by their attributes. No package is imported: a caller that has such an object has imported it already.
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

CHANNELS = ("c", "channel", "channels", "band", "bands", "rgb", "rgba", "component")  # lower-case names of a channel dimension
SPACING_TOLERANCE = 1e-3  # largest deviation of a coordinate step from the mean step, as a share of it


def from_object(data: Any, role: str, labels: bool = False) -> Pixels:
    """Convert an array, a tensor, or an image of itk, SimpleITK, ANTs, nibabel, xarray, Pillow or numpy.ma.

    Raises:
        InputError: the object is none of these or cannot be converted; the message begins with `role`.
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
    except Exception as error:  # objects of other packages may raise any error
        raise InputError(f"{role} image: a {type(data).__name__} that cannot be converted to an array ({error})") from error


def _array(data: Any) -> np.ndarray:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise InputError(f"expected an array, got rows of unequal length ({error})") from error


def _of_tensor(tensor: Tensor) -> np.ndarray:
    """Raises: InputError: the tensor has no values (device meta) or is not dense."""
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
    """ANTs stores arrays with x first and channels last."""
    array, ndim = np.asarray(image.numpy()), image.dimension
    several = array.ndim > ndim
    axes = [*reversed(range(ndim)), *range(ndim, array.ndim)]
    array = np.ascontiguousarray(array.transpose(axes))
    grid = placed(array.shape[:ndim], np.array(image.direction) * np.array(image.spacing), np.array(image.origin))
    return Pixels(array, grid, tuple(range(ndim)), -1 if several else None)


def _of_xarray(data: Any) -> Pixels:
    """Channels are found by the name of their dimension; spacing and origin by coordinates, where there are any."""
    array = np.asarray(data.values)
    named = [at for at, name in enumerate(data.dims) if str(name).lower() in CHANNELS]
    space = [at for at in range(array.ndim) if at not in named]
    for at in [at for at in space if array.shape[at] == 1][: max(0, len(space) - 2)]:
        space.remove(at)  # of length 1, such as a single time point
    steps, firsts, stated = [], [], False
    for at in space:
        name = data.dims[at]
        step, first = 1.0, 0.0
        if name in data.coords and array.shape[at] > 1 and np.asarray(data.coords[name].values).dtype.kind in "uif":
            values = np.asarray(data.coords[name].values, dtype=np.float64)
            gaps = np.diff(values)
            step, first, stated = float(gaps.mean()), float(values[0]), True
            if step == 0 or np.abs(gaps - step).max() > SPACING_TOLERANCE * abs(step):
                raise InputError(f"the coordinates of dimension {name!r} are not evenly spaced: resample it to a regular grid")
        steps.append(step)
        firsts.append(first)
    grid = None
    if stated and len(space) in (2, 3):
        grid = placed(tuple(array.shape[at] for at in space), np.diag(steps[::-1]), firsts[::-1], "")
    channel_axis: int | str | None = named[0] if named else "auto" if len(space) > 2 and not stated else None
    return Pixels(array, grid, tuple(space) if grid is not None else (), channel_axis)


OBJECTS = (  # the attributes of a kind of object, and its converter
    (("GetNumberOfComponentsPerPixel", "GetPixelIDTypeAsString", "GetDirection"), _of_simpleitk),
    (("GetLargestPossibleRegion", "GetSpacing", "GetDirection"), _of_itk),
    (("numpy", "spacing", "origin", "direction", "dimension"), _of_ants),
    (("affine", "dataobj", "get_data_dtype"), from_nifti),
    (("dims", "coords", "values"), _of_xarray),
)
