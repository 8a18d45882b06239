"""`read_transform` and `write_transform`: one transform in a file, in a format that its ending or its name says."""

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor

from drmime.errors import InputError, existing_file
from drmime.geometry.grid import Grid
from drmime.modes import own_defaults
from drmime.parts import TRANSFORM_FORMATS
from drmime.registry import known
from drmime.transform.base import Transform
from drmime.transform.linear import matrix_of

PERSPECTIVE = 1e-12  # of the linear part's largest entry: larger entries of the last row are perspective


class Format(ABC):
    """A format of files that hold one transform."""

    endings: tuple[str, ...]  # of file names, in lower case, the usual one first
    names: str = ""  # a regular expression of names in lower case that the format takes besides

    @abstractmethod
    def read(self, path: Path) -> Transform:
        """The transform in a file; InputError if it holds none, or one of another kind than can be used."""

    @abstractmethod
    def write(self, transform: Transform, path: Path, fixed: Grid | None) -> None:
        """Write a transform whose fixed image is on this grid, if it is known, whole or not at all.

        InputError if the format cannot hold the transform, or needs the grid.
        """


@own_defaults
def read_transform(path: str | Path, format: str | None = None) -> Transform:
    """Read a transform from a file of this or of another program.

    Args:
        path: the file.
        format: a name of `drmime.parts.TRANSFORM_FORMATS`; by default what the ending says: "drmime" (.json), "itk" (.tfm,
            .h5, .hdf5, .mat, also of ANTs), "elastix" (TransformParameters.0.txt), "matrix" (.csv, .npy, other .txt).

    Returns:
        the map from fixed to moving world coordinates, x first (of "matrix", those of the file).

    Raises:
        InputError: no such file, an unknown format, or a file that holds no transform that can be used.

    Example:
        >>> np.savetxt("shift.csv", [[1, 0, 2], [0, 1, 1], [0, 0, 1]], delimiter=",")
        >>> read_transform("shift.csv").describe(result.fixed_grid).partition(";")[0]
        "fixed to moving: shift of the fixed image's centre (2.000, 1.000)"
    """
    file = existing_file(path, "a file with a transform")
    return _format(file, format).read(file)


def write_transform(
    transform: Transform,
    path: str | Path,
    format: str | None = None,
    fixed: Grid | None = None,
) -> None:
    """Write a transform for another program; arguments as in `read_transform`.

    `fixed`: the grid of the fixed image, which "elastix" needs.

    Raises:
        InputError: an unknown format, one that cannot hold this transform or lacks the grid, or a path that cannot be written.
    """
    _format(Path(path), format).write(transform, Path(path), fixed)


def _format(path: Path, name: str | None) -> Format:
    if name is not None:
        return _made(known("transform format", name, TRANSFORM_FORMATS))
    if found := format_of(path):
        return _made(found)
    formats: dict[str, Any] = {one: _made(one) for one in TRANSFORM_FORMATS}
    endings = ", ".join(ending for one in formats.values() for ending in one.endings)
    raise InputError(f"{path}: expected a file name with one of the endings {endings}, or a format: {', '.join(formats)}")


def format_of(path: Path) -> str | None:
    """The name of the format that the name of a file says; None if it says none."""
    for name in TRANSFORM_FORMATS:
        one = _made(name)
        if path.name.lower().endswith(one.endings) or (one.names and re.search(one.names, path.name.lower())):
            return name
    return None


def _made(name: str) -> Format:
    return TRANSFORM_FORMATS[name]()


def affine_matrix(transform: Transform, program: str) -> Tensor:
    """The matrix of an affine transform, its last row 0 … 0 1, for a `program` that holds no other. shape: (D+1, D+1)

    Raises:
        InputError: the transform is not one finite matrix, or has perspective.
    """
    matrix = matrix_of(transform)
    last = matrix[-1, -1]
    if not matrix.isfinite().all() or not float(last) > 0:
        raise InputError(f"{program}: expected a transform of finite numbers that maps every point")
    matrix = matrix / last
    if float(matrix[-1, :-1].abs().max()) > PERSPECTIVE * float(matrix[:-1, :-1].abs().max()):
        raise InputError(f"{program}: expected an affine transform, got one with perspective, which its files cannot hold")
    return matrix
