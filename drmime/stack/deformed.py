"""Deformed sections: after the linear maps of a stack, each image is deformed to match its neighbour nearer the reference.

The map from the reference to an image i is the product of the fits along the best way to it: that of (p, i) after the map to p,
where p is the image before i. A fit is the last stage of `register` alone and begins where the linear maps of both images lead;
it stays linear if the parts of the image that it did not use are no evidence of a deformation (`drmime.holdout`).
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from drmime import checks
from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.stack.links import Pair, Pairs
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform


def split(transform: Any) -> tuple[Any, Any]:
    """The linear stages of a specification of a transform, and the deformation after them, None if there is none.

    Raises:
        InputError: as `drmime.checks.stages`; or a deformation alone.

    Example:
        >>> split("rigid+velocity")
        ('rigid', 'velocity')
    """
    specs, made = checks.specs(transform), checks.stages(transform)
    if made[-1].linear:
        return transform, None
    linear = specs[:-1]
    if not linear:
        raise InputError(
            f"transform: expected a linear transform before the deformation for a stack, as in 'rigid+velocity', got "
            f"{shown(transform)}"
        )
    return linear[0] if len(linear) == 1 else "+".join(linear) if isinstance(transform, str) else linear, specs[-1]


def check(deformation: Any, grid: Grid) -> None:
    """InputError if a deformation cannot be fitted to images on a grid without landmarks."""
    (family,) = checks.stages(deformation)
    family.fits()[0].model(torch.eye(grid.ndim + 1, dtype=torch.float64)[None], grid, grid)


def fits(pairs: Pairs, deformation: Any, steps: Mapping[int, int], matrices: Tensor, progress: bool) -> list[Pair]:
    """Register each image, with only a deformation, with the one before it on the way from the reference.

    Args:
        steps: of each image the one before it.
        matrices: image_from_reference, world. shape: (images, D+1, D+1)
        progress: shows a bar on stderr, where that is a terminal.

    Returns:
        the registrations, in the order of `steps`; `first` is the image before.
    """
    found = []
    for image, before in tqdm(steps.items(), "deformations", disable=not (progress and sys.stderr.isatty()), leave=False):
        found.append(pairs.deformed(before, image, between(matrices, before, image), deformation))
    return found


def between(matrices: Tensor, first: int, second: int) -> Tensor:
    """The linear map second_from_first."""
    return matrices[second] @ torch.linalg.inv(matrices[first])


def bent(fit: Pair) -> bool:
    """Whether a fit found a deformation."""
    return fit.registration.success and not isinstance(fit.registration.transform, MatrixTransform)


def maps(fitted: Sequence[Pair], matrices: Tensor, start: Tensor) -> dict[int, Transform]:
    """The map to each image on whose way a fit found a deformation.

    Args:
        fitted: as `fits` gives them, an image after the one before it.
        matrices: image_from_root. shape: (images, D+1, D+1)
        start: root_from_reference, world. shape: (D+1, D+1)
    """
    found: dict[int, Transform] = {}
    for fit in fitted:
        first = found.get(fit.first, MatrixTransform(matrices[fit.first] @ start))
        if bent(fit):
            found[fit.second] = fit.registration.transform @ first if _moves(first) else fit.registration.transform
        elif fit.first in found:
            found[fit.second] = MatrixTransform(between(matrices, fit.first, fit.second)) @ first
    return found


def _moves(transform: Transform) -> bool:
    """Whether it is another map than the identity."""
    return not isinstance(transform, MatrixTransform) or not torch.equal(
        transform.matrix, torch.eye(transform.ndim + 1).double()
    )


def note(fit: Pair) -> str:
    """What a fit did, as a sentence."""
    if bent(fit):
        return f"Deformed to match image {fit.first}; the verdict, with its expected error, is that of the linear map."
    why = "there is no evidence of a deformation" if fit.registration.success else fit.registration.stop.value
    return f"Not deformed to match image {fit.first}: {why.rstrip('.')}."
