"""What a type checker knows of `register` is what `register` takes and gives; its example gives what it says."""

import doctest
import inspect
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import translation

import drmime
from drmime import registration
from drmime.geometry.grid import Grid
from drmime.keywords import Keywords
from drmime.transform.linear import LieTransform
from drmime.verdict.evidence import Blocks

CODE = """
from drmime import register
one = register("a.png", "b.png", levels=3)
one.matrx
many = register(["a.png"], ["b.png"])
many[0].matrix
many.matrix
register("a.png", "b.png", level=3)
some = register(["a.png"], ["b.png"], errors="return", levels=3)
some[0].matrix
either = register("a.png", "b.png", errors="return")
either.matrix
register(["a.png"], ["b.png"], errors="raise")[0].matrix
register("a.png", "b.png", errors="ignore")
"""


def test_the_keywords_are_those_of_the_signature() -> None:
    taken = inspect.signature(drmime.register).parameters
    own = ("fixed", "moving", "errors")  # the overloads name these
    assert list(Keywords.__annotations__) == [name for name in taken if name not in own]
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
    lines = CODE.splitlines()
    for text in ("some[0].matrix", "either.matrix"):
        assert f'code.py:{lines.index(text) + 1}: error: Item "InputError" of "Registration | InputError"' in out
    assert f"code.py:{len(lines)}: error: No overload variant" in out
    assert f"code.py:{len(lines) - 1}:" not in out


PUBLIC = [drmime.register, drmime.as_image, drmime.read_transform, drmime.Schedule, drmime.Start, drmime.Device]
METHODS = {name: getattr(drmime.Registration, name) for name in dir(drmime.Registration) if not name.startswith("_")}
EXAMPLES = {one.__name__: one for one in PUBLIC} | {
    name: one for name, one in METHODS.items() if callable(one) or isinstance(one, property)
}
# a flag; sentences; ANTs crashes beside SimpleITK, so `test_formats_microscopy.py` runs it in a process of its own
WITHOUT = ("success", "reasons", "to_ants")
NEEDS = {"to_itk": "SimpleITK", "to_skimage": "skimage", "warp_tiles": "zarr"}  # packages that an example needs


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in WITHOUT])
def test_every_example_gives_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed: pip install 'drmime[test]'")
    monkeypatch.chdir(tmp_path)
    fixed = np.random.default_rng(0).random((64, 64))
    known = {"np": np, "drmime": drmime, "fixed": fixed, "moving": np.roll(fixed, (1, 2), (0, 1)), "result": shifted(2.0, 1.0)}
    known |= {public: getattr(drmime, public) for public in drmime.__all__}
    one = EXAMPLES[name]
    text = inspect.getdoc(one) or ""
    assert ("Raises:" in text) or name not in {one.__name__ for one in PUBLIC}
    example = doctest.DocTestParser().get_doctest(text, known, name, None, 0)
    assert example.examples, f"{name} has no example"
    assert doctest.DocTestRunner().run(example).failed == 0


def shifted(x: float, y: float) -> drmime.Registration:
    grid = Grid.regular((64, 64))
    values = {"similarity": 0.5, "overlap": 0.9, "history": np.zeros((3, 2)), "totals": np.zeros(3), "settings": {}}
    points = np.stack(np.meshgrid([8.0, 24.0, 40.0, 56.0], [8.0, 24.0, 40.0, 56.0]), -1).reshape(-1, 2)
    values["blocks"] = Blocks(points, np.zeros_like(points), np.ones(len(points)), 16.0, 4.0)
    modes = 0.1 * torch.tensor([[[0, 0, 1], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1], [0, 0, 0]]], dtype=torch.float64)
    transform = LieTransform(translation(x, y), {}, {}, modes)
    return drmime.Registration(transform, grid, grid, drmime.Stop.STEPS, **values)
