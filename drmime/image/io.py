"""Files: images in, pictures and results out. Whatever is written appears whole or not at all."""

import contextlib
import csv
import os
import platform
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drmime.errors import InputError, existing_file
from drmime.geometry.grid import Grid
from drmime.image.pixels import MOST_CHANNELS, Pixels
from drmime.image.readers import MEDICAL, PICTURES, READERS, read_picture
from drmime.image.writers import WRITERS, channels_last

TWO_FILES = (".mhd", ".nhdr", ".img", ".hdr")  # header and pixels: they cannot appear whole or not at all
DRAFT = ".part-"  # how the name begins of what is being written
PROBED = 2**20  # bytes that are written at once to see whether there is room
STALE = 3600  # seconds after which a draft is nobody's


def read_image(path: str | Path, labels: bool = False) -> Pixels:
    """Pixels in array order and what the file states of their axes; world is the file's own, LPS millimetres of medical ones.

    NumPy's .npy, TIFF (axes and pixel lengths by OME or ImageJ metadata), every picture that Pillow reads, upright as EXIF
    says, and medical formats by nibabel and SimpleITK (extra `medical`). With `labels` a palette's entries stay as they are.

    Raises:
        InputError: no such file, not an image, empty, truncated or damaged, larger than the memory.
    """
    path = existing_file(path, "an image file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    try:
        return READERS.get(_ending(path), read_picture)(path, labels)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    except Exception as error:  # readers raise nearly anything on a broken file
        if "imagecodecs" in str(error):
            raise InputError(f"{path}: this compression needs imagecodecs: pip install 'drmime[tiff]'") from error
        raise InputError(
            f"{path}: cannot be read as an image; it may be truncated or of another format ({_first_line(error)})"
        ) from error


def write_image(path: str | Path, array: np.ndarray, grid: Grid | None = None) -> None:
    """Write pixels in the format of the ending; medical formats and TIFF keep the lengths of `grid`, medical ones its place.

    `array` has the axes of `grid`, and at most one more, for channels.

    Raises:
        InputError: an ending that no writer knows, pixels the format cannot hold, or a place that cannot be written.
    """
    path, array = Path(path), np.asarray(array)
    suffix = _ending(path)
    if suffix in TWO_FILES:
        raise InputError(f"{path}: {suffix} is one of two files that belong together. Use .mha, .nii.gz or .nrrd.")
    if suffix not in WRITERS:
        raise InputError(f"{path}: expected an image ending ({', '.join(WRITERS)}), got {suffix!r}")
    pixels = channels_last(array, grid) if grid is not None and suffix != ".npy" else array
    if suffix in PICTURES and pixels.ndim > 2 + (pixels.shape[-1] in (3, 4)):
        raise InputError(f"{path}: {suffix} holds 2-D images, got shape {array.shape}. Use .tif, .npy or a medical format.")
    write = WRITERS[suffix]
    several = pixels.ndim > 2 and 2 <= pixels.shape[-1] <= MOST_CHANNELS  # as `register` takes it
    place = Grid.regular(pixels.shape[:-1] if several else pixels.shape) if grid is None else grid
    try:
        write_atomically(path, lambda file: write(file, pixels, place), suffix, pixels.nbytes)
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


def write_atomically(path: Path, write: Callable[[Path], None], suffix: str = "", size: int = 0) -> None:
    """Let `write` fill a neighbour of `path`, then put it in place in one step; folders are made as needed.

    `size`: bytes that it is about to take, so that a full disk is told from other troubles of a writer.

    Raises:
        InputError: the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{DRAFT}{_here()}-{os.getpid()}-", suffix=suffix, dir=path.parent)
        os.close(handle)
        draft = Path(name)
        try:
            try:
                write(draft)
            except Exception:  # many writers do not tell a full disk from pixels that they cannot hold
                _probe(draft, size)
                raise
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


def _probe(draft: Path, size: int) -> None:
    """Raises: OSError: so many bytes cannot be written there."""
    with draft.open("wb") as file:  # buffered: a bare write would be cut without a word
        for _ in range(0, size, PROBED):
            file.write(bytes(PROBED))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; half of a character, as in the name of a file that is no text, becomes its escape.

    Raises:
        InputError: the place cannot be written.
    """

    def fill(draft: Path) -> None:
        draft.write_bytes(text.encode("utf-8", "backslashreplace"))

    write_atomically(path, fill)


def sweep(folder: Path, below: bool = False) -> None:
    """Delete what writers that were killed have left in `folder`, or anywhere below it: of this machine at once, else once it
    is an hour old.
    """
    for draft in folder.rglob(f"{DRAFT}*") if below else folder.glob(f"{DRAFT}*"):
        with contextlib.suppress(OSError):
            if draft.stat().st_mtime < time.time() - STALE or _left(draft.name):
                draft.unlink()


def _here() -> str:
    """A word for this machine, which names of files can hold."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _left(name: str) -> bool:
    """Whether the process of this machine that wrote a draft is gone."""
    machine, _, rest = name.removeprefix(DRAFT).partition("-")
    number = rest.partition("-")[0]
    if machine != _here() or not number.isdecimal() or os.name != "posix":
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
