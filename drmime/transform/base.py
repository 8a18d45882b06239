"""The two roles that a map of points has: `Model`, which is optimised, and `Transform`, the finished result."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from drmime.errors import InputError
from drmime.geometry.grid import Grid


class Transform(ABC):
    """A map from the fixed image's world to the moving image's world. A value: nothing about it changes.

    `first @ second` is the map that applies `second` first.
    """

    @property
    @abstractmethod
    def ndim(self) -> int:
        """Spatial dimensions."""

    @abstractmethod
    def __call__(self, points: Tensor) -> Tensor:
        """Points (..., N, D), float64, x first, to where they go; NaN where a point has no image."""

    @abstractmethod
    def jacobian(self, points: Tensor) -> Tensor:
        """Derivatives of the mapped points (rows) by the points (columns). (..., N, D) -> (..., N, D, D)"""

    @abstractmethod
    def inverse(self) -> "Transform":
        """The map from the moving image's world to the fixed image's."""

    @abstractmethod
    def describe(self, fixed: Grid) -> str:
        """The map in words, of an image on the grid `fixed`."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What it consists of, as JSON holds it: a mapping that `of` takes, with the `kind` by which it is saved.

        Kinds are listed in `drmime.parts.SAVED_TRANSFORMS`.
        """

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> "Transform":
        """The transform that `state` describes; InputError or ValueError where it describes none."""
        raise NotImplementedError

    def joined(self, other: "Transform") -> "Transform | None":
        """`self @ other` as one transform of its kind, or None where there is none."""
        return None

    def __matmul__(self, other: "Transform") -> "Transform":
        return chain([*_parts(self), *_parts(other)])


class Chain(Transform):
    """Several transforms, of which the last is applied first; made by `@`."""

    def __init__(self, parts: Sequence[Transform]) -> None:
        self.parts = tuple(parts)

    @property
    def ndim(self) -> int:
        return self.parts[0].ndim

    def __call__(self, points: Tensor) -> Tensor:
        for part in reversed(self.parts):
            points = part(points)
        return points

    def jacobian(self, points: Tensor) -> Tensor:
        product = torch.eye(self.ndim).to(points)
        for part in reversed(self.parts):
            product, points = part.jacobian(points) @ product, part(points)
        return product

    def inverse(self) -> Transform:
        return Chain([part.inverse() for part in reversed(self.parts)])

    def describe(self, fixed: Grid) -> str:
        return "; then ".join(part.describe(fixed) for part in reversed(self.parts))

    def state(self) -> dict[str, Any]:
        raise InputError(f"expected a transform that can be saved, got a chain of {len(self.parts)}")


def chain(parts: Sequence[Transform]) -> Transform:
    """The composition of transforms, of which the last is applied first; neighbours that make one transform are joined."""
    left: list[Transform] = []
    for part in parts:
        joined = left[-1].joined(part) if left else None
        left[-1:] = [joined] if joined is not None else [*left[-1:], part]
    return left[0] if len(left) == 1 else Chain(left)


def _parts(transform: Transform) -> Sequence[Transform]:
    return transform.parts if isinstance(transform, Chain) else (transform,)


class Places(NamedTuple):
    """Where a `Model` takes points; frames are those of the finest levels' grids (`drmime.geometry.grid`)."""

    points: Tensor  # shape: (L, B, N, D), of the moving frame
    valid: Tensor  # shape: (L, B, N), bool; False where a point has no image
    jacobian: Tensor  # shape: (L, B, N or 1, D, D), of the moving point by the fixed one, up to a positive factor


class Family(ABC):
    """What a `Model` is made of: which maps `register` may find, as options of its `transform`."""

    @abstractmethod
    def basis(self, ndim: int) -> dict[str, Tensor]:
        """Generators of the linear maps among them, by name, (D+1, D+1) float64 each: what starts are searched for in."""

    @abstractmethod
    def model(self, start: Tensor, fixed: Grid, moving: Grid) -> "Model":
        """The model that begins at `start` (B, D+1, D+1), moving_from_fixed in the world, for images on these grids."""


class Model(nn.Module, ABC):
    """What the loop optimises: a map from the fixed frame to the moving frame for each of the B pairs of a batch.

    Each parameter has the pairs along its first axis, so that the loop can keep the best state of each pair.
    """

    @abstractmethod
    def forward(self, points: Tensor, levels: slice) -> Places:
        """Map points (L or 1, B or 1, N, D) of the fixed frame, read on L `levels` of the pyramid; 0 is the finest."""

    @abstractmethod
    def result(self) -> list[Transform]:
        """The transform of each pair, as the parameters are now."""

    def penalty(self) -> Tensor | float:
        """What is taken from the similarity of each pair for a map that is not smooth. shape: (B,), or 0"""
        return 0.0

    def curves(self) -> Mapping[str, Tensor]:
        """Numbers (B,) worth following from step to step, by name."""
        return {}
