"""BigWarp's landmarks (CSV): name, active, moving x, y[, z], fixed x, y[, z] in each row, without a header.

BigWarp's coordinates, x first, are the index of a pixel (0 at the centre of the first one) times the pixel's length; it knows
no direction, and of an image opened in Fiji no origin. That is the world of TIFF and of arrays here; for others both grids are
needed. Rows that are not active are ignored. Source: imagej.net/plugins/bigwarp, and its classes LandmarkTableModel and
ImagePlusLoader. BigWarp fits the transform from fixed (target) to moving points, and reads the moving image through it.
"""

import csv
import re
from pathlib import Path

import numpy as np
import torch

from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import affine, homogeneous
from drmime.image.io import write_text
from drmime.transform.base import Transform
from drmime.transform.formats.files import Format, affine_matrix, both_grids, from_matrix, text_of
from drmime.transform.linear import MatrixTransform

ROW = re.compile(r"\s*(\"[^\"]*\"|[^\",\n]*),\s*\"?(true|false)\"?,", re.IGNORECASE)
COLUMNS = {6: 2, 8: 3}  # dimension by the number of columns
SPREAD = 1e-6  # of the longest extent of the landmarks: the least across, below which they lie on a line or plane


class BigWarp(Format):
    """Landmarks: read as the affine transform of least squares; written at the fixed grid's corners and centre."""

    endings = (".bigwarp.csv", ".csv")

    def recognises(self, head: str) -> bool:
        return ROW.match(head) is not None

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        points = _active(path)
        try:
            made = from_matrix(_fit(points[:, 1], points[:, 0]), path)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
        if fixed is None and moving is None:
            return made
        fixed, moving = both_grids("BigWarp", made.ndim, fixed, moving)
        return length_from_world(moving).inverse() @ made @ length_from_world(fixed)

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        matrix = MatrixTransform(affine_matrix(transform, "BigWarp"))
        fixed, moving = both_grids("BigWarp", transform.ndim, fixed, moving)
        places = torch.cat([fixed.corners(), fixed.centre[None]])
        there = length_from_world(moving)(matrix(places)).tolist()
        rows = zip(there, length_from_world(fixed)(places).tolist(), strict=True)
        lines = [[f"Pt-{number}", "true", *map(repr, one), *map(repr, other)] for number, (one, other) in enumerate(rows)]
        write_text(path, "".join(",".join(f'"{word}"' for word in line) + "\n" for line in lines))


def length_from_world(grid: Grid) -> MatrixTransform:
    """From world coordinates to the index of a pixel times its length, x first."""
    zero = torch.zeros(grid.ndim, dtype=torch.float64)
    return MatrixTransform(homogeneous(torch.diag(grid.spacing), zero) @ grid.index_from_world)


def _active(path: Path) -> np.ndarray:
    """The active landmarks, moving and fixed. shape: (N, 2, D)"""
    try:
        rows = [row for row in csv.reader(text_of(path, "BigWarp's landmarks").splitlines()) if row]
        ndim = COLUMNS.get(len(rows[0]) if rows else 0)
        if ndim is None or {len(row) for row in rows} != {2 * ndim + 2}:
            raise ValueError(f"rows of {sorted({len(row) for row in rows})} columns")
        active = [row[2:] for row in rows if row[1].strip().lower() == "true"]
        points = np.array(active, dtype=float).reshape(-1, 2, ndim)
        if not np.isfinite(points).all() or len(points) <= ndim:
            raise ValueError(f"{len(points)} active ones, of finite numbers; an affine transform takes {ndim + 1}")
        return points
    except (ValueError, csv.Error) as error:
        form = "name, active, moving x, y[, z], fixed x, y[, z]"
        raise InputError(f"{path}: expected BigWarp's landmarks, rows of {form} ({shown(str(error))})") from error


def _fit(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """The affine matrix of least squares from fixed to moving points (N, D); ValueError if they do not determine it."""
    centres = fixed.mean(0), moving.mean(0)
    sizes = np.linalg.svd(fixed - centres[0], compute_uv=False)
    if not sizes[-1] > SPREAD * sizes[0]:
        raise ValueError("expected landmarks that do not all lie on one line or plane of the fixed image")
    linear = np.linalg.lstsq(fixed - centres[0], moving - centres[1], rcond=None)[0].T
    return affine(linear, centres[1] - linear @ centres[0])
