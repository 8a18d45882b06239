"""`InputError`, raised when an argument or a file cannot be used, and checks of simple values that raise it."""

import importlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

LARGEST = float(np.finfo(np.float64).max)
LARGEST_WHOLE = 2**63 - 1


LONGEST = 1000  # most characters of a message
SHOWN = 100  # most characters of a value in a message


class InputError(ValueError):
    """Input that cannot be used; the message says what was expected, what was given, and what to do.

    Of a message longer than `LONGEST` the middle is left out.
    """

    def __init__(self, message: str) -> None:
        kept = LONGEST // 2
        super().__init__(message if len(message) <= LONGEST else f"{message[:kept]} … {message[-kept:]}")


def shown(value: Any) -> str:
    """The `repr` of a value for a message: on one line, with the middle left out if it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} … {text[-SHOWN // 4 :]}"


def whole(name: str, value: Any, least: int, most: int = LARGEST_WHOLE) -> int:
    """`value` if it is a whole number from `least` to `most`, else an InputError."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and least <= value <= most:
        return int(value)
    limits = f"of at least {least}" if most == LARGEST_WHOLE else f"from {least} to {most}"
    raise InputError(f"{name}: expected a whole number {limits}, got {shown(value)}")


def number(name: str, value: Any, above: float, below: float = math.inf) -> float:
    """`value` if it is a number between `above` and `below`, both excluded, else an InputError."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if real and above < value < min(below, LARGEST):
        return float(value)
    limits = f"above {above:g}" + (f" and below {below:g}" if below < math.inf else "")
    raise InputError(f"{name}: expected a number {limits}, got {shown(value)}")


def numbers(name: str, value: Any, form: str = "real numbers in rows of equal length") -> np.ndarray:
    """`value` as an array of float64 if it holds real numbers and nothing else, else an InputError that expects `form`."""
    try:
        value = value.detach().cpu() if hasattr(value, "detach") else value
        array = np.asarray(value)
        if array.dtype.kind in "buif":
            return array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    raise InputError(f"{name}: expected {form}, got {shown(value)}")


def switch(name: str, value: Any) -> bool:
    """`value` if it is True or False, else an InputError."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise InputError(f"{name}: expected True or False, got {shown(value)}")


def existing_file(path: str | Path, what: str) -> Path:
    """`path` if a file is there, else an InputError that expected `what`."""
    if not os.path.isfile(path):  # unlike Path.is_file, it accepts a name that is too long
        found = "is a folder" if os.path.isdir(path) else "does not exist"
        raise InputError(f"expected {what}, got {str(path)!r}, which {found}")
    return Path(path)


def package(name: str, user: str = "medical formats", extra: str = "medical") -> Any:
    """The module of an optional package. Raises: InputError: it is not installed; `user` needs it, `extra` brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{user} need {name.partition('.')[0]}: pip install 'drmime[{extra}]'") from error
