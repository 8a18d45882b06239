"""`Registration`: points, pixels and words that agree with the matrix, and files that give all of it back."""

import functools
import json
import math
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from problems import oblique, rotation, translation
from test_optimise import problem
from tolerances import EXACT

import drmime
from drmime import Doubt, InputError, Interrupted, Registration, Status, Stop, Verdict
from drmime.compare.moments import MSE
from drmime.geometry.grid import Grid, scaled
from drmime.geometry.matrices import mapped
from drmime.start.refine import Candidate
from drmime.transform.base import Chain
from drmime.transform.linear import LieModel, LieTransform, MatrixTransform
from drmime.verdict.calibration import Range
from drmime.verdict.evidence import Blocks

register = functools.partial(drmime.register, start=None)

SHAPES = {2: (24, 33), 3: (12, 14, 17)}
VERDICT = Verdict(Status.DOUBTFUL, 0.4, Range(4.0, 2.0, 8.0), Range(2.0, 1.0, 4.0), {"in_place": 0.2})


def made(matrix: Any, fixed: Grid | None = None, moving: Grid | None = None, **fields: Any) -> Registration:
    """A result with this matrix, without a run."""
    matrix = np.asarray(matrix, dtype=float)
    regular = Grid.regular(SHAPES[len(matrix) - 1])
    fields = {"similarity": 0.5, "overlap": 0.9, "history": np.zeros((3, 2)), "settings": {"seed": 0}} | fields
    fields = {"totals": fields["history"].mean(1)} | fields
    return Registration(
        MatrixTransform(matrix), fixed or regular, moving or fixed or regular, fields.pop("stop", Stop.STEPS), **fields
    )


def affine(ndim: int) -> np.ndarray:
    matrix = np.eye(ndim + 1)
    matrix[:-1] += 0.1 * np.random.default_rng(2).normal(size=(ndim, ndim + 1))
    matrix[:-1, -1] *= 20
    return matrix


def projective(ndim: int) -> np.ndarray:
    matrix = affine(ndim)
    matrix[-1, :-1] = [0.004, -0.003, 0.005][:ndim]
    return matrix


MATRICES = {"affine": affine, "projective": projective}


@pytest.fixture
def points(ndim: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0, 12, (50, ndim))


# ---- points


@pytest.mark.parametrize("kind", MATRICES)
def test_to_fixed_undoes_to_moving(kind: str, ndim: int, points: np.ndarray) -> None:
    result = made(MATRICES[kind](ndim))
    assert np.abs(result.to_moving(points) - points).max() > 0.5
    assert np.allclose(result.to_fixed(result.to_moving(points)), points, atol=1e3 * EXACT)
    assert np.allclose(result.to_moving(result.to_fixed(points)), points, atol=1e3 * EXACT)


@pytest.mark.parametrize("kind", MATRICES)
def test_the_inverse_is_the_other_way_round(kind: str, ndim: int, points: np.ndarray) -> None:
    fixed, moving = Grid.regular(SHAPES[ndim]), Grid.regular([9] * ndim, [2.0] * ndim)
    result = made(MATRICES[kind](ndim), fixed, moving)
    result = replace(result, candidates=(Candidate("here", torch.as_tensor(result.matrix), 3.0),))
    inverse = result.inverse()
    assert np.allclose(
        mapped(inverse.candidates[0].matrix, torch.as_tensor(points)), inverse.to_moving(points), atol=1e3 * EXACT
    )
    assert np.allclose(inverse.to_moving(points), result.to_fixed(points), atol=1e3 * EXACT)
    assert np.allclose(inverse.to_fixed(points), result.to_moving(points), atol=1e3 * EXACT)
    assert (inverse.fixed_grid, inverse.moving_grid) == (moving, fixed)
    assert np.allclose(inverse.inverse().matrix, result.matrix / result.matrix[-1, -1], atol=1e3 * EXACT)


@pytest.mark.parametrize("slope", [0.002, -0.002])
def test_the_inverse_holds_where_the_origin_of_the_world_is_behind_the_horizon(slope: float) -> None:
    """A tilt about an image that lies far off in its world, as files with coordinates have it: only the image matters."""
    tilt = np.eye(3)
    tilt[2, 0] = slope
    there = translation(1000.0, 0.0).numpy()
    result = made(there @ tilt @ np.linalg.inv(there))
    points = np.array([[1000.0, 3.0], [1030.0, 20.0]])
    moved = result.to_moving(points)
    assert np.isfinite(moved).all()
    assert np.allclose(result.to_fixed(moved), points)
    assert np.allclose(result.inverse().to_moving(moved), points)
    assert np.allclose(result.inverse().to_fixed(points), moved)


def test_points_behind_the_horizon_become_nan() -> None:
    result = made([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1]])
    mapped = result.to_moving([[5, 5], [9.9, 5], [10, 5], [15, 5]])
    assert np.allclose(mapped[0], [10, 10])
    assert np.isfinite(mapped[:2]).all()
    assert np.isnan(mapped[2:]).all()


@pytest.mark.parametrize(
    "bad", [[1, 2], [[1, 2, 3]], None, 5, "here", [["a", "b"]], [[1j, 2]], [[1], [1, 2]]], ids=lambda bad: f"{bad!s:.20}"
)
def test_points_of_another_shape_are_refused(bad: Any) -> None:
    for way in ("to_moving", "to_fixed"):
        with pytest.raises(InputError, match=r"points: expected .*\(N, 2\)"):
            getattr(made(np.eye(3)), way)(bad)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_points_may_be_lists_arrays_or_tensors(kind: Any) -> None:
    result = made(translation(2.0, -1.0))
    assert np.array_equal(result.to_moving(kind([[1, 2], [3, 4]])), [[3, 1], [5, 3]])
    assert result.to_moving(np.zeros((0, 2))).shape == (0, 2)


def test_without_spacing_the_pixel_matrix_is_the_matrix(ndim: int) -> None:
    assert np.allclose(made(affine(ndim)).pixel_matrix, affine(ndim), atol=EXACT)


def test_the_pixel_matrix_joins_pixels_that_the_matrix_joins_in_the_world(ndim: int, grid: Grid) -> None:
    moving = oblique([length + 3 for length in SHAPES[ndim]], [0.7] * ndim, offset=-3.0)
    result = made(affine(ndim), grid, moving)
    pixel = np.append(np.arange(1.0, ndim + 1), 1)
    world = grid.world_from_index.numpy() @ pixel
    expected = moving.index_from_world.numpy() @ np.append(result.to_moving(world[None, :-1])[0], 1)
    assert np.allclose(result.pixel_matrix @ pixel, expected, atol=1e3 * EXACT)


# ---- pixels


@pytest.mark.parametrize("kind", ["bool", "uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic"])
def test_a_shift_by_whole_pixels_keeps_values_and_dtype(kind: str, interpolation: str, ndim: int) -> None:
    fixed, moving = Grid.regular(SHAPES[ndim]), Grid.regular([length + 4 for length in SHAPES[ndim]])
    values = (np.random.default_rng(0).random(moving.shape) * 2).astype(kind)
    warped = made(translation(*[2.0] * ndim), fixed, moving).warp(values, interpolation, channel_axis=None)
    assert warped.dtype == values.dtype
    assert warped.shape == fixed.shape
    inner = values[tuple(slice(2, -2) for _ in range(ndim))]
    assert np.allclose(warped, inner, atol=1e-5 if kind == "float32" else EXACT)


def test_linear_interpolation_lies_between_and_nearest_takes_one() -> None:
    ramp = np.tile(np.arange(33.0), (24, 1))
    result = made(translation(0.25, 0.0))
    assert np.allclose(result.warp(ramp)[:, :-1], ramp[:, :-1] + 0.25)
    assert np.array_equal(result.warp(ramp, "nearest"), ramp)
    assert np.allclose(result.warp(np.sin(ramp / 4), "cubic")[:, 8:-8], np.sin((ramp + 0.25) / 4)[:, 8:-8], atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "axis", "kind"),
    [((24, 33, 3), "auto", np.asarray), ((3, 24, 33), "auto", torch.as_tensor), ((24, 5, 33), 1, np.asarray)],
)
def test_channels_stay_where_they_are(shape: tuple, axis: Any, kind: Any) -> None:
    values = np.random.default_rng(0).random(shape)
    assert np.array_equal(made(np.eye(3)).warp(kind(values), channel_axis=axis), values)


def test_the_warped_image_has_the_shape_of_the_fixed_one_and_fill_outside() -> None:
    result = made(translation(-4.0, 0.0), Grid.regular((10, 12)), Grid.regular((20, 9)))
    warped = result.warp(np.full((20, 9), 7, np.uint8), fill=200)
    assert warped.shape == (10, 12)
    assert (warped[:, :4] == 200).all()
    assert (warped[:, 4:] == 7).all()


def test_a_warp_undone_by_the_inverse_gives_the_image_back() -> None:
    rows, columns = np.mgrid[:60, :70]
    image = np.sin(rows / 7) + np.cos(columns / 9)
    grid = Grid.regular(image.shape)
    result = made(translation(35.0, 30.0) @ rotation(2, 0.2) @ translation(-34.0, -29.0), grid)
    back = result.inverse().warp(result.warp(image, "cubic"), "cubic")
    assert np.allclose(back[20:40, 20:50], image[20:40, 20:50], atol=0.01)


def test_labels_are_never_blended_and_large_ones_survive(ndim: int) -> None:
    names = np.array([0, 7, 2**53 + 1, 2**62 + 3], dtype=np.int64)
    labels = names[np.random.default_rng(0).integers(0, 4, SHAPES[ndim])]
    warped = made(affine(ndim)).warp_labels(labels, fill=-1)
    assert warped.dtype == labels.dtype
    assert set(np.unique(warped)) <= {*names.tolist(), -1}
    assert len(np.unique(warped)) > 2


def test_three_thin_slices_of_labels_are_no_channels() -> None:
    grid = Grid.regular((9, 10, 3))
    labels = np.arange(270, dtype=np.uint16).reshape(9, 10, 3)
    assert np.array_equal(made(np.eye(4), grid).warp_labels(labels), labels)


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (np.zeros((5, 5)), {}, "shape"),
        (np.zeros(SHAPES[2]), {"interpolation": "liner"}, "did you mean 'linear'"),
        (np.zeros(SHAPES[2], np.uint8), {"fill": 300}, "fill"),
        (np.zeros(SHAPES[2], np.uint8), {"fill": "a"}, "fill"),
        ("absent.png", {}, "does not exist"),
    ],
)
def test_what_cannot_be_warped_is_refused_in_words(image: Any, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(np.eye(3)).warp(image, **options)


# ---- words


def numbers(text: str, after: str) -> list[float]:
    """The numbers in the part of a description that begins with `after`."""
    part = next(part for part in text.split(";") if after in part)
    return [float(number) for number in re.findall(r"-?\d+\.\d+(?:e[+-]\d+)?", part.split(after)[1])]


def about_centre(linear: np.ndarray, shift: list[float]) -> np.ndarray:
    """A linear map about the middle of the fixed image, then a shift."""
    ndim = len(linear)
    middle = Grid.regular(SHAPES[ndim]).centre.numpy()
    matrix = np.eye(ndim + 1)
    matrix[:-1, :-1] = linear
    matrix[:-1, -1] = middle + shift - linear @ middle
    return matrix


@pytest.mark.parametrize("degrees", [0.0, 10.0, -35.5, 120.0, 180.0])
def test_the_description_says_what_a_plane_was_built_from(degrees: float) -> None:
    turn = rotation(2, math.radians(degrees))[:2, :2].numpy()
    words = made(about_centre(turn @ np.diag([1.2, 0.9]), [3.0, -2.0])).describe()
    assert numbers(words, "centre") == [3, -2]
    assert numbers(words, "rotation") == pytest.approx([degrees], abs=1e-3)
    assert numbers(words, "scales") == [1.2, 0.9]
    assert "mirrored" not in words
    assert "perspective" not in words


@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
def test_the_description_says_what_a_volume_was_built_from(plane: tuple) -> None:
    turn = rotation(3, math.radians(25), plane)[:3, :3].numpy()
    words = made(about_centre(turn @ np.diag([1.5, 1.1, 0.8]), [1.0, 2.0, -4.5])).describe()
    assert numbers(words, "centre") == [1, 2, -4.5]
    assert numbers(words, "rotation") == [25]
    assert numbers(words, "scales") == [1.5, 1.1, 0.8]


def test_the_description_says_mirrored(ndim: int) -> None:
    turn = rotation(ndim, math.radians(25))[:-1, :-1].numpy()
    words = made(about_centre(turn @ np.diag([-1.0, 1.2, 1.1][:ndim]), [0.0] * ndim)).describe()
    assert "mirrored, x reversed; then rotation" in words
    assert numbers(words, "rotation") == pytest.approx([25])
    assert numbers(words, "scales") == sorted([1.0, 1.2, 1.1][:ndim], reverse=True)


def test_the_description_says_perspective_and_does_not_mind_the_scale_of_the_matrix(ndim: int) -> None:
    matrix = np.eye(ndim + 1)
    matrix[-1, :-1] = [1e-3, -2e-3, 5e-4][:ndim]
    words = made(matrix).describe()
    assert numbers(words, "perspective") == [1e-3, -2e-3, 5e-4][:ndim]
    assert made(4 * matrix).describe() == words


def test_a_matrix_of_any_kind_has_a_description() -> None:
    """The last number may be 0 and the middle of the image behind the horizon."""
    for matrix in ([[1, 0, 0], [0, 1, 1], [0, 1, 0]], [[1, 0, 0], [0, 1, 0], [-1, 0, 1]]):
        assert made(matrix).describe()


def test_a_result_in_words_begins_with_the_verdict_and_why_it_stopped() -> None:
    for stop in Stop:
        result = made(np.eye(3), stop=stop, notes=("Something else.",), verdict=VERDICT)
        verdict = "verdict: doubtful (probability 40%, expected error 2 pixels, 1 to 4)"
        assert str(result).startswith(f"{verdict}\n{stop.value}\nSomething else.\n")
        assert result.success == stop.success
        assert result.describe() in str(result)


# ---- files


def same(one: Registration, other: Registration) -> None:
    assert np.array_equal(one.matrix, other.matrix)
    for grid, twin in ((one.fixed_grid, other.fixed_grid), (one.moving_grid, other.moving_grid)):
        assert grid.shape == twin.shape
        assert torch.equal(grid.world_from_index, twin.world_from_index)
    assert (one.stop, one.overlap, one.notes) == (other.stop, other.overlap, other.notes)
    assert (one.doubts, one.reasons, one.version) == (other.doubts, other.reasons, other.version)
    assert repr(one.verdict) == repr(other.verdict)  # NaN is not equal to itself
    assert (one.blocks is None) == (other.blocks is None)
    if one.blocks is not None and other.blocks is not None:
        assert all(np.array_equal(mine, its) for mine, its in zip(one.blocks, other.blocks, strict=True))
    assert one.transform.state() == other.transform.state()
    assert type(one.transform) is type(other.transform)
    assert one.similarity == other.similarity or (math.isnan(one.similarity) and math.isnan(other.similarity))
    assert dict(one.settings) == dict(other.settings)
    assert one.history.shape == other.history.shape
    finite = np.isfinite(one.history)
    assert np.allclose(one.history[finite], other.history[finite], atol=1e-6, rtol=0)
    assert not np.isfinite(other.history[~finite]).any()


def plain(path: Path) -> dict:
    """The file as a strict reader sees it, to whom NaN and Infinity are no numbers."""

    def refuse(token: str) -> NoReturn:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_what_is_saved_comes_back_to_the_bit(ndim: int, grid: Grid, tmp_path: Path, rng: np.random.Generator) -> None:
    matrix = affine(ndim) * (1 + 1e-16 * rng.normal(size=(ndim + 1, ndim + 1)))
    fields = {"history": rng.normal(size=(7, 3)), "similarity": 1 / 3, "overlap": 2 / 3, "notes": ("ü: a note.",)}
    fields |= {
        "doubts": {
            Doubt.SCATTERED: {"agreeing": 1.0, "blocks": 9.0, "in_place": 0.1, "usual": 0.3},
            Doubt.ALONE: {},
            Doubt.SHIFTED: {"by": "edges", "shift": [1.0, 2.5], "share": 0.7},
            Doubt.CHANCE: {"peak_ratio": math.nan, "usual": 1.4},
        },
        "verdict": VERDICT,
        "blocks": Blocks(rng.normal(size=(4, ndim)), rng.normal(size=(4, ndim)), rng.random(4), 3.0, 5.0),
        "version": "0.0.1",
    }
    result = made(matrix, grid, Grid.regular([9] * ndim), **fields, settings={"schedule": {"rate": 0.1}, "start": [[1, None]]})
    basis = {"one": torch.as_tensor(rng.normal(size=(ndim + 1, ndim + 1)))}
    modes = torch.as_tensor(rng.normal(size=(2, ndim + 1, ndim + 1)))
    lie = LieTransform(torch.as_tensor(matrix), basis, {"one": 1 / 7})
    for transform in (result.transform, lie, replace(lie, modes=modes)):
        result = replace(result, transform=transform)
        result.save(tmp_path / "new" / "result.json")
        same(result, Registration.load(str(tmp_path / "new" / "result.json")))
    assert plain(tmp_path / "new" / "result.json")["description"] == result.describe()


def test_a_result_whose_inverse_has_no_place_in_the_moving_middle_comes_back(tmp_path: Path) -> None:
    """The horizon of the inverse lies across a moving image far larger than what the fixed one shows of it."""
    tilt = np.eye(3)
    tilt[2, 0] = 0.01
    result = made(tilt, Grid.regular((96, 96)), Grid.regular((400, 400)))
    assert not np.isfinite(result.to_fixed([[199.5, 199.5]])).all()
    result.save(tmp_path / "result.json")
    same(result, Registration.load(tmp_path / "result.json"))


def test_a_transform_of_a_kind_that_cannot_be_read_is_not_saved(tmp_path: Path) -> None:
    class Other(MatrixTransform):
        def state(self) -> dict[str, Any]:
            return {"kind": "other"}

    with pytest.raises(InputError, match="unknown kind of transform 'other'"):
        replace(made(np.eye(3)), transform=Other(torch.eye(3))).save(tmp_path / "result.json")
    assert not list(tmp_path.iterdir())


def test_a_transform_that_is_no_matrix_is_used_like_any_other(tmp_path: Path, rng: np.random.Generator) -> None:
    result = replace(made(np.eye(3)), transform=Chain([MatrixTransform(translation(2.0, 1.0)), MatrixTransform(torch.eye(3))]))
    moving = rng.random(SHAPES[2])
    assert np.array_equal(result.warp(moving)[:-1, :-2], moving[1:, 2:])
    assert result.to_moving([[3, 4]]).tolist() == [[5, 5]]
    assert result.inverse().to_moving([[5, 5]]).tolist() == [[3, 4]]
    assert result.overlay(moving, moving).dtype == np.uint8
    for ask in (lambda: result.matrix, lambda: result.pixel_matrix):
        with pytest.raises(InputError, match="expected a transform that is one matrix, got a Chain"):
            ask()
    result.save(tmp_path / "result.json")
    same_points = Registration.load(tmp_path / "result.json").to_moving([[3, 4]])
    assert same_points.tolist() == [[5, 5]]


@pytest.mark.parametrize("doubt", Doubt)
def test_every_doubt_is_a_sentence_with_its_figures(doubt: Doubt) -> None:
    others = {"by": "edges", "shift": [1.5, -2.0]}
    result = made(np.eye(3), doubts={doubt: {name: others.get(name, 0.5) for name in doubt.figures}})
    (reason,) = result.reasons
    assert f"- {reason}\n" in str(result)
    assert re.fullmatch(r"[A-Z].*\.", reason)
    assert "{{" not in reason


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"transform": {"name": "affine", "parametrisation": "direct"}},
        {"transform": "projective"},
        {"transform": {"name": "affine", "finest_vector": True}},
    ],
    ids=str,
)
def test_start_generators_and_coefficients_make_the_matrix(options: dict[str, Any]) -> None:
    fixed, moving, _, _ = problem("affine", 2)
    result = register(
        fixed, moving, metric="ncc", schedule={"steps": 20}, start={"propose": None}, fixed_spacing=(2, 3), **options
    )
    assert isinstance(result.transform, LieTransform)
    basis, values = result.transform.generators, result.transform.coefficients
    start = result.candidates[0].matrix[None]
    made_of = result.settings["transform"]
    parametrisation = made_of.get("parametrisation", "exponential") if isinstance(made_of, dict) else "exponential"
    model = LieModel(basis, start, result.fixed_grid, result.moving_grid, parametrisation=parametrisation)
    coefficients = torch.tensor([[values[name] for name in basis]], dtype=torch.float64)
    assert coefficients.any()
    made_anew = scaled(model.matrices(coefficients)[0], result.fixed_grid).numpy()
    assert np.allclose(made_anew, result.matrix, rtol=0, atol=1e3 * EXACT)


def test_the_result_of_a_run_comes_back_and_warps_alike(tmp_path: Path) -> None:
    fixed, moving, _, _ = problem("affine", 2)
    result = register(fixed, moving, metric="ncc", schedule={"steps": 5}, levels=9, fixed_spacing=(0.1, 0.3))
    result.save(tmp_path / "result.json")
    loaded = Registration.load(tmp_path / "result.json")
    same(result, loaded)
    plain(tmp_path / "result.json")
    assert np.array_equal(loaded.warp(moving), result.warp(moving))


class Broken(MSE):
    def score(self, *values: torch.Tensor) -> torch.Tensor:
        return super().score(*values) * math.nan


def test_a_run_without_finite_numbers_is_saved_as_plain_json(tmp_path: Path) -> None:
    fixed, moving, _, _ = problem("translation", 2)
    result = register(fixed, moving, metric=Broken(), schedule={"steps": 5})
    assert not np.isfinite(result.history).all()
    result.save(tmp_path / "result.json")
    plain(tmp_path / "result.json")
    same(result, Registration.load(tmp_path / "result.json"))


def test_infinite_similarities_are_saved_as_plain_json(tmp_path: Path) -> None:
    history = np.array([[np.inf, 1], [-np.inf, 2], [np.nan, 3]])
    result = made(np.eye(3), history=history, similarity=math.nan)
    result.save(tmp_path / "result.json")
    plain(tmp_path / "result.json")
    same(result, Registration.load(tmp_path / "result.json"))


def test_a_run_interrupted_before_its_first_step_is_saved_and_comes_back(tmp_path: Path) -> None:
    class Pressed(MSE):
        def score(self, *values: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    fixed, moving, _, _ = problem("translation", 2)
    with pytest.raises(Interrupted) as caught:
        register(fixed, moving, metric=Pressed())
    (result,) = caught.value.registrations
    result.save(tmp_path / "result.json")
    plain(tmp_path / "result.json")
    same(result, Registration.load(tmp_path / "result.json"))


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        made(np.eye(3)).save(tmp_path / "file" / "result.json")


FILES: dict[str, bytes] = {
    "empty": b"",
    "garbage": bytes(range(256)),
    "words": b"this is no result",
    "pickle": pickle.dumps({"matrix": [[1, 0], [0, 1]]}),
    "list": b"[1, 2, 3]",
    "number": b"5",
    "null": b"null",
    "other JSON": b'{"matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}',
    "cut off": b'{"format": "drmime registration 2", "matrix": [[1, 0',
    "very deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_result_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(FILES[name])
    with pytest.raises(InputError, match="not a registration saved by drmime") as caught:
        Registration.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["absent.json", "", "x" * 300])
def test_a_file_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a registration saved by drmime"):
        Registration.load(tmp_path / name)


SQUARE, CUBE = np.eye(3).tolist(), np.eye(4).tolist()
LIE = {"kind": "lie", "matrix": SQUARE, "generators": {"one": SQUARE}, "coefficients": {"one": 1.0}, "modes": None}
RANGE = {"median": 1.0, "low": 0.5, "high": 2.0}
JUDGED = {"status": "aligned", "probability": 0.9, "expected_error": RANGE, "expected_pixels": RANGE, "figures": {}}
MEASURED = {"points": [[1.0, 2.0]], "errors": [[0.0, 0.0]], "weights": [1.0], "side": 4.0, "chance": 5.0}
SPOILT: list[tuple[str, Any]] = [
    ("format", "drmime registration 0"),
    ("transform", {"kind": "matrix", "matrix": [[math.nan] * 3] * 3}),
    ("transform", {"kind": "matrix", "matrix": [[math.inf, 0, 0], [0, 1, 0], [0, 0, 1]]}),
    ("transform", {"kind": "matrix", "matrix": [[0, 0, 0]] * 3}),
    ("transform", {"kind": "matrix", "matrix": [[10**400] * 3] * 3}),
    ("transform", {"kind": "matrix", "matrix": CUBE}),
    ("transform", {"kind": "matrix", "matrix": [[1], [1, 2]]}),
    ("transform", {"kind": "matrix", "matrix": "words"}),
    ("transform", {"kind": "matrix", "matrix": None}),
    ("stop", "TIRED"),
    ("stop", None),
    ("history", [[1], [1, 2]]),
    ("history", "words"),
    ("notes", 5),
    ("version", 1),
    ("doubts", {"TIRED": {}}),
    ("doubts", {"SCATTERED": {}}),
    ("doubts", {"SCATTERED": {"in_place": "few", "usual": 0.3}}),
    ("verdict", None),
    ("verdict", JUDGED | {"status": "perhaps"}),
    ("verdict", JUDGED | {"probability": "high"}),
    ("verdict", JUDGED | {"expected_error": {"median": 1.0}}),
    ("verdict", JUDGED | {"figures": {"in_place": "most"}}),
    ("blocks", []),
    ("blocks", MEASURED | {"points": [[1.0, 2.0, 3.0]]}),
    ("blocks", MEASURED | {"points": [[1.0, 2.0, 3.0, 4.0]]}),
    ("blocks", MEASURED | {"weights": []}),
    ("blocks", MEASURED | {"weights": [-1.0]}),
    ("verdict", JUDGED | {"probability": 7.0}),
    ("verdict", JUDGED | {"expected_pixels": {"median": 1.0, "low": 5.0, "high": 2.0}}),
    ("blocks", MEASURED | {"errors": [[None, 0.0]]}),
    ("blocks", MEASURED | {"side": 0.0}),
    ("blocks", MEASURED | {"side": None}),
    ("blocks", MEASURED | {"chance": -1.0}),
    ("transform", LIE | {"modes": [SQUARE[0]]}),
    ("transform", LIE | {"modes": [CUBE]}),
    ("doubts", ["SCATTERED"]),
    ("transform", LIE | {"generators": {"one": [[1, 2], [3, 4]]}}),
    ("transform", LIE | {"kind": "spline"}),
    ("transform", {"matrix": SQUARE}),
    ("transform", LIE | {"coefficients": {"one": "two"}}),
    ("settings", None),
    ("settings", [1]),
    ("overlap", "most"),
    ("fixed", {"shape": [5, 5]}),
    ("fixed", {"shape": [math.inf, 5], "world_from_index": SQUARE}),
    ("fixed", {"shape": [-5, 5], "world_from_index": SQUARE}),
    ("fixed", {"shape": [5, 5], "world_from_index": [[0, 0, 0]] * 3}),
    ("moving", {"shape": [5, 5, 5], "world_from_index": CUBE}),
    ("moving", None),
]


@pytest.mark.parametrize(("key", "value"), SPOILT, ids=[f"{number}-{key}" for number, (key, _) in enumerate(SPOILT)])
def test_a_result_with_one_part_spoilt_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    made(np.eye(3)).save(path)
    state = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(state | {key: value}), encoding="utf-8")
    with pytest.raises(InputError, match="not a registration saved by drmime"):
        Registration.load(path)


@pytest.mark.parametrize(
    "key", ["format", "transform", "fixed", "moving", "stop", "similarity", "overlap", "history", "totals", "settings"]
)
def test_a_result_with_one_part_missing_is_refused(key: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    made(np.eye(3)).save(path)
    state = json.loads(path.read_text(encoding="utf-8"))
    del state[key]
    path.write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(InputError, match=key):
        Registration.load(path)


def test_a_saved_result_never_runs_code(tmp_path: Path) -> None:
    """A metric named by import in the settings is only a word when the file is read."""
    path = tmp_path / "result.json"
    replace(made(np.eye(3)), settings={"metric": "antigravity:nothing"}).save(path)
    assert Registration.load(path).settings == {"metric": "antigravity:nothing"}
