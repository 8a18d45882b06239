"""Slides: levels and regions are those of the file, in one world; `register` reads a coarse level; wrong files are told."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slides import LENGTH, halves, write_slide, write_zarr
from textures import busy

from drmime import as_image, register
from drmime.cli import main
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image import source, tiff
from drmime.image.io import open_source, read_image
from drmime.image.source import Source
from drmime.info import describe
from drmime.transform.grids import grid_of

pytest.importorskip("zarr", reason="regions of slides need zarr: pip install 'drmime[slides]'")

SHAPE = (150, 201)


@pytest.fixture
def colour(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (*SHAPE, 3)).astype(np.uint8)


@pytest.fixture
def slide(colour: np.ndarray, tmp_path: Path) -> Path:
    write_slide(tmp_path / "slide.ome.tif", halves(colour, 3))
    return tmp_path / "slide.ome.tif"


def opened(path: Path) -> Source:
    found = open_source(path)
    assert found is not None
    return found


def test_levels_lie_on_each_other(slide: Path) -> None:
    finest, *others = opened(slide).grids()
    assert finest.shape == SHAPE
    assert finest.spacing.tolist() == [LENGTH, LENGTH]
    for number, grid in enumerate(others, 1):  # each pixel is centred on the group that it replaces
        group = np.arange(2**number).mean()
        assert grid.world_from_index[:-1, -1].tolist() == pytest.approx([LENGTH * group] * 2)
        assert grid.spacing.tolist() == pytest.approx([LENGTH * 2**number] * 2)


@pytest.mark.parametrize("level", [0, 1])
def test_a_region_is_that_of_the_whole(slide: Path, colour: np.ndarray, level: int) -> None:
    found = opened(slide).planes(level, (11, 20), (30, 41))
    assert np.array_equal(found, halves(colour, 2)[level][11:41, 20:61].transpose(2, 0, 1))


def test_as_a_whole_a_slide_is_what_it_was_before(slide: Path, colour: np.ndarray) -> None:
    assert np.array_equal(read_image(slide).array, colour)
    assert read_image(slide).finest is None


def test_the_finest_level_of_few_pixels_is_registered(slide: Path, colour: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(source.LARGEST, 2, 75 * 100)
    image = as_image(slide)
    assert np.array_equal(image.data[0].numpy(), halves(colour, 2)[1].transpose(2, 0, 1))
    assert image.finest is not None
    assert image.finest.shape == SHAPE
    assert as_image(slide, mask=np.ones((10, 13), bool)).mask is not None  # of another number of pixels
    assert grid_of(slide).shape == SHAPE
    given = as_image(slide, spacing=(1.0, 2.0))  # pixel lengths are those of the finest level
    assert given.grid.spacing.tolist() == [4.0, 2.0]


def test_blocks_are_averaged_where_no_level_is_small(slide: Path, colour: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(source.LARGEST, 2, 450)
    monkeypatch.setattr(source, "BAND", 1)  # one row of blocks at a time
    found = read_image(slide, whole=False)
    last = halves(colour, 3)[2][:36, :48].astype(float)
    assert found.array.shape == (18, 25, 3)
    assert found.array[:, :24] == pytest.approx(last.reshape(18, 2, 24, 2, 3).mean((1, 3)), abs=1e-4)
    assert found.grid is not None
    assert found.grid.spacing.tolist() == [8 * LENGTH, 8 * LENGTH]


def test_a_large_file_of_one_level_is_read_in_bands(
    tmp_path: Path, colour: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_slide(tmp_path / "one.tif", [colour])
    assert open_source(tmp_path / "one.tif") is None
    monkeypatch.setattr(tiff, "LARGE", 1000)
    monkeypatch.setitem(source.LARGEST, 2, 75 * 100)
    found = read_image(tmp_path / "one.tif", whole=False).array
    assert found == pytest.approx(colour[:, :200].astype(float).reshape(75, 2, 100, 2, 3).mean((1, 3)), abs=1e-4)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(version: str, colour: np.ndarray, tmp_path: Path) -> None:
    gray = halves(colour[..., 0], 3)
    write_zarr(tmp_path / "a.zarr", gray, version)
    found = opened(tmp_path / "a.zarr")
    assert (found.axes, found.grid.unit, found.grid.placed) == ("YX", "µm", False)
    assert np.array_equal(found.planes(2, (3, 4), (20, 30))[0], gray[2][3:23, 4:34])
    assert np.array_equal(read_image(tmp_path / "a.zarr").array, gray[0])


def test_two_slides_are_registered_on_coarse_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid.regular((200, 240))
    scene = busy(grid, seed=3)
    images = [scene(grid.index_points() + torch.tensor(shift)).view(grid.shape).numpy() for shift in ([0.0, 0.0], [6.0, -4.0])]
    for name, image in zip(("fixed", "moving"), images, strict=True):
        gray = np.rint(255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
        write_slide(tmp_path / f"{name}.ome.tif", halves(np.repeat(gray[..., None], 3, -1), 3))
    monkeypatch.setitem(source.LARGEST, 2, 100 * 120)
    paths = [tmp_path / f"{name}.ome.tif" for name in ("fixed", "moving")]
    mask = np.ones((40, 48), bool)  # of another number of pixels
    result = register(*paths, transform="translation", levels=2, fixed_mask=mask, device="cpu")
    assert result.fixed_grid.shape == result.moving_grid.shape == (200, 240)
    assert result.matrix[:2, 2] == pytest.approx([-6 * LENGTH, 4 * LENGTH], abs=0.3 * LENGTH)
    assert any("of (200, 240)" in note for note in result.notes)
    assert result.overlay(*paths).ndim == 3
    assert result.landmark_errors([[20, 30]], [[14, 34]]) == pytest.approx(0, abs=0.3 * LENGTH)  # pixels of the finest level
    assert describe(paths[0]).state["register"]["reduction"] == 2


def test_a_mask_of_other_proportions_is_refused(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(source.LARGEST, 2, 75 * 100)
    with pytest.raises(InputError, match="mask"):
        as_image(slide, mask=np.ones((40, 40)))


def test_a_few_slices_are_kept(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = rng.random((2, 3, 96, 128)).astype(np.float32)
    grid = Grid.regular((3, 96, 128), (4.0, 1.0, 1.0))
    monkeypatch.setitem(source.LARGEST, 3, 3 * 48 * 64)
    found = Source("", (volume,), "CZYX", grid).reduced()
    assert found.array == pytest.approx(volume.reshape(2, 3, 48, 2, 64, 2).mean((3, 5)), abs=1e-6)
    assert found.grid is not None
    assert found.grid.spacing.tolist() == [2, 2, 4]
    assert (found.space, found.channel_axis) == ((1, 2, 3), 0)


def test_several_threads_may_read_a_slide(slide: Path, colour: np.ndarray) -> None:
    found = opened(slide)

    def same(number: int) -> bool:
        level = number % 3
        whole = found.planes(level, (0, 0), found.grids()[level].shape)
        return np.array_equal(whole, halves(colour, 3)[level].transpose(2, 0, 1))

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(same, range(24)))


def test_transformations_of_the_whole_image_come_after_those_of_a_level(colour: np.ndarray, tmp_path: Path) -> None:
    whole = [{"type": "scale", "scale": [2.0, 3.0]}, {"type": "translation", "translation": [10.0, 20.0]}]
    write_zarr(tmp_path / "a.zarr", halves(colour[..., 0], 2), coordinateTransformations=whole)
    grid = opened(tmp_path / "a.zarr").grid
    assert grid.spacing.tolist() == [3 * LENGTH, 2 * LENGTH]
    assert grid.world_from_index[:-1, -1].tolist() == [20.0, 10.0]
    assert grid.placed


def test_levels_that_state_no_scale_lie_as_their_shapes_say(colour: np.ndarray, tmp_path: Path) -> None:
    write_zarr(tmp_path / "a.zarr", halves(colour[..., 0], 3))
    _changed(tmp_path / "a.zarr", lambda image: [level.pop("coordinateTransformations") for level in image["datasets"]])
    assert [grid.spacing.tolist() for grid in opened(tmp_path / "a.zarr").grids()] == [[1, 1], [2, 2], [4, 4]]


def test_other_files_beside_chunks_do_no_harm(colour: np.ndarray, tmp_path: Path) -> None:
    write_zarr(tmp_path / "a.zarr", halves(colour[..., 0], 2))
    (tmp_path / "a.zarr" / "0" / ".DS_Store").write_bytes(b"x")
    assert np.array_equal(read_image(tmp_path / "a.zarr").array, colour[..., 0])


def test_info_of_a_slide(slide: Path, colour: np.ndarray, tmp_path: Path) -> None:
    write_zarr(tmp_path / "a.zarr", halves(colour[..., 0], 3))
    for path in (slide, tmp_path / "a.zarr"):
        assert describe(path).state["file_levels"] == [[150, 201], [75, 100], [37, 50]]
        assert "75 x 100" in str(describe(path))


# ---- files that are wrong


def _missing_level(path: Path) -> None:
    shutil.rmtree(path / "1")


def _truncated_chunk(path: Path) -> None:
    chunk = next(file for file in sorted((path / "1").rglob("*")) if file.is_file() and not file.name.startswith("."))
    chunk.write_bytes(chunk.read_bytes()[:20])


def _no_metadata(path: Path) -> None:
    (path / ".zattrs").write_text("{}")


def _no_json(path: Path) -> None:
    (path / ".zattrs").write_text("{")


def _changed(path: Path, change: Any) -> None:
    state = json.loads((path / ".zattrs").read_text())
    change(state["multiscales"][0])
    (path / ".zattrs").write_text(json.dumps(state))


def _wrong_scale(path: Path) -> None:
    _changed(path, lambda image: image["datasets"][1]["coordinateTransformations"][0].update(scale=[5.0, 1.0]))


def _negative_scale(path: Path) -> None:
    _changed(path, lambda image: image["datasets"][0]["coordinateTransformations"][0].update(scale=[-1.0, 1.0]))


def _one_axis_too_many(path: Path) -> None:
    _changed(path, lambda image: image["axes"].insert(0, {"name": "c", "type": "channel"}))


def _no_datasets(path: Path) -> None:
    _changed(path, lambda image: image.update(datasets=[]))


def _outside(path: Path) -> None:
    shutil.copytree(path, path.with_name("other.zarr"))
    _changed(path, lambda image: image["datasets"][1].update(path="../other.zarr/1"))


def _absolute(path: Path) -> None:
    _changed(path, lambda image: image["datasets"][1].update(path="/1"))


def _linked(path: Path) -> None:
    shutil.move(path / "1", path.with_name("elsewhere"))
    (path / "1").symlink_to(path.with_name("elsewhere"))


def _several_images(path: Path) -> None:
    (path / ".zattrs").write_text('{"bioformats2raw.layout": 3}')


def _two_units(path: Path) -> None:
    _changed(path, lambda image: image["axes"][0].update(unit="millimeter"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_missing_level, "level '1', which is missing"),
        (_truncated_chunk, "level 1 is truncated or damaged"),
        (_no_metadata, "multiscales metadata"),
        (_no_json, "a.zarr"),
        (_wrong_scale, "level 1 of shape"),
        (_negative_scale, "multiscales metadata"),
        (_one_axis_too_many, "a.zarr"),
        (_no_datasets, "multiscales metadata"),
        (_two_units, "one unit"),
        (_outside, "multiscales metadata"),
        (_absolute, "multiscales metadata"),
        (_linked, "link to another place"),
        (_several_images, "give one of them"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    damage: Any, words: str, colour: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(source.LARGEST, 2, 75 * 100)
    write_zarr(tmp_path / "a.zarr", halves(colour[..., 0], 3))
    damage(tmp_path / "a.zarr")
    with pytest.raises(InputError, match=words) as error:
        as_image(tmp_path / "a.zarr")
    assert "a.zarr" in str(error.value)


def test_a_truncated_slide_is_told(slide: Path) -> None:
    slide.write_bytes(slide.read_bytes()[:-3000])
    with pytest.raises(InputError, match="truncated or damaged"):
        as_image(slide)


def test_the_command_registers_folders_of_zarr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = Grid.regular((101, 123))
    scene = busy(grid, seed=3)
    for name, shift in (("fixed", [0.0, 0.0]), ("moving", [6.0, -4.0])):
        image = scene(grid.index_points() + torch.tensor(shift)).view(grid.shape).numpy()
        gray = np.rint(100 * (image - image.min()) / np.ptp(image) + 100).astype(np.uint8)
        write_zarr(tmp_path / f"{name}.zarr", halves(gray, 2))
    words = [*(str(tmp_path / f"{name}.zarr") for name in ("fixed", "moving")), "--out", str(tmp_path / "out")]
    options = ["--transform", "translation", "--levels", "2", "--device", "cpu", "--set", "schedule.steps=30"]
    with source_of_few_pixels():
        assert main(["register", *words, *options]) == 0, capsys.readouterr().err
    warped, fixed = read_image(tmp_path / "out" / "warped.tif"), read_image(tmp_path / "fixed.zarr").array
    means = fixed[:100, :122].reshape(50, 2, 61, 2).mean((1, 3))
    assert warped.array.shape == means.shape
    assert warped.grid is not None
    assert warped.grid.spacing.tolist() == [2 * LENGTH, 2 * LENGTH]
    inside = np.s_[4:-4, 5:-5]
    assert np.abs(warped.array.astype(float) - means)[inside].mean() < 2


@contextmanager
def source_of_few_pixels() -> Iterator[None]:
    before = source.LARGEST[2]
    source.LARGEST[2] = 60 * 70
    try:
        yield
    finally:
        source.LARGEST[2] = before
