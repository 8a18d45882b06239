"""Which start: what is searched in which group, which start goes first, and what is said of it."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from posed import REFINED, SIDES, Case, turn_in
from problems import photograph, world_points
from textures import about, busy, turn
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.lie import GROUPS, generators
from drmime.image.image import Image
from drmime.start import questions
from drmime.start import ranking as starts
from drmime.start.choose import APART, CLEAR, apart, as_given, stands_out
from drmime.start.doubts import Doubt
from drmime.start.inputs import Inputs
from drmime.start.looks import LOOKS, Look, mirrored_search, proposers
from drmime.start.looks import looks as looks_for
from drmime.start.plan import Plan
from drmime.start.propose.base import Proposer, stacked
from drmime.start.propose.search import SIZE, Search
from drmime.start.propose.simple import Centre
from drmime.start.ranking import Ranking, Tell, ranking
from drmime.start.refine import QUICK_ROUNDS, Candidate, refined
from drmime.start.rivals import Rival, peak_ratio
from drmime.start.together import together
from drmime.transform.linear import MatrixTransform


def nothing(fixed: Image, moving: Image) -> Tensor:
    """A proposer that finds no start."""
    return stacked([], fixed.grid.ndim)


def ranked(inputs: Inputs, given: Tensor, plan: Plan, tell: Tell = lambda what, share: None) -> Ranking:
    """The ranking of one pair."""
    (found,) = ranking([inputs], [given], plan, tell)
    return found


def done(procedure: Any) -> Any:
    """The result of one procedure."""
    (found,) = together([procedure], questions.ORDER, lambda number: None)
    return found


def always(value: Any) -> Any:
    """A method that waits for nothing and returns `value`."""

    async def method(*_: Any) -> Any:
        return value

    return method


@pytest.fixture(scope="module")
def plane() -> Case:
    return Case(2)


# The search that suits a group


QUICKEST, THOROUGH = 0, 1  # numbers of looks


def suited(group: Mapping[str, Tensor], ndim: int, number: int = THOROUGH) -> list[tuple[str, Proposer]]:
    return proposers(LOOKS[ndim][number], group)


def searching(group: str | list[str], ndim: int, number: int = THOROUGH) -> Search:
    """The search of a look for a group."""
    (search,) = (part for name, part in suited(generators(group, ndim), ndim, number) if name == "search")
    assert isinstance(search, Search)
    return search


@pytest.mark.parametrize("group", GROUPS)
def test_no_rotation_and_no_scale_is_tried_that_a_group_lacks(group: str, ndim: int) -> None:
    search = searching(group, ndim)
    assert search.rotate == (group != "translation")
    assert (len(search.scales) > 1) == (group not in ("translation", "rigid"))
    assert search.scales == [1.0] or 1.0 in search.scales
    assert not search.mirrored
    ((name, reflected),) = mirrored_search(generators(group, ndim))
    assert isinstance(reflected, Search)
    assert (name, reflected.mirrored, reflected.rotate) == ("search", True, search.rotate)


def test_single_generators_count(ndim: int) -> None:
    """What is searched over must be all there: one axis of space is not every rotation."""
    assert searching(["translation", "rotation_xy"], ndim).rotate == (ndim == 2)
    assert not searching(["translation", "scale"], ndim).rotate
    assert len(searching(["translation", "scale"], ndim).scales) > 1
    assert not searching(["translation", "stretch", "shear"], ndim).rotate
    assert searching(["translation", "stretch", "shear"], ndim).scales == [1.0]
    mixed = torch.eye(ndim + 1, dtype=torch.float64)[:, None, :, None] * torch.eye(ndim + 1, dtype=torch.float64)[None, :, None]
    entries = {str(number): entry for number, entry in enumerate(mixed.flatten(0, 1)) if not entry[-1].any()}
    assert [name for name, _ in suited(entries, ndim)] == [name for name, _ in suited(generators("affine", ndim), ndim)]


@pytest.mark.parametrize("group", [["rotation"], ["scale"], ["translation_x"], ["translation_x", "rotation", "scale"]])
def test_a_group_that_lacks_a_shift_starts_from_the_given_start_alone(group: list[str], ndim: int) -> None:
    case = Case(ndim)
    assert not looks_for(generators(group, ndim), case.grid, case.grid)
    assert not mirrored_search(generators(group, ndim))
    found = ranked(case.inputs(group), case.shifted(degrees=1), Plan())
    assert [candidate.source for candidate in found.candidates] == ["given"]
    assert Doubt.ALONE not in found.doubts


@pytest.mark.parametrize("group", GROUPS)
def test_corners_are_matched_where_the_group_turns_and_scales_in_two_dimensions(group: str, ndim: int) -> None:
    names = [name for name, _ in suited(generators(group, ndim), ndim)]
    assert ("features" in names) == (ndim == 2 and group not in ("translation", "rigid"))
    assert "features" not in [name for name, _ in mirrored_search(generators(group, ndim))]


@pytest.mark.parametrize("factor", [2.0, -1.0, 1e-3])
def test_a_start_is_the_same_map_times_any_number(plane: Case, factor: float) -> None:
    given = torch.eye(3, dtype=torch.float64)
    near = plane.shifted(0.02, 0.01)
    one, other = (
        ranked(plane.inputs("rigid"), given, Plan([("near", lambda fixed, moving, found=found: found[None])], search=False))
        for found in (near, factor * near)
    )
    assert torch.allclose(one.candidates[0].matrix, other.candidates[0].matrix, atol=1e-9)
    assert one.candidates[0].evidence == pytest.approx(other.candidates[0].evidence)
    assert one.ratio == pytest.approx(other.ratio)


def test_a_ranking_holds_the_given_start_and_all_that_was_found(plane: Case) -> None:
    asked = [("centre", Centre()), ("nothing", nothing), ("near", lambda fixed, moving: plane.shifted(0.02, 0.01)[None])]
    given = torch.eye(3, dtype=torch.float64)
    found = ranked(plane.inputs("similarity"), given, Plan(asked, search=False))
    assert sorted(candidate.source for candidate in found.candidates) == ["centre", "given", "near"]
    assert found.candidates[0].source == "near"
    assert plane.error(found.candidates[0]) < REFINED[2]
    assert found.doubts == {}


def test_a_start_is_left_where_it_was_given_when_nothing_is_searched(plane: Case) -> None:
    given = plane.shifted(0.02, 0.01)
    found = ranked(plane.inputs("similarity"), given, Plan(search=False, refine=False))
    assert len(found.candidates) == 1
    assert torch.equal(found.candidates[0].matrix, given)
    assert [found.ratio] == peak_ratio(plane.inputs().reduced(given), [MatrixTransform(given)])


def test_a_search_that_suits_starts_from_anywhere() -> None:
    case = Case(2, turn(40))
    away = case.shifted(0.3, -0.2, degrees=150)
    found = ranked(case.inputs("rigid"), away, Plan())
    assert found.candidates[0].source == "search"
    assert case.error(found.candidates[0]) < REFINED[2]
    assert found.doubts == {}


class Watched:
    """A search that is counted."""

    def __init__(self, find: Proposer) -> None:
        self.find, self.calls = find, 0

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        self.calls += 1
        return self.find(fixed, moving)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> dict[bool, Watched]:
    """The quick look and the thorough one, in the place of those that suit."""
    numbers = {True: QUICKEST, False: THOROUGH}
    made = {is_quick: Watched(searching("rigid", 2, number)) for is_quick, number in numbers.items()}
    quick, thorough = ([("search", made[is_quick])] for is_quick in (True, False))
    monkeypatch.setattr(starts, "looks", lambda *_: [Look("quick", quick, QUICK_ROUNDS), Look("thorough", thorough)])
    monkeypatch.setattr(starts, "mirrored_search", lambda *_: [])  # the mirrored image is not looked at
    return made


def test_a_quick_look_is_enough_where_it_leaves_no_doubt(looks: dict[bool, Watched]) -> None:
    case = Case(2, turn(40))
    found = ranked(case.inputs("rigid"), case.shifted(0.3, 0), Plan())
    assert case.error(found.candidates[0]) < REFINED[2]
    assert (looks[True].calls, looks[False].calls) == (1, 0)


def test_what_a_quick_look_leaves_unclear_is_searched_thoroughly(looks: dict[bool, Watched]) -> None:
    case = Case(2, turn(40))
    looks[True].find = nothing  # the given start is far off, and nothing else is found
    found = ranked(case.inputs("rigid"), case.shifted(0.3, 0), Plan())
    assert case.error(found.candidates[0]) < REFINED[2]
    assert (looks[True].calls, looks[False].calls) == (1, 1)


@pytest.mark.parametrize(
    ("plan", "clear", "times"),
    [
        (Plan(), True, 0),
        (Plan(), False, 1),
        (Plan([("nothing", nothing)], search=False), False, 0),
        (Plan([("nothing", nothing)]), False, 1),
    ],
)
def test_what_thorough_looks_leave_unclear_is_polished_and_nothing_else(
    plan: Plan,
    clear: bool,
    times: int,
    looks: dict[bool, Watched],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(2, turn(40))
    if not clear:
        looks[True].find = looks[False].find = nothing
    made: list[Candidate] = []

    def polish(inputs: Sequence[Inputs], bests: Sequence[Candidate]) -> list[Candidate]:
        made.extend(replace(best, source="polished") for best in bests)
        return made

    monkeypatch.setattr(questions, "polished", polish)
    found = ranked(case.inputs("rigid"), case.shifted(0.01, 0), plan)
    assert len(made) == times
    assert [one.source for one in found.candidates].count("polished") == times
    assert not made or found.candidates[0] is made[0]


def test_a_quick_look_tries_fewer_poses_or_pixels(ndim: int) -> None:
    quick, thorough = (searching("affine", ndim, number) for number in (QUICKEST, THOROUGH))
    assert len(quick.scales) < len(thorough.scales)
    assert (quick.size or SIZE[ndim]) <= SIZE[ndim]


def test_a_start_stands_out_where_nothing_elsewhere_is_half_as_good() -> None:
    grid = Grid.regular((80, 100))

    def candidate(evidence: float, shift: float) -> Candidate:
        return Candidate("one", about(turn(0), grid.centre, grid.centre + shift), evidence)

    assert stands_out([candidate(10, 0), candidate(4, 50)], grid)
    assert not stands_out([candidate(10, 0)], grid)  # out of nothing
    assert stands_out([candidate(10, 0), candidate(9, 1), candidate(4, 50)], grid)
    assert not stands_out([candidate(10, 0), candidate(9, 1), candidate(6, 50)], grid)


def test_a_start_that_stopped_on_the_way_is_passed_by_those_around_it(ndim: int) -> None:
    case = Case(ndim)
    away = [("away", case.shifted(0.3, -0.2, 0.1, degrees=150))]
    ((truth, *others),) = refined([case.inputs("rigid")], [[("here", case.truth), *away]])
    off = case.shifted(degrees=4 if ndim == 2 else 8)
    stopped = Candidate("here", off, 0.7 * truth.evidence)
    looking = starts.Starts(case.inputs("rigid"), case.truth, lambda what, share: None)
    (best, *rest), enough = done(looking._settle((stopped, *others)))
    assert enough
    assert case.error(best) < REFINED[ndim]
    assert [id(one) for one in rest] == [id(one) for one in others]


def test_what_stays_unclear_is_started_anew_around_its_place(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(ndim)
    stopped = Candidate("here", case.shifted(degrees=2 if ndim == 2 else 4), 0.1)
    off = case.error(stopped)
    monkeypatch.setattr(starts, "looks", lambda *_: [Look("the given start")])
    monkeypatch.setattr(starts.Starts, "_settle", always(((stopped,), False)))
    monkeypatch.setattr(starts.Starts, "_mirrored", always({}))
    monkeypatch.setattr(questions, "polished", lambda inputs, best: best)
    found = ranked(case.inputs("rigid"), stopped.matrix, Plan())
    assert case.error(found.candidates[0]) < min(REFINED[ndim], off / 2)
    assert found.candidates[0].evidence > 0.1


def test_a_mirrored_image_is_said_to_be() -> None:
    case = Case(2, torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64)))
    eye = about(turn(0), case.fixed.grid.centre, case.moving.grid.centre)
    found = ranked(case.inputs("rigid"), eye, Plan())
    assert Doubt.MIRRORED in found.doubts


def looking(monkeypatch: pytest.MonkeyPatch, *finds: Any, further: bool = False) -> None:
    """Looks of which none is enough, in the place of those that suit; the last is a further one if asked for."""
    made = [Look(str(number), [("search", find)], further=False) for number, find in enumerate(finds)]
    made[-1] = replace(made[-1], further=further)
    monkeypatch.setattr(starts, "looks", lambda *_: made)

    async def unsettled(self: starts.Starts, candidates: tuple[Candidate, ...]) -> tuple[tuple[Candidate, ...], bool]:
        return candidates, False

    monkeypatch.setattr(starts.Starts, "_settle", unsettled)
    monkeypatch.setattr(starts.Starts, "_mirrored", always({}))
    monkeypatch.setattr(questions, "polished", lambda inputs, best: best)


def test_the_best_of_each_look_goes_on_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The right one is what the second look finds, after another of the same name, and the third one finds nothing."""
    case = Case(2, turn(40))
    wrong, right = case.shifted(0.2, 0.1), case.shifted(0.01, 0.01)
    looking(monkeypatch, lambda *_: wrong[None], lambda *_: right[None], nothing)
    found = ranked(case.inputs("rigid"), case.shifted(degrees=90), Plan())
    assert case.error(found.candidates[0]) < REFINED[2]


@pytest.mark.parametrize("doubted", [False, True])
def test_further_looks_are_taken_where_edges_agree_well_but_something_speaks_against_it(
    doubted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(2, turn(40))
    further = Watched(nothing)
    looking(monkeypatch, lambda *_: case.truth[None], further, further=True)
    monkeypatch.setattr(starts.Starts, "_rival", always(Rival(0.9, torch.ones(2), "edges") if doubted else None))
    found = ranked(case.inputs("rigid"), case.shifted(degrees=90), Plan())
    assert found.ratio > CLEAR
    assert further.calls == doubted


# Doubts


def test_where_nothing_but_the_given_start_was_found_that_is_said_if_more_was_asked_for() -> None:
    case, none = Case(2), stacked([], 2)
    for asked, said in (([("found", lambda fixed, moving: none)], True), ([], False)):
        found = ranked(case.inputs("rigid"), case.truth, Plan(asked, search=False))
        assert [candidate.source for candidate in found.candidates] == ["given"]
        assert (Doubt.ALONE in found.doubts) == said


def test_rivals_are_the_evidence_of_starts_elsewhere(plane: Case) -> None:
    asked = [("near", lambda fixed, moving: plane.truth[None]), ("far", lambda fixed, moving: plane.shifted(degrees=90)[None])]
    found = ranked(plane.inputs("similarity"), plane.truth, Plan(asked, search=False))
    best, *others = found.candidates
    away = [one for one in others if apart(best.matrix, one.matrix, plane.grid)]
    assert away
    assert found.rivals == tuple(one.evidence / best.evidence for one in away)
    assert max(found.rivals) < 0.8


def test_of_two_starts_that_are_as_good_the_one_near_the_given_goes_first() -> None:
    grid = Grid.regular((80, 100))
    middle = grid.centre

    def at(shift: float) -> Tensor:
        return about(turn(0), middle, middle + shift)

    def first(*evidence: float, given: float) -> float:
        made = tuple(Candidate("one", at(60 * number), one) for number, one in enumerate(evidence))
        ordered = as_given(made, at(given), grid)
        assert sorted(map(id, ordered)) == sorted(map(id, made))
        return ordered[0].evidence

    assert first(10, 9, given=62) == 9
    assert first(10, 7, given=62) == 10  # much more speaks for the other
    assert first(10, 9, given=-200) == 10  # near neither
    assert first(10, 9, 8.5, given=118) == 8.5


def test_apart_is_a_share_of_the_diagonal_in_the_scale_of_the_moving_image(ndim: int) -> None:
    for spacing, scale in itertools.product((1.0, 0.01), (1.0, 5.0)):
        grid = Grid.regular(SIDES[ndim], [spacing] * ndim)
        middle, eye = grid.centre, torch.eye(ndim, dtype=torch.float64)
        step = torch.zeros(ndim, dtype=torch.float64)
        step[0] = scale * APART * float((grid.size * grid.spacing).norm())
        one = about(scale * eye, middle, middle)
        assert not apart(one, one, grid)
        assert not apart(one, about(scale * eye, middle, middle + 0.99 * step), grid)
        assert apart(one, about(scale * eye, middle, middle + 1.01 * step), grid)


# Further looks, progress, Ctrl-C


def test_small_overlaps_scales_and_pixels_are_searched_where_the_group_can_follow() -> None:
    plain, spaced = Grid.regular((100, 120)), Grid.regular((100, 120), (0.5, 0.5))

    def names(group: str, *grids: Grid) -> list[str]:
        return [
            look.name.removeprefix("a search of ")
            for look in looks_for(generators(group, grids[0].ndim), *grids)
            if look.further
        ]

    assert names("translation", plain, plain) == names("rigid", plain, plain) == ["small overlaps"]
    assert names("similarity", plain, plain) == ["small overlaps", "all scales"]
    assert names("affine", plain, plain) == ["small overlaps", "all scales", "unequal pixels"]
    assert names("affine", spaced, plain) == ["small overlaps"]
    assert names("affine", *[Grid.regular((40, 40, 40))] * 2) == []
    assert looks_for(generators(["rotation"], 2), plain, plain) == []


def test_a_further_look_is_taken_only_where_nothing_is_clear(
    looks: dict[bool, Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(2, turn(40))
    further = Watched(looks[True].find)
    both = [Look("quick", [("search", looks[True])], QUICK_ROUNDS), Look("further", [("search", further)], further=True)]
    monkeypatch.setattr(starts, "looks", lambda *_: both)
    away = case.shifted(0.3, 0)
    ranked(case.inputs("rigid"), away, Plan())
    assert further.calls == 0
    looks[True].find = nothing
    found = ranked(case.inputs("rigid"), away, Plan())
    assert further.calls == 1
    assert case.error(found.candidates[0]) < REFINED[2]


def test_starts_on_two_peaks_of_a_lattice_are_two_whatever_lies_halfway() -> None:
    grid = Grid.regular((96, 96))
    x, y = world_points(grid).T

    def starts_on(pixels: Tensor, *shifts: float) -> tuple[Candidate, ...]:
        picture = Image(pixels.view(1, 1, 96, 96), grid).normalised()
        matrices = [about(turn(0), grid.centre, grid.centre + torch.tensor([shift, 0.0])) for shift in shifts]
        inputs = Inputs(picture, picture, generators("translation", 2), 0)
        evidence = inputs.reduced(matrices[0]).score_and_evidence(torch.stack(matrices)[None])[1][0].tolist()
        made = tuple(Candidate("one", matrix, value) for matrix, value in zip(matrices, evidence, strict=True))
        looking = starts.Starts(inputs, matrices[0], lambda what, share: None)
        return done(looking._distinct_peaks(made))

    lattice = (2 * torch.pi * x / 12).cos() + (2 * torch.pi * y / 12).cos()
    assert [len(starts_on(lattice, 0.0, 12.0 * periods)) for periods in (1, 2, 3)] == [2, 2, 2]


def test_what_is_being_done_is_told_and_ctrl_c_keeps_the_best_so_far() -> None:
    case = Case(2, turn(40))
    told: list[tuple[str, float]] = []
    options = (case.inputs("rigid"), case.shifted(0.3, 0), Plan())
    ranked(*options, lambda what, share: told.append((what, share)))
    assert told[0] == ("a quick search", 0.0)
    assert ("a quick search", 1.0) in told
    assert all(0 <= share <= 1 for _, share in told)

    def interrupt(at: str) -> Ranking:
        def tell(what: str, share: float) -> None:
            if what.startswith(at):
                raise KeyboardInterrupt

        return ranked(*options, tell)

    early = interrupt("a quick search")
    assert early.interrupted
    assert torch.equal(early.candidates[0].matrix, options[1])


def unrelated(case: Case) -> Inputs:
    """Two images of different scenes: all looks are taken."""
    other = photograph(busy(case.moving.grid, seed=7, finest=0.2), grid=case.moving.grid, dtype=torch.float32).normalised()
    return Inputs(case.fixed, other, generators("rigid", case.ndim), 0)


@pytest.mark.slow
def test_pairs_that_are_searched_side_by_side_have_what_each_has_alone(ndim: int) -> None:
    """One that is clear at once, one at another angle; and, in the plane, one for which all looks are taken."""
    cases = [Case(ndim, turn_in(ndim, 40)), Case(ndim, 1.3 * turn_in(ndim, 100))]
    inputs = [*(case.inputs("similarity") for case in cases), *([unrelated(cases[0])] if ndim == 2 else [])]
    given = [case.shifted(0.3, -0.2, 0.1, degrees=150) for case in (*cases, cases[0])][: len(inputs)]
    several = ranking(inputs, given, Plan())
    alone = [
        ranked(Inputs(one.fixed, one.moving, one.generators, one.seed), start, Plan())
        for one, start in zip(inputs, given, strict=True)
    ]
    for case, found, other in zip(cases, several, alone, strict=False):
        assert [one.source for one in found.candidates] == [one.source for one in other.candidates]
        assert found.ratio == pytest.approx(other.ratio, rel=1e-3)
        assert not apart(found.candidates[0].matrix, other.candidates[0].matrix, case.grid, 1e-3)
        assert case.error(found.candidates[0]) < REFINED[ndim]
        assert found.doubts == other.doubts == {}
    # where nothing is right, refinement ends at one of many weak optima, which rounding decides
    assert all(weak.ratio < several[0].ratio for weak in (*several[2:], *alone[2:]))


@pytest.mark.parametrize("group", ["rigid", "projective"])
def test_masks_and_channels_are_of_each_pair(group: str) -> None:
    """Two pairs of colour images with masks of their own; each as alone."""
    cases = [Case(2, turn(40)), Case(2, turn(100))]
    inputs = []
    for case, side in zip(cases, (12, 30), strict=True):
        mask = torch.ones_like(case.fixed.data)
        mask[..., :side] = 0
        colours = torch.cat([case.fixed.data, case.fixed.data.square(), 1 - case.fixed.data], 1)
        inputs.append(Inputs(Image(colours, case.grid, mask), case.moving, generators(group, 2), 0))
    given = [case.shifted(0.02, 0.01) for case in cases]
    plan = Plan([("search", Search(size=64, step=20, scales=(1.0,)))], search=False)
    several = ranking(inputs, given, plan)
    for one, start, found in zip(inputs, given, several, strict=True):
        alone = ranked(one, start, plan)
        assert [each.source for each in found.candidates] == [each.source for each in alone.candidates]
        assert not apart(found.candidates[0].matrix, alone.candidates[0].matrix, one.fixed.grid, 1e-4)
        assert found.candidates[0].evidence == pytest.approx(alone.candidates[0].evidence, rel=1e-3)
        assert found.ratio == pytest.approx(alone.ratio, rel=1e-3)


def test_a_search_of_a_class_of_its_own_is_called_as_it_is(plane: Case) -> None:
    class Known(Search):
        def __call__(self, fixed: Image, moving: Image, tell: Any = None) -> Tensor:
            tell(0.5)
            return plane.shifted(0.02, 0.01)[None]

    told: list[tuple[str, float]] = []
    plan = Plan([("known", Known())], search=False)
    found = ranked(plane.inputs("similarity"), plane.shifted(degrees=90), plan, lambda what, share: told.append((what, share)))
    assert found.candidates[0].source == "known"
    assert ("known", 0.5) in told


def test_ctrl_c_ends_the_search_of_all_that_are_not_finished() -> None:
    cases = [Case(2, turn(40)), Case(2, turn(100))]
    given = [case.shifted(0.3, 0) for case in cases]

    def tell(what: str, share: float) -> None:
        if share == 1:
            raise KeyboardInterrupt

    found = ranking([case.inputs("rigid") for case in cases], given, Plan(), tell)
    assert [one.interrupted for one in found] == [True, True]
    assert all(torch.equal(one.candidates[0].matrix, start) for one, start in zip(found, given, strict=True))
