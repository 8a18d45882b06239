"""Real pairs, default options: how well, how much memory, and the same on a GPU. Skipped where the pairs are not there."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from problems import rotation, translation
from test_optimise import contrast, problem

from drmime import register, register_stack
from drmime.geometry.grid import Grid
from drmime.image.io import read_image
from drmime.parts import METRICS
from drmime.points.files import read_landmarks
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample

LUMINANCE = np.array([0.299, 0.587, 0.114])
KIDNEY_BAR = 0.0032  # of the moving image's diagonal, median over the landmarks
KIDNEY_LANDMARKS = 69  # the first ones, as BIRL counts
AFFINE_BAR = 1.3  # times the median error of the affine map that fits the landmarks best
SET_BAR = 1.1  # median landmark error of a pair as part of a set, by that of the pair alone
BRAIN_BAR = 0.5  # voxels, mean over the brain
MEMORY_BAR = 1.0  # GB, the whole process at its largest
GPU_TOLERANCE = 1e-6  # of matrix entries, after the same draws in float64


def row_of(data: Path, name: str) -> dict[str, str]:
    """The pair of the ci suite called dataset/pair."""
    with (data / "pairs.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["suite"] == "ci" and f"{row['dataset']}/{row['pair']}" == name]
    assert len(rows) == 1, f"{name}: expected one such pair in the ci suite, got {len(rows)}"
    return rows[0]


def pixels(path: Path, rgb: bool) -> np.ndarray:
    colour = iio.imread(path)
    return colour if rgb else (colour @ LUMINANCE).astype(np.float32)


def landmarks(data: Path, row: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Points of the fixed image and where they lie in the moving one."""
    points, targets = (read_landmarks(data / row[f"{side}_landmarks"]) for side in ("fixed", "moving"))
    count = min(len(points), len(targets))
    return points[:count], targets[:count]


def median_rtre(mapped: np.ndarray, targets: np.ndarray, moving: np.ndarray) -> float:
    """Median landmark error as a share of the moving image's diagonal."""
    return float(np.median(np.linalg.norm(mapped - targets, axis=1)) / math.hypot(*moving.shape[:2]))


@pytest.mark.parametrize("rgb", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["gray", "rgb"])
def test_the_kidney_is_aligned_from_every_seed(data: Path, rgb: bool) -> None:
    row = row_of(data, "birl_rat_kidney/he__pancyto")
    fixed, moving = (pixels(data / row[side], rgb) for side in ("fixed", "moving"))
    points, targets = (side[:KIDNEY_LANDMARKS] for side in landmarks(data, row))
    errors = []
    for seed in range(5):
        result = register(fixed, moving, seed=seed)
        assert result.success
        errors.append(median_rtre(result.to_moving(points), targets, moving))
    assert max(errors) <= KIDNEY_BAR, f"median rTRE of seeds 0 to 4: {np.round(errors, 5).tolist()}, bar {KIDNEY_BAR}"


@pytest.mark.slow
def test_stains_as_one_set_are_as_near_as_each_pair_by_itself(data: Path) -> None:
    paths = [data / "cima_lesion3" / f"{name}.jpg" for name in ("he", "cd31", "ki67", "prospc", "cc10")]
    stack = register_stack(paths)
    assert not stack.ruined
    for pair in stack.pairs:
        points, targets = (read_landmarks(paths[number].with_suffix(".csv")) for number in (pair.first, pair.second))
        count = min(len(points), len(targets))
        first, second = (stack.registrations[number] for number in (pair.first, pair.second))
        assert first is not None
        assert second is not None
        together, alone = (
            np.median(one.landmark_errors(points[:count], targets[:count]))
            for one in (second @ first.inverse(), pair.registration)
        )
        assert together <= SET_BAR * alone, f"{paths[pair.first].stem}, {paths[pair.second].stem}: {together} and {alone}"


@pytest.mark.parametrize("name", ["he__cd31", pytest.param("he__ki67", marks=pytest.mark.slow)])
def test_the_lesion_is_aligned_nearly_as_its_landmarks_allow(data: Path, name: str) -> None:
    """The sections differ by more than an affine map: even the one fitted to the landmarks leaves an error."""
    row = row_of(data, f"cima_lesion3/{name}")
    fixed, moving = (pixels(data / row[side], rgb=False) for side in ("fixed", "moving"))
    points, targets = landmarks(data, row)
    homogeneous = np.c_[points, np.ones(len(points))]
    fitted = homogeneous @ np.linalg.lstsq(homogeneous, targets, rcond=None)[0]
    best = median_rtre(fitted, targets, moving)
    result = register(fixed, moving)
    found = median_rtre(result.to_moving(points), targets, moving)
    assert found <= AFFINE_BAR * best, f"median rTRE {found:.5f} is {found / best:.2f} times the best affine fit's {best:.5f}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_rigid_motion_between_t1_and_t2_of_a_brain_is_found(data: Path, seed: int) -> None:
    """8 degrees about some axis through the centre and 10 voxels in some direction."""
    row = row_of(data, "stroke3d/T1_T2")
    t1, t2 = (read_image(data / row[side]).array for side in ("fixed", "moving"))
    grid = Grid.regular(t1.shape)
    motion = rigid(np.random.default_rng(seed), math.radians(8), 10.0)
    middle = translation(*grid.centre.tolist()).numpy()
    truth = middle @ motion @ np.linalg.inv(middle)
    moved = resample(t2, MatrixTransform(np.linalg.inv(truth)), grid, grid)
    result = register(t1, moved, transform="rigid", seed=seed)
    brain = np.argwhere(t1 > 0)[:, ::-1].astype(float)
    distances = np.linalg.norm(result.to_moving(brain) - (brain @ truth[:3, :3].T + truth[:3, 3]), axis=1)
    assert distances.mean() <= BRAIN_BAR, f"mean error {distances.mean():.3f} voxels, bar {BRAIN_BAR}\n{result}"


def rigid(random: np.random.Generator, angle: float, length: float) -> np.ndarray:
    """A rotation by `angle` about a random axis, then a shift of `length` in a random direction. shape: (4, 4)"""
    basis, _ = np.linalg.qr(random.normal(size=(3, 3)))
    basis[:, 0] *= np.linalg.det(basis)
    motion = np.eye(4)
    motion[:3, :3] = basis @ rotation(3, angle)[:3, :3].numpy() @ basis.T
    direction = random.normal(size=3)
    motion[:3, 3] = length * direction / np.linalg.norm(direction)
    return motion


FROM_ANYWHERE = {  # pairs of unlike kinds, and how far the moving image is turned: degrees
    "cima_lesion3/he__cd31": 137,
    "srif/Optical-Infrared_1": 251,
    "starain_remote/Infrared_Optical_IO3": 66,
    "starain_retina/Retina_Retina_80": 180,
    "starain_vision/VIS_IR_VIS_IR_5": 90,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_ANYWHERE)
def test_a_turned_pair_is_aligned_without_a_hint(data: Path, name: str) -> None:
    """The moving image is turned on a black canvas that holds all of it; median error below 1 % of its diagonal."""
    row = row_of(data, name)
    fixed, moving = (read_image(data / row[side]).array for side in ("fixed", "moving"))
    points, targets = landmarks(data, row)
    side = math.ceil(math.hypot(*moving.shape[:2]))
    here, canvas = Grid.regular(moving.shape[:2]), Grid.regular((side, side))
    turn = rotation(2, math.radians(FROM_ANYWHERE[name]))
    moved_from_moving = (translation(*canvas.centre.tolist()) @ turn @ translation(*(-here.centre).tolist())).numpy()
    moved = resample(moving, MatrixTransform(np.linalg.inv(moved_from_moving)), here, canvas)
    targets = targets @ moved_from_moving[:2, :2].T + moved_from_moving[:2, 2]
    result = register(fixed, moved)
    error = median_rtre(result.to_moving(points), targets, moving)
    assert error < 0.01, f"median rTRE {error:.4f} of the diagonal\n{result}"


MEMORY = """
import numpy as np, torch
import drmime
torch.set_num_threads(2)
random = np.random.default_rng(0)
fixed = np.kron(random.integers(0, 256, (64, 64, 3), dtype=np.uint8), np.ones((32, 32, 1), np.uint8))
moving = np.roll(255 - fixed, (15, -20), (0, 1))
assert fixed.shape == (2048, 2048, 3)
drmime.register(fixed, moving, device="cpu", schedule={"steps": 20})
status = open("/proc/self/status").read()  # not getrusage, whose peak counts that of the process that started this one
print(1024 * int(status.split("VmHWM:")[1].split()[0]))
"""


def test_two_colour_images_of_2048_pixels_a_side_take_little_memory() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is read from /proc, which this system lacks")
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    gigabytes = int(done.stdout) / 1e9
    assert gigabytes < MEMORY_BAR, f"the process took {gigabytes:.2f} GB at its largest, bar {MEMORY_BAR} GB"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("metric", METRICS)
def test_cpu_and_gpu_give_the_same_matrix(metric: str, ndim: int) -> None:
    fixed, moving, _, _ = problem("affine", ndim)
    options = {"metric": metric, "schedule": {"steps": 60}}
    cpu, gpu = (
        register(fixed, contrast(moving), device={"name": name, "dtype": "float64"}, **options) for name in ("cpu", "cuda")
    )
    assert np.abs(cpu.matrix - np.eye(ndim + 1)).max() > 1e-3
    assert np.abs(cpu.matrix - gpu.matrix).max() < GPU_TOLERANCE * np.abs(cpu.matrix).max()
    assert np.allclose(cpu.history, gpu.history, atol=GPU_TOLERANCE)
