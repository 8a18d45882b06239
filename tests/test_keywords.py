"""What a type checker knows of `register` is what `register` takes and gives; its example gives what it says."""

import doctest
import inspect
import typing
from pathlib import Path

import numpy as np
import pytest

import drmime
from drmime import registration
from drmime.keywords import Keywords

CODE = """
from drmime import register
one = register("a.png", "b.png", levels=3)
one.matrx
many = register(["a.png"], ["b.png"])
many[0].matrix
many.matrix
register("a.png", "b.png", level=3)
"""


def test_the_keywords_are_those_of_the_signature() -> None:
    taken = inspect.signature(drmime.register).parameters
    assert list(Keywords.__annotations__) == [name for name in taken if name not in ("fixed", "moving")]
    hints = typing.get_type_hints(registration.register)
    assert all(hints[name] == hint for name, hint in typing.get_type_hints(Keywords).items())


@pytest.mark.slow
def test_a_type_checker_finds_what_is_misspelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    monkeypatch.setenv("MYPYPATH", str(Path(drmime.__file__).parents[1]))
    (tmp_path / "code.py").write_text(CODE, encoding="utf-8")
    out, problem, _ = api.run(
        ["--config-file=", "--follow-imports=silent", f"--cache-dir={tmp_path}", str(tmp_path / "code.py")]
    )
    assert not problem
    assert '"Registration" has no attribute "matrx"' in out
    assert '"list[Registration]" has no attribute "matrix"' in out
    assert 'keyword argument "level"' in out or "No overload variant" in out


def test_the_example_gives_what_it_says() -> None:
    found = doctest.DocTestFinder().find(registration.register, globs={"np": np, "register": drmime.register})
    (example,) = [one for one in found if one.examples]
    assert doctest.DocTestRunner().run(example).failed == 0
