"""Reads options from text: YAML on the command line and in files, matrices in files."""

import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from drmime.errors import InputError, existing_file
from drmime.registry import known

EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # YAML 1.1 reads 1e-3, without a point, as text
MATRIX_FILES = (".txt", ".json")  # rows of numbers, or a saved registration
NUMBER = re.compile(r"[Tt]rue|[Ff]alse|-?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?")  # 007, 1:30 and no stay text
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
MOST = 100_000  # most values in a text, since a few lines of nested aliases can expand to billions
MOST_KEYS = 1000  # most keys in a mapping, including merged ones
MERGE = "tag:yaml.org,2002:merge"  # tag of the key <<, which may be given more than once


def parse(text: str) -> Any:
    """The value of a YAML text; only plain values, never code.

    Raises:
        InputError: not YAML.
    """
    try:
        return _loaded(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"expected YAML, such as {{name: mine, hidden: 64}}, got {text!r} ({error})") from error


def text(values: Mapping[str, Any]) -> str:
    """Plain values as YAML, in their order."""
    return yaml.dump(dict(values), Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True)


def config(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The options in a YAML file, each one of `names`.

    Raises:
        InputError: no such file, not a mapping in YAML, an unknown option.
    """
    names = list(names)
    return {known(f"option in {path}:", str(name), names): value for name, value in document(path).items()}


def document(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        InputError: no such file, not YAML, a key given twice, aliases that expand to too many values, not a mapping.
    """
    text = _text(path, "a YAML file")
    try:
        values = _loaded(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not YAML that can be used ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected options as 'name: value', got {type(values).__name__}")
    return values


def expanded(value: Any, hidden: dict[str, str] | None = None) -> Any:
    """`value` with environment variables for `${NAME}` and `${NAME:-default}`; their values and names are added to `hidden`.

    Raises:
        InputError: a variable that is not set and has no default.
    """
    hidden = {} if hidden is None else hidden
    if isinstance(value, Mapping):
        return {name: expanded(item, hidden) for name, item in value.items()}
    if isinstance(value, list):
        return [expanded(item, hidden) for item in value]
    if not isinstance(value, str):
        return value
    text = VARIABLE.sub(functools.partial(_variable, hidden), value)
    return parse(text) if VARIABLE.fullmatch(value) and NUMBER.fullmatch(text) else text


def _variable(hidden: dict[str, str], found: re.Match[str]) -> str:
    name, default = found.groups()
    value = os.environ.get(name)
    if value and not NUMBER.fullmatch(value):
        hidden[value] = f"${{{name}}}"
    if not value and default is not None:  # as in a shell, an empty variable takes the default
        value = default
    if value is None:
        raise InputError(f"${{{name}}}: the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return value


def put(state: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key; missing mappings on its path are created.

    Raises:
        InputError: a value on the path is not a mapping.
    """
    *way, last = key.split(".")
    for place, part in enumerate(way, 1):
        inner = state.get(part)
        if not (inner is None or isinstance(inner, Mapping)):
            raise InputError(f"{'.'.join(way[:place])}: expected 'name: value' pairs, got {inner!r}")
        state[part] = inner = dict(inner or {})  # a copy, since aliases share one object
        state = inner
    state[last] = value


def matrix(path: Path) -> np.ndarray:
    """A homogeneous matrix from a file of rows of numbers.

    Raises:
        InputError: no such file, or no matrix in it.
    """
    text = _text(path, "a matrix file")
    try:
        values = np.array(rows_of_numbers(text), dtype=float)
        if values.ndim != 2:
            raise ValueError(f"shape {values.shape}")
        return values
    except ValueError as error:
        raise InputError(f"{path}: expected rows of numbers ({error})") from error


def rows_of_numbers(text: str) -> list[list[float]]:
    """The numbers of each line that is not empty, separated by commas or blanks; ValueError for anything else."""
    return [[float(word) for word in line.replace(",", " ").split()] for line in text.splitlines() if line.strip()]


def _text(path: Path, what: str) -> str:
    existing_file(path, what)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


class _Loader(yaml.SafeLoader):
    """Loads only plain values; a key given twice in a mapping is an error, since the first would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"the key {name!r} is given twice, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge the mappings given by <<, with a limit on the keys, since nested merges multiply them."""
        for key, value in node.value:
            self._count(value.value if key.tag == MERGE else (), node)
        super().flatten_mapping(node)
        self._count(node.value, node)

    def _count(self, values: Sequence[Any], node: yaml.MappingNode) -> None:
        if len(values) > MOST_KEYS:
            raise yaml.YAMLError(f"a mapping of more than {MOST_KEYS} keys, line {node.start_mark.line + 1}")


def _loaded(text: str) -> Any:
    return _plain(yaml.load(text, _Loader), [MOST])  # a SafeLoader # noqa: S506


def _plain(value: Any, left: list[int]) -> Any:
    """The value with texts such as 1e-3 as numbers and aliases expanded; `left` counts down the values still allowed.

    Raises:
        ValueError: more values than that, or one that JSON cannot hold, such as a date.
    """
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"more than {MOST} values, aliases unfolded")
    if isinstance(value, dict):
        return {_json(key): _plain(item, left) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, left) for item in value]
    value = _json(value)
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


def _json(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{value} is a {type(value).__name__} in YAML; in quotes, it would be a word")
