"""Reads JSON files of this library and checks the kind of every value; an error names the file and the key.

A kind is `str`, `int`, `bool`, `float` (null where a number is not finite), `object` (anything), `[kind]`, `{str: kind}` (any
keys), `{"key": kind, …}` (exactly these keys), or a tuple of alternatives; `None` is null.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drmime.errors import LARGEST, InputError, existing_file, shown

Kind = Any
MOST = 2**30  # most bytes of a file that is read


def read(path: str | Path, what: str, kinds: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None) -> dict[str, Any]:
    """The mapping in a JSON file, checked; keys other than those of `kinds` and `optional` are ignored.

    Raises:
        InputError: no such file, or other contents.
    """
    path = existing_file(path, what)
    try:
        if path.stat().st_size > MOST:
            raise InputError(f"{path}: expected {what}, got a file of {path.stat().st_size} bytes")
        state = json.loads(path.read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not {what}: expected JSON ({shown(str(error))})") from error
    try:
        return fields(state, kinds, optional)
    except InputError as error:
        raise InputError(f"{path}: not {what}: {error}") from error


def claims(path: str | Path, form: str) -> bool:
    """Whether a file begins as JSON whose format, its first key, begins with `form`.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(200).decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return "".join(head.split()).startswith("".join(f'{{"format":"{form}'.split()))


def _finite(text: str) -> float:
    """The number of a JSON text; ValueError if it is infinite or NaN, which JSON does not allow."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"expected a finite number, got {text}")
    return number


def fields(state: Any, kinds: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None) -> dict[str, Any]:
    """The values of a mapping for the keys of `kinds`, all required, and of `optional`, with their kinds checked.

    Raises:
        InputError: not a mapping, a key that is missing, a value of another kind.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"expected keys and values, got {shown(state)}")
    missing = [key for key in kinds if key not in state]
    if missing:
        raise InputError(f"expected the key {missing[0]!r}, got {shown(list(state))}")
    every = {**kinds, **(optional or {})}
    return {key: checked(state[key], kind, key) for key, kind in every.items() if key in state}


def checked(value: Any, kind: Kind, key: str) -> Any:
    """`value` if it is of the kind, else an InputError that names `key`."""
    if isinstance(kind, tuple):
        for one in kind:
            try:
                return checked(value, one, key)
            except InputError as error:
                last = error
        raise last
    if isinstance(kind, list) and isinstance(value, list):
        return [checked(item, kind[0], f"{key}[{at}]") for at, item in enumerate(value)]
    if isinstance(kind, dict) and isinstance(value, dict):
        if str in kind:
            return {name: checked(item, kind[str], f"{key}.{name}") for name, item in value.items()}
        if set(value) == set(kind):
            return {name: checked(item, kind[name], f"{key}.{name}") for name, item in value.items()}
    if kind is object or (kind is None and value is None) or _is(value, kind):
        return value
    raise InputError(f"{key}: expected {_word(kind)}, got {shown(value)}")


def _is(value: Any, kind: Kind) -> bool:
    if kind is float:
        return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(kind, type) and isinstance(value, kind)


def _word(kind: Kind) -> str:
    if isinstance(kind, tuple):
        return " or ".join(map(_word, kind))
    if isinstance(kind, list):
        return f"a list of {_word(kind[0])}"
    if isinstance(kind, dict):
        return f"keys and {_word(kind[str])}" if str in kind else f"the keys {', '.join(kind)}"
    words = {str: "text", int: "a whole number", float: "a number or null", bool: "true or false", None: "null"}
    return words.get(kind, "a value")
