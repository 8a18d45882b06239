"""Mosaics of tiles with known places."""

import csv
import doctest
import inspect
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from drmime import Image, InputError, Mosaic, read_transform, stitch
from drmime.cli import main
from drmime.geometry.grid import Grid
from drmime.image.stage import stage_position
from drmime.mosaic import links as mosaic_links
from drmime.shifts.surface import best_shifts

SIDE, STEP = 72, 58
ROWS, COLUMNS = 3, 3
EMPTY = 5


def scene() -> np.ndarray:
    random = np.random.default_rng(3)
    fine, coarse = (gaussian_filter(random.standard_normal((240, 240)), sigma) for sigma in (1.2, 5))
    image = fine / fine.std() + coarse / coarse.std()
    return (image - image.min()) / np.ptp(image)


def places(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Expected and true positions, x first."""
    rows, columns = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    expected = STEP * np.stack([columns, rows], -1).astype(float)
    return expected, expected + np.random.default_rng(seed).uniform(-2, 2, expected.shape)


def tile(at: np.ndarray, image: np.ndarray, number: int) -> np.ndarray:
    """A tile with uneven light and noise, 16 bits."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    pixels = map_coordinates(image, [rows + at[1] + 8, columns + at[0] + 8], order=3)
    light = 1 - 0.3 * (np.square(rows / SIDE - 0.4) + np.square(columns / SIDE - 0.6))
    if number == EMPTY:
        pixels = np.full_like(pixels, 0.2)
    noisy = pixels * light + 0.01 * np.random.default_rng(number).standard_normal(pixels.shape)
    return np.clip(20_000 * noisy + 1_000, 0, 65_535).astype(np.uint16)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return places()[1]


@pytest.fixture(scope="module")
def tiles(truth: np.ndarray) -> list[np.ndarray]:
    image = scene()
    return [tile(at, image, number) for number, at in enumerate(truth)]


LAYOUT = {"layout": (ROWS, COLUMNS), "overlap": 1 - STEP / SIDE}


@pytest.fixture(scope="module")
def mosaic(tiles: list[np.ndarray]) -> Mosaic:
    return stitch(tiles, **LAYOUT)


def error(found: Mosaic, truth: np.ndarray, which: Any = None) -> float:
    """The largest distance from the true positions, in pixels, of all tiles but the empty one."""
    which = [number for number in range(len(truth)) if number != EMPTY] if which is None else which
    away = found.positions[which] - truth[which]
    return float(np.linalg.norm(away - away.mean(0), axis=1).max())


def test_tiles_find_their_places_and_the_empty_one_is_named(mosaic: Mosaic, truth: np.ndarray) -> None:
    assert mosaic.unconnected == (EMPTY,)
    assert error(mosaic, truth) < 0.15
    assert np.abs(mosaic.positions[EMPTY] - places()[0][EMPTY]).max() < 4  # by the layout, moved as its neighbours
    assert "tile 5 : not connected with the others; placed by the layout" in str(mosaic)
    assert all(link.chance < 0.05 for link in mosaic.links)
    known = np.delete(mosaic.expected_errors, EMPTY)
    assert (known < 0.15).all()
    assert np.isnan(mosaic.expected_errors[EMPTY])
    away = np.delete(mosaic.positions - truth, EMPTY, 0)
    off = np.linalg.norm(away - away.mean(0), axis=1)
    assert 0.3 < np.sqrt(np.mean(np.square(off / known))) < 2.5
    assert np.abs(np.median(mosaic.positions - places()[0], 0)).max() < 1  # in the frame of the layout


def test_nothing_known_of_the_places(tiles: list[np.ndarray], truth: np.ndarray) -> None:
    found = stitch(tiles)
    assert error(found, truth) < 0.15
    assert found.transforms[EMPTY] is None
    assert np.isnan(found.positions[EMPTY]).all()
    assert np.nanmin(found.positions, 0) == pytest.approx(0, abs=1e-9)


def test_positions_instead_of_rows_and_columns(tiles: list[np.ndarray], truth: np.ndarray) -> None:
    found = stitch(tiles, truth + 1000)
    assert error(found, truth) < 0.15
    assert np.abs(found.positions - truth - 1000).max() < 1


def test_a_snake(tiles: list[np.ndarray], truth: np.ndarray) -> None:
    order = [0, 1, 2, 5, 4, 3, 6, 7, 8]
    found = stitch([tiles[number] for number in order], {"rows": 3, "columns": 3, "order": "snake"}, overlap=LAYOUT["overlap"])  # type: ignore[arg-type]
    again = np.empty_like(found.positions)
    again[order] = found.positions
    assert np.linalg.norm((again - truth)[[0, 8]] - (again - truth)[0], axis=1).max() < 0.3
    assert found.unconnected == (3,)


def test_the_order_of_tiles_changes_nothing(tiles: list[np.ndarray], mosaic: Mosaic) -> None:
    order = np.random.default_rng(0).permutation(9)
    found = stitch([tiles[number] for number in order], places()[0][order])
    same = [at for at, number in enumerate(order) if number != EMPTY]
    away = found.positions[same] - mosaic.positions[order[same]]
    assert np.abs(away - away.mean(0)).max() < 0.05
    assert [order[number] for number in found.unconnected] == [EMPTY]


def test_light_changes_nothing(tiles: list[np.ndarray], mosaic: Mosaic) -> None:
    """A constant and a factor of each tile's own."""
    brighter = [image.astype(np.float32) * (1 + number / 5) + 100 * number for number, image in enumerate(tiles)]
    away = stitch(brighter, **LAYOUT).positions - mosaic.positions
    assert np.abs(away).max() < 0.02


def test_pixel_lengths_scale_the_world(tiles: list[np.ndarray], mosaic: Mosaic) -> None:
    made = [
        Image(torch.as_tensor(image.astype(np.float32))[None, None], Grid.regular((SIDE, SIDE), (0.5, 0.25))) for image in tiles
    ]
    found = stitch(made, **LAYOUT)
    assert np.abs(found.positions - mosaic.positions * [0.25, 0.5]).max() < 0.01
    assert found.grid.spacing.tolist() == [0.25, 0.5]


def test_a_wrong_link_is_contradicted(truth: np.ndarray, tiles: list[np.ndarray]) -> None:
    """Two tiles share a mark that is no part of the scene: their overlap is found elsewhere, and does no harm."""
    marked = [image.copy() for image in tiles]
    mark = (40_000 * np.random.default_rng(9).random((SIDE, 9))).astype(np.uint16)
    marked[3][:, -11:-2], marked[4][:, 6:15] = mark, mark
    found = stitch(marked, **LAYOUT)
    assert [(link.first, link.second) for link in found.contradicted] == [(3, 4)]
    assert error(found, truth) < 0.3
    assert "overlap of 3 and 4: contradicted" in str(found)


def test_two_parts_are_placed_by_the_layout(tiles: list[np.ndarray], truth: np.ndarray) -> None:
    apart = [number for number in range(9) if number % 3 != 1]  # the middle column is missing
    given = [tiles[number] if number != EMPTY else tile(truth[EMPTY], scene(), 8) for number in apart]
    found = stitch(given, places()[0][apart])
    assert found.parts == ((0, 2, 4), (1, 3, 5))
    assert found.unconnected == (1, 3, 5)
    away = found.positions - truth[apart]
    assert np.abs(away[[0, 2, 4]] - away[0]).max() < 0.3
    assert np.abs(away[[1, 3, 5]] - away[1]).max() < 0.3
    assert np.abs(away).max() < 4
    alone = stitch(given)
    assert [transform is None for transform in alone.transforms] == [False, True, False, True, False, True]


def test_turned_tiles() -> None:
    image = scene()
    rows, columns = np.mgrid[:96, :96].astype(float)
    angle = np.deg2rad(1.5)
    x, y = columns * np.cos(angle) - rows * np.sin(angle) + 80, columns * np.sin(angle) + rows * np.cos(angle) + 10
    given = [image[10:106, 10:106], map_coordinates(image, [y, x], order=3)]
    found = stitch(given, [[0, 0], [70, 0]], transform="rigid")
    first, second = found.transforms
    assert first is not None
    assert second is not None
    points = torch.tensor([[5.0, 20], [20, 60], [10, 90]], dtype=torch.float64)  # of the second tile
    turn = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    there = first(second.inverse()(points))
    assert (there - (points @ turn + torch.tensor([70.0, 0]))).abs().max() < 0.25


def test_the_mosaic_is_the_scene(truth: np.ndarray) -> None:
    """Tiles cut at whole pixels: every pixel of the mosaic is that of the scene, however overlaps are fused."""
    image = (200 * scene()).astype(np.uint8)
    at = truth.round().astype(int)
    cut = [image[y + 8 : y + 8 + SIDE, x + 8 : x + 8 + SIDE] for x, y in at]
    found = stitch(cut, at)
    for how in ("blend", "nearest"):
        fused = found.fuse(cut, how, fill=255)
        assert fused.dtype == np.uint8
        grid = found.grid
        x, y = (grid.world_from_index[:2, 2].round().int() + 8).tolist()
        whole = image[y : y + grid.shape[0], x : x + grid.shape[1]].astype(int)
        covered = fused != 255
        assert covered.mean() > 0.9
        assert np.abs(fused.astype(int) - whole)[covered].mean() < 1


def test_blending_weights_and_the_nearest_tile() -> None:
    """Two constant tiles at known places: between their edges the value changes linearly, or at the middle."""
    first = np.full((20, 40), 10.0)
    texture = np.random.default_rng(1).random((20, 70))
    found = stitch([texture[:, :40], texture[:, 30:]], [[0, 0], [30, 0]])
    values = [first, first + 20]
    row = found.fuse(values)[10]
    assert row[[0, 29, 41, 69]].tolist() == [10, 10, 30, 30]
    assert (np.diff(row[29:41]) > 0).all()
    assert row[34] + row[35] == pytest.approx(40, abs=0.5)
    assert set(found.fuse(values, "nearest")[10].round(6)) == {10, 30}


def test_files_are_written_block_by_block(
    mosaic: Mosaic, tiles: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drmime.mosaic.writing.SIDE", 64)
    whole = mosaic.fuse(tiles)
    mosaic.write(tiles, tmp_path / "mosaic.tif")
    mosaic.write(tiles, tmp_path / "mosaic.npy")
    assert np.array_equal(tifffile.imread(tmp_path / "mosaic.tif"), whole)
    assert np.array_equal(np.load(tmp_path / "mosaic.npy"), whole)
    colours = [np.stack([image // 256, image // 300, image // 400], -1).astype(np.uint8) for image in tiles]
    mosaic.write(colours, tmp_path / "colours.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "colours.tif"), mosaic.fuse(colours))
    planes = [np.moveaxis(image, -1, 0) for image in colours]
    channels = stitch(planes, **LAYOUT, channel_axis=0)
    channels.write(planes, tmp_path / "planes.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "planes.tif"), channels.fuse(planes))
    assert mosaic.picture(tiles, tmp_path / "picture.png").shape == (*whole.shape, 3)
    assert imageio.imread(tmp_path / "picture.png").shape == (*whole.shape, 3)


def test_tables_and_transforms(mosaic: Mosaic, tmp_path: Path) -> None:
    mosaic.save(tmp_path)
    with (tmp_path / "positions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert np.allclose([[float(row["x"]), float(row["y"])] for row in rows], mosaic.positions, rtol=0, atol=1e-3)
    assert [row["part"] for row in rows] == ["" if number == EMPTY else "0" for number in range(9)]
    with (tmp_path / "pairs.csv").open() as file:
        for row, link in zip(csv.DictReader(file), mosaic.links, strict=True):
            apart = mosaic.positions[link.second] - mosaic.positions[link.first]
            assert np.abs(apart - [float(row["shift_x"]), float(row["shift_y"])]).max() < 0.3
    transform = read_transform(tmp_path / "transforms" / "0004.json")
    assert transform(torch.as_tensor(mosaic.positions[4:5])).abs().max() < 1e-9


def test_a_tile_that_cannot_be_read_is_passed_over(tiles: list[np.ndarray], truth: np.ndarray) -> None:
    found = stitch([*tiles[:8], "none.tif"], **LAYOUT)
    assert list(found.errors) == [8]
    assert error(found, truth, [0, 1, 2, 3, 4, 6, 7]) < 0.15
    assert "tile 8 none.tif: left out" in str(found)
    assert found.fuse([*tiles[:8], "none.tif"]).shape == found.grid.shape


def write_ome(path: Path, image: np.ndarray, at: np.ndarray, unit: str | None = "µm") -> None:
    plane: dict[str, Any] = {"PositionX": [at[0] * 0.5], "PositionY": [at[1] * 0.5]}
    if unit:
        plane |= {"PositionXUnit": [unit], "PositionYUnit": [unit]}
    lengths = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, image, ome=True, metadata={"axes": "YX", "Plane": plane, **lengths})


def test_positions_of_the_stage(tiles: list[np.ndarray], truth: np.ndarray, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.ome.tif" for number in range(9)]
    for path, image, at in zip(paths, tiles, places()[0], strict=True):
        write_ome(path, image, at)
    found = stitch(paths, "stage")
    assert error(found, truth / 2) < 0.08
    assert found.grid.unit == "µm"
    write_ome(tmp_path / "mm.ome.tif", tiles[0], np.array([2.0, 4]), "mm")
    assert stage_position(tmp_path / "mm.ome.tif").tolist() == [1000, 2000]
    write_ome(tmp_path / "frame.ome.tif", tiles[0], np.array([2.0, 4]), None)
    assert stage_position(tmp_path / "frame.ome.tif").tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda tiles: [], {}, "at least two"),
        (lambda tiles: tiles[:1], {}, "at least two"),
        (lambda tiles: tiles[0], {}, "at least two"),
        (lambda tiles: [tiles[0], "none.tif"], {}, "two that can be read, got 1: .*none.tif"),
        (lambda tiles: tiles, {"layout": (3, 4)}, "12 tiles, got 9"),
        (lambda tiles: tiles, {"layout": {"rows": 3}}, "rows and columns"),
        (lambda tiles: tiles, {"layout": {"rows": 3, "columns": 3, "order": "spiral"}}, "order"),
        (lambda tiles: tiles, {"layout": np.zeros((8, 2))}, r"shape \(8, 2\)"),
        (lambda tiles: tiles, {"layout": np.full((9, 2), np.nan)}, "finite positions"),
        (lambda tiles: tiles, {"layout": "stages"}, "stage"),
        (lambda tiles: tiles, {"layout": "stage"}, "OME-TIFF"),
        (lambda tiles: tiles, {"layout": 1000 * places()[0] + 1000 * np.arange(9)[:, None]}, "no two do"),
        (lambda tiles: tiles, {"layout": (3, 3), "overlap": 1.5}, "overlap"),
        (lambda tiles: tiles, {"layout": (3, 3), "margin": -1}, "margin"),
        (lambda tiles: tiles, {"transform": "projective"}, "transform"),
        (lambda tiles: [*tiles[:8], np.zeros((20, 20, 20), np.uint16)], {}, "one dimension"),
        (lambda tiles: [*tiles[:8], np.zeros((72, 72, 3), np.uint16)], {}, "number of channels"),
        (lambda tiles: [*tiles[:8], tiles[8].astype(float)], {}, "dtype"),
        (lambda tiles: tiles, {"channel": 2}, "two that can be read"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(
    change: Any, options: dict[str, Any], words: str, tiles: list[np.ndarray]
) -> None:
    with pytest.raises(InputError, match=words):
        stitch(change(tiles), **options)


def test_other_tiles_are_refused(mosaic: Mosaic, tiles: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="the 9 of the mosaic, got 2"):
        mosaic.fuse(tiles[:2])
    with pytest.raises(InputError, match="shape"):
        mosaic.fuse([image[:50] for image in tiles])
    with pytest.raises(InputError, match="how"):
        mosaic.fuse(tiles, "mean")
    nothing = stitch([np.random.default_rng(seed).random((32, 32)) for seed in (0, 1)])
    assert nothing.unconnected == (0, 1)
    assert "no pixels" in str(nothing)
    with pytest.raises(InputError, match="no tile has a place"):
        nothing.fuse([tiles[0], tiles[1]])


def test_tiles_with_pixels_that_are_not_finite(tiles: list[np.ndarray], truth: np.ndarray) -> None:
    holes = [image.astype(np.float32) for image in tiles]
    for image in holes:
        image[10:20, 40:50] = np.nan
    with pytest.raises(InputError, match="nan"):
        stitch(holes, **LAYOUT)
    found = stitch(holes, **LAYOUT, nan="mask")
    assert error(found, truth) < 0.2
    assert np.isfinite(found.fuse(holes)).all()


def test_another_channel_is_fused_at_the_same_places(tiles: list[np.ndarray], mosaic: Mosaic) -> None:
    both = [np.stack([np.zeros_like(image), image], -1) for image in tiles]
    found = stitch(both, **LAYOUT, channel=1, channel_axis=-1)
    assert np.abs(found.positions - mosaic.positions).max() < 1e-6
    assert np.array_equal(found.fuse(both)[..., 1], mosaic.fuse(tiles))


@pytest.mark.parametrize("public", [stitch, Mosaic.fuse, best_shifts])
def test_every_example_gives_what_it_says(public: Any) -> None:
    image = np.random.default_rng(0).random((64, 100))
    cut = [image[:, :60], image[:, 40:]]
    known = {"np": np, "stitch": stitch, "best_shifts": best_shifts, "tiles": cut, "mosaic": stitch(cut)}
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(public) or "", known, public.__name__, None, 0)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.slow
def test_the_command(tiles: list[np.ndarray], truth: np.ndarray, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.tif" for number in range(9)]
    for path, image in zip(paths, tiles, strict=True):
        tifffile.imwrite(path, image)
    table = "\n".join(["x,y", *(f"{x},{y}" for x, y in places()[0])])
    (tmp_path / "positions.csv").write_text(table)
    words = ["stitch", *paths, "--out", tmp_path / "out", "--grid", "3,3", "--overlap", str(LAYOUT["overlap"])]
    program = [sys.executable, "-m", "drmime", *map(str, words)]
    made = subprocess.run(program, capture_output=True, encoding="utf-8", timeout=120)
    assert made.returncode == 0, made.stderr
    assert "tile 5" in made.stdout
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert {"mosaic.tif", "mosaic.png", "positions.csv", "pairs.csv", "transforms/0008.json"} <= written
    assert tifffile.imread(tmp_path / "out" / "mosaic.tif").dtype == np.uint16
    with (tmp_path / "out" / "positions.csv").open() as file:
        found = np.array([[float(row["x"]), float(row["y"])] for row in csv.DictReader(file)])
    away = np.delete(found - truth, EMPTY, 0)
    assert np.abs(away - away.mean(0)).max() < 0.2


def test_masked_pixels_do_not_reach_the_mosaic(tiles: list[np.ndarray], mosaic: Mosaic) -> None:
    grid, given = Grid.regular((SIDE, SIDE)), []
    for number, tile in enumerate(tiles):
        data, mask = torch.as_tensor(tile / 65_535).float()[None, None], torch.ones(1, 1, SIDE, SIDE)
        if number == 4:
            data[..., 20:40, 20:40], mask[..., 20:40, 20:40] = 1e3, 0
        given.append(Image(data, grid, mask))
    for how in ("blend", "nearest"):
        assert mosaic.fuse(given, how=how).max() <= 1


def test_tiles_whose_axes_point_the_other_way(tiles: list[np.ndarray], truth: np.ndarray) -> None:
    matrix = np.diag([-1.0, -1.0, 1.0])
    grid = Grid((SIDE, SIDE), torch.as_tensor(matrix), placed=True)
    given = [Image(torch.as_tensor(tile / 65_535)[None, None].float(), grid) for tile in tiles]
    found = stitch(given, **LAYOUT)
    assert found.unconnected == (EMPTY,)
    kept = [number for number in range(len(tiles)) if number != EMPTY]
    off = -found.positions - truth
    assert np.abs(off[kept] - off[kept].mean(0)).max() < 0.3
    assert np.abs(off[EMPTY] - off[kept].mean(0)).max() < 6  # where it is expected
    link = found.links[0]
    apart = found.positions[link.second] - found.positions[link.first]
    assert np.abs(apart - link.shift).max() < 0.5
    again = stitch(given, -places()[0])
    assert again.unconnected == (EMPTY,)


@pytest.mark.parametrize("fill", [-1, 70_000, float("nan"), "x"])
def test_a_fill_that_the_dtype_cannot_hold_is_refused(fill: Any, tiles: list[np.ndarray], mosaic: Mosaic) -> None:
    with pytest.raises(InputError, match="fill"):
        mosaic.fuse(tiles, fill=fill)


def test_no_place_at_all_is_told(tmp_path: Path) -> None:
    found = stitch([np.full((40, 40), 0.5), np.full((40, 40), 0.5)])
    for use in (lambda: found.grid, lambda: found.fuse([np.zeros((40, 40))] * 2)):
        with pytest.raises(InputError, match="no tile has a place"):
            use()


def test_time_and_channels_of_tiles_are_written(tiles: list[np.ndarray], mosaic: Mosaic, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.ome.tif" for number in range(len(tiles))]
    for path, tile in zip(paths, tiles, strict=True):
        tifffile.imwrite(path, np.stack([[tile, tile // 2, tile // 3]] * 2), ome=True, metadata={"axes": "TCYX"})
    mosaic.write(paths, tmp_path / "mosaic.tif")
    with tifffile.TiffFile(tmp_path / "mosaic.tif") as file:
        assert file.series[0].shape == (2, 3, *mosaic.grid.shape)
        assert np.array_equal(file.series[0].asarray(), mosaic.fuse(paths))


def test_nothing_of_an_earlier_run_is_left(tiles: list[np.ndarray], mosaic: Mosaic, tmp_path: Path) -> None:
    mosaic.save(tmp_path)
    stitch(tiles[:2], np.array([[0.0, 0.0], [STEP, 0.0]])).save(tmp_path)
    assert sorted(file.name for file in (tmp_path / "transforms").iterdir()) == ["0000.json", "0001.json"]


@pytest.mark.parametrize("words", [["--order", "snake"], ["--overlap", "0.2"], ["--margin", "0.2"]])
def test_options_of_a_layout_need_one(words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:

    for name in ("a.png", "b.png"):
        imageio.imwrite(tmp_path / name, np.arange(1600, dtype=np.uint8).reshape(40, 40))
    assert main(["stitch", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--out", str(tmp_path / "out"), *words]) == 2
    assert words[0] in capsys.readouterr().err


# ---- runs that were ended


KILLED = """
import os, signal, sys
import numpy as np
from drmime import stitch
from drmime.mosaic import links

match, left = links.match, [int(sys.argv[3])]

def counted(*arguments):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return match(*arguments)

links.match = counted
layout = None if sys.argv[4] == "none" else (3, 3)
stitch(list(np.load(sys.argv[1])), layout, overlap=float(sys.argv[5]), folder=sys.argv[2])
"""


def same(one: Mosaic, other: Mosaic) -> bool:
    """To the last bit."""
    links = [
        (first.first, first.second, first.error, first.chance, first.weight, first.misfit, first.matrix.tolist())
        == (second.first, second.second, second.error, second.chance, second.weight, second.misfit, second.matrix.tolist())
        for first, second in zip(one.links, other.links, strict=True)
    ]
    return all(links) and np.array_equal(one.positions, other.positions, equal_nan=True)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pairs that are compared, in full or at low resolution, one entry each."""
    calls: list[Any] = []
    for name in ("match", "peaks"):
        made = getattr(mosaic_links, name)

        def counted(*arguments: Any, name: str = name, made: Any = made, **options: Any) -> Any:
            calls.append(name)
            return made(*arguments, **options)

        monkeypatch.setattr(mosaic_links, name, counted)
    return calls


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("layout", ["grid", "none"])
def test_a_killed_run_goes_on_with_the_same_result(
    tiles: list[np.ndarray], tmp_path: Path, compared: list[Any], layout: str
) -> None:
    np.save(tmp_path / "tiles.npy", np.stack(tiles))
    words = [tmp_path / "tiles.npy", tmp_path / "pairs", 5, layout, LAYOUT["overlap"]]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    options = LAYOUT if layout == "grid" else {}
    whole = stitch(tiles, **options)
    full, screened = compared.count("match"), compared.count("peaks")
    kept = {file.name: file.read_bytes() for file in (tmp_path / "pairs").iterdir()}
    nothing = sum(json.loads(text)["match"] is None for text in kept.values())
    assert len(kept) >= 5
    compared.clear()
    again = stitch(tiles, **options, folder=tmp_path / "pairs")
    assert same(again, whole)
    assert compared.count("match") == full - 5
    assert compared.count("peaks") == (0 if layout == "grid" else screened - len(kept))
    assert nothing >= len(kept) - 5
    assert all((tmp_path / "pairs" / name).read_bytes() == text for name, text in kept.items())
    compared.clear()
    assert same(stitch(tiles, **options, folder=tmp_path / "pairs"), whole)
    assert not compared


def test_other_tiles_and_options_are_compared_anew(tiles: list[np.ndarray], tmp_path: Path, compared: list[Any]) -> None:
    stitch(tiles, **LAYOUT, folder=tmp_path)
    count = len(compared)
    changed = [tile.copy() for tile in tiles]
    changed[8][0, 0] += 1
    for given, options, most in ((tiles, {"transform": "rigid"}, count), (tiles, {"margin": 0.12}, count), (changed, {}, 3)):
        compared.clear()
        stitch(given, **LAYOUT | options, folder=tmp_path)  # type: ignore[arg-type]
        assert 0 < len(compared) <= most
    compared.clear()
    stitch(tiles, **LAYOUT, folder=tmp_path)
    assert not compared


@pytest.mark.parametrize(
    "damage", ["", "{", '{"format": "drmime pair of tiles 1", "match": {}}', '{"format": "x", "match": null}']
)
def test_a_damaged_file_of_a_pair_is_replaced(tiles: list[np.ndarray], tmp_path: Path, damage: str) -> None:
    whole = stitch(tiles[:2], [[0, 0], [STEP, 0]], folder=tmp_path)
    (file,) = tmp_path.iterdir()
    text = file.read_text()
    for wrong in (damage, text.replace("[[", "[[1, "), text.replace('"error": ', '"error": null, "was": ')):
        file.write_text(wrong)
        assert same(stitch(tiles[:2], [[0, 0], [STEP, 0]], folder=tmp_path), whole)
        assert file.read_text() == text


def test_a_damaged_file_of_a_pair_that_does_not_overlap_is_replaced(tiles: list[np.ndarray], tmp_path: Path) -> None:
    whole = stitch(tiles[:3], folder=tmp_path)
    kept = {file: file.read_text() for file in tmp_path.iterdir()}
    for file in kept:
        file.write_text("")
    assert same(stitch(tiles[:3], folder=tmp_path), whole)
    assert kept == {file: file.read_text() for file in tmp_path.iterdir()}


def test_the_command_keeps_pairs(tiles: list[np.ndarray], tmp_path: Path, compared: list[Any]) -> None:
    paths = [str(tmp_path / f"{number}.tif") for number in range(2)]
    for path, image in zip(paths, tiles, strict=False):
        tifffile.imwrite(path, image)
    words = ["stitch", *paths, "--out", str(tmp_path / "out"), "--grid", "1,2", "--overlap", str(LAYOUT["overlap"])]
    assert main(words) == 0
    assert len(list((tmp_path / "out" / "pairs").iterdir())) == 1
    compared.clear()
    assert main(words) == 0
    assert not compared


def test_a_file_of_options(tiles: list[np.ndarray], truth: np.ndarray, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.tif") for number in range(4)]
    chosen = [0, 1, 3, 4]
    for path, number in zip(paths, chosen, strict=True):
        tifffile.imwrite(path, tiles[number])
    words = ["stitch", *paths, "--out", str(tmp_path / "out"), "--config", str(tmp_path / "stitch.yaml")]

    def positions(text: str, *more: str) -> np.ndarray:
        (tmp_path / "stitch.yaml").write_text(text)
        assert main([*words, *more]) == 0
        with (tmp_path / "out" / "positions.csv").open() as file:
            found = np.array([[float(row["x"]), float(row["y"])] for row in csv.DictReader(file)])
        return found - found.mean(0)

    overlap = LAYOUT["overlap"]
    wanted = truth[chosen] - truth[chosen].mean(0)
    snake = f"layout: {{rows: 2, columns: 2, order: row}}\noverlap: {overlap}\ntransform: translation\nmargin: 0.2\n"
    assert np.abs(positions(snake) - wanted).max() < 0.2
    assert np.abs(positions("layout: [2, 2]\noverlap: 0.9\n", "--overlap", str(overlap)) - wanted).max() < 0.2
    assert np.abs(positions(f"layout: {places()[0][chosen].tolist()}") - wanted).max() < 0.2
    assert np.abs(positions(f"layout: stage\noverlap: {overlap}\n", "--grid", "2,2") - wanted).max() < 0.2
    for wrong in ("grid: [2, 2]", "layout: [3, 3]", "layout: stages", "overlap: wide", "how: blend", "folder: out", "- 1"):
        (tmp_path / "stitch.yaml").write_text(wrong)
        assert main(words) == 2, wrong
    (tmp_path / "stitch.yaml").write_text("transform: translation")
    assert main([*words, "--overlap", "0.2"]) == 2  # without a layout
    assert main([*words, "--order", "row"]) == 2
