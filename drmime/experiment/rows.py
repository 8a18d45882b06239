"""The record of one registration: what was run on what, and what came out. A JSON file each, which is whole or not there."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from drmime.io import write_text


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
            ValueError: not such text.
        """
        state = json.loads(text)
        names = {one.name for one in fields(cls)}
        if not isinstance(state, dict) or not {"method", "pair", "seed"} <= set(state) <= names:
            raise ValueError("not a row of an experiment")
        scores = {name: math.inf if value is None else float(value) for name, value in state.get("scores", {}).items()}
        return cls(**state | {"scores": scores})


def write(row: Row, path: Path) -> None:
    """Raises an InputError where the place cannot be written."""
    write_text(path, row.to_json())


def read(path: Path) -> Row | None:
    """The row in a file; None where there is none, or something else."""
    try:
        return Row.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
