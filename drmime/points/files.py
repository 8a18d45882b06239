"""`read_landmarks` and `move_points`: the points of a file, in a format that its contents say."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from drmime.errors import InputError, existing_file, shown
from drmime.image.io import write_text
from drmime.parts import POINT_FORMATS
from drmime.registry import known

MOST = 2**30  # bytes of a file that is read
Move = Callable[[np.ndarray], np.ndarray]  # pixels (N, D) -> pixels (N, D); NaN for a point without an image


class PointFormat(ABC):
    """A format of text files with points."""

    @abstractmethod
    def fits(self, text: str) -> bool:
        """Whether a text seems to be of this format."""

    @abstractmethod
    def points(self, text: str, ndim: int | None = None) -> np.ndarray:
        """The points; of tables with more columns the spatial ones if `ndim` is given. shape: (N, D)

        Raises:
            InputError: the text is not of this format.
        """

    @abstractmethod
    def moved(self, text: str, move: Move, ndim: int) -> str:
        """The same text with each point of `ndim` coordinates moved; everything else stays as it is.

        Raises:
            InputError: the text is not of this format, or has points of another dimension.
        """


def read_landmarks(path: str | Path, format: str | None = None, ndim: int | None = None) -> np.ndarray:
    """Read points: pixels, 0-based, pixel centres, x first. shape: (N, D)

    Args:
        path: CSV with columns x, y[, z] or X, Y[, Z] in pixels; or points of napari, QuPath (GeoJSON) or DeepLabCut.
        format: a name of `drmime.parts.POINT_FORMATS`; by default what the contents say.
        ndim: coordinates of each point; by default as many as the file has, at most 3.

    Raises:
        InputError: no such file, an unknown format, or contents that are no points, finite and at least one.
    """
    file, text, kind = _opened(path, format)
    try:
        points = kind.points(text, ndim)
        if not len(points):
            raise InputError("expected at least one point, got none")
        if not np.isfinite(points).all():
            raise InputError("expected finite numbers, got NaN or infinity")
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return points


def landmarks(points: Any, ndim: int) -> Any:
    """The points of a file if `points` is a path, else `points`."""
    return read_landmarks(points, ndim=ndim) if isinstance(points, (str, Path)) else points


def move_points(source: str | Path, target: str | Path, move: Move, ndim: int, format: str | None = None) -> None:
    """Write the file `source` again as `target`, with its points of `ndim` coordinates moved.

    Raises:
        InputError: as `read_landmarks`, or a path that cannot be written.
    """
    file, text, kind = _opened(source, format)
    try:
        text = kind.moved(text, move, ndim)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    write_text(Path(target), text)


def _opened(path: str | Path, name: str | None) -> tuple[Path, str, PointFormat]:
    """A file, its text, and its format."""
    file = existing_file(path, "a file with points")
    if name is not None:
        known("point format", name, POINT_FORMATS)
    try:
        if (size := file.stat().st_size) > MOST:
            raise InputError(f"{file}: expected a file with points, got {size} bytes")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text ({shown(str(error))})") from error
    formats: dict[str, PointFormat] = {one: POINT_FORMATS[one]() for one in ([name] if name else POINT_FORMATS)}
    for one in formats.values():
        if name or one.fits(text):
            return file, text, one
    raise InputError(
        f"{file}: expected points: CSV with columns x,y[,z], a table of napari or DeepLabCut, or GeoJSON, got "
        f"{shown(text[:60])}"
    )
