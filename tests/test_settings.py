"""YAML as options: plain values, every key once, no floods."""

import contextlib
import itertools
import time
from pathlib import Path

import pytest

from drmime import settings
from drmime.errors import InputError

LETTERS = "abcdefghijkl"


def document(tmp_path: Path, text: str) -> dict:
    path = tmp_path / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return settings.document(path)


def flood(first: str, link: str) -> str:
    """Each line names the line before nine times."""
    lines = [f"a: &a {first}"]
    lines += [f"{name}: &{name} {link.format(', '.join([f'*{before}'] * 9))}" for before, name in itertools.pairwise(LETTERS)]
    return "\n".join(lines)


def test_anchors_and_merged_keys_are_unfolded(tmp_path: Path) -> None:
    found = document(tmp_path, "x: &x {levels: 3, rate: 1e-3}\ny:\n  <<: *x\n  levels: 5\nz: *x\n")
    assert found == {"x": {"levels": 3, "rate": 0.001}, "y": {"levels": 5, "rate": 0.001}, "z": {"levels": 3, "rate": 0.001}}


def test_merged_keys_may_come_from_several(tmp_path: Path) -> None:
    assert document(tmp_path, "a: &a {p: 1}\nb: &b {q: 2}\nc: {<<: [*a, *b]}")["c"] == {"p": 1, "q": 2}


def test_a_flood_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    began = time.process_time()
    with pytest.raises(InputError, match="more than"):
        document(tmp_path, flood("[x, x]", "[{}]"))
    assert time.process_time() - began < 20  # unfolded, it would hold billions


def test_a_flood_of_merges_is_refused_at_once_or_takes_each_key_once(tmp_path: Path) -> None:
    """PyYAML 6.0.4 merges a key once; before it, what is merged multiplied as aliases do."""
    began = time.process_time()
    found: dict = {}
    with contextlib.suppress(InputError):
        found = document(tmp_path, flood("{k: 1, m: 2}", "{{<<: [{}]}}"))
    assert all(value == {"k": 1, "m": 2} for value in found.values())
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "'a' is given twice, line 1"),
        ("m:\n  one: {x: 1, x: 2}", "'x' is given twice, line 2"),
        ("a: &a [*a]", "recursion"),
        ("a: !!python/object/apply:os.getcwd []", "python"),
        ("a: !!python/name:os.system", "python"),
        ("- 1\n- 2", "expected options as 'name: value', got list"),
        ("just words", "got str"),
        ("", "got NoneType"),
        ("a: [1", "not YAML"),
        ("a: \x00", "not YAML"),
        ("a: [2020-01-01]", "2020-01-01 is a date in YAML; in quotes"),
        ("2020-01-01: a", "2020-01-01 is a date in YAML; in quotes"),
        ("a: !!binary aGk=", "is a bytes in YAML"),
        ("a: !!set {x, y}", "is a set in YAML"),
        ("a: !!pairs [x: 1]", "is a tuple in YAML"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=r"some\.yaml") as caught:
        document(tmp_path, text)
    assert words in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        settings.document(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(InputError, match=r"^.*latin\.yaml: cannot be read"):
        settings.document(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("-2E5", -2e5), ("1e", "1e"), ("no", False), ("[1, 2e1]", [1, 20.0])]
)
def test_values_on_the_command_line(text: str, value: object) -> None:
    assert settings.parse(text) == value
