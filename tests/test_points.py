"""Points in files: read in pixels, x first, and moved with everything else in the file kept."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import oblique, rotation, translation
from test_result import made

from drmime import InputError, Registration
from drmime.geometry.grid import Grid
from drmime.parts import POINT_FORMATS
from drmime.points.files import move_points, read_landmarks

# ---- landmarks


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("x,y\n1,2\n3.5,-4\n", [[1, 2], [3.5, -4]]),
        ("x,y,z\n1,2,3\n", [[1, 2, 3]]),
        ("y,x\n1,2\n", [[2, 1]]),
        ("name,y,x,note\na,1,2,b\n", [[2, 1]]),
        ("\ufeffx,y\n1,2\n", [[1, 2]]),
        ("x,y\r\n1,2\r\n", [[1, 2]]),
        ("x,y\n1e2, 2.5 \n", [[100, 2.5]]),
        ("x,y\n1,2\n\n", [[1, 2]]),
        (",X,Y\n0,1,2\n1,3,4\n", [[1, 2], [3, 4]]),  # BIRL, ANHIR
        ("X,Y,Z\n1,2,3\n", [[1, 2, 3]]),
        ("x,y,X,Y\n1,2,3,4\n", [[1, 2]]),
    ],
)
def test_landmarks_are_read_x_first(text: str, points: list, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    read = read_landmarks(tmp_path / "a.csv")
    assert read.shape == (len(points), 3 if "z" in text.lower() else 2)
    assert read.tolist() == points


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1,2\n3,4\n",
        b"x\n1\n",
        b"a,b\n1,2\n",
        b"x,z\n1,2\n",
        b"x,Y\n1,2\n",
        b"X,Z\n1,2\n",
        b"x,y\n",
        b"x,y,z\n",
        b"x,y\n1,two\n",
        b"x,y\n1\n",
        b"x,y\n1,\n",
        b"x,y\n1,nan\n",
        b"x,y\n1,inf\n",
        b"\xff\xfex\x00,\x00y\x00",
        b"x,y\n1,\xff\n",
        b'x,y\n1,"' + b"2" * 200_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_bad_landmarks_are_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.csv"):
        read_landmarks(tmp_path / "a.csv")


def test_missing_landmarks_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "a.csv", tmp_path):
        with pytest.raises(InputError, match="expected a file with points"):
            read_landmarks(path)


# ---- every format

TEXTS = {  # of each format: a file with the pixels (x, y) = (3, 1) and (8, 5.5), or with a point more
    "landmarks": "name,x,y\nleft,3,1\nright,8,5.5\n",
    "napari": "index,axis-0,axis-1\n0.0,1.0,3.0\n1.0,5.5,8.0\n",
    "deeplabcut": "scorer,me,me,me\nbodyparts,nose,nose,nose\ncoords,x,y,likelihood\n0,3,1,0.9\n1,8,5.5,0.4\n",
    "geojson": json.dumps({"type": "MultiPoint", "coordinates": [[8.5, 6.0], [3.5, 1.5]]}),
}


def registration(ndim: int = 2) -> Registration:
    fixed = oblique((40, 50, 60)[-ndim:], (2.0, 0.5, 0.8)[-ndim:], offset=70.0)
    moving = Grid.regular((30, 35, 20)[-ndim:], (1.5, 0.7, 2.0)[-ndim:])
    middle = translation(*(moving.centre - fixed.centre))
    return made((middle @ rotation(ndim, 0.1)).numpy(), fixed, moving)


def expected(result: Registration, points: Any) -> np.ndarray:
    """Pixels of the fixed image for pixels of the moving image, by `to_fixed`."""

    def change(matrix: Any, places: np.ndarray) -> np.ndarray:
        return places @ matrix[:-1, :-1].numpy().T + matrix[:-1, -1].numpy()

    world = result.to_fixed(change(result.moving_grid.world_from_index, np.asarray(points, float)))
    return change(result.fixed_grid.index_from_world, world)


def test_every_format_is_tested() -> None:
    assert TEXTS.keys() == POINT_FORMATS.keys()


@pytest.mark.parametrize("format", TEXTS)
def test_points_are_read_and_land_where_to_fixed_says(format: str, tmp_path: Path) -> None:
    source, there, back = (tmp_path / name for name in ("a.txt", "b.txt", "c.txt"))
    source.write_text(TEXTS[format])
    points = np.array([[3, 1], [8, 5.5]])
    for asked in (None, format):
        assert sorted(read_landmarks(source, asked).tolist()) == points.tolist()
        result = registration()
        result.warp_points(source, there, format=asked)
        found = read_landmarks(there)
        assert found[np.lexsort(found.T)] == pytest.approx(
            expected(result, points)[np.lexsort(expected(result, points).T)], abs=1e-5
        )
        result.warp_points(there, back, to="moving")
        assert np.sort(read_landmarks(back), 0) == pytest.approx(points, abs=1e-5)
    with pytest.raises(InputError, match="unknown"):
        read_landmarks(source, "csv")


@pytest.mark.parametrize("format", TEXTS)
def test_points_behind_the_horizon_are_not_made_up(format: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(TEXTS[format])
    tilted = np.eye(3)
    tilted[2, 0] = -0.2
    result = made(tilted).inverse()  # x of 5 and more has no place
    if format == "geojson":
        with pytest.raises(InputError, match="behind the horizon"):
            result.warp_points(tmp_path / "a", tmp_path / "b")
        assert not (tmp_path / "b").exists()
    else:
        result.warp_points(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b").read_text().count("nan") == 2


def test_points_of_another_resolution(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n7.5,3.5\n")  # of an image four times as fine: (1.5, 0.5) in the registered one
    result = made(translation(2.0, 1.0).numpy())
    result.warp_points(tmp_path / "a.csv", tmp_path / "b.csv", to="moving", fixed_shape=(96, 132))
    assert read_landmarks(tmp_path / "b.csv").tolist() == [[3.5, 1.5]]
    result.warp_points(tmp_path / "b.csv", tmp_path / "c.csv", fixed_shape=(96, 132))
    assert read_landmarks(tmp_path / "c.csv").tolist() == [[7.5, 3.5]]
    for shape in ((96,), 96, (96, 0), "ab", (1.5, 2)):
        with pytest.raises(InputError, match="fixed_shape"):
            result.warp_points(tmp_path / "a.csv", tmp_path / "d.csv", fixed_shape=shape)
    with pytest.raises(InputError, match="fixed, moving"):
        result.warp_points(tmp_path / "a.csv", tmp_path / "d.csv", to="here")


# ---- tables


def test_all_but_the_points_of_a_table_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('note;x;y;colour\n"a;b";3;1;red\nc;8;5.5;"bl""ue"\n')
    made(translation(-2.0, -1.0).numpy()).warp_points(tmp_path / "a.csv", tmp_path / "b.csv")
    rows = list(csv.reader(io.StringIO((tmp_path / "b.csv").read_text()), delimiter=";"))
    assert rows == [["note", "x", "y", "colour"], ["a;b", "5", "2", "red"], ["c", "10", "6.5", 'bl"ue']]


def test_landmarks_of_volumes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n3,1,2\n")
    result = registration(3)
    result.warp_points(tmp_path / "a.csv", tmp_path / "b.csv")
    assert read_landmarks(tmp_path / "b.csv") == pytest.approx(expected(result, [[3, 1, 2]]), abs=1e-6)
    (tmp_path / "a.csv").write_text("x,y\n3,1\n")
    with pytest.raises(InputError, match="columns x,y,z"):
        result.warp_points(tmp_path / "a.csv", tmp_path / "b.csv")


def test_shapes_of_napari_keep_leading_axes_and_lose_right_angles(tmp_path: Path) -> None:
    text = "index,shape-type,vertex-index,axis-0,axis-1,axis-2\n0,rectangle,0,4.0,1.0,3.0\n1,ellipse,0,5.0,2.0,6.0\n"
    (tmp_path / "a.csv").write_text(text)
    made(translation(-2.0, -1.0).numpy()).warp_points(tmp_path / "a.csv", tmp_path / "b.csv")
    rows = (tmp_path / "b.csv").read_text().split()[1:]
    assert rows == ["0,polygon,0,4.0,2,5", "1,ellipse,0,5.0,3,8"]


def test_keypoints_of_several_animals_and_missing_ones(tmp_path: Path) -> None:
    head = ["scorer", *["me"] * 6], ["individuals", *["a"] * 3, *["b"] * 3], ["bodyparts", *["nose"] * 6]
    rows = [
        *head,
        ["coords", *["x", "y", "likelihood"] * 2],
        ["0", "1", "2", "0.5", "", "", ""],
        ["1", "nan", "nan", "0", "3", "4", "1"],
    ]
    (tmp_path / "a.csv").write_text("\n".join(",".join(row) for row in rows))
    made(translation(-2.0, -1.0).numpy()).warp_points(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text().split()[-2:] == ["0,3,3,0.5,,,", "1,nan,nan,0,5,5,1"]
    with pytest.raises(InputError, match="NaN"):
        read_landmarks(tmp_path / "a.csv")
    with pytest.raises(InputError, match="have 2"):
        registration(3).warp_points(tmp_path / "a.csv", tmp_path / "b.csv")


# ---- GeoJSON

ANNOTATIONS = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "1a",
            "bbox": [0, 0, 9, 9],
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[1, 1], [9, 1], [9, 9], [1, 1]], [[3, 2], [4, 2], [4, 3], [3, 2]]],
                "plane": {"c": -1, "z": 0, "t": 0},
            },
            "properties": {
                "objectType": "annotation",
                "name": "Tumör",
                "classification": {"name": "Tumor", "color": [200, 0, 0]},
                "color": [10, 20, 30],
                "isLocked": True,
            },
        },
        {
            "type": "Feature",
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [[[[1, 1], [2, 1], [2, 2], [1, 1]]], [[[5, 5], [6, 5], [6, 6], [5, 5]]]],
            },
            "nucleusGeometry": {
                "type": "Polygon",
                "coordinates": [[[1.5, 1.5], [1.7, 1.5], [1.7, 1.7], [1.5, 1.5]]],
                "isEllipse": True,
            },
            "properties": {"objectType": "cell", "measurements": {"Area": 7.0}},
        },
        {"type": "Feature", "geometry": None, "properties": {}},
        {
            "type": "Feature",
            "geometry": {
                "type": "GeometryCollection",
                "geometries": [{"type": "LineString", "coordinates": [[0.5, 0.5, 7], [4, 4, 7]]}],
            },
        },
    ],
}


def numbers(state: Any) -> list[list[float]]:
    """Every position in a GeoJSON, by another walk than the library's."""
    if isinstance(state, dict):
        return [
            position
            for name, part in state.items()
            if name not in ("properties", "plane", "bbox")
            for position in numbers(part)
        ]
    if isinstance(state, list) and state and isinstance(state[0], (int, float)):
        return [state]
    return [position for part in state for position in numbers(part)] if isinstance(state, list) else []


def test_vertices_land_where_to_fixed_says_and_the_rest_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text(json.dumps(ANNOTATIONS, indent=1, ensure_ascii=False), encoding="utf-8")
    result = registration()
    result.warp_points(tmp_path / "a.geojson", tmp_path / "b.geojson")
    text = (tmp_path / "b.geojson").read_text(encoding="utf-8")
    found = json.loads(text)
    before, after = (np.array([position[:2] for position in numbers(state)]) for state in (ANNOTATIONS, found))
    assert after - 0.5 == pytest.approx(expected(result, before - 0.5), abs=2e-6)
    for old, new in zip(ANNOTATIONS["features"], found["features"], strict=True):
        assert new.get("properties") == old.get("properties")
        assert new.get("id") == old.get("id")
    assert found["features"][0]["geometry"]["plane"] == ANNOTATIONS["features"][0]["geometry"]["plane"]
    assert [len(ring) for ring in found["features"][0]["geometry"]["coordinates"]] == [4, 4]  # the hole is one
    assert found["features"][3]["geometry"]["geometries"][0]["coordinates"][0][2] == 7
    assert "Tumör" in text
    assert "bbox" not in text
    assert "isEllipse" not in text
    assert text.count("\n") > 20  # written in lines, as it was


def test_a_list_of_features_and_none_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ANNOTATIONS["features"]))
    registration().warp_points(tmp_path / "a.json", tmp_path / "b.json")
    assert isinstance(json.loads((tmp_path / "b.json").read_text()), list)
    (tmp_path / "a.json").write_text('{"type": "FeatureCollection", "features": []}')
    registration().warp_points(tmp_path / "a.json", tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text())["features"] == []
    with pytest.raises(InputError, match="at least one point"):
        read_landmarks(tmp_path / "a.json")


def test_several_points_of_one_geometry_come_in_their_order(tmp_path: Path) -> None:
    """Rows of landmarks correspond; QuPath writes a set of points as one MultiPoint."""
    points = [[3.0, 1.0], [8.0, 5.5], [2.0, 9.0]]
    (tmp_path / "a.json").write_text(json.dumps({"type": "MultiPoint", "coordinates": [[x + 0.5, y + 0.5] for x, y in points]}))
    (tmp_path / "a.csv").write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in points))
    assert read_landmarks(tmp_path / "a.json").tolist() == points
    assert made(np.eye(3)).landmark_errors(tmp_path / "a.json", tmp_path / "a.csv").tolist() == [0, 0, 0]
    (tmp_path / "b.json").write_text(json.dumps(ANNOTATIONS))
    assert read_landmarks(tmp_path / "b.json")[:4].tolist() == [[0.5, 0.5], [8.5, 0.5], [8.5, 8.5], [0.5, 0.5]]


def test_measurements_that_are_no_numbers_stay(tmp_path: Path) -> None:
    feature = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [1, 2]},
        "properties": {"measurements": {"a": math.nan}},
    }
    (tmp_path / "a.json").write_text(json.dumps(feature))
    made(np.eye(3)).warp_points(tmp_path / "a.json", tmp_path / "b.json")
    assert math.isnan(json.loads((tmp_path / "b.json").read_text())["properties"]["measurements"]["a"])


def test_landmarks_have_the_dimension_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("index,axis-0,axis-1,axis-2\n0,7.0,1.0,3.0\n")  # of a movie
    result = made(translation(2.0, 1.0).numpy())
    assert result.landmark_errors(tmp_path / "a.csv", [[5, 2]]).tolist() == [0]
    with pytest.raises(InputError, match="as many"):
        result.landmark_errors(tmp_path / "a.csv", [[5, 2], [1, 1]])
    (tmp_path / "b.json").write_text('{"type": "Point", "coordinates": [1, 2]}')
    with pytest.raises(InputError, match="3 dimensions"):
        registration(3).landmark_errors(tmp_path / "b.json", [[1, 2, 3]])


def test_empty_rows_are_missing_points(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n,\n5,6\n")
    made(translation(-2.0, -1.0).numpy()).warp_points(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text().split() == ["x,y", "3,3", ",", "7,7"]
    with pytest.raises(InputError, match="NaN"):
        read_landmarks(tmp_path / "a.csv")


def test_only_the_shape_of_napari_becomes_a_polygon(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("index,axis-0,axis-1,kind\n0,1.0,3.0,rectangle\n")
    made(np.eye(3)).warp_points(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text().split()[1] == "0,1,3,rectangle"


# ---- what is none

BAD = [
    "",
    "{}",
    "[1, 2]",
    "{",
    '{"type": "FeatureCollection"}',
    '{"type": "Feature", "geometry": {"type": "Circle", "coordinates": [1, 2]}}',
    '{"type": "Point", "coordinates": [1]}',
    '{"type": "Point", "coordinates": ["a", 2]}',
    '{"type": "Point", "coordinates": [1, NaN]}',
    '{"type": "Polygon", "coordinates": [[1, [2, 3]]]}',
    '{"type": "LineString", "coordinates": [true, false]}',
    '{"type": "Point", "coordinates": [1' + 400 * "0" + ", 2]}",
    "[" * 100_000,
    "x,y\n1,inf\n",
    "scorer,a\nbodyparts,b\n1,2\n",
    "scorer,a\ncoords,likelihood\n1,2\n",
    "scorer,a,a\ncoords,x,y\n1,2,z\n",
    "index,axis-0\n0,1\n",
    "index,axis-0,axis-1\n",
    "index,axis-0,axis-1\n0,1\n",
    "x,y\n",
    "x,z\n1,2\n",
    "hello",
]


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text[:30]))
def test_a_file_without_points_is_one_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match=r"a\.txt: "):
        registration().warp_points(tmp_path / "a.txt", tmp_path / "b.txt")
    with pytest.raises(InputError, match=r"a\.txt: "):
        read_landmarks(tmp_path / "a.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@given(
    st.text(max_size=60)
    | st.sampled_from([*TEXTS.values(), *BAD]).flatmap(lambda text: st.permutations(list(text[:60])).map("".join))
)
def test_any_text_is_moved_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.txt").write_text(text, encoding="utf-8", errors="replace")
    try:
        move_points(folder / "any.txt", folder / "moved.txt", lambda points: points + math.pi, 2)
    except InputError:
        return
    assert (folder / "moved.txt").stat().st_size


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        registration().warp_points(tmp_path / "a.csv", tmp_path / "file" / "b.csv")
