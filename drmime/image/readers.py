"""Readers of image files by their endings: pixels, their axes and their grid.

A truncated or damaged file raises an error instead of being read in part. Declared sizes are checked against the memory before
memory is allocated. A header may not refer to a file in another folder.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from drmime.errors import InputError, package
from drmime.geometry.grid import Grid
from drmime.image.geotiff import read_geotiff
from drmime.image.headers import check_dicom, check_meta, check_nrrd, fits
from drmime.image.pixels import Pixels
from drmime.image.tiff import TIFF

Reader = Callable[[Path, bool], Pixels]  # arguments: the path, and whether the file holds labels

FLOAT_BYTES = 4  # bytes of a float32, the dtype of images in memory
MAX_COSINE = 1e-3  # largest cosine of the angle between axes that count as orthogonal
LPS = np.diag([-1.0, -1.0, 1.0])  # world_from_world: LPS (ITK, DICOM) from RAS (NIfTI)


# ---- NumPy and pictures


def read_npy(path: Path, labels: bool) -> Pixels:
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # memory-mapped, so that a wrong declared size allocates nothing
    fits(path, array.nbytes)
    return Pixels(np.array(array))


def read_picture(path: Path, labels: bool) -> Pixels:
    """Every format of Pillow, rotated as EXIF states; several frames become a stack."""
    with Image.open(path) as picture:
        # further frames of MPO are previews, gain maps or the other stereo image
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
    if len({one.array.shape for one in found}) > 1:  # some frames of a colour stack are gray
        found = [one if one.array.ndim == 3 else Pixels(np.repeat(one.array[..., None], 3, -1)) for one in found]
    array = np.stack([one.array[..., :3] if one.array.ndim == 3 else one.array for one in found])
    return Pixels(array, channel_axis=-1 if array.ndim == 4 else None)


def from_picture(picture: Image.Image, labels: bool = False) -> Pixels:
    """Convert a Pillow image. A palette image gives its colours (one channel if all are gray), or with `labels` its indices."""
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
    """NIfTI and Analyze, by nibabel; world is LPS, as in ITK and DICOM. Axes after the third are time and channels."""
    nibabel = package("nibabel")
    return from_nifti(nibabel.load(path), path)


def from_nifti(image: Any, path: Path | None = None) -> Pixels:
    """Convert a nibabel image, with its scale factors applied; `path`, if given, is checked for its declared size."""
    shape = tuple(map(int, image.shape))
    if path is not None:
        fits(path, math.prod(shape) * image.get_data_dtype().itemsize, packed=path.suffix == ".gz")
    array = np.asanyarray(image.dataobj).T
    axis: int | str | None = "auto" if array.ndim > 3 else None
    space = tuple(range(array.ndim))[-3:]
    if array.dtype.names:  # RGB
        array = np.stack([array[name] for name in array.dtype.names], -1)
        space, axis = tuple(range(array.ndim - 1))[-3:], -1
    elif array.ndim == 5 and array.shape[1] == 1:  # vectors are on the fifth axis; the fourth, of time, has length 1
        array, space, axis = np.moveaxis(array[:, 0], 0, -1), (0, 1, 2), -1
    names = "TZYX" if array.ndim == 4 and axis == "auto" else ""
    known = image.header if hasattr(image.header, "keys") else {}
    codes = [int(known[name]) for name in ("sform_code", "qform_code") if name in known.keys()]  # noqa: SIM118
    stated = any(codes)  # 0: not stated
    return Pixels(array, replace(_lps(image.affine, shape), placed=stated), space, axis, names=names)


def _lps(affine: np.ndarray, shape: Sequence[int]) -> Grid:
    """The grid (LPS) of the first three axes, or of two axes."""
    world = np.array(affine, dtype=np.float64)
    world[:3] = LPS @ world[:3]
    sides = (*shape, 1)[:3]
    grid = placed(tuple(reversed(sides)), world[:3, :3], world[:3, 3])
    return grid.along((1, 2)) if len(shape) == 2 else grid


def placed(shape: tuple[int, ...], linear: np.ndarray, origin: Any, unit: str = "mm") -> Grid:
    """A grid of `shape` (array order) with world_from_index of columns `linear` (D, D), x first, and `origin` (D,), as stated.

    Raises:
        InputError: the axes are not orthogonal, or a pixel length is zero or not finite.
    """
    matrix = np.eye(len(shape) + 1)
    matrix[:-1, :-1], matrix[:-1, -1] = linear, origin
    lengths = np.linalg.norm(linear, axis=0)
    if not np.isfinite(matrix).all() or not (lengths > 0).all():
        raise InputError(f"expected pixels of positive length, got {lengths.tolist()}")
    cosines = (linear / lengths).T @ (linear / lengths) - np.eye(len(shape))
    if np.abs(cosines).max() > MAX_COSINE:
        raise InputError(
            "its axes are sheared (not orthogonal): expected an orthonormal direction. Resample it, or save it without the "
            "shear of its affine (NIfTI: sform)"
        )
    return Grid(shape, torch.as_tensor(matrix), placed=True, unit=unit)


def read_itk(path: Path, labels: bool) -> Pixels:
    """Read MetaImage, NRRD and DICOM by SimpleITK, after checks of the header."""
    sitk = simpleitk()
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError as error:  # ITK would abort the process
        raise InputError("its name is not UTF-8: rename it") from error
    check = CHECKS.get(path.suffix.lower())
    if check is not None:
        check(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    fits(path, math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * FLOAT_BYTES)
    return from_simpleitk(reader.Execute(), sitk)


def from_simpleitk(image: Any, sitk: Any) -> Pixels:
    """Convert a SimpleITK image; `sitk` is the module SimpleITK."""
    array = sitk.GetArrayFromImage(image)
    ndim, several = image.GetDimension(), image.GetNumberOfComponentsPerPixel() > 1
    direction = np.array(image.GetDirection()).reshape(ndim, ndim)[:3, :3]
    spacing, origin = np.array(image.GetSpacing()[:3]), image.GetOrigin()[:3]
    axes = tuple(range(ndim))[-3:]
    grid = placed(tuple(array.shape[at] for at in axes), direction * spacing, origin)
    axis = -1 if several else "auto" if ndim > 3 else None
    names = "TZYX" if ndim == 4 and not several else ""
    return Pixels(array, grid, axes, axis, names=names)


CHECKS = {".dcm": check_dicom, ".mha": check_meta, ".mhd": check_meta, ".nrrd": check_nrrd, ".nhdr": check_nrrd}


def simpleitk() -> Any:
    """The module SimpleITK. Raises: InputError: it is not installed."""
    return package("SimpleITK")


PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".gif")
NIFTI = (".nii", ".nii.gz", ".img", ".hdr")
ITK = (".mha", ".mhd", ".nrrd", ".nhdr", ".dcm")
MEDICAL = (*NIFTI, *ITK)
READERS: dict[str, Reader] = {
    **dict.fromkeys(NIFTI, read_nifti),
    **dict.fromkeys(ITK, read_itk),
    **dict.fromkeys(TIFF, read_geotiff),
    ".npy": read_npy,
}  # files with any other ending are read by `read_picture`
