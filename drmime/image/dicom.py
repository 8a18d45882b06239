"""Read a folder that holds one DICOM series: its slices in order of place, as a volume; world is LPS millimetres."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drmime.errors import InputError
from drmime.image.headers import check_dicom, fits
from drmime.image.pixels import Pixels
from drmime.image.readers import FLOAT_BYTES, from_simpleitk, simpleitk

POSITION, ORIENTATION = "0020|0032", "0020|0037"  # tags: place of the first pixel, directions of row and column
PREAMBLE = b"DICM"  # after 128 bytes of each file
UNEVEN = 0.01  # largest deviation of a distance between slices from their median, as a share of it


def read_series(folder: Path) -> Pixels:
    """The volume of the one DICOM series in a folder.

    Raises:
        InputError: no series, several of them, slices that are missing or not evenly spaced, or a file that cannot be read.
    """
    sitk = simpleitk()
    told = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # GDCM prints a line for every file that is not DICOM
    try:
        for path in folder.iterdir():  # GDCM leaves out what it cannot read
            if path.is_file() and _is_dicom(path):
                check_dicom(path)
        series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if len(series) != 1:
            counts = [len(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), one)) for one in series]
            found = f"{len(series)} of {', '.join(map(str, counts))} files" if series else "none"
            raise InputError(f"{folder}: expected an image file, or a folder with one DICOM series, got a folder with {found}")
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
        _check_slices(folder, names, sitk)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        return from_simpleitk(reader.Execute(), sitk)
    except RuntimeError as error:
        raise InputError(f"{folder}: its DICOM series cannot be read ({str(error).strip().splitlines()[-1]})") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(told)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PREAMBLE) + 128)[128:] == PREAMBLE


def _check_slices(folder: Path, names: Sequence[str], sitk: Any) -> None:
    """Raise an InputError if slices are not evenly spaced, which ITK reads as if they were, or do not fit the memory."""
    reader, places, size = sitk.ImageFileReader(), [], 0
    for name in names:
        reader.SetFileName(name)
        reader.ReadImageInformation()
        size += int(np.prod(reader.GetSize())) * reader.GetNumberOfComponents() * FLOAT_BYTES
        if reader.HasMetaDataKey(POSITION) and reader.HasMetaDataKey(ORIENTATION):
            place, directions = (np.array(reader.GetMetaData(tag).split("\\"), float) for tag in (POSITION, ORIENTATION))
            places.append(place @ np.cross(directions[:3], directions[3:]))
    fits(Path(names[0]), size)
    gaps = np.abs(np.diff(places))
    if len(gaps) and np.abs(gaps - np.median(gaps)).max() > UNEVEN * np.median(gaps):
        raise InputError(
            f"{folder}: expected slices at even distances, got {gaps.min():.4g} to {gaps.max():.4g} mm; some may be missing"
        )
