"""Parts of a registration as plain values, as JSON holds them, and back."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from drmime.errors import whole
from drmime.geometry.grid import Grid
from drmime.start.doubts import Doubt, Doubts
from drmime.start.refine import Candidate
from drmime.transform.base import Transform
from drmime.transform.linear import LieTransform, MatrixTransform

MATRIX = [[float]]
GRID = {"shape": [int], "world_from_index": MATRIX}  # kinds, as `saved` takes them
CANDIDATE = {"source": str, "evidence": float, "matrix": MATRIX}
DOUBTS = {str: {str: (str, float, [float])}}
TRANSFORM = (  # of each kind
    {"kind": str, "matrix": MATRIX},
    {"kind": str, "matrix": MATRIX, "generators": {str: MATRIX}, "coefficients": {str: float}},
)

TRANSFORMS: dict[str, type[MatrixTransform]] = {"matrix": MatrixTransform, "lie": LieTransform}

KINDS: dict[str, Any] = {  # of what a saved registration holds beside its format
    **{"transform": TRANSFORM, "fixed": GRID, "moving": GRID, "stop": str, "similarity": float, "overlap": float},
    **{"history": [[float]], "totals": [float], "levels": int, "notes": [str], "settings": {str: object}, "version": str},
    **{"candidates": [CANDIDATE], "peak_ratio": float, "doubts": DOUBTS},
}


def null(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def grid_state(grid: Grid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "world_from_index": grid.world_from_index.tolist()}


def grid(state: Mapping[str, Any]) -> Grid:
    shape = tuple(whole("shape", n, 1) for n in state["shape"])
    if len(shape) not in (2, 3):
        raise ValueError(f"a grid of {len(shape)} dimensions")
    return Grid(shape, torch.as_tensor(invertible(state["world_from_index"], len(shape))))


def transform_state(transform: Transform) -> dict[str, Any]:
    """Raises InputError where a transform is of a kind that is not saved."""
    kind = next((name for name, kind in TRANSFORMS.items() if type(transform) is kind), None)
    return {"kind": kind, **transform.state()}


def transform(state: Mapping[str, Any], ndim: int) -> Transform:
    """Raises KeyError where there is no such kind, ValueError where the numbers are no transform."""
    kind = TRANSFORMS[state["kind"]]
    matrix = torch.as_tensor(invertible(state["matrix"], ndim))
    if kind is MatrixTransform:
        return MatrixTransform(matrix)
    basis = {name: torch.as_tensor(square(rows, ndim)) for name, rows in state["generators"].items()}
    return LieTransform(matrix, basis, {name: number(value) for name, value in state["coefficients"].items()})


def candidate_state(candidate: Candidate) -> dict[str, Any]:
    return {
        "source": candidate.source,
        "evidence": null(candidate.evidence),
        "matrix": candidate.matrix.tolist(),
    }


def candidate(state: Mapping[str, Any], ndim: int) -> Candidate:
    matrix = torch.as_tensor(invertible(state["matrix"], ndim))
    return Candidate(state["source"], matrix, number(state["evidence"]))


def doubts_state(doubts: Doubts) -> dict[str, Any]:
    return {
        doubt.name: {name: null(value) if isinstance(value, float) else value for name, value in figures.items()}
        for doubt, figures in doubts.items()
    }


def doubts(state: Mapping[str, Mapping[str, Any]]) -> Doubts:
    """Raises KeyError, TypeError or ValueError where there is no such doubt, or its figures are not those it needs."""
    found = {Doubt[name]: {key: number(v) if v is None else v for key, v in figures.items()} for name, figures in state.items()}
    for doubt, figures in found.items():
        doubt.sentence(figures)
    return found


def square(rows: Sequence[Sequence[float]], ndim: int) -> np.ndarray:
    matrix = np.array(rows, dtype=float)
    if matrix.shape != (ndim + 1, ndim + 1) or not np.isfinite(matrix).all():
        raise ValueError(f"expected a finite matrix of {ndim + 1} rows and columns")
    return matrix


def invertible(rows: Sequence[Sequence[float]], ndim: int) -> np.ndarray:
    matrix = square(rows, ndim)
    if np.linalg.det(matrix) == 0:  # a rank would depend on units
        raise ValueError("expected an invertible matrix")
    return matrix
