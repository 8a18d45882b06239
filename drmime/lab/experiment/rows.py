"""The record of one registration: what was run on what, and what came out. A JSON file each, which is whole or not there."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from drmime import saved
from drmime.errors import InputError, shown
from drmime.image.io import write_text
from drmime.saved import fields

SHORTEST = 4  # characters of a hidden text: shorter ones are in every word


@dataclass(frozen=True)
class Row:
    """One finished (method, pair, seed); every value is plain, as JSON holds it."""

    method: str
    pair: str
    seed: int
    domain: str = ""
    error: str = ""  # why there is no result; "" where there is one
    matrix: list[list[float]] | None = None  # moving_from_fixed in pixels, x first
    landmarks: bool = False  # whether the pair has landmarks, even where there is no result to judge by them
    scores: Mapping[str, float] = field(default_factory=dict)  # of `evaluate`; similarity, seconds, memory (MB it added)
    stop: str = ""  # the sentence of why it ended
    doubts: list[str] = field(default_factory=list)  # names of `Doubt`
    notes: list[str] = field(default_factory=list)
    curves: Mapping[str, list[float]] = field(default_factory=dict)  # "step", "total", "level0", …, thinned
    pictures: Mapping[str, str] = field(default_factory=dict)  # "fixed", "before", "after": files below the run's folder
    points: Mapping[str, list[list[float]]] = field(default_factory=dict)  # "fixed", "before", "after" in shares of the picture
    settings: Mapping[str, Any] = field(default_factory=dict)  # resolved
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # path: size, sha256

    def to_json(self) -> str:
        """Standard JSON: what is not finite is null."""
        return json.dumps(_finite(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Row":
        """The row of `to_json`; a score that is null was not finite.

        Raises:
            InputError: not such text.
        """
        try:
            state = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not a row of an experiment ({shown(str(error))})") from error
        return cls.of(fields(state, NEEDED, OTHERS))

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Row":
        """The row of checked values."""
        scores = {name: math.inf if value is None else float(value) for name, value in state.get("scores", {}).items()}
        return cls(**dict(state) | {"scores": scores})


NEEDED = {"method": str, "pair": str, "seed": int}
OTHERS = {
    **dict.fromkeys(("domain", "error", "stop", "device"), str),
    "matrix": (None, [[float]]),
    "landmarks": bool,
    "scores": {str: float},
    "doubts": [str],
    "notes": [str],
    "curves": {str: [float]},
    "pictures": {str: str},
    "points": {str: [[float]]},
    "settings": {str: object},
    "versions": {str: str},
    "inputs": {str: {"size": int, "sha256": str}},
}


def write(row: Row, path: Path, hidden: Mapping[str, str] | None = None) -> None:
    """Write a row, and in place of `hidden` texts their names: in settings, messages and paths.

    Raises:
        InputError: the place cannot be written.
    """
    shown = {name: without(getattr(row, name), hidden or {}) for name in ("error", "stop", "notes", "settings")}
    inputs = {without(file, hidden or {}): told for file, told in row.inputs.items()}
    write_text(path, replace(row, **shown, inputs=inputs).to_json())


def without(value: Any, hidden: Mapping[str, str]) -> Any:
    """A value with names in place of hidden texts, the longest first, which may hold others."""
    if isinstance(value, Mapping):
        return {name: without(item, hidden) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without(item, hidden) for item in value]
    if isinstance(value, str):
        for text in sorted(hidden, key=len, reverse=True):
            value = value.replace(text, hidden[text]) if len(text) >= SHORTEST else value
    return value


def read(path: Path) -> Row | None:
    """The row in a file; None where there is none.

    Raises:
        InputError: something else is in it.
    """
    return Row.of(saved.read(path, "a row of 'drmime run'", NEEDED, OTHERS)) if os.path.isfile(path) else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
