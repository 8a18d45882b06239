"""A module imports only from modules listed above it. Computed from the imports, by reading the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import drmime

ROOT = Path(drmime.__file__).parent
# The order of imports. A folder's modules stand together, its `__init__` where it says: first if it is a docstring alone,
# last if it offers its modules by name.
LAYOUT = """
errors version cluster threads modes owner registry parts device saved settings schedule
geometry  geometry.matrices  geometry.grid  geometry.lie
image  image.pixels  image.planes  image.headers  image.source  image.tiff  image.crs  image.geotiff  image.ome_zarr
  image.stage  image.readers  image.dicom  image.writers
  image.io  image.objects  image.image  image.door  image.outliers  image.orientation  image.frames  image.pyramid
  image.summary  image.faults  image.geometry_faults
transform  transform.base  transform.linear  transform.field  transform.deformation  transform.lattice
  transform.lattice_transform  transform.coefficients  transform.lattice_model  transform.elastic
  transform.tps
  transform.interpolate  transform.places  transform.warp  transform.grids
  transform.formats  transform.formats.files  transform.formats.displacements  transform.formats.itk
  transform.formats.elastix  transform.formats.fsl  transform.formats.freesurfer  transform.formats.afni
  transform.formats.ngff  transform.formats.bigwarp  transform.formats.qupath  transform.formats.plain
  transform.formats.objects
shifts  shifts.contrast  shifts.surface  shifts.refine  shifts.pair
points  points.files  points.tables  points.geojson  points.corresponding  soft
compare  compare.base  compare.moments  compare.histogram  compare.angle  compare.mine
sampling  adam  repeated  evaluation  optimise  part  precision  holdout
start
  start.propose  start.propose.base  start.propose.poses  start.propose.corners  start.propose.matches
  start.propose.angle  start.propose.cross  start.propose.simple  start.propose.moments  start.propose.phase
  start.propose.landmarks  start.propose.features  start.propose.sift
  start.propose.scoring  start.propose.search
  start.doubts  start.together  start.score  start.inputs  start.rivals  start.residuals  start.refine  start.looks
  start.questions  start.choose  start.plan  start.ranking
verdict  verdict.evidence  verdict.calibration  verdict.judge  verdict.errormap
learn  learn.encoder  learn.contrastive  learn.patches  learn.synthesise  learn.weights  learn.use  learn.train
pictures  observers  record  tiled  tiled.job  tiled.draft  tiled.run
placing  exchange  warping  deforming  result  checks  prepare  hints  pairs  batches  searching  stages  keywords  registration
stack  stack.consensus  stack.mean  stack.kept  stack.links  stack.deformed  stack.frames  stack.correlation  stack.movie
  stack.result  stack.graph  stack.order  stack.registration
mosaic  mosaic.tiles  mosaic.layout  mosaic.links  mosaic.solve  mosaic.fuse  mosaic.writing  mosaic.result
  mosaic.registration  .
lab
  lab.evaluate  lab.demo
  lab.datasets.case  lab.datasets.reading  lab.datasets.bending  lab.datasets.changes  lab.datasets.base  lab.datasets.tables
  lab.datasets.folders  lab.datasets.synthetic  lab.datasets
  lab.peers.base  lab.peers.simple  lab.peers.ants  lab.peers.elastix  lab.peers.deformable  lab.peers.opencv
  lab.peers.simpleitk  lab.peers.skimage  lab.peers  lab.learning
  lab.experiment.memory  lab.experiment.rows  lab.experiment.task  lab.experiment.loading
  lab.experiment.drawing  lab.experiment.trial  lab.experiment.worker  lab.experiment.config
  lab.experiment.runner  lab.experiment  lab.report.summary  lab.report.tables  lab.report.plots  lab.report.page  lab.report
info  commands.base  commands.align  commands.carry  commands.lab  commands.learn
  commands.stack  commands.stitch  commands
arguments.values  arguments.align  arguments.carry  arguments.lab  arguments.learn  arguments
cli  __main__
"""
PARTS = ("compare", "start.propose", "transform")  # folders of parts: a new one stands after those that are listed
MODULE_LINES = 300
FUNCTION_LINES = 60


def _name(path: Path) -> str:
    """The dotted name of a file below the package, without "drmime."; "" for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def _order() -> dict[str, float]:
    """The place of each module; "." is what `import drmime` gives."""
    order: dict[str, float] = {"" if name == "." else name: place for place, name in enumerate(LAYOUT.split())}
    for name in SOURCES.keys() - order.keys():
        folder = name.rpartition(".")[0]
        if folder in PARTS:
            order[name] = 0.5 + max(place for other, place in order.items() if other.startswith(f"{folder}."))
    return order


ORDER = _order()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


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


def test_every_module_has_one_place() -> None:
    assert sorted(SOURCES) == sorted(ORDER)
    assert len(LAYOUT.split()) == len(set(LAYOUT.split()))


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_imports_only_from_modules_above_it(name: str) -> None:
    breaches = [other for other in imports(TREES[name], name) if not ORDER[other] < ORDER[name]]
    assert not breaches, f"{name or 'drmime'} imports {breaches}, which are not above it"


def test_imports_are_seen() -> None:
    assert {"geometry.grid", "image.image", "errors"} <= set(imports(TREES["image.door"], "image.door"))


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
