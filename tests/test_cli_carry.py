"""`drmime warp`, `points`, `convert` and landmarks of `register`, as users call them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from problems import oblique, pair, rotation, translation
from test_result import made

from drmime import Registration
from drmime.cli import main
from drmime.geometry.grid import Grid
from drmime.image.io import read_image, write_image
from drmime.points.files import read_landmarks


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A registration of images of shape (24, 33) that shifts x by 2 and y by 1, its moving image, and a folder for results."""
    made(translation(2.0, 1.0).numpy()).save(tmp_path / "t.json")
    for name, seed in (("a.png", 0), ("b.png", 1)):
        write_image(tmp_path / name, np.random.default_rng(seed).integers(0, 200, (24, 33)).astype(np.uint8))
    return tmp_path


def test_several_images_keep_their_names(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [str(saved / name) for name in ("a.png", "b.png")]
    assert main(["warp", str(saved / "t.json"), *images, "--out", str(saved / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote {saved / 'out' / name}" for name in ("a.png", "b.png")]
    for name in ("a.png", "b.png"):
        assert np.array_equal(iio.imread(saved / "out" / name)[:-1, :-2], iio.imread(saved / name)[1:, 2:])


def test_one_bad_image_does_not_keep_the_others_from_it(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (saved / "bad.png").write_text("no image")
    images = [str(saved / name) for name in ("bad.png", "a.png", "nowhere.png", "b.png")]
    assert main(["warp", str(saved / "t.json"), *images, "--out", str(saved / "out")]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert [line.partition(": ")[0] for line in err.splitlines()] == ["drmime"] * 2
    assert "bad.png" in err
    assert "nowhere.png" in err
    assert sorted(path.name for path in (saved / "out").iterdir()) == ["a.png", "b.png"]


def test_nothing_is_written_over_what_is_read(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (saved / "a.png").read_bytes()
    other = saved / "deep" / "a.png"
    write_image(other, np.zeros((24, 33), np.uint8))
    for words in (
        ["a.png", "--out", "a.png"],
        ["a.png", "--out", "."],
        ["a.png", "b.png", "--out", "."],
        ["a.png", "deep/a.png", "--out", "out"],
        ["a.png", "b.png", "--out", "t.json"],
        ["a.png", "--grid", "b.png", "--out", "b.png"],
        ["a.png", "--out", "t.json"],
    ):
        full = [word if word.startswith("--") else str(saved / word) for word in words]
        assert main(["warp", str(saved / "t.json"), *full]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert (saved / "a.png").read_bytes() == before
    assert not (saved / "out").exists()


def test_grids_and_interpolations_of_the_command_line(saved: Path) -> None:
    result = Registration.load(saved / "t.json")
    options = {"grid": "union", "spacing": [0.5, 0.5], "interpolation": "lanczos", "fill": 7}
    words = ["--grid", "union", "--spacing", "0.5,0.5", "--interpolation", "lanczos", "--fill", "7"]
    out = saved / "out.png"
    assert main(["warp", str(saved / "t.json"), str(saved / "a.png"), "--out", str(out), *words]) == 0
    assert np.array_equal(iio.imread(out), result.warp(saved / "a.png", **options))
    labels = ["--labels", "--interpolation", "majority", "--grid", str(saved / "b.png"), "--inverse"]
    assert main(["warp", str(saved / "t.json"), str(saved / "a.png"), "--out", str(out), *labels]) == 0
    back = result.inverse().warp_labels(saved / "a.png", interpolation="majority")
    assert np.array_equal(iio.imread(out), back)
    large = np.kron(iio.imread(saved / "a.png"), np.ones((3, 3), np.uint8))
    write_image(saved / "large.png", large)
    words = ["--same-extent", "--spacing", "0.333333333", "--no-antialias"]
    assert main(["warp", str(saved / "t.json"), str(saved / "large.png"), "--out", str(out), *words]) == 0
    assert np.array_equal(iio.imread(out)[:-3, :-6], large[3:, 6:])


def test_a_chain_of_registrations(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(translation(-2.0, 3.0).numpy()).save(saved / "u.json")
    words = [str(saved / "t.json"), "--then", str(saved / "u.json"), "--out", str(saved / "out.png")]
    assert main(["warp", *words[:1], str(saved / "a.png"), *words[1:]]) == 0
    assert np.array_equal(iio.imread(saved / "out.png")[:-4], iio.imread(saved / "a.png")[4:])
    (saved / "p.csv").write_text("x,y\n5,9\n")
    words[-1] = str(saved / "q.csv")
    assert main(["points", *words[:1], str(saved / "p.csv"), *words[1:]]) == 0
    assert read_landmarks(saved / "q.csv").tolist() == [[5, 5]]
    made(np.eye(3), Grid.regular((9, 9))).save(saved / "v.json")
    words[2] = str(saved / "v.json")
    capsys.readouterr()
    assert main(["points", *words[:1], str(saved / "p.csv"), *words[1:]]) == 2
    assert "compose" in capsys.readouterr().err


def test_the_transform_of_another_program_warps(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (saved / "m.csv").write_text("1,0,2\n0,1,1\n0,0,1\n")
    words = ["warp", str(saved / "m.csv"), str(saved / "a.png"), "--out", str(saved / "out.png")]
    assert main(words) == 2
    assert "--fixed" in capsys.readouterr().err
    assert main([*words, "--fixed", str(saved / "b.png")]) == 0
    assert np.array_equal(iio.imread(saved / "out.png"), Registration.load(saved / "t.json").warp(saved / "a.png"))
    words = ["--fixed", str(saved / "b.png"), "--moving", str(saved / "a.png"), "--to", "moving", "--out", str(saved / "q.csv")]
    (saved / "p.csv").write_text("x,y\n5,9\n")
    assert main(["points", str(saved / "m.csv"), str(saved / "p.csv"), *words]) == 0
    assert read_landmarks(saved / "q.csv").tolist() == [[7, 10]]


def test_the_inverse_of_another_program_s_transform(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (saved / "m.csv").write_text("1,0,2\n0,1,1\n0,0,1\n")
    write_image(saved / "wide.png", np.zeros((30, 40), np.uint8))
    words = ["warp", str(saved / "m.csv"), str(saved / "a.png"), "--out", str(saved / "out.png"), "--inverse"]
    assert main(words) == 2
    assert "--moving" in capsys.readouterr().err
    assert main([*words, "--moving", str(saved / "wide.png")]) == 0  # a.png is of the fixed side
    found = iio.imread(saved / "out.png")
    assert found.shape == (30, 40)
    assert np.array_equal(found[1:25, 2:35], iio.imread(saved / "a.png"))
    assert main(["warp", str(saved / "t.json"), str(saved / "a.png"), "--fixed", str(saved / "b.png"), *words[3:]]) == 2
    assert "leave out --fixed" in capsys.readouterr().err


def test_a_registration_may_have_any_name(saved: Path) -> None:
    (saved / "t.json").rename(saved / "t.reg")
    assert main(["warp", str(saved / "t.reg"), str(saved / "a.png"), "--out", str(saved / "out.png")]) == 0
    assert main(["info", str(saved / "t.reg")]) == 0


def test_points_are_carried_by_name_and_shape(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (saved / "a.csv").write_text("x,y\n5,9\n")
    (saved / "b.geojson").write_text(json.dumps({"type": "Point", "coordinates": [5.5, 9.5]}))
    files = [str(saved / name) for name in ("a.csv", "b.geojson")]
    assert main(["points", str(saved / "t.json"), *files, "--out", str(saved / "out")]) == 0
    assert read_landmarks(saved / "out" / "a.csv").tolist() == [[3, 8]]
    assert read_landmarks(saved / "out" / "b.geojson").tolist() == [[3, 8]]
    words = ["--moving-shape", "48,66", "--out", str(saved / "c.csv")]
    assert main(["points", str(saved / "t.json"), files[0], *words]) == 0
    assert read_landmarks(saved / "c.csv").tolist() == [[(5 + 0.5) / 2 - 0.5 - 2, (9 + 0.5) / 2 - 0.5 - 1]]
    capsys.readouterr()
    for bad in (["--to", "here"], ["--format", "csv"], ["--moving-shape", "48"], ["--fixed-shape", "a,b"]):
        try:
            status = main(["points", str(saved / "t.json"), files[0], "--out", str(saved / "d.csv"), *bad])
        except SystemExit as stop:
            status = stop.code
        assert status == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (saved / "d.csv").exists()


QUICK = ["--start", "none", "--set", "metric=mse", "--set", "schedule.steps=2", "--device", "cpu"]


def test_landmarks_are_scored_and_start(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(saved / "a.png")
    (saved / "f.csv").write_text("x,y\n5,9\n20,4\n12,17\n")
    (saved / "m.csv").write_text("x,y\n8,13\n23,8\n15,21\n")  # 3 and 4 further
    words = ["register", image, image, "--out", str(saved / "out"), "--landmarks", str(saved / "f.csv"), str(saved / "m.csv")]
    assert main([*words, *QUICK]) in (0, 1)
    out = capsys.readouterr().out
    assert "3 landmarks: median error 5" in out
    rows = (saved / "out" / "landmarks.csv").read_text().splitlines()
    assert rows[0] == "fixed_x,fixed_y,moving_x,moving_y,error"
    assert len(rows) == 4
    assert rows[1].startswith("5,9,8,13,")
    with_start = [*words, *QUICK[2:], "--start", "landmarks", "--transform", "translation"]
    assert main(with_start) in (0, 1)
    assert Registration.load(saved / "out" / "transform.json").settings["start"]["propose"]["name"] == "landmarks"
    capsys.readouterr()
    assert main(["register", image, image, "--out", str(saved / "o"), "--start", "landmarks"]) == 2
    assert "--landmarks FIXED MOVING" in capsys.readouterr().err
    assert main([*words, *QUICK, "--landmark-weight", "0.5"]) in (0, 1)
    assert Registration.load(saved / "out" / "transform.json").settings["landmarks"]["weight"] == 0.5
    assert main(["register", image, image, "--out", str(saved / "o"), "--landmark-weight", "1"]) == 2
    assert "--landmarks FIXED MOVING" in capsys.readouterr().err
    assert main(["register", image, image, "--out", str(saved / "o"), "--affine-mask", image]) == 2
    assert "expected a deformation as transform" in capsys.readouterr().err
    (saved / "m.csv").write_text("x,y\n")
    assert main([*words, *QUICK]) == 2
    assert "at least one point" in capsys.readouterr().err


@pytest.mark.slow
def test_an_oblique_pair_of_nifti_from_the_command_line_alone(tmp_path: Path) -> None:
    """Directions, origins and voxel sizes differ; places are those of SimpleITK."""
    sitk = pytest.importorskip("SimpleITK")
    pytest.importorskip("nibabel", reason="writes NIfTI")
    fixed_grid = oblique((40, 44, 48), (2.0, 1.2, 1.4), offset=70.0)
    turned = rotation(3, -0.5) @ rotation(3, 0.2, (1, 2))
    moving_grid = Grid(
        (46, 40, 42), translation(-30.0, 15.0, 40.0) @ turned @ Grid.regular((46, 40, 42), (1.5, 2.1, 1.3)).world_from_index
    )
    centred = (
        translation(*(moving_grid.centre + torch.tensor([3.0, -2.0, 4.0])))
        @ rotation(3, 0.15)
        @ translation(*-fixed_grid.centre)
    )
    fixed, moving = pair(centred, fixed_grid, moving_grid)
    for name, image in (("fixed", fixed), ("moving", moving)):
        write_image(tmp_path / f"{name}.nii.gz", image.data[0, 0].numpy().astype(np.float32), image.grid)
    program = [sys.executable, "-m", "drmime"]
    run = {"cwd": tmp_path, "capture_output": True, "text": True, "env": os.environ}
    options = ["--transform", "rigid", "--metric", "mse", "--set", "schedule.steps=300", "--set", "schedule.rate=0.003"]
    done = subprocess.run([*program, "register", "fixed.nii.gz", "moving.nii.gz", "--out", "out", *options], **run)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*program, "convert", "out/transform.json", "itk.tfm"], **run)
    assert done.returncode == 0, done.stderr
    there = sitk.ReadTransform(str(tmp_path / "itk.tfm"))
    frame, warped = (sitk.ReadImage(str(tmp_path / name)) for name in ("fixed.nii.gz", "out/warped.nii.gz"))
    assert warped.GetSize() == frame.GetSize()
    for place in ((0, 0, 0), (47, 43, 39), (20, 30, 10)):
        point = np.array(frame.TransformIndexToPhysicalPoint(place))
        assert np.array(warped.TransformIndexToPhysicalPoint(place)) == pytest.approx(point, abs=1e-4)
        expected = centred.numpy() @ [*point, 1.0]
        away = np.linalg.norm(np.array(there.TransformPoint(point.tolist())) - expected[:3])
        assert away < 0.1 * min(frame.GetSpacing())
    values, content = sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(frame)
    inner = values > 0
    assert inner.mean() > 0.3
    assert np.corrcoef(values[inner], content[inner])[0, 1] > 0.99
    assert torch.allclose(
        read_image(tmp_path / "out" / "warped.nii.gz").grid.world_from_index, fixed_grid.world_from_index, atol=1e-4
    )
