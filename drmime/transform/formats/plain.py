"""Matrices as rows of numbers (CSV, text, NumPy), and this library's own JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from drmime import saved, settings
from drmime.errors import InputError, numbers, shown
from drmime.geometry.grid import Grid
from drmime.image.io import write_atomically, write_text
from drmime.transform.base import Transform, from_state
from drmime.transform.formats.files import Format, from_matrix
from drmime.transform.linear import matrix_of

TRANSFORM = "drmime transform 1"
MOST = 2**16  # bytes of a NumPy file of one matrix
DIRECTION = "the transform takes fixed world points (x first) to moving world points"


class Matrix(Format):
    """A homogeneous matrix (D+1, D+1) or (D, D+1), moving_from_fixed in world coordinates, x first, one row a line."""

    endings = (".csv", ".npy", ".txt")

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        rows = _array(path) if path.suffix.lower() == ".npy" else settings.matrix(path)
        if rows.shape in ((2, 3), (3, 4)):
            rows = np.vstack([rows, np.eye(len(rows) + 1)[-1]])
        if rows.shape not in ((3, 3), (4, 4)):
            raise InputError(f"{path}: expected a matrix of shape (3, 3) or (4, 4), or without its last row, got {rows.shape}")
        return from_matrix(rows, path)

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        matrix = matrix_of(transform).numpy()
        if not np.isfinite(matrix).all():
            raise InputError(f"{path}: expected a transform of finite numbers")
        if path.suffix.lower() == ".npy":
            write_atomically(path, lambda file: np.save(file, matrix), ".npy")
        else:
            separator = "," if path.suffix.lower() == ".csv" else " "
            write_text(path, "".join(f"{separator.join(map(repr, row))}\n" for row in matrix.tolist()))


class Json(Format):
    """This library's own files: of `Registration.save`, of which the transform is taken, and of a transform alone."""

    endings = (".json",)

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        state = saved.read(path, "a transform saved by drmime", {"format": str, "transform": {str: object}})
        if not state["format"].startswith("drmime "):
            raise InputError(f"{path}: expected a transform saved by drmime, got the format {shown(state['format'])}")
        try:
            return from_state(state["transform"], _dimension(state["transform"]))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"{path}: not a transform saved by drmime ({shown(str(error))})") from error

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        state: dict[str, Any] = {"format": TRANSFORM, "direction": DIRECTION, "transform": transform.state()}
        try:
            text = json.dumps(state, indent=1, allow_nan=False)
        except ValueError as error:
            raise InputError(f"{path}: expected a transform of finite numbers") from error
        write_text(path, f"{text}\n")


def _dimension(state: Any) -> int:
    """The dimension of a saved transform, by its first part; 2 if it has none, which `from_state` then refuses."""
    while isinstance(state, dict):
        if isinstance(state.get("parts"), list) and state["parts"]:
            state = state["parts"][0]
        elif "of" in state:
            state = state["of"]
        else:
            matrix, shape = state.get("matrix"), state.get("shape")
            ndim = len(matrix) - 1 if isinstance(matrix, list) else len(shape) if isinstance(shape, list) else 2
            return 3 if ndim == 3 else 2
    return 2


def _array(path: Path) -> np.ndarray:
    try:
        if path.stat().st_size > MOST:
            raise ValueError(f"a file of {path.stat().st_size} bytes")
        return numbers(str(path), np.load(path, allow_pickle=False), "an array of numbers")
    except InputError:
        raise
    except Exception as error:  # a damaged header raises errors of many kinds
        raise InputError(f"{path}: cannot be read as an array ({shown(str(error))})") from error
