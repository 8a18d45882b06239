"""Read and write images and text. Writing is atomic: a file appears complete or not at all."""

import contextlib
import csv
import io
import os
import platform
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drmime.errors import InputError, existing_file
from drmime.geometry.grid import Grid
from drmime.image.dicom import read_series
from drmime.image.geotiff import open_geotiff
from drmime.image.ome_zarr import is_zarr, open_zarr
from drmime.image.pixels import MOST_CHANNELS, Pixels
from drmime.image.readers import MEDICAL, PICTURES, READERS, read_picture
from drmime.image.source import Source
from drmime.image.tiff import TIFF
from drmime.image.writers import SERIES_WRITERS, WRITERS, channels_last, write_geotiff

TWO_FILES = (".mhd", ".nhdr", ".img", ".hdr")  # header and pixels in separate files, which cannot be written atomically
DRAFT_PREFIX = ".part-"  # prefix of the name of a file while it is being written
PROBE_BYTES = 2**20  # bytes written at a time to test for free space
STALE_SECONDS = 3600  # seconds after which a draft counts as abandoned


def read_image(path: str | Path, labels: bool = False, whole: bool = True) -> Pixels:
    """Read an image file: pixels in array order, their axes and grid as the file states them.

    Formats: NumPy (.npy), TIFF (axes and pixel lengths from OME or ImageJ metadata), GeoTIFF (extra `geo`), whole slides in
    TIFF (.svs, .ndpi, …), OME-Zarr (a folder; extra `slides`), every picture that Pillow reads (rotated as EXIF states), and
    medical formats by nibabel and SimpleITK (extra `medical`; world in LPS millimetres). With `labels` a palette image gives
    its indices, not its colours. Any other folder is read as the one DICOM series in it. If not `whole`, a coarser level of an
    image with several is read, as `Source.reduced`.

    Raises:
        InputError: the file does not exist, is no image, is empty, truncated or damaged, or is larger than the memory.
    """
    return _opened(path, lambda found: _read(found, labels, whole))


def open_source(path: str | Path) -> Source | None:
    """The levels of an image that has several, or is large, to be read by regions; None for any other image.

    Raises:
        InputError: as `read_image`.
    """
    return _opened(path, _source)


def _opened(path: str | Path, read: Callable[[Path], Any]) -> Any:
    """What `read` finds in a file or folder, with its errors as an InputError that names it."""
    is_folder = os.path.isdir(path)
    path = Path(path) if is_folder else existing_file(path, "an image file")
    if path.stat().st_size == 0 and not is_folder:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    try:
        return read(path)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    except Exception as error:  # readers raise many kinds of errors on a damaged file
        if "imagecodecs" in str(error):
            raise InputError(f"{path}: this compression needs imagecodecs: pip install 'drmime[tiff]'") from error
        raise InputError(
            f"{path}: cannot be read as an image; it may be truncated or of another format ({_first_line(error)})"
        ) from error


def _read(path: Path, labels: bool, whole: bool) -> Pixels:
    source = None if whole and not is_zarr(path) else _source(path)
    if source is not None:
        return source.pixels() if whole else source.reduced()
    return read_series(path) if path.is_dir() else READERS.get(_ending(path), read_picture)(path, labels)


def _source(path: Path) -> Source | None:
    if is_zarr(path):
        return open_zarr(path)
    return open_geotiff(path) if path.suffix.lower() in TIFF and path.is_file() else None


def write_image(
    path: str | Path, array: np.ndarray, grid: Grid | None = None, names: str = "", nodata: float | None = None
) -> None:
    """Write pixels in the format of the file's ending.

    Medical formats and TIFF store the spacing of `grid`, medical formats also its origin and direction, TIFF its georeference.
    `array` has the axes of `grid`, and at most one more, for channels; TIFF and NumPy hold any others, NIfTI time. `names`: a
    letter for each axis, as in `Pixels`, if they are known. `nodata`: the value of pixels without one, which GeoTIFF states.

    Raises:
        InputError: an unknown ending, pixels that the format cannot hold, or a path that cannot be written.
    """
    path, array = Path(path), np.asarray(array)
    suffix = _ending(path)
    if suffix in TWO_FILES:
        raise InputError(f"{path}: {suffix} stores header and pixels in two files. Use .mha, .nii.gz or .nrrd.")
    if suffix not in WRITERS:
        raise InputError(f"{path}: expected an image ending ({', '.join(WRITERS)}), got {suffix!r}")
    if grid is not None and grid.crs and suffix in TIFF:
        _write(path, array, suffix, lambda file: write_geotiff(file, array, grid, names, nodata))
        return
    series = grid is not None and (array.ndim > grid.ndim + 1 or "T" in names)
    if grid is not None and suffix in SERIES_WRITERS and (series or (names and suffix in TIFF)):
        _write(path, array, suffix, lambda file: SERIES_WRITERS[suffix](file, array, grid, names))
        return
    if series:
        raise InputError(f"{path}: {suffix} holds one image, got a series of shape {array.shape}. Use .tif, .npy or .nii.gz.")
    pixels = channels_last(array, grid, names) if grid is not None and suffix != ".npy" else array
    if suffix in PICTURES and pixels.ndim > 2 + (pixels.shape[-1] in (3, 4)):
        raise InputError(f"{path}: {suffix} holds 2-D images, got shape {array.shape}. Use .tif, .npy or a medical format.")
    write = WRITERS[suffix]
    several = pixels.ndim > 2 and 2 <= pixels.shape[-1] <= MOST_CHANNELS  # the rule by which `register` finds channels
    place = Grid.regular(pixels.shape[:-1] if several else pixels.shape) if grid is None else grid
    _write(path, array, suffix, lambda file: write(file, pixels, place))


def _write(path: Path, array: np.ndarray, suffix: str, write: Callable[[Path], None]) -> None:
    try:
        write_atomically(path, write, suffix, array.nbytes)
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
    """The first line of an error, of ITK's the one that says what is wrong rather than where it was noticed."""
    lines = (str(error) or type(error).__name__).strip().splitlines()
    return next((line.removeprefix("ITK ERROR: ").strip() for line in lines if line.startswith("ITK ERROR")), lines[0])


def write_atomically(path: Path, write: Callable[[Path], None], suffix: str = "", size: int = 0) -> None:
    """Let `write` fill a temporary file in the folder of `path`, then rename it to `path`; folders are made as needed.

    `size`: expected bytes; after an error that much free space is tested for, to distinguish a full disk from other errors.

    Raises:
        InputError: `path` cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{DRAFT_PREFIX}{_machine_id()}-{os.getpid()}-", suffix=suffix, dir=path.parent)
        os.close(handle)
        draft = Path(name)
        try:
            try:
                write(draft)
            except Exception:  # many writers raise the same error for a full disk and for pixels that they cannot hold
                _check_space(draft, size)
                raise
            with draft.open("rb+") as file:
                os.fsync(file.fileno())  # so that after a power failure the renamed file has its content
            draft.chmod(0o666 & ~_umask())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:  # not from the operating system: the writer refuses the pixels
            raise
        raise InputError(f"cannot write {path}: {error.strerror}. Choose another place.") from error


def _check_space(draft: Path, size: int) -> None:
    """Write `size` bytes to `draft`. Raises: OSError: there is not enough space."""
    with draft.open("wb") as file:  # buffered: an unbuffered write may write fewer bytes without an error
        for _ in range(0, size, PROBE_BYTES):
            file.write(bytes(PROBE_BYTES))


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8; lone surrogates, as in file names that are not UTF-8, are written as escapes.

    Raises:
        InputError: `path` cannot be written.
    """

    def fill(draft: Path) -> None:
        draft.write_bytes(text.encode("utf-8", "backslashreplace"))

    write_atomically(path, fill)


def write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows of cells as CSV.

    Raises:
        InputError: `path` cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def remove_numbered(folder: Path, first: int) -> None:
    """Delete the JSON files in a folder whose names are numbers from `first` on, of an earlier run with more images."""
    for file in folder.glob("*.json"):
        if file.stem.isdecimal() and int(file.stem) >= first:
            file.unlink()


def sweep(folder: Path, below: bool = False) -> None:
    """Delete drafts that killed writers have left in `folder`, or anywhere `below` it.

    Drafts of ended processes of this machine are deleted at once, others when they are an hour old.
    """
    for draft in folder.rglob(f"{DRAFT_PREFIX}*") if below else folder.glob(f"{DRAFT_PREFIX}*"):
        with contextlib.suppress(OSError):
            if draft.stat().st_mtime < time.time() - STALE_SECONDS or _is_abandoned(draft.name):
                draft.unlink()


def _machine_id() -> str:
    """An identifier of this machine that is valid in file names."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_abandoned(name: str) -> bool:
    """Whether a draft is from this machine and the process that wrote it has ended."""
    machine, _, rest = name.removeprefix(DRAFT_PREFIX).partition("-")
    number = rest.partition("-")[0]
    if machine != _machine_id() or not number.isdecimal() or os.name != "posix":
        return False
    try:
        os.kill(int(number), 0)
    except (OSError, OverflowError) as error:
        return isinstance(error, ProcessLookupError)
    return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
