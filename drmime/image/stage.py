"""The position of a microscope's stage that an OME-TIFF file states."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from drmime.errors import InputError
from drmime.image.tiff import UNITS, ome_pixels

REFERENCE = "reference frame"  # OME's default unit, which states no length; microscopes mean micrometres by it


def stage_position(path: Path, ndim: int = 2) -> np.ndarray:
    """PositionX, PositionY[, PositionZ] of the first plane of an OME-TIFF file, in micrometres. shape: (D,)

    The attribute's unit is OME's "reference frame" if none is stated; it is taken for micrometres. An absent PositionZ is 0.

    Raises:
        InputError: no OME-TIFF file, or one that states no position, or a unit that is not known.
    """
    try:
        with tifffile.TiffFile(path, _multifile=False) as file:
            stated = ome_pixels(file) if file.is_ome else {}
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise InputError(f"{path}: cannot be read as TIFF ({error})") from error
    planes = stated.get("Plane", [])
    first = planes[0] if isinstance(planes, list) and planes else planes
    if not isinstance(first, dict) or not {"PositionX", "PositionY"} <= set(first):
        raise InputError(f"{path}: expected OME metadata with PositionX and PositionY of a plane, got none")
    return np.array([_micrometres(path, first, axis) for axis in "XYZ"[:ndim]])


def _micrometres(path: Path, plane: dict[str, Any], axis: str) -> float:
    unit = str(plane.get(f"Position{axis}Unit", REFERENCE))
    scale = 1.0 if unit == REFERENCE else UNITS.get(unit)
    try:
        value = float(plane.get(f"Position{axis}", 0))
    except (TypeError, ValueError):
        value = np.nan
    if scale is None or not np.isfinite(value):
        raise InputError(f"{path}: expected Position{axis} as a length, got {plane.get(f'Position{axis}')!r} {unit}")
    return value * scale
