"""What this library wrote is read back, or one error names the file and the key."""

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import drmime
from drmime import saved
from drmime.errors import LONGEST, InputError
from drmime.lab.experiment import rows

ODD: list[Any] = [None, True, -1, 0, 1e308, "", "x" * 2000, [], {}, [[]], {"a": 1}, "../../etc/passwd", 10**30, [[1, 2], [3]]]


def odd(choose: np.random.Generator) -> Any:
    return copy.deepcopy(ODD[choose.integers(len(ODD))])


def mutated(value: Any, choose: np.random.Generator) -> Any:
    """One value changed, at any depth."""
    if isinstance(value, dict) and value and choose.random() < 0.85:
        value = dict(value)
        key = list(value)[choose.integers(len(value))]
        if choose.random() < 0.1:
            del value[key]
        else:
            value[key] = mutated(value[key], choose)
        return value
    if isinstance(value, list) and value and choose.random() < 0.8:
        value = list(value)
        at = int(choose.integers(len(value)))
        if choose.random() < 0.2:
            value.insert(at, odd(choose))
        else:
            value[at] = mutated(value[at], choose)
        return value
    return odd(choose)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (1, str, "key: expected text, got 1"),
        (True, int, "key: expected a whole number, got True"),
        ("1", float, "key: expected a number or null, got '1'"),
        ([1, "a"], [int], r"key\[1\]: expected a whole number"),
        ({"a": {"b": []}}, {str: {str: float}}, r"key\.a\.b: expected a number"),
        ({"a": 1}, {"b": int}, "key: expected the keys b"),
        ([[1], 2], (None, [[float]]), r"key\[1\]: expected a list of a number or null"),
        ("x" * 5000, [str], "key: expected a list of text, got 'xxx.* … x"),
    ],
)
def test_a_value_of_another_kind_is_named_and_shown_in_short(value: Any, kind: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        saved.checked(value, kind, "key")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("value", "kind"), [(None, float), (1, float), ({}, {str: int}), (None, (None, [int])), ([], object)])
def test_values_of_their_kind_stay(value: Any, kind: Any) -> None:
    assert saved.checked(value, kind, "key") == value


@pytest.mark.parametrize("text", ["", "{", "[]", "NaN", '{"a": 1e999}', "[" * 100_000, "\x00"])
def test_what_is_no_json_is_told_in_short(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json: .*a thing"):
        saved.read(tmp_path / "a.json", "a thing", {"a": float})


def test_a_picture_in_place_of_a_transform_is_told_in_short(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n" + bytes(range(256)) * 1000)
    with pytest.raises(InputError, match=r"a\.png: not a registration saved by drmime: expected JSON") as caught:
        drmime.Registration.load(tmp_path / "a.png")
    assert len(str(caught.value)) < 400


def test_no_message_is_long() -> None:
    assert len(str(InputError("x" * 10**6))) < LONGEST + 10
    assert str(InputError("short")) == "short"


@pytest.fixture(scope="module")
def transform(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("saved") / "t.json"
    images = np.random.default_rng(0).random((2, 32, 34))
    drmime.register(*images, schedule={"steps": 2}, device="cpu", start="moments").save(path)
    return json.loads(path.read_text())


@pytest.mark.parametrize("seed", range(150))
def test_a_mutated_transform_is_used_or_refused(seed: int, transform: dict, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(mutated(transform, np.random.default_rng(seed))))
    try:
        found = drmime.Registration.load(tmp_path / "t.json")
        assert str(found.inverse())
        found.save(tmp_path / "again.json")
        found.warp(np.zeros(found.moving_grid.shape))
    except InputError:
        return


@pytest.mark.parametrize("seed", range(40))
def test_a_mutated_row_is_used_or_refused(seed: int, tmp_path: Path) -> None:
    tiny.needs_report()
    from drmime.lab.report import write

    row = rows.Row(
        "m", "p0", 0, matrix=np.eye(3).tolist(), landmarks=True, scores={"rtre_median": 0.001, "naed": 0.01}, notes=["a"],
        curves={"step": [0, 1], "total": [0.1, 0.2]}, points={"fixed": [[0.1, 0.2]]}, inputs={"f": {"size": 1, "sha256": "x"}},
    )  # fmt: skip
    state = json.loads(row.to_json())
    index = {
        "report": {"title": "t", "reference": "m", "threshold": 0.01},
        "methods": ["m"],
        "rows": ["m/0", "m/1"],
    }
    choose = np.random.default_rng(seed)
    (tmp_path / "rows" / "m").mkdir(parents=True)
    (tmp_path / "rows" / "m" / "0.json").write_text(json.dumps(mutated(state, choose)))
    (tmp_path / "rows" / "m" / "1.json").write_text(json.dumps(state | {"pair": "p1"}))
    (tmp_path / "experiment.json").write_text(json.dumps(mutated(index, choose) if seed % 5 == 0 else index))
    with pytest.raises(InputError) if seed % 5 == 0 else contextlib.nullcontext():
        _, _, unreadable = write(tmp_path)
        assert all("rows/m/0.json" in reason for reason in unreadable)
        if seed % 5 == 0:  # a list of rows that can be used after all
            raise InputError("none")
