"""Tables of points: landmarks with columns x, y[, z], points and shapes of napari, keypoints of DeepLabCut."""

import csv
import io
import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from drmime.errors import InputError, shown
from drmime.points.files import Move, PointFormat

SEPARATORS = ",;\t"
MISSING = ("", "nan")  # cells of a point that was not found


class Layout(NamedTuple):
    """Where the points of a table are."""

    first: int  # the first row of data
    columns: Sequence[Sequence[int]]  # of each point of a row: its columns, x first
    shape: int | None = None  # column of the kind of a shape


class Table(PointFormat):
    """Rows of cells, of which some are coordinates in pixels, 0-based, at pixel centres."""

    @abstractmethod
    def layout(self, rows: Sequence[Sequence[str]], ndim: int | None) -> Layout:
        """The layout of a table for points of `ndim` coordinates, None: as many as it has; InputError if it has none."""

    def points(self, text: str, ndim: int | None = None) -> np.ndarray:
        _, rows = _rows(text)
        layout = self.layout(rows, ndim)
        found = [point for row in rows[layout.first :] for point in _numbers(row, layout)]
        return np.array(found).reshape(-1, len(layout.columns[0]))

    def moved(self, text: str, move: Move, ndim: int) -> str:
        separator, rows = _rows(text)
        layout = self.layout(rows, ndim)
        data = rows[layout.first :]
        if not data:
            raise InputError("expected at least one point, got none")
        places = np.array([_numbers(row, layout) for row in data]).reshape(-1, ndim)
        there = ~np.isnan(places).any(1)
        places[there] = move(places[there])
        for row, points in zip(data, places.reshape(len(data), -1, ndim).tolist(), strict=True):
            if layout.shape is not None and row[layout.shape].strip() == "rectangle":  # it may be sheared
                row[layout.shape] = "polygon"
            for columns, point in zip(layout.columns, points, strict=True):
                for column, value in zip(columns, point, strict=True):
                    if row[column].strip().lower() not in MISSING:
                        row[column] = f"{value:.10g}"
        out = io.StringIO()
        csv.writer(out, delimiter=separator, lineterminator="\n").writerows(rows)
        return out.getvalue()


class Landmarks(Table):
    """A header with x, y[, z] or X, Y[, Z]; other columns are kept."""

    def fits(self, text: str) -> bool:
        _, rows = _rows(text.lstrip().partition("\n")[0])
        header = {name.strip() for row in rows for name in row}
        return {"x", "y"} <= header or {"X", "Y"} <= header

    def layout(self, rows: Sequence[Sequence[str]], ndim: int | None) -> Layout:
        header = [name.strip() for name in rows[0]] if rows else []
        letters = "xyz" if "x" in header else "XYZ"
        found = [letter for letter in letters if letter in header]
        if found not in ([*letters[:2]], [*letters]) or (ndim or 0) > len(found):
            raise InputError(f"expected columns {'x,y,z' if ndim == 3 else 'x,y[,z]'}, got {shown(header)}")
        return Layout(1, [[header.index(letter) for letter in found[:ndim]]])


class Napari(Table):
    """Points (index, axis-0, axis-1, …) and shapes (index, shape-type, vertex-index, axis-0, …) as napari saves them.

    The last axes are spatial, in array order; those before them (time, channels) are kept. Rectangles become polygons, since
    a transform may shear them; the outline of an ellipse stays one of the parallelogram around it.
    """

    def fits(self, text: str) -> bool:
        return text.lstrip()[:5] == "index" and "axis-0" in text.partition("\n")[0]

    def layout(self, rows: Sequence[Sequence[str]], ndim: int | None) -> Layout:
        header = [name.strip() for name in rows[0]] if rows else []
        axes = itertools.takewhile(header.__contains__, (f"axis-{number}" for number in itertools.count()))
        columns = [header.index(axis) for axis in axes]
        count = ndim or min(len(columns), 3)
        if len(columns) < max(2, count):
            raise InputError(f"expected columns axis-0 to axis-{max(2, count) - 1}, got {shown(header)}")
        shape = header.index("shape-type") if "shape-type" in header else None
        return Layout(1, [columns[-count:][::-1]], shape)


class DeepLabCut(Table):
    """Tracks and labels of DeepLabCut (CSV): header rows "scorer", ["individuals",] "bodyparts" and "coords"; 2-D.

    Missing points stay missing, likelihoods stay as they are.
    """

    def fits(self, text: str) -> bool:
        return text.lstrip()[:6] == "scorer"

    def layout(self, rows: Sequence[Sequence[str]], ndim: int | None) -> Layout:
        at = next((at for at, row in enumerate(rows[:6]) if row and row[0].strip() == "coords"), None)
        if at is None:
            raise InputError('expected a row "coords" among the first, as DeepLabCut writes it')
        if ndim == 3:
            raise InputError("expected points of 3 dimensions, got keypoints of DeepLabCut, which have 2")
        names = [name.strip() for name in rows[at]]
        columns = [[x, x + 1] for x, name in enumerate(names) if name == "x" and names[x + 1 : x + 2] == ["y"]]
        if not columns:
            raise InputError(f'expected columns x and y in the row "coords", got {shown(names)}')
        return Layout(at + 1, columns)


def _rows(text: str) -> tuple[str, list[list[str]]]:
    """The separator of a table, and its rows that are not empty; InputError if it cannot be read."""
    header = text.lstrip().partition("\n")[0]
    separator = max(SEPARATORS, key=header.count)
    try:
        return separator, [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    except csv.Error as error:
        raise InputError(f"expected a table ({error})") from error


def _numbers(row: Sequence[str], layout: Layout) -> list[list[float]]:
    """The points of a row; NaN where one is missing."""
    try:
        cells = [[row[column].strip() for column in columns] for columns in layout.columns]
        found = [[math.nan if cell.lower() in MISSING else float(cell) for cell in point] for point in cells]
        if any(math.isinf(value) for point in found for value in point):
            raise ValueError("infinite")
        return found
    except (IndexError, ValueError) as error:
        raise InputError(f"expected a number in every row of the columns of coordinates, got {shown(row)}") from error
