"""Files: images in, pictures and results out. Whatever is written appears whole or not at all."""

import contextlib
import csv
import gzip
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch

from drmime.errors import InputError, existing_file
from drmime.grid import Grid

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm")
TIFF = (".tif", ".tiff")
TWO_FILES = (".mhd", ".img", ".hdr")  # header and pixels: they cannot appear whole or not at all
DRAFT = ".part-"  # how the name begins of what is being written
STALE = 3600  # seconds after which a draft is nobody's
NIFTI = (".nii", ".nii.gz")
MEDICAL = (*NIFTI, ".mha", ".mhd", ".nrrd", ".dcm", ".img", ".hdr")


def read_image(path: str | Path) -> tuple[np.ndarray, Grid | None]:
    """Pixels in array order and, where the file states one, their grid (world is the file's own: LPS millimetres).

    NumPy's .npy, TIFF, every picture that Pillow reads, and medical formats through SimpleITK (extra `medical`).

    Raises:
        InputError: no such file, not an image, empty or truncated.
    """
    path = existing_file(path, "an image file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    try:
        if _ending(path) in MEDICAL:
            return _read_medical(path)
        if _ending(path) == ".npy":
            return np.load(path, allow_pickle=False), None
        # named, since imageio would else try every plugin it can import on a broken file
        return np.asarray(iio.imread(path, plugin="tifffile" if _ending(path) in TIFF else "pillow")), None
    except InputError:
        raise
    except Exception as error:  # readers raise nearly anything on a broken file
        raise InputError(
            f"{path}: cannot be read as an image; it may be truncated or of another format ({_first_line(error)})"
        ) from error


def _read_medical(path: Path) -> tuple[np.ndarray, Grid]:
    sitk = simpleitk()
    image = sitk.ReadImage(str(path))
    if _ending(path) in NIFTI:
        _whole(path, image)
    array = sitk.GetArrayFromImage(image)
    ndim = image.GetDimension()
    world_from_index = torch.eye(ndim + 1, dtype=torch.float64)
    direction = np.array(image.GetDirection()).reshape(ndim, ndim)
    world_from_index[:-1, :-1] = torch.as_tensor(direction @ np.diag(image.GetSpacing()))
    world_from_index[:-1, -1] = torch.tensor(image.GetOrigin(), dtype=torch.float64)
    return array, Grid(array.shape[:ndim], world_from_index)


def _whole(path: Path, image: Any) -> None:
    """An InputError where a NIfTI file ends before its voxels do: ITK says nothing then, and reads zeros."""
    said = {key: float(image.GetMetaData(key)) for key in ("vox_offset", "bitpix", *(f"dim[{axis}]" for axis in range(8)))}
    voxels = math.prod(said[f"dim[{axis + 1}]"] for axis in range(int(said["dim[0]"])))
    expected = int(said["vox_offset"] + voxels * said["bitpix"] / 8)
    found = path.stat().st_size
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as file:
            found = sum(map(len, iter(lambda: file.read(2**20), b"")))
    if found < expected:
        raise InputError(f"{path}: truncated: expected {expected} bytes, got {found}")


def simpleitk() -> Any:
    """The module, or an InputError that says how to install it."""
    try:
        import SimpleITK
    except ImportError as error:
        raise InputError("medical formats and ITK transforms need SimpleITK: pip install 'drmime[medical]'") from error
    return SimpleITK


def write_image(path: str | Path, array: np.ndarray, grid: Grid | None = None) -> None:
    """Write pixels in the format of the ending; medical formats keep `grid`.

    Raises:
        InputError: an ending that no writer knows, pixels the format cannot hold, or a place that cannot be written.
    """
    path = Path(path)
    suffix = _ending(path)
    if suffix in TWO_FILES:
        raise InputError(f"{path}: {suffix} is one of two files that belong together. Use .mha, .nii.gz or .nrrd.")
    if suffix not in (*MEDICAL, *TIFF, *PICTURES, ".npy"):
        endings = ", ".join([*PICTURES, *TIFF, ".npy", ".nii.gz", ".mha", ".nrrd"])
        raise InputError(f"{path}: expected an image ending ({endings}), got {suffix!r}")
    if suffix in PICTURES and array.ndim > 2 + (array.shape[-1] in (3, 4)):
        raise InputError(f"{path}: {suffix} holds 2-D images, got shape {array.shape}. Use .tif, .npy or a medical format.")

    def write(file: Path) -> None:
        if suffix in MEDICAL:
            _write_medical(file, array, grid)
        elif suffix == ".npy":
            np.save(file, array)
        else:
            pixels = array.astype(np.uint8) * 255 if array.dtype == bool else array
            iio.imwrite(file, pixels, plugin="tifffile" if suffix in TIFF else "pillow")

    try:
        write_atomically(path, write, suffix)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path}: an image of shape {array.shape} and dtype {array.dtype} cannot be written in this format "
            f"({_first_line(error)}). TIFF (.tif) and NumPy (.npy) hold any."
        ) from error


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next((ending for ending in MEDICAL if name.endswith(ending)), path.suffix.lower())


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _write_medical(path: Path, array: np.ndarray, grid: Grid | None) -> None:
    sitk = simpleitk()
    grid = Grid.regular(array.shape) if grid is None else grid
    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array, isVector=array.ndim > grid.ndim)
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.world_from_index[:-1, -1].tolist())
    image.SetDirection((grid.world_from_index[:-1, :-1] / grid.spacing).flatten().tolist())
    sitk.WriteImage(image, str(path))


def write_atomically(path: Path, write: Callable[[Path], None], suffix: str = "") -> None:
    """Let `write` fill a neighbour of `path`, then put it in place in one step; folders are made as needed.

    Raises:
        InputError: the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=DRAFT, suffix=suffix, dir=path.parent)
        os.close(handle)
        draft = Path(name)
        try:
            write(draft)
            with draft.open("rb+") as file:
                os.fsync(file.fileno())  # or a power cut could leave the name without its content
            draft.chmod(0o666 & ~_umask())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:  # not the system's word: a writer that refuses the pixels
            raise
        raise InputError(f"cannot write {path}: {error.strerror}. Choose another place.") from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; half of a character, as in the name of a file that is no text, becomes its escape.

    Raises:
        InputError: the place cannot be written.
    """

    def fill(draft: Path) -> None:
        draft.write_bytes(text.encode("utf-8", "backslashreplace"))

    write_atomically(path, fill)


def sweep(folder: Path) -> None:
    """Delete what writers that were killed have left below `folder`, once it is an hour old."""
    for draft in folder.rglob(f"{DRAFT}*"):
        with contextlib.suppress(OSError):
            if draft.stat().st_mtime < time.time() - STALE:
                draft.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_landmarks(path: str | Path) -> np.ndarray:
    """Points of a CSV with columns x, y[, z], or X, Y[, Z]: pixels, 0-based, pixel centres. -> (N, D)

    Raises:
        InputError: no such file, no such columns, or something that is not a number.
    """
    path = existing_file(path, "a landmark file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            letters = "xyz" if "x" in (reader.fieldnames or []) else "XYZ"
            columns = [name for name in letters if name in (reader.fieldnames or [])]
            if columns not in ([*letters[:2]], [*letters]):
                raise InputError(f"{path}: expected columns x,y[,z], got {reader.fieldnames}")
            points = np.array([[float(row[name]) for name in columns] for row in reader])
    except InputError:
        raise
    except (TypeError, ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise InputError(f"{path}: expected a number in every row of columns x,y[,z] ({error})") from error
    if not np.isfinite(points).all():
        raise InputError(f"{path}: expected finite numbers, got NaN or infinity")
    return points.reshape(-1, len(columns))
