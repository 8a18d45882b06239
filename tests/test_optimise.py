"""The loop, on image functions moved by a known matrix: every metric, group and dimension through one body.

The functions are sums of plane waves, whose intensities are distributed alike everywhere. That matters: without noise, and
with bins or a network of finite resolution, mutual information also grows with the spread of the moving intensities that
are in view, and on a scene of a few blobs it gains from a zoom what it loses from a pixel of misalignment.
"""

import functools
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import Function, photograph
from torch import Tensor

import drmime
from drmime import InputError, Observer, Registration, Step, Stop
from drmime.compare.mine import BOUNDS
from drmime.geometry import lie
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.parts import METRICS
from drmime.schedule import FINAL_RATE, cosine, stage_of
from drmime.transform.linear import matrix_of

SHAPES = {2: (88, 100), 3: (40, 44, 48)}
MOTION = 0.02  # of each coefficient: about 1 pixel at the edge
BARS = {"mine": 0.25}  # pixels of mean error; other metrics 0.1
SAME_CONTRAST = ("ncc", "mse", "alpha_amd")  # the others see the moving image through a contrast that is not monotone

register = functools.partial(drmime.register, start=None)  # motions are small: the given start will do


def problem(group: str, ndim: int, spacing: list[float] | None = None) -> tuple[np.ndarray, np.ndarray, Tensor, Grid]:
    """Two arrays of one scene, the moving one moved by an element of the group, and its matrix."""
    grid = Grid.regular(SHAPES[ndim], spacing)
    basis = torch.stack(list(lie.generators(group, ndim).values()))
    signs = torch.tensor([1.0, -0.7, 0.8, -0.6, 0.9], dtype=torch.float64).repeat(4)[: len(basis)]
    frame = grid.world_from_frame
    truth = frame @ lie.exp(MOTION * signs, basis) @ torch.linalg.inv(frame)
    what = waves(grid)
    fixed = photograph(what, grid=grid)
    moving = photograph(what, grid=grid, scene_from_world=torch.linalg.inv(truth))
    return fixed.data[0, 0].numpy(), moving.data[0, 0].numpy(), truth / truth[-1, -1], grid


def waves(grid: Grid, count: int = 24) -> Function:
    """Plane waves of all directions, 8 to 20 pixels long."""
    random = torch.Generator().manual_seed(0)
    direction = torch.randn(count, grid.ndim, generator=random, dtype=torch.float64)
    length = float(grid.spacing.max()) * 8 * 2.5 ** torch.rand(count, 1, generator=random, dtype=torch.float64)
    vectors = 2 * math.pi * direction / direction.norm(dim=1, keepdim=True) / length
    phases = 2 * math.pi * torch.rand(count, generator=random, dtype=torch.float64)
    return lambda points: torch.sin(points.double() @ vectors.T + phases).sum(-1)


def contrast(values: np.ndarray) -> np.ndarray:
    """Another modality: bright becomes dark, and the middle is brighter than either."""
    scaled = (values - values.min()) / np.ptp(values)
    return np.cos(2.2 * scaled) + 0.3 * scaled


def error(result: Registration, truth: Tensor, grid: Grid) -> float:
    """Mean distance in pixels of the fixed points where both maps send them, away from the border."""
    points, _ = apply(grid.world_from_unit, 0.8 * (torch.rand(500, grid.ndim, dtype=torch.float64) * 2 - 1))
    true, _ = apply(truth, points)
    return float((torch.as_tensor(result.to_moving(points)) - true).norm(dim=-1).mean() / grid.spacing.min())


RECOVERED = [  # in three dimensions every metric with one group and every group with one metric; the others are slow
    pytest.param(metric, group, ndim, marks=[pytest.mark.slow] if ndim == 3 and metric != "mine" and group != "affine" else [])
    for metric, group, ndim in itertools.product(METRICS, lie.GROUPS, (2, 3))
]


@pytest.mark.parametrize(("metric", "group", "ndim"), RECOVERED)
def test_a_small_known_motion_is_recovered(metric: str, group: str, ndim: int) -> None:
    fixed, moving, truth, grid = problem(group, ndim)
    if metric not in SAME_CONTRAST:
        moving = contrast(moving)
    result = register(
        fixed, moving, transform=group, metric=metric, start={"given": "identity", "refine": False}, schedule={"steps": 250}
    )
    assert error(result, truth, grid) < BARS.get(metric, 0.1), result
    assert result.success


@pytest.mark.parametrize("bound", BOUNDS)
def test_every_bound_of_mine_recovers_it(bound: str) -> None:
    fixed, moving, truth, grid = problem("affine", 2)
    negatives = 4 if bound == "infonce" else 1
    result = register(fixed, contrast(moving), metric={"name": "mine", "bound": bound, "negatives": negatives})
    assert error(result, truth, grid) < 0.25, result


@pytest.mark.parametrize("sampler", ["uniform", "jittered", "all", "edges"])
def test_every_sampler_recovers_it(sampler: str, ndim: int) -> None:
    fixed, moving, truth, grid = problem("rigid", ndim)
    result = register(fixed, moving, transform="rigid", metric="ncc", sampler=sampler, schedule={"steps": 150})
    assert error(result, truth, grid) < 0.1, result


@pytest.mark.parametrize(
    "options", [{"transform": {"name": "affine", "finest_vector": True}}, {"levels": 1}, {"device": {"dtype": "float64"}}]
)
def test_variants_of_the_loop_recover_it(options: dict) -> None:
    fixed, moving, truth, grid = problem("affine", 2)
    result = register(fixed, contrast(moving), metric="mattes", **options)
    assert error(result, truth, grid) < 0.1, result


def test_unequal_spacing_is_part_of_the_geometry(ndim: int) -> None:
    spacing = [2.0, 1.0, 1.2][:ndim]
    fixed, moving, truth, grid = problem("rigid", ndim, spacing)
    options = {
        "fixed_spacing": spacing,
        "moving_spacing": spacing,
        "transform": "rigid",
        "metric": "ncc",
        "schedule": {"steps": 150},
    }
    result = register(fixed, moving, **options)
    assert error(result, truth, grid) < 0.1, result


def test_images_of_other_sizes_and_spacings_meet_in_the_world() -> None:
    fixed, _, truth, grid = problem("rigid", 2)
    finer = Grid.regular((150, 190), (0.55, 0.55))
    moving = photograph(waves(grid), grid=finer, scene_from_world=torch.linalg.inv(truth)).data[0, 0].numpy()
    result = register(
        fixed,
        moving,
        moving_spacing=(0.55, 0.55),
        transform="rigid",
        metric="ncc",
        start={"given": "identity", "refine": False},
    )
    assert error(result, truth, grid) < 0.1, result


class TestStop:
    def images(self) -> tuple[np.ndarray, np.ndarray]:
        fixed, moving, _, _ = problem("translation", 2)
        return fixed, moving

    def test_a_transform_that_stands_still_has_converged(self) -> None:
        fixed, _ = self.images()
        result = register(
            fixed, fixed, transform="translation", metric="mse", sampler="all", schedule={"steps": 2000, "rate": 1e-4}
        )
        assert result.stop is Stop.CONVERGED
        assert len(result.history) < 2000

    def test_images_that_do_not_overlap_at_the_start(self) -> None:
        far = np.array([[1, 0, 500], [0, 1, 0], [0, 0, 1.0]])
        result = register(*self.images(), start={"given": far, "refine": False})
        assert result.stop is Stop.NO_OVERLAP
        assert not result.success
        assert result.overlap == 0
        assert np.array_equal(result.matrix, far)

    def test_overlap_lost_on_the_way_is_said(self) -> None:
        """MSE of a bright fixed image against a dark moving one with one bright corner: it runs out of the frame."""
        ramp = np.linspace(0, 1, 64) ** 3
        fixed = np.ones((64, 64)) + 0.01 * np.random.default_rng(0).random((64, 64))
        fixed[:, :3] -= 1
        moving = np.tile(ramp, (64, 1))
        result = register(
            fixed, moving, transform="translation", metric="mse", schedule={"rate": 0.05, "least_overlap": 0.6, "steps": 400}
        )
        assert result.stop is Stop.OVERLAP_LOST
        assert not result.success

    def test_a_score_that_is_no_number_is_said(self) -> None:
        from drmime.compare.moments import MSE

        class Broken(MSE):
            def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
                return super().score(fixed, moving, weight) * float("nan")

        result = register(*self.images(), metric=Broken())
        assert result.stop is Stop.NOT_FINITE
        assert np.isfinite(result.matrix).all()

    def test_all_steps_taken(self) -> None:
        result = register(*self.images(), metric="ncc", schedule={"steps": 20})
        assert result.stop is Stop.STEPS
        assert result.history.shape == (20, result.settings["levels"])

    def test_every_reason_is_a_sentence(self) -> None:
        for reason in Stop:
            assert reason.value[0].isupper()
            assert reason.value.endswith(".")


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_a_pair_gives_in_a_batch_what_it_gives_alone(metric: str, ndim: int) -> None:
    first = problem("rigid", ndim)[:2]
    second = problem("translation", ndim)[:2]
    options = {"transform": "rigid", "metric": metric, "schedule": {"steps": 40}, "seed": 3, "device": {"dtype": "float64"}}
    options |= {"start": "none"}  # a search does not depend on the metric; `test_registration` has one in a batch
    together = register([first[0], second[0]], [first[1], second[1]], **options)
    for result, (fixed, moving) in zip(together, (first, second), strict=True):
        alone = register(fixed, moving, **options)
        assert np.allclose(result.matrix, alone.matrix, atol=1e-6)
        assert np.allclose(result.history, alone.history, atol=1e-6)


def test_a_mask_of_one_pair_does_not_touch_another() -> None:
    fixed, moving, _, _ = problem("translation", 2)
    mask = np.zeros(fixed.shape)
    mask[:, 30:] = 1
    options = {"transform": "translation", "metric": "ncc", "schedule": {"steps": 30}, "device": {"dtype": "float64"}}
    free, _ = register([fixed, fixed], [moving, moving], fixed_mask=[None, mask], **options)
    assert np.allclose(free.matrix, register(fixed, moving, **options).matrix, atol=1e-9)


def test_a_mask_too_narrow_for_the_coarse_levels_does_not_hold_the_transform_still() -> None:
    fixed, moving, truth, grid = problem("translation", 2)
    mask = np.zeros(fixed.shape)
    mask[8:80, 40:46] = 1
    options = {"transform": "translation", "metric": "ncc", "start": {"given": "identity", "refine": False}}
    result = register(fixed, moving, fixed_mask=mask, sampler="all", **options)  # few points: their choice would be the error
    assert error(result, truth, grid) < 0.3, result


def test_the_modes_of_the_caller_do_not_matter() -> None:
    fixed, moving, _, _ = problem("translation", 2)
    options = {"transform": "translation", "metric": "ncc", "schedule": {"steps": 5}}
    expected = register(fixed, moving, **options).matrix
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu")):
        with mode:
            assert np.array_equal(register(fixed, moving, **options).matrix, expected)


def test_a_pair_that_fails_leaves_the_others_of_its_batch_alone() -> None:
    fixed, moving, truth, grid = problem("translation", 2)
    far = np.array([[1, 0, 500], [0, 1, 0], [0, 0, 1.0]])
    failed, good = register(
        [fixed, fixed],
        [moving, moving],
        start={"given": [far, np.eye(3)], "refine": False},
        transform="translation",
        metric="ncc",
    )
    assert failed.stop is Stop.NO_OVERLAP
    assert len(failed.history) == 1
    assert good.success
    assert error(good, truth, grid) < 0.1


def test_the_best_is_kept_when_the_end_is_worse() -> None:
    """From step 100 on the metric wants the opposite and scores lower: the transform leaves, the result stays."""
    from drmime.compare.moments import NCC

    class Fickle(NCC):
        calls = 0

        def score(self, *values: Tensor) -> Tensor:
            self.calls += 1
            score = super().score(*values)
            return score if self.calls < 100 else -score - 1

    fixed, moving, truth, grid = problem("translation", 2)
    seen: list[Tensor] = []
    options = {
        "transform": "translation",
        "start": {"given": "identity", "refine": False},
        "schedule": {"steps": 200, "rate": 0.005},
    }
    result = register(
        fixed, moving, metric=Fickle(), observers=[lambda step: seen.append(matrix_of(step.transforms[0]))], **options
    )
    assert error(result, truth, grid) < 0.2
    assert float((seen[-1] - truth).abs().max()) > 1


def test_ctrl_c_keeps_what_there_is() -> None:
    from drmime import Interrupted

    def press(step: Step) -> None:
        if step.index == 30:
            raise KeyboardInterrupt

    fixed, moving, _, _ = problem("translation", 2)
    with pytest.raises(Interrupted) as caught:
        register(fixed, moving, metric="ncc", observers=[press])
    (result,) = caught.value.registrations
    assert result.stop is Stop.INTERRUPTED
    assert len(result.history) == 31


def test_the_rate_falls_by_half_a_cosine() -> None:
    assert cosine(-10, 100) == cosine(0, 100) == 1
    assert cosine(50, 100) == pytest.approx((1 + FINAL_RATE) / 2)
    assert cosine(100, 100) == pytest.approx(FINAL_RATE)


def test_weights_of_levels_choose_what_is_seen() -> None:
    """Only the coarsest level counts: the finest may as well be noise."""
    fixed, moving, truth, grid = problem("translation", 2)
    noise = np.random.default_rng(0).normal(0, np.std(fixed), fixed.shape)
    options = {"transform": "translation", "metric": "ncc", "levels": 3}
    result = register(fixed + noise, moving, schedule={"level_weights": [0, 0, 1]}, **options)
    assert error(result, truth, grid) < 0.3
    with pytest.raises(InputError, match="level_weights"):
        register(fixed, moving, schedule={"level_weights": [0, 0, 0]}, **options)


def test_levels_can_be_taken_one_after_the_other() -> None:
    fixed, moving, truth, grid = problem("affine", 2)
    stages = np.eye(3)[::-1]
    seen: list[Step] = []
    result = register(
        *(fixed, moving),
        **{"transform": "affine", "metric": "ncc", "levels": 3, "observers": [seen.append]},
        schedule={"steps": 90, "rate": 0.005, "level_weights": stages},
    )
    assert error(result, truth, grid) < 0.3
    assert result.stop is Stop.STEPS  # standing still ends a run in its last stage alone
    for index, total in enumerate(result.totals):
        assert total == pytest.approx(result.history[index, 2 - index * 3 // 90])
    assert [float(step.total[0]) for step in seen] == pytest.approx(result.totals.tolist())


def test_the_best_of_an_earlier_stage_does_not_stand_against_a_later_one() -> None:
    """The coarsest level agrees best of all; still the result is what the finest, the last, has found."""
    fixed, moving, truth, grid = problem("translation", 2)
    options = {"transform": "translation", "metric": "ncc", "levels": 3, "sampler": "all"}
    weights = {"level_weights": [[0, 0, 1], [1, 0, 0]]}
    staged = register(fixed, moving, schedule={"steps": 60, "rate": 0.005} | weights, **options)
    coarse = register(fixed, moving, schedule={"steps": 30, "rate": 0.005, "level_weights": [0, 0, 1]}, **options)
    assert error(staged, truth, grid) < error(coarse, truth, grid)


@pytest.mark.parametrize(("steps", "stages"), [(10, 1), (10, 3), (2, 3), (1, 1)])
def test_stages_are_equal_parts_in_order(steps: int, stages: int) -> None:
    found = [stage_of(index, steps, stages) for index in range(-3, steps)]
    assert found[:4] == [0] * 4
    assert found == sorted(found)
    assert max(found) <= stages - 1
    counts = [found[3:].count(stage) for stage in range(stages)]
    assert max(counts) - min(counts) <= 1


def test_equal_weights_may_be_written_out() -> None:
    fixed, moving, _, _ = problem("translation", 2)
    options = {"transform": "translation", "metric": "ncc", "levels": 2}
    weights = (None, [[2, 2], [1, 1]])
    plain, written = (register(fixed, moving, schedule={"steps": 5, "level_weights": one}, **options) for one in weights)
    assert np.array_equal(plain.history, written.history)


def test_entries_of_the_matrix_can_be_optimised_directly() -> None:
    fixed, moving, truth, grid = problem("affine", 2)
    direct = {"name": "affine", "parametrisation": "direct"}
    result = register(fixed, moving, transform=direct, metric="ncc", levels=3, schedule={"rate": 0.005, "steps": 150})
    assert error(result, truth, grid) < 0.3


class StopsAt(Observer):
    """Presses Ctrl-C while starts are searched for, at the first word that says so."""

    def __init__(self, word: str) -> None:
        self.word = word

    def starting(self, what: str, share: float) -> None:
        if self.word in what:
            raise KeyboardInterrupt


def test_ctrl_c_while_starts_are_searched_for_keeps_the_best_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch those that were found, the one that was searched for, and the given starts of the others."""
    from drmime import Interrupted

    monkeypatch.setattr("drmime.start.inputs.AT_ONCE", {"cpu": 1})
    fixed, moving, truth, grid = problem("rigid", 2)
    options = {"transform": "rigid", "start": {"given": "identity", "propose": "auto"}, "device": "cpu"}
    with pytest.raises(Interrupted) as caught:
        register([fixed] * 3, [moving] * 3, observers=[StopsAt("pair 2 of 3")], **options)
    found, *others = caught.value.registrations
    assert [one.stop for one in (found, *others)] == [Stop.INTERRUPTED] * 3
    assert len(found.history) == 0
    assert error(found, truth, grid) < 1
    for one in others:
        assert one.matrix.tolist() == np.eye(3).tolist()
        assert one.overlap > 0.5
    found.save(tmp_path / "found.json")
    assert Registration.load(tmp_path / "found.json").matrix.tolist() == found.matrix.tolist()
