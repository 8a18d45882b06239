"""The two roles that a map of points has: `Model`, which is optimised, and `Transform`, the finished result."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.parts import SAVED_TRANSFORMS
from drmime.registry import known
from drmime.saved import fields
from drmime.schedule import Schedule


class Transform(ABC):
    """A map of points from the fixed image's world to the moving image's world; immutable.

    `first @ second` is the map that applies `second` first.
    """

    @property
    @abstractmethod
    def ndim(self) -> int:
        """Spatial dimensions."""

    @abstractmethod
    def __call__(self, points: Tensor) -> Tensor:
        """Map points (..., N, D), float64, x first, in world coordinates; NaN for a point without an image."""

    def jacobian(self, points: Tensor) -> Tensor:
        """Derivatives of the mapped points (rows) with respect to the points (columns). (..., N, D) -> (..., N, D, D)

        By automatic differentiation, where a transform does not know them better.
        """
        with torch.inference_mode(False), torch.enable_grad():
            here = points.detach().clone().requires_grad_()
            there = self(here)
            rows = [torch.autograd.grad(axis.sum(), here, retain_graph=True)[0] for axis in there.unbind(-1)]
        return torch.stack(rows, -2)

    @property
    def detail(self) -> float:
        """World length of the fixed image below which the map is smooth; infinite for an affine map, 0 if it is not known."""
        return 0.0

    def deviation(self, points: Tensor) -> Tensor:
        """Standard deviations of the coordinates of mapped points. (..., N, D) -> (..., N, D)

        Raises:
            InputError: they are not known for this transform.
        """
        raise InputError(
            f"deviation: not known for a {type(self).__name__}; expected the transform that a registration ended with"
        )

    @abstractmethod
    def inverse(self) -> "Transform":
        """The map from the moving image's world to the fixed image's world."""

    @abstractmethod
    def describe(self, fixed: Grid) -> str:
        """A description of the map for an image on the grid `fixed`, as text."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The transform as values that JSON can hold: a mapping with its `kind`, which `of` reads.

        Kinds are listed in `drmime.parts.SAVED_TRANSFORMS`.
        """

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> "Transform":
        """The transform that `state` describes; InputError or ValueError if it does not describe one."""
        raise NotImplementedError

    def joined(self, other: "Transform") -> "Transform | None":
        """`self @ other` as one transform of the same kind, or None if that is not possible."""
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

    @property
    def detail(self) -> float:
        found, scale = math.inf, 1.0
        for part in reversed(self.parts):
            found = min(found, part.detail / scale)
            if math.isinf(part.detail):
                origin = torch.zeros(1, self.ndim, dtype=torch.float64)
                scale *= float(torch.linalg.matrix_norm(part.jacobian(origin)[0], 2))
        return found

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
        return {"kind": "chain", "parts": [part.state() for part in self.parts]}

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> Transform:
        parts = [from_state(part, ndim) for part in fields(state, {"parts": [{str: object}]})["parts"]]
        if not parts:
            raise ValueError("a chain of no transforms")
        return chain(parts)


def from_state(state: Mapping[str, Any], ndim: int) -> Transform:
    """The transform that `Transform.state` described.

    Raises:
        InputError, ValueError: there is no such kind, or the rest describes no transform of that kind.
    """
    kind = known("kind of transform", fields(state, {"kind": str})["kind"], SAVED_TRANSFORMS)
    return SAVED_TRANSFORMS[kind].of(state, ndim)  # type: ignore[attr-defined]


def chain(parts: Sequence[Transform]) -> Transform:
    """The composition of transforms, the last applied first; neighbours are joined into one transform where possible."""
    left: list[Transform] = []
    for part in parts:
        joined = left[-1].joined(part) if left else None
        left[-1:] = [joined] if joined is not None else [*left[-1:], part]
    return left[0] if len(left) == 1 else Chain(left)


def _parts(transform: Transform) -> Sequence[Transform]:
    return transform.parts if isinstance(transform, Chain) else (transform,)


class Places(NamedTuple):
    """Points mapped by a `Model`; frames are those of the finest levels' grids (`drmime.geometry.grid`)."""

    points: Tensor  # shape: (L, B, N, D), of the moving frame, in the dtype of the points given
    valid: Tensor  # shape: (L, B, N), bool; False where a point has no image
    # of the moving point by the fixed one, up to a positive factor, any dtype; approximate: values are turned by it.
    # shape: (L or 1, B, N or 1, D, D)
    jacobian: Tensor


class Held(NamedTuple):
    """Pixels of the fixed image that are not deformed."""

    mask: Tensor  # shape: (1 or B, *grid.shape), bool, on the CPU
    grid: Grid  # of the image as it was given


class Hints(NamedTuple):
    """What is known of a map apart from the images."""

    landmarks: tuple[Tensor, Tensor] | None = None  # of the fixed and of the moving world, (N, D) each, float64, on the CPU
    held: Held | None = None


NO_HINTS = Hints()


class Family(ABC):
    """A family of transforms, such as a Lie group, from which `register` makes a `Model`; a stage of its option `transform`."""

    linear = True  # whether every map is one matrix; the stages after a linear one begin at it
    chance: float = 0.05  # probability with which a deformation may be taken for true that is none, in all `fits` together

    @abstractmethod
    def basis(self, ndim: int) -> dict[str, Tensor]:
        """Generators of the family's linear maps, by name, (D+1, D+1) float64 each; starts are searched among these maps."""

    @abstractmethod
    def model(self, start: Tensor, fixed: Grid, moving: Grid, hints: Hints = NO_HINTS) -> "Model":
        """The model of one of `fits`, which begins at `start` (B, D+1, D+1), moving_from_fixed in the world, on these grids.

        Raises:
            InputError: an option or hint that does not fit these grids.
        """

    def schedule(self, given: Schedule) -> Schedule:
        """The schedule of one of `fits`; `given` is that of the whole run."""
        return given

    def fits(self) -> "Sequence[Family]":
        """Families that are fitted one after the other, all from the same start; of deformations the best supported is kept."""
        return (self,)


class Model(nn.Module, ABC):
    """What the optimisation loop optimises: a map from the fixed frame to the moving frame for each of the B pairs of a batch.

    Rules: each parameter has the pairs along its first axis, so that the loop can keep the best state of each pair; all share
    the rate of the schedule, so they are in units of the fixed frame. The map is the start before the first step. Tensors that
    are needed on the device are buffers. A model can be copied (`copy.deepcopy`): no tensor with a gradient is kept.
    """

    @abstractmethod
    def forward(self, points: Tensor, levels: slice) -> Places:
        """Map points (L or 1, B or 1, N, D) of the fixed frame, read on L `levels` of the pyramid; 0 is the finest."""

    def mapped(self, points: Tensor, levels: slice, then: Tensor) -> Places:
        """The map, followed by affine maps `then` (L, 1, D+1, D+1), float64, from the moving frame.

        The points are a new tensor, which is changed where it is not finite.
        """
        places = self(points, levels)
        return places._replace(points=apply(then.to(places.points), places.points, is_affine=True)[0])

    @abstractmethod
    def result(self, covariance: Tensor | None = None) -> list[Transform]:
        """The transform of each pair at the current parameters.

        `covariance`: of the parameters of `around`, for each pair, if it is known. shape: (B, K, K)
        """

    def around(self, copies: int = 1) -> "Model | None":
        """A model of small deviations from the current maps, which it has at zero parameters; None if there is none.

        `copies`: consecutive maps of the model for each current one.
        """
        return None

    def smoother(self) -> "list[Model]":
        """Models of smoother maps than the current ones, the first without any deformation; none for linear maps."""
        return []

    def penalty(self) -> Tensor | None:
        """Subtracted from the similarity of each pair; for maps that are not smooth. shape: (B,); None: there is none"""
        return None

    def curves(self) -> Mapping[str, Tensor]:
        """Values (B,) to plot at each step, by name."""
        return {}
