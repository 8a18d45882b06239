"""Converts parts of a registration to values that JSON can hold, and back."""

import math
from collections.abc import Mapping
from typing import Any

from drmime.errors import whole
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import invertible
from drmime.start.doubts import Doubt, Doubts
from drmime.start.refine import Candidate

MATRIX = [[float]]
GRID = {"shape": [int], "world_from_index": MATRIX}  # kinds, as in `drmime.saved`
CANDIDATE = {"source": str, "evidence": float, "matrix": MATRIX}
DOUBTS = {str: {str: (str, float, [float])}}

KINDS: dict[str, Any] = {  # of the values in a saved registration, except its format
    **{"transform": {str: object}, "fixed": GRID, "moving": GRID, "stop": str, "similarity": float, "overlap": float},
    **{"history": [[float]], "totals": [float], "levels": int, "notes": [str], "settings": {str: object}, "version": str},
    **{"candidates": [CANDIDATE], "peak_ratio": float, "doubts": DOUBTS},
}


def null(value: float) -> float | None:
    """`value`, or None if it is NaN or infinite, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def number(value: float | None) -> float:
    """The inverse of `null`: NaN for None."""
    return math.nan if value is None else float(value)


def grid_state(grid: Grid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "world_from_index": grid.world_from_index.tolist()}


def grid(state: Mapping[str, Any]) -> Grid:
    shape = tuple(whole("shape", n, 1) for n in state["shape"])
    if len(shape) not in (2, 3):
        raise ValueError(f"a grid of {len(shape)} dimensions")
    return Grid(shape, invertible(state["world_from_index"], len(shape)))


def candidate_state(candidate: Candidate) -> dict[str, Any]:
    return {
        "source": candidate.source,
        "evidence": null(candidate.evidence),
        "matrix": candidate.matrix.tolist(),
    }


def candidate(state: Mapping[str, Any], ndim: int) -> Candidate:
    matrix = invertible(state["matrix"], ndim)
    return Candidate(state["source"], matrix, number(state["evidence"]))


def doubts_state(doubts: Doubts) -> dict[str, Any]:
    return {
        doubt.name: {name: null(value) if isinstance(value, float) else value for name, value in figures.items()}
        for doubt, figures in doubts.items()
    }


def doubts(state: Mapping[str, Mapping[str, Any]]) -> Doubts:
    """The inverse of `doubts_state`; KeyError, TypeError or ValueError for an unknown doubt or unsuitable figures."""
    found = {Doubt[name]: {key: number(v) if v is None else v for key, v in figures.items()} for name, figures in state.items()}
    for doubt, figures in found.items():
        doubt.sentence(figures)
    return found
