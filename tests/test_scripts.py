"""The scripts of benchmarks and experiments can be imported: what they use of the package is there."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "experiments").glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: f"{script.parent.name}/{script.name}")
def test_a_script_can_be_imported(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location(f"script_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        beside = {other.stem for other in script.parent.glob("*.py")}
        if error.name is None or error.name.split(".")[0] in {"drmime", *beside}:
            raise
        pytest.skip(f"{error.name} is not installed")
    finally:
        for name in set(sys.modules) - before:  # of neighbours that another folder has too
            if getattr(sys.modules[name], "__file__", None) and Path(str(sys.modules[name].__file__)).parent == script.parent:
                del sys.modules[name]
