"""The one error a user meets when something they gave cannot be used, and the checks of plain numbers that raise it."""

import math
from typing import Any

import numpy as np


class InputError(ValueError):
    """Input that cannot be used; the message says what was expected, what came, and what to do."""


def whole(name: str, value: Any, least: int) -> int:
    """`value` if it is a whole number of at least `least`, else an InputError."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise InputError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def number(name: str, value: Any, above: float, below: float = math.inf) -> float:
    """`value` if it is a number between `above` and `below`, both excluded, else an InputError."""
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and above < value < below:
        return float(value)
    limits = f"above {above:g}" + (f" and below {below:g}" if below < math.inf else "")
    raise InputError(f"{name}: expected a number {limits}, got {value!r}")
