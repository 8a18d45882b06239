"""Lists of images of any kinds: each pair gives what it gives alone, in its place, and no failure loses another pair."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tolerances import TOLERANCE

import drmime
from drmime import (
    IncompleteError,
    InputError,
    Interrupted,
    Observer,
    Registration,
    Stop,
    batches,
    pairs,
    registration,
    searching,
)
from drmime.compare.moments import NCC
from drmime.part import Part, PartRun
from drmime.start import inputs
from drmime.start.ranking import Ranking
from drmime.start.refine import Candidate

register = functools.partial(drmime.register, device={"name": "cpu", "dtype": "float64"})
QUICK: dict[str, Any] = {"start": None, "metric": "ncc", "schedule": {"steps": 5}, "levels": 2}
NEAR = TOLERANCE[torch.float32]  # of matrix entries; a shift is in pixels


def scene(*shape: int, seed: int = 0) -> np.ndarray:
    """Smooth and without symmetry."""
    places = np.indices(shape)
    image = np.zeros(shape)
    for centre in np.random.default_rng(seed).random((9, len(shape))):
        distance = sum((place - c * n) ** 2 for place, c, n in zip(places, centre, shape, strict=True))
        image += np.exp(-distance / (2 * (min(shape) / 8) ** 2))
    return image


def pair(*shape: int, seed: int = 0, shift: int = 1) -> tuple[np.ndarray, np.ndarray]:
    image = scene(*shape, seed=seed)
    return image, np.roll(image, shift, -1)


def coloured(image: np.ndarray) -> np.ndarray:
    return np.stack([image, image**2, -image], -1)


def mixed() -> list[tuple[Any, Any]]:
    """Pairs of unequal sizes, channels, dimensions, spacings and masks; numbers 0 and 4 are alike."""
    first, other = pair(32, 40, seed=4)
    return [
        pair(32, 40),
        pair(24, 32, seed=1),
        pair(16, 17, 20, seed=2),
        (coloured(first), coloured(other)),
        (first, other),
        (drmime.as_image(first, spacing=(2, 3)), other),
        (drmime.as_image(first, mask=np.arange(40) < np.full((32, 1), 30)), other[:, :33].copy()),
    ]


def columns(rows: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [row[0] for row in rows], [row[1] for row in rows]


def alike(one: Registration, other: Registration, tolerance: float = NEAR) -> bool:
    return (
        one.stop is other.stop
        and np.allclose(one.matrix, other.matrix, atol=tolerance)
        and np.allclose(one.history, other.history, atol=tolerance)
        and one.notes == other.notes
        and dict(one.settings) == dict(other.settings)
        and one.fixed_grid.covers_alike(other.fixed_grid)
        and one.moving_grid.covers_alike(other.moving_grid)
        and (one.verdict.status, one.doubts.keys()) == (other.verdict.status, other.doubts.keys())
    )


@functools.cache
def together() -> list[Registration]:
    return register(*columns(mixed()), **QUICK)


# ---- each pair as alone, in its place


def test_pairs_of_any_kinds_give_what_they_give_alone() -> None:
    assert all(alike(one, register(*pair, **QUICK)) for one, pair in zip(together(), mixed(), strict=True))


def test_another_order_gives_the_results_in_that_order() -> None:
    order = [4, 2, 6, 0, 5, 1, 3]
    found = register(*columns([mixed()[number] for number in order]), **QUICK)
    assert all(alike(one, together()[number]) for one, number in zip(found, order, strict=True))


def test_a_list_of_one_is_the_single_call_to_the_last_bit() -> None:
    for pair in mixed():
        (one,), alone = register([pair[0]], [pair[1]], **QUICK), register(*pair, **QUICK)
        assert np.array_equal(one.matrix, alone.matrix)
        assert np.array_equal(one.history, alone.history)
        assert alike(one, alone, 0)


@pytest.mark.parametrize("most", [{"MOST_PAIRS": 2}, {"MOST_VALUES": 5 * 32 * 40}, {"MOST_VALUES": 1}], ids=str)
def test_batches_are_bounded_and_change_no_result(most: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [pair(32, 40, seed=seed) for seed in range(5)]
    whole = register(*columns(rows), **QUICK)
    parts: list[Part] = []
    for name, value in most.items():
        monkeypatch.setattr(pairs, name, value)
    found = register(*columns(rows), observers=[Watcher(parts)], **QUICK)
    size = 1 if most == {"MOST_VALUES": 1} else 2
    assert [part.pairs for part in parts] == [tuple(range(at, min(at + size, 5))) for at in range(0, 5, size)]
    assert all(alike(*both) for both in zip(found, whole, strict=True))


SEARCHED = [pair(48, 64), pair(40, 48, seed=3), pair(48, 64, seed=5, shift=-3)]


@pytest.fixture(params=[{"cpu": 1}, {}, {"cpu": 2**17}], ids=["one by one", "all", "two at once"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many pairs are searched and judged side by side."""
    monkeypatch.setattr(inputs, "AT_ONCE", request.param)


@pytest.mark.parametrize("transform", ["translation", "rigid"])
def test_searched_starts_are_those_of_each_pair(transform: str, at_once: None) -> None:
    rows, options = SEARCHED, QUICK | {"start": "auto", "transform": transform}
    for one, row in zip(register(*columns(rows), **options), rows, strict=True):
        alone = register(*row, **options)
        assert [start.source for start in one.candidates] == [start.source for start in alone.candidates]
        assert alike(one, alone)
        assert one.reasons == alone.reasons


def test_a_metric_that_learns_begins_anew_in_each_batch() -> None:
    rows = [pair(32, 40), pair(24, 32, seed=1)]
    options = QUICK | {"metric": {"name": "mine", "hidden": 8, "warmup": 3}, "sampler": {"name": "uniform", "points": 64}}
    assert all(
        alike(one, register(*row, **options)) for one, row in zip(register(*columns(rows), **options), rows, strict=True)
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_lists_on_a_gpu_give_what_they_give_on_the_cpu() -> None:
    found = register(*columns(mixed()), **QUICK | {"device": {"name": "cuda", "dtype": "float64"}})
    assert all(np.allclose(one.matrix, other.matrix, atol=NEAR) for one, other in zip(found, together(), strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_pairs_that_are_searched_on_a_gpu_give_what_they_give_on_the_cpu() -> None:
    options = QUICK | {"start": "auto", "transform": "rigid"}
    found, known = (
        register(*columns(SEARCHED), **options | {"device": {"name": name, "dtype": "float64"}}) for name in ("cuda", "cpu")
    )
    for one, other in zip(found, known, strict=True):
        assert np.allclose(one.matrix, other.matrix, atol=NEAR)
        assert one.peak_ratio == pytest.approx(other.peak_ratio, rel=1e-3)
        assert one.verdict.status is other.verdict.status


# ---- what belongs to a pair


def shifted(ndim: int, shift: float) -> np.ndarray:
    matrix = np.eye(ndim + 1)
    matrix[0, -1] = shift
    return matrix


def test_each_pair_has_its_own_start() -> None:
    rows = [pair(32, 40), pair(16, 17, 20), pair(24, 32), pair(32, 40, seed=1)]
    own = [shifted(2, 1), shifted(3, 2), shifted(2, 3), shifted(2, 4)]
    options = QUICK | {"schedule": {"steps": 1, "least_overlap": 0.9999}}  # they end where they begin
    for start in (own, {"given": own, "refine": False}):
        options["start"] = {"given": own, "refine": False} if start is own else start
        found = register(*columns(rows), **options)
        assert [one.matrix.tolist() for one in found] == [matrix.tolist() for matrix in own]
        assert [one.settings["start"]["given"] for one in found] == [matrix.tolist() for matrix in own]
    stacked = np.stack([own[0], own[3]])
    found = register(*columns([rows[0], rows[3]]), **options | {"start": {"given": stacked, "refine": False}})
    assert [one.matrix[0, 2] for one in found] == [1, 4]
    shared = register(*columns([rows[0], rows[2]]), **options | {"start": {"given": own[3], "refine": False}})
    assert [one.matrix[0, 2] for one in shared] == [4, 4]


@pytest.mark.parametrize("errors", ["raise", "return"])
@pytest.mark.parametrize(
    ("start", "words"),
    [
        ([shifted(2, 1)], "one for each of 2 pairs, got 1"),
        (np.stack([np.eye(3)] * 3), "one for each of 2 pairs, got 3"),
        ([shifted(2, 1), shifted(2, 1)], r"pair 1 \(from 0\): .*shape \(4, 4\)"),
        (np.eye(3), r"pair 1 \(from 0\): .*shape \(4, 4\)"),
        ([np.eye(3), np.zeros((4, 4))], r"pair 1 \(from 0\): .*singular"),
    ],
)
def test_starts_that_do_not_fit_are_raised_and_nothing_is_computed(start: Any, words: str, errors: str) -> None:
    parts: list[Part] = []
    rows = [pair(32, 40), pair(16, 17, 20)]
    with pytest.raises(InputError, match=words):
        register(*columns(rows), observers=[Watcher(parts)], errors=errors, **QUICK | {"start": {"given": start}})
    assert not parts


def test_each_pair_has_its_own_masks() -> None:
    rows = [pair(32, 40), pair(24, 32, seed=1), pair(32, 40, seed=2), pair(32, 40, seed=3)]
    fixed = [None, np.arange(32) < np.full((24, 1), 25), np.arange(40) > np.full((32, 1), 9), None]
    moving = [np.arange(40) < np.full((32, 1), 31), None, None, None]
    found = register(*columns(rows), fixed_mask=fixed, moving_mask=moving, **QUICK)
    for number, row in enumerate(rows):
        alone = register(*row, fixed_mask=fixed[number], moving_mask=moving[number], **QUICK)
        assert alike(found[number], alone)
        assert (found[number].settings["fixed_mask"] is None) == (fixed[number] is None)


@pytest.mark.slow
def test_each_pair_has_its_own_part_that_is_not_deformed() -> None:
    rows = [pair(32, 40), pair(24, 32, seed=1), pair(32, 40, seed=2)]
    masks = [None, np.arange(32) < np.full((24, 1), 16), np.arange(40) > np.full((32, 1), 19)]
    options = QUICK | {"transform": ["affine", {"name": "velocity", "steps": 5, "chance": 1}]}
    points = np.random.default_rng(0).uniform(3, 20, (30, 2))
    for one, row, mask in zip(register(*columns(rows), affine_mask=masks, **options), rows, masks, strict=True):
        alone = register(*row, affine_mask=mask, **options)
        assert np.abs(one.to_moving(points) - alone.to_moving(points)).max() < 1e-3
        assert dict(one.settings) == dict(alone.settings)


def test_notes_are_of_the_pair_alone() -> None:
    hot = pair(64, 64, seed=1)
    hot[0][::9, ::9] += 50
    found = register(*columns([pair(64, 64), hot, pair(16, 64)]), **QUICK | {"levels": 3})
    assert [any("pixels of the fixed image" in note for note in one.notes) for one in found] == [False, True, False]
    assert [any("Levels: " in note for note in one.notes) for one in found] == [False, False, True]


# ---- pairs that cannot be used


def bad_files(folder: Path) -> dict[str, Any]:
    (folder / "words.png").write_text("no picture")
    hole = scene(32, 40)
    hole[3, 4] = np.nan
    return {
        "NaN": hole,
        "constant": np.ones((32, 40)),
        "axes": np.ones((9, 9, 9, 9, 9)),
        "unreadable": folder / "words.png",
        "missing": folder / "none.png",
        "volume": scene(16, 17, 20),
        "None": None,
        "text": "no such file",
    }


def test_a_bad_pair_changes_no_other_result(tmp_path: Path) -> None:
    rows = mixed()
    for number, bad in enumerate(bad_files(tmp_path).values()):
        image = scene(32, 40)
        rows.insert(2 * number % len(rows), (bad, image) if number % 2 else (image, bad))
    found = register(*columns(rows), errors="return", **QUICK)
    good = [one for one in found if isinstance(one, Registration)]
    refused = [one for one in found if not isinstance(one, Registration)]
    assert all(type(one) is InputError for one in refused)
    assert len(refused) == len(bad_files(tmp_path))
    assert len(good) == len(together())
    assert all(alike(*both) for both in zip(good, together(), strict=True))
    for one, row in zip(found, rows, strict=True):
        if isinstance(one, InputError):
            with pytest.raises(InputError) as alone:
                register(*row, **QUICK)
            assert str(one) == str(alone.value)


def test_the_error_names_the_pair_and_the_image_and_comes_first(tmp_path: Path) -> None:
    image, parts = scene(32, 40), list[Part]()
    bad = bad_files(tmp_path)
    with pytest.raises(
        InputError, match=r"^pair 2 \(from 0\): moving image: .*contrast.* Pairs 3, 5 \(from 0\) cannot be used either\.$"
    ):
        register(
            [image, image, image, bad["NaN"], image, bad["missing"]],
            [image, image, bad["constant"], image, image, image],
            observers=[Watcher(parts)],
            **QUICK,
        )
    assert not parts
    with pytest.raises(InputError, match=r"^pair 0 \(from 0\): fixed mask: expected at least one"):
        register([image], [image], fixed_mask=[np.zeros((32, 40))], **QUICK)


def test_single_images_return_their_error_too() -> None:
    image = scene(32, 40)
    refused = register(image, np.ones((32, 40)), errors="return", **QUICK)
    assert isinstance(refused, InputError)
    assert "moving image: expected some contrast" in str(refused)
    assert isinstance(register(image, image, errors="return", **QUICK), Registration)


def test_lists_without_a_good_pair_give_errors_alone() -> None:
    found = register([None, np.ones((9, 9))], [None, None], errors="return", **QUICK)
    assert [type(one) for one in found] == [InputError, InputError]


@pytest.mark.parametrize(
    "options",
    [
        *({"metric": "mina"}, {"levels": 0}, {"seed": -1}, {"schedule": {"level_weights": [1]}}, {"nan": "skip"}),
        *({"fixed_mask": [None]}, {"affine_mask": np.ones((32, 40))}, {"transform": "tps"}, {"errors": "ignore"}),
        {"landmarks": {"fixed": np.eye(2), "moving": np.eye(2)}},
        {"transform": "affine+velocity", "affine_mask": [None]},
    ],
    ids=str,
)
def test_options_that_cannot_be_used_are_raised_always(options: dict) -> None:
    rows = [pair(32, 40), (None, None)]
    with pytest.raises(InputError, match=next(reversed(options)).partition("_")[0]):
        register(*columns(rows), **{"errors": "return", **QUICK, **options})


def test_lists_of_unequal_length_are_refused() -> None:
    image = scene(32, 40)
    for fixed, moving in (([image] * 2, [image]), ([image] * 2, image), (image, [image] * 2)):
        with pytest.raises(InputError, match="as many fixed as moving images, got"):
            register(fixed, moving, errors="return", **QUICK)


KINDS = {
    **{name: pair(*shape) for name, shape in {"small": (16, 18), "large": (20, 24), "volume": (9, 10, 11)}.items()},
    "colour": tuple(map(coloured, pair(16, 18))),
    "constant": (np.ones((16, 18)), scene(16, 18)),
    "NaN": (scene(16, 18), np.full((16, 18), np.nan)),
    "unlike": (scene(16, 18), scene(9, 10, 11)),
    "missing": ("no such file.png", scene(16, 18)),
}
GOOD = ("small", "large", "volume", "colour")


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6), st.booleans())
def test_any_list_gives_one_entry_a_pair(names: list[str], masked: bool) -> None:
    fixed, moving = columns([KINDS[name] for name in names])
    masks = [None if index % 2 else np.ones(np.shape(image)) for index, image in enumerate(fixed)] if masked else None
    options = QUICK | {"schedule": {"steps": 1}, "fixed_mask": masks}
    found = register(fixed, moving, errors="return", **options)
    usable = [name in GOOD and not (masked and index % 2 == 0 and name == "colour") for index, name in enumerate(names)]
    assert [isinstance(one, Registration) for one in found] == usable
    assert all(isinstance(one, (Registration, InputError)) for one in found)
    if all(usable):
        assert len(register(fixed, moving, **options)) == len(names)
    else:
        with pytest.raises(InputError, match=rf"^pair {usable.index(False)} \(from 0\): "):
            register(fixed, moving, **options)


# ---- observers, Ctrl-C, failures


class Watcher(Observer):
    """Keeps the part of each run, and does something when a run begins."""

    def __init__(self, parts: list[Part], then: Any = lambda part: None) -> None:
        self.parts, self.then = parts, then

    def begin(self, run: Any) -> None:
        assert isinstance(run, PartRun)
        self.parts.append(run.part)
        self.then(run.part)


def test_each_batch_is_a_run_and_says_which_pairs_it_holds() -> None:
    parts: list[Part] = []
    rows = [pair(32, 40), pair(24, 32), (None, None), pair(32, 40, seed=1)]
    register(*columns(rows), observers=[Watcher(parts)], errors="return", **QUICK)
    assert parts == [Part((0, 3), 0, 3), Part((1,), 2, 3)]
    assert [part.whole for part in parts] == [False, False]
    register(*rows[0], observers=[Watcher(parts)], **QUICK)
    assert parts[-1] == Part()
    assert parts[-1].whole


@pytest.mark.parametrize("several", [False, True])
def test_the_search_counts_pairs_over_all_batches(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "AT_ONCE", {} if several else {"cpu": 1})
    said: list[str] = []

    class Listener(Observer):
        def starting(self, what: str, share: float) -> None:
            said.append(what.partition(",")[0])

    rows = [pair(32, 40), pair(24, 32), pair(32, 40, seed=1)]
    register(*columns(rows), observers=[Listener()], **QUICK | {"start": "mass"})
    each = ["pairs 1 to 2 of 3", "pair 3 of 3"] if several else ["pair 1 of 3", "pair 2 of 3", "pair 3 of 3"]
    assert list(dict.fromkeys(said)) == each


def test_after_ctrl_c_no_later_pair_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the last of the pairs that were searched together was finished."""
    asked: list[int] = []

    def half(some: Sequence[Any], given: Sequence[Any], *_: Any) -> list[Ranking]:
        asked.append(len(some))
        return [Ranking((Candidate("given", start),), 1.0, interrupted=at == 0) for at, start in enumerate(given)]

    monkeypatch.setattr(searching, "ranking", half)
    monkeypatch.setattr(inputs, "AT_ONCE", {"cpu": 2**17})
    rows = [pair(32, 40, seed=seed) for seed in range(5)] + [pair(24, 32)]
    with pytest.raises(Interrupted) as caught:
        register(*columns(rows), **QUICK)
    assert asked == [2]
    assert [one.stop for one in caught.value.registrations] == [Stop.INTERRUPTED] * 6


@pytest.mark.parametrize("at", ["begin", "step"])
def test_ctrl_c_keeps_finished_batches_and_gives_each_pair_an_entry(at: str) -> None:
    rows = [pair(32, 40), pair(24, 32), (None, None), pair(16, 17, 20), pair(32, 40, seed=1)]
    parts: list[Part] = []

    def begin(part: Part) -> None:
        if 1 in part.pairs and at == "begin":
            raise KeyboardInterrupt

    def step(step: Any) -> None:
        if 1 in parts[-1].pairs and at == "step" and step.index == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        register(*columns(rows), observers=[Watcher(parts, begin), step], errors="return", **QUICK)
    found = caught.value.registrations
    whole = register(*columns(rows), errors="return", **QUICK)
    assert [alike(found[number], whole[number]) for number in (0, 4)] == [True, True]
    assert isinstance(found[2], InputError)
    assert [found[number].stop for number in (1, 3)] == [Stop.INTERRUPTED] * 2
    assert len(found[1].history) == (3 if at == "step" else 0)
    assert len(found[3].history) == 0
    assert found[3].overlap == 1
    assert len(parts) == 2


def test_ctrl_c_again_loses_nothing_that_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the images of the second batch are put together, and again for the results so far."""
    real = registration.together

    def interrupted(alike: Sequence[pairs.Pair], place: torch.device, once: bool) -> Any:
        if alike[0].number == 1:
            raise KeyboardInterrupt
        return real(alike, place, once)

    monkeypatch.setattr(registration, "together", interrupted)
    rows = [pair(32, 40), pair(24, 32), pair(16, 17, 20)]
    with pytest.raises(Interrupted) as caught:
        register(*columns(rows), **QUICK)
    first, second, third = caught.value.registrations
    assert first.success
    assert str(second) == batches.NOT_BEGUN
    assert third.stop is Stop.INTERRUPTED


class Fails(NCC):
    """Fails for images of 24 rows."""

    kind: Exception = ArithmeticError("wrong")

    def begin(self, levels: int, batch: int, channels: Any, generator: Any, like: torch.Tensor) -> None:
        if like.shape[-2] == 24 and (batch > self.most or like.mean() > 10):
            raise self.kind
        super().begin(levels, batch, channels, generator, like)

    most = 0


def failing(error: Exception, most: int = 0) -> Fails:
    metric = Fails()
    metric.kind, metric.most = error, most
    return metric


def test_a_batch_that_fails_loses_no_other_batch() -> None:
    rows = [pair(32, 40), pair(24, 32), pair(24, 32, seed=1), pair(16, 17, 20)]
    found = register(*columns(rows), errors="return", **QUICK | {"metric": failing(ArithmeticError("it is\nwrong"))})
    for number in (0, 3):
        assert alike(found[number], register(*rows[number], **QUICK | {"metric": Fails()}))
    for number in (1, 2):
        assert isinstance(found[number], InputError)
        assert str(found[number]) == "ArithmeticError: it is wrong"
        assert isinstance(found[number].__cause__, ArithmeticError)


@pytest.mark.parametrize("error", [ArithmeticError("wrong"), InputError("wrong")])
def test_by_default_the_first_failure_is_raised_with_what_is_finished(error: Exception) -> None:
    rows = [pair(32, 40), pair(24, 32), pair(16, 17, 20), pair(32, 40, seed=1)]
    with pytest.raises(IncompleteError, match=r"^pair 1 \(from 0\): .*wrong The results of 2 other pairs") as caught:
        register(*columns(rows), **QUICK | {"metric": failing(error)})
    assert type(caught.value.__cause__) is type(error)
    assert [one is None for one in caught.value.registrations] == [False, True, True, False]
    with pytest.raises(type(error), match="wrong") as first:
        register(*columns(rows[1:]), **QUICK | {"metric": failing(error)})
    assert not isinstance(first.value, IncompleteError)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: you tried 9")]
)
@pytest.mark.parametrize("errors", ["raise", "return"])
def test_a_batch_too_large_for_the_memory_is_halved(error: Exception, errors: str) -> None:
    rows = [pair(24, 32, seed=seed) for seed in range(5)] + [pair(32, 40)]
    sizes: list[Part] = []
    options = QUICK | {"metric": failing(error, most=2)}
    found = register(*columns(rows), observers=[Watcher(sizes)], errors=errors, **options)
    assert [part.pairs for part in sizes] == [(0, 1), (2,), (3, 4), (5,)]
    assert [part.done for part in sizes] == [0, 2, 3, 5]
    assert all(alike(one, register(*row, **options)) for one, row in zip(found, rows, strict=True))


def test_a_pair_too_large_for_the_memory_has_the_error() -> None:
    rows = [pair(24, 32), pair(32, 40), pair(24, 32, seed=1)]
    found = register(*columns(rows), errors="return", **QUICK | {"metric": failing(MemoryError("no room"))})
    assert [isinstance(one, Registration) for one in found] == [False, True, False]
    assert batches.out_of_memory(found[0].__cause__)


def test_a_start_that_is_not_found_costs_one_pair() -> None:
    rows = [pair(32, 40), pair(32, 40, seed=1), pair(32, 40, seed=2)]
    wanted = float(drmime.as_image(rows[1][0]).normalised().data.mean())

    def proposes(fixed: Any, moving: Any) -> torch.Tensor:
        none = abs(float(fixed.data.mean()) - wanted) < 1e-6
        return torch.eye(3, dtype=torch.float64)[None][: 0 if none else 1]

    start = {"given": proposes, "refine": False}
    found = register(*columns(rows), errors="return", **QUICK | {"start": start})
    assert [isinstance(one, Registration) for one in found] == [True, False, True]
    assert "found no start" in str(found[1])


def test_errors_keep_no_pixels() -> None:
    image = np.full((32, 40), np.nan)
    (refused,) = register([image], [image], errors="return", **QUICK)
    frames = refused.__traceback__
    while frames is not None:
        held = [value for value in frames.tb_frame.f_locals.values() if isinstance(value, (np.ndarray, torch.Tensor))]
        assert not held
        frames = frames.tb_next


def test_files_of_unequal_sizes_are_aligned_as_their_pixels_are(tmp_path: Path) -> None:
    rows = [tuple((255 * image / image.max()).astype(np.uint8) for image in pair(side, 40)) for side in (32, 40)]
    for number, row in enumerate(rows):
        for name, image in zip("ab", row, strict=True):
            iio.imwrite(tmp_path / f"{number}{name}.png", image)
    files = [[tmp_path / f"{number}{name}.png" for number in range(2)] for name in "ab"]
    for one, row in zip(register(*files, **QUICK), rows, strict=True):
        assert np.array_equal(one.matrix, register(*row, **QUICK).matrix)
