"""Names to parts, and the checks of plain numbers: what a user misspells is answered with what is known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drmime.errors import InputError, number, whole
from drmime.parts import PROPOSERS
from drmime.registry import build, known, name_of, names_only, options_of


class Part:
    def __init__(self, size: int = 1, colour: str = "red") -> None:
        if size < 0:
            raise TypeError("size must not be negative")
        self.size, self.colour = size, colour


TABLE = {"part": Part, "answer": lambda: 42}


def test_a_name_builds_with_defaults() -> None:
    part = build("toy", TABLE, "part")
    assert (part.size, part.colour) == (1, "red")
    assert build("toy", TABLE, "answer") == 42


def test_a_mapping_builds_with_options_and_stays_as_it_was() -> None:
    spec = {"name": "part", "size": 3}
    assert build("toy", TABLE, spec).size == 3
    assert spec == {"name": "part", "size": 3}


def test_an_object_is_returned_as_it_is() -> None:
    part = Part()
    assert build("toy", TABLE, part) is part


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("part", "part"),
        ({"name": "part", "size": 3}, "part"),
        ("a:b", "a:b"),
        (Part(), "Part"),
        (Part, "Part"),
        (known, "known"),
    ],
)
def test_a_part_is_called_as_it_was_asked_for(spec: Any, name: str) -> None:
    assert name_of(spec) == name


def test_a_path_is_imported() -> None:
    built = build("toy", {}, {"name": "fractions:Fraction", "numerator": 3, "denominator": 6})
    assert str(built) == "1/2"


def test_a_path_is_not_imported_where_a_file_may_not_name_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to see what it is; inner blocks give nothing back; afterwards all is as it was."""
    (tmp_path / "trap.py").write_text("raise SystemExit('this code was run')")
    monkeypatch.syspath_prepend(tmp_path)
    with names_only():
        assert build("toy", TABLE, "answer") == 42
        for _ in range(2):
            with pytest.raises(InputError, match=r"'trap:Part' is code.*--allow-code"):
                build("toy", TABLE, "trap:Part")
            with names_only(False), pytest.raises(InputError, match="is code"):
                build("toy", TABLE, {"name": "trap:Part", "size": 1})
    with names_only(False):
        assert str(build("toy", {}, {"name": "fractions:Fraction", "numerator": 3, "denominator": 6})) == "1/2"
    test_a_path_is_imported()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("parts", ["unknown toy 'parts'", "did you mean 'part'", "Known: answer, part"]),
        ("zebra", ["unknown toy 'zebra'", "Known: answer, part"]),
        ({"name": "part", "colors": 1}, ["unknown option of toy 'part' 'colors'", "did you mean 'colour'", "size"]),
        ({"name": "answer", "size": 1}, ["unknown option of toy 'answer' 'size'", "Known: none"]),
        ({"size": 1}, ["toy", "'name'", "{'size': 1}"]),
        ({"name": 3}, ["toy", "'name'"]),
        ({"name": "part", "size": -1}, ["toy 'part'", "size must not be negative"]),
        ("no_such_module:thing", ["module:attribute", "no_such_module"]),
        ("math:no_such_thing", ["module:attribute", "no_such_thing"]),
        (":thing", ["module:attribute"]),
        (".relative:thing", ["module:attribute"]),
        ("math:pi", ["toy: expected something that can be called", "'math:pi'", "3.14"]),
        ({"name": "math:pi", "size": 1}, ["toy", "math:pi"]),
    ],
)
def test_a_bad_specification_is_told_what_is_known(spec: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        build("toy", TABLE, spec)
    assert [word for word in words if word not in str(caught.value)] == []


def test_an_unknown_name_far_from_all_has_no_hint() -> None:
    with pytest.raises(InputError, match="zebra") as caught:
        known("toy", "zebra", TABLE)
    assert "did you mean" not in str(caught.value)


def test_what_a_part_cannot_do_without_is_told() -> None:
    with pytest.raises(InputError, match='"landmarks", "fixed_points": …, "moving_points": …}, got nothing but the name'):
        build("proposer", PROPOSERS, "landmarks")


def test_options_are_the_keywords_but_not_the_rest() -> None:
    def factory(a: int, *, b: int = 1, **others: int) -> None: ...

    assert options_of(factory) == ["a", "b"]
    assert options_of(Part) == ["size", "colour"]


@pytest.mark.parametrize("value", [2, 7, np.int16(3), np.uint8(9)])
def test_whole_numbers_of_any_integer_type_pass(value: Any) -> None:
    checked = whole("steps", value, 2)
    assert checked == value
    assert type(checked) is int


@pytest.mark.parametrize("value", [1, -3, 2.0, True, "3", None, np.float64(3), math.nan])
def test_what_is_not_a_whole_number_or_too_small_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InputError, match=r"^steps: expected a whole number of at least 2, got "):
        whole("steps", value, 2)


def test_an_upper_limit_is_told() -> None:
    with pytest.raises(InputError, match=r"^size: expected a whole number from 16 to 1024, got 2000"):
        whole("size", 2000, 16, 1024)


@pytest.mark.parametrize("value", [0.5, 0.001, np.float32(0.25)])
def test_numbers_within_the_limits_pass(value: Any) -> None:
    checked = number("rate", value, 0, 1)
    assert checked == value
    assert type(checked) is float


@pytest.mark.parametrize("value", [0, 1, -1, 1.5, math.nan, math.inf, -math.inf, "0.5", None, True, [0.5]])
def test_numbers_at_or_beyond_the_limits_are_refused_by_name(value: Any) -> None:
    with pytest.raises(InputError, match=r"^rate: expected a number above 0 and below 1, got "):
        number("rate", value, 0, 1)


def test_without_an_upper_limit_only_infinity_is_too_large() -> None:
    assert number("rate", 1e300, 0) == 1e300
    with pytest.raises(InputError, match="above 0, got inf"):
        number("rate", math.inf, 0)
