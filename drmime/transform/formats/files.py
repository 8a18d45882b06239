"""`read_transform` and `write_transform`: one transform in a file, in a format that its ending or its name says."""

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor

from drmime.errors import InputError, existing_file, shown
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import invertible
from drmime.modes import own_defaults
from drmime.parts import TRANSFORM_FORMATS, TRANSFORM_OBJECTS
from drmime.registry import known
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform, matrix_of

PERSPECTIVE = 1e-12  # of the linear part's largest entry: larger entries of the last row are perspective
MOST = 2**20  # bytes of a text file that is read
HEAD = 2**16  # bytes by which a format is recognised


class Format(ABC):
    """A format of files that hold one transform."""

    endings: tuple[str, ...]  # of file names, in lower case, the usual one first
    names: str = ""  # a regular expression of names in lower case that the format takes besides

    @abstractmethod
    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        """The transform in a file, between images on these grids, if they are known.

        InputError if the file holds none, or one of another kind than can be used, or if the format needs the grids.
        """

    @abstractmethod
    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        """Write a transform between images on these grids, if they are known, whole or not at all.

        InputError if the format cannot hold the transform, or needs the grids.
        """

    def recognises(self, head: str) -> bool:
        """Whether a file that begins with `head` is of this format; asked where several formats have one ending."""
        return False

    def fit(self, name: str) -> int:
        """The number of characters of a file name, in lower case, that say that the format is this one; 0 if none do."""
        match = re.search(self.names, name) if self.names else None
        return max([len(end) for end in self.endings if name.endswith(end)] + [len(match[0]) if match else 0])


@own_defaults
def read_transform(
    path: Any,
    format: str | None = None,
    fixed: Grid | None = None,
    moving: Grid | None = None,
) -> Transform:
    """Read a transform from a file of this or of another program, or take over an object of another package.

    Args:
        path: the file; or a SimpleITK transform, a scikit-image transform (in pixels), or a homogeneous matrix as an array.
        format: a name of `drmime.parts.TRANSFORM_FORMATS`; by default what the ending says, and the content where formats share
            an ending: "drmime" (.json), "itk" (.tfm, .h5, .hdf5, .mat, also of ANTs), "displacements" (…warp.nii.gz of
            ANTs, …displacements.nii.gz, .mha, .nrrd), "elastix" (TransformParameters.0.txt),
            "fsl" (.fsl.mat, .mat), "freesurfer" (.lta), "afni" (.aff12.1D, .1D), "ngff" (.ngff.json, .json), "bigwarp"
            (.bigwarp.csv, .csv), "qupath" (.qupath.txt), "warpy" (.warpy.json, .json), "matrix" (.csv, .npy, other .txt).
        fixed, moving: the grids of both images, `drmime.as_image(image).grid`. "fsl", "afni", "qupath" and "warpy" need
            them; "bigwarp" and scikit-image use them, and without them their coordinates are taken for world coordinates.

    Returns:
        the map from fixed to moving world coordinates, x first (of "matrix" and of arrays, those of the matrix).

    Raises:
        InputError: no such file, an unknown format, a grid that is missing, or contents that are no transform that can be used.

    Example:
        >>> np.savetxt("shift.csv", [[1, 0, 2], [0, 1, 1], [0, 0, 1]], delimiter=",")
        >>> read_transform("shift.csv").describe(result.fixed_grid).partition(";")[0]
        "fixed to moving: shift of the fixed image's centre (2.000, 1.000)"
    """
    if not isinstance(path, (str, Path)):
        return _of_object(path, format, fixed, moving)
    file = existing_file(path, "a file with a transform")
    return _format(file, format, reading=True).read(file, fixed, moving)


def write_transform(
    transform: Transform,
    path: str | Path,
    format: str | None = None,
    fixed: Grid | None = None,
    moving: Grid | None = None,
) -> None:
    """Write a transform for another program; arguments as in `read_transform`.

    `fixed`, `moving`: the grids of both images. "elastix" needs that of the fixed one; "fsl", "freesurfer", "afni", "bigwarp",
    "qupath" and "warpy" need both. Of formats that share an ending the first of the table is written: .mat is ANTs', .json this
    library's, .csv rows of numbers, unless another is named.

    Raises:
        InputError: an unknown format, one that cannot hold this transform or lacks a grid, or a path that cannot be written.
    """
    _format(Path(path), format).write(transform, Path(path), fixed, moving)


def _format(path: Path, name: str | None, reading: bool = False) -> Format:
    """The format named, else that of the file."""
    if name is not None:
        return _made(known("transform format", name, TRANSFORM_FORMATS))
    if found := format_of(path, reading):
        return _made(found)
    endings = ", ".join(dict.fromkeys(ending for one in TRANSFORM_FORMATS for ending in _made(one).endings))
    raise InputError(
        f"{path}: expected a file name with one of the endings {endings}, or a format: {', '.join(TRANSFORM_FORMATS)}"
    )


def format_of(path: Path, reading: bool = True) -> str | None:
    """The name of the format whose ending fits a file best, of several when reading the one that recognises it; None: none."""
    formats: dict[str, Format] = {one: _made(one) for one in TRANSFORM_FORMATS}
    fits = {one: formats[one].fit(path.name.lower()) for one in formats}
    best = [one for one in formats if 0 < fits[one] == max(fits.values())]
    if reading and len(best) > 1:
        head = _head(path)
        best = [one for one in best if formats[one].recognises(head)] or best
    return best[0] if best else None


def _made(name: str) -> Any:
    return TRANSFORM_FORMATS[name]()


def _of_object(value: Any, format: str | None, fixed: Grid | None, moving: Grid | None) -> Transform:
    """The transform of an object of another package, which is known by the package of its class or of a base class."""
    if format is not None:
        raise InputError(f"format: expected None for an object, which is of one kind, got {shown(format)}")
    packages = [base.__module__.partition(".")[0] for base in type(value).__mro__]
    for package in packages:
        if package in TRANSFORM_OBJECTS:
            made: Transform = TRANSFORM_OBJECTS[package](value, fixed, moving)
            return made
    raise InputError(
        f"expected a file with a transform, a transform of {' or '.join(TRANSFORM_OBJECTS)}, or a matrix, got {shown(value)}"
    )


# ---- what several formats need


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(HEAD).decode("utf-8", "replace").removeprefix("\ufeff")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def text_of(path: Path, what: str) -> str:
    """The text of a small file. Raises: InputError: it cannot be read, or is larger than `MOST`."""
    try:
        if path.stat().st_size > MOST:
            raise InputError(f"{path}: expected {what}, got {path.stat().st_size} bytes")
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read as {what} ({shown(str(error))})") from error


def both_grids(program: str, ndim: int, fixed: Grid | None, moving: Grid | None) -> tuple[Grid, Grid]:
    """Both grids, of `ndim` dimensions.

    Raises:
        InputError: a grid is missing, or of another dimension.
    """
    if fixed is None or moving is None:
        raise InputError(
            f"{program}: expected the grids of both images, on which its coordinates depend; "
            "give the images (--fixed, --moving) or their grids (fixed=, moving=)"
        )
    for role, grid in (("fixed", fixed), ("moving", moving)):
        if grid.ndim != ndim:
            raise InputError(f"{program}: expected a {role} image of {ndim} dimensions, got {grid.ndim}")
    return fixed, moving


def from_matrix(rows: Any, name: str | Path) -> MatrixTransform:
    """The transform of a square homogeneous matrix, an array or rows of numbers; `name` is for messages.

    Raises:
        InputError: another shape than (3, 3) or (4, 4), numbers that are not finite, or no inverse.
    """
    try:
        ndim = len(rows) - 1
        if ndim not in (2, 3):
            raise ValueError(f"expected a matrix of 3 or 4 rows, got {ndim + 1}")
        return MatrixTransform(invertible(rows, ndim))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error


def affine_matrix(transform: Transform, program: str, ndim: int | None = None) -> Tensor:
    """The matrix of an affine transform, its last row 0 … 0 1, for a `program` that holds no other. shape: (D+1, D+1)

    `ndim`: the dimension that the program is limited to.

    Raises:
        InputError: the transform is not one finite matrix, has perspective, or is of another dimension.
    """
    matrix = matrix_of(transform)
    if ndim not in (None, transform.ndim):
        raise InputError(f"{program}: expected a transform of {ndim} dimensions, got {transform.ndim}; its files hold no other")
    last = matrix[-1, -1]
    if not matrix.isfinite().all() or not float(last) > 0:
        raise InputError(f"{program}: expected a transform of finite numbers that maps every point")
    matrix = matrix / last
    if float(matrix[-1, :-1].abs().max()) > PERSPECTIVE * float(matrix[:-1, :-1].abs().max()):
        raise InputError(f"{program}: expected an affine transform, got one with perspective, which it cannot hold")
    return matrix
