"""Maps of points: the model that is optimised, the transform that is its result, and images warped by it."""

import functools
from collections.abc import Callable

from drmime.geometry.lie import GROUPS
from drmime.transform.base import Model, Transform
from drmime.transform.linear import LieGroup, LieModel, LieTransform, MatrixTransform

TRANSFORMS: dict[str, Callable[..., LieGroup]] = {
    **{name: functools.partial(LieGroup, name) for name in GROUPS},
    "lie": LieGroup,
}

__all__ = ["TRANSFORMS", "LieGroup", "LieModel", "LieTransform", "MatrixTransform", "Model", "Transform"]
