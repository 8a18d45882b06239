"""Readers of image files by their endings: pixels, which axes are what, and where they lie.

What a file promises must be there: a damaged one is refused, not read in part. Sizes are compared with the memory before any
is taken. No header leads to another folder.
"""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.headers import check_meta, check_nrrd, fits
from drmime.image.pixels import Pixels
from drmime.image.tiff import read_tiff

Reader = Callable[[Path, bool], Pixels]  # of a path, and whether it holds labels

FLOAT = 4  # bytes of a number as it is worked on
ORTHOGONAL = 1e-3  # the largest cosine of an angle between axes that are taken for orthogonal
LPS = np.diag([-1.0, -1.0, 1.0])  # ITK's and DICOM's world from NIfTI's


# ---- NumPy and pictures


def read_npy(path: Path, labels: bool) -> Pixels:
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped, so that a size that is not there takes no memory
    fits(path, array.nbytes)
    return Pixels(np.array(array))


def read_picture(path: Path, labels: bool) -> Pixels:
    """Whatever Pillow reads, upright as EXIF says; several frames are a stack."""
    with Image.open(path) as picture:
        # further frames of MPO are previews, gain maps, the other eye
        frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        if frames > 1 and labels:
            raise InputError(f"{path}: expected one frame of labels, got {frames}. Save each by itself.")
        fits(path, picture.width * picture.height * 4 * frames)
        found = []
        for number in range(frames):
            if frames > 1:
                picture.seek(number)
            found.append(from_picture(picture, labels))
    if frames == 1:
        return found[0]
    if len({one.array.shape for one in found}) > 1:  # frames that are gray by chance
        found = [one if one.array.ndim == 3 else Pixels(np.repeat(one.array[..., None], 3, -1)) for one in found]
    array = np.stack([one.array[..., :3] if one.array.ndim == 3 else one.array for one in found])
    return Pixels(array, channel_axis=-1 if array.ndim == 4 else None)


def from_picture(picture: Image.Image, labels: bool = False) -> Pixels:
    """A picture of Pillow's; a palette stands for its colours, gray ones in one channel, or with `labels` for its entries."""
    mode = picture.mode
    upright = ImageOps.exif_transpose(picture)
    if mode in ("P", "PA") and not labels:
        upright = upright.convert("RGBA" if mode == "PA" or "transparency" in picture.info else "RGB")
        colours = np.asarray(upright)
        if (colours[..., :1] == colours[..., :3]).all() and (colours[..., 3:] == 255).all():
            return Pixels(colours[..., 0].copy(), channel_axis=None)
    elif mode == "PA":
        upright = upright.getchannel(0)
    elif mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        upright = upright.convert("RGB")
    array = np.array(upright)
    return Pixels(array, channel_axis=-1 if array.ndim == 3 else None)


# ---- medical formats


def read_nifti(path: Path, labels: bool) -> Pixels:
    """NIfTI and Analyze; world is LPS, as in ITK and DICOM. Axes beyond the third are time and channels."""
    nibabel = package("nibabel")
    return from_nifti(nibabel.load(path), path)


def from_nifti(image: Any, path: Path | None = None) -> Pixels:
    """An image of nibabel's, its scale factors applied."""
    shape = tuple(map(int, image.shape))
    if path is not None:
        fits(path, math.prod(shape) * image.get_data_dtype().itemsize, packed=path.suffix == ".gz")
    array = np.asanyarray(image.dataobj).T
    if array.dtype.names:  # of RGB
        array = np.stack([array[name] for name in array.dtype.names], -1)
        return Pixels(array, _lps(image.affine, shape), tuple(range(array.ndim - 1))[-3:], -1)
    space = tuple(range(array.ndim))[-3:]
    if array.ndim == 5 and array.shape[1] == 1:  # vectors are on the fifth axis, and none on that of time
        return Pixels(np.moveaxis(array[:, 0], 0, -1), _lps(image.affine, shape), (0, 1, 2), -1)
    return Pixels(array, _lps(image.affine, shape), space, "auto" if array.ndim > 3 else None)


def _lps(affine: np.ndarray, shape: Sequence[int]) -> Grid:
    """The grid of the first three axes, or of two."""
    world = np.array(affine, dtype=np.float64)
    world[:3] = LPS @ world[:3]
    sides = (*shape, 1)[:3]
    grid = placed(tuple(reversed(sides)), world[:3, :3], world[:3, 3])
    return grid.along((1, 2)) if len(shape) == 2 else grid


def placed(shape: tuple[int, ...], linear: np.ndarray, origin: Any) -> Grid:
    """A grid (array order) whose index axes, x first, are columns of `linear`.

    Raises:
        InputError: sheared axes, or pixels without a length.
    """
    matrix = np.eye(len(shape) + 1)
    matrix[:-1, :-1], matrix[:-1, -1] = linear, origin
    lengths = np.linalg.norm(linear, axis=0)
    if not np.isfinite(matrix).all() or not (lengths > 0).all():
        raise InputError(f"expected pixels of positive length, got {lengths.tolist()}")
    cosines = (linear / lengths).T @ (linear / lengths) - np.eye(len(shape))
    if np.abs(cosines).max() > ORTHOGONAL:
        raise InputError(
            "its axes are sheared (not orthogonal): expected an orthonormal direction. Resample it, or save it without the "
            "shear of its affine (NIfTI: sform)"
        )
    return Grid(shape, torch.as_tensor(matrix))


def read_itk(path: Path, labels: bool) -> Pixels:
    """MetaImage, NRRD and DICOM, by SimpleITK."""
    sitk = simpleitk()
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError as error:  # ITK ends the process
        raise InputError("its name is not UTF-8: rename it") from error
    check = CHECKS.get(path.suffix.lower())
    if check is not None:
        check(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    fits(path, math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * FLOAT)
    return from_simpleitk(reader.Execute(), sitk)


def from_simpleitk(image: Any, sitk: Any) -> Pixels:
    """An image of SimpleITK's; `sitk` is its module."""
    array = sitk.GetArrayFromImage(image)
    ndim, several = image.GetDimension(), image.GetNumberOfComponentsPerPixel() > 1
    direction = np.array(image.GetDirection()).reshape(ndim, ndim)[:3, :3]
    spacing, origin = np.array(image.GetSpacing()[:3]), image.GetOrigin()[:3]
    axes = tuple(range(ndim))[-3:]
    grid = placed(tuple(array.shape[at] for at in axes), direction * spacing, origin)
    return Pixels(array, grid, axes, -1 if several else "auto" if ndim > 3 else None)


CHECKS = {".mha": check_meta, ".mhd": check_meta, ".nrrd": check_nrrd, ".nhdr": check_nrrd}


def simpleitk() -> Any:
    """The module, or an InputError that says how to install it."""
    return package("SimpleITK")


def package(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise InputError(f"medical formats need {name}: pip install 'drmime[medical]'") from error


PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".gif")
NIFTI = (".nii", ".nii.gz", ".img", ".hdr")
ITK = (".mha", ".mhd", ".nrrd", ".nhdr", ".dcm")
MEDICAL = (*NIFTI, *ITK)
READERS: dict[str, Reader] = {
    **dict.fromkeys(NIFTI, read_nifti),
    **dict.fromkeys(ITK, read_itk),
    **dict.fromkeys((".tif", ".tiff"), read_tiff),
    ".npy": read_npy,
}  # every other ending is a picture's
