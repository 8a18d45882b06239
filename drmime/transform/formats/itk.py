"""ITK's files of transforms (Insight transform files, HDF5, and MATLAB's .mat as ANTs writes it), by SimpleITK.

Coordinates are world coordinates, x first. An affine transform in ITK is x -> matrix (x - centre) + centre + translation; here
the centre is 0.
"""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy import io

from drmime.errors import InputError, package, shown
from drmime.geometry.grid import Grid
from drmime.image.io import write_atomically
from drmime.transform.base import Transform
from drmime.transform.formats.displacements import from_itk, to_itk
from drmime.transform.formats.files import Format, affine_matrix

MOST = 2**26  # bytes of a text or MATLAB file that is read; one affine transform has less than a thousand
KIND = re.compile(r"(\w+?)Transform(?:Base)?_(?:double|float)_([23])_([23])")
PARAMETERS = {  # numbers of each class of transform, by dimension; SimpleITK reads files that lack some without an error
    **{"Affine": (6, 12), "MatrixOffset": (6, 12), "Translation": (2, 3), "Scale": (2, 3), "Identity": (0, 0)},
    **{"Euler2D": (3,), "Rigid2D": (3,), "CenteredRigid2D": (5,), "Similarity2D": (4,), "CenteredSimilarity2D": (6,)},
    **{"Euler3D": (0, 6), "VersorRigid3D": (0, 6), "QuaternionRigid": (0, 7), "Similarity3D": (0, 7), "ScaleVersor3D": (0, 9)},
}


class Itk(Format):
    """Files that ITK, SimpleITK, ANTs and 3D Slicer read and write."""

    endings = (".tfm", ".h5", ".hdf5", ".mat")

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        sitk = package("SimpleITK")
        if path.suffix.lower() in (".tfm", ".mat"):
            _check(path)
        with tempfile.TemporaryDirectory() as folder:
            plain = path if path.suffix == path.suffix.lower() else Path(folder) / f"a{path.suffix.lower()}"
            if plain is not path:  # ITK knows endings in lower case only
                shutil.copy(path, plain)
            try:
                found = sitk.ReadTransform(str(plain))
            except RuntimeError as error:
                raise InputError(f"{path}: cannot be read as an ITK transform ({_last(error)})") from error
        return from_itk(found, str(path))

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        sitk, ending = package("SimpleITK"), path.suffix.lower()
        if ending not in self.endings:
            raise InputError(f"{path}: expected one of the endings {', '.join(self.endings)} for an ITK transform")
        if ending == ".mat":
            affine_matrix(transform, "MATLAB files of ANTs")
        made = to_itk(transform, fixed)
        write_atomically(path, lambda file: _written(sitk, made, file), ending)


def _written(sitk: Any, transform: Any, file: Path) -> None:
    try:
        sitk.WriteTransform(transform, str(file))
    except RuntimeError as error:
        raise InputError(f"an ITK transform cannot be written ({_last(error)})") from error


def _last(error: Exception) -> str:
    return shown((str(error).splitlines() or [""])[-1])


def _check(path: Path) -> None:
    """Refuse damaged text and MATLAB files, which crash SimpleITK or are read as other transforms.

    Raises:
        InputError: no transform, parameters of another number than its class has, or several transforms that are not one.
    """
    try:
        if path.stat().st_size > MOST:
            raise ValueError(f"a file of {path.stat().st_size} bytes")
        found = _of_text(path) if path.suffix.lower() == ".tfm" else _of_matlab(path)
        kinds = [kind for kind, _, _ in found]
        if len(found) != 1 and (not kinds or not kinds[0].startswith("Composite")):
            raise ValueError(f"{len(found)} transforms: expected one, or a composite")
        for kind, parameters, fixed in found:
            _check_counts(kind, parameters, fixed)
    except Exception as error:  # SciPy raises errors of many kinds for damaged files
        raise InputError(f"{path}: cannot be read as an ITK transform ({shown(str(error))})") from error


def _of_text(path: Path) -> list[tuple[str, Sequence[float], Sequence[float]]]:
    """The class, parameters and fixed parameters of each transform in an Insight transform file."""
    found: list[tuple[str, Sequence[float], Sequence[float]]] = []
    blocks = path.read_text(encoding="utf-8", errors="replace").split("Transform:")[1:]
    for block in blocks:
        kind, *lines = block.strip().splitlines()
        values = {key.strip(): value.split() for key, _, value in (line.partition(":") for line in lines)}
        if kind.strip().startswith("Composite"):
            values = {"Parameters": [], "FixedParameters": []} | values
        parameters, fixed = ([float(word) for word in values[key]] for key in ("Parameters", "FixedParameters"))
        found.append((kind.strip(), parameters, fixed))
    return found


def _of_matlab(path: Path) -> list[tuple[str, Sequence[float], Sequence[float]]]:
    """The same of a MATLAB file of version 4."""
    parts = io.loadmat(path)
    fixed = parts.pop("fixed").ravel().tolist()
    return [(name, values.ravel().tolist(), fixed) for name, values in parts.items() if not name.startswith("__")]


def _check_counts(kind: str, parameters: Sequence[float], fixed: Sequence[float]) -> None:
    match = KIND.fullmatch(kind)
    counts = PARAMETERS.get(match[1]) if match else None
    if match is None or counts is None:
        return  # a composite, or another class: SimpleITK or `from_itk` decide
    ndim = int(match[2])
    expected = counts[min(ndim - 2, len(counts) - 1)]
    centred = match[1] not in ("Translation", "Identity")
    if len(parameters) != expected or (centred and len(fixed) < ndim):
        raise ValueError(f"{kind}: expected {expected} parameters and a centre, got {len(parameters)} and {len(fixed)} numbers")


def of_simpleitk(transform: Any, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
    """`from_itk` for a transform in memory; grids are not needed. InputError also if the object is no transform."""
    if not hasattr(transform, "TransformPoint"):
        raise InputError(f"expected a SimpleITK transform, got a {type(transform).__name__}")
    return from_itk(transform)
