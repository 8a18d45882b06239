"""Landmarks as soft constraints: the penalty, contradictions, and their pull in a registration."""

import numpy as np
import pytest
import torch
from test_elastic import bent_pair
from textures import busy

from drmime import InputError, register
from drmime.geometry.grid import Grid
from drmime.soft import SoftLandmarks
from drmime.transform.linear import LieGroup

POINTS = [[5.0, 6], [30, 8], [12, 33], [40, 30]]


def test_a_landmark_missed_by_its_accuracy_costs_half_a_nat(ndim: int) -> None:
    fixed, moving = Grid.regular((40, 50, 60)[-ndim:]), Grid.regular((44, 30, 50)[-ndim:], [2.0] * ndim)
    points = 20 * np.random.default_rng(0).random((6, ndim))
    start = torch.eye(ndim + 1, dtype=torch.float64)
    start[:-1, :-1] *= 2  # pixels have the same numbers in both images
    start[0, -1] = 3 * 2.0  # but for three pixels along x
    pull = SoftLandmarks(points, points, accuracy=3.0, weight=0.7).on(fixed, moving)
    model = LieGroup("rigid").model(torch.stack([start, start]), fixed, moving)
    assert pull.between(fixed, moving, torch.device("cpu"))(model).detach().numpy() == pytest.approx([0.35, 0.35])


@pytest.mark.parametrize(
    ("moving", "words"),
    [
        ([*POINTS[:3], [40.0, 300]], "contradict"),
        ([*POINTS[:3], POINTS[0]], "contradict"),
        (POINTS[:3], "as many fixed as moving"),
        ([[1.0, 2, 3]] * 4, "of one dimension"),
        ([[np.nan, 1]] * 4, "finite"),
        ("none.csv", "none.csv"),
    ],
)
def test_bad_landmarks_are_one_clear_error(moving: object, words: str) -> None:
    pixels = np.random.default_rng(0).random((40, 44))
    fixed = [*POINTS[:3], [30.5, 8]] if words == "contradict" and moving[-1] != POINTS[0] else POINTS  # type: ignore[index]
    with pytest.raises(InputError, match=words):
        register(pixels, pixels, landmarks={"fixed": fixed, "moving": moving})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accuracy": 0}, "accuracy"),
        ({"weight": -1}, "weight"),
        ({"sigma": 1}, "unknown option"),
    ],
)
def test_a_bad_option_is_one_clear_error(options: dict[str, float], words: str) -> None:
    pixels = np.random.default_rng(0).random((40, 44))
    with pytest.raises(InputError, match=words):
        register(pixels, pixels, landmarks={"fixed": POINTS, "moving": POINTS, **options})


VOLUME = {"fixed": [[1.0, 2, 3]] * 4, "moving": [[1.0, 2, 3]] * 4}


@pytest.mark.parametrize("landmarks", [{"fixed": POINTS}, [POINTS, POINTS], VOLUME], ids=["one", "list", "volume"])
def test_landmarks_of_another_form_are_refused(landmarks: object) -> None:
    pixels = np.random.default_rng(0).random((40, 44))
    with pytest.raises(InputError, match="landmarks"):
        register(pixels, pixels, landmarks=landmarks)


@pytest.mark.parametrize("count", [4, 6, 10, 30])
@pytest.mark.parametrize("far", [9000, 300000])
def test_the_wrong_landmark_is_named(count: int, far: float) -> None:
    random = np.random.default_rng(0)
    fixed = random.uniform(0, 400, (count, 2))
    moving = fixed + random.normal(0, 2, (count, 2))
    moving[1] = far
    with pytest.raises(InputError, match=r"row 1 \(from 0\) contradicts others"):
        SoftLandmarks(fixed, moving).on(Grid.regular((400, 400)), Grid.regular((400, 400)))


def test_lists_of_images_have_no_landmarks() -> None:
    pixels = np.random.default_rng(0).random((40, 44))
    with pytest.raises(InputError, match="one by one"):
        register([pixels], [pixels], landmarks={"fixed": POINTS, "moving": POINTS})


def test_landmarks_that_are_warped_and_rotated_do_not_contradict_each_other() -> None:
    random = np.random.default_rng(3)
    fixed = random.uniform(0, 400, (200, 2))
    moving = 3 * fixed[:, ::-1] * [1, -1] + random.normal(0, 6, (200, 2))
    SoftLandmarks(fixed, moving, accuracy=6).on(Grid.regular((400, 400)), Grid.regular((1200, 1200)))


def test_landmarks_decide_where_the_images_say_nothing() -> None:
    random = np.random.default_rng(0)
    fixed, moving = random.random((2, 64, 64))
    moved = np.add(POINTS, [4, -2])
    given = {"fixed": POINTS, "moving": moved, "weight": 20.0}
    schedule = {"steps": 200, "rate": 0.005}
    result = register(fixed, moving, transform="translation", landmarks=given, start=None, levels=1, schedule=schedule)
    assert np.abs(result.to_moving(POINTS) - moved).max() < 0.5


def test_noise_of_landmarks_is_no_evidence_of_a_deformation() -> None:
    grid = Grid.regular((64, 64))
    scene = busy(grid, seed=3)(grid.index_points()).view(64, 64).numpy()
    random = np.random.default_rng(1)
    points = random.uniform(5, 58, (40, 2))
    given = {"fixed": points, "moving": points + random.normal(0, 1, points.shape), "accuracy": 1.0}
    stages = ["translation", {"name": "velocity", "steps": 100, "rate": 0.005, "spacing": 8.0}]
    result = register(scene, np.exp(-scene), transform=stages, landmarks=given, start=None, levels=2)
    assert any("no evidence" in note for note in result.notes)
    assert result.similarity > 0  # without the penalty
    assert result.inverse().settings["landmarks"]["fixed"] == result.settings["landmarks"]["moving"]


def test_a_deformation_that_only_landmarks_show_is_kept() -> None:
    fixed, _, truth = bent_pair(side=64)
    unrelated = np.random.default_rng(0).random((64, 64))
    points = torch.as_tensor(np.random.default_rng(1).uniform(5, 58, (25, 2)))
    given = {"fixed": points, "moving": truth(points), "weight": 20.0}
    stages = ["translation", {"name": "velocity", "steps": 150, "rate": 0.01, "spacing": 8.0}]
    result = register(fixed, unrelated, transform=stages, landmarks=given, start=None, levels=1)
    missed = np.linalg.norm(result.to_moving(points) - truth(points).numpy(), axis=1)
    before = (truth(points) - points).norm(dim=1)
    assert missed.mean() < 0.4 * float(before.mean())
