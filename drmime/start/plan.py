"""`Start`: the options of `register` about its start; `Plan`: what the search for a start does with them."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError, numbers, shown, switch
from drmime.geometry.grid import Grid, scaled
from drmime.geometry.matrices import apply
from drmime.image.image import Image
from drmime.parts import PROPOSERS
from drmime.registry import build, name_of, options_as
from drmime.start.choose import starts_of
from drmime.start.propose.base import Proposer


@dataclass(frozen=True)
class Plan:
    """What proposes starts in addition to the given one."""

    asked: Sequence[tuple[str, Proposer]] = ()  # proposers that the user asked for, by name
    search: bool = True  # whether the looks of `drmime.start.looks` are taken ("auto")
    refine: bool = True  # False: the optimisation begins at the given start as it is


@dataclass(frozen=True)
class Start:
    """The given start of a registration, and what proposes further ones.

    Args:
        given: a name of `drmime.parts.PROPOSERS`, whose first proposal is used ("centre": image centre on image centre), or a
            homogeneous matrix (D+1, D+1) from fixed to moving world coordinates, x first; for lists of images, one matrix for
            all pairs or one each.
        propose: what proposes further starts: "auto", a search over every rotation, shift and scale that the transform allows;
            a name or mapping of `PROPOSERS`; a function of two images; a list of these; None or "none" for nothing. The
            proposals and the given start are refined and compared.
        refine: if False, the optimisation begins at the given start as it is, and nothing is proposed. A schedule with more
            steps and a higher rate (250 and 0.005) then corrects larger displacements.

    Raises:
        InputError: an unknown name or option.

    Example:
        >>> Start(given="mass", propose=["sift", "auto"]).plan.search
        True
    """

    given: Any = "centre"
    propose: Any = "auto"
    refine: bool = True
    plan: Plan = field(init=False, repr=False)
    first: Any = field(init=False, repr=False, compare=False)  # what `given` is: matrices, or a proposer

    def __post_init__(self) -> None:
        named = isinstance(self.given, (str, Mapping))
        first = build("start given", PROPOSERS, self.given, Callable) if named else self.given  # type: ignore[arg-type]
        object.__setattr__(self, "first", first)
        if isinstance(self.given, Path):
            raise InputError(f"start given: expected a name or a matrix, got the path {str(self.given)!r}. Read it first.")
        if isinstance(self.given, type):
            raise InputError(f"start given: expected a name, a matrix or a function of two images, got {shown(self.given)}")
        asked, search = _proposers(self.propose)
        refine = switch("start refine", self.refine)
        object.__setattr__(self, "plan", Plan(asked, search) if refine else Plan(search=False, refine=False))

    @classmethod
    def of(cls, value: Any) -> "Start":
        """The `Start` for a value of `register`'s option `start`: a `Start`, a mapping of its options, a matrix (`given`),
        None or "none" (`refine=False`), or anything that `propose` takes.
        """
        if isinstance(value, cls):
            return value
        if value is None or (isinstance(value, str) and value == "none"):
            return cls(propose=None, refine=False)
        if isinstance(value, Mapping) and "name" not in value:
            return options_as("start", cls, value)
        return cls(given=value) if _is_matrix(value) else cls(propose=value)

    def of_pair(self, number: int, count: int) -> "Start":
        """This start for one of `count` pairs: if a matrix is given for each, with its own.

        Raises:
            InputError: another number of matrices.
        """
        if callable(self.first) or _axes(self.first) != 3:
            return self
        if len(self.first) != count:
            raise InputError(f"start given: expected one matrix or one for each of {count} pairs, got {len(self.first)}")
        own = copy.copy(self)
        object.__setattr__(own, "given", self.given[number])
        object.__setattr__(own, "first", self.given[number])
        return own

    def on(self, fixed: Grid, moving: Grid) -> "Start":
        """This start where points are in pixels of images on these grids, whatever levels of them are compared."""
        bound = copy.copy(self)
        asked = [(name, _bound(part, fixed, moving)) for name, part in self.plan.asked]
        object.__setattr__(bound, "plan", replace(self.plan, asked=asked))
        object.__setattr__(bound, "first", _bound(self.first, fixed, moving))
        return bound

    def matrices(self, fixed: Image, moving: Image) -> Tensor:
        """The given start of each pair, moving_from_fixed in world coordinates. shape: (B, D+1, D+1), float64

        Raises:
            InputError: matrices that do not fit the images, or a proposer that finds no start for them.
        """
        values = self._proposed(fixed, moving) if callable(self.first) else self.first
        count, side = len(fixed.data), fixed.grid.ndim + 1
        matrices = numbers("start given", values)
        if matrices.shape not in ((side, side), (count, side, side)):
            raise InputError(
                f"start given: expected a homogeneous matrix of shape {(side, side)}, x first, got shape {matrices.shape}"
            )
        if not np.isfinite(matrices).all():
            raise InputError("start given: expected finite numbers, got NaN or infinity")
        if (np.linalg.cond(matrices[..., :-1, :-1]) > 1e8).any() or (np.linalg.det(matrices) == 0).any():
            raise InputError("start given: expected an invertible matrix, got a singular one")
        tensors = scaled(torch.as_tensor(matrices), fixed.grid)
        if not apply(tensors, fixed.grid.corners())[1].all():
            raise InputError("start given: expected a matrix whose horizon does not cross the fixed image")
        return tensors.expand(count, side, side).clone()

    def _proposed(self, fixed: Image, moving: Image) -> Tensor:
        """The first proposal for each pair."""
        fixed, moving = fixed.to("cpu"), moving.to("cpu")
        pairs = [(fixed.pair(number), moving.pair(number)) for number in range(len(fixed.data))]
        found = [starts_of("start given", self.first(*pair), fixed.grid.ndim) for pair in pairs]
        if not all(map(len, found)):
            name = name_of(self.given)
            raise InputError(f"start given: {name} found no start for these images; give a matrix or another name")
        return torch.stack([proposals[0] for proposals in found])


def _bound(part: Any, fixed: Grid, moving: Grid) -> Any:
    return part.on(fixed, moving) if hasattr(part, "on") else part


def _is_matrix(value: Any) -> bool:
    """Whether a value holds numbers: an array, a tensor, a number, or a list whose first element holds numbers."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (np.ndarray, Tensor, int, float, np.number))


def _axes(value: Any) -> int:
    """The number of axes of an array, or of lists of numbers, arrays or lists."""
    depth = 0
    while isinstance(value, (list, tuple)) and value:
        value, depth = value[0], depth + 1
    return depth + getattr(value, "ndim", 0)


def _proposers(spec: Any) -> tuple[list[tuple[str, Proposer]], bool]:
    """The proposers of a specification, by name, and whether "auto" is among them."""
    table: dict[str, Callable[..., Any]] = {**PROPOSERS, "auto": lambda: "auto"}
    asked: list[tuple[str, Proposer]] = []
    search = False
    nothing = spec is None or (isinstance(spec, str) and spec == "none")
    for one in [] if nothing else spec if isinstance(spec, (list, tuple)) else [spec]:
        part = build("start", table, one)
        if isinstance(part, str) and part == "auto":
            search = True
        elif isinstance(part, type) or not callable(part):
            raise InputError(f"start: expected one of {', '.join(table)} or a function of two images, got {shown(part)}")
        else:
            asked.append((name_of(one), part))
    return asked, search
