"""ITK's files of transforms (Insight transform files, HDF5, and MATLAB's .mat as ANTs writes it), by SimpleITK.

Coordinates are world coordinates, x first: LPS millimetres where files state units. An affine transform in ITK is
x -> matrix (x - centre) + centre + translation; here the centre is 0.
"""

from pathlib import Path
from typing import Any

import torch

from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import homogeneous
from drmime.image.io import write_atomically
from drmime.image.readers import package
from drmime.transform.base import Transform
from drmime.transform.formats.files import Format
from drmime.transform.linear import MatrixTransform, matrix_of

AFFINE = 1e-12  # of the linear part's largest entry: larger entries of the last row are perspective


class Itk(Format):
    """Files that ITK, SimpleITK, ANTs and 3D Slicer read and write."""

    endings = (".tfm", ".h5", ".hdf5", ".mat")

    def read(self, path: Path) -> Transform:
        try:
            found = package("SimpleITK").ReadTransform(str(path))
        except RuntimeError as error:
            raise InputError(f"{path}: cannot be read as an ITK transform ({shown(str(error).splitlines()[-1])})") from error
        return from_itk(found, str(path))

    def write(self, transform: Transform, path: Path, fixed: Grid | None) -> None:
        made = to_itk(transform)
        write_atomically(path, lambda file: package("SimpleITK").WriteTransform(made, str(file)), path.suffix)


def to_itk(transform: Transform) -> Any:
    """The transform as a `SimpleITK.AffineTransform`.

    Raises:
        InputError: the transform is not one matrix, or has perspective, or SimpleITK is missing.
    """
    matrix = matrix_of(transform)
    matrix = matrix / matrix[-1, -1]
    if float(matrix[-1, :-1].abs().max()) > AFFINE * float(matrix[:-1, :-1].abs().max()):
        raise InputError("ITK: expected an affine transform, got one with perspective, which ITK's transforms cannot hold")
    made = package("SimpleITK").AffineTransform(transform.ndim)
    made.SetMatrix(matrix[:-1, :-1].flatten().tolist())
    made.SetTranslation(matrix[:-1, -1].tolist())
    return made


def from_itk(transform: Any, name: str = "ITK transform") -> Transform:
    """The transform of a linear SimpleITK transform, composite or not; `name` is for messages.

    Raises:
        InputError: the transform is not linear, or cannot be inverted.
    """
    ndim = transform.GetDimension()
    if not transform.IsLinear():
        raise InputError(f"{name}: expected a linear transform, got {transform.GetName()}, which is not one matrix")
    corners = torch.cat([torch.zeros(1, ndim), torch.eye(ndim)]).double()
    places = torch.tensor([transform.TransformPoint(point) for point in corners.tolist()], dtype=torch.float64)
    matrix = homogeneous((places[1:] - places[0]).mT, places[0])
    if not matrix.isfinite().all() or not float(matrix.det()):
        raise InputError(f"{name}: expected a transform that can be inverted, got a singular one")
    return MatrixTransform(matrix)
