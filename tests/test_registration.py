"""`register` from the outside: what it takes, what it records, and that all it cannot use is refused in one sentence."""

import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from problems import translation
from test_optimise import contrast, error, problem
from torch import Tensor

import drmime
from drmime import Device, InputError, Observer, Registration, Schedule, Start, Step, Stop
from drmime.compare.moments import NCC
from drmime.image.image import Image
from drmime.parts import METRICS, PROPOSERS, SAMPLERS
from drmime.start.propose.moments import Moments
from drmime.start.propose.simple import Mass
from drmime.transform.linear import matrix_of

register = functools.partial(drmime.register, start=None)  # what is not about starts needs no search for them

QUICK = {"metric": "ncc", "schedule": {"steps": 3}}
SHIFT = {"schedule": {"rate": 0.005, "steps": 120}, "metric": "ncc", "transform": "translation"}
FAR = np.array([[1, 0, 4], [0, 1, -3], [0, 0, 1.0]])


def images(side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Two textured images of one scene, one pixel apart."""
    rows, columns = np.mgrid[:side, : side + 1]
    scene = np.sin(rows / 4) + np.cos(columns / 5 + rows / 9) + np.sin(rows * columns / 200)
    return scene[:, 1:].copy(), scene[:, :-1].copy()


def scaled(values: np.ndarray, kind: str) -> np.ndarray:
    """Values that use the range of an integer dtype; bool is bright and dark."""
    unit = (values - values.min()) / np.ptp(values)
    if kind == "bool":
        return unit > 0.5
    return (unit * (np.iinfo(kind).max if np.dtype(kind).kind in "ui" else 1)).astype(kind)


# ---- what it takes


@pytest.mark.parametrize("kind", ["bool", "uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_every_kind_of_pixel_is_aligned(make: Callable, kind: str) -> None:
    fixed, moving, truth, grid = problem("translation", 2)
    result = register(make(scaled(fixed, kind)), make(scaled(moving, kind)), **SHIFT)
    assert error(result, truth, grid) < 0.1, result


@pytest.mark.slow
def test_the_opacity_of_an_opaque_picture_changes_nothing() -> None:
    """As PNG has it: a channel of one value, far from 0."""
    fixed, moving = (np.stack([scaled(image, "uint8")] * 3 + [np.full(image.shape, 255, np.uint8)], -1) for image in images())
    with_, without = register(fixed, moving, **QUICK), register(fixed[..., :3], moving[..., :3], **QUICK)
    assert np.allclose(with_.matrix, without.matrix, atol=0.1)
    assert drmime.register(fixed, moving, device="cpu").success


@pytest.mark.parametrize("path", [str, Path])
def test_files_are_aligned_as_their_pixels_are(path: type, tmp_path: Path) -> None:
    pixels = [scaled(image, "uint8") for image in images()]
    names = [path(tmp_path / name) for name in ("fixed.png", "moving.tif")]
    for name, array in zip(names, pixels, strict=True):
        iio.imwrite(name, array)
    assert np.array_equal(register(*names, **QUICK).matrix, register(*pixels, **QUICK).matrix)


def coloured(gray: np.ndarray) -> np.ndarray:
    """Three channels, of which the middle is the negative."""
    return np.stack([gray, -gray, 0.5 * gray], -1)


@pytest.mark.parametrize(
    ("fixed_of", "moving_of"), [(coloured, np.asarray), (np.asarray, coloured), (coloured, coloured)], ids=["c-g", "g-c", "c-c"]
)
def test_colour_and_gray_meet_in_mine(fixed_of: Callable, moving_of: Callable) -> None:
    fixed, moving, truth, grid = problem("translation", 2)
    result = register(fixed_of(fixed), moving_of(contrast(moving)), transform="translation")
    assert error(result, truth, grid) < 0.25, result


def test_the_place_of_the_channels_does_not_matter() -> None:
    fixed, moving = (coloured(image) for image in images())
    reference = register(fixed, moving, **QUICK).matrix
    first = [np.moveaxis(image, -1, 0) for image in (fixed, moving)]
    middle = [np.moveaxis(image, -1, 1) for image in (fixed, moving)]
    assert np.array_equal(register(*map(torch.as_tensor, first), **QUICK).matrix, reference)
    assert np.array_equal(register(*first, channel_axis=0, **QUICK).matrix, reference)
    assert np.array_equal(register(*middle, channel_axis=1, **QUICK).matrix, reference)


def test_images_of_unequal_size_are_aligned() -> None:
    fixed, moving, truth, grid = problem("translation", 2)
    cut = moving[3:-9, 5:-2]
    result = register(fixed, cut, start={"given": "identity", "refine": False}, **SHIFT)
    assert error(result, translation(-5.0, -3.0) @ truth, grid) < 0.1, result
    assert result.moving_grid.shape == cut.shape
    assert result.fixed_grid.shape == fixed.shape


def test_a_free_list_of_generators_moves_only_along_these() -> None:
    fixed, moving = images()
    result = register(
        fixed,
        moving,
        transform={"name": "lie", "generators": ["translation_x", "scale"]},
        start={"given": "identity", "refine": False},
        metric="ncc",
        schedule={"steps": 40},
    )
    linear = result.matrix[:2, :2]
    assert linear[0, 0] == pytest.approx(linear[1, 1], abs=1e-12)
    assert linear[0, 1] == linear[1, 0] == 0
    assert result.to_moving([[31.5, 31.5]])[0, 1] == pytest.approx(31.5, abs=1e-9)
    assert abs(result.to_moving([[31.5, 31.5]])[0, 0] - 31.5) > 0.3


def test_a_generator_of_ones_own_is_as_good_as_a_named_one() -> None:
    fixed, moving = images()
    own = {"to the right": np.array([[0, 0, 1], [0, 0, 0], [0, 0, 0.0]])}
    assert np.array_equal(
        register(fixed, moving, transform={"name": "lie", "generators": own}, **QUICK).matrix,
        register(fixed, moving, transform={"name": "lie", "generators": ["translation_x"]}, **QUICK).matrix,
    )


@pytest.mark.parametrize(
    "spec", ["ncc", {"name": "ncc"}, NCC(), "drmime.compare.moments:NCC", {"name": "drmime.compare.moments:NCC"}], ids=str
)
def test_a_metric_may_be_a_name_a_mapping_an_import_or_an_object(spec: Any) -> None:
    fixed, moving = images()
    assert np.array_equal(
        register(fixed, moving, metric=spec, schedule={"steps": 5}).matrix,
        register(fixed, moving, metric="ncc", schedule={"steps": 5}).matrix,
    )


MADE: dict[str, Callable[[], Any]] = {
    **{f"metric {name}": make for name, make in METRICS.items()},
    **{f"sampler {name}": make for name, make in SAMPLERS.items()},
    **{f"start {name}": make for name, make in PROPOSERS.items() if name not in ("landmarks", "sift")},
}


def state(part: Any) -> str:
    """All that an object holds, its tensors with every digit."""
    held = vars(part).items() if hasattr(part, "__dict__") else ()
    return repr({name: value.tolist() if isinstance(value, Tensor) else state(value) or value for name, value in held})


@pytest.mark.parametrize("name", MADE)
def test_a_part_is_left_as_it_was_and_serves_again(name: str) -> None:
    """It says what is wanted; what a run makes of it belongs to that run."""
    fixed, moving = images()
    kind = name.partition(" ")[0]
    part = MADE[name]()
    before = state(part)
    options = {"schedule": {"steps": 3}, "metric": "ncc", "start": None} | {kind: part}
    first, again = (register(fixed, moving, **options) for _ in range(2))
    assert state(part) == before
    assert np.array_equal(first.matrix, again.matrix)


def test_options_of_parts_arrive() -> None:
    fixed, moving = images()
    metric = {"name": "mine", "hidden": 8, "warmup": 4}
    result = register(fixed, moving, metric=metric, sampler={"name": "jittered", "points": 300}, schedule={"steps": 3})
    assert len(result.history) == 4 + 3
    assert result.settings["metric"] == metric
    assert result.settings["sampler"] == {"name": "jittered", "points": 300}


# ---- masks


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("as_path", [False, True], ids=["array", "path"])
def test_what_a_mask_covers_does_not_disturb(side: str, as_path: bool, tmp_path: Path) -> None:
    """Half of one image is another scene, which moved the other way; without the mask it wins."""
    fixed, moving, truth, grid = problem("translation", 2)
    pair = {"fixed": fixed.copy(), "moving": moving.copy()}
    half = fixed.shape[0] // 2
    wrong = np.roll(pair["fixed" if side == "moving" else "moving"], 6, 1)[:half]
    pair[side][:half] = 20 * wrong
    mask = np.ones(fixed.shape, np.uint8)
    mask[:half] = 0
    given: Any = mask
    if as_path:
        given = tmp_path / "mask.png"
        iio.imwrite(given, 255 * mask)
    options = SHIFT | {"start": {"given": "identity", "refine": False}}
    assert error(register(pair["fixed"], pair["moving"], **options), truth, grid) > 0.5
    result = register(pair["fixed"], pair["moving"], **options, **{f"{side}_mask": given})
    assert error(result, truth, grid) < 0.1, result


def test_pixels_that_are_not_finite_are_left_out() -> None:
    fixed, moving, truth, grid = problem("translation", 2)
    fixed[10:30, 20:50], moving[-20:, :15] = np.nan, -np.inf
    result = register(fixed, moving, nan="mask", **SHIFT)
    assert error(result, truth, grid) < 0.1, result


@pytest.mark.parametrize("sampler", ["uniform", "jittered", "all", "edges"])
def test_a_mask_too_thin_for_the_coarse_levels_is_no_crash(sampler: str) -> None:
    """On the coarse levels no pixel of it is left."""
    fixed, moving = images()
    thin = np.zeros(fixed.shape)
    thin[30, 5:60] = 1
    assert isinstance(attempt(fixed, moving, fixed_mask=thin, sampler=sampler), (Registration, InputError))


# ---- seeds, starts, records


def test_the_seed_decides_every_number() -> None:
    fixed, moving = images()
    options = {"metric": {"name": "mine", "hidden": 8, "warmup": 5}, "schedule": {"steps": 10}}
    first, again, other = (register(fixed, moving, seed=seed, **options) for seed in (3, 3, 4))
    assert np.array_equal(first.matrix, again.matrix)
    assert np.array_equal(first.history, again.history)
    assert not np.array_equal(first.history, other.history)


def test_the_state_of_other_random_numbers_has_no_say() -> None:
    fixed, moving = images()
    first = register(fixed, moving, **QUICK).matrix
    torch.manual_seed(99)
    np.random.seed(99)
    before = torch.get_rng_state()
    assert np.array_equal(register(fixed, moving, **QUICK).matrix, first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("start", [FAR, FAR.tolist(), torch.as_tensor(FAR)], ids=["numpy", "list", "torch"])
def test_a_start_that_finds_no_partner_comes_back_as_it_was(start: Any) -> None:
    fixed, moving = images()
    result = register(fixed, moving, start={"given": start, "refine": False}, metric="ncc", schedule={"least_overlap": 0.999})
    assert result.stop is Stop.NO_OVERLAP
    assert np.array_equal(result.matrix, FAR)


def test_a_start_by_name_is_where_the_run_begins() -> None:
    fixed, moving = images()
    seen: list[Tensor] = []
    for name, shift in (("identity", 0.0), ("centre", -5.0)):
        register(
            fixed,
            moving[:, 10:],
            start={"given": name, "refine": False},
            observers=[lambda step: seen.append(matrix_of(step.transforms[0]))],
            **QUICK,
        )
        assert torch.allclose(seen[0], translation(shift, 0.0), atol=1e-12)
        seen.clear()


def test_any_start_stays_a_factor_of_the_result(ndim: int) -> None:
    """A rigid group from an affine start: what is left after dividing the start out is rigid."""
    fixed, moving, _, _ = problem("rigid", ndim)
    start = np.eye(ndim + 1)
    start[:ndim, :ndim] += 0.03 * np.random.default_rng(1).normal(size=(ndim, ndim))
    start[:ndim, ndim] = 1.5
    result = register(
        fixed, moving, transform="rigid", start={"given": start, "refine": False}, metric="ncc", schedule={"steps": 20}
    )
    rest = np.linalg.inv(start) @ result.matrix
    assert np.abs(rest[:ndim, :ndim] - np.eye(ndim)).max() > 1e-4
    assert np.allclose(rest[:ndim, :ndim].T @ rest[:ndim, :ndim], np.eye(ndim), atol=1e-10)
    assert np.allclose(rest[ndim], np.eye(ndim + 1)[ndim], atol=1e-12)


@pytest.mark.parametrize(("side", "asked", "used"), [(64, 99, 3), (64, 4, 3), (8, 4, 1), (64, 3, 3), (128, 4, 4)])
def test_levels_are_capped_with_a_note(side: int, asked: int, used: int) -> None:
    result = register(*images(side), levels=asked, **QUICK)
    assert result.settings["levels"] == used
    assert result.history.shape[1] == used
    notes = [note for note in result.notes if note.startswith("Levels")]
    assert bool(notes) == (asked > used)
    assert all(f"{used} instead of {asked}" in note and note in str(result) for note in notes)


def test_settings_are_recorded_and_are_plain_json() -> None:
    fixed, moving = images()
    mask = np.ones(fixed.shape)
    mask[:9] = 0
    result = register(
        fixed,
        moving,
        metric=NCC(),
        transform={"name": "lie", "generators": {"mine": np.eye(3, k=2)}},
        start={"given": torch.as_tensor(FAR), "refine": False},
        fixed_mask=mask,
        fixed_spacing=np.array([1.0, 1.0]),
        schedule={"level_weights": (1, np.float32(2), np.int64(1)), "rate": np.float64(0.01), "steps": 2},
        device=torch.device("cpu"),
    )
    kept = json.loads(json.dumps(dict(result.settings), allow_nan=False))
    expected = {
        "metric": "NCC",
        "start": {"given": FAR.tolist(), "propose": None, "refine": False},
        "schedule": {"level_weights": [1, 2, 1], "rate": 0.01, "steps": 2, "tolerance": 0.01, "least_overlap": 0.02},
        "device": {"name": "cpu", "dtype": "float32", "threads": 1, "graphs": False},
        "transform": {"name": "lie", "generators": {"mine": np.eye(3, k=2).tolist()}},
        "seed": 0,
        "levels": 3,
        "nan": "error",
    }
    expected |= {"fixed_mask": hashlib.sha256(np.packbits(mask > 0).tobytes()).hexdigest(), "moving_mask": None}
    assert {name: kept[name] for name in expected} == expected
    assert not {"fixed", "moving", "observers"} & set(kept)


# ---- where it starts


TURNED = {"metric": "ncc", "transform": "rigid", "schedule": {"steps": 3}}
SMALL_SEARCH = {"name": "search", "size": 48, "step": 30, "scales": [1.0], "count": 4}


def turned(image: np.ndarray) -> np.ndarray:
    return np.rot90(image)[1:-1].copy()


def test_by_default_a_quarter_turn_is_found() -> None:
    fixed, _ = images(96)
    result = drmime.register(fixed, turned(fixed), transform="rigid", metric="ncc", schedule={"steps": 30})
    expected = np.array([[0, 1, 0], [-1, 0, 94], [0, 0, 1.0]])
    assert np.abs(result.matrix[:2, :2] - expected[:2, :2]).max() < 0.01, result
    assert np.linalg.norm(result.to_moving([[48, 48]]) - [[48, 46]]) < 0.3
    assert result.candidates[0].source == "search"
    assert result.settings["start"] == {"given": "centre", "propose": "auto", "refine": True}


def test_candidates_are_ranked_and_hold_the_given_start() -> None:
    fixed, _ = images(96)
    result = register(fixed, turned(fixed), start={"given": FAR, "propose": ["mass", SMALL_SEARCH]}, **TURNED)
    assert result.candidates[0].evidence == max(one.evidence for one in result.candidates)
    sources = [one.source for one in result.candidates]
    assert sources.count("given") == sources.count("mass") == 1
    assert set(sources) == {"given", "mass", "search"}
    assert all(one.matrix.shape == (3, 3) for one in result.candidates)
    assert f"start: search, the best of {len(sources)}" in str(result)


def test_the_given_start_alone_is_refined_from_some_per_cent_away() -> None:
    fixed, _ = images(96)
    moving = np.roll(fixed, (5, -6), (0, 1))
    off = {"transform": "rigid", "metric": "ncc", "schedule": {"steps": 3}}
    result = register(fixed, moving, start={"given": "identity", "propose": None}, **off)
    (only,) = result.candidates
    assert only.source == "given"
    assert not np.array_equal(only.matrix, np.eye(3))
    assert np.abs(result.to_moving([[48.0, 48.0]]) - [[42, 53]]).max() < 1
    left = register(fixed, moving, start={"given": "identity", "refine": False}, **off)
    assert np.abs(left.to_moving([[48.0, 48.0]]) - [[42, 53]]).max() > 4


def test_a_start_that_is_not_refined_is_used_as_it_is() -> None:
    fixed, moving = images()
    for start in (
        {"given": FAR, "refine": False},
        Start(FAR, refine=False),
        {"given": FAR, "propose": "sift", "refine": False},
    ):
        (only,) = register(fixed, moving, start=start, **QUICK).candidates
        assert only.source == "given"
        assert np.array_equal(only.matrix, FAR)


def test_a_matrix_is_the_given_start_beside_a_search() -> None:
    fixed, _ = images(96)
    for start in (FAR, FAR.tolist(), torch.as_tensor(FAR)):
        result = register(fixed, turned(fixed), start=start, **TURNED)
        assert {one.source for one in result.candidates} == {"given", "search", "features"} - (
            set() if any(one.source == "features" for one in result.candidates) else {"features"}
        )
        assert result.settings["start"] == {"given": FAR.tolist(), "propose": "auto", "refine": True}


def test_options_may_be_objects() -> None:
    fixed, moving = images()
    options = {"schedule": {"steps": 3}, "device": {"name": "cpu", "dtype": "float64"}, "start": None}
    objects = {"schedule": Schedule(steps=3), "device": Device("cpu", "float64"), "start": Start(refine=False)}
    one, other = (drmime.register(fixed, moving, metric="ncc", **given) for given in (options, objects))
    assert np.array_equal(one.matrix, other.matrix)
    assert one.settings == other.settings


def test_a_proposer_may_be_a_function_or_an_object_and_sees_one_normalised_pair() -> None:
    fixed, moving = images()
    seen: list[Image] = []

    class Own:
        def __call__(self, fixed: Image, moving: Image) -> Tensor:
            seen.extend([fixed, moving])
            return torch.as_tensor(FAR)[None]

    result = register([fixed] * 2, [moving] * 2, start=[Mass(), Own()], **QUICK)[0]
    assert {one.source for one in result.candidates} == {"given", "Mass", "Own"}
    assert len(seen) == 4
    assert all(len(image.data) == 1 and image.data.min() == 0 and image.data.max() == 1 for image in seen)


def test_a_proposer_that_finds_nothing_leaves_the_given_start() -> None:
    result = register(*images(), start=lambda fixed, moving: torch.zeros(0, 3, 3, dtype=torch.float64), **QUICK)
    assert [one.source for one in result.candidates] == ["given"]


def test_candidates_are_saved_and_loaded(tmp_path: Path) -> None:
    fixed, _ = images(96)
    result = register(fixed, turned(fixed), start=SMALL_SEARCH, **TURNED)
    result.save(tmp_path / "result.json")
    again = Registration.load(tmp_path / "result.json")
    assert len(again.candidates) == len(result.candidates) > 1
    for one, other in zip(again.candidates, result.candidates, strict=True):
        assert (one.source, one.evidence) == (other.source, other.evidence)
        assert torch.equal(one.matrix, other.matrix)
    assert str(again) == str(result)


def test_a_pair_has_in_a_batch_the_candidates_it_has_alone() -> None:
    fixed, moving = images(96)
    pairs = [(fixed, moving), (moving, fixed[::-1].copy())]
    options = QUICK | {"start": SMALL_SEARCH, "seed": 5}
    together = register(*map(list, zip(*pairs, strict=True)), **options)
    for result, pair in zip(together, pairs, strict=True):
        alone = register(*pair, **options)
        assert [one.source for one in result.candidates] == [one.source for one in alone.candidates]
        for one, other in zip(result.candidates, alone.candidates, strict=True):
            assert one.evidence == pytest.approx(other.evidence, rel=1e-5)
            assert torch.allclose(one.matrix, other.matrix, atol=1e-6)


def test_the_seed_decides_the_candidates() -> None:
    fixed, moving = images(96)
    first, again, other = (register(fixed, moving, start=SMALL_SEARCH, seed=seed, **QUICK) for seed in (3, 3, 4))
    matrices = [torch.stack([one.matrix for one in result.candidates]) for result in (first, again, other)]
    assert torch.equal(matrices[0], matrices[1])
    assert not torch.equal(matrices[0], matrices[2])
    assert np.array_equal(first.matrix, again.matrix)


def test_the_proposers_known_are_listed() -> None:
    with pytest.raises(InputError, match="unknown start 'serch'; did you mean 'search'") as caught:
        register(*images(), start="serch", **QUICK)
    assert all(name in str(caught.value) for name in [*PROPOSERS, "auto"])


def test_an_image_made_ready_is_taken_as_it_is() -> None:
    fixed, moving = images()
    mask = np.ones(fixed.shape)
    mask[:, :9] = 0
    options = {"metric": "ncc", "schedule": {"steps": 5}}
    plain = register(fixed, moving, fixed_mask=mask, fixed_spacing=(2, 3), **options)
    ready = [drmime.as_image(fixed, mask=mask, spacing=(2, 3)), drmime.as_image(moving)]
    result = register(*ready, **options)
    assert np.array_equal(result.matrix, plain.matrix)
    assert result.settings["fixed_mask"] == plain.settings["fixed_mask"] is not None
    assert register(fixed, moving, fixed_mask=np.ones(fixed.shape), **options).settings["fixed_mask"] is None  # all count
    assert np.allclose(result.warp(ready[1])[0], plain.warp(moving), atol=1e-5)
    both = Image(torch.cat([ready[1].data] * 2), ready[1].grid)
    with pytest.raises(InputError, match="moving image: expected an Image of one, got a batch of 2"):
        register(fixed, both, **options)


def test_what_the_package_offers_is_listed() -> None:
    assert set(drmime.__all__) <= set(dir(drmime))
    assert all(getattr(drmime, name) is not None for name in drmime.__all__)


def test_lists_give_a_list_and_single_images_one_result() -> None:
    fixed, moving = images()
    masks = [None, np.ones(fixed.shape)]
    assert isinstance(register(fixed, moving, **QUICK), Registration)
    for kind in (list, tuple):
        results = register(kind([fixed, moving]), kind([moving, fixed]), fixed_mask=kind(masks), **QUICK)
        assert [type(result) for result in results] == [Registration, Registration]
    assert len(register([fixed], [moving], **QUICK)) == 1


def test_the_pair_of_a_list_has_its_own_start_or_shares_one() -> None:
    fixed, moving = images()
    options = QUICK | {"schedule": {"least_overlap": 0.9999}}
    own = register([fixed] * 2, [moving] * 2, start={"given": [FAR, 2 * FAR - np.eye(3)], "refine": False}, **options)
    assert [result.matrix[0, 2] for result in own] == [4, 8]
    shared = register([fixed] * 2, [moving] * 2, start={"given": FAR, "refine": False}, **options)
    assert [result.matrix[0, 2] for result in shared] == [4, 4]


def test_observers_are_called_once_a_step_with_the_last_one_too() -> None:
    events: list[Any] = []

    class Watcher(Observer):
        def begin(self, run: Any) -> None:
            events.append(run.steps)

        def __call__(self, step: Step) -> None:
            events.append(step.index)

        def end(self, outcome: Any) -> None:
            events.append(outcome.stops)

    seen: list[int] = []
    result = register(
        *images(), observers=[Watcher(), lambda step: seen.append(step.index)], metric="ncc", schedule={"steps": 7}
    )
    assert events == [7, *range(7), [Stop.STEPS]]
    assert seen == list(range(7))
    assert len(result.history) == 7


def test_an_observer_sees_the_last_step_of_a_run_that_converged() -> None:
    fixed, _ = images()
    seen: list[int] = []
    options = {"transform": "translation", "metric": "mse", "sampler": "all", "schedule": {"steps": 100, "rate": 1e-5}}
    result = register(fixed, fixed, observers=[lambda step: seen.append(step.index)], **options)
    assert result.stop is Stop.CONVERGED
    assert seen == list(range(len(result.history)))


def test_double_precision_is_used_when_asked_for() -> None:
    fixed, moving = images()
    seen: list[torch.dtype] = []
    for kind in ("float32", "float64"):
        result = register(
            fixed, moving, device={"dtype": kind}, observers=[lambda step: seen.append(step.similarity.dtype)], **QUICK
        )
        assert result.matrix.dtype == np.float64
        assert result.settings["device"]["dtype"] == kind
    assert seen == [torch.float32] * 3 + [torch.float64] * 3


def test_the_images_given_are_not_changed() -> None:
    fixed, moving = images()
    fixed[0, 0] = np.nan
    copies = fixed.copy(), moving.copy()
    register(fixed, moving, nan="mask", **QUICK)
    assert np.array_equal(fixed, copies[0], equal_nan=True)
    assert np.array_equal(moving, copies[1])


# ---- what it cannot use


def attempt(fixed: Any, moving: Any, **options: Any) -> Registration | list | InputError:
    """The result, or the one error there may be; anything else is raised."""
    try:
        return register(fixed, moving, **(QUICK | options))
    except InputError as refused:
        return refused


def with_one(value: float) -> np.ndarray:
    array = images()[0]
    array[5, 6] = value
    return array


GOOD = images()[0]
BAD_IMAGES: dict[str, tuple[Any, str]] = {
    "NaN": (with_one(np.nan), r"1 pixels with NaN.*nan=\"mask\""),
    "infinity": (with_one(np.inf), r"1 pixels with NaN or infinity"),
    "constant": (np.full((32, 32), 7.0), "contrast.*7"),
    "1-D": (np.arange(64.0), r"2 or 3 spatial axes.*\(64,\)"),
    "5-D": (np.ones((9, 9, 9, 9, 9)), "2 or 3 spatial axes"),
    "0-D": (5.0, "spatial axes"),
    "volume against picture": (
        np.random.default_rng(0).random((16, 16, 16)),
        "same dimension.*3-D.*2-D|same dimension.*2-D.*3-D",
    ),
    "7 x 7": (GOOD[:7, :7], r"at least 8 pixels.*\(7, 7\)"),
    "1 x N": (GOOD[:1], "at least 8 pixels"),
    "no pixels": (np.empty((0, 9)), "pixels"),
    "object": (np.full((9, 9), None), "dtype object"),
    "complex": (GOOD * 1j, "dtype complex128"),
    "complex tensor": (torch.ones(9, 9, dtype=torch.complex64), "dtype complex64"),
    "text": (np.full((9, 9), "a"), "dtype <U1"),
    "None": (None, "dtype object"),
    "empty list": ([], "empty list"),
    "long list": ([GOOD, GOOD], "2 and 1|1 and 2"),
}


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("name", BAD_IMAGES)
def test_an_image_that_cannot_be_used_is_refused_in_words(name: str, side: str) -> None:
    data, words = BAD_IMAGES[name]
    other = [GOOD] if isinstance(data, list) else GOOD
    pair = (data, other) if side == "fixed" else (other, data)
    with pytest.raises(InputError, match=words) as caught:
        register(*pair, **QUICK)
    assert "\n" not in str(caught.value)
    if "list" not in name and "against" not in name:
        assert side in str(caught.value)


BAD_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing.png": (lambda path: None, "does not exist"),
    "words.png": (lambda path: path.write_text("no picture"), "cannot be read as an image"),
    "empty.png": (Path.touch, "0 bytes"),
    "truncated.png": (lambda path: path.write_bytes(png(path)[:300]), "truncated"),
    "constant.png": (lambda path: iio.imwrite(path, np.full((32, 32), 9, np.uint8)), "contrast"),
}


def png(path: Path) -> bytes:
    iio.imwrite(path, scaled(GOOD, "uint8"))
    return path.read_bytes()


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_used_is_refused_in_words(name: str, tmp_path: Path) -> None:
    make, words = BAD_FILES[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=words) as caught:
        register(GOOD, tmp_path / name, **QUICK)
    assert "\n" not in str(caught.value)


def test_eight_pixels_a_side_are_enough() -> None:
    result = register(GOOD[:8, :8], GOOD[:8, 1:9], **QUICK)
    assert result.settings["levels"] == 1


LOST = [{"levels": value} for value in (0, -1, "four", 2.5, True, None)]
LOST += [{"schedule": {"steps": value}} for value in (0, -1, 1.5, "many", True, None)]
LOST += [{"seed": value} for value in (-1, 0.5, "one", None, True, 2**64, 2**70)]
LOST += [{"schedule": {"rate": value}} for value in (0, -1, np.nan, np.inf, "fast", None, True)]
LOST += [{"schedule": {"tolerance": value}} for value in (0, np.nan, "near", None)]
LOST += [{"schedule": {"least_overlap": value}} for value in (0, 1, -0.1, np.nan, "half", None)]
LOST += [
    {"schedule": {"level_weights": value}}
    for value in ([1], [0, 0, 0], [1, -1, 1], [1, np.nan, 1], [1, np.inf, 1], [[1, 1, 1], [0, 0, 0]], [[[1, 1, 1]]], 5, [])
]
LOST += [{"transform": {"name": "affine", "parametrisation": value}} for value in ("exp", None, 1)]
LOST += [{"schedule": {"level_weights": value}} for value in ("abc", ["a", "b", "c"], {}, [1j, 1, 1], object())]
LOST += [{"device": value} for value in ("cuda:99", "tpu", "", 3.5, [])]
LOST += [{"device": value} for value in ("meta", "hpu", "mkldnn")]
LOST += [{"device": {"dtype": value}} for value in ("float16", "int", None, torch.float32, [])]
LOST += [{"nan": value} for value in ("ignore", None, [])]
LOST += [{"channel_axis": value} for value in (5, "first", 1.5, [])]
LOST += [{"fixed_spacing": value} for value in ([1], [1, 0], [1, -1], [1, np.nan], "ab", {}, [1, 2, 3])]
LOST += [{"moving_mask": value} for value in (np.ones((9, 9)), np.zeros((64, 64)), 5, object(), [GOOD])]
LOST += [
    {"fixed_mask": np.full((64, 64), np.nan)},
    {"transform": {"name": "lie", "generators": []}},
    {"transform": {"name": "lie", "generators": {}}},
    {"transform": 5},
    {"transform": {"name": "lie", "generators": ["scale", 5]}},
]
LOST += [
    {"transform": {"name": "lie", "generators": {"own": value}}}
    for value in (np.eye(4), np.full((3, 3), np.nan), "matrix", None)
]
LOST += [
    {"start": {"given": value, "refine": False}}
    for value in (np.ones((3, 3)), np.zeros((3, 3)), np.eye(4), np.eye(2), np.full((3, 3), np.nan))
]
LOST += [
    {"start": {"given": value, "refine": False}}
    for value in (None, 5, [], "start.json", {}, object(), [["a"] * 3] * 3, np.diag([1, np.inf, 1]))
]
LOST += [
    {"start": {"given": value, "refine": False}}
    for value in (Path("start.json"), "os:getcwd", [[1, 0, 0], [0, 1, 1], [0, 1, 0]])
]
LOST += [{"metric": value} for value in ({}, {"name": None}, "no.such:thing", "mine:", {"name": "mine", "hidden": "wide"})]
LOST += [{"metric": value} for value in (5, None, object(), NCC, "os:getcwd")]
LOST += [{"sampler": value} for value in ({}, {"name": 5}, "no.such:thing", {"name": "uniform", "points": 3})]
LOST += [{"sampler": value} for value in (5, None, object(), "os:getcwd")]
LOST += [{"start": value} for value in (5, object(), True, np.ones((3, 3)), {"name": None}, [5], ["auto", None])]
LOST += [{"start": value} for value in ({"gven": "mass"}, {"refine": "no"}, {"propose": 5}, {"given": "identity", "steps": 3})]
LOST += [{"start": {"given": dict}}, {"start": {"refine": False, "propose": 5}}]
LOST += [{"schedule": value} for value in (5, "fast", [70], {"step": 3}, {"steps": 3, 5: 1})]
LOST += [{"device": {"threads": value}} for value in (0, -1, 1.5, "two", None)]
LOST += [{"device": {"nam": "cpu"}}, {"device": {"name": 5}}]
LOST += [{"start": value} for value in ("os:getcwd", "no.such:thing", {"name": "auto", "scales": [1]}, Moments)]
LOST += [{"start": value} for value in ("landmarks", {"name": "search", "score": "angel"})]
LOST += [{"observers": value} for value in (5, None, [5], "progres", {"name": "tensorboard"}, [print, 5])]


@pytest.mark.parametrize("options", LOST, ids=[f"{number}-{next(iter(options))}" for number, options in enumerate(LOST)])
def test_an_option_that_cannot_be_used_is_refused_by_name(options: dict) -> None:
    (name,) = options
    words = {"start": "start|score", "device": "device|dtype", "observers": "observer"}
    words |= {
        "transform": "transform|generator|parametrisation",
        "fixed_mask": "mask",
        "moving_mask": "mask",
        "fixed_spacing": "fixed spacing",
    }
    with pytest.raises(InputError, match=words.get(name, name)) as caught:
        register(*images(), **(QUICK | options))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"metric": "mattis"}, "mattes"),
        ({"transform": "afine"}, "affine"),
        ({"transform": {"name": "lie", "generators": ["transation"]}}, "translation"),
        ({"sampler": "unifrom"}, "uniform"),
        ({"start": {"given": "center", "refine": False}}, "centre"),
        ({"start": "fetures"}, "features"),
        ({"start": ["auto", "momens"]}, "moments"),
        ({"start": {"name": "search", "scale": [1]}}, "scales"),
        ({"device": {"dtype": "float46"}}, "float64"),
        ({"nan": "masks"}, "mask"),
        ({"metric": {"name": "mine", "hiden": 3}}, "hidden"),
        ({"metric": {"name": "mine", "bound": "smille"}}, "smile"),
        ({"sampler": {"name": "edges", "dilatation": 3}}, "dilation"),
    ],
)
def test_the_nearest_name_is_named(options: dict, near: str) -> None:
    with pytest.raises(InputError, match=f"did you mean '{near}'"):
        register(*images(), **(QUICK | options))


def test_the_metric_says_which_channels_it_cannot_compare() -> None:
    fixed, moving = images()
    with pytest.raises(InputError, match=r"got 3 and 2. Metric 'mine' takes any"):
        register(coloured(fixed), coloured(moving)[..., :2], **QUICK)


def test_nothing_is_computed_before_the_input_is_known_to_be_good() -> None:
    seen: list[Step] = []
    with pytest.raises(InputError):
        register(*images(), observers=[seen.append], schedule={"level_weights": [0, 0, 0]})
    assert not seen


@pytest.mark.parametrize("rate", [100.0, 1e30])
def test_a_rate_far_too_high_ends_in_words_not_in_a_crash(rate: float) -> None:
    """In a process of its own: a point that is no number once took the interpreter down with it."""
    code = (
        "import numpy as np, drmime; a = np.random.default_rng(0).random((64, 64)); "
        f"schedule = dict(rate={rate!r}, steps=30); "
        "r = drmime.register(a, np.roll(a, 1, 1), metric='ncc', sampler='all', schedule=schedule, start=None); "
        "assert np.isfinite(r.matrix).all(); print(r.stop.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-500:]}"
    assert done.stdout.strip() in Stop.__members__


SMALL = images(17)[0][:16, :16], images(17)[1][:16, :16]
ODD = [None, True, 0, -1, 1, 3, 0.5, np.nan, np.inf, "", "no such thing", [], {}, [1, "a"], object(), np.int64(2), np.ones(2)]
PARTS: dict[str, list] = {
    "levels": [2, 99],
    "transform": [
        *("rigid", "projective", {"name": "affine", "finest_vector": True}, {"name": "rigid", "parametrisation": "direct"}),
        *({"name": "lie", "generators": value} for value in (["scale"], {"own": np.eye(3, k=2)}, {"own": np.ones((3, 3))})),
        *({"name": "lie", "generators": value} for value in ODD),
    ],
    "metric": ["mine", "mattes", "nmi", "jhmi", "mse", {"name": "mine", "bound": "infonce"}, {"name": "jhmi", "bins": 5}],
    "sampler": ["jittered", "all", "edges", {"name": "uniform", "points": 0.01}, {"name": "uniform", "points": 16}],
    "start": [
        *("auto", "none", "mass", ["centre", {"name": "moments"}], "phase", "features", {"name": "search", "size": 16}, Mass()),
        *({"given": value, "refine": False} for value in ("mass", "identity", FAR, np.ones((3, 3)), np.eye(3) * 1e-9, *ODD)),
        *({"given": value, "propose": None} for value in (np.diag([-1, 1, 1]), np.diag([1, 1, -1]))),
    ],
    "fixed_mask": [np.tri(16), np.eye(16), np.zeros((16, 16)), np.ones((8, 8)), np.ones((16, 16), bool)],
    "moving_mask": [np.tri(16), np.eye(16), np.full((16, 16), np.nan)],
    "fixed_spacing": [(1, 2), [1e-3, 1e3], [1e6, 1e6], (1e-200, 1e-200)],
    "moving_spacing": [(0.5, 0.5), torch.ones(2)],
    "channel_axis": ["auto", -1, 2],
    "nan": ["mask"],
    "schedule": [
        *({"steps": 2}, {"rate": 0.01}, {"rate": 1e-12, "tolerance": 0.1}, {"least_overlap": 0.9}),
        *({"level_weights": value, "steps": 2} for value in ([1, 2], [0, 1], [1, 0])),
        *({name: value} for name in ("steps", "rate", "level_weights", "tolerance", "least_overlap") for value in ODD),
    ],
    "seed": [7, 2**63, 2**64],
    "device": ["cpu", "cuda:99", torch.device("cpu"), {"dtype": "float64"}, *({"threads": value} for value in ODD)],
    "observers": [[print], [Observer()], (lambda step: None,)],
}
OPTIONS = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from([*values, *values, *ODD]) for name, values in PARTS.items() if name != "observers"}
)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(OPTIONS, st.integers(0, 3))
def test_any_options_give_a_result_or_an_input_error(options: dict, kept: int) -> None:
    """Few of the options at a time, so that some get through."""
    chosen = dict(list(options.items())[: kept + 1])
    result = attempt(*SMALL, **chosen)
    assert isinstance(result, (Registration, InputError))
    if isinstance(result, Registration):
        assert np.isfinite(result.matrix).all()
        assert str(result).startswith(f"verdict: {result.verdict}\n")
        assert result.stop.value in str(result)
        json.dumps(dict(result.settings), allow_nan=False)


@pytest.mark.parametrize("name", [name for name in PARTS if name != "observers"])
def test_each_odd_value_alone_gives_a_result_or_an_input_error(name: str) -> None:
    surprises = []
    for value in [*PARTS[name], *ODD]:
        try:
            attempt(*SMALL, **{name: value})
        except Exception as error:  # all that are found are told at once
            surprises.append(f"{value!r:.40}: {type(error).__name__}: {error!s:.80}")
    assert not surprises, "\n".join(surprises)
