"""Frames of one file: known motion is found, all channels are carried along, and what is no series is refused."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates

from drmime import Image, InputError, Registration, Stack, as_image, register_stack
from drmime.cli import main
from drmime.image.pixels import Pixels
from drmime.stack.frames import frames_of

SIDE, FRAMES = 80, 12


def motion() -> np.ndarray:
    """Where the scene lies in each frame, pixels, x first: a drift with steps."""
    drift = np.cumsum(np.random.default_rng(1).normal(0, 1.2, (FRAMES, 2)), 0)
    return drift - drift[0]


def scene(angle: float, shift: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(2)
    wide = gaussian_filter(random.standard_normal((160, 160)), 1.5)
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    x, y = columns - shift[0], rows - shift[1]
    c, s = np.cos(angle), np.sin(angle)
    return map_coordinates(wide / wide.std(), [-s * x + c * y + 80, c * x + s * y + 80], order=3)


def series(turn: float = 0.0) -> np.ndarray:
    """Frames that fade, with noise. (T, Y, X), 16 bits"""
    random = np.random.default_rng(3)
    frames = [scene(turn * at, shift) * (1 - at / 40) for at, shift in enumerate(motion())]
    noisy = np.stack(frames) + 0.2 * random.standard_normal((FRAMES, SIDE, SIDE))
    return np.clip(6_000 * noisy + 30_000, 0, 65_535).astype(np.uint16)


@pytest.fixture(scope="module")
def movie() -> np.ndarray:
    return series()


def drift(stack: Stack) -> np.ndarray:
    return np.array([found.to_moving([[40, 40]])[0] - 40 for found in stack.registrations if found is not None])


@pytest.fixture(scope="module")
def aligned(movie: np.ndarray) -> Stack:
    return register_stack(movie, time_axis=0, transform="translation", reference="first")


def test_drift_is_found(aligned: Stack) -> None:
    assert np.abs(drift(aligned) - motion()).max() < 0.1
    assert aligned.ruined == aligned.contradicted == ()
    for found in aligned.registrations[1:]:
        assert found is not None
        assert found.verdict.status == "aligned"
        assert found.verdict.expected_error.median < 0.2
    assert all(pair.registration.settings["pairs"] == "correlation" for pair in aligned.pairs)


def test_a_list_by_correlation_is_the_same(movie: np.ndarray, aligned: Stack) -> None:
    stack = register_stack(list(movie), pairs="correlation", transform="translation", reference="first")
    assert np.array_equal(drift(stack), drift(aligned))


def test_turning_frames() -> None:
    turn = np.deg2rad(0.4)
    stack = register_stack(series(turn), time_axis=0, transform="rigid", reference="first")
    points = np.array([[10.0, 10], [70, 15], [30, 65]])
    middle = (SIDE - 1) / 2
    for at, (found, shift) in enumerate(zip(stack.registrations, motion(), strict=True)):
        assert found is not None
        c, s = np.cos(turn * at), np.sin(turn * at)
        there = (points - middle) @ np.array([[c, s], [-s, c]]) + middle + shift
        assert np.abs(found.to_moving(points) - there).max() < 0.25


def test_light_has_no_effect(movie: np.ndarray, aligned: Stack) -> None:
    """A constant and a factor of each frame's own."""
    other = movie.astype(float) * np.linspace(1, 5, FRAMES)[:, None, None] + np.linspace(0, 1e5, FRAMES)[:, None, None]
    stack = register_stack(other, time_axis=0, transform="translation", reference="first")
    assert np.abs(drift(stack) - drift(aligned)).max() < 0.02


def test_a_ruined_frame_is_named_and_passed_over(movie: np.ndarray) -> None:
    spoiled = movie.copy()
    spoiled[5] = np.random.default_rng(4).integers(0, 60_000, (SIDE, SIDE))
    spoiled[8] = 7
    stack = register_stack(spoiled, time_axis=0, transform="translation", reference="first")
    assert stack.ruined == (5, 8)
    assert np.abs(drift(stack) - np.delete(motion(), (5, 8), 0)).max() < 0.1
    assert "contrast" in stack.errors[8]


def test_registrations_are_saved(aligned: Stack, tmp_path: Path) -> None:
    aligned.save(tmp_path)
    loaded = Registration.load(tmp_path / "0003.json")
    assert np.array_equal(loaded.matrix, aligned.registrations[3].matrix)  # type: ignore[union-attr]


@pytest.mark.parametrize("axes", ["TYX", "TCYX", "CTYX"])
def test_frames_are_put_together_as_they_were(axes: str, tmp_path: Path) -> None:
    shape = tuple({"T": 5, "C": 2, "Y": 20, "X": 30}[axis] for axis in axes)
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    pixels = Pixels(array, None, (len(axes) - 2, len(axes) - 1), axes.find("C") if "C" in axes else None, names=axes)
    found = frames_of(pixels)
    assert [frame.names for frame in found.frames] == [axes.replace("T", "")] * 5
    assert np.array_equal(found.whole([frame.array for frame in found.frames]), array)
    channels = as_image(found.frames[3]).data[0].numpy()
    assert np.array_equal(channels, np.moveaxis(array, axes.index("T"), 0)[3].reshape(-1, 20, 30))


def test_axes_that_are_not_named(movie: np.ndarray, tmp_path: Path) -> None:
    assert frames_of(movie, 0).names == "TYX"
    assert frames_of(np.zeros((20, 30, 5)), 2).names == "YXT"
    assert frames_of(np.zeros((5, 20, 30, 3), np.uint8), 0).names == "TYXS"
    tifffile.imwrite(tmp_path / "plain.tif", movie[:4], photometric="minisblack", metadata=None)
    words = [
        "stack",
        str(tmp_path / "plain.tif"),
        "--out",
        str(tmp_path / "out"),
        "--transform",
        "translation",
        "--reference",
        "0",
    ]
    assert main([*words, "--time-axis", "0", "--movie", "gif"]) == 0
    assert len(imageio.imread(tmp_path / "out" / "movie.gif")) == 4
    with tifffile.TiffFile(tmp_path / "out" / "aligned.tif") as file:
        assert file.series[0].axes == "TYX"
        assert np.array_equal(file.asarray()[0], movie[0])
    assert main(words) == 2  # no axis of time


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (np.zeros((20, 30)), {}, "axis of time"),
        (np.zeros((5, 20, 30)), {}, "axis of time.*time_axis"),
        (np.zeros((5, 20, 30)), {"time_axis": 3}, "time_axis"),
        (np.zeros((1, 20, 30)), {"time_axis": 0}, "at least two frames"),
        ("none.tif", {}, "none.tif"),
        ([np.eye(20)] * 2, {"pairs": "both"}, "pairs"),
        ([np.eye(20)] * 2, {"pairs": "correlation", "levels": 3}, "levels: not an option of pairs='correlation'"),
        ([np.eye(20)] * 2, {"pairs": "correlation", "transform": "projective"}, "transform"),
        ([np.eye(20)] * 2, {"pairs": "correlation", "folder": "pairs"}, "folder"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(given: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        register_stack(given, **options)


def test_images_of_other_pixel_lengths_are_refused(movie: np.ndarray) -> None:
    one = as_image(movie[0])
    other = Image(one.data, as_image(movie[1], spacing=(2, 2)).grid)
    with pytest.raises(InputError, match="equal pixel lengths"):
        register_stack([one, other], pairs="correlation", transform="translation")


@pytest.mark.slow
def test_the_command_carries_every_channel(movie: np.ndarray, tmp_path: Path) -> None:
    other = np.stack([movie // 2, movie], 1)
    tifffile.imwrite(tmp_path / "movie.tif", other, imagej=True, metadata={"axes": "TCYX"})
    words = ["stack", tmp_path / "movie.tif", "--out", tmp_path / "out", "--transform", "translation"]
    words += ["--reference", "first", "--reference-channel", 1]
    made = subprocess.run(
        [sys.executable, "-m", "drmime", *map(str, words)], capture_output=True, encoding="utf-8", timeout=120
    )
    assert made.returncode == 0, made.stderr
    assert f"{FRAMES} of {FRAMES} frames aligned" in made.stdout
    with tifffile.TiffFile(tmp_path / "out" / "aligned.tif") as file:
        assert file.series[0].axes == "TCYX"
        result = file.asarray()
    assert result.dtype == np.uint16
    assert result.shape == other.shape
    assert np.array_equal(result[0], other[0])
    inner = (slice(15, -15), slice(15, -15))
    for channel in (0, 1):
        alike = [np.corrcoef(frame[channel][inner].ravel(), other[0, channel][inner].ravel())[0, 1] for frame in result]
        assert min(alike) > 0.85
    with (tmp_path / "out" / "drift.csv").open() as table:
        found = np.array([[float(row["x"]), float(row["y"])] for row in csv.DictReader(table)])
    assert np.abs(found - motion()).max() < 0.1


def test_a_file_of_options_holds_those_of_stacks(movie: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "plain.tif", movie[:4], photometric="minisblack", metadata=None)
    (tmp_path / "stack.yaml").write_text("transform: translation\nreference: previous\ntime_axis: 0\nreach: 3\n")
    words = ["stack", str(tmp_path / "plain.tif"), "--out", str(tmp_path / "out"), "--config", str(tmp_path / "stack.yaml")]

    def pairs() -> list[str]:
        rows = (tmp_path / "out" / "transforms" / "pairs.csv").read_text().splitlines()[1:]
        return [",".join(row.split(",")[:2]) for row in rows]

    assert main(words) == 0
    assert pairs() == ["0,1", "1,2", "2,3"]
    assert main([*words, "--reference", "mean"]) == 0  # flags override the file
    assert len(pairs()) == 6
    assert main([*words, "--set", "reference=last"]) == 0
    with tifffile.TiffFile(tmp_path / "out" / "aligned.tif") as file:
        assert np.array_equal(file.asarray()[3], movie[3])
    one, other = str(tmp_path / "one.png"), str(tmp_path / "other.png")
    for path, frame in ((one, movie[0]), (other, movie[1])):
        imageio.imwrite(path, frame.astype(np.uint8))
    assert main(["stack", one, other, *words[2:]]) == 2  # an axis of time, of several files
    for wrong in ("folder: elsewhere", "progress: true", "reference: middle", "reach: 0", "reach: many", "order: none"):
        (tmp_path / "stack.yaml").write_text(f"transform: translation\ntime_axis: 0\n{wrong}\n")
        assert main(words) == 2, wrong
    (tmp_path / "stack.yaml").write_text("time_axis: [0]")
    assert main(words) == 2
