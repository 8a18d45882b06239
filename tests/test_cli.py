"""The command line as a user meets it: files in, files out, an exit status, and one line for a mistake."""

import argparse
import csv
import functools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import tiny

from drmime import InputError, Registration, Status, __version__, register
from drmime.arguments.values import axes
from drmime.cli import main
from drmime.geometry.grid import Grid
from drmime.image.io import read_image, write_image

QUICK = (
    *("--schedule", "{rate: 0.005, steps: 40}", "--device", "cpu", "--metric", "mattes", "--levels", "2"),
    *("--start", "none"),
)
PROGRAM = (sys.executable, "-c", "import sys; from drmime.cli import main; sys.exit(main())")


def drmime(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, words)], capture_output=True, encoding="utf-8", timeout=300)


def blobs(shift: float = 0.0) -> np.ndarray:
    y, x = np.indices((64, 64)) - shift
    image = np.zeros((64, 64))
    for cy, cx in np.random.default_rng(3).random((8, 2)) * 64:
        image += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 50)
    return np.rint(image / 3 * 255).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pair, a label map, a mask, and files that are no images."""
    folder = tmp_path_factory.mktemp("images")
    iio.imwrite(folder / "fixed.png", blobs())
    iio.imwrite(folder / "moving.png", 255 - blobs(2))
    iio.imwrite(folder / "labels.png", (blobs(2) > 60).astype(np.uint8) * 7)
    iio.imwrite(folder / "mask.png", np.full((64, 64), 255, np.uint8))
    iio.imwrite(folder / "moving.tif", (255 - blobs(2)).astype(np.float32))
    (folder / "notes.png").write_text("not an image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "truncated.png").write_bytes((folder / "fixed.png").read_bytes()[:200])
    (folder / "far.txt").write_text("1 0 1000\n0 1 0\n0 0 1\n")
    (folder / "broken.txt").write_text("1 0\n0 1 0\n")
    (folder / "good.yaml").write_text("schedule: {steps: 30}\nmetric: {name: mattes, bins: 24}\nlevels: 1\n")
    (folder / "typo.yaml").write_text("shedule: {steps: 30}\n")
    (folder / "list.yaml").write_text("- 1\n")
    (folder / "broken.yaml").write_text("a: [1\n")
    return folder


@pytest.fixture(scope="module")
def registered(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("registered") / "new" / "folder"
    return out, drmime("register", images / "fixed.png", images / "moving.png", "--out", out, *QUICK)


def test_register_writes_its_results(registered: tuple[Path, subprocess.CompletedProcess[str]], images: Path) -> None:
    out, done = registered
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["history.csv", "overlay.png", "transform.json", "warped.png"]
    result = Registration.load(out / "transform.json")
    assert np.abs(result.matrix[:2, 2] - 2).max() < 1
    assert np.array_equal(iio.imread(out / "warped.png"), result.warp(images / "moving.png"))
    assert iio.imread(out / "overlay.png").shape == (200, 132, 3)


def test_register_writes_the_history(registered: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = registered
    result = Registration.load(out / "transform.json")
    with (out / "history.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["step", "level0", "level1", "total"]
    assert [int(row[0]) for row in rows] == list(range(len(result.history)))
    values = np.array(rows, dtype=float)
    assert np.allclose(values[:, 1:3], result.history, atol=1e-5)
    assert np.allclose(values[:, 3], result.history.mean(1), atol=1e-5)


@pytest.mark.slow
def test_stages_are_named_on_the_command_line(images: Path, tmp_path: Path) -> None:
    done = drmime(
        "register", images / "fixed.png", images / "moving.png", "--out", tmp_path, "--transform", "translation+velocity"
    )
    assert done.returncode in (0, 1), done.stderr
    bent = "deformation with control points" in done.stdout
    assert bent or "no evidence of a deformation" in done.stdout
    assert (tmp_path / "mesh.png").exists() == bent


def test_a_pipe_is_quiet(registered: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = registered
    assert done.stderr == ""
    result = Registration.load(out / "transform.json")
    verdict, *lines = str(result).splitlines()
    files = f"in {out}: transform.json, history.csv, warped.png, overlay.png"
    assert done.stdout.splitlines() == [*lines, files, verdict]
    assert verdict.startswith("verdict: aligned (probability ")


@pytest.mark.parametrize(
    ("status", "option", "code"),
    [
        *[("aligned", [], 0), ("aligned", ["--fail-on", "doubtful"], 0), ("doubtful", [], 0)],
        *[("doubtful", ["--fail-on", "doubtful"], 1), ("failed", [], 1), ("failed", ["--fail-on", "doubtful"], 1)],
    ],
)
def test_the_exit_status_follows_the_verdict(
    status: str,
    option: list[str],
    code: int,
    registered: tuple[Path, subprocess.CompletedProcess[str]],
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = Registration.load(registered[0] / "transform.json")
    judged = replace(result, verdict=replace(result.verdict, status=Status(status)))
    monkeypatch.setattr("drmime.commands.align.align", lambda *_, **__: judged)
    pair = [str(images / "fixed.png"), str(images / "moving.png")]
    assert main(["register", *pair, "--out", str(tmp_path), *option]) == code
    out, problem = capsys.readouterr()
    assert out.splitlines()[-1].startswith(f"verdict: {status} (")
    assert problem == (f"drmime: the verdict is {status}; --fail-on {option[-1] if option else 'failed'}\n" if code else "")
    assert (tmp_path / "transform.json").exists()


@pytest.mark.parametrize(("ending", "warped"), [(".mha", ".mha"), (".nrrd", ".nrrd"), (".nii", ".nii.gz"), (".tif", ".tif")])
def test_the_warped_image_has_the_fixed_image_s_format_and_geometry(
    ending: str, warped: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("SimpleITK")
    pytest.importorskip("nibabel")
    grid = Grid.regular((64, 64), (0.5, 0.75))
    write_image(tmp_path / f"fixed{ending}", blobs(), grid)
    write_image(tmp_path / "moving.png", 255 - blobs(2))
    options = [*QUICK, "--moving-spacing", "0.5,0.75"]
    assert (
        main(["register", str(tmp_path / f"fixed{ending}"), str(tmp_path / "moving.png"), "--out", str(tmp_path), *options])
        == 0
    )
    assert f"warped{warped}" in capsys.readouterr().out
    found = read_image(tmp_path / f"warped{warped}")
    assert np.allclose(found.grid.world_from_index, read_image(tmp_path / f"fixed{ending}").grid.world_from_index)


def test_an_unknown_verdict_is_told_before_anything_runs(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = [str(images / "fixed.png"), str(images / "moving.png")]
    assert main(["register", *pair, "--out", str(tmp_path / "out"), "--fail-on", "doubtfull"]) == 2
    assert "--fail-on" in (problem := capsys.readouterr().err)
    assert "doubtful" in problem
    assert not (tmp_path / "out").exists()


def test_warp_repeats_the_warped_image(
    registered: tuple[Path, subprocess.CompletedProcess[str]], images: Path, tmp_path: Path
) -> None:
    out, _ = registered
    done = drmime("warp", out / "transform.json", images / "moving.png", "--out", tmp_path / "again.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert np.array_equal(iio.imread(tmp_path / "again.png"), iio.imread(out / "warped.png"))


def test_convert_writes_what_other_programs_read(
    registered: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = registered[0] / "transform.json"
    matrix = Registration.load(saved).matrix
    names = ["TransformParameters.0.txt", "a.csv", "a.json", "a.npy"]
    for source, name in zip([saved, *(tmp_path / name for name in names)], names, strict=False):
        given = ["--fixed", str(registered[0] / "warped.png")] if name.startswith("T") and source is not saved else []
        assert main(["convert", str(source), str(tmp_path / name), *given]) == 0
        assert capsys.readouterr().out == f"wrote {tmp_path / name}\n"
    assert np.load(tmp_path / "a.npy") == pytest.approx(matrix, abs=1e-9)
    assert main(["convert", str(tmp_path / "a.csv"), str(tmp_path / "b.txt"), "--to", "elastix"]) == 2
    assert "--fixed" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--to", "itkk"]) == 2
    assert "Known: " in capsys.readouterr().err
    assert not (tmp_path / "b.csv").exists()
    assert main(["convert", str(saved), str(saved)]) == 2
    assert "would be lost" in capsys.readouterr().err
    images = ["--fixed", str(registered[0] / "warped.png"), "--moving", str(registered[0] / "warped.png")]
    for source, name, given in ((saved, "a.qupath.txt", []), (tmp_path / "a.qupath.txt", "c.csv", images)):
        assert main(["convert", str(source), str(tmp_path / name), *given]) == 0
        capsys.readouterr()
    assert np.loadtxt(tmp_path / "c.csv", delimiter=",") == pytest.approx(matrix, abs=1e-9)  # the images are of one shape
    assert main(["convert", str(tmp_path / "a.qupath.txt"), str(tmp_path / "d.csv"), *images[:2]]) == 2
    assert "--moving" in capsys.readouterr().err
    assert Registration.load(saved).matrix == pytest.approx(matrix)


def test_warp_takes_labels_fill_and_the_inverse(
    registered: tuple[Path, subprocess.CompletedProcess[str]],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    transform, target = registered[0] / "transform.json", tmp_path / "warped.png"
    result = Registration.load(transform)

    def warped(image: str, *options: str) -> np.ndarray:
        assert main(["warp", str(transform), str(images / image), "--out", str(target), *options]) == 0
        assert capsys.readouterr().out == f"wrote {target}\n"
        return iio.imread(target)

    labels = warped("labels.png", "--labels", "--fill", "9")
    assert set(np.unique(labels)) == {0, 7, 9}
    assert np.array_equal(labels, result.warp_labels(images / "labels.png", 9))
    cubic = warped("moving.png", "--interpolation", "cubic", "--fill", "5")
    assert np.array_equal(cubic, result.warp(images / "moving.png", "cubic", 5))
    assert np.array_equal(warped("fixed.png", "--inverse"), result.inverse().warp(images / "fixed.png"))


def test_medical_output_keeps_the_geometry_of_the_fixed_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sitk = pytest.importorskip("SimpleITK")
    for name, shift, origin in (("fixed", 0, (10.0, 20.0)), ("moving", 2, (12.0, 21.0))):
        image = sitk.GetImageFromArray(blobs(shift).astype(np.int16))
        image.SetSpacing((0.5, 0.75))
        image.SetOrigin(origin)
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    pair = [str(tmp_path / "fixed.nii.gz"), str(tmp_path / "moving.nii.gz")]
    assert main(["register", *pair, "--out", str(tmp_path / "out"), *QUICK]) == 0
    warp = ["warp", str(tmp_path / "out" / "transform.json"), pair[1], "--out", str(tmp_path / "again.mha")]
    assert main(warp) == 0
    capsys.readouterr()
    fixed, first, second = (sitk.ReadImage(str(tmp_path / n)) for n in ("fixed.nii.gz", "out/warped.nii.gz", "again.mha"))
    for warped in (first, second):
        assert np.allclose(warped.GetOrigin(), fixed.GetOrigin())
        assert np.allclose(warped.GetSpacing(), fixed.GetSpacing())
        assert warped.GetPixelID() == fixed.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(second))


def test_options_come_from_settings_before_flags_before_the_file(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [images / "fixed.png", images / "moving.tif", "--out", tmp_path, "--config", images / "good.yaml"]
    more = ["--schedule", "{steps: 10, rate: 4e-3}", "--set", "schedule.steps=20", "--set", "schedule.tolerance=1e-5"]
    more += ["--transform", "{name: lie, generators: [translation, scale]}"]
    more += [
        "--device",
        "cpu",
        "--sampler",
        "{name: uniform, points: 200}",
        "--fixed-spacing",
        "1,1",
        "--moving-spacing",
        "1,1",
    ]
    more += ["--channel-axis", "none", "--moving-mask", images / "mask.png", "--tensorboard", "--interpolation", "nearest"]
    assert main(["register", *map(str, words), *map(str, more)]) == 0
    capsys.readouterr()
    result = Registration.load(tmp_path / "transform.json")
    wanted = {
        "schedule": {"steps": 20, "tolerance": 1e-5, "rate": 4e-3, "level_weights": None, "least_overlap": 0.02},
        "levels": 1,
        "metric": {"name": "mattes", "bins": 24},
        "sampler": {"name": "uniform", "points": 200},
        "transform": {"name": "lie", "generators": ["translation", "scale"]},
        "fixed_spacing": [1, 1],
        "channel_axis": None,
    }
    assert {name: result.settings[name] for name in wanted} == wanted
    assert iio.imread(tmp_path / "warped.tif").dtype == np.float32
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_saved_transform_is_a_start(
    registered: tuple[Path, subprocess.CompletedProcess[str]],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = str(registered[0] / "transform.json")
    words = ["register", str(images / "fixed.png"), str(images / "moving.png"), "--out", str(tmp_path), *QUICK]
    assert main([*words, "--set", "schedule.steps=1", "--start", f"{{given: {start}, refine: false}}"]) == 0
    capsys.readouterr()
    first, second = Registration.load(start), Registration.load(tmp_path / "transform.json")
    assert np.allclose(second.matrix, first.matrix, atol=0.5)


BROKEN = {
    "nowhere.png": "does not exist",
    "notes.png": "cannot be read as an image",
    "empty.png": "empty",
    "truncated.png": "cannot be read as an image",
}

MISTAKES = {
    "metric": (("PAIR", "--metric", "mime"), "did you mean 'mine'?"),
    "metric option": (("PAIR", "--metric", "{name: mine, hiden: 3}"), "did you mean 'hidden'?"),
    "metric not yaml": (("PAIR", "--metric", "{name: mine"), "YAML"),
    "transform": (("PAIR", "--transform", "afine"), "did you mean 'affine'?"),
    "interpolation": (("PAIR", "--interpolation", "cubical"), "did you mean 'cubic'?"),
    "unknown flag": (("PAIR", "--trnsform", "affine"), "register '--trnsform'; did you mean '--transform'?"),
    "unknown flag with a value": (("PAIR", "--trnsform=affine"), "did you mean '--transform'?"),
    "three images": (("PAIR", "third.png"), "unrecognized arguments: third.png. See drmime register --help"),
    "not a number": (("PAIR", "--levels", "many"), "many"),
    "out of range": (("PAIR", "--schedule", "{steps: 0}"), "steps"),
    "spacing": (("PAIR", "--fixed-spacing", "1;1"), "1;1"),
    "spacing of another length": (("PAIR", "--fixed-spacing", "1,1,1"), "spacing"),
    "channel axis": (("PAIR", "--channel-axis", "last"), "last"),
    "set without value": (("PAIR", "--set", "seed"), "KEY=VALUE"),
    "set unknown": (("PAIR", "--set", "sede=1"), "did you mean 'seed'?"),
    "set unknown inside": (("PAIR", "--set", "schedule.raet=1"), "did you mean 'rate'?"),
    "set inside a name": (("PAIR", "--metric", "mine", "--set", "metric.hiden=3"), "did you mean 'hidden'?"),
    "set inside the default": (("PAIR", "--set", "metric.hiden=3"), "did you mean 'hidden'?"),
    "set inside a number": (("PAIR", "--seed", "1", "--set", "seed.one=3"), "expected 'name: value' pairs"),
    "config key": (("PAIR", "--config", "IMAGES/typo.yaml"), "did you mean 'schedule'?"),
    "config missing": (("PAIR", "--config", "IMAGES/nowhere.yaml"), "does not exist"),
    "config not a mapping": (("PAIR", "--config", "IMAGES/list.yaml"), "list"),
    "config not yaml": (("PAIR", "--config", "IMAGES/broken.yaml"), "YAML"),
    "device": (("PAIR", "--device", "warp9"), "device"),
    "start": (("PAIR", "--start", "{given: center}"), "did you mean 'centre'?"),
    "start name": (("PAIR", "--start", "serch"), "did you mean 'search'?"),
    "start missing": (("PAIR", "--start", "IMAGES/nowhere.txt"), "does not exist"),
    "start ragged": (("PAIR", "--start", "IMAGES/broken.txt"), "rows of numbers"),
    "nan": (("PAIR", "--nan", "ignore"), "nan"),
    "out is a file": (("PAIR", "--out", "IMAGES/notes.png"), "cannot write"),
    "out below a file": (("PAIR", "--out", "IMAGES/notes.png/deep"), "cannot write"),
    "tensorboard is a file": (("PAIR", "--tensorboard", "IMAGES/notes.png"), "cannot write"),
}


def complaint(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that must end with status 2."""
    try:
        status = main(words)
    except SystemExit as stop:  # argparse leaves this way
        status = stop.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("drmime: error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(
    mistake: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, expected = MISTAKES[mistake]
    pair = [str(images / "fixed.png"), str(images / "moving.png")]
    filled = [word.replace("IMAGES", str(images)) for part in words for word in (pair if part == "PAIR" else [part])]
    out = tmp_path / "out"
    assert expected in complaint(["register", "--out", str(out), *filled], capsys)
    assert not out.exists()


def test_mistakes_of_warp(
    registered: tuple[Path, subprocess.CompletedProcess[str]],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good, image, out = str(registered[0] / "transform.json"), str(images / "moving.png"), str(tmp_path / "out.png")
    assert "does not exist" in complaint(["warp", "nowhere.json", image, "--out", out], capsys)
    assert "expected a registration saved" in complaint(["warp", image, image, "--out", out], capsys)
    assert "fill" in complaint(["warp", good, image, "--out", out, "--fill", "300"], capsys)
    assert "--fill" in complaint(["warp", good, image, "--out", out, "--fill", "0.5", "--labels"], capsys)
    assert "of labels" in complaint(["warp", good, image, "--out", out, "--interpolation", "cubic", "--labels"], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_image_is_one_line_without_traceback(name: str, images: Path, tmp_path: Path) -> None:
    done = drmime("register", images / "fixed.png", images / name, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("drmime: error: ")
    assert done.stderr.count("\n") == 1
    assert BROKEN[name] in done.stderr
    assert str(images / name) in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_failed_registration_is_status_1_and_still_written(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["register", str(images / "fixed.png"), str(images / "moving.png"), "--out", str(tmp_path), *QUICK]
    assert main([*words, "--start", f"{{given: {images / 'far.txt'}, refine: false}}"]) == 1
    out, err = capsys.readouterr()
    assert "do not overlap" in out
    assert "do not overlap" in err
    assert err.count("\n") == 1
    assert Registration.load(tmp_path / "transform.json").matrix[0, 2] == 1000
    assert (tmp_path / "overlay.png").exists()


def interrupted_run(images: Path, out: Path) -> tuple[int, str, str]:
    """Start a run far too long, send Ctrl-C once it is under way; -> status, stdout, stderr."""
    words = ["register", images / "fixed.png", images / "moving.png", "--out", out, *QUICK, "--tensorboard"]
    command = [*PROGRAM, *map(str, words), "--set", "schedule.steps=1000000", "--set", "schedule.tolerance=1e-12"]
    with tiny.started(command) as process:
        deadline = time.monotonic() + 120
        while not (out / "tensorboard").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(5)  # the first step, on a busy machine
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_keeps_the_best_so_far(images: Path, tmp_path: Path) -> None:
    status, _, stderr = interrupted_run(images, tmp_path / "out")
    assert status == 130, stderr
    assert stderr == f"drmime: interrupted; the best so far is in {tmp_path / 'out' / 'transform.json'}\n"
    result = Registration.load(tmp_path / "out" / "transform.json")
    assert not result.success
    assert len((tmp_path / "out" / "history.csv").read_text().splitlines()) == len(result.history) + 1 > 1


def test_ctrl_c_in_the_demo_keeps_the_best_so_far(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage", reason="brings the demo's pair")

    def interrupt(fixed: np.ndarray, moving: np.ndarray, **_: object) -> None:
        step_five = [lambda step: signal.raise_signal(signal.SIGINT) if step.index == 5 else None]
        register(fixed, moving, start=None, metric="mse", observers=step_five, device="cpu")

    monkeypatch.setattr("drmime.commands.align.align", interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in a shell's background is without
    assert main(["demo", "--out", str(tmp_path)]) == 130
    assert "the best so far is in" in capsys.readouterr().err
    assert not Registration.load(tmp_path / "transform.json").success


def test_ctrl_c_before_the_run_is_status_130(
    monkeypatch: pytest.MonkeyPatch, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("drmime.commands.align.align", interrupt)
    assert main(["register", str(images / "fixed.png"), str(images / "moving.png"), "--out", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["demo"], ["register"], ["warp"]])
def test_help_shows_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "example:\n  drmime " in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"drmime {__version__}\n"


@pytest.mark.slow
def test_demo_finds_the_truth(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    done = drmime("demo", "--out", tmp_path, "--device", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    before, after = (float(line.split()[2]) for line in done.stdout.splitlines()[:2])
    assert before > 10
    assert after < 1
    assert f"tensorboard --logdir {tmp_path / 'tensorboard'}" in done.stdout
    files = ["fixed.png", "moving.png", "overlay.png", "tensorboard", "transform.json", "warped.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


@pytest.mark.slow
def test_demo_that_misses_the_truth_is_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.setattr("drmime.commands.align.GOOD", 0.0)
    assert main(["demo", "--out", str(tmp_path), "--device", "cpu", "--levels", "1"]) == 1
    assert capsys.readouterr().err == "drmime: the error is not below 0 pixel\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["register", "nowhere.png", "{image}", "--out", "out"], "fixed: expected a file, got 'nowhere.png'"),
        (["register", "{image}", "{image}", "--out", "out", "--fixed-mask", "no.png"], "fixed mask: expected a file"),
        (["register", "{image}", "{image}", "--out", "out", "--metric", "mien"], "unknown metric 'mien'; did you mean 'mine'?"),
        (["register", "{image}", "{image}", "--out", "out", "--transform", "afine"], "did you mean 'affine'?"),
        (["register", "{image}", "{image}", "--out", "out", "--start", "{{name: serch}}"], "did you mean 'search'?"),
        (["warp", "{image}", "nowhere.png", "--out", "out.png"], "image: expected a file"),
        (["run", "nowhere.yaml"], "config: expected a file"),
    ],
    ids=str,
)
def test_what_can_be_told_without_torch_is(words: list[str], message: str, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.touch()
    code = (
        "import sys; from drmime.cli import main; status = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules, 'torch was imported'; sys.exit(status)"
    )
    words = [word.format(image=image) for word in words]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, encoding="utf-8", cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "runs"), [(["--config"], False), (["--config", "--allow-code"], True), (["--metric", "snare:Part"], True)], ids=str
)
def test_options_in_a_file_run_no_code_but_typed_ones_do(
    more: list[str], runs: bool, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "snare.py").write_text("raise ImportError('this code was run')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "options.yaml").write_text("metric: snare:Part")
    words = ["register", images / "fixed.png", images / "moving.png", "--out", tmp_path / "out", *more]
    if "--config" in more:
        words.insert(words.index("--config") + 1, tmp_path / "options.yaml")
    assert main([str(word) for word in words]) == 2
    problem = capsys.readouterr().err
    assert ("this code was run" in problem) == runs
    assert ("'snare:Part' is code" in problem) != runs


def test_options_of_the_device_go_to_the_registration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, object] = {}
    image = tmp_path / "image.png"
    image.touch()

    @functools.wraps(register)
    def align(*images: object, **options: object) -> None:
        asked.update(options)
        raise InputError("enough")

    monkeypatch.setattr("drmime.commands.align.align", align)
    assert main(["register", str(image), str(image), "--out", str(tmp_path / "out"), "--set", "device.threads=3"]) == 2
    assert asked["device"] == {"name": None, "threads": 3}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="other systems have no limit of a file's size")
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd", ".tif", ".npy", ".png"])
def test_a_full_disk_is_told_and_the_old_file_stays(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK", reason="writes medical formats")
    pixels = (np.random.default_rng(0).random((200, 220)) * 60000).astype(np.uint16)
    write_image(tmp_path / "image.tif", pixels)
    result = register(pixels[::4, ::4], pixels[::4, ::4], start=None, schedule={"steps": 1}, device="cpu")
    whole = replace(result, fixed_grid=Grid.regular(pixels.shape), moving_grid=Grid.regular(pixels.shape))
    whole.save(tmp_path / "t.json")
    old = tmp_path / f"warped{ending}"
    write_image(old, pixels[:20, :20])
    before = old.read_bytes()

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    command = [sys.executable, "-m", "drmime", "warp", tmp_path / "t.json", tmp_path / "image.tif", "--out", old]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", preexec_fn=limit)
    assert ended.returncode == 2
    assert "cannot write" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert old.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["image.tif", "t.json", old.name])


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("none", None), ("auto", "auto"), ("0,none", [0, None]), ("-1, 2", [-1, 2])]
)
def test_axes_are_for_both_images_or_one_each(text: str, expected: object) -> None:
    assert axes(text) == expected
    with pytest.raises(argparse.ArgumentTypeError, match="auto, none or a whole number"):
        axes("first")


def test_one_channel_of_one_image_is_compared(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 44)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata={"axes": "CYX"})
    write_image(tmp_path / "b.png", pixels[1])
    out = tmp_path / "out"
    options = ["--channel", "1,none", "--start", "none", "--set", "metric=mse", "--set", "schedule.steps=2", "--device", "cpu"]
    assert main(["register", str(tmp_path / "a.tif"), str(tmp_path / "b.png"), "--out", str(out), *options]) == 0
    assert Registration.load(out / "transform.json").similarity == pytest.approx(0, abs=1e-4)  # the same picture
