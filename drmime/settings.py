"""Options as text: YAML on the command line and in files, matrices in files."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from drmime.errors import InputError, existing_file
from drmime.registry import known

EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # YAML 1.1 takes 1e-3, without a point, for a word
MATRIX_FILES = (".txt", ".json")
MOST = 100_000  # values in a text: a few lines of aliases of aliases can stand for billions
MOST_KEYS = 1000  # in a mapping, merged ones included
MERGE = "tag:yaml.org,2002:merge"  # of the key <<, which may be given more than once


def parse(text: str) -> Any:
    """The value that YAML text stands for; only plain values, never code.

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
        InputError: no such file, not YAML, a key given twice, aliases that unfold to a flood, not a mapping.
    """
    text = _text(path, "a YAML file")
    try:
        values = _loaded(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not YAML that can be used ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected options as 'name: value', got {type(values).__name__}")
    return values


def put(state: dict[str, Any], key: str, value: Any) -> None:
    """Set what a dotted key stands for; mappings on the way that are not there are made.

    Raises:
        InputError: something else than a mapping is on the way.
    """
    *way, last = key.split(".")
    for place, part in enumerate(way, 1):
        inner = state.get(part)
        if not (inner is None or isinstance(inner, Mapping)):
            raise InputError(f"{'.'.join(way[:place])}: expected 'name: value' pairs, got {inner!r}")
        state[part] = inner = dict(inner or {})  # a copy: anchors share
        state = inner
    state[last] = value


def matrix(path: Path) -> np.ndarray:
    """A homogeneous matrix from rows of numbers (.txt) or from JSON: rows, or a saved registration.

    Raises:
        InputError: no such file, or no matrix in it.
    """
    text = _text(path, "a matrix file")
    try:
        if path.suffix == ".json":
            state = json.loads(text)
            rows = state["transform"]["matrix"] if isinstance(state, dict) else state
        else:
            rows = rows_of_numbers(text)
        values = np.array(rows, dtype=float)
        if values.ndim != 2:
            raise ValueError(f"shape {values.shape}")
        return values
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected rows of numbers, or a registration saved by drmime ({error!r})") from error


def rows_of_numbers(text: str) -> list[list[float]]:
    """The numbers of each line that holds any, commas or blanks between them; raises ValueError on anything else."""
    return [[float(word) for word in line.replace(",", " ").split()] for line in text.splitlines() if line.strip()]


def _text(path: Path, what: str) -> str:
    existing_file(path, what)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


class _Loader(yaml.SafeLoader):
    """Plain values only, and no key twice in a mapping, where the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"the key {name!r} is given twice, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what << names, which multiplies as aliases do."""
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
    """Words such as 1e-3 become the numbers they are; aliases are unfolded, up to what is `left` of values.

    Raises:
        ValueError: more than that, or a date or the like, which JSON does not hold.
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
