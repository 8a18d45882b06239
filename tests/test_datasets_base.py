"""A pair reads what it names, and says of each file what is wrong with it."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import POINTS, SHAPE, landmarks, picture

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import mapped
from drmime.image.io import write_image
from drmime.lab.datasets.base import IDENTITY, Case, Change, Pair, checked, digests
from drmime.lab.datasets.case import regular_points, within


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Everything that a pair can have but a change."""
    np.savetxt(tmp_path / "truth.txt", np.eye(3))
    images = [str(picture(tmp_path / f"{name}.png")) for name in ("fixed", "moving")]
    points = [str(landmarks(tmp_path / f"{name}.csv")) for name in ("fixed", "moving")]
    labels = [str(picture(tmp_path / f"{name}_labels.png")) for name in ("fixed", "moving")]
    return Pair("a/b", *images, "here", *points, *labels, truth=str(tmp_path / "truth.txt"))


# ---- as text


TEXT = st.text(max_size=10)


@given(
    st.builds(
        Pair,
        **dict.fromkeys(asdict(Pair("", "", "")).keys() - {"change"}, TEXT),
        change=st.none() | st.builds(Change, TEXT, st.integers(0, 2**40), st.booleans()),
    )
)
def test_a_pair_comes_back_from_its_dictionary(pair: Pair) -> None:
    assert Pair.from_dict(pair.to_dict()) == pair


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "a", "fixed": "b", "movin": "c"}, "unknown key of a pair 'movin'; did you mean 'moving'"),
        ({"name": "a", "fixed": "b"}, "the keys moving as well"),
        ({"name": "a", "fixed": 3, "moving": "c"}, "text for 'fixed', got 3"),
        ({"name": "a", "fixed": "b", "moving": "c", "change": {"motoin": "small"}}, "unknown key of a change 'motoin'"),
        ({"name": "a", "fixed": "b", "moving": "c", "change": {"seed": 3}}, "the keys motion as well"),
        ({"name": "a", "fixed": "b", "moving": "c", "change": {"motion": "small", "seed": "3"}}, "seed: expected a whole"),
        ({"name": "a", "fixed": "b", "moving": "c", "change": {"motion": 3}}, "the name of a motion, got 3"),
        ({"name": "a", "fixed": "b", "moving": "c", "change": "small"}, "change: expected keys and values"),
        ([], "pair: expected keys and values"),
        ({3: 4}, "unknown key of a pair 3"),
    ],
    ids=str,
)
def test_a_dictionary_that_is_no_pair_is_refused(values: dict, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Pair.from_dict(values)
    assert words in str(caught.value)


@given(st.lists(st.text(max_size=4), max_size=4))
def test_names_are_paths_below_a_folder_or_refused(names: list[str]) -> None:
    pairs = [Pair(name, "", "") for name in names]
    plain = all(part not in ("", ".", "..") for name in names for part in name.split("/"))
    if plain and all(name.isprintable() for name in names) and len({*names}) == len(names) > 0:
        assert list(checked(pairs, "here")) == pairs
    else:
        with pytest.raises(InputError, match=r"^here: "):
            checked(pairs, "here")


# ---- files


def test_files_are_those_that_are_read(pair: Pair) -> None:
    assert {Path(path).name for path in pair.files()} == {
        *("fixed.png", "moving.png", "fixed.csv", "moving.csv", "fixed_labels.png", "moving_labels.png", "truth.txt")
    }
    for path in pair.files():
        content = Path(path).read_bytes()
        Path(path).unlink()
        with pytest.raises(InputError, match=rf"pair 'a/b'.*{Path(path).name}.*does not exist"):
            pair.load()
        Path(path).write_bytes(content)
    pair.load()


def test_files_are_told_once_and_the_identity_is_none() -> None:
    assert Pair("a", "1", "2", fixed_landmarks="3", moving_landmarks="3", truth=IDENTITY).files() == ("1", "2", "3")


def test_a_digest_is_that_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "empty").touch()
    found = digests(str(tmp_path / name) for name in ("a", "b", "empty"))
    assert found[str(tmp_path / "a")] == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert found[str(tmp_path / "a")] == found[str(tmp_path / "b")] != found[str(tmp_path / "empty")]
    with pytest.raises(InputError, match=r"gone.*does not exist"):
        digests([str(tmp_path / "gone")])


# ---- what is read


def test_a_pair_gives_all_it_has(pair: Pair) -> None:
    case = pair.load()
    assert case.fixed.shape == case.moving.shape == case.fixed_labels.shape == case.moving_labels.shape == SHAPE
    assert np.array_equal(case.fixed_points, POINTS)
    assert np.array_equal(case.moving_points, POINTS)
    assert np.array_equal(case.truth, np.eye(3))
    assert (case.ndim, case.extent, case.notes) == (2, None, ())


def test_without_anything_known_there_are_no_points(pair: Pair) -> None:
    case = Pair("a", pair.fixed, pair.moving, fixed_labels=pair.fixed_labels, moving_labels=pair.moving_labels).load()
    assert case.fixed_points is case.moving_points is case.truth is None
    assert case.fixed_labels is not None


def test_what_only_one_image_has_is_noted(pair: Pair) -> None:
    case = replace(pair, fixed_landmarks="", moving_labels="", truth="").load()
    assert case.moving_points is case.fixed_labels is None
    assert len(case.notes) == 2
    assert all("only one of the two" in note for note in case.notes)


@pytest.mark.parametrize("truth", ["identity", "translation", "projective", "negative"])
def test_a_truth_gives_a_grid_of_points(truth: str, pair: Pair) -> None:
    matrix = {
        "identity": np.eye(3),
        "translation": np.array([[1, 0, 16.5], [0, 1, 0], [0, 0, 1]]),  # half of the columns leave the image
        "projective": np.array([[1, 0, 0], [0, 1, 0], [0.01, 0, 1]]),
        "negative": -2 * np.eye(3),  # the same map as the identity
    }[truth]
    np.savetxt(pair.truth, matrix)
    path = IDENTITY if truth == "identity" else pair.truth
    case = Pair("a", pair.fixed, pair.moving, truth=path).load()
    homogeneous = np.c_[case.fixed_points, np.ones(len(case.fixed_points))] @ matrix.T
    assert len(case.fixed_points) == (200 if truth == "translation" else 400)
    assert np.allclose(case.moving_points, homogeneous[:, :2] / homogeneous[:, 2:])
    assert within(case.moving_points, SHAPE).all()


def test_in_3d_a_pair_has_spacing_and_fewer_points_an_axis(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    pixels = np.random.default_rng(0).random((9, 10, 12)).astype(np.float32)
    write_image(tmp_path / "a.nii.gz", pixels, Grid.regular(pixels.shape, (3, 2, 0.5)))
    case = Pair("a", str(tmp_path / "a.nii.gz"), str(tmp_path / "a.nii.gz"), truth=IDENTITY).load()
    assert case.fixed_spacing == pytest.approx((3, 2, 0.5))
    assert case.fixed_points.shape == (8**3, 3)
    assert case.truth.shape == (4, 4)


@pytest.mark.parametrize("shape", [(24, 33), (10, 11, 12)])
def test_regular_points_fill_an_image_evenly(shape: tuple[int, ...]) -> None:
    points = regular_points(shape)
    assert within(points, shape).all()
    assert np.allclose(points.mean(axis=0), (np.array(shape[::-1]) - 1) / 2)
    assert np.allclose(points.min(axis=0) + 0.5, np.array(shape[::-1]) - 0.5 - points.max(axis=0))
    assert len(np.unique(points, axis=0)) == len(points) == {2: 400, 3: 512}[len(shape)]


def test_a_point_behind_the_horizon_has_no_image() -> None:
    assert np.isnan(mapped(np.array([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1]]), np.array([[20.0, 3.0]]))).all()


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("colours", [2, 4])
def test_an_alpha_channel_is_left_out_if_it_says_nothing(constant: bool, colours: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*SHAPE, colours)).astype(np.uint8)
    pixels[..., -1] = 255 if constant else pixels[..., -1]
    write_image(tmp_path / "a.npy", pixels)
    case = Pair("a", str(tmp_path / "a.npy"), str(tmp_path / "a.npy")).load()
    kept = pixels[..., : colours - 1] if constant else pixels
    assert np.array_equal(case.fixed, kept[..., 0] if kept.shape[-1] == 1 else kept)
    assert case.ndim == 2


# ---- what is wrong


def _write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")


WRONG: dict[str, tuple[Callable[[Pair], object], str]] = {
    "a broken image": (lambda pair: _write(pair.moving, "no pixels"), r"moving\.png: cannot be read as an image"),
    "numbers of landmarks": (
        lambda pair: landmarks(Path(pair.fixed_landmarks), POINTS[:4]),
        r"got 4 in .*fixed\.csv and 6 in .*mov",
    ),
    "no landmarks": (lambda pair: _write(pair.fixed_landmarks, "x,y\n"), r"fixed\.csv: expected at least one point"),
    "a landmark outside": (
        lambda pair: landmarks(Path(pair.moving_landmarks), POINTS + np.eye(6, 2, -1) * 13.6),
        r"moving\.csv: 2 of 6 landmarks lie outside the image of 33 x 24 pixels; the first is number 2, at \[33\.6, 5\.0\]",
    ),
    "landmarks in 3-D": (lambda pair: landmarks(Path(pair.fixed_landmarks), np.ones((6, 3))), r"fixed\.csv: .*2 coord.*got 3"),
    "labels of another shape": (
        lambda pair: picture(Path(pair.moving_labels), (24, 32)),
        r"moving_labels\.png: expected labels of shape \(24, 33\), as .*moving\.png has, got \(24, 32\)",
    ),
    "a matrix of another shape": (lambda pair: np.savetxt(pair.truth, np.eye(4)), r"truth\.txt: .*3 x 3 .*got shape \(4, 4\)"),
    "a flat matrix": (lambda pair: np.savetxt(pair.truth, np.diag([1, 0, 1])), r"truth\.txt: .*can be inverted"),
    "rows of a matrix": (lambda pair: _write(pair.truth, "1 0 0\n0 1\n0 0 1\n"), r"truth\.txt: expected a matrix"),
    "no matrix": (lambda pair: _write(pair.truth, "one"), r"truth\.txt: expected a matrix of 3 x 3.*'one'"),
    "a matrix with NaN": (lambda pair: _write(pair.truth, "1 0 nan\n0 1 0\n0 0 1"), r"truth\.txt: .*can be inverted"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_with_its_pair_and_file(what: str, pair: Pair) -> None:
    spoil, words = WRONG[what]
    spoil(pair)
    with pytest.raises(InputError, match=rf"^pair 'a/b': .*{words}"):
        pair.load()


def test_a_landmark_may_lie_half_a_pixel_beyond_the_edge(pair: Pair) -> None:
    corners = np.array([[-1.0, -1.0], [33.0, 24.0], [0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    landmarks(Path(pair.moving_landmarks), corners)
    assert np.array_equal(pair.load().moving_points, corners)


def test_images_of_two_dimensions_are_told(pair: Pair, tmp_path: Path) -> None:
    write_image(tmp_path / "volume.npy", np.zeros((9, 9, 9)))
    with pytest.raises(InputError, match=r"same dimension, got 2-D .*fixed\.png, 3-D .*volume\.npy"):
        replace(pair, moving=str(tmp_path / "volume.npy")).load()
    write_image(tmp_path / "line.npy", np.zeros(9))
    with pytest.raises(InputError, match=r"line\.npy"):
        replace(pair, moving=str(tmp_path / "line.npy")).load()


def test_a_truth_that_leads_nowhere_is_told(pair: Pair) -> None:
    np.savetxt(pair.truth, [[1, 0, 1000], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(InputError, match=r"truth\.txt: maps no point of the fixed image into the moving one"):
        Pair("a", pair.fixed, pair.moving, truth=pair.truth).load()


# ---- one file with the landmarks of both images


def _both(pair: Pair, text: str) -> Case:
    path = Path(pair.fixed).with_name("both.txt")
    path.write_text(text)
    return replace(pair, fixed_landmarks=str(path), moving_landmarks=str(path)).load()


@pytest.mark.parametrize("text", ["1 2 3 4\n5 6 7 8\n", "1, 2, 3, 4\r\n\r\n5,6,7,8", " 1.0\t2e0 3 4 \n5 6 7 8"])
def test_one_file_holds_the_points_of_both(text: str, pair: Pair) -> None:
    case = _both(pair, text)
    assert case.fixed_points.tolist() == [[1, 2], [5, 6]]
    assert case.moving_points.tolist() == [[3, 4], [7, 8]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3 4\n5 6 7\n", r"4 finite numbers in every row .*got \[5\.0, 6\.0, 7\.0\] in row 2"),
        ("1 2 3 nan", "4 finite numbers"),
        ("x1 y1 x2 y2\n1 2 3 4", "numbers alone"),
        ("", "at least one landmark"),
        ("1 2 3 40", r"1 of 1 landmarks lie outside"),
    ],
)
def test_one_file_that_does_not_hold_the_points_of_both(text: str, words: str, pair: Pair) -> None:
    with pytest.raises(InputError, match=rf"both\.txt: .*{words}"):
        _both(pair, text)


def test_one_csv_may_be_that_of_two_images_that_overlay(pair: Pair) -> None:
    case = replace(pair, moving_landmarks=pair.fixed_landmarks).load()
    assert np.array_equal(case.moving_points, POINTS)


# ---- transforms of ITK


@pytest.mark.parametrize("shape", [(24, 33), (9, 10, 12)])
def test_an_itk_transform_is_of_the_world(shape: tuple[int, ...], tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    ndim = len(shape)
    spacing = (3.0, 2.0, 0.5)[-ndim:]
    for name, factor in (("fixed", 1), ("moving", 2)):
        pixels = np.random.default_rng(0).random(shape).astype(np.float32)
        write_image(tmp_path / f"{name}.mha", pixels, Grid.regular(shape, [factor * length for length in spacing]))
    transform = sitk.AffineTransform(ndim)
    transform.SetTranslation([2.0] + [0.0] * (ndim - 1))
    sitk.WriteTransform(transform, str(tmp_path / "a.tfm"))
    given = Pair("a", str(tmp_path / "fixed.mha"), str(tmp_path / "moving.mha"), truth=str(tmp_path / "a.tfm"))
    truth = np.diag([0.5] * ndim + [1.0])
    truth[0, -1] = 2 / (2 * spacing[-1])
    assert np.allclose(given.load().truth, truth)
    (tmp_path / "a.tfm").write_text("no transform")
    with pytest.raises(InputError, match=r"a\.tfm: cannot be read as an ITK transform"):
        given.load()
    sitk.WriteTransform(sitk.AffineTransform(5 - ndim), str(tmp_path / "a.tfm"))
    with pytest.raises(InputError, match=rf"a\.tfm: expected a linear {ndim}-D transform, got {5 - ndim}-D"):
        given.load()
