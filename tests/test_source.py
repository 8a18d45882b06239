"""Slides: levels and regions are those of the file, in one world; `register` reads a coarse level; wrong files are told."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slides import LENGTH, halves, write_slide, write_zarr
from textures import busy

from drmime import as_image, register
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
