"""AFNI's matrices: .aff12.1D of `3dAllineate -1Dmatrix_save`, and .1D of three rows of four numbers. Volumes only.

The twelve numbers are the rows of a matrix that takes points of the fixed image (AFNI's base) to points of the moving image
(its source), in millimetres of DICOM (LPS), as ITK's do. But AFNI ignores the obliquity of an image: to it, each axis of the
voxels lies along the nearest axis of the world, and the origin is kept. So both grids are needed. Source: the help of
3dAllineate and of cat_matvec (afni.nimh.nih.gov/pub/dist/doc/htmldoc/programs).

The package nitransforms is not used: it writes 6 digits and rounds voxel lengths to 4 decimals; on coarser numbers it agrees.
"""

import re
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import homogeneous
from drmime.image.io import write_text
from drmime.settings import rows_of_numbers
from drmime.transform.base import Transform
from drmime.transform.formats.files import Format, affine_matrix, both_grids, from_matrix, text_of
from drmime.transform.linear import MatrixTransform

COMMENT = re.compile(r"#.*")
HEADER = "# 3dvolreg matrices (DICOM-to-DICOM, row-by-row):\n"
OBLIQUE = 0.01  # degrees between voxel and world axes, above which AFNI takes an image for oblique


class Afni(Format):
    """Affine transforms between volumes."""

    endings = (".aff12.1d", ".1d")

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        try:
            rows = np.array(rows_of_numbers(COMMENT.sub("", text_of(path, "an AFNI matrix"))))
            if rows.shape not in ((1, 12), (3, 4)):
                raise ValueError(f"got the shape {rows.shape}; one matrix for each volume of a series cannot be read")
        except ValueError as error:
            raise InputError(f"{path}: expected an AFNI matrix of 12 numbers, in one row or three ({error})") from error
        plumb = from_matrix(np.vstack([rows.reshape(3, 4), [0, 0, 0, 1]]), path)
        fixed, moving = both_grids("AFNI", 3, fixed, moving)
        return plumb_from_world(moving).inverse() @ plumb @ plumb_from_world(fixed)

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        matrix = MatrixTransform(affine_matrix(transform, "AFNI", 3))
        fixed, moving = both_grids("AFNI", 3, fixed, moving)
        made = plumb_from_world(moving) @ matrix @ plumb_from_world(fixed).inverse()
        rows = affine_matrix(made, "AFNI")[:3].flatten().tolist()
        write_text(path, f"{HEADER}{' '.join(map(repr, rows))}\n")


def plumb_from_world(grid: Grid) -> MatrixTransform:
    """From world coordinates (LPS) to those that AFNI gives the voxels of an oblique grid; the identity for others."""
    axes = (grid.world_from_index[:3, :3] / grid.spacing).numpy()
    nearest = linear_sum_assignment(-np.abs(axes))  # one world axis for each voxel axis, as in NIfTI's orientation codes
    if np.degrees(np.arccos(np.clip(np.abs(axes[nearest]), 0, 1))).max() <= OBLIQUE:
        return MatrixTransform(torch.eye(4))
    straight = np.zeros((3, 3))
    straight[nearest] = np.sign(axes[nearest])
    plumb = homogeneous(torch.as_tensor(straight) * grid.spacing, grid.world_from_index[:3, 3])
    return MatrixTransform(plumb @ grid.index_from_world)
