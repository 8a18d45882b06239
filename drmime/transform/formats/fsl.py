"""FSL's matrices: the text files of `flirt -omat` and `flirt -init`, four rows of four numbers. Volumes only.

The matrix takes points of the moving image (flirt's -in) to points of the fixed image (-ref), in millimetres: the index of the
voxel, x first, times the voxel's length. Of an image whose voxel-to-world matrix has a positive determinant ("neurological")
the index along x is counted from the other end. Origin and direction do not matter. So both grids are needed. Source: FLIRT's
user guide and FAQ (fsl.fmrib.ox.ac.uk), and flirtmat2worldmat (nitrc.org/snippet, id 5).

The package nitransforms agrees; it is not needed for these few lines.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.io import write_text
from drmime.settings import rows_of_numbers
from drmime.transform.base import Transform
from drmime.transform.formats.files import PERSPECTIVE, Format, affine_matrix, both_grids, from_matrix, text_of
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import in_pixels, in_world

NUMBERS = re.compile(r"[\s\d.eE+-]+")


class Fsl(Format):
    """Affine transforms between volumes."""

    endings = (".fsl.mat", ".mat")

    def recognises(self, head: str) -> bool:
        return NUMBERS.fullmatch(head) is not None  # ANTs' .mat is binary

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        try:
            rows = np.array(rows_of_numbers(text_of(path, "an FSL matrix")))
            if rows.shape != (4, 4) or np.abs(rows[3] - [0, 0, 0, 1]).max() > PERSPECTIVE:
                raise ValueError(f"got the shape {rows.shape}, or another last row than 0 0 0 1")
        except ValueError as error:
            raise InputError(f"{path}: expected an FSL matrix, 4 rows of 4 numbers ({error})") from error
        fixed_from_moving = from_matrix(rows, path)
        fixed, moving = both_grids("FSL", 3, fixed, moving)
        places = (MatrixTransform(mm_from_index(moving)).inverse(), MatrixTransform(mm_from_index(fixed)))
        return in_world(places[0] @ fixed_from_moving.inverse() @ places[1], fixed, moving)

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        matrix = affine_matrix(transform, "FSL", 3)
        fixed, moving = both_grids("FSL", 3, fixed, moving)
        pixels = affine_matrix(in_pixels(MatrixTransform(matrix), fixed, moving), "FSL")
        made = mm_from_index(fixed) @ torch.linalg.inv(mm_from_index(moving) @ pixels)
        made[-1] = torch.tensor([0.0, 0.0, 0.0, 1.0])
        write_text(path, "".join(f"{' '.join(map(repr, row))}\n" for row in made.tolist()))


def mm_from_index(grid: Grid) -> Tensor:
    """FSL's coordinates in millimetres from the index of a voxel, x first. shape: (4, 4), float64"""
    matrix = torch.diag(torch.cat([grid.spacing, torch.ones(1, dtype=torch.float64)]))
    if float(grid.world_from_index.det()) > 0:  # the same in RAS and in LPS
        matrix[0, 0], matrix[0, 3] = -grid.spacing[0], (grid.size[0] - 1) * grid.spacing[0]
    return matrix
