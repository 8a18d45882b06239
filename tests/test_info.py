"""`drmime info`: what is said of a file is so, every warning appears for an image made to have it, and for no other."""

import csv
import doctest
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import torch

from drmime import InputError, as_image, prepare, register
from drmime.cli import main
from drmime.geometry.grid import Grid
from drmime.image.faults import value_faults
from drmime.image.geometry_faults import geometry_faults, pair_faults
from drmime.image.io import write_image
from drmime.image.pixels import Pixels
from drmime.image.pyramid import Pyramid
from drmime.image.summary import lines, summary
from drmime.info import describe, pair, report
from drmime.transform.formats.files import write_transform
from drmime.transform.linear import MatrixTransform

PROGRAM = (sys.executable, "-c", "import sys; from drmime.cli import main; sys.exit(main())")
IMAGE_KEYS = (
    *(
        "file",
        "kind",
        "shape",
        "axes",
        "dtype",
        "values",
        "nan",
        "infinite",
        "excluded_by_own_mask",
        "spacing",
        "unit",
        "origin",
    ),
    *("direction", "crs", "bounds", "nodata", "mirrored", "register", "refused", "warnings", "pair"),
)
REGISTER_KEYS = ("channels", "levels", "reduction", "masked", "mended", "frame", "background", "notes")
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


def scene(shape: tuple[int, ...] = (64, 80), seed: int = 0) -> np.ndarray:
    """Textured pixels of 8 bits that nothing is wrong with."""
    random = np.random.default_rng(seed)
    places = np.indices(shape)
    waves = sum(np.sin(axis / (3 + at) + at) for at, axis in enumerate(places))
    return np.clip(120 + 30 * waves + random.normal(0, 8, shape), 1, 254).astype(np.uint8)


def colours(shape: tuple[int, ...] = (64, 80), count: int = 3) -> np.ndarray:
    return np.stack([scene(shape, seed) for seed in range(count)], -1)


def with_values(image: np.ndarray, where: Any, value: float) -> np.ndarray:
    image = image.copy()
    image[where] = value
    return image


def labels() -> np.ndarray:
    return np.repeat(np.repeat(np.random.default_rng(0).integers(0, 5, (8, 10)), 8, 0), 8, 1).astype(np.uint8)


def codes(data: Any, path: Path | None = None) -> list[str]:
    found = summary(data)
    return [fault.code for fault in (*value_faults(found), *geometry_faults(found, path))]


def placed(shape: tuple[int, ...], matrix: np.ndarray, unit: str = "mm", stated: bool = True) -> Pixels:
    """A scene on a grid, as a file of a medical format states it."""
    grid = Grid(shape, torch.as_tensor(matrix))
    grid = replace(grid, unit=unit, placed=stated)
    return Pixels(scene(shape), grid, tuple(range(len(shape))), None)


def lengths(*spacing: float) -> np.ndarray:
    """world_from_index of pixels of these lengths, x first."""
    return np.diag([*spacing, 1.0])


# ---- warnings

SOUND: dict[str, Any] = {
    "gray": scene(),
    "16 bits": scene().astype(np.uint16) * 200,
    "real": scene() / 255,
    "small real values": scene() * 1e-7,
    "colour": colours(),
    "opacity that says something": np.dstack([colours(), np.where(np.indices((64, 80))[0] < 30, 0, 255)]).astype(np.uint8),
    "two channels": colours(count=2),
    "volume": scene((12, 24, 28)),
    "volume of colour": colours((12, 24, 28)),
    "black background": with_values(scene(), np.s_[:, :30], 0),
    "white background": with_values(scene(), np.s_[:20], 255),
    "some saturated": with_values(scene(), np.s_[20:40, 20:40], 255),
    "padding of a third": with_values(scene(), np.s_[:20], 0),
    "thick slices": placed((12, 24, 28), lengths(1, 1, 6)),
    "micrometres": placed((64, 80), lengths(0.325, 0.325), "µm", False),
}
WRONG: dict[str, tuple[str, Any]] = {
    "NaN": ("not_finite", with_values(scene() / 255, np.s_[3, 4], np.nan)),
    "infinite": ("not_finite", with_values(scene() / 255, np.s_[3, 4], np.inf)),
    "no value": ("empty", np.full((64, 80), np.nan)),
    "constant": ("constant", np.full((64, 80), 7)),
    "constant colour": ("constant_channels", with_values(colours(), np.s_[..., 1], 9)),
    "few gray levels": ("nearly_constant", 100 + np.random.default_rng(0).integers(0, 5, (64, 80))),
    "narrow real range": ("nearly_constant", 1000 + scene() * 1e-5),
    "one value": ("nearly_constant", with_values(np.zeros((64, 80)), np.s_[::8, ::9], scene()[::8, ::9])),
    "saturated": ("clipped", with_values(scene(), np.s_[5:50, 5:60], 255)),
    "padding": ("padding", with_values(np.zeros((64, 80)), np.s_[10:40, 20:60], scene()[10:40, 20:60])),
    "padding of colour": ("padding", np.pad(colours()[:30, :40], ((0, 34), (40, 0), (0, 0)))),
    "anisotropic": ("anisotropic", placed((12, 24, 28), lengths(0.4, 0.4, 5))),
    "72 dots in an inch": ("screen_resolution", placed((64, 80), lengths(25400 / 72, 25400 / 72), "µm", False)),
    "96 dots in an inch": ("screen_resolution", placed((64, 80), lengths(264.58, 264.58), "µm", False)),
    "mirrored": ("mirrored", placed((12, 24, 28), MIRROR)),
    "5 slices": ("few_slices", scene((5, 24, 28))),
    "channels first": ("axis_may_be_channels", scene((3, 24, 28))),
    "4 slices": ("axis_may_be_channels", scene((4, 24, 28))),
    "opaque": ("alpha", np.dstack([colours(), np.full((64, 80), 255, np.uint8)])),
    "gray and opaque": ("alpha", np.dstack([scene(), np.full((64, 80), 255, np.uint8)])),
    "labels": ("labels", labels()),
    "labels as real numbers": ("labels", labels().astype(np.float32)),
    "binary mask": ("labels", labels() > 2),
    "atlas": ("labels", np.arange(80, dtype=np.uint8).reshape(8, 10).repeat(16, 0).repeat(16, 1)),
    "gray as colour": ("equal_channels", np.repeat(scene()[..., None], 3, -1)),
    "gray as colour with opacity": ("equal_channels", np.dstack([scene(), scene(), scene(), scene(seed=1)])),
}


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_wrong(name: str) -> None:
    assert codes(SOUND[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_and_nothing_else(name: str) -> None:
    code, data = WRONG[name]
    assert codes(data) == [code]


def test_every_warning_has_an_image_that_has_it() -> None:
    sources = [Path(one.__code__.co_filename).read_text(encoding="utf-8") for one in (value_faults, geometry_faults)]
    used = {code for source in sources for code in re.findall(r'Fault\(\s*"(\w+)"', source)}
    assert used == {code for code, _ in WRONG.values()} | set(UNFIT)


def test_a_mirrored_volume_of_nifti_is_told_but_no_warning() -> None:
    """Half of all volumes are stored so, as their affine states."""
    found = summary(placed((12, 24, 28), MIRROR))
    assert found.mirrored
    assert geometry_faults(found, Path("a.nii.gz")) == ()


def test_a_warning_says_what_to_do() -> None:
    for _, data in WRONG.values():
        found = summary(data)
        for fault in (*value_faults(found), *geometry_faults(found)):
            assert fault.text.count(". ") + fault.text.count(": ") + fault.text.count("; ") >= 1, fault.text
            assert fault.text.endswith((".", "?"))


NORMAL = placed((12, 24, 28), np.eye(4))
UNFIT: dict[str, tuple[Any, Any]] = {
    "spacing_of_one": (NORMAL, scene((12, 24, 28))),
    "extents": (NORMAL, placed((12, 24, 28), lengths(5, 5, 5))),
    "units": (placed((64, 80), lengths(1, 1)), placed((64, 80), lengths(1000, 1000), "µm", False)),
    "no_overlap": (NORMAL, placed((12, 24, 28), np.array([[1.0, 0, 0, 100], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))),
    "mirrored_one": (placed((64, 80), lengths(-1, 1)), placed((64, 80), lengths(1, 1), stated=False)),
}


@pytest.mark.parametrize("code", UNFIT)
def test_what_does_not_fit_together_is_told(code: str) -> None:
    first, second = map(summary, UNFIT[code])
    for fixed, moving in ((first, second), (second, first)):
        assert [fault.code for fault in pair_faults(fixed, moving)] == [code]
    assert [*pair_faults(first, first)] == []


def test_the_same_length_in_two_units_is_no_other_extent() -> None:
    fixed, moving = summary(placed((64, 80), lengths(1, 1))), summary(placed((64, 80), lengths(1, 1), "µm", False))
    assert [fault.code for fault in pair_faults(fixed, moving)] == ["units", "extents"]  # a thousandfold


def test_images_of_other_dimensions_are_told_as_register_tells_it() -> None:
    flat, volume = scene(), scene((12, 24, 28))
    told, words = pair(summary(flat), summary(volume), [None, None])
    with pytest.raises(InputError) as error:
        register(flat, volume)
    assert told == {"levels": None, "warnings": [{"code": "dimension", "text": str(error.value)}]}
    assert "same dimension" in words


# ---- files of every kind


def written(folder: Path, name: str, write: Callable[[str], object]) -> dict[str, Any]:
    write(str(folder / name))
    state = describe(folder / name).state
    json.dumps(state, allow_nan=False)
    return dict(state)


def test_a_picture(tmp_path: Path) -> None:
    state = written(tmp_path, "a.png", lambda path: iio.imwrite(path, colours()))
    assert tuple(state) == IMAGE_KEYS
    assert tuple(state["register"]) == REGISTER_KEYS
    axes = [(axis["size"], axis["role"], axis["name"]) for axis in state["axes"]]
    assert axes == [(64, "space", "y"), (80, "space", "x"), (3, "channels", None)]
    assert (state["kind"], state["dtype"], state["shape"]) == ("image", "uint8", [64, 80, 3])
    assert (state["spacing"], state["unit"], state["origin"], state["direction"]) == (None, None, None, None)
    values = colours()
    low, high = np.quantile(values, [0.001, 0.999])
    assert state["values"] == {"min": values.min(), "low": low, "high": high, "max": values.max()}
    assert (state["register"]["channels"], state["register"]["masked"], state["register"]["mended"]) == (3, 0, 0)
    assert state["register"]["levels"] == [[64, 80], [32, 40], [16, 20]]
    assert (state["warnings"], state["refused"], state["pair"], state["mirrored"]) == ([], None, None, False)


def test_a_tiff_with_lengths(tmp_path: Path) -> None:
    metadata = {"axes": "CYX", "PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.75}
    pixels = np.moveaxis(colours(count=2), -1, 0)
    state = written(tmp_path, "a.ome.tif", lambda path: tifffile.imwrite(path, pixels, ome=True, metadata=metadata))
    assert (state["spacing"], state["unit"], state["origin"]) == ([0.75, 0.5], "µm", None)
    assert [axis["role"] for axis in state["axes"]] == ["channels", "space", "space"]
    assert "0.75, 0.5 µm (y, x)" in str(describe(tmp_path / "a.ome.tif"))


def test_a_tiff_of_a_screen_has_a_warning_if_its_lengths_are_used(tmp_path: Path) -> None:
    options = {"imagej": True, "resolution": (72, 72), "metadata": {"unit": "inch"}}
    state = written(tmp_path, "a.tif", lambda path: tifffile.imwrite(path, scene(), **options))
    assert [warning["code"] for warning in state["warnings"]] == ["screen_resolution"]
    options = {"resolution": (72, 72), "resolutionunit": "INCH"}  # lengths that `register` does not use
    state = written(tmp_path, "b.tif", lambda path: tifffile.imwrite(path, scene(), **options))
    assert (state["warnings"], state["spacing"]) == ([], None)


def test_an_axis_of_time_is_named_and_refused(tmp_path: Path) -> None:
    pixels = np.stack([scene(seed=seed) for seed in range(6)])
    options = {"photometric": "minisblack", "metadata": {"axes": "TYX"}}
    state = written(tmp_path, "a.tif", lambda path: tifffile.imwrite(path, pixels, **options))
    assert [axis["role"] for axis in state["axes"]] == ["other", "space", "space"]
    assert state["register"] is None
    assert "neither space nor channels" in state["refused"]
    assert "refused: " in str(describe(tmp_path / "a.tif"))


def test_an_array(tmp_path: Path) -> None:
    pixels = with_values(scene() / 255, np.s_[:2, :3], np.nan)[None]
    state = written(tmp_path, "a.npy", lambda path: np.save(path, pixels))
    assert (state["nan"], state["infinite"], state["register"]["masked"]) == (6, 0, 6)
    assert [axis["role"] for axis in state["axes"]] == ["channels", "space", "space"]
    assert "6 NaN" in str(describe(tmp_path / "a.npy"))


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_a_medical_volume(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    pytest.importorskip("nibabel")
    turned = np.array([[0.0, -0.5, 0, 10], [0.5, 0, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1]])
    grid = Grid((20, 40, 48), torch.as_tensor(turned))
    state = written(tmp_path, f"a{ending}", lambda path: write_image(path, scene(grid.shape), grid))
    assert state["unit"] == "mm"
    assert state["spacing"] == pytest.approx([3, 0.5, 0.5])
    assert state["origin"] == pytest.approx([10, 20, -30])
    assert np.allclose(state["direction"], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-6)
    assert not state["mirrored"]
    assert [axis["name"] for axis in state["axes"]] == ["z", "y", "x"]
    assert state["warnings"] == []


def test_a_nifti_that_states_no_place(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(scene((28, 24, 12)), None)
    image.header.set_zooms((2, 2, 4))
    state = written(tmp_path, "a.nii.gz", lambda path: nibabel.save(image, path))
    assert (state["spacing"], state["origin"], state["direction"]) == ([4, 2, 2], None, None)


def test_a_mask_of_its_own_is_told_and_what_it_excludes_does_not_count() -> None:
    pixels = np.ma.masked_array(with_values(scene() / 255, np.s_[:3], np.nan), mask=np.indices((64, 80))[0] < 3)
    found = summary(pixels)
    assert (found.nan, found.excluded, found.values["max"]) == (0, 3 * 80, (scene() / 255)[3:].max())
    assert lines(found)["mask"] == "its own excludes 240 values; no NaN or infinite values"


@pytest.mark.parametrize("function", [describe, summary, value_faults, geometry_faults])
def test_the_examples_are_true(function: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where they write their files
    names = {"np": np, function.__name__: function}
    example = doctest.DocTestParser().get_doctest(function.__doc__ or "", names, function.__name__, None, 0)
    assert doctest.DocTestRunner().run(example) == (0, len(example.examples))
    assert example.examples


# ---- what register would do


@pytest.mark.parametrize("shape", [(64, 80), (200, 30), (30, 30), (6, 64, 80), (20, 40, 48), (300, 320)])
def test_the_levels_are_those_of_register(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", scene(shape))
    told = describe(tmp_path / "a.npy").state["register"]
    image = prepare.prepared(as_image(tmp_path / "a.npy"), "fixed").finest
    found = register(tmp_path / "a.npy", scene(shape), start=None, metric="mse", schedule={"steps": 1}, device="cpu")
    assert len(told["levels"]) == found.settings["levels"]
    levels = Pyramid.of(image, found.settings["levels"]).levels
    assert told["levels"] == [list(level.grid.shape) for level in levels]
    assert told["notes"] == [note.replace("fixed", "given") for note in found.notes if "moving" not in note]


def test_a_large_image_is_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "LARGEST", {2: 2000, 3: 2000})
    np.save(tmp_path / "a.npy", scene((128, 160)))
    told = describe(tmp_path / "a.npy").state["register"]
    assert (told["reduction"], told["levels"][0]) == (4, [32, 40])
    assert "at 1/4 of the resolution" in str(describe(tmp_path / "a.npy"))


def test_no_data_and_hot_pixels_are_counted(tmp_path: Path) -> None:
    pixels = scene((128, 160)).astype(np.float32)
    np.save(tmp_path / "hole.npy", with_values(pixels, np.s_[40:60, 50:80], -9999))
    told = describe(tmp_path / "hole.npy").state["register"]
    assert (told["masked"], told["mended"]) == (600, 0)
    assert any("hold -9999" in note for note in told["notes"])
    np.save(tmp_path / "hot.npy", with_values(pixels, np.s_[4::20, 7::10], 60000))
    told = describe(tmp_path / "hot.npy").state["register"]
    assert (told["masked"], told["mended"]) == (0, 7 * 16)


def test_a_frame_has_the_share_that_is_masked(tmp_path: Path) -> None:
    rows, columns = np.indices((256, 256)) - 127.5
    disc = np.where(np.hypot(rows, columns) < 120, scene((256, 256)), 0).astype(np.uint8)
    iio.imwrite(tmp_path / "disc.png", disc)
    told = describe(tmp_path / "disc.png").state["register"]
    images = prepare.Images(as_image(disc), as_image(disc)).normalised(False).without_frames()
    assert told["frame"] == pytest.approx(float((images.fixed.mask == 0).double().mean()), abs=1e-3)
    assert told["frame"] == pytest.approx(1 - np.pi * 120**2 / 256**2, abs=0.05)
    assert told["background"] == 0


# ---- transforms


def test_a_saved_registration(tmp_path: Path) -> None:
    found = register(scene(), scene(), start=None, metric="mse", schedule={"steps": 1}, device="cpu")
    state = written(tmp_path, "transform.json", found.save)
    keys = ("file", "kind", "version", "success", "verdict", "text", "fixed", "moving")
    assert tuple(state) == keys
    assert (state["kind"], state["version"], state["text"]) == ("registration", found.version, str(found))
    assert state["fixed"] == {"shape": [64, 80], "spacing": [1, 1]}
    text = str(describe(tmp_path / "transform.json"))
    assert all(line in text for line in str(found).splitlines())
    assert "64 x 80 pixels" in text


@pytest.mark.parametrize(
    ("name", "format"), [("a.tfm", "itk"), ("a.csv", "matrix"), ("a.npy", "matrix"), ("a.json", "drmime"), ("a.txt", "matrix")]
)
def test_transforms_of_other_programs(name: str, format: str, tmp_path: Path) -> None:
    if format == "itk":
        pytest.importorskip("SimpleITK", reason="writes ITK transforms: pip install 'drmime[medical]'")
    matrix = np.array([[0.0, -2, 5], [2, 0, 7], [0, 0, 1]])
    transform = MatrixTransform(torch.as_tensor(matrix))
    state = written(tmp_path, name, lambda path: write_transform(transform, path))
    assert tuple(state) == ("file", "kind", "format", "dimension", "matrix", "description")
    assert (state["kind"], state["format"], state["dimension"]) == ("transform", format, 2)
    assert np.allclose(state["matrix"], matrix)
    assert "shift of the origin (5.000, 7.000)" in state["description"]
    assert "rotation 90.000 degrees" in state["description"]
    assert "(2.0000, 2.0000)" in state["description"]


def test_a_horizon_through_the_origin_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,0,0\n0,0,1\n0,1,0\n")
    assert "horizon" in describe(tmp_path / "a.csv").state["description"]


# ---- the command


@pytest.fixture
def files(tmp_path: Path) -> Path:
    iio.imwrite(tmp_path / "one.png", scene())
    iio.imwrite(tmp_path / "other.png", 255 - scene(seed=1))
    (tmp_path / "notes.png").write_text("not an image")
    return tmp_path


def drmime(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, words)], capture_output=True, encoding="utf-8", timeout=300)


def test_the_command_reports_what_it_can_read(files: Path) -> None:
    done = drmime("info", files / "one.png", files / "nowhere.png", files / "notes.png", files / "other.png")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("drmime: error: expected an image or a file with a transform")
    assert "nowhere.png" in first
    assert second.startswith(f"drmime: error: {files / 'notes.png'}: cannot be read as an image")
    blocks = done.stdout.strip().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [str(files / "one.png"), str(files / "other.png")]
    assert all("levels 64 x 80, 32 x 40, 16 x 20" in block for block in blocks)


def test_a_pipe_that_is_closed_is_no_error(files: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*PROGRAM, "info", str(files / "one.png")]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, encoding="utf-8", timeout=300)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_json_has_one_object_for_each_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(files / "one.png"), str(files / "other.png"), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert tuple(first) == tuple(second) == IMAGE_KEYS
    assert first["pair"] == second["pair"] == {"levels": 3, "warnings": []}
    assert main(["info", str(files / "one.png"), str(files / "notes.png"), "--json"]) == 2
    out, err = capsys.readouterr()
    first, second = json.loads(out)
    assert first["pair"] is None
    assert tuple(second) == ("file", "kind", "error")
    assert second["kind"] == "error"
    assert err == f"drmime: error: {second['error']}\n"


def test_two_images_are_compared(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", scene((200, 300)))
    np.save(tmp_path / "b.npy", scene((40, 50)))
    text, problems, status = report([tmp_path / "a.npy", tmp_path / "b.npy"])
    assert (problems, status) == ("", 0)
    assert text.split("\n\n")[-1].splitlines() == [
        "both images, the first as the fixed one",
        "  levels     2",
        "  warnings   none",
    ]
    found = register(tmp_path / "a.npy", tmp_path / "b.npy", start=None, metric="mse", schedule={"steps": 1}, device="cpu")
    assert found.settings["levels"] == 2


def test_what_does_not_fit_is_told_once_in_words_and_in_json_of_both(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", scene(), ome=True, metadata={"axes": "YX", "PhysicalSizeX": 2, "PhysicalSizeY": 2})
    iio.imwrite(tmp_path / "b.png", scene())
    files = [tmp_path / "a.ome.tif", tmp_path / "b.png"]
    assert report(files)[0].count("Only the fixed image states pixel lengths") == 1
    told = [one["pair"]["warnings"] for one in json.loads(report(files, as_json=True)[0])]
    assert [[warning["code"] for warning in one] for one in told] == [["spacing_of_one"]] * 2
    assert all(one["pair"] is None for one in json.loads(report([*files, files[0]], as_json=True)[0]))  # two alone are a pair


# ---- real pairs


@pytest.mark.slow
def test_real_images_have_no_warnings_but_true_ones(data: Path) -> None:
    """The true ones: gray images in colour, and images of which more than half is padding."""
    pytest.importorskip("nibabel", reason="reads some of the volumes: pip install 'drmime[medical]'")
    with (data / "pairs.csv").open(newline="") as file:
        pairs = [(data / row["fixed"], data / row["moving"]) for row in csv.DictReader(file) if row["suite"] == "ci"]
    assert len(pairs) > 10
    for files in pairs:
        found = [describe(file) for file in files]
        for one in found:
            assert one.state["refused"] is None
            assert {warning["code"] for warning in one.state["warnings"]} <= {"equal_channels", "padding"}, one
        (fixed, _), (moving, _) = (one.image for one in found)
        told, _ = pair(fixed, moving, [one.image[1] for one in found])
        assert told["warnings"] == []
