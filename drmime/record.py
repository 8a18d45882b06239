"""Converts parts of a registration to values that JSON can hold, and back."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from drmime.errors import shown, whole
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import invertible
from drmime.optimise import Stop
from drmime.start.doubts import Doubt, Doubts
from drmime.start.refine import Candidate
from drmime.transform.base import Transform, from_state
from drmime.transform.warp import in_pixels
from drmime.verdict.calibration import Range
from drmime.verdict.evidence import Blocks
from drmime.verdict.judge import Status, Verdict

SAVED = "drmime registration"  # how the format of every version begins
FORMAT = f"{SAVED} 5"
MATRIX = [[float]]
PLAIN_GRID = {"shape": [int], "world_from_index": MATRIX, "placed": bool, "unit": str}  # kinds, as in `drmime.saved`
GRID = ({**PLAIN_GRID, "crs": str}, PLAIN_GRID)
CANDIDATE = {"source": str, "evidence": float, "matrix": MATRIX}
DOUBTS = {str: {str: (str, float, [float])}}
RANGE = {"median": float, "low": float, "high": float}
VERDICT = {
    "status": str,
    "probability": float,
    "expected_error": RANGE,
    "expected_pixels": RANGE,
    "figures": {str: float},
}
BLOCKS = (None, {"points": MATRIX, "errors": MATRIX, "weights": [float], "side": float, "chance": float})

KINDS: dict[str, Any] = {  # of the values in a saved registration, except its format
    **{"transform": {str: object}, "fixed": GRID, "moving": GRID, "stop": str, "similarity": float, "overlap": float},
    **{"history": [[float]], "totals": [float], "levels": int, "notes": [str], "settings": {str: object}, "version": str},
    **{"candidates": [CANDIDATE], "peak_ratio": float, "doubts": DOUBTS},
    **{"verdict": VERDICT, "blocks": BLOCKS},
}


def state(result: Any, transform: Mapping[str, Any]) -> dict[str, Any]:
    """All that a `Registration` holds, `transform` as given, as JSON holds it."""
    return {
        "format": FORMAT,
        "direction": "the transform takes fixed world points (x first) to moving world points",
        "transform": transform,
        "description": result.describe(),
        "fixed": grid_state(result.fixed_grid),
        "moving": grid_state(result.moving_grid),
        "stop": result.stop.name,
        "reason": result.stop.value,
        "similarity": null(result.similarity),
        "overlap": null(result.overlap),
        "version": result.version,
        "verdict": verdict_state(result.verdict),
        "doubts": doubts_state(result.doubts),
        "reasons": list(result.reasons),
        "peak_ratio": null(result.peak_ratio),
        "candidates": [candidate_state(one) for one in result.candidates],
        "notes": list(result.notes),
        "settings": dict(result.settings),
        "blocks": blocks_state(result.blocks),
        "levels": result.history.shape[1],
        "totals": [null(round(float(value), 6)) for value in result.totals],
        "history": [[null(round(float(value), 6)) for value in row] for row in result.history],
    }


def fields(state: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Registration` from values of the right kinds; raises ValueError and the like where they do not fit."""
    if state["format"] != FORMAT:
        raise ValueError(f"format: expected {FORMAT!r}, got {shown(state['format'])}")
    fixed, moving = grid(state["fixed"]), grid(state["moving"])
    if fixed.ndim != moving.ndim:
        raise ValueError("grids of unequal dimension")
    transform = from_state(state["transform"], fixed.ndim)
    if not _usable(transform, fixed, moving):
        raise ValueError("numbers too large to be used")
    history = np.array([[number(value) for value in row] for row in state["history"]]).reshape(-1, int(state["levels"]))
    return {
        "transform": transform,
        "fixed_grid": fixed,
        "moving_grid": moving,
        "stop": Stop[state["stop"]],
        "similarity": number(state["similarity"]),
        "overlap": number(state["overlap"]),
        "history": history,
        "totals": np.array([number(value) for value in state["totals"]]).reshape(len(history)),
        "settings": dict(state["settings"]),
        "candidates": tuple(candidate(one, fixed.ndim) for one in state["candidates"]),
        "peak_ratio": number(state["peak_ratio"]),
        "doubts": doubts(state["doubts"]),
        "verdict": verdict(state["verdict"]),
        "blocks": blocks(state["blocks"], fixed.ndim),
        "notes": tuple(state["notes"]),
        "version": state["version"],
    }


def _usable(transform: Transform, fixed: Grid, moving: Grid) -> bool:
    """Whether the middle of the fixed image is mapped to finite pixels of the moving image and back; what overflows is not."""
    mapping = in_pixels(transform, fixed, moving)
    there = mapping((fixed.size[None] - 1) / 2)
    return bool(there.isfinite().all() and mapping.inverse()(there).isfinite().all())


def null(value: float) -> float | None:
    """`value`, or None if it is NaN or infinite, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def number(value: float | None) -> float:
    """The inverse of `null`: NaN for None."""
    return math.nan if value is None else float(value)


def grid_state(grid: Grid) -> dict[str, Any]:
    matrix = grid.world_from_index.tolist()
    state = {"shape": list(grid.shape), "world_from_index": matrix, "placed": grid.placed, "unit": grid.unit}
    return state | ({"crs": grid.crs} if grid.crs else {})


def grid(state: Mapping[str, Any]) -> Grid:
    shape = tuple(whole("shape", n, 1) for n in state["shape"])
    if len(shape) not in (2, 3):
        raise ValueError(f"a grid of {len(shape)} dimensions")
    matrix = invertible(state["world_from_index"], len(shape))
    return Grid(shape, matrix, state["placed"], state["unit"], state.get("crs", ""))


def candidate_state(candidate: Candidate) -> dict[str, Any]:
    return {
        "source": candidate.source,
        "evidence": null(candidate.evidence),
        "matrix": candidate.matrix.tolist(),
    }


def candidate(state: Mapping[str, Any], ndim: int) -> Candidate:
    matrix = invertible(state["matrix"], ndim)
    return Candidate(state["source"], matrix, number(state["evidence"]))


def verdict_state(found: Verdict) -> dict[str, Any]:
    return {
        "status": str(found.status),
        "probability": null(found.probability),
        "expected_error": {name: null(value) for name, value in found.expected_error._asdict().items()},
        "expected_pixels": {name: null(value) for name, value in found.expected_pixels._asdict().items()},
        "figures": {name: null(value) for name, value in found.figures.items()},
    }


def verdict(state: Mapping[str, Any]) -> Verdict:
    """The inverse of `verdict_state`; ValueError for an unknown status."""
    world, pixels = (Range(*(number(state[key][name]) for name in RANGE)) for key in ("expected_error", "expected_pixels"))
    figures = {name: number(value) for name, value in state["figures"].items()}
    probability = number(state["probability"])
    ascending = all(one.low <= one.median <= one.high for one in (world, pixels))
    if not math.isnan(probability) and not (0 <= probability <= 1 and ascending):
        raise ValueError("verdict: expected a probability from 0 to 1, and errors in ascending order")
    return Verdict(Status(state["status"]), probability, world, pixels, figures)


def blocks_state(found: Blocks | None) -> dict[str, Any] | None:
    if found is None:
        return None
    points, errors, weights = (part.tolist() for part in found[:3])
    return {"points": points, "errors": errors, "weights": weights, "side": found.side, "chance": found.chance}


def blocks(state: Mapping[str, Any] | None, ndim: int) -> Blocks | None:
    """The inverse of `blocks_state`; ValueError or TypeError for arrays that do not fit each other."""
    if state is None:
        return None
    points, errors = (np.array(state[name], float).reshape(len(state[name]), ndim) for name in ("points", "errors"))
    weights = np.array(state["weights"], float).reshape(len(points))
    side, chance = float(state["side"]), float(state["chance"])
    finite = all(np.isfinite(part).all() for part in (points, errors, weights))
    if len(errors) != len(points) or not finite or side <= 0 or chance <= 0 or (weights < 0).any():
        raise ValueError("blocks: expected as many finite points, errors and weights from 0 on, and positive lengths")
    return Blocks(points, errors, weights, side, chance)


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
