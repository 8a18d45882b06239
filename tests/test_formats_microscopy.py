"""Transforms of QuPath, Warpy, BigWarp and NGFF, and objects of other packages, map points as these programs do."""

import csv
import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from maps import grids, points, same, theirs, transform

import drmime
from drmime import InputError, Registration, Stop
from drmime.geometry.grid import Grid
from drmime.parts import TRANSFORM_OBJECTS
from drmime.transform.formats.files import read_transform, write_transform
from drmime.transform.linear import MatrixTransform

IDENTITY = "1 0 0 0 1 0"
VALUES: dict[str, Any] = {
    "similarity": 0.5,
    "overlap": 0.9,
    "history": np.zeros((3, 2)),
    "totals": np.zeros(3),
    "settings": {},
}


def in_corners(grid: Grid, places: torch.Tensor) -> np.ndarray:
    """World coordinates as pixels counted from the outer corner of the first one. (N, D)"""
    inverse = np.linalg.inv(grid.world_from_index.numpy())
    return places.numpy() @ inverse[:-1, :-1].T + inverse[:-1, -1] + 0.5


# ---- QuPath and Warpy

JAVA = """
import java.awt.geom.*;
public class Map {
    public static void main(String[] words) {
        double[] m = new double[words.length];
        for (int i = 0; i < m.length; i++) m[i] = Double.parseDouble(words[i]);
        AffineTransform transform = new AffineTransform(m[0], m[3], m[1], m[4], m[2], m[5]);
        for (int i = 6; i < m.length; i += 2) {
            Point2D place = transform.transform(new Point2D.Double(m[i], m[i + 1]), null);
            System.out.println(place.getX() + " " + place.getY());
        }
    }
}
"""


def test_java_maps_qupath_s_pixels_alike(tmp_path: Path) -> None:
    java = shutil.which("java")
    if java is None:
        pytest.skip("there is no Java, whose AffineTransform QuPath uses")
    (fixed, moving), made = grids(2), transform(2)
    write_transform(made, tmp_path / "a.qupath.txt", None, fixed, moving)
    numbers = (tmp_path / "a.qupath.txt").read_text().replace(",", " ").split()
    (tmp_path / "Map.java").write_text(JAVA)
    places = in_corners(fixed, points(fixed))
    command = [java, "-Xshare:auto", "Map.java", *numbers, *map(repr, places.flatten().tolist())]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120, check=False)
    if "compiler" in done.stderr:
        pytest.skip("this Java has no compiler")
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.array([line.split() for line in done.stdout.splitlines()], float)
    assert found == pytest.approx(in_corners(moving, made(points(fixed))), abs=1e-9)


def test_qupath_s_first_transform_lays_image_on_image_by_their_pixel_lengths(tmp_path: Path) -> None:
    fixed, moving = Grid.regular((40, 50), (2.0, 2.0)), Grid.regular((80, 100), (1.0, 1.0))
    (tmp_path / "a.qupath.txt").write_text("2.0, \t 0.0,\t 0.0,\n0.0,\t 2.0,\t 0.0")  # as QuPath prints it
    found = read_transform(tmp_path / "a.qupath.txt", None, fixed, moving)
    outer = found(fixed.corners())  # both images begin at their outer corners
    assert outer.numpy() == pytest.approx(moving.corners().numpy())


@pytest.mark.parametrize("text", ["[1, 0, 4]\n[0, 1, 5]", "(1; 0; 4; 0; 1; 5)", "1\t0\t4\t0\t1\t5"])
def test_numbers_of_qupath_may_stand_in_any_brackets(text: str, tmp_path: Path) -> None:
    grid = Grid.regular((9, 9))
    (tmp_path / "a.qupath.txt").write_text(text.replace("]\n[", "\n"))
    assert read_transform(tmp_path / "a.qupath.txt", None, grid, grid)(torch.zeros(1, 2).double()).tolist() == [[4.0, 5.0]]


def test_a_sequence_of_warpy_is_applied_from_its_first_transform_on(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [
        {"affinetransform3d": [2, 0, 0, 10, 0, 3, 0, 20, 0, 0, 1, 0]},
        {"type": "AffineTransform3D", "affinetransform3d": [0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 2, 5]},
    ]
    named = {f"realTransform_{number}": step for number, step in enumerate(steps)}
    (tmp_path / "transform_3_4.json").write_text(json.dumps({"type": "RealTransformSequence", "size": 2, **named}))
    grid = Grid.regular((9, 9))
    found = read_transform(tmp_path / "transform_3_4.json", None, grid, grid)
    corner = torch.tensor([[-0.5, -0.5], [0.5, -0.5]], dtype=torch.float64)
    assert (found(corner) + 0.5).tolist() == [[-20.0, 10.0], [-20.0, 12.0]]
    (tmp_path / "one.json").write_text(json.dumps(steps[0]))
    assert (read_transform(tmp_path / "one.json", None, grid, grid)(corner) + 0.5).tolist() == [[10.0, 20.0], [12.0, 20.0]]


def test_what_is_written_for_warpy_is_one_row_packed_matrix(tmp_path: Path) -> None:
    (fixed, moving), made = grids(2), transform(2)
    write_transform(made, tmp_path / "transform_1_2.json", None, fixed, moving)
    state = json.loads((tmp_path / "transform_1_2.json").read_text())
    assert (state["type"], state["size"]) == ("InvertibleRealTransformSequence", 1)
    rows = np.array(state["realTransform_0"]["affinetransform3d"]).reshape(3, 4)
    places = np.column_stack([in_corners(fixed, points(fixed)), np.zeros(5), np.ones(5)])
    expected = np.column_stack([in_corners(moving, made(points(fixed))), np.zeros(5)])
    assert places @ rows.T == pytest.approx(expected, abs=1e-9)


# ---- BigWarp


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_active_landmarks_of_bigwarp_are_fitted_by_least_squares(noise: float, ndim: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fixed = rng.uniform(0, 100, (12, ndim))
    moving = fixed @ rng.normal(size=(ndim, ndim)) + noise * rng.normal(size=(12, ndim))
    rows = [[f"Pt-{number}", "true", *there, *here] for number, (there, here) in enumerate(zip(moving, fixed, strict=True))]
    rows[3][1:3] = ["false", "Infinity"]  # not placed yet
    with (tmp_path / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    found = read_transform(tmp_path / "landmarks.csv")
    fixed, moving = np.delete(fixed, 3, 0), np.delete(moving, 3, 0)
    rows = np.linalg.lstsq(np.column_stack([fixed, np.ones(11)]), moving, rcond=None)[0]
    assert found(torch.as_tensor(fixed)).numpy() == pytest.approx(fixed @ rows[:-1] + rows[-1], abs=1e-9)
    if not noise:  # of inexact landmarks it minimises another sum
        transforms = pytest.importorskip("skimage.transform")
        theirs = transforms.AffineTransform.from_estimate(fixed, moving)
        assert found(torch.as_tensor(fixed)).numpy() == pytest.approx(theirs(fixed), abs=1e-6)


def test_bigwarp_s_points_are_pixels_times_their_length(ndim: int, tmp_path: Path) -> None:
    (fixed, moving), made = grids(ndim), transform(ndim)
    write_transform(made, tmp_path / "a.bigwarp.csv", None, fixed, moving)
    rows = list(csv.reader((tmp_path / "a.bigwarp.csv").read_text().splitlines()))
    assert [row[:2] for row in rows] == [[f"Pt-{number}", "true"] for number in range(2**ndim + 1)]
    numbers = np.array([row[2:] for row in rows], float)
    for grid, places, found in ((moving, made(points(fixed)), numbers[:, :ndim]), (fixed, points(fixed), numbers[:, ndim:])):
        assert found == pytest.approx((in_corners(grid, places) - 0.5) * grid.spacing.numpy(), abs=1e-9)
    ours = read_transform(tmp_path / "a.bigwarp.csv")  # without grids: between BigWarp's own coordinates
    assert ours(torch.as_tensor(numbers[:, ndim:])).numpy() == pytest.approx(numbers[:, :ndim], abs=1e-8)


# ---- NGFF: the examples of the specification, in its words


def system(name: str, axes: str, **more: str) -> dict[str, Any]:
    return {"name": name, "axes": [{"name": axis, **more} for axis in axes]}


SYSTEMS = [system("in", "yx"), system("out", "yx"), system("xy", "xy"), system("ji", "ji"), system("cyx", "cyx")]
SYSTEMS += [system("moving image", "yx"), system("fixed image", "yx"), system("tx", "tx", type="time")]
QUARTER = {"type": "rotation", "rotation": [[0, -1], [1, 0]]}


def document(step: dict[str, Any], source: Any = "in", target: Any = "out") -> dict[str, Any]:
    return {"coordinateSystems": SYSTEMS, "coordinateTransformations": [{**step, "input": source, "output": target}]}


@pytest.mark.parametrize(
    ("state", "expected"),  # where (x, y) = (10, 20) goes
    [
        (document({"type": "identity"}), (10, 20)),
        (document({"type": "scale", "scale": [2, 3.12]}), (31.2, 40)),
        (document({"type": "translation", "translation": [-1.42, 9]}), (19, 18.58)),
        (document({"type": "affine", "affine": [[1, 2, 3], [4, 5, 6]]}), (4 * 20 + 5 * 10 + 6, 20 + 2 * 10 + 3)),
        (document({"type": "affine", "affine": [[1, 2, 3], [4, 5, 6]]}, "ji", {"name": "nowhere"}), (136, 43)),
        (document({"type": "affine", "affine": [[1, 2, 3], [4, 5, 6]]}, {"name": "xy"}, {"name": "xy"}), (53, 146)),
        (document({"type": "affine", "affine": [[1, 2, 3], [4, 5, 6]]}, "xy", "in"), (146, 53)),
        (document(QUARTER), (20, -10)),
        (document({"type": "mapAxis", "mapAxis": [1, 0]}), (20, 10)),
        (document({"type": "sequence", "transformations": [{"type": "scale", "scale": [2, 1]}, QUARTER]}), (40, -10)),
        (document({"type": "translation", "translation": [1, 2]}, "moving image", "fixed image"), (8, 19)),
        (document({"type": "translation", "translation": [1, 2]}, "fixed image", "moving image"), (12, 21)),
    ],
)
def test_ngff_s_transformations_map_as_the_specification_says(state: Any, expected: Any, tmp_path: Path) -> None:
    scene: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.6", "scene": state}}}
    for name, written in (("a.ngff.json", state), ("a.json", scene["attributes"]), ("zarr.json", scene)):
        (tmp_path / name).write_text(json.dumps(written))
        found = read_transform(tmp_path / name)
        assert found(torch.tensor([[10.0, 20.0]], dtype=torch.float64))[0].tolist() == pytest.approx(expected)


def test_what_is_written_for_ngff_is_in_array_order(ndim: int, tmp_path: Path) -> None:
    (fixed, _), made = grids(ndim), transform(ndim)
    write_transform(made, tmp_path / "a.ngff.json")
    ome = json.loads((tmp_path / "a.ngff.json").read_text())["ome"]
    state = ome["scene"]
    assert ome["version"] == "0.6"
    axes = [[axis["name"] for axis in one["axes"]] for one in state["coordinateSystems"]]
    assert axes == [list("zyx"[-ndim:])] * 2
    (step,) = state["coordinateTransformations"]
    assert (step["input"], step["output"], step["type"]) == ({"name": "fixed"}, {"name": "moving"}, "affine")
    rows = np.array(step["affine"])
    assert points(fixed).numpy()[:, ::-1] @ rows[:, :-1].T + rows[:, -1] == pytest.approx(made(points(fixed)).numpy()[:, ::-1])


def deep(count: int) -> dict[str, Any]:
    step: dict[str, Any] = {"type": "identity"}
    for _ in range(count):
        step = {"type": "sequence", "transformations": [step]}
    return step


ROW = "Pt-0,true,0,0,1,1\nPt-1,true,0,5,1,6\n"
PACKED = [1, 0, 0, 4, 0, 1, 0, 5, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ngff.json", "no JSON"),
        ("a.ngff.json", {}),
        ("a.ngff.json", []),
        ("a.ngff.json", {"coordinateTransformations": 3}),
        ("a.ngff.json", {"coordinateTransformations": []}),
        ("a.ngff.json", {"coordinateTransformations": [{"type": "identity"}]}),
        ("a.ngff.json", {"attributes": {"ome": {"scene": {}}}}),
        ("a.ngff.json", {"ome": 3}),
        ("a.ngff.json", {"attributes": {}}),
        ("a.ngff.json", {"attributes": {"ome": {"scene": {"coordinateTransformations": {"type": "identity"}}}}}),
        ("a.ngff.json", {**document(QUARTER), "coordinateTransformations": 2 * document(QUARTER)["coordinateTransformations"]}),
        ("a.ngff.json", document({"type": "displacements", "path": "field"})),
        ("a.ngff.json", document({"type": "bijection", "forward": QUARTER, "inverse": QUARTER})),
        ("a.ngff.json", document({"type": "affine", "path": "array"})),
        ("a.ngff.json", document({"type": "affine", "affine": [[1, 2], [4, 5]]})),
        ("a.ngff.json", document({"type": "affine", "affine": [[1, 2, 3], [4, 5]]})),
        ("a.ngff.json", document({"type": "affine", "affine": [[1, 2, None], [4, 5, 6]]})),
        ("a.ngff.json", document({"type": "affine", "affine": [[1, 2, 3], [2, 4, 6]]})),
        ("a.ngff.json", document({"type": "scale", "scale": [1, 0]})),
        ("a.ngff.json", document({"type": "scale", "scale": [1, 2, 3]})),
        ("a.ngff.json", document({"type": "scale", "scale": "12"})),
        ("a.ngff.json", document({"type": "mapAxis", "mapAxis": [1, 1]})),
        ("a.ngff.json", document({"type": "sequence", "transformations": {}})),
        ("a.ngff.json", document({"type": "sequence", "transformations": [3]})),
        ("a.ngff.json", document(deep(100))),
        ("a.ngff.json", document({"type": 3})),
        ("a.ngff.json", document(QUARTER, "tx", "out")),
        ("a.ngff.json", document({"type": "identity"}, "cyx", "out")),
        ("a.ngff.json", {**document(QUARTER), "coordinateSystems": [{"name": "in", "axes": [{}, {}]}]}),
        ("a.ngff.json", {**document(QUARTER), "coordinateSystems": [{"name": "in"}]}),
        ("a.warpy.json", {}),
        ("a.warpy.json", {"type": "InvertibleRealTransformSequence", "size": 0}),
        ("a.warpy.json", {"type": "InvertibleRealTransformSequence", "size": 10**9}),
        ("a.warpy.json", {"size": 1}),
        ("a.warpy.json", {"size": 1, "realTransform_0": {"type": "ThinplateSplineTransform", "srcPts": [[]], "tgtPts": [[]]}}),
        ("a.warpy.json", {"affinetransform3d": PACKED[:-1]}),
        ("a.warpy.json", {"affinetransform3d": [None, *PACKED[1:]]}),
        ("a.warpy.json", {"affinetransform3d": [1, 0, 0.5, *PACKED[3:]]}),
        ("a.warpy.json", {"affinetransform3d": [0, *PACKED[1:]]}),
        ("a.warpy.json", {"affinetransform3d": "1"}),
        ("a.qupath.txt", ""),
        ("a.qupath.txt", "1 0 0 0 1"),
        ("a.qupath.txt", "1 0 0 0 1 x"),
        ("a.qupath.txt", "1 0 0 0 1 nan"),
        ("a.qupath.txt", "1 0 0 1 0 0"),
        ("a.qupath.txt", IDENTITY + " " * 2**20),
        ("a.bigwarp.csv", ""),
        ("a.bigwarp.csv", ROW),
        ("a.bigwarp.csv", ROW + "Pt-2,false,0,5,9,6\n"),
        ("a.bigwarp.csv", ROW + "Pt-2,true,0,9,1,9\n"),
        ("a.bigwarp.csv", ROW + "Pt-2,true,0,9,1\n"),
        ("a.bigwarp.csv", ROW + "Pt-2,true,0,9,1,x\n"),
        ("a.bigwarp.csv", ROW + "Pt-2,true,0,9,7,Infinity\n"),
        ("a.bigwarp.csv", ROW + "Pt-2,true,0,9,7,8\n"),
        ("a.bigwarp.csv", '"Pt-0"","true,'),
        ("a.bigwarp.csv", "\0" * 99),
    ],
)
def test_damaged_files_are_refused(name: str, content: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    grid = Grid.regular((9, 9))
    with pytest.raises(InputError, match=name):
        read_transform(tmp_path / name, None, grid, grid)


# ---- objects


def test_a_simpleitk_transform_is_taken_over(ndim: int) -> None:
    sitk = pytest.importorskip("SimpleITK")
    made = sitk.TranslationTransform(ndim, [1.0, 2.0, 3.0][:ndim])
    assert read_transform(made)(torch.zeros(1, ndim, dtype=torch.float64))[0].tolist() == [1.0, 2.0, 3.0][:ndim]
    with pytest.raises(InputError, match="SimpleITK transform"):
        read_transform(sitk.Image(3, 3, sitk.sitkUInt8))


@pytest.mark.parametrize("name", ["EuclideanTransform", "SimilarityTransform", "AffineTransform", "ProjectiveTransform"])
def test_a_scikit_image_transform_is_one_of_pixels(name: str) -> None:
    transforms = pytest.importorskip("skimage.transform")

    class Mine(getattr(transforms, name)):  # a class of the user's own
        pass

    made = Mine(np.array([[0.8, -0.6, 4.0], [0.6, 0.8, 5.0], [0, 0, 1]]))
    fixed, moving = grids(2)
    found = read_transform(made, fixed=fixed, moving=moving)
    assert in_corners(moving, found(points(fixed))) == pytest.approx(made(in_corners(fixed, points(fixed)) - 0.5) + 0.5)
    assert read_transform(made).matrix.numpy() == pytest.approx(made.params)
    with pytest.raises(InputError, match="both images"):
        read_transform(made, fixed=fixed)
    for other in (transforms.PolynomialTransform(np.ones((2, 6))), transforms.PiecewiseAffineTransform()):
        with pytest.raises(InputError, match="one matrix"):
            read_transform(other)


def test_a_registration_gives_scikit_image_a_transform_that_is_taken_back() -> None:
    pytest.importorskip("skimage")
    found = result(2)
    same(
        found.transform, read_transform(found.to_skimage(), fixed=found.fixed_grid, moving=found.moving_grid), found.fixed_grid
    )


def test_an_array_is_a_matrix_in_world_coordinates(ndim: int) -> None:
    made = transform(ndim)
    for rows in (made.matrix, made.matrix.numpy(), made.matrix.float().numpy().astype(np.float64)):
        assert read_transform(rows).matrix.numpy() == pytest.approx(made.matrix.numpy(), rel=1e-6)
    for rows in (np.eye(2), np.zeros((3, 3)), np.full((3, 3), np.nan), np.array("x"), np.ones(3), torch.ones(2, 3, 3)):
        with pytest.raises(InputError, match="matrix"):
            read_transform(rows)


@pytest.mark.parametrize("value", [3, None, [[1, 0], [0, 1]], {"a": 1}, b"a.tfm"])
def test_another_object_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=" or ".join(TRANSFORM_OBJECTS)):
        read_transform(value)
    with pytest.raises(InputError, match="format"):
        read_transform(np.eye(3), "itk")


def result(ndim: int) -> Registration:
    fixed, moving = grids(ndim)
    return Registration(transform(ndim), fixed, moving, Stop.STEPS, **VALUES)


@pytest.mark.parametrize("name", ["a.fsl.mat", "a.lta", "a.aff12.1D", "a.ngff.json", "a.bigwarp.csv"])
def test_a_registration_knows_both_grids(name: str, tmp_path: Path) -> None:
    found = result(3)
    found.write_transform(tmp_path / name)
    same(
        found.transform,
        drmime.read_transform(tmp_path / name, fixed=found.fixed_grid, moving=found.moving_grid),
        found.fixed_grid,
    )


ANTS = """
import numpy as np, torch
from drmime import Registration, Stop
from drmime.geometry.grid import Grid
from drmime.transform.linear import MatrixTransform
values = {"similarity": 0.5, "overlap": 0.9, "history": np.zeros((3, 2)), "totals": np.zeros(3), "settings": {}}
grid = Grid.regular((9,) * len(POINTS[0]))
found = Registration(MatrixTransform(torch.tensor(MATRIX)), grid, grid, Stop.STEPS, **values)
theirs = found.to_ants()
print([list(theirs.apply_to_point(point)) for point in POINTS])
"""


@pytest.mark.slow
def test_ants_maps_points_alike_by_an_object(ndim: int, tmp_path: Path) -> None:
    if find_spec("ants") is None:
        pytest.skip("ANTs is not installed: pip install 'drmime[peers]'")
    made, (fixed, _) = transform(ndim), grids(ndim)
    found = theirs(f"MATRIX = {made.matrix.tolist()}\n{ANTS}", points(fixed), tmp_path)
    assert found == pytest.approx(made(points(fixed)).numpy(), abs=1e-4)  # single precision
    tilted = torch.eye(ndim + 1, dtype=torch.float64)
    tilted[-1, 0] = 0.001
    with pytest.raises(InputError, match="perspective"):
        Registration(MatrixTransform(tilted), *grids(ndim), Stop.STEPS, **VALUES).to_ants()
