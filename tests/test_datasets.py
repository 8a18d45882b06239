"""Every dataset keeps the same laws, on small made-up trees; what cannot be used is one clear error."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import OTHERS, POINTS, TREES, Tree, anhir_tree, birl_tree, fire_tree, pairs_tree, picture, slices, table

from drmime.errors import InputError
from drmime.lab.datasets import DATASETS, dataset
from drmime.lab.datasets.base import Pair
from drmime.lab.datasets.changes import MOTIONS
from drmime.lab.datasets.folders import _natural
from drmime.registry import options_of

SPECS = {kind: "file" if kind in ("pairs", "birl") else "of" if kind == "synthetic" else "folder" for kind in DATASETS}


@pytest.fixture(params=DATASETS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return TREES[request.param](tmp_path)


# ---- laws


def test_names_domains_and_order_are_as_they_should_be(tree: Tree) -> None:
    pairs = dataset(tree.spec)
    assert [pair.name for pair in pairs] == tree.names
    assert [pair.domain for pair in pairs] == tree.domains
    assert dataset(tree.spec) == pairs


def test_every_file_is_there_and_absolute(tree: Tree) -> None:
    for pair in dataset(tree.spec):
        assert len(pair.files()) >= 2
        assert all(Path(path).is_absolute() and Path(path).is_file() for path in pair.files())


def test_a_pair_survives_json(tree: Tree) -> None:
    for pair in dataset(tree.spec):
        assert Pair.from_dict(json.loads(json.dumps(pair.to_dict()))) == pair


def test_points_match_and_lie_in_their_images(tree: Tree) -> None:
    cases = [pair.load() for pair in dataset(tree.spec)]
    if tree.points:
        assert [None if case.fixed_points is None else len(case.fixed_points) for case in cases] == tree.points
    for case in cases:
        assert case.fixed_spacing == case.moving_spacing == (1, 1)
        if case.fixed_points is not None:
            assert case.fixed_points.shape == case.moving_points.shape
            for points, image in ((case.fixed_points, case.fixed), (case.moving_points, case.moving)):
                assert (points >= -0.5).all()
                assert (points <= np.array(image.shape[1::-1]) - 0.5).all()


def test_no_image_is_read_before_its_turn(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr("drmime.image.door.read_image", refuse)
    pairs = dataset(tree.spec)
    with pytest.raises(AssertionError, match="was read"):
        pairs[0].load()


def test_a_file_that_goes_is_an_error_of_the_pairs_that_have_it(tree: Tree) -> None:
    pairs = dataset(tree.spec)
    gone = Path(pairs[0].moving)
    gone.unlink()
    for pair in pairs:
        if str(gone) not in pair.files():
            pair.load()
        else:
            with pytest.raises(InputError, match=rf"pair '{pair.name}'.*{gone.name}.*does not exist"):
                pair.load()


def test_every_option_is_told(tree: Tree) -> None:
    factory = DATASETS[tree.spec["name"]]
    assert factory.__doc__
    for option in options_of(factory):
        assert f"\n        {option}: " in factory.__doc__


@pytest.mark.parametrize("kind", DATASETS)
def test_a_missing_source_is_one_clear_error(kind: str, tmp_path: Path) -> None:
    spec: Any = str(tmp_path / "none")
    spec = {"name": kind, SPECS[kind]: {"name": "pairs", "file": spec} if kind == "synthetic" else spec}
    with pytest.raises(InputError, match=r"none.*does not exist"):
        dataset(spec)
    with pytest.raises(InputError, match=kind):
        dataset(kind)


@pytest.mark.parametrize("kind", ["pairs", "birl", "anhir", "fire"])
def test_a_limit_is_spread_over_all(kind: str, tmp_path: Path) -> None:
    tree = TREES[kind](tmp_path)
    for limit in range(2, len(tree.names) + 3):
        names = [pair.name for pair in dataset(tree.spec | {"limit": limit})]
        assert names == sorted(set(names), key=tree.names.index)
        assert len(names) == min(limit, len(tree.names))
        assert (names[0], names[-1]) == (tree.names[0], tree.names[-1])
    assert len(dataset(tree.spec | {"limit": 1})) == 1
    with pytest.raises(InputError, match="limit"):
        dataset(tree.spec | {"limit": 0})


def test_an_object_that_is_no_dataset_is_refused() -> None:
    for spec in (3, None, [1], "builtins:dict"):
        with pytest.raises(InputError, match="dataset"):
            dataset(spec)
    assert dataset([Pair("a", "b", "c")]) == (Pair("a", "b", "c"),)


# ---- tables


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"where": {"dataset": "kidney"}}, ["kidney/one", "kidney/two"]),
        ({"where": {"pair": ["one", "two"]}}, ["kidney/one", "kidney/two", "eye/one"]),
        ({"where": {"dataset": "kidney", "pair": "one"}}, ["kidney/one"]),
        ({"where": {"already_aligned": 1}}, ["eye/one"]),
        ({"where": {"already_aligned": True}}, ["eye/one"]),
        ({"skip": {"dataset": "kidney"}}, ["eye/one", "c-a"]),
        ({"where": {"pair": "one"}, "skip": {"dataset": ["eye"]}}, ["kidney/one"]),
        ({"skip": {"fixed_landmarks": "", "dataset": "lung"}}, ["kidney/one"]),
    ],
    ids=str,
)
def test_rows_are_filtered(filters: dict, names: list[str], tmp_path: Path) -> None:
    assert [pair.name for pair in dataset(pairs_tree(tmp_path).spec | filters)] == names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"where": {"datset": "kidney"}}, "'datset'; did you mean 'dataset'"),
        ({"where": {"dataset": ["kidney", "kidny"]}}, "where: dataset: no row has 'kidny'. Known: '', 'eye', 'kidney'"),
        ({"where": {"dataset": []}}, "one of no values"),
        ({"where": {"dataset": "eye"}, "skip": {"pair": "one"}}, "no pair left after skip: pair = one"),
        ({"where": {"dataset": "eye", "pair": "two"}}, "no pair left after where: pair = two"),
        ({"where": "eye"}, "where: expected {column: value"),
        ({"root": "/nowhere"}, "expected a folder, got '/nowhere'"),
        ({"rot": "x"}, "did you mean 'root'"),
        ({"limit": "3"}, "limit: expected a whole number"),
    ],
    ids=str,
)
def test_options_that_fit_no_row_are_told(options: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        dataset(pairs_tree(tmp_path).spec | options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the columns fixed, moving as well, got none"),
        ("pair,fixed\na,b\n", "the columns moving as well, got pair, fixed"),
        ("fixed,moving\n", "no rows"),
        ("fixed,moving\na.png,\n", "a path in column 'moving'"),
        ("pair,fixed,moving\na,1,2\nb,1,2\na,1,2\nb,1,2\n", "each pair name once, got several of 'a', 'b'"),
        ("pair,fixed,moving\n../a,1,2\n", "pair names like"),
        ("pair,fixed,moving\n/a,1,2\n", "pair names like"),
        ("pair,fixed,moving,already_aligned\na,1,2,perhaps\n", "0 or 1 in column already_aligned, got 'perhaps' for 'a'"),
        ('fixed,moving\n1,"' + "2" * 200_000, "expected a CSV"),
    ],
    ids=lambda text: text[:30],
)
def test_a_table_that_cannot_be_used_is_told(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        dataset({"name": "pairs", "file": table(tmp_path / "p.csv", text)})
    assert words in str(caught.value)
    assert "p.csv" in str(caught.value)


def test_a_table_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("\ufeffpair, fixed ,moving\r\nä,  1.png,2.png\r\n\r\n".encode())
    (pair,) = dataset({"name": "pairs", "file": str(tmp_path / "p.csv")})
    assert (pair.name, pair.fixed) == ("ä", str(tmp_path / "1.png"))


def test_a_short_row_ends_in_empty_cells(tmp_path: Path) -> None:
    (pair,) = dataset(
        {"name": "pairs", "file": table(tmp_path / "p.csv", "fixed,moving,domain\n1.png,2.png\n"), "where": {"domain": ""}}
    )
    assert (pair.name, pair.domain) == ("1-2", "")
    with pytest.raises(InputError, match="column 'moving'"):
        dataset({"name": "pairs", "file": table(tmp_path / "q.csv", "fixed,moving\n1.png\n")})


def test_paths_of_a_table_start_from_its_folder_or_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "tables" / "p.csv", "fixed,moving\na.png,/b.png\n")
    monkeypatch.chdir(tmp_path)
    (pair,) = dataset({"name": "pairs", "file": "tables/p.csv"})
    assert (pair.fixed, pair.moving) == (str(tmp_path / "tables" / "a.png"), "/b.png")
    (pair,) = dataset({"name": "pairs", "file": "tables/p.csv", "root": "."})
    assert pair.fixed == str(tmp_path / "a.png")


def test_the_status_chooses_rows_of_birl_and_anhir(tmp_path: Path) -> None:
    spec = anhir_tree(tmp_path).spec
    assert [pair.domain for pair in dataset(spec | {"status": None})] == ["COAD", "COAD", "kidney"]
    (hidden,) = dataset(spec | {"status": "evaluation"})
    with pytest.raises(InputError, match=r"pair 'kidney_/S2-S1'.*S2\.csv.*does not exist"):
        hidden.load()
    as_birl = {"name": "birl", "file": str(tmp_path / "dataset_medium.csv"), "root": str(tmp_path / "images")}
    assert len(dataset(as_birl)) == 3
    assert len(dataset(as_birl | {"status": ["training"]})) == 2
    with pytest.raises(InputError, match="status: no row has 'test'"):
        dataset(spec | {"status": "test"})


def test_the_target_of_birl_is_the_fixed_image(tmp_path: Path) -> None:
    first, _ = dataset(birl_tree(tmp_path).spec)
    assert Path(first.fixed).name == "he.png"
    assert (first.load().fixed.shape, first.load().moving.shape) == ((24, 33), (30, 40))


def test_anhir_takes_its_folders_from_elsewhere(tmp_path: Path) -> None:
    spec = anhir_tree(tmp_path).spec
    (tmp_path / "images").rename(tmp_path / "small")
    with pytest.raises(InputError, match="does not exist"):
        dataset(spec)[0].load()
    assert dataset(spec | {"images": str(tmp_path / "small")})[0].load().fixed_points.tolist() == POINTS.tolist()


# ---- folders


def test_fire_gives_both_images_points_of_one_file(tmp_path: Path) -> None:
    case = dataset(fire_tree(tmp_path).spec)[0].load()
    assert np.allclose(case.fixed_points, POINTS, atol=1e-3)
    assert np.allclose(case.moving_points, OTHERS, atol=1e-3)


def test_fire_gives_the_classes_that_are_asked_for(tmp_path: Path) -> None:
    spec = fire_tree(tmp_path).spec
    assert [pair.name for pair in dataset(spec | {"classes": ["S", "A"]})] == ["A01", "S02"]
    assert [pair.name for pair in dataset(spec | {"classes": "P"})] == ["P10"]
    with pytest.raises(InputError, match="class of FIRE 'Q'"):
        dataset(spec | {"classes": ["Q"]})
    for path in (tmp_path / "Images").glob("P*"):
        path.unlink()
    assert len(dataset(spec)) == 3  # its points are there: a row that says what is missing
    (tmp_path / "Ground Truth" / "control_points_P10_1_2.txt").unlink()
    with pytest.raises(InputError, match="classes P: no pairs"):
        dataset(spec | {"classes": "P"})


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({"name": "folder", "fixed": "s2.tif"}, ["s2-s1", "s2-s10"]),
        ({"name": "folder", "pattern": "*.png"}, ["s1-s10"]),
        ({"name": "stack", "to": "reference"}, ["s2-s1", "s2-s10"]),
        ({"name": "stack", "to": "reference", "reference": 0}, ["s1-s2", "s1-s10"]),
        ({"name": "stack", "to": "reference", "reference": "s10.png"}, ["s10-s1", "s10-s2"]),
        ({"name": "stack", "pattern": "*.png"}, ["s1-s10"]),
    ],
    ids=str,
)
def test_who_goes_to_whom(spec: dict, names: list[str], tmp_path: Path) -> None:
    assert [pair.name for pair in dataset(spec | {"folder": slices(tmp_path)})] == names


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "folder", "fixed": "s3.tif"}, "'s3.tif'; did you mean 's2.tif'"),
        ({"name": "folder", "pattern": "*.jpg"}, "at least two images that fit the pattern '*.jpg', got 0"),
        ({"name": "folder", "pattern": "/x"}, "pattern: expected a glob"),
        ({"name": "folder", "pattern": 3}, "pattern: expected a glob"),
        ({"name": "stack", "to": "next"}, "way to align a stack 'next'"),
        ({"name": "stack", "reference": 1}, "Set to: reference"),
        ({"name": "stack", "to": "reference", "reference": 3}, "a number from 0 to 2"),
        ({"name": "stack", "to": "reference", "reference": "s3"}, "unknown slice 's3'"),
    ],
    ids=str,
)
def test_what_a_folder_has_not_is_told(spec: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        dataset(spec | {"folder": slices(tmp_path)})
    assert words in str(caught.value)


def test_two_images_of_one_name_are_told(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "b.tif"):
        picture(tmp_path / name)
    with pytest.raises(InputError, match="several of 'a-b'"):
        dataset({"name": "folder", "folder": str(tmp_path)})


@given(st.lists(st.integers(0, 10**12), unique=True, min_size=2))
def test_numbered_names_are_in_the_order_of_their_numbers(numbers: list[int]) -> None:
    names = [f"Slice {number} of 3.tif" for number in numbers]
    assert sorted(sorted(names), key=_natural) == [f"Slice {number} of 3.tif" for number in sorted(numbers)]


@given(st.lists(st.text(max_size=6), max_size=6))
def test_any_names_have_an_order(names: list[str]) -> None:
    assert sorted(sorted(names, key=_natural, reverse=True), key=_natural) == sorted(names, key=_natural)


# ---- synthetic


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"motions": ["small", "larg"]}, "unknown motion 'larg'; did you mean 'large'"),
        ({"motions": []}, "motions: expected a list"),
        ({"motions": ["small", "small"]}, "several of 'a/small-0'"),
        ({"motions": 3}, "motions: expected a list"),
        ({"repeats": 0}, "repeats: expected a whole number"),
        ({"seed": -1}, "seed: expected a whole number"),
        ({"recoloured": "yes"}, "recoloured: expected True or False"),
        ({"of": "pears"}, "unknown dataset 'pears'; did you mean 'pairs'"),
        ({"of": {"name": "synthetic", "of": "pairs"}}, "unknown dataset 'synthetic'"),
        ({"of": 3}, "of: expected a dataset"),
    ],
    ids=str,
)
def test_motions_that_cannot_be_made_are_told_before_the_start(options: dict, words: str) -> None:
    with pytest.raises(InputError) as caught:
        dataset({"name": "synthetic", "of": [Pair("a", "1", "2")]} | options)
    assert words in str(caught.value)


def test_a_change_is_not_changed_again() -> None:
    changed = dataset({"name": "synthetic", "of": [Pair("a", "1", "2")], "motions": "crop", "repeats": 1})
    assert [pair.name for pair in changed] == ["a/crop-0"]
    with pytest.raises(InputError, match="'a/crop-0', which is changed already"):
        dataset({"name": "synthetic", "of": changed})


# ---- real pairs


def test_every_real_row_becomes_a_pair_with_its_files(data: Path) -> None:
    pairs = dataset({"name": "pairs", "file": str(data / "pairs.csv")})
    with (data / "pairs.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(pairs) == len(rows)
    assert {pair.domain for pair in pairs} >= {"histology", "retina", "remote"}
    assert all(Path(path).is_file() for pair in pairs for path in pair.files())
    assert len(dataset({"name": "pairs", "file": str(data / "pairs.csv"), "where": {"ndim": 3}})) == sum(
        row["ndim"] == "3" for row in rows
    )


def test_the_real_pairs_of_the_ci_suite_load(data: Path) -> None:
    pytest.importorskip("nibabel", reason="reads NIfTI")
    pairs = dataset({"name": "pairs", "file": str(data / "pairs.csv"), "where": {"suite": "ci"}})
    assert len(pairs) == 22
    for pair in pairs:
        case = pair.load()
        assert case.fixed_points is not None, f"{pair.name}: nothing to judge by"
        assert len(case.fixed_points) == len(case.moving_points) > 3
        assert not case.notes


def test_an_itk_transform_and_the_landmarks_say_the_same(data: Path) -> None:
    pytest.importorskip("SimpleITK")
    (pair,) = dataset({"name": "pairs", "file": str(data / "pairs.csv"), "where": {"dataset": "msvisits3d"}})
    case = pair.load()
    mapped = case.fixed_points @ case.truth[:3, :3].T + case.truth[:3, 3]
    assert pair.truth.endswith(".tfm")
    assert np.abs(mapped - case.moving_points).max() < 0.6  # they are rounded to whole voxels
    assert case.fixed_spacing == pytest.approx((4, 0.71875, 0.71875), rel=1e-4)


@pytest.mark.parametrize("motion", MOTIONS)
def test_real_pairs_can_be_moved(data: Path, motion: str) -> None:
    if motion == "volume":
        pytest.importorskip("nibabel", reason="reads NIfTI")
    which = {"dataset": "spm3d", "pair": "avgT1_avgT2"} if motion == "volume" else {"suite": "ci", "dataset": "starain_brain"}
    inner = {"name": "pairs", "file": str(data / "pairs.csv"), "where": which}
    for pair in dataset({"name": "synthetic", "of": inner, "motions": [motion], "repeats": 1}):
        case = pair.load()
        assert len(case.fixed_points) >= 5
        assert case.moving.any()
