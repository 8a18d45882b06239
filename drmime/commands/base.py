"""What every command needs: its result, and checks of where it writes."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drmime.errors import InputError
from drmime.image.ome_zarr import is_zarr
from drmime.image.readers import PICTURES
from drmime.image.tiff import TIFF

ENDINGS = {  # of a warped image, by those of another; one file each, so that it is written whole or not at all
    (".nii", ".nii.gz", ".img", ".hdr", ".dcm"): ".nii.gz",
    (".mha", ".mhd"): ".mha",
    (".nrrd", ".nhdr"): ".nrrd",
    TIFF: ".tif",
    (".npy",): ".npy",
}
VOLUMES = (".nii.gz", ".mha", ".nrrd")


@dataclass(frozen=True)
class Report:
    """The result of a command: `text` for stdout, `problem` for stderr, and the exit status."""

    text: str
    problem: str = ""
    status: int = 0


def writable(folder: Path) -> None:
    """Check that files can be written to `folder`, which may not exist yet; nothing is left there.

    Raises:
        InputError: they cannot.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}. Choose another place.") from error


def check_kept(targets: Sequence[Path], read: Sequence[Path | None]) -> None:
    """Check that no file is written over one that is read.

    Raises:
        InputError: one would be.
    """
    for target in targets:
        for source in read:
            if source is not None and source.exists() and target.exists() and target.samefile(source):
                raise InputError(f"{target}: expected another place than that of a file that is read, which would be lost")


def ending_like(path: Path, otherwise: str) -> str:
    """The ending of a warped image in the format of another image, or `otherwise` for a format without geometry."""
    if is_zarr(path):
        return ".tif"
    if path.is_dir():  # a DICOM series
        return ".nii.gz"
    return next((new for endings, new in ENDINGS.items() if path.name.lower().endswith(endings)), otherwise)


def tiled_name(path: Path) -> str:
    """The name of an image that is warped tile by tile: OME-Zarr for that and for volumes, else TIFF."""
    name = output_name(path)
    stem = name[: len(name) - len(".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix)]
    return stem + (".zarr" if is_zarr(path) or name.endswith(VOLUMES) else ".tif")


def output_name(path: Path) -> str:
    """The name of a warped image of the same format; lossy and unknown formats become PNG and TIFF."""
    lower = path.name.lower()
    ending = ".nii.gz" if lower.endswith(".nii.gz") else path.suffix
    otherwise = ".png" if lower.endswith(PICTURES) and not lower.endswith(".gif") else ".tif"
    return path.name[: len(path.name) - len(ending)] + ending_like(path, otherwise)
