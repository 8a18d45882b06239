"""The house has floors: a module imports only from lower ones. Computed from the imports, by reading the source."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import drmime

ROOT = Path(drmime.__file__).parent
FLOORS = {
    "errors": 0,
    "names": 0,
    "threads": 0,
    "modes": 0,
    "owner": 0,
    "version": 0,
    "registry": 1,
    "grid": 1,
    "lie": 2,
    "pixels": 1.5,
    "headers": 1.5,
    "tiff": 1.55,
    "readers": 1.6,
    "writers": 1.7,
    "io": 2,
    "saved": 2,
    "objects": 2,
    "settings": 2,
    "image": 3,
    "transform": 3,
    "frames": 3.25,
    "outliers": 3.25,
    "orientation": 3.5,
    "pyramid": 4,
    "resample": 4,
    "metrics": 4,
    "initialise": 4.5,
    "sampling": 4.5,
    "optimise": 5,
    "evidence": 5.25,
    "rivals": 5.35,
    "residuals": 5.35,
    "ladder": 5.5,
    "looks": 5.6,
    "choose": 5.6,
    "starts": 5.75,
    "pictures": 5,
    "observers": 5.75,
    "checks": 6,
    "prepare": 6.5,
    "result": 6,
    "registration": 7,
    "": 7.5,  # the package's front door: what `import drmime` gives
    "evaluate": 8,
    "datasets": 8.5,
    "peers": 8.5,
    "demo": 9,
    "experiment": 9,
    "report": 9.5,
    "commands": 10,
    "cli": 11,
    "__main__": 12,
}
PARTS = {  # floors within a package; every other part is on 1
    **{"base": 0.0, "poses": 0.0, "corners": 0.5, "matches": 0.5, "search": 1.5},
    **{"rows": 0.0, "task": 0.5, "worker": 0.7},
    **{"case": -1.0, "reading": -0.75, "changes": -0.5, "folders": 1.25, "synthetic": 1.5},
    **{"summary": 0.25, "tables": 0.5, "page": 1.5},
}
MODULE_LINES = 300
FUNCTION_LINES = 60


def _name(path: Path) -> str:
    """The dotted name of a file below the package, without "drmime."; "" for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def floor(name: str) -> tuple[float, float]:
    """The floor of a module, and within a package: `base` first, then the parts, then the package itself."""
    top, _, part = name.partition(".")
    if not part:
        return FLOORS[top], 2
    return FLOORS[top], PARTS.get(part, 1)


def imports(tree: ast.Module, importer: str) -> Iterator[str]:
    """Names of the modules of this package that a module imports, at its top or anywhere inside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer}: imports are absolute here, line {node.lineno}"
            wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in wanted:
            if name.split(".")[0] != "drmime":
                continue
            inner = name.removeprefix("drmime").removeprefix(".")
            yield inner if inner in SOURCES else inner.rpartition(".")[0]


@pytest.mark.parametrize("name", SOURCES)
def test_every_module_has_a_floor(name: str) -> None:
    assert name.split(".")[0] in FLOORS, f"{name} is not in the table of floors: decide where it belongs"


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_imports_only_from_lower_floors(name: str) -> None:
    breaches = [other for other in imports(TREES[name], name) if not floor(other) < floor(name)]
    assert not breaches, f"{name or 'drmime'} imports {breaches}, which are not below it"


def test_imports_have_no_cycle() -> None:
    graph = {name: set(imports(tree, name)) for name, tree in TREES.items()}
    assert "grid" in graph["image"]  # the reader of imports sees at least what is plainly there
    assert len(tuple(graphlib.TopologicalSorter(graph).static_order())) == len(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_is_long(name: str) -> None:
    count = len(SOURCES[name].read_text(encoding="utf-8").splitlines())
    assert count <= MODULE_LINES, f"{name} has {count} lines: split it"


@pytest.mark.parametrize("name", SOURCES)
def test_no_function_is_long(name: str) -> None:
    for node in ast.walk(TREES[name]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            count = node.end_lineno - node.lineno + 1 - _docstring_lines(node)
            assert count <= FUNCTION_LINES, f"{name}.{node.name} has {count} lines without its docstring: split it"


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1
