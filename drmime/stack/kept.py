"""Files in which results for pairs of images are kept as they are finished, so that a run that was ended goes on from there."""

import contextlib
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from drmime.version import __version__


def pair_file(folder: Path, first: int, second: int, known: Sequence[Any]) -> Path:
    """The file of a pair. Its name tells the version and all that its result depends on: `known`, as `plain` makes it."""
    key = hashlib.sha256(json.dumps([__version__, *known], sort_keys=True).encode()).hexdigest()[:16]
    return folder / f"{first:04d}-{second:04d}-{key}.json"


def plain(value: Any) -> Any:
    """An option or an array as JSON, equal for equal ones only; of a file with what it holds."""
    if isinstance(value, (np.ndarray, Tensor)):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    with contextlib.suppress(OSError):  # a string too long for a path
        if isinstance(value, (str, Path)) and Path(value).is_file():
            return [str(value), hashlib.sha256(Path(value).read_bytes()).hexdigest()]
    if hasattr(value, "__dict__") and not isinstance(value, type) and not inspect.isroutine(value):
        return [type(value).__qualname__, plain(vars(value))]
    return repr(value)  # of other objects with their address, so that their results are made anew
