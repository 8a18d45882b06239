"""Deformed sections: bends are found and composed along the stack; without evidence the maps are those of the linear stack."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
import torch
from textures import busy
from torch import Tensor

from drmime import InputError, Interrupted, Registration, Stack, Stop, register_stack
from drmime.geometry.grid import Grid
from drmime.stack import deformed, links
from drmime.transform.base import Chain
from drmime.transform.linear import MatrixTransform

SIDE = 96
SHIFTS = torch.tensor([[0.0, 0.0], [3.0, -2.0], [-4.0, 1.0]], dtype=torch.float64)  # x, y
BEND = 1.5  # pixels, from each section to the next
FIT: dict[str, Any] = {"name": "velocity", "steps": 120, "rate": 0.002, "smoothness": 2.0}
LINEAR: dict[str, Any] = {"levels": 2, "schedule": {"steps": 60}, "device": "cpu", "reference": "first"}
QUICK = {**LINEAR, "transform": ["translation", FIT]}
PLACES = np.stack(np.meshgrid(np.linspace(20, 75, 6), np.linspace(20, 75, 6)), -1).reshape(-1, 2)


def to_scene(points: Tensor, number: int, bend: float = BEND) -> Tensor:
    """Where points of a section lie in the scene: sections are bent more and more."""
    there = points - SHIFTS[number]
    return there + number * bend * torch.stack([torch.sin(there[:, 1] / 14), torch.cos(there[:, 0] / 17)], -1)


def section(number: int, bend: float = BEND) -> np.ndarray:
    grid = Grid.regular((SIDE, SIDE))
    seen = busy(grid, seed=5)(to_scene(grid.index_points(), number, bend)).view(SIDE, SIDE).numpy()
    return seen if number % 2 else np.exp(-seen)


def error(found: Registration, number: int, reference: int = 0) -> float:
    """The mean distance in the scene between places of the reference and where they are mapped, pixels."""
    there = to_scene(torch.as_tensor(found.to_moving(PLACES)), number)
    return float((there - to_scene(torch.as_tensor(PLACES), reference)).norm(dim=1).mean())


def placed(stack: Stack) -> list[Registration]:
    return [found for found in stack.registrations if found is not None]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [section(number) for number in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def linear(images: list[np.ndarray], folder: Path) -> Stack:
    return register_stack(images, folder=folder, transform="translation", **LINEAR)


@pytest.fixture(scope="module")
def stack(images: list[np.ndarray], folder: Path, linear: Stack) -> Stack:
    return register_stack(images, folder=folder, **QUICK)


class Counted:
    """`register`, which counts its calls; from the call number `last` on it is interrupted."""

    def __init__(self, last: float = np.inf) -> None:
        self.calls, self.last, self.own = 0, last, links.register

    def __call__(self, *given: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls > self.last:
            raise Interrupted([])  # Ctrl-C
        return self.own(*given, **options)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    made = Counted()
    monkeypatch.setattr(links, "register", made)
    return made


def test_bends_are_found(stack: Stack, linear: Stack) -> None:
    assert stack.deformed == (1, 2)
    assert "deformed: 2 of 2 images" in str(stack)
    for number in (1, 2):
        found, rigid = placed(stack)[number], placed(linear)[number]
        assert error(found, number) < 0.4 * error(rigid, number)
        assert found.verdict == rigid.verdict
        assert found.folded == 0
        assert "Deformed to match image" in found.notes[1]
    assert isinstance(placed(stack)[0].transform, MatrixTransform)


def test_the_maps_are_the_fits_one_after_the_other(stack: Stack) -> None:
    maps = placed(stack)
    assert [fit.second for fit in stack.deformations] == [1, 2]
    for fit in stack.deformations:
        there = fit.registration.to_moving(maps[fit.first].to_moving(PLACES))
        assert np.allclose(maps[fit.second].to_moving(PLACES), there, rtol=0, atol=1e-9)
        back = maps[fit.second].to_fixed(maps[fit.second].to_moving(PLACES))
        assert np.allclose(back, PLACES, rtol=0, atol=0.01)


@pytest.mark.slow
def test_without_a_bend_the_maps_are_the_linear_ones(tmp_path: Path) -> None:
    images = [section(number, bend=0) for number in range(3)]
    stiff = register_stack(images, folder=tmp_path, transform="translation", **LINEAR)
    found = register_stack(images, folder=tmp_path, **QUICK)
    assert found.deformed == ()
    for one, other in zip(placed(found), placed(stiff), strict=True):
        assert np.array_equal(one.matrix, other.matrix)
        assert one.verdict == other.verdict
    assert "Not deformed to match image" in placed(found)[1].notes[1]


@pytest.mark.slow
def test_an_interrupted_run_goes_on(
    images: list[np.ndarray], folder: Path, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for last, done in ((4, 4), (np.inf, 1)):  # three pairs and a fit; then the other one
        counted = Counted(last)
        monkeypatch.setattr(links, "register", counted)
        if last == 4:
            with pytest.raises(KeyboardInterrupt) as stopped:
                register_stack(images, folder=tmp_path, **QUICK)
            assert stopped.type is KeyboardInterrupt
        else:
            again = register_stack(images, folder=tmp_path, **QUICK)
        assert min(counted.calls, last) == done
        monkeypatch.setattr(links, "register", counted.own)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in folder.iterdir()}
    for one, other in zip(placed(again), placed(stack), strict=True):
        assert np.allclose(one.to_moving(PLACES), other.to_moving(PLACES), rtol=0, atol=1e-9)


def test_finished_pairs_and_fits_are_not_registered_again(
    images: list[np.ndarray], folder: Path, stack: Stack, counted: Counted
) -> None:
    register_stack(images, folder=folder, **QUICK)
    assert counted.calls == 0
    other = {**FIT, "bending": 0.1, "steps": 2}
    register_stack(images, folder=folder, **{**QUICK, "transform": ["translation", other]})
    assert counted.calls == 2  # another deformation of the same linear maps


@pytest.mark.slow
def test_each_image_by_the_one_before_it(images: list[np.ndarray]) -> None:
    found = register_stack(images, **{**QUICK, "reference": "previous", "transform": ["translation", {**FIT, "steps": 20}]})
    assert [(fit.first, fit.second) for fit in found.deformations] == [(0, 1), (1, 2)]


@pytest.mark.slow
def test_the_mean_pose_is_a_linear_map_from_the_reference(images: list[np.ndarray], folder: Path, counted: Counted) -> None:
    found = register_stack(images, folder=folder, **{**QUICK, "reference": "mean"})
    assert counted.calls <= 2  # the fits, if the reference is another image
    first = placed(found)[found.reference]
    fixed = register_stack(images, folder=folder, **{**QUICK, "reference": found.reference})
    there = first.to_moving(PLACES)
    for one, other in zip(placed(found), placed(fixed), strict=True):
        assert np.allclose(one.to_moving(PLACES), other.to_moving(there), rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("fit", [{**FIT, "name": "bspline"}, {"name": "polyaffine", "steps": 60}])
def test_other_families_pass_over_a_ruined_image(images: list[np.ndarray], fit: dict[str, Any]) -> None:
    given = [images[0], np.random.default_rng(0).random((SIDE, SIDE)), images[1]]
    found = register_stack(given, **{**QUICK, "transform": ["translation", "rigid", fit]})
    assert (found.ruined, found.deformed) == ((1,), (2,))
    assert error(placed(found)[1], 1) < 0.5


def test_files_and_pictures(stack: Stack, images: list[np.ndarray], tmp_path: Path) -> None:
    stack.save(tmp_path)
    loaded = Registration.load(tmp_path / "0002.json")
    assert isinstance(loaded.transform, Chain)
    assert np.array_equal(loaded.to_moving(PLACES), placed(stack)[2].to_moving(PLACES))
    assert loaded.notes == placed(stack)[2].notes
    assert stack.montage(images).shape == (SIDE, 3 * SIDE, 3)
    stack.movie(images, tmp_path / "movie.gif")
    assert len(imageio.imread(tmp_path / "movie.gif")) == 3
    inner = np.s_[20:-20, 20:-20]
    _, warped, _ = stack.warp(images)
    assert warped is not None
    assert np.corrcoef(warped[inner].ravel(), -np.log(images[0])[inner].ravel())[0, 1] > 0.95


@pytest.mark.slow
def test_a_fit_that_fails_leaves_the_linear_map(stack: Stack) -> None:
    matrices = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    matrices[1, 0, 2], matrices[2, 1, 2] = 3, 5
    failed = [replace(fit, registration=replace(fit.registration, stop=Stop.NOT_FINITE)) for fit in stack.deformations]
    good, start = stack.deformations, torch.eye(3, dtype=torch.float64)
    assert deformed.maps(failed, matrices, start) == {}
    assert "no longer a finite number" in deformed.note(failed[0])
    fits = [good[0], replace(failed[1], first=1)]
    maps = deformed.maps(fits, matrices, start)
    points = torch.as_tensor(PLACES)
    expected = maps[1](points) + torch.tensor([-3.0, 5.0])
    assert torch.allclose(maps[2](points), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("transform", "options", "words"),
    [
        ("velocity", {}, "a linear transform before the deformation"),
        ("velocity+rigid", {}, "linear transforms and then at most one deformation"),
        ("rigid+tps", {}, "expected landmarks"),
        ("rigid+velocity", {"pairs": "correlation"}, "no deformation for pairs='correlation'"),
        ("rigid+velocity", {"affine_mask": np.ones((SIDE, SIDE))}, "not an option of a stack"),
        ("projective+velocity", {}, "without perspective"),
        (["rigid", {"name": "velocity", "spacing": 0.5}], {}, "spacing"),
        (["rigid", {"name": "velocity", "spaces": 1}], {}, "spaces"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(
    images: list[np.ndarray], counted: Counted, transform: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        register_stack(images, **{**LINEAR, "transform": transform, **options})
    assert counted.calls == 0


@pytest.mark.slow
def test_the_command_deforms_files_and_frames(images: list[np.ndarray], tmp_path: Path) -> None:
    made = [np.rint(255 * (image - image.min()) / np.ptp(image)).astype(np.uint8) for image in images[:2]]
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, image in zip(paths, made, strict=True):
        imageio.imwrite(path, image)
    tifffile.imwrite(tmp_path / "frames.tif", np.stack(made), imagej=True, metadata={"axes": "TYX"})
    transform = "[translation, {name: velocity, steps: 80, rate: 0.002, smoothness: 2}]"
    options = ["--transform", transform, "--levels", "2", "--set", "schedule.steps=60", "--reference", "first"]
    for given, out in ((paths, "files"), ([tmp_path / "frames.tif"], "frames")):
        words = [sys.executable, "-m", "drmime", "stack", *map(str, given), "--out", str(tmp_path / out), *options]
        done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=300)
        assert done.returncode == 0, done.stderr
        found = Registration.load(tmp_path / out / "transforms" / "0001.json")
        assert "Deformed to match image 0" in found.notes[1]
        assert error(found, 1) < 0.6
    assert len(list((tmp_path / "files" / "pairs").iterdir())) == 2  # the pair and the fit
    bad = subprocess.run([*words, "--transform", "velocity"], capture_output=True, encoding="utf-8", timeout=300)
    assert bad.returncode == 2
    assert "rigid+velocity" in bad.stderr
    assert "Traceback" not in bad.stderr
