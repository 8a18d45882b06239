"""From many starts to one: the right one among wrong ones, and how far it is brought."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from counting import Counting
from posed import OFF, REFINED, Case
from problems import linear, photograph
from textures import about, busy, corner_error, inverted, turn
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.lie import generators
from drmime.geometry.matrices import translation
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.sampling import Uniform
from drmime.start import refine
from drmime.start.choose import elsewhere
from drmime.start.inputs import Inputs, scale_class
from drmime.start.refine import ROUNDS, Candidate, polished, refined


@pytest.fixture(scope="module")
def plane() -> Case:
    return Case(2)


@pytest.fixture(scope="module")
def kept(plane: Case) -> tuple[Candidate, ...]:
    return plane.refined()


def test_the_right_start_is_ranked_first_and_refined(ndim: int) -> None:
    case = Case(ndim)
    near = dict(case.starts())["near"]
    assert 0.5 * OFF < corner_error(near, case.truth, case.fixed) < 1.5 * OFF
    found = case.refined()
    assert found[0].source == "near"
    assert case.error(found[0]) < REFINED[ndim]
    assert not elsewhere(found, case.grid)


def test_an_affine_start_is_refined() -> None:
    case = Case(2, torch.tensor([[1.1, 0.15], [-0.05, 0.85]], dtype=torch.float64))
    found = case.refined("affine")
    assert found[0].source == "near"
    assert case.error(found[0]) < REFINED[2]


def test_every_start_comes_back_and_the_best_is_first(plane: Case, kept: tuple[Candidate, ...]) -> None:
    found = kept
    assert sorted(candidate.source for candidate in found) == ["near", "wrong", "wrong", "wrong"]
    assert found[0].evidence == max(candidate.evidence for candidate in found)
    many = [*plane.starts(), *(("more", plane.shifted(0.1 * k, 0, degrees=50 * k)) for k in range(3, 8))]
    [found] = refined([plane.inputs("rigid")], [many])
    assert len(found) == len(many)
    assert found[0].source == "near"
    assert found[0].evidence == max(candidate.evidence for candidate in found)


def test_the_same_seed_climbs_alike_and_another_otherwise(plane: Case, kept: tuple[Candidate, ...]) -> None:
    one, two, other = kept, plane.refined(), plane.refined(seed=1)
    for first, second in zip(one, two, strict=True):
        assert first.source == second.source
        assert first.evidence == second.evidence
        assert torch.equal(first.matrix, second.matrix)
    assert not torch.equal(one[0].matrix, other[0].matrix)
    assert corner_error(one[0].matrix, other[0].matrix, plane.fixed) < REFINED[2]


def test_what_is_proposed_is_left_as_it_was(plane: Case) -> None:
    starts = plane.starts()
    before = [matrix.clone() for _, matrix in starts]
    refined([plane.inputs("rigid")], [starts])
    assert all(torch.equal(matrix, other) for (_, matrix), other in zip(starts, before, strict=True))


@pytest.mark.parametrize("group", ["translation", "rigid", "similarity", "projective"])
def test_a_start_is_moved_by_its_group_alone_and_perspective_is_left_out(group: str, plane: Case) -> None:
    start = plane.shifted(0.03, -0.02)
    found = refined([plane.inputs(group)], [[("one", start)]])[0][0].matrix
    change = torch.linalg.inv(start) @ found
    linear_part = change[:-1, :-1]
    assert torch.allclose(found[-1], torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), atol=1e-12)
    gram = linear_part.T @ linear_part
    if group == "translation":
        assert torch.allclose(linear_part, torch.eye(2, dtype=torch.float64), atol=1e-9)
    if group == "rigid":
        assert torch.allclose(gram, torch.eye(2, dtype=torch.float64), atol=1e-9)
    if group == "similarity":
        assert torch.allclose(gram, gram[0, 0] * torch.eye(2, dtype=torch.float64), atol=1e-9)
    assert corner_error(found, plane.truth, plane.fixed) < REFINED[2]


@pytest.mark.parametrize("group", ["rigid", "projective"])
def test_the_best_is_polished_within_its_group(group: str, ndim: int) -> None:
    case = Case(ndim)
    best = Candidate("near", case.shifted(0.015, -0.01, 0.01, degrees=1), 0.1)
    [found] = polished([case.inputs(group)], [best])
    assert case.error(found) < 0.4 * case.error(best)
    assert found.source == "near"
    evidence = case.inputs(group).reduced(best.matrix).score_and_evidence(found.matrix[None, None])[1]
    assert found.evidence == pytest.approx(float(evidence), rel=0.05)
    change = torch.linalg.inv(best.matrix) @ found.matrix
    assert torch.allclose(change[-1], torch.eye(ndim + 1, dtype=torch.float64)[-1], atol=1e-12)
    if group == "rigid":
        assert torch.allclose(change[:-1, :-1].T @ change[:-1, :-1], torch.eye(ndim, dtype=torch.float64), atol=1e-9)


def test_a_start_that_polishing_makes_worse_stays(plane: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    best = plane.refined()[0]
    monkeypatch.setattr(refine, "_optimised", lambda *_: plane.shifted(0.2, 0.1)[None, None])
    assert polished([plane.inputs("rigid")], [best])[0] is best


def test_a_mask_too_thin_for_coarse_pixels_is_no_crash() -> None:
    grid = Grid.regular((300, 300))
    image = photograph(busy(grid), grid=grid, dtype=torch.float32).normalised()
    column = torch.zeros_like(image.data)
    column[..., 150] = 1
    best = Candidate("one", torch.eye(3, dtype=torch.float64), 1.0)
    assert polished([Inputs(Image(image.data, grid, column), image, generators("rigid", 2), 0)], [best])[0] is best


def test_perspective_alone_is_all_there_is(plane: Case) -> None:
    [found] = refined([plane.inputs(["perspective"])], [[("one", plane.truth)]])
    assert bool(found[0].matrix.isfinite().all())


@pytest.mark.parametrize("shape", [(8, 8), (8, 2000), (16, 60), (8, 8, 8), (8, 30, 30)])
def test_odd_shapes_are_no_crash(shape: tuple[int, ...]) -> None:
    grid = Grid.regular(shape)
    image = photograph(busy(grid), grid=grid, dtype=torch.float32).normalised()
    eye = torch.eye(grid.ndim + 1, dtype=torch.float64)
    inputs = Inputs(image, image, generators("rigid", grid.ndim), 0)
    [found] = refined([inputs], [[("one", eye), ("other", eye)]])
    found = (*found, *polished([inputs], [found[0]]))
    assert all(bool(candidate.matrix.isfinite().all()) for candidate in found)


def test_a_start_without_overlap_is_last_and_no_crash(plane: Case) -> None:
    starts = [("away", plane.shifted(3.0, 3.0)), ("near", plane.shifted(0.02, 0.01))]
    [found] = refined([plane.inputs("rigid")], [starts])
    assert [candidate.source for candidate in found] == ["near", "away"]
    assert found[1].evidence == 0


def test_the_evidence_for_one_transform_is_highest_at_the_truth(plane: Case) -> None:
    small = plane.inputs().reduced(plane.truth)
    others = [plane.shifted(0.05, 0), plane.shifted(degrees=5), plane.shifted(0, -0.05), plane.shifted(0.2, 0.2)]
    best, *rest = small.score_and_evidence(torch.stack([plane.truth, *others])[None])[1][0].tolist()
    assert max(rest) < 0.9 * best


# Points


def test_points_are_drawn_as_often_as_directions_are_clear(ndim: int) -> None:
    """A described image that is clear in one half, and three times as clear at one end of it."""
    grid = Grid.regular((40, 30) if ndim == 2 else (10, 12, 30))
    data = torch.zeros(1, 3 if ndim == 2 else 6, *grid.shape)
    data[:, -1, ..., 15:] = 0.2
    data[:, -1, ..., 25:] += 0.4
    sampler = refine.Strength(4000)
    sampler.begin(Pyramid([Image(data, grid)]), torch.Generator().manual_seed(0))
    drawn = sampler.index(0, 1)[0, :, 0]
    assert float(drawn.min()) >= 14.5
    assert float(drawn.max()) <= 29.5
    share = float((drawn > 24.5).double().mean())
    assert share == pytest.approx(15 / 25, abs=0.03)  # 5 columns of 0.6 against 10 of 0.2


def test_a_described_image_without_directions_is_sampled_evenly() -> None:
    grid = Grid.regular((40, 30))
    sampler = refine.Strength(4000)
    sampler.begin(Pyramid([Image(torch.zeros(1, 3, 40, 30), grid)]), torch.Generator().manual_seed(0))
    drawn = sampler.index(0, 1)[0]
    assert torch.allclose(drawn.mean(0), torch.tensor([14.5, 19.5], dtype=torch.float64), atol=0.6)


def test_a_ramp_has_one_direction_and_any_shift_is_as_good() -> None:
    """What edges cannot tell, the score does not."""
    grid = Grid.regular((64, 64))
    image = photograph(linear([0.01, 0.005]), grid=grid, dtype=torch.float32).normalised()
    matrices = torch.stack([about(turn(0), grid.centre, grid.centre + shift) for shift in (0.0, 4.0)])
    small = Inputs(image, image, generators("rigid", 2), 0).reduced(matrices[0])
    first, second = small.score_and_evidence(matrices[None])[0][0].tolist()
    assert first > 20  # standard deviations
    assert second > 0.7 * first


# Scales


SCALES = [1.0, 0.7, 1.3, 4.0, 0.2, 5.0], [0.45, 0.69]  # of the starts of two pairs, the given one first in each


def test_starts_of_far_different_scales_are_refined_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group at pixels that suit it; groups of several pairs at the same pixels together."""
    asked: list[list[list[float]]] = []
    scales: list[float] = []

    def together(inputs: list[Inputs], groups: list[list[tuple[str, Tensor]]], scale: float, _: Any) -> list[list[Candidate]]:
        asked.append([[float(matrix[0, 0]) for _, matrix in found] for found in groups])
        scales.append(scale)
        return [[Candidate(source, matrix, float(matrix[0, 0])) for source, matrix in found] for found in groups]

    monkeypatch.setattr(refine, "_refined_groups", together)
    plane = Case(2)
    starts = [[("search", torch.diag(torch.tensor([s, s, 1.0], dtype=torch.float64))) for s in some] for some in SCALES]
    found = refined([plane.inputs("affine")] * 2, starts)
    assert asked == [[[1.0, 0.7, 1.3], [0.45, 0.69]], [[4.0, 5.0]], [[0.2]]]
    assert scales == pytest.approx([1.1**-4, 1.1**17, 1.1**-17])
    expected = [[5.0, 4.0, 1.3, 1.0, 0.7, 0.2], [0.69, 0.45]]
    assert [[candidate.evidence for candidate in some] for some in found] == expected


def test_the_scale_of_reduced_images_depends_on_the_start_alone(plane: Case) -> None:
    scales = 1.0, 1.03, 0.96, 1.07, 2.0, 1e-3
    starts = [torch.diag(torch.tensor([s, s, 1.0], dtype=torch.float64)) for s in scales]
    classes = [scale_class(start, plane.grid) for start in starts]
    assert classes[:3] == [1.0] * 3
    assert classes[3] == 1.1
    assert all(1.1**-0.5 <= found / scale <= 1.1**0.5 for found, scale in zip(classes, scales, strict=True))
    orders = [starts[:4], starts[3::-1]]
    made = [[plane_inputs.reduced(start) for start in some] for some in orders for plane_inputs in [plane.inputs()]]
    assert made[0][0] is made[0][1] is made[0][2] is not made[0][3]
    spacings = [[float(small.moving.levels[0].grid.spacing[0]) for small in some] for some in made]
    assert spacings[0] == spacings[1][::-1]
    inputs = plane.inputs()
    assert not inputs.kept
    inputs.kept[1.0] = made[0][0]
    assert inputs.reduced(starts[1]) is made[0][0]


# Batches


def batch(ndim: int, masked: bool = False, count: int = 3) -> list[Inputs]:
    """Pairs of scenes and their negatives on equal grids; masks differ from pair to pair."""
    grid = Grid.regular((64, 72) if ndim == 2 else (24, 26, 28))
    made = []
    for seed in range(count):
        scene = busy(grid, finest=0.2 if ndim == 2 else 0.3, seed=seed)
        images = [photograph(side, grid=grid, dtype=torch.float32).normalised() for side in (scene, inverted(scene))]
        masks = [torch.ones_like(images[0].data) for _ in images]
        masks[0][..., : 4 + 3 * seed] = 0
        masks[1][..., : 6 + seed, :] = 0
        images = [Image(image.data, grid, mask) if masked else image for image, mask in zip(images, masks, strict=True)]
        made.append(Inputs(images[0], images[1], generators("affine", ndim), 0))
    return made


def fresh(inputs: Inputs) -> Inputs:
    return Inputs(inputs.fixed, inputs.moving, inputs.generators, inputs.seed)


def scattered(ndim: int, count: int, away: float = 0.0) -> list[tuple[str, Tensor]]:
    """Shifts by up to some pixels, all of them farther by `away`."""
    random = torch.Generator().manual_seed(count)
    shifts = 6 * torch.rand(count, ndim, dtype=torch.float64, generator=random) - 3 + away
    return [(f"{number}", translation(shift)) for number, shift in enumerate(shifts)]


def near(found: Candidate, expected: Candidate, fixed: Image) -> bool:
    same_evidence = found.evidence == pytest.approx(expected.evidence, rel=1e-2, abs=1e-6)
    return found.source == expected.source and same_evidence and corner_error(found.matrix, expected.matrix, fixed) < 1e-3


@pytest.mark.parametrize("masked", [False, True])
def test_pairs_are_refined_together_as_alone(masked: bool, ndim: int) -> None:
    """Different numbers of starts, of which different numbers survive; one pair has a start that does not overlap only."""
    inputs = batch(ndim, masked, 4)
    starts = [scattered(ndim, 5), scattered(ndim, 1), scattered(ndim, 2, away=1e4), scattered(ndim, 3)]
    rounds = [replace(one, steps=10, points=256) for one in ROUNDS]
    alone = [refined([fresh(one)], [some], rounds)[0] for one, some in zip(inputs, starts, strict=True)]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        together = refined([fresh(inputs[number]) for number in order], [starts[number] for number in order], rounds)
        for number, found in zip(order, together, strict=True):
            assert len(found) == len(alone[number])
            for one, other in zip(found, alone[number], strict=True):
                assert near(one, other, inputs[number].fixed)


@pytest.mark.parametrize("masked", [False, True])
def test_pairs_are_polished_together_as_alone(masked: bool, ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pair at another scale, and one that polishing makes worse."""
    monkeypatch.setattr(refine, "POLISH", replace(refine.POLISH, steps=20))
    inputs = batch(ndim, masked)
    best = [Candidate(*scattered(ndim, 1)[0], 1.0) for _ in inputs]
    centre = inputs[0].fixed.grid.centre
    best[1] = Candidate("larger", about(1.2 * torch.eye(ndim, dtype=torch.float64), centre, centre), 1.0)
    alone = [polished([fresh(one)], [start])[0] for one, start in zip(inputs, best, strict=True)]
    for order in ([0, 1, 2], [2, 0, 1]):
        together = polished([fresh(inputs[number]) for number in order], [best[number] for number in order])
        for number, found in zip(order, together, strict=True):
            assert near(found, alone[number], inputs[number].fixed)


def test_a_vanished_mask_of_one_pair_does_not_keep_others_from_being_polished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "POLISH", replace(refine.POLISH, steps=20))
    inputs = batch(2, masked=True, count=2)
    best = [Candidate("one", translation(torch.tensor([1.0, 0.5], dtype=torch.float64)), 1.0)] * 2
    alone = polished([fresh(inputs[0])], [best[0]])[0]
    monkeypatch.setattr(refine, "_vanished", lambda levels: [False, True])
    found = polished(inputs, best)
    assert near(found[0], alone, inputs[0].fixed)
    assert found[0] is not best[0]
    assert found[1] is best[1]


def test_an_interrupt_is_passed_on(plane: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("drmime.evaluation.score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        plane.refined()
    with pytest.raises(KeyboardInterrupt):
        polished([plane.inputs()], [Candidate("one", plane.truth, 1.0)])


def test_many_pairs_take_about_as_many_operations_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "POLISH", replace(refine.POLISH, steps=20))
    monkeypatch.setattr(refine, "Uniform", lambda: Uniform(64))
    monkeypatch.setattr("drmime.start.score.TOGETHER", 2**30)
    monkeypatch.setattr("drmime.start.inputs.AT_ONCE", {})
    rounds = [replace(one, steps=20, points=64) for one in ROUNDS]
    counts = []
    for count in (1, 16):
        inputs, starts = batch(2, masked=True, count=count), [scattered(2, 4)] * count
        best = [Candidate("one", some[0][1], 1.0) for some in starts]
        for one in inputs:
            one.reduced(torch.eye(3, dtype=torch.float64))
        with Counting() as refining:
            refined(inputs, starts, rounds)
        with Counting() as polishing:
            polished(inputs, best)
        counts.append((refining.operations.total(), polishing.operations.total()))
    assert counts[1][0] < 1.5 * counts[0][0]
    assert counts[1][1] < 1.3 * counts[0][1]
