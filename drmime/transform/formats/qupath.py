"""Transforms of QuPath and of its extension Warpy, between whole-slide images in pixels of full resolution. Planes only.

Both take pixels of the fixed image (in QuPath, that of the viewer; of Warpy's transform_<moving>_<fixed>.json, the second) to
pixels of the moving image (in QuPath, the overlay), x first. In QuPath (0, 0) is the outer corner of the first pixel; here it
is its centre, half a pixel away. Origin, direction and pixel lengths do not matter, so both grids are needed.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime import saved
from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import translation
from drmime.image.io import write_text
from drmime.transform.base import Transform
from drmime.transform.formats.files import Format, affine_matrix, both_grids, from_matrix, text_of
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import in_pixels, in_world

CORNER = MatrixTransform(translation(torch.tensor([0.5, 0.5], dtype=torch.float64)))  # QuPath's pixels from ours
ACROSS = [2, 6, 8, 9]  # entries of a row-packed 3-D matrix that are 0 if x and y do not depend on z, nor z on them
WARPY = "a transform of Warpy"


class QuPath(Format):
    """The text of "Interactive image alignment": m00, m01, m02 and m10, m11, m12, rows of java.awt.geom.AffineTransform.

    Source of the direction: QuPath's extension "align" draws the overlay with the inverse of this transform in pixels of the
    viewer, and begins with the viewer's pixel length divided by the overlay's (classes ImageServerOverlay, ImageTransform).
    """

    endings = (".qupath.txt",)

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        words = re.split(r"[,;\s]+", text_of(path, "a transform of QuPath").strip().strip("[](),; \t\n"))
        try:
            rows = np.array([float(word) for word in words]).reshape(2, 3)
        except ValueError as error:
            raise InputError(f"{path}: expected 6 numbers, the rows of QuPath's transform ({shown(str(error))})") from error
        return _from_corners(rows, path, fixed, moving)

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        rows = _corners(transform, "QuPath", fixed, moving)[:2].tolist()
        write_text(path, ",\n".join(",\t".join(map(repr, row)) for row in rows) + "\n")


class Warpy(Format):
    """JSON of imglib2's AffineTransform3D in a sequence: 12 numbers, the rows of a matrix of x, y, z that leaves z as it is.

    Sequences are applied from `realTransform_0` on. Warpy in QuPath applies the whole sequence to QuPath's pixels; Warpy in
    Fiji edits only the second of three, and cannot edit what is written here. Splines cannot be read. Source: Warpy's classes
    RealTransformDeSerializer (QuPath) and RegisterQuPathImagesCommand (Fiji); doi:10.3389/fcomp.2021.780026. Files
    are read as QuPath applies them; Fiji, which wrote them, counts from the centre of the first pixel: a difference of half a
    pixel times (scale - 1).
    """

    endings = (".warpy.json", ".json")
    names = r"transform_\d+_\d+\.json$"

    def recognises(self, head: str) -> bool:
        return '"affinetransform3d"' in head

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        kinds = {"affinetransform3d": [float], "size": int, "type": str}
        steps = {f"realTransform_{number}": {str: object} for number in range(10)}
        state = saved.read(path, WARPY, {}, {**kinds, **steps})
        try:
            matrix = _matrix(state)
        except InputError as error:
            raise InputError(f"{path}: not {WARPY}: {error}") from error
        return _from_corners(matrix, path, fixed, moving)

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        rows = _corners(transform, "Warpy", fixed, moving).tolist()
        (a, b, c), (d, e, f) = rows[0], rows[1]
        packed = ", ".join(map(repr, [a, b, 0.0, c, d, e, 0.0, f, 0.0, 0.0, 1.0, 0.0]))
        step = f'{{"type": "AffineTransform3D", "affinetransform3d": [{packed}]}}'
        write_text(path, f'{{\n "type": "InvertibleRealTransformSequence",\n "size": 1,\n "realTransform_0": {step}\n}}\n')


def _matrix(state: dict[str, Any]) -> np.ndarray:
    """The first two rows of the matrix of a transform or a sequence. shape: (2, 3)"""
    if "affinetransform3d" in state:
        steps = [state]
    else:
        count = saved.fields(state, {"size": int})["size"]
        if not 1 <= count <= 10:
            raise InputError(f"size: expected 1 to 10 transforms, got {count}")
        steps = list(saved.fields(state, {f"realTransform_{number}": {str: object} for number in range(count)}).values())
    product = np.eye(3)
    for step in steps:
        packed = np.array(saved.fields(step, {"affinetransform3d": [float]})["affinetransform3d"], dtype=float)
        if packed.shape != (12,) or packed[ACROSS].any():
            raise InputError("affinetransform3d: expected 12 numbers, the rows of a matrix that maps planes to planes")
        product = np.vstack([packed.reshape(3, 4)[:2][:, [0, 1, 3]], [0, 0, 1]]) @ product
    return product[:2]


def _from_corners(rows: np.ndarray, path: Path, fixed: Grid | None, moving: Grid | None) -> Transform:
    """The transform in world coordinates of the first two rows of one in QuPath's pixels."""
    made = from_matrix(np.vstack([rows, [0, 0, 1]]), path)
    fixed, moving = both_grids("QuPath", 2, fixed, moving)
    return in_world(CORNER.inverse() @ made @ CORNER, fixed, moving)


def _corners(transform: Transform, program: str, fixed: Grid | None, moving: Grid | None) -> torch.Tensor:
    """The matrix (3, 3) of a transform in QuPath's pixels."""
    matrix = MatrixTransform(affine_matrix(transform, program, 2))
    fixed, moving = both_grids(program, 2, fixed, moving)
    return affine_matrix(CORNER @ in_pixels(matrix, fixed, moving) @ CORNER.inverse(), program)
