"""Parameter files of elastix and transformix: lines of (Key value …), with the grid that transformix resamples to.

Coordinates are world coordinates, x first. An affine transform is x -> matrix (x - centre) + centre + translation; its
`TransformParameters` are the rows of the matrix, then the translation (elastix manual, section 2.6).
"""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import affine
from drmime.image.io import write_text
from drmime.transform.base import Transform
from drmime.transform.formats.files import Format, affine_matrix, text_of
from drmime.transform.linear import MatrixTransform

LINE = re.compile(r"\s*\((\w+)((?:\s+(?:\"[^\"]*\"|[^\s\"()]+))+)\s*\)")
WORD = re.compile(r"\"([^\"]*)\"|(\S+)")


class Elastix(Format):
    """TransformParameters.0.txt: translation, Euler, similarity and affine transforms."""

    endings = ("transformparameters.0.txt",)
    names = r"transformparameters\.\d+(\.r\d+)?\.txt$"

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        return _read(path, (path,))

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        if fixed is None:
            raise InputError(
                "elastix: expected the grid of the fixed image, which transformix resamples to; give the image (--fixed)"
            )
        write_text(path, parameters(transform, fixed))


def parameters(transform: Transform, fixed: Grid) -> str:
    """The text of a parameter file with which transformix warps the moving image onto the grid `fixed`.

    Raises:
        InputError: the transform is not one affine matrix, or the grid is of another dimension.
    """
    matrix, ndim = affine_matrix(transform, "elastix").numpy(), transform.ndim
    if fixed.ndim != ndim:
        raise InputError(f"elastix: expected a fixed image of {ndim} dimensions, as the transform has, got {fixed.ndim}")
    centre = fixed.centre.numpy()
    shift = matrix[:-1, :-1] @ centre + matrix[:-1, -1] - centre
    spacing = fixed.spacing.numpy()
    directions = fixed.world_from_index[:-1, :-1].numpy() / spacing
    values: dict[str, Sequence[object]] = {
        "Transform": ["AffineTransform"],
        "NumberOfParameters": [ndim * (ndim + 1)],
        "TransformParameters": [*matrix[:-1, :-1].flatten(), *shift],
        "InitialTransformParametersFileName": ["NoInitialTransform"],
        "UseBinaryFormatForTransformationParameters": ["false"],
        "HowToCombineTransforms": ["Compose"],
        "FixedImageDimension": [ndim],
        "MovingImageDimension": [ndim],
        "FixedInternalImagePixelType": ["float"],
        "MovingInternalImagePixelType": ["float"],
        "Size": list(fixed.shape[::-1]),
        "Index": [0] * ndim,
        "Spacing": list(spacing),
        "Origin": list(fixed.world_from_index[:-1, -1].numpy()),
        "Direction": list(directions.T.flatten()),  # column by column
        "UseDirectionCosines": ["true"],
        "CenterOfRotationPoint": list(centre),
        "ResampleInterpolator": ["FinalBSplineInterpolator"],
        "FinalBSplineInterpolationOrder": [1],
        "Resampler": ["DefaultResampler"],
        "DefaultPixelValue": [0],
        "ResultImageFormat": ["nii"],
        "ResultImagePixelType": ["float"],
        "CompressResultImage": ["false"],
    }
    return "".join(f"({key} {' '.join(map(_word, some))})\n" for key, some in values.items())


def _word(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(float(value)) if isinstance(value, float) else str(value)


def _read(path: Path, seen: Sequence[Path]) -> Transform:
    values = _values(path)
    matrix = _matrix(path, values)
    first = values.get("InitialTransformParameterFileName", values.get("InitialTransformParametersFileName", []))
    if not first or first[0] == "NoInitialTransform":
        return MatrixTransform(torch.as_tensor(matrix))
    before = path.parent / PureWindowsPath(first[0]).name  # beside this file, wherever it was written
    if before in seen or len(seen) > 9 or not os.path.isfile(before):
        raise InputError(f"{path}: expected the initial transform {first[0]!r} beside it; there is none, or it leads back here")
    if values.get("HowToCombineTransforms", ["Compose"])[0] != "Compose":
        raise InputError(f"{path}: expected transforms that are composed, got those that are added; that is not one matrix")
    earlier = _read(before, (*seen, before))
    if earlier.ndim != len(matrix) - 1:
        raise InputError(f"{path}: expected an initial transform of {len(matrix) - 1} dimensions, got {earlier.ndim}")
    return MatrixTransform(torch.as_tensor(matrix)) @ earlier


def _values(path: Path) -> dict[str, list[str]]:
    text = text_of(path, "an elastix parameter file")
    found = {
        match[1]: [quoted or plain for quoted, plain in WORD.findall(match[2])]
        for match in map(LINE.match, text.splitlines())
        if match
    }
    if "Transform" not in found or "TransformParameters" not in found:
        raise InputError(f"{path}: expected an elastix parameter file with Transform and TransformParameters")
    return found


def _matrix(path: Path, values: dict[str, list[str]]) -> np.ndarray:
    kind = values["Transform"][0]
    try:
        numbers = np.array([float(word) for word in values["TransformParameters"]])
        ndim = int(values.get("FixedImageDimension", ["2"])[0])
        if ndim not in (2, 3):
            raise InputError(f"expected a FixedImageDimension of 2 or 3, got {ndim}")
        centre = np.array([float(word) for word in values.get("CenterOfRotationPoint", ["0"] * ndim)])
        linear, shift = _parts(kind, numbers, ndim, values)
        matrix = affine(linear, shift + centre - linear @ centre)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{path}: {kind}: expected as many finite numbers as this transform has ({shown(str(error))})"
        ) from error
    if not np.isfinite(matrix).all() or np.linalg.det(matrix) == 0:
        raise InputError(f"{path}: expected finite numbers and a transform that can be inverted")
    return matrix


def _parts(kind: str, numbers: np.ndarray, ndim: int, values: dict[str, list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """The linear part and the translation of a transform of elastix."""
    if kind == "TranslationTransform":
        return np.eye(ndim), numbers.reshape(ndim)
    if kind == "AffineTransform":
        return numbers[: ndim * ndim].reshape(ndim, ndim), numbers[ndim * ndim :].reshape(ndim)
    if kind == "EulerTransform" and ndim == 2:
        return _turn(numbers[0]), numbers[1:].reshape(2)
    if kind == "SimilarityTransform" and ndim == 2:
        return numbers[0] * _turn(numbers[1]), numbers[2:].reshape(2)
    if kind == "EulerTransform":
        order = "zyx" if values.get("ComputeZYX", ["false"])[0] == "true" else "zxy"
        x, y, z = numbers[:3]
        angles = (z, y, x) if order == "zyx" else (z, x, y)
        return Rotation.from_euler(order.upper(), angles).as_matrix(), numbers[3:].reshape(3)
    if kind == "SimilarityTransform":
        vector, shift, scale = numbers.reshape(7)[:3], numbers[3:6], numbers[6]
        if vector @ vector > 1:
            raise InputError("SimilarityTransform: expected a versor of length up to 1")
        turn = Rotation.from_quat([*vector, math.sqrt(max(0.0, 1 - float(vector @ vector)))]).as_matrix()
        return scale * turn, shift
    known = "TranslationTransform, EulerTransform, SimilarityTransform or AffineTransform"
    raise InputError(f"expected an elastix file of a {known}, got a {kind}, which is not one matrix")


def _turn(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
