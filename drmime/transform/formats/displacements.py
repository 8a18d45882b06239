"""Displacement fields of ITK, SimpleITK and ANTs: as a transform, and as an image of vectors (ANTs' …Warp.nii.gz).

Displacements are in world units, x first, from a point of the fixed image to its place in the moving one. In a composite
transform of ITK the last one is applied first, as in a `Chain`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime.errors import InputError, package
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import affine
from drmime.image.io import write_atomically
from drmime.transform.base import Chain, Transform, chain
from drmime.transform.field import FieldTransform, sampled
from drmime.transform.formats.files import Format, affine_matrix
from drmime.transform.linear import MatrixTransform

ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd")


class Displacements(Format):
    """The whole map as an image of vectors on the fixed grid."""

    endings = ("warp.nii.gz", *(f"displacements{ending}" for ending in ENDINGS))

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        try:
            image = package("SimpleITK").ReadImage(str(path))
        except RuntimeError as error:
            raise InputError(f"{path}: cannot be read as an image of displacements") from error
        return field_of(image, str(path))

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        ending = next((end for end in ENDINGS if path.name.lower().endswith(end)), None)
        if ending is None:
            raise InputError(f"{path}: expected one of the endings {', '.join(ENDINGS)} for an image of displacements")
        image = image_of(transform, fixed)
        write_atomically(path, lambda file: _written(image, file), ending)


def _written(image: Any, file: Path) -> None:
    try:
        package("SimpleITK").WriteImage(image, str(file))
    except RuntimeError as error:
        raise InputError(f"{file.name}: an image of displacements cannot be written") from error


def to_itk(transform: Transform, fixed: Grid | None = None) -> Any:
    """The transform as a `SimpleITK.AffineTransform`, or, of a deformation, a composite of it and of a displacement field.

    Raises:
        InputError: a map that is projective, a deformation without the grid of the fixed image, or SimpleITK is missing.
    """
    sitk, parts = package("SimpleITK"), list(transform.parts) if isinstance(transform, Chain) else [transform]
    made = []
    while parts and isinstance(parts[0], MatrixTransform):
        matrix = affine_matrix(parts.pop(0), "ITK")
        one = sitk.AffineTransform(transform.ndim)
        one.SetMatrix(matrix[:-1, :-1].flatten().tolist())
        one.SetTranslation(matrix[:-1, -1].tolist())
        made.append(one)
    if parts:
        made.append(sitk.DisplacementFieldTransform(image_of(chain(parts), fixed)))
    return made[0] if len(made) == 1 else sitk.CompositeTransform(made)


def from_itk(transform: Any, name: str = "ITK transform") -> Transform:
    """The transform of a SimpleITK transform: linear, a displacement field, or a composite of these; `name` is for messages.

    Raises:
        InputError: another transform, or one that cannot be inverted.
    """
    sitk, found = package("SimpleITK"), transform.Downcast()
    if transform.IsLinear():
        ndim = transform.GetDimension()
        origin, *ends = (np.array(transform.TransformPoint(point)) for point in [[0.0] * ndim, *np.eye(ndim).tolist()])
        matrix = affine(np.stack([end - origin for end in ends], 1), origin)
        if not np.isfinite(matrix).all() or not np.linalg.det(matrix):
            raise InputError(f"{name}: expected finite numbers and a transform that can be inverted")
        return MatrixTransform(torch.as_tensor(matrix))
    if isinstance(found, sitk.CompositeTransform):
        return chain([from_itk(found.GetNthTransform(part), name) for part in range(found.GetNumberOfTransforms())])
    if isinstance(found, sitk.DisplacementFieldTransform):
        return field_of(found.GetDisplacementField(), name)
    raise InputError(
        f"{name}: expected linear transforms and displacement fields, got {transform.GetName()}. Convert it by "
        "SimpleITK.TransformToDisplacementField."
    )


def image_of(transform: Transform, fixed: Grid | None) -> Any:
    """A SimpleITK image of the displacements at the pixels of the fixed image, float64.

    Raises:
        InputError: the grid is missing, its axes are not orthogonal, or SimpleITK is missing.
    """
    if fixed is None:
        raise InputError("displacement field: expected the grid of the fixed image; give the image (--fixed) or fixed=")
    directions = fixed.world_from_index[:-1, :-1] / fixed.spacing
    if not torch.allclose(directions.mT @ directions, torch.eye(fixed.ndim).to(directions), rtol=0, atol=1e-5):
        raise InputError("displacement field: expected a fixed image whose axes are orthogonal")
    field = sampled(transform, fixed)
    image = package("SimpleITK").GetImageFromArray(field.displacements.movedim(0, -1).numpy(), isVector=True)
    image.SetSpacing(fixed.spacing.tolist())
    image.SetOrigin(fixed.world_from_index[:-1, -1].tolist())
    image.SetDirection(directions.flatten().tolist())
    return image


def field_of(image: Any, name: str) -> FieldTransform:
    """The transform of a SimpleITK image of vectors.

    Raises:
        InputError: its pixels are not as many finite numbers as it has dimensions.
    """
    ndim, count = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if ndim not in (2, 3) or count != ndim:
        raise InputError(f"{name}: expected a displacement of {ndim} numbers at each pixel, got {count}")
    values = torch.as_tensor(package("SimpleITK").GetArrayFromImage(image).astype(np.float64)).movedim(-1, 0).contiguous()
    linear = np.reshape(image.GetDirection(), (ndim, ndim)) * np.array(image.GetSpacing())
    if not values.isfinite().all():
        raise InputError(f"{name}: expected finite displacements, got some that are not")
    world = torch.as_tensor(affine(linear, np.array(image.GetOrigin())))
    return FieldTransform(values, Grid(tuple(values.shape[1:]), world))
