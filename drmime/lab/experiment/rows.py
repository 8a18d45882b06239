"""`Row`, the record of one registration: its input, settings and results. Each is one JSON file, written atomically."""

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

SHORTEST_HIDDEN = 4  # characters; shorter hidden texts occur in ordinary words and are not replaced


@dataclass(frozen=True)
class Row:
    """The result of one method on one pair with one seed; all values can be written as JSON."""

    method: str
    pair: str
    seed: int
    domain: str = ""
    error: str = ""  # why there is no result; "" if there is one
    matrix: list[list[float]] | None = None  # moving_from_fixed in pixels, x first
    landmarks: bool = False  # whether the pair has landmarks, also if there is no result
    scores: Mapping[str, float] = field(default_factory=dict)  # of `evaluate`; similarity, probability, expected_rtre, …
    batch: int = 1  # number of pairs that were registered together; "seconds" are those of all divided by it
    stop: str = ""  # why the optimisation ended, a sentence
    verdict: str = ""  # aligned, doubtful or failed; "" if the method gives none
    doubts: list[str] = field(default_factory=list)  # names of `Doubt`
    notes: list[str] = field(default_factory=list)
    curves: Mapping[str, list[float]] = field(default_factory=dict)  # "step", "total", "level0", …, thinned
    pictures: Mapping[str, str] = field(default_factory=dict)  # "fixed", "before", "after", "error": files in the run's folder
    points: Mapping[str, list[list[float]]] = field(default_factory=dict)  # "fixed", "before", "after" in shares of the picture
    settings: Mapping[str, Any] = field(default_factory=dict)  # resolved
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # path: size, sha256

    def to_json(self) -> str:
        """The row as standard JSON; values that are not finite become null."""
        return json.dumps(_finite(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Row":
        """The row from text of `to_json`; scores that are null become infinite.

        Raises:
            InputError: the text is not a row.
        """
        try:
            state = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not a row of an experiment ({shown(str(error))})") from error
        return cls.of(fields(state, NEEDED, OTHERS))

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Row":
        """The row from a dict of checked values."""
        scores = {name: math.inf if value is None else float(value) for name, value in state.get("scores", {}).items()}
        return cls(**dict(state) | {"scores": scores})


NEEDED = {"method": str, "pair": str, "seed": int}
OTHERS = {
    **dict.fromkeys(("domain", "error", "stop", "device", "verdict"), str),
    "matrix": (None, [[float]]),
    "landmarks": bool,
    "batch": int,
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
    """Write a row; `hidden` texts in settings, messages and paths are replaced by their names.

    Raises:
        InputError: `path` cannot be written.
    """
    shown = {name: without(getattr(row, name), hidden or {}) for name in ("error", "stop", "notes", "settings")}
    inputs = {without(file, hidden or {}): digest for file, digest in row.inputs.items()}
    write_text(path, replace(row, **shown, inputs=inputs).to_json())


def without(value: Any, hidden: Mapping[str, str]) -> Any:
    """`value` with hidden texts replaced by their names, longest first, since a text may contain another."""
    if isinstance(value, Mapping):
        return {name: without(item, hidden) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without(item, hidden) for item in value]
    if isinstance(value, str):
        for text in sorted(hidden, key=len, reverse=True):
            value = value.replace(text, hidden[text]) if len(text) >= SHORTEST_HIDDEN else value
    return value


def read(path: Path) -> Row | None:
    """Read the row in a file; None if the file does not exist.

    Raises:
        InputError: the file is not a row.
    """
    return Row.of(saved.read(path, "a row of 'drmime run'", NEEDED, OTHERS)) if os.path.isfile(path) else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
