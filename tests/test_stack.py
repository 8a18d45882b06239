"""A set of images: known places are found, a ruined image is named and does no harm, and a run goes on from what it kept."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from textures import busy

from drmime import Image, InputError, Registration, Schedule, Stack, register_stack
from drmime.cli import main
from drmime.compare.mine import MINE
from drmime.geometry.grid import Grid
from drmime.stack import links
from drmime.stack.movie import write_movie

SIDE = 72
SHIFTS = np.array([[0.0, 0.0], [3.0, -2.0], [-4.0, 1.0], [2.0, 5.0], [5.0, -3.0], [-1.0, -5.0]])  # x, y
QUICK: dict[str, Any] = {"transform": "translation", "levels": 2, "schedule": {"steps": 60}, "device": "cpu"}


def section(number: int) -> np.ndarray:
    """The scene moved by a known shift, in intensities of its own."""
    grid = Grid.regular((SIDE, SIDE))
    seen = busy(grid, seed=5)(grid.index_points() - torch.as_tensor(SHIFTS[number])).view(SIDE, SIDE).numpy()
    return seen if number % 2 else np.exp(-seen)


def ruined() -> np.ndarray:
    return np.random.default_rng(0).random((SIDE, SIDE))


def errors(stack: Stack) -> list[float]:
    """The largest error of each image that has a place, in pixels."""
    points = np.array([[20.0, 20], [50, 20], [35, 55]])
    wanted = [points + SHIFTS[number] - SHIFTS[stack.reference] for number in range(len(SHIFTS))]
    return [
        float(np.abs(found.to_moving(points) - there).max())
        for found, there in zip(stack.registrations, wanted, strict=True)
        if found is not None
    ]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    made = [section(number) for number in range(len(SHIFTS))]
    made[3] = ruined()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def stack(images: list[np.ndarray], folder: Path) -> Stack:
    return register_stack(images, folder=folder, **QUICK)


def test_every_image_finds_its_place_and_the_ruined_one_is_named(stack: Stack) -> None:
    assert stack.ruined == (3,)
    assert max(errors(stack)) < 0.5
    assert all(found.verdict.status == "aligned" for found in stack.registrations if found is not None)
    assert "3 : no place" in str(stack)


def test_the_maps_agree_with_the_pairs(stack: Stack) -> None:
    matrices = [found.matrix for found in stack.registrations if found is not None]
    assert np.array_equal(matrices[stack.reference - (stack.reference > 3)], np.eye(3))
    for pair, weight, misfit in zip(stack.pairs, stack.weights, stack.misfits, strict=True):
        first, second = (stack.registrations[number] for number in (pair.first, pair.second))
        if weight > 0.9 and first is not None and second is not None:
            off = second.matrix @ np.linalg.inv(first.matrix) - pair.registration.matrix
            assert np.linalg.norm(off[:2, 2]) == pytest.approx(misfit, abs=1e-6)
            assert misfit < 0.5


def test_what_was_registered_is_not_registered_again(
    images: list[np.ndarray], folder: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("registered again")

    monkeypatch.setattr(links, "register", never)
    again = register_stack(images, folder=folder, **QUICK)
    assert len(again.pairs) == len(stack.pairs)
    for one, other in zip(again.registrations, stack.registrations, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or np.allclose(one.matrix, other.matrix, rtol=0, atol=1e-9)
    for other in ({"seed": 1}, {"schedule": Schedule(steps=60)}, {"schedule": Schedule(steps=61)}, {"metric": MINE(hidden=8)}):
        with pytest.raises(AssertionError):  # other options, other registrations
            register_stack(images, folder=folder, **(QUICK | other))


@pytest.mark.slow
def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    one = register_stack([section(0), section(1)], folder=tmp_path, **QUICK)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:300])
    other = register_stack([section(0), section(1)], folder=tmp_path, **QUICK)
    assert file.read_bytes() == whole
    assert other.registrations[1] is not None
    assert np.array_equal(other.registrations[1].matrix, one.registrations[1].matrix)  # type: ignore[union-attr]


@pytest.mark.slow
def test_images_that_show_nothing_in_common_are_not_called_aligned() -> None:
    noise = [np.random.default_rng(number).random((SIDE, SIDE)) for number in range(3)]
    stack = register_stack(noise, **QUICK)
    others = [found for number, found in enumerate(stack.registrations) if number != stack.reference and found is not None]
    assert all(found.verdict.status != "aligned" for found in others)


def test_where_no_pair_can_be_registered_only_the_reference_has_a_place() -> None:
    stack = register_stack([section(0), *["none.png"] * 6, section(1)], **QUICK)
    assert (stack.reference, stack.ruined, stack.pairs) == (0, (1, 2, 3, 4, 5, 6, 7), ())
    assert "7 : no place" in str(stack)
    assert list(stack.warp([section(0)] * 8))[1:] == [None] * 7


def test_a_pair_is_registered_once(stack: Stack) -> None:
    which = [(pair.first, pair.second) for pair in stack.pairs]
    assert len(which) == len(set(which))


def test_colours_first_and_gray_images_in_one_montage() -> None:
    colours = np.stack([section(0), section(0) ** 2, section(0)])
    image = Image(torch.as_tensor(colours)[None].float(), Grid.regular((SIDE, SIDE)))
    stack = register_stack([image, section(1)], reference=0, **QUICK)
    assert stack.montage([image, section(1)]).shape == (SIDE, 2 * SIDE, 3)


def test_a_chosen_reference_stays_as_it_is(images: list[np.ndarray], folder: Path) -> None:
    stack = register_stack(images, folder=folder, reference=4, **QUICK)
    assert stack.reference == 4
    assert np.array_equal(stack.registrations[4].matrix, np.eye(3))  # type: ignore[union-attr]
    assert max(errors(stack)) < 0.5


@pytest.mark.slow
def test_an_order_that_is_not_known_is_found(tmp_path: Path) -> None:
    grid = Grid.regular((SIDE, SIDE))
    points = grid.index_points()
    bends = torch.sin(points.flip(1) / 9)  # sections are bent more and more
    scene = busy(grid, seed=5)
    made = [scene(points + 1.2 * number * bends).view(SIDE, SIDE).numpy() for number in range(5)]
    shuffled = [3, 0, 4, 1, 2]
    given = [made[number] for number in shuffled]
    stack = register_stack(given, order="auto", reference="first", **QUICK)
    assert [shuffled[number] for number in stack.order] in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0])
    assert stack.reference == stack.order[0]
    assert "order: " in str(stack)
    whole = stack.montage(given)
    first = stack.registrations[stack.order[0]]
    assert first is not None
    assert np.array_equal(whole[:SIDE, :SIDE], stack.picture(first.warp(given[stack.order[0]])))
    stack.save(tmp_path)
    rows = (tmp_path / "order.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(stack.order)


def test_an_image_that_cannot_be_read_is_passed_over(images: list[np.ndarray], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"none")
    given: list[Any] = [*images[:3], tmp_path / "broken.png", *images[4:]]
    stack = register_stack(given, folder=folder, **QUICK)
    assert stack.ruined == (3,)
    assert "broken.png" in stack.errors[3]
    assert max(errors(stack)) < 0.5


def test_pictures_and_files(stack: Stack, images: list[np.ndarray], tmp_path: Path) -> None:
    picture = stack.montage(images, tmp_path / "montage.png")
    assert imageio.imread(tmp_path / "montage.png").shape == picture.shape == (SIDE, 6 * SIDE, 3)
    assert (picture[:, 3 * SIDE : 4 * SIDE] == picture[0, 3 * SIDE]).all()
    stack.movie(images, tmp_path / "movie.gif")
    assert len(imageio.imread(tmp_path / "movie.gif")) == 5
    stack.save(tmp_path / "transforms")
    loaded = Registration.load(tmp_path / "transforms" / "0002.json")
    assert np.array_equal(loaded.matrix, stack.registrations[2].matrix)  # type: ignore[union-attr]
    assert len((tmp_path / "transforms" / "pairs.csv").read_text().splitlines()) == 1 + len(stack.pairs)
    warped = list(stack.warp(images))
    assert warped[3] is None
    assert warped[2].shape == (SIDE, SIDE)  # type: ignore[union-attr]


def test_images_of_other_sizes_and_with_masks() -> None:
    first, second = section(0), section(1)[4:, 6:]
    mask = torch.ones(1, 1, SIDE, SIDE)
    mask[..., :10] = 0
    image = Image(torch.as_tensor(first)[None, None].float(), Grid.regular((SIDE, SIDE)), mask)
    stack = register_stack([image, second], reference="first", **QUICK)
    found = stack.registrations[1]
    assert found is not None
    assert np.abs(found.to_moving([[30, 30]]) - [[30, 30]] - SHIFTS[1] + [6, 4]).max() < 0.5


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ([], {}, "at least two images"),
        ([ruined()], {}, "at least two images"),
        (ruined(), {}, "one file with an axis of time"),
        (["none.png", "neither.png"], {}, "two that can be read"),
        ([ruined(), "none.png"], {}, "two that can be read"),
        ([ruined(), ruined(), "none.png"], {"reference": 2}, "reference: image 2 cannot be read"),
        ([ruined()] * 2, {"reference": "middle"}, "reference"),
        ([ruined()] * 2, {"reference": 2}, "from 0 to 1"),
        ([ruined()] * 2, {"reach": 0}, "reach"),
        ([ruined()] * 2, {"order": "none"}, "order"),
        ([ruined()] * 2, {"time_axis": 0}, "one series alone"),
        ([ruined()] * 2, {"transform": "velocity"}, "linear transform"),
        ([ruined()] * 2, {"transform": "projective"}, "without perspective"),
        ([ruined()] * 2, {"transform": "rigid", "start": "sift"}, "not an option of a stack"),
        ([ruined()] * 2, {"transform": "rigid", "start": None}, "not an option of a stack"),
        ([ruined()] * 2, {"fixed_mask": ruined()}, "not an option of a stack"),
        ([ruined()] * 2, {"errors": "return"}, "not an option of a stack"),
        ([ruined()] * 2, {"channel": (0, 1)}, "one value for all"),
        ([ruined(), np.random.default_rng(0).random((20, 20, 20))], {}, "two that can be read"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(given: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        register_stack(given, **(QUICK | options))


@pytest.mark.slow
def test_the_command_aligns_files_and_goes_on(images: list[np.ndarray], tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, images, strict=False):
        imageio.imwrite(path, np.rint(255 * (image - image.min()) / np.ptp(image)).astype(np.uint8))
    words = ["stack", *paths, tmp_path / "none.png", "--out", tmp_path / "out", "--transform", "translation", "--levels", "2"]
    program = [sys.executable, "-m", "drmime", *map(str, words), "--set", "schedule.steps=60"]
    first = subprocess.run(program, capture_output=True, encoding="utf-8", timeout=300)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "pairs").iterdir()}
    second = subprocess.run(program, capture_output=True, encoding="utf-8", timeout=300)
    assert first.returncode == second.returncode == 1
    assert "images without a place, or whose verdict is failed: 3" in first.stderr
    assert first.stdout == second.stdout
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "pairs").iterdir()}
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert {"aligned/0002-2.png", "transforms/0002.json", "transforms/pairs.csv", "montage.png", "movie.gif"} <= written
    assert "none.png" in first.stdout


def test_another_number_of_images_is_refused(stack: Stack, images: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="expected the 6 of the stack"):
        list(stack.warp(images[:2]))
    with pytest.raises(InputError, match=r"\.gif or \.mp4"):
        stack.movie(images, "movie.avi")
    with pytest.raises(InputError, match="seconds"):
        stack.movie(images, "movie.gif", seconds=0)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(SIDE, SIDE), (SIDE - 1, SIDE - 3), (SIDE, SIDE - 1)])
def test_a_movie_as_mp4_has_even_sides(tmp_path: Path, shape: tuple[int, int]) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'drmime[movie]'")
    frames = [np.full((*shape, 3), level, np.uint8) for level in (20, 120, 220)]
    write_movie(tmp_path / "movie.mp4", frames, seconds=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["movie.mp4"]
    found = imageio.imread(tmp_path / "movie.mp4", plugin="pyav")
    assert found.shape == (3, shape[0] + shape[0] % 2, shape[1] + shape[1] % 2, 3)
    assert np.abs(found[:, : shape[0], : shape[1]].mean((1, 2, 3)) - [20, 120, 220]).max() < 4
    assert imageio.immeta(tmp_path / "movie.mp4", plugin="pyav")["fps"] == 2


def test_a_stack_as_mp4(stack: Stack, images: list[np.ndarray], tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'drmime[movie]'")
    stack.movie(images, tmp_path / "movie.mp4")
    assert len(imageio.imread(tmp_path / "movie.mp4", plugin="pyav")) == 5


def test_without_pyav_mp4_is_an_error_that_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"drmime\[movie\]"):
        write_movie(tmp_path / "movie.mp4", [np.zeros((8, 8, 3), np.uint8)])
    assert main(["stack", "a.png", "b.png", "--out", str(tmp_path / "out"), "--movie", "mp4"]) == 2
    assert main(["stack", "a.png", "b.png", "--out", str(tmp_path / "out"), "--movie", "avi"]) == 2
    assert not list(tmp_path.iterdir())
