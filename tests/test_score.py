"""The evidence of a start: each factor against a derived value, and their product where one factor alone is wrong."""

import math
from dataclasses import replace

import pytest
import torch
from alike import bent, pairs
from counting import Counting
from problems import oblique, photograph
from textures import about, busy, inverted, turn
from tolerances import EXACT, TOLERANCE
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.image.image import Image
from drmime.start import score as scores
from drmime.start.score import NMI_FLOOR, Reduced, _slopes, correlation, distortion, moved, moving_edges, nmi
from drmime.transform.base import Chain, Transform
from drmime.transform.lattice import Lattice
from drmime.transform.lattice_transform import VelocityTransform
from drmime.transform.linear import MatrixTransform


def test_the_same_intensities_share_everything_and_those_without_relation_nothing() -> None:
    steps = torch.arange(16.0).repeat(16)[None] / 15
    other = torch.arange(16.0).repeat_interleave(16)[None] / 15
    weight = torch.ones_like(steps)
    assert float(nmi(steps, steps, weight)) == pytest.approx(1, abs=1e-5)
    assert float(nmi(steps, 1 - steps, weight)) == pytest.approx(1, abs=1e-5)
    assert float(nmi(steps, (6 * steps).sin().abs(), weight)) > 0.8
    assert float(nmi(steps, other, weight)) == pytest.approx(0, abs=1e-5)


def test_shared_information_of_two_values_is_that_of_a_binary_channel() -> None:
    """Equal halves that differ at one place in four: log 2 less the entropy of 1/4, by log 2."""
    first, second = torch.tensor([[0.0] * 4 + [1.0] * 4]), torch.tensor([[0.0, 0, 0, 1, 1, 1, 1, 0]])
    lost = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert float(nmi(first, second, torch.ones_like(first))) == pytest.approx(1 - lost / math.log(2), abs=1e-5)
    doubled = torch.cat([first, first], 1), torch.cat([second, 1 - second], 1)
    weight = torch.tensor([[1.0] * 8 + [0.0] * 8])  # what has no weight is not seen
    assert float(nmi(*doubled, weight)) == pytest.approx(1 - lost / math.log(2), abs=1e-5)


def test_what_does_not_vary_or_is_not_there_says_nothing() -> None:
    values, flat = torch.linspace(0, 1, 50)[None], torch.full((1, 50), 0.3)
    for first, second, weight in ((values, flat, 1), (flat, flat, 1), (values, values, 0)):
        weights = torch.full_like(values, weight)
        assert float(nmi(first, second, weights)) == pytest.approx(0, abs=1e-4)
        assert float(correlation(first, second, weights)) == pytest.approx(0, abs=1e-4)


def test_the_correlation_is_that_of_the_weighted_values() -> None:
    random = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 3, 40, generator=random)
    weight = (torch.rand(3, 40, generator=random) > 0.3).float()
    found = correlation(first, second, weight)
    for a, b, w, value in zip(first, second, weight, found, strict=True):
        assert float(value) == pytest.approx(float(torch.corrcoef(torch.stack([a[w > 0], b[w > 0]]))[0, 1]), abs=1e-5)
    assert torch.allclose(correlation(first, 2 - 3 * first, weight), -torch.ones(3), atol=1e-5)


def test_a_rotation_in_an_expected_scale_is_like_and_what_stretches_or_rescales_less_so() -> None:
    maps = torch.stack(
        [
            turn(40),
            2 * turn(70),
            1.2 * turn(10),
            0.5 * turn(0),
            turn(20) @ torch.diag(torch.tensor([1.3, 1.0])).double(),
            torch.zeros(2, 2).double(),
        ]
    )
    found = distortion(maps, (1.0, 2.0)).tolist()
    assert found[:5] == pytest.approx([1, 1, 1.2, 2, 1.3])
    assert not found[5] <= 1e6  # a map onto a point


def tiles() -> Image:
    """Squares of random brightness: edges that lie as well after a quarter turn."""
    random = torch.Generator().manual_seed(0)
    values = torch.rand(1, 1, 12, 12, generator=random).repeat_interleave(16, 2).repeat_interleave(16, 3)
    return Image(values, Grid.regular(values.shape[2:])).normalised()


def test_intensities_decide_where_edges_lie_alike() -> None:
    fixed = tiles()
    moving = Image(1 - fixed.data, fixed.grid)
    matrices = torch.stack([about(turn(degrees), fixed.grid.centre, fixed.grid.centre) for degrees in (0, 90, 180, 270)])
    score, evidence = (part[0] for part in Reduced.of([fixed], [moving], 1).score_and_evidence(matrices[None]))
    assert float(score[1:].min()) > 0.5 * float(score[0])
    assert float(evidence[1:].max()) < 0.2 * float(evidence[0])


def test_edges_decide_where_intensities_say_nothing(ndim: int) -> None:
    grid = Grid.regular((120, 130) if ndim == 2 else (40, 44, 48))
    scene = busy(grid, finest=0.2)
    fixed, moving = (photograph(what, grid=grid, dtype=torch.float32).normalised() for what in (scene, inverted(scene)))
    flat = Image(torch.zeros_like(fixed.data), grid)
    small = Reduced.of([fixed], [moving], 1)
    small = replace(small, grays=(flat, flat))
    starts = torch.stack([torch.eye(ndim + 1, dtype=torch.float64), shift(ndim, 9.0), shift(ndim, 1000.0)])
    score, evidence = (part[0] for part in small.score_and_evidence(starts[None]))
    assert evidence.argmax() == 0
    assert float(evidence[0]) >= NMI_FLOOR * float(score[0])
    assert float(score[2]) == float(evidence[2]) == 0


def shift(ndim: int, length: float) -> Tensor:
    matrix = torch.eye(ndim + 1, dtype=torch.float64)
    matrix[0, -1] = length
    return matrix


def test_starts_are_judged_together_as_they_are_alone(ndim: int) -> None:
    grid = Grid.regular((60, 70) if ndim == 2 else (24, 28, 26))
    mask = torch.ones(1, 1, *grid.shape)
    mask[..., :10] = 0
    fixed = photograph(busy(grid), grid=grid, dtype=torch.float32).normalised()
    small = Reduced.of([Image(fixed.data, grid, mask)], [fixed], 1)
    starts = torch.stack([shift(ndim, length) for length in (0.0, 3.0, -8.0)])
    together = small.score_and_evidence(starts[None])
    for number, start in enumerate(starts):
        for all_, one in zip(together, small.score_and_evidence(start[None, None]), strict=True):
            assert torch.allclose(all_[0, number], one[0, 0], rtol=1e-5)
    assert together[1].argmax() == 0


def several(ndim: int, masked: bool, count: int = 3) -> tuple[list[Image], list[Image]]:
    """Pairs of scenes and their negatives on equal grids, the moving ones coarser; masks differ from pair to pair."""
    grid = Grid.regular((60, 70) if ndim == 2 else (24, 28, 26))
    coarser = Grid.regular([n - 4 for n in grid.shape], [1.1] * ndim)
    sides = list[list[Image]]()
    for number, each in enumerate((grid, coarser)):
        sides.append([])
        for seed in range(count):
            scene = busy(grid, finest=0.2, seed=seed)
            image = photograph(inverted(scene) if number else scene, grid=each, dtype=torch.float32).normalised()
            mask = torch.ones_like(image.data)
            mask[..., : 3 + 2 * seed + number] = 0
            sides[-1].append(replace(image, mask=mask) if masked else image)
    return sides[0], sides[1]


def alike(one: Reduced, other: Reduced) -> None:
    """Assert that two have the same values on the same grids."""
    sides = [[*small.fixed.levels, *small.moving.levels, *small.grays] for small in (one, other)]
    sides = [[*images, *one.plain[0].levels, *one.plain[1].levels] for images in sides]
    for first, second in zip(*sides, strict=True):
        assert torch.equal(first.grid.world_from_index, second.grid.world_from_index)
        assert torch.allclose(first.data, second.data, atol=1e-6)
        assert torch.equal(first.valid, second.valid)


@pytest.mark.parametrize("masked", [False, True])
def test_pairs_of_a_batch_are_reduced_and_judged_as_alone(masked: bool, ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, moving = several(ndim, masked)
    small = Reduced.of(fixed, moving, 1.05)
    singles = [Reduced.of([one], [other], 1.05) for one, other in zip(fixed, moving, strict=True)]
    lengths = torch.tensor([[0.0, 3.0, -8.0, 1000.0], [1.0, 2.0, 30.0, 0.0], [-5.0, 0.0, 0.5, 2.0]])
    matrices = torch.stack([torch.stack([shift(ndim, float(length)) for length in row]) for row in lengths])
    together = small.score_and_evidence(matrices)
    reverse = Reduced.of(fixed[::-1], moving[::-1], 1.05).score_and_evidence(matrices.flip(0))
    assert together[1].shape == (3, 4)
    for number, single in enumerate(singles):
        alike(small.pair(number), single)
        for found, same, alone in zip(together, reverse, single.score_and_evidence(matrices[number, None]), strict=True):
            assert torch.allclose(found[number], alone[0], rtol=1e-4, atol=1e-5)
            assert torch.allclose(same[-1 - number], alone[0], rtol=1e-4, atol=1e-5)
    alike(Reduced.joined(singles), small)
    monkeypatch.setattr(scores, "TOGETHER", 1)  # one pair after the other
    for found, other in zip(together, small.coarsest(9).score_and_evidence(matrices), strict=True):
        assert torch.allclose(found, other, rtol=1e-4, atol=1e-5)


def test_a_pair_shares_the_memory_of_its_batch_and_a_single_pair_is_itself() -> None:
    small = Reduced.of(*several(2, masked=True), 1)
    first, second = small.fixed.levels[1], small.pair(1).fixed.levels[1]
    assert first.readable[1].data_ptr() == second.readable.data_ptr()
    single = small.pair(2)
    assert single.pair(0) is single
    assert Reduced.joined([single]) is single


def test_many_pairs_take_about_as_many_operations_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "TOGETHER", 2**30)
    counts = []
    for count in (1, 16):
        small = Reduced.of(*several(2, masked=True, count=count), 1)
        with Counting() as counting:
            small.score_and_evidence(torch.eye(3, dtype=torch.float64).expand(count, 5, 3, 3))
        counts.append(counting.operations.total())
    assert counts[1] <= counts[0] + 10


def test_what_speaks_for_a_start_does_not_depend_on_where_the_origin_is() -> None:
    """With perspective the upper left of a matrix does."""
    image = tiles()
    tilted = torch.eye(3, dtype=torch.float64)
    tilted[2, 0] = 3e-4
    known = Reduced.of([image], [image], 1).score_and_evidence(tilted[None, None])
    for length in (1e3, -1e3):
        there, back = shift(2, length), shift(2, -length)
        elsewhere = Image(image.data, Grid(image.grid.shape, there @ image.grid.world_from_index))
        found = Reduced.of([elsewhere], [elsewhere], 1).score_and_evidence((there @ tilted @ back)[None, None])
        assert torch.allclose(torch.stack(found), torch.stack(known), rtol=1e-3)


def test_levels_are_counted_from_the_coarsest() -> None:
    image = tiles()
    small = Reduced.of([image], [image], 1)
    shapes = [level.grid.shape for level in small.fixed.levels]
    assert len(shapes) == 3
    assert [level.grid.shape for level in small.coarsest(2).moving.levels] == shapes[1:]
    assert len(small.coarsest(9).fixed.levels) == 3
    assert small.grays[0].grid.shape == shapes[1]


@pytest.mark.parametrize("ndim", [2, 3])
def test_slopes_of_an_affine_map_are_its_matrix_at_every_pixel(ndim: int) -> None:
    matrix = torch.eye(ndim + 1, dtype=torch.float64)
    matrix[:-1] += 0.2 * torch.randn(ndim, ndim + 1, dtype=torch.float64)
    grid = oblique((9, 12, 10)[:ndim])
    transform = MatrixTransform(matrix)
    [found] = _slopes(transform(grid.world_points())[None], grid)
    assert torch.allclose(found, transform.jacobian(grid.world_points()).expand_as(found), rtol=0, atol=1e3 * EXACT)


def test_slopes_of_a_deformation_are_near_its_own() -> None:
    grid = Grid.regular((40, 50), (1.0, 1.5))
    lattice = Lattice.over(grid, 0.4)
    transform = VelocityTransform(0.02 * torch.randn(2, *lattice.shape, dtype=torch.float64), lattice, grid.world_from_frame)
    exact = transform.jacobian(grid.world_points())
    off = (_slopes(transform(grid.world_points())[None], grid)[0] - exact).norm(dim=(1, 2)).mean()
    assert off < 0.1 * (exact - torch.eye(2)).norm(dim=(1, 2)).mean()


# Warped moving images of several pairs at once


def same(found: Image, alone: Image) -> bool:
    assert found.mask is not None
    assert alone.mask is not None
    return torch.equal(found.mask, alone.mask) and torch.allclose(found.data, alone.data, rtol=0, atol=TOLERANCE[torch.float32])


def projective(ndim: int) -> MatrixTransform:
    matrix = torch.eye(ndim + 1, dtype=torch.float64)
    matrix[-1, 0] = -0.012  # the horizon crosses the image
    return MatrixTransform(matrix)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["matrices", "affine chains", "projective", "all kinds"])
def test_moving_images_are_read_together_as_they_are_alone(ndim: int, masked: bool, kind: str) -> None:
    several, matrices = pairs(ndim, 4, masked)
    transforms: list[Transform] = [*matrices]
    if kind == "affine chains":
        transforms = [Chain([one]) for one in matrices]
    if kind in ("projective", "all kinds"):
        transforms[1] = projective(ndim)
    if kind == "all kinds":
        transforms[2] = bent(ndim, 0)
    small = Reduced.joined(several)
    edges, grays = moving_edges(small, 0, transforms), moved(*small.grays, transforms)
    for number, (one, transform) in enumerate(zip(several, transforms, strict=True)):
        assert same(edges.pair(number), moving_edges(one, 0, [transform]))
        assert same(grays.pair(number), moved(*one.grays, [transform]))


def test_matrices_are_read_as_any_other_transform(ndim: int) -> None:
    """In a chain, which is called with every pixel; the shifts put pixels on the moving image's border."""
    several, matrices = (some[:3] for some in pairs(ndim, 4))
    off = torch.diag(torch.ones(ndim + 1, dtype=torch.float64))
    off[:-1, -1] = 0.5
    transforms = [matrices[1], projective(ndim), MatrixTransform(off)]
    small = Reduced.joined(several)
    assert same(moving_edges(small, 0, transforms), moving_edges(small, 0, [Chain([one]) for one in transforms]))
