"""Options as text: YAML on the command line and in files, matrices in files."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from drmime.errors import InputError, existing_file
from drmime.registry import known

EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # YAML 1.1 takes 1e-3, without a point, for a word
MATRIX_FILES = (".txt", ".json")


def parse(text: str) -> Any:
    """The value that YAML text stands for; only plain values, never code.

    Raises:
        InputError: not YAML.
    """
    try:
        return _numbers(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"expected YAML, such as {{name: mine, hidden: 64}}, got {text!r} ({error})") from error


def config(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The options in a YAML file, each one of `names`.

    Raises:
        InputError: no such file, not a mapping in YAML, an unknown option.
    """
    try:
        values = _numbers(yaml.safe_load(_text(path, "a YAML file")))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not YAML ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected options as 'name: value', got {type(values).__name__}")
    names = list(names)
    return {known(f"option in {path}:", str(name), names): value for name, value in values.items()}


def matrix(path: Path) -> np.ndarray:
    """A homogeneous matrix from rows of numbers (.txt) or from JSON: rows, or a saved registration.

    Raises:
        InputError: no such file, or no matrix in it.
    """
    text = _text(path, "a matrix file")
    try:
        if path.suffix == ".json":
            state = json.loads(text)
            rows = state["matrix"] if isinstance(state, dict) else state
        else:
            rows = [[float(part) for part in line.replace(",", " ").split()] for line in text.splitlines() if line.strip()]
        values = np.array(rows, dtype=float)
        if values.ndim != 2:
            raise ValueError(f"shape {values.shape}")
        return values
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected rows of numbers, or a registration saved by drmime ({error!r})") from error


def _text(path: Path, what: str) -> str:
    existing_file(path, what)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _numbers(value: Any) -> Any:
    """Words such as 1e-3 become the numbers they are."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value
