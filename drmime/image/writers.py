"""Writers of image files by their endings, such that other programs read back the same axes, pixel lengths and world."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from drmime.errors import InputError, package
from drmime.geometry.grid import Grid
from drmime.image.geotiff import geo_tags
from drmime.image.readers import LPS, PICTURES, read_itk, simpleitk

Writer = Callable[[Path, np.ndarray, Grid], None]  # arguments: path, pixels (channels last), grid of the spatial axes
SeriesWriter = Callable[[Path, np.ndarray, Grid, str], None]  # pixels with any axes, and their letters, "" if not known

MILLIMETRES = {"µm": 1e-3, "m": 1e3}  # in other units than millimetres
OME_UNITS = ("µm", "mm", "m")
OME_KINDS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def write_nifti(path: Path, array: np.ndarray, grid: Grid, time: bool = False) -> None:
    """Write NIfTI by nibabel: the world is LPS in `grid`, RAS in the file, in mm; channels are a vector on the fifth axis.

    `time`: the first axis of `array` is time, which goes to the fourth axis.
    """
    nibabel = package("nibabel")
    affine = np.eye(4)
    ndim = grid.ndim
    matrix = _millimetres(grid)
    affine[:ndim, :ndim], affine[:ndim, 3] = matrix[:-1, :-1], matrix[:-1, -1]
    affine[:3] = LPS @ affine[:3]
    pixels = _plain(array)
    if pixels.dtype == np.float16:
        pixels = pixels.astype(np.float32)
    several = pixels.ndim > ndim and not time
    pixels = np.moveaxis(pixels, -1, 0).T if several else pixels.T  # x first, time or channels last
    if time:
        pixels = pixels.reshape(*pixels.shape[:ndim], *[1] * (3 - ndim), pixels.shape[-1])
    elif several:
        pixels = pixels.reshape(*pixels.shape[:ndim], *[1] * (4 - ndim), pixels.shape[-1])
    image = nibabel.Nifti1Image(pixels, affine, dtype=pixels.dtype)
    if several:
        image.header.set_intent("vector")
    image.header.set_xyzt_units("mm")
    if time:
        image.header["pixdim"][4] = 0  # the time step is not known
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nibabel.save(image, path)


def write_itk(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Write MetaImage, NRRD or DICOM by SimpleITK, and read the file back, since SimpleITK does not notice a full disk."""
    sitk = simpleitk()
    pixels = _plain(array)
    image = sitk.GetImageFromArray(pixels, isVector=array.ndim > grid.ndim)
    matrix = _millimetres(grid)
    spacing = np.linalg.norm(matrix[:-1, :-1], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:-1, -1].tolist())
    image.SetDirection((matrix[:-1, :-1] / spacing).flatten().tolist())
    sitk.WriteImage(image, str(path))
    try:
        same = np.array_equal(read_itk(path, False).array.reshape(pixels.shape), pixels, equal_nan=pixels.dtype.kind == "f")
    except (InputError, RuntimeError, ValueError):
        same = False
    if not same and path.suffix != ".dcm":  # DICOM may be stored with lossy conversion
        raise OSError(28, "what was written does not read back the same; the disk may be full")


def write_tiff(path: Path, array: np.ndarray, grid: Grid, names: str = "") -> None:
    """Write OME-TIFF if a pixel length has a unit or is not 1, or there is time, and OME knows the axes and the dtype.

    Else plain TIFF is written.

    `names`: letters of the axes, as in `Pixels`; without them channels come last.
    """
    pixels = array.astype(np.uint8) * 255 if array.dtype == bool else array
    others = pixels.ndim - grid.ndim
    bytes_or_words = pixels.dtype in (np.uint8, np.uint16)
    letter = "S" if bytes_or_words and pixels.shape[-1] in (3, 4) else "C"
    axes = names or ("Q" * others if others > 1 else "") + "ZYX"[-grid.ndim :] + letter * (others == 1)
    colour = axes.endswith("S") and bytes_or_words and pixels.shape[-1] in (3, 4)
    wanted = "T" in axes or has_lengths(grid)
    ome = wanted and grid.ndim < 4 and pixels.dtype in OME_KINDS and set(axes) <= set("TCZYXS")
    if ome and axes[-1] in "CS" and not names:  # OME states lengths for planes one after the other
        pixels, axes, colour = np.moveaxis(pixels, -1, 0), "C" + axes[:-1], False
    metadata = {"axes": axes, **(ome_lengths(grid) if ome else {})} if grid.ndim < 4 else {}
    tifffile.imwrite(path, pixels, ome=ome, photometric="rgb" if colour else "minisblack", metadata=metadata)


def write_geotiff(path: Path, array: np.ndarray, grid: Grid, names: str = "", nodata: float | None = None) -> None:
    """Write TIFF with the georeference of `grid`, in one page, whose bands are stored as `names` has them, else last.

    Raises:
        InputError: more axes than one of bands, or rasterio is not installed.
    """
    pixels = array.astype(np.uint8) * 255 if array.dtype == bool else array
    pixels = pixels if pixels.shape == grid.shape else channels_last(pixels, grid, names)
    bands = pixels.shape[2] if pixels.ndim > 2 else 1
    first = bands > 1 and names[:1] in ("C", "S", "Z", "T")
    colour = pixels.dtype in (np.uint8, np.uint16) and bands in (3, 4) and (names == "YXS" or (not names and bands == 3))
    options: dict[str, Any] = {"planarconfig": "separate" if first else "contig"} if bands > 1 else {}
    if bands > 1:
        options["extrasamples"] = ["unassalpha"] * (bands - 3) if colour else [0] * (bands - 1)
    tifffile.imwrite(
        path,
        np.moveaxis(pixels, 2, 0) if first else pixels,
        photometric="rgb" if colour else "minisblack",
        metadata=None,
        extratags=geo_tags(grid, nodata),
        **options,
    )


def has_lengths(grid: Grid) -> bool:
    """Whether pixel lengths are to be stated: OME would take a length of 1 without a unit for a micrometre."""
    return grid.unit in OME_UNITS or (not grid.unit and any(length != 1 for length in grid.spacing.tolist()))


def ome_lengths(grid: Grid) -> dict[str, Any]:
    """Pixel lengths and their unit as OME metadata state them."""
    lengths = {f"PhysicalSize{axis}": length for axis, length in zip("XYZ", grid.spacing.tolist(), strict=False)}
    return lengths | ({f"{name}Unit": grid.unit for name in lengths} if grid.unit else {})


def write_nifti_series(path: Path, array: np.ndarray, grid: Grid, names: str) -> None:
    """Write NIfTI with time on the fourth axis."""
    if names != "T" + "ZYX"[-grid.ndim :]:
        raise InputError(f"{path}: NIfTI holds one axis of time besides the spatial ones, got shape {array.shape}. Use .tif.")
    write_nifti(path, array, grid, time=True)


def write_npy(path: Path, array: np.ndarray, grid: Grid, names: str = "") -> None:
    np.save(path, array)


def write_picture(path: Path, array: np.ndarray, grid: Grid) -> None:
    pixels = array.astype(np.uint8) * 255 if array.dtype == bool else array
    if pixels.dtype not in (np.uint8, np.uint16):  # some versions of Pillow write 32 bits as 16
        raise TypeError(f"holds 8 or 16 bits, got {pixels.dtype}")
    import imageio.v3 as iio  # imported here: a registration of arrays writes no picture and need not load it

    iio.imwrite(path, pixels, plugin="pillow")


def channels_last(array: np.ndarray, grid: Grid, names: str = "") -> np.ndarray:
    """Move the channels of an array behind the axes of `grid`; remove an additional axis of length 1.

    Raises:
        InputError: the shape of the array without one of its axes is not that of `grid`.
    """
    shape = grid.shape
    stated = [at for at, name in enumerate(names) if name not in "ZYX"]
    if array.shape == shape or (array.shape[:-1] == shape and not stated):
        return array
    for axis in stated or range(array.ndim):
        if array.shape[:axis] + array.shape[axis + 1 :] == shape:
            return array.squeeze(axis) if array.shape[axis] == 1 else np.moveaxis(array, axis, -1)
    raise InputError(f"expected an array of shape {shape}, and channels, got {array.shape}")


def _millimetres(grid: Grid) -> np.ndarray:
    """world_from_index of a grid; micrometres and metres are converted to millimetres, the unit of medical formats."""
    matrix = grid.world_from_index.numpy().copy()
    matrix[:-1] *= MILLIMETRES.get(grid.unit, 1)
    return matrix


def _plain(array: np.ndarray) -> np.ndarray:
    return array.astype(np.uint8) if array.dtype == bool else np.ascontiguousarray(array)


WRITERS: dict[str, Writer] = {
    **dict.fromkeys([ending for ending in PICTURES if ending != ".gif"], write_picture),
    **dict.fromkeys((".tif", ".tiff"), write_tiff),
    ".npy": write_npy,
    **dict.fromkeys((".nii", ".nii.gz"), write_nifti),
    **dict.fromkeys((".mha", ".nrrd", ".dcm"), write_itk),
}
SERIES_WRITERS: dict[str, SeriesWriter] = {
    **dict.fromkeys((".tif", ".tiff"), write_tiff),
    **dict.fromkeys((".nii", ".nii.gz"), write_nifti_series),
    ".npy": write_npy,
}  # images whose axes are known by name, of time among them, or with several that are not spatial
