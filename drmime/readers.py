"""Readers of image files by their endings: pixels, which axes are what, and where they lie.

What a file promises must be there: a damaged one is refused, not read in part. Sizes are compared with the memory before any
is taken. No header leads to another folder.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image, ImageOps

from drmime.errors import InputError
from drmime.grid import Grid
from drmime.headers import check_meta, check_nrrd
from drmime.pixels import Pixels

Reader = Callable[[Path, bool], Pixels]  # of a path, and whether it holds labels

DEFLATE = 1100  # the most that a compressed file can grow
ORTHOGONAL = 1e-3  # the largest cosine of an angle between axes that are taken for orthogonal
LPS = np.diag([-1.0, -1.0, 1.0])  # ITK's and DICOM's world from NIfTI's
DAMAGE = ("invalid page offset", "corrupted", "invalid value offset", "invalid tag offset")  # what tifffile warns of


def memory() -> int:
    """Bytes of this machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 2**34


def fits(path: Path, size: int, packed: bool = False) -> None:
    """Compare the bytes that a header declares with the memory and, of a `packed` file, with what it can hold.

    Raises:
        InputError: more than either.
    """
    if size > memory():
        raise InputError(f"{path}: declares {size / 2**30:.3g} GiB of pixels, this machine has {memory() / 2**30:.3g} GiB")
    if packed and size > DEFLATE * path.stat().st_size + 2**16:
        raise InputError(f"{path}: truncated or damaged: {path.stat().st_size} bytes cannot hold the {size} it declares")


# ---- NumPy and pictures


def read_npy(path: Path, labels: bool) -> Pixels:
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped, so that a size that is not there takes no memory
    fits(path, array.nbytes)
    return Pixels(np.array(array))


def read_picture(path: Path, labels: bool) -> Pixels:
    """Whatever Pillow reads, upright as EXIF says; several frames are a stack."""
    with Image.open(path) as picture:
        frames = getattr(picture, "n_frames", 1)
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


# ---- TIFF


def read_tiff(path: Path, labels: bool) -> Pixels:
    """The first series of a TIFF file; axes and pixel lengths are those that OME or ImageJ metadata state."""
    with _heard() as warnings, tifffile.TiffFile(path, _multifile=False) as file:
        series = file.series[0]
        fits(path, series.nbytes)
        _check_tiff(path, file, series, warnings)
        array, axes = series.asarray(), series.axes
        lengths = _tiff_lengths(file)
    named = [at for at, axis in enumerate(axes) if axis in "SC"]
    if len([at for at in named if array.shape[at] > 1]) > 1:  # RGB planes of several channels: the planes are the channels
        at = axes.index("C")
        array, axes = np.moveaxis(array, at, -2), axes.replace("C", "").replace("S", "") + "C"
        array = array.reshape(*array.shape[:-2], -1)
        named = [len(axes) - 1]
    named = [at for at in named if array.shape[at] > 1] or named
    unnamed = set(axes) & set("QI")
    space = tuple(at for at, axis in enumerate(axes) if axis in ("ZYXQI" if unnamed else "ZYX"))
    channel_axis: int | str | None = named[0] if named else "auto" if unnamed else None
    if channel_axis is None and len(space) < array.ndim:
        channel_axis = "auto"  # an axis of time, say
    if unnamed and not named:
        return Pixels(array)  # nothing is stated
    grid = None
    if lengths and not unnamed:
        grid = Grid.regular([array.shape[at] for at in space], [lengths.get(axes[at], 1.0) for at in space])
    return Pixels(array, grid, space, channel_axis)


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """What tifffile warns of, instead of the screen."""
    logger, said = logging.getLogger("tifffile"), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _check_tiff(path: Path, file: Any, series: Any, warnings: Sequence[str]) -> None:
    """An InputError where pages, or parts of them, are not there: they would be left out, or zeros."""
    if damage := next((line for line in warnings if any(words in line for words in DAMAGE)), None):
        raise InputError(f"{path}: truncated or damaged ({damage})")
    size = path.stat().st_size
    for page in series.pages:
        if page is None:
            raise InputError(f"{path}: refers to planes that it does not hold; save it as one file")
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if any(count == 0 or offset + count > size for offset, count in parts):
            raise InputError(f"{path}: truncated or damaged: a part of its pixels is not in the file")
    expected = _stated_size(file)
    if expected and series.size < expected:
        raise InputError(f"{path}: truncated or damaged: its metadata states {expected} values, got {series.size}")


def _stated_size(file: Any) -> int:
    """Values that OME or ImageJ metadata promise; 0 where they promise nothing."""
    if file.is_ome:
        stated = _ome_pixels(file)
        return int(np.prod([int(stated.get(f"Size{axis}", 1)) for axis in "XYZCT"]))
    told = file.imagej_metadata or {}
    return int(told.get("images", 0)) * int(np.prod(file.pages.first.shape)) if told else 0


def _ome_pixels(file: Any) -> dict[str, Any]:
    """The attributes of the first image's pixels in OME metadata."""
    state = tifffile.xml2dict(file.ome_metadata).get("OME", {}).get("Image", {})
    state = state[0] if isinstance(state, list) else state
    return dict(state.get("Pixels", {}))


def _tiff_lengths(file: Any) -> dict[str, float]:
    """Pixel lengths by axis, in the file's own unit; none where there is no unit of length."""
    if file.is_ome:
        stated = _ome_pixels(file)
        found = {axis: stated.get(f"PhysicalSize{axis}") for axis in "XYZ"}
        return {axis: float(length) for axis, length in found.items() if length is not None and float(length) > 0}
    told = file.imagej_metadata or {}
    if str(told.get("unit", "pixel")).lower() in ("", "pixel", "pixels"):
        return {}
    lengths = {"Z": float(told["spacing"])} if told.get("spacing") else {}
    for axis in "XY":
        tag = file.pages.first.tags.get(f"{axis}Resolution")
        if tag is not None and all(tag.value):
            lengths[axis] = tag.value[1] / tag.value[0]
    return lengths


# ---- medical formats


def read_nifti(path: Path, labels: bool) -> Pixels:
    """NIfTI and Analyze; world is LPS, as in ITK and DICOM. Axes beyond the third are time and channels."""
    nibabel = _package("nibabel")
    return from_nifti(nibabel.load(path), path)


def from_nifti(image: Any, path: Path | None = None) -> Pixels:
    """An image of nibabel's, its scale factors applied."""
    shape = tuple(map(int, image.shape))
    if path is not None:
        fits(path, int(np.prod([float(n) for n in shape])) * image.get_data_dtype().itemsize, packed=path.suffix == ".gz")
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
    fits(path, int(np.prod([float(n) for n in reader.GetSize()])) * reader.GetNumberOfComponents())
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
    return _package("SimpleITK")


def _package(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise InputError(f"medical formats need {name}: pip install 'drmime[medical]'") from error


PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".gif")
READERS: dict[str, Reader] = {
    **dict.fromkeys((".nii", ".nii.gz", ".img", ".hdr"), read_nifti),
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".nhdr", ".dcm"), read_itk),
    **dict.fromkeys((".tif", ".tiff"), read_tiff),
    ".npy": read_npy,
}  # every other ending is a picture's
