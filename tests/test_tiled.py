"""Tile by tile, the same pixels as at once; a killed run goes on and writes the same bytes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from problems import rotation, translation
from slides import halves, write_slide
from test_result import made

from drmime import InputError, Registration
from drmime.commands.carry import GriddedTransform
from drmime.geometry.grid import Grid
from drmime.image.io import open_source, read_image, write_image
from drmime.tiled import job, run
from drmime.tiled.draft import Draft
from drmime.transform.grids import grid_of
from drmime.transform.lattice import Lattice
from drmime.transform.lattice_transform import VelocityTransform
from drmime.transform.linear import MatrixTransform

pytest.importorskip("zarr", reason="tiles need zarr: pip install 'drmime[slides]'")

SHAPE = (230, 301)
SIDE = 64


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(job.SIDES, 2, SIDE)
    monkeypatch.setitem(job.SIDES, 3, 16)


@pytest.fixture
def slide(rng: np.random.Generator, tmp_path: Path) -> Path:
    coarse = rng.integers(0, 256, (SHAPE[0] // 8 + 1, SHAPE[1] // 8 + 1, 3)).astype(np.uint8)
    colour = np.kron(coarse, np.ones((8, 8, 1), np.uint8))[: SHAPE[0], : SHAPE[1]]
    write_slide(tmp_path / "slide.ome.tif", halves(colour, 3))
    return tmp_path / "slide.ome.tif"


def turned(grid: Grid) -> GriddedTransform:
    """A rotation about the centre of a grid and a shift."""
    centre = translation(*grid.centre.tolist())
    matrix = translation(3.3, -2.1) @ centre @ rotation(2, 0.3) @ torch.linalg.inv(centre)
    return GriddedTransform(MatrixTransform(matrix), grid, grid)


def bent(grid: Grid) -> GriddedTransform:
    lattice = Lattice.over(grid, 0.4)
    velocities = 0.02 * torch.randn(2, *lattice.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return GriddedTransform(VelocityTransform(velocities, lattice, grid.world_from_frame), grid, grid)


def in_order(path: Path) -> np.ndarray:
    """The pixels of a result, channels last."""
    found = read_image(path)
    return np.moveaxis(found.array, 0, -1) if found.names == "CYX" else found.array


@pytest.mark.parametrize("ending", [".zarr", ".tif"])
@pytest.mark.parametrize("options", [{}, {"interpolation": "nearest"}, {"fill": 7, "grid": "union"}])
def test_tiles_are_those_of_the_whole(options: dict[str, Any], ending: str, slide: Path) -> None:
    result = turned(grid_of(slide))
    path = slide.with_name(f"out{ending}")
    result.warp_tiles(slide, path, workers=2, **options)
    assert np.array_equal(in_order(path), result.warp(slide, **options))
    assert read_image(path).grid.spacing.tolist() == result.fixed_grid.spacing.tolist()  # type: ignore[union-attr]
    assert sorted(file.name for file in slide.parent.iterdir()) == sorted([slide.name, path.name])


def test_a_deformation(slide: Path) -> None:
    result, path = bent(grid_of(slide)), slide.with_name("out.zarr")
    result.warp_tiles(slide, path)
    off = np.abs(in_order(path).astype(int) - result.warp(slide))
    assert off.max() <= 2  # places differ by some thousandths of a pixel


def test_levels_of_the_result_are_means(slide: Path) -> None:
    path = slide.with_name("out.zarr")
    turned(grid_of(slide)).warp_tiles(slide, path)
    source = open_source(path)
    assert source is not None
    whole = [source.planes(level, (0, 0), grid.shape).astype(float) for level, grid in enumerate(source.grids())]
    assert [one.shape[1:] for one in whole] == [(230, 301), (115, 151), (58, 76), (29, 38)]
    wanted = whole[0][:, :, :300].reshape(3, 115, 2, 150, 2).mean((2, 4))
    assert np.abs(whole[1][:, :, :150] - wanted).max() <= 0.5
    assert np.abs(whole[1][:, :, 150] - whole[0][:, :, 300].reshape(3, 115, 2).mean(2)).max() <= 0.5  # the odd column


def test_a_coarser_result_reads_a_coarser_level(slide: Path) -> None:
    result, path = turned(grid_of(slide)), slide.with_name("out.zarr")
    result.warp_tiles(slide, path, spacing=2.0)  # four times as coarse as the slide
    whole = result.warp(slide, spacing=2.0)
    assert in_order(path).shape == whole.shape
    assert np.abs(in_order(path).astype(float) - whole)[2:-2, 2:-2].mean() < 3  # other filters, the same places


@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_a_coarser_level_does_not_lose_the_edge(spacing: float, tmp_path: Path, rng: np.random.Generator) -> None:
    colour = rng.integers(100, 256, (131, 203, 3)).astype(np.uint8)  # levels leave out a last row and column
    write_slide(tmp_path / "slide.tif", halves(colour, 3))
    grid = grid_of(tmp_path / "slide.tif")
    result = GriddedTransform(MatrixTransform(torch.eye(3, dtype=torch.float64)), grid, grid)
    result.warp_tiles(tmp_path / "slide.tif", tmp_path / "out.zarr", spacing=spacing)
    assert in_order(tmp_path / "out.zarr").min() >= 100


def test_other_values_are_another_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    one, other = (rng.random((150, 150)).astype(np.float32) for _ in range(2))
    result = turned(Grid.regular((150, 150)))
    make, done = Draft.make, []

    def interrupted(draft: Draft, level: int, number: int) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(number)
        make(draft, level, number)

    for first, second in ((one, other), (tmp_path / "in.zarr", tmp_path / "in.zarr")):
        done.clear()
        if first is not one:
            GriddedTransform(MatrixTransform(torch.eye(3).double()), *[Grid.regular(one.shape)] * 2).warp_tiles(one, first)
            result = turned(grid_of(first))
        with monkeypatch.context() as patched:
            patched.setattr(Draft, "make", interrupted)
            with pytest.raises(KeyboardInterrupt):
                result.warp_tiles(first, tmp_path / "out.zarr", workers=1)
        if first is not one:  # the same path with other values
            GriddedTransform(MatrixTransform(torch.eye(3).double()), *[Grid.regular(one.shape)] * 2).warp_tiles(other, first)
        result.warp_tiles(second, tmp_path / "out.zarr", workers=1)
        assert np.array_equal(read_image(tmp_path / "out.zarr").array, result.warp(other))


def test_a_result_of_unplaced_images_is_not_placed(slide: Path) -> None:
    turned(grid_of(slide)).warp_tiles(slide, slide.with_name("out.zarr"))
    assert not grid_of(slide.with_name("out.zarr")).placed


def test_pixels_without_a_length_get_none(rng: np.random.Generator, tmp_path: Path) -> None:
    image = rng.integers(0, 256, (90, 80)).astype(np.uint8)
    turned(Grid.regular(image.shape)).warp_tiles(image, tmp_path / "out.tif")
    assert grid_of(tmp_path / "out.tif").unit == ""


def test_a_turned_grid_is_refused_by_zarr(slide: Path) -> None:
    grid = grid_of(slide)
    oblique = Grid(grid.shape, rotation(2, 0.2) @ grid.world_from_index, unit=grid.unit)
    with pytest.raises(InputError, match="states no rotation"):
        turned(grid).warp_tiles(slide, slide.with_name("out.zarr"), grid=oblique)


def test_the_source_is_never_replaced(slide: Path, tmp_path: Path) -> None:
    result, plate = turned(grid_of(slide)), tmp_path / "plate.zarr"
    result.warp_tiles(slide, tmp_path / "image.zarr")
    plate.mkdir()
    (tmp_path / "image.zarr").rename(plate / "image.zarr")
    (plate / ".zattrs").write_text("{}")
    before = digest(plate)
    for target in (plate, plate / "image.zarr", plate / "image.zarr" / "inner.zarr"):
        with pytest.raises(InputError, match="would be lost"):
            result.warp_tiles(plate / "image.zarr", target)
    with pytest.raises(InputError, match="something else"):  # it holds more than one image
        result.warp_tiles(slide, plate)
    assert digest(plate) == before


def test_time_and_channels_stay_apart(rng: np.random.Generator, tmp_path: Path) -> None:
    series = rng.integers(0, 200, (2, 3, 70, 80)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "series.ome.tif", series, ome=True, metadata={"axes": "TCYX"})
    grid = Grid.regular((70, 80))
    turned(grid).warp_tiles(tmp_path / "series.ome.tif", tmp_path / "out.zarr")
    source = open_source(tmp_path / "out.zarr")
    assert source is not None
    assert (source.axes, source.arrays[0].shape) == ("TCYX", (2, 3, 70, 80))
    assert np.array_equal(source.pixels().array, turned(grid).warp(tmp_path / "series.ome.tif"))


def test_labels_are_never_blended(rng: np.random.Generator, tmp_path: Path) -> None:
    labels = rng.choice([0, 3, 200], (90, 120)).astype(np.uint16)
    grid = Grid.regular(labels.shape)
    turned(grid).warp_tiles(labels, tmp_path / "labels.zarr", labels=True)
    source = open_source(tmp_path / "labels.zarr")
    assert source is not None
    assert np.array_equal(source.planes(0, (0, 0), (90, 120))[0], turned(grid).warp_labels(labels))
    assert set(np.unique(source.planes(1, (0, 0), (45, 60)))) <= {0, 3, 200}


def test_volumes_and_channels(rng: np.random.Generator, tmp_path: Path) -> None:
    volume = rng.random((2, 20, 30, 25)).astype(np.float32)
    grid = Grid.regular((20, 30, 25), (2.0, 1.0, 1.0))
    result = GriddedTransform(MatrixTransform(translation(1.5, -2.0, 3.0)), grid, grid)
    result.warp_tiles(volume, tmp_path / "out.zarr", channel_axis=0)
    assert np.array_equal(read_image(tmp_path / "out.zarr").array, result.warp(volume, channel_axis=0))


def test_what_is_done_is_not_done_again(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, path = turned(grid_of(slide)), slide.with_name("out.zarr")
    result.warp_tiles(slide, path)
    whole = digest(path)
    make, done = Draft.make, []

    def interrupted(draft: Draft, level: int, number: int) -> None:
        if len(done) == 9:
            raise KeyboardInterrupt
        done.append((level, number))
        make(draft, level, number)

    monkeypatch.setattr(Draft, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        result.warp_tiles(slide, path, workers=1)
    assert digest(path) == whole  # the one of before is still there
    monkeypatch.setattr(Draft, "make", lambda draft, level, number: done.append((level, number)) or make(draft, level, number))
    result.warp_tiles(slide, path, workers=1)
    assert len(done) == len(set(done)) == 20 + 6 + 2 + 1
    assert digest(path) == whole


def test_another_job_begins_anew(slide: Path) -> None:
    path = slide.with_name("out.zarr")
    first = job.Job(turned(grid_of(slide)).transform, grid_of(slide), job.source_of(slide), grid_of(slide), "linear", 0, True)
    draft = Draft(path, first)
    with draft.begun():
        draft.make(0, 0)
        assert 0 not in draft.missing(0)
        with pytest.raises(InputError, match="another run"), Draft(path, first).begun():
            pass
    with Draft(path, first).begun():
        assert 0 not in draft.missing(0)
    other = Draft(path, job.Job(first.transform, first.target, first.source, first.place, "nearest", 0, True))
    with other.begun():
        assert 0 in other.missing(0)


def digest(path: Path) -> str:
    """Of the contents of a file, or of all files of a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    names = [f"{file.relative_to(path)}: {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    return "\n".join(names)


PROGRAM = """
import sys, time
from drmime.cli import main
from drmime.tiled import draft, job
job.SIDES[2] = 64
make = draft.Draft.make
def slow(self, level, number):
    make(self, level, number)
    time.sleep(float(sys.argv[1]))
draft.Draft.make = slow
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9")
@pytest.mark.parametrize("ending", [".zarr", ".tif"])
def test_after_kill_9_the_same_command_writes_the_same_bytes(ending: str, slide: Path, tmp_path: Path) -> None:
    saved = made(translation(2.3, 1.4).numpy(), Grid.regular(SHAPE))
    saved.save(tmp_path / "t.json")
    words = ["warp", str(tmp_path / "t.json"), str(slide), "--tiles", "--same-extent", "--workers", "1", "--out"]
    whole, path = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    assert subprocess.run([sys.executable, "-c", PROGRAM, "0", *words, str(whole)], timeout=120).returncode == 0
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, "0.1", *words, str(path)])
    done = tmp_path / f"out{ending}.part" / "done" / "0"
    for _ in range(600):
        if done.is_dir() and len([*done.iterdir()]) > 3:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len([*done.iterdir()])
    assert 3 < kept < 20
    assert not path.exists()
    assert subprocess.run([sys.executable, "-c", PROGRAM, "0", *words, str(path)], timeout=120).returncode == 0
    assert not done.exists()
    if ending == ".tif":
        assert digest(path).split(": ")[1] == digest(whole).split(": ")[1]
    else:
        assert digest(path).replace("out", "") == digest(whole).replace("whole", "")


def test_workers_of_a_scheduler(slide: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="schedulers need Dask")
    result, path = turned(grid_of(slide)), slide.with_name("out.zarr")
    result.warp_tiles(slide, path)
    whole = digest(path)
    with distributed.LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        result.warp_tiles(slide, slide.with_name("out.zarr"), scheduler=cluster.scheduler_address)
    assert digest(path) == whole


@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        ("out.png", {}, "ends with .zarr"),
        ("out.zarr", {"interpolation": "cubic"}, "tile by tile"),
        ("out.zarr", {"interpolation": "none"}, "interpolation"),
        ("out.zarr", {"fill": 300}, "fill"),
        ("out.zarr", {"memory": 0}, "memory"),
        ("out.zarr", {"workers": -1}, "workers"),
        ("out.zarr", {"workers": 0}, "workers"),
        ("out.zarr", {"channel_axis": 2}, "channel_axis"),
        ("out.zarr", {"scheduler": "tcp://127.0.0.1:1"}, "scheduler"),
        ("folder.zarr", {}, "something else"),
        ("file/out.zarr", {}, "cannot write"),
    ],
)
def test_what_cannot_be_used_is_told_and_leaves_nothing(
    path: str, options: dict[str, Any], words: str, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drmime.cluster.CONNECT", 1)
    (slide.parent / "folder.zarr").mkdir()
    (slide.parent / "folder.zarr" / "kept.txt").write_text("mine")
    (slide.parent / "file").write_text("")
    with pytest.raises(InputError, match=words):
        turned(grid_of(slide)).warp_tiles(slide, slide.parent / path, **options)
    assert (slide.parent / "folder.zarr" / "kept.txt").read_text() == "mine"
    assert not (slide.parent / "out.zarr").exists()


def test_little_memory_is_one_tile_at_a_time(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    threads = run._threads
    monkeypatch.setattr(run, "_threads", lambda count: counts.append(count) or threads(count))
    result = turned(grid_of(slide))
    result.warp_tiles(slide, slide.with_name("a.zarr"), workers=4, memory=1e-6)
    result.warp_tiles(slide, slide.with_name("b.zarr"), workers=4, memory=1)
    assert counts == [1, 4]
    assert digest(slide.with_name("a.zarr")) == digest(slide.with_name("b.zarr")).replace("b.zarr", "a.zarr")


def test_a_damaged_source_is_told_and_what_is_done_is_kept(slide: Path, tmp_path: Path) -> None:
    turned(grid_of(slide)).warp_tiles(slide, tmp_path / "source.zarr")
    chunk = sorted(file for file in (tmp_path / "source.zarr" / "0").rglob("*") if file.is_file() and file.name.isdigit())[-1]
    chunk.write_bytes(chunk.read_bytes()[:10])
    result = turned(grid_of(slide))
    with pytest.raises(InputError, match="level 0 is truncated or damaged"):
        result.warp_tiles(tmp_path / "source.zarr", tmp_path / "out.zarr", workers=1)
    assert not (tmp_path / "out.zarr").exists()
    assert (tmp_path / "out.zarr.part").exists()


@pytest.mark.slow
def test_the_command(slide: Path, tmp_path: Path) -> None:
    made(translation(2.0, 1.0).numpy(), Grid.regular(SHAPE)).save(tmp_path / "t.json")
    words = [sys.executable, "-m", "drmime", "warp", str(tmp_path / "t.json"), str(slide), "--same-extent", "--out"]
    done = subprocess.run([*words, str(tmp_path / "o.tif"), "--tiles"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, f"wrote {tmp_path / 'o.tif'}")
    wanted = Registration.load(tmp_path / "t.json").warp(slide, same_extent=True)
    assert np.array_equal(read_image(tmp_path / "o.tif").array, wanted)
    for _ in range(2):  # the second replaces the first
        again = subprocess.run([*words, str(tmp_path / "o.zarr"), "--tiles"], capture_output=True, text=True, timeout=120)
        assert (again.returncode, again.stdout.strip()) == (0, f"wrote {tmp_path / 'o.zarr'}")
    assert not (tmp_path / "o.zarr" / slide.name).exists()
    refused = subprocess.run([*words, str(tmp_path / "p.tif"), "--memory", "1"], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2
    assert "--memory: expected --tiles" in refused.stderr


def test_state_of_a_job_is_json(slide: Path) -> None:
    grid = grid_of(slide)
    one = job.Job(turned(grid).transform, grid, job.source_of(slide), grid, "linear", 0, True)
    file = slide.with_name("job.json")
    file.write_text(json.dumps(one.state()))
    again = job.Job.load(file)
    assert np.array_equal(again.tile((10, 20), (30, 40)), one.tile((10, 20), (30, 40)))
    write_image(slide.with_name("other.png"), np.zeros((9, 9), np.uint8))
    slide.write_bytes(slide.read_bytes() + b" ")
    with pytest.raises(InputError, match="as it was"):
        job.Job.load(file)
