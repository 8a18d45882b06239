"""Samplers: points that cover the whole domain, anew each step, repeatably, and only where the mask allows."""

import itertools
import math
from typing import Any

import pytest
import torch
from problems import linear, oblique, pair, photograph, rotation, scene, translation
from tolerances import EXACT, TOLERANCE

from drmime.compare.moments import NCC
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.lie import generators
from drmime.geometry.matrices import apply, scale_and_shift
from drmime.image.image import Image, batch
from drmime.image.pyramid import Pyramid
from drmime.parts import SAMPLERS
from drmime.registry import build
from drmime.sampling import AHEAD, Edges, EveryPixel, FixedSamples, Jittered, Overlap, Sampler, Uniform, fixed_samples, read
from drmime.transform.base import Model, Places, Transform
from drmime.transform.linear import LieModel

SHAPES = {2: (48, 64), 3: (32, 36, 40)}
RANDOM = ["uniform", "jittered", "edges"]  # names of samplers that draw


def pyramid_of(ndim: int, count: int = 2, mask: torch.Tensor | None = None) -> Pyramid:
    grid = oblique(SHAPES[ndim], offset=9.0)
    image = photograph(scene(grid), grid=grid)
    return Pyramid.of(Image(image.data, grid, mask), count)


def alone(image: Image) -> Pyramid:
    """A pyramid of one level."""
    return Pyramid.of(image, 1)


def begun(sampler: Sampler, fixed: Pyramid, seed: int = 0) -> Sampler:
    sampler.begin(fixed, torch.Generator().manual_seed(seed))
    return sampler


def draw(sampler: Sampler) -> list[torch.Tensor]:
    """The points of each level, finest first, in whatever groups they come. each (B or 1, N, D)"""
    drawn = []
    for levels, points in sampler.draw(1):
        assert range(levels.start, levels.stop) == range(len(drawn), len(drawn) + len(points))  # each level once, in order
        drawn.extend(points)
    assert len(drawn) == len(sampler.grids)
    return drawn


def index_of(points: torch.Tensor, fixed: Pyramid, level: int) -> torch.Tensor:
    """Points of the fixed frame as index coordinates of a level, x first."""
    grid = fixed.levels[level].grid
    return apply(grid.index_from_world @ fixed.levels[0].grid.world_from_frame, points.double())[0]


def seen_at(fixed: Pyramid, levels: slice, points: torch.Tensor) -> FixedSamples:
    """What the fixed image shows at points of one's own."""

    class Given(Sampler):
        ahead = 1

        def draw(self, steps: int) -> list[tuple[slice, torch.Tensor]]:
            return [(levels, points)]

    [[found]] = fixed_samples(fixed, Given(), 1)
    return found


class ByMatrices(Model):
    """A model that takes points of the fixed frame by matrices (L, B, D+1, D+1) to the moving world."""

    def __init__(self, moving: Grid, moving_from_frame: torch.Tensor) -> None:
        super().__init__()
        self.matrices = torch.linalg.inv(moving.world_from_frame) @ moving_from_frame

    def forward(self, points: torch.Tensor, levels: slice) -> Places:
        return Places(*apply(self.matrices.to(points), points), self.matrices[..., None, :-1, :-1])

    def result(self, covariance: torch.Tensor | None = None) -> list[Transform]:
        raise AssertionError("not needed")


def posed(moving_from_fixed: torch.Tensor, fixed: Grid, moving: Grid) -> LieModel:
    """A model that stands at these matrices (B, D+1, D+1)."""
    return LieModel(generators("translation", fixed.ndim), moving_from_fixed, fixed, moving)


def read_one(fixed: Image, moving: Image, points: torch.Tensor, moving_from_frame: torch.Tensor) -> list[torch.Tensor]:
    """`read` of images without coarser levels: points (B or 1, N, D), moving_from_frame (B, D+1, D+1)."""
    here = seen_at(alone(fixed), slice(0, 1), points[None])
    samples = read(here, alone(moving), ByMatrices(moving.grid, moving_from_frame[None]), NCC())
    assert all(len(sample) == 1 for sample in samples)
    return [sample[0] for sample in samples]


def farthest_from_uniform(values: torch.Tensor) -> float:
    """The Kolmogorov-Smirnov distance of values (N,) in [0, 1] from the uniform distribution, times sqrt(N)."""
    ranks = torch.arange(1, len(values) + 1, dtype=torch.float64) / len(values)
    return float((values.sort().values - ranks).abs().max()) * math.sqrt(len(values))


def test_every_sampler_is_tried_here() -> None:
    assert {*RANDOM, "all"} == set(SAMPLERS)


# ---- where


@pytest.mark.parametrize("name", ["uniform", "jittered"])
def test_points_cover_the_whole_image_at_every_level(name: str, ndim: int) -> None:
    fixed = pyramid_of(ndim)
    points = draw(begun(build("sampler", SAMPLERS, {"name": name, "points": 2000}), fixed))
    for level, drawn in enumerate(points):
        share = (index_of(drawn[0], fixed, level) + 0.5) / fixed.levels[level].grid.size
        assert ((share >= -EXACT) & (share <= 1 + EXACT)).all()
        for axis in range(ndim):
            assert farthest_from_uniform(share[:, axis]) < 1.95  # exceeded by chance once in a thousand
        for corner in itertools.product([False, True], repeat=ndim):
            here = ((share > 0.5) == torch.tensor(corner)).all(-1).double().mean()
            assert abs(float(here) - 0.5**ndim) < 5 * math.sqrt(0.5**ndim / len(share))


@pytest.mark.parametrize("points", [16, 37, 500])
def test_jittered_puts_one_point_in_each_cell(points: int, ndim: int) -> None:
    fixed = pyramid_of(ndim)
    sampler = begun(Jittered(points), fixed)
    for level, drawn in enumerate(draw(sampler)):
        shape = fixed.levels[level].grid.shape
        side = (math.prod(shape) / points) ** (1 / ndim)
        cells = [max(1, round(n / side)) for n in reversed(shape)]  # x first
        assert drawn.shape[1] == math.prod(cells)
        cell = (index_of(drawn[0], fixed, level) + 0.5) / fixed.levels[level].grid.size * torch.tensor(cells)
        assert len({tuple(number) for number in cell.floor().long().tolist()}) == math.prod(cells)
        assert abs(math.prod(cells) / points - 1) < 0.5


def test_all_returns_every_pixel_of_every_level_once(ndim: int) -> None:
    fixed = pyramid_of(ndim, 3)
    sampler = begun(EveryPixel(), fixed)
    for level, drawn in enumerate(draw(sampler)):
        places = index_of(drawn[0], fixed, level)
        shape = fixed.levels[level].grid.shape
        assert (places - places.round()).abs().max() < 1e3 * EXACT
        assert {tuple(place) for place in places.round().long().tolist()} == set(
            itertools.product(*[range(n) for n in reversed(shape)])
        )
        assert len(places) == math.prod(shape)


@pytest.mark.parametrize("name", ["uniform", "edges"])
def test_points_stay_inside_the_mask_and_fill_it(name: str, ndim: int) -> None:
    mask = torch.zeros(1, 1, *SHAPES[ndim], dtype=torch.float64)
    mask[..., 5:20, 30:37] = 1
    fixed = pyramid_of(ndim, 2, mask)
    for level, drawn in enumerate(draw(begun(build("sampler", SAMPLERS, {"name": name, "points": 800}), fixed))):
        pixels = index_of(drawn[0], fixed, level).round().long().flip(-1)
        assert fixed.levels[level].mask[0, 0][tuple(pixels.T)].all()
        if name == "uniform":
            assert (
                pixels[:, -1].unique().tolist()
                == (fixed.levels[level].mask[0, 0].flatten(0, -2).any(0).nonzero()[:, 0]).tolist()
            )


def test_points_are_uniform_over_a_mask_of_two_parts() -> None:
    mask = torch.zeros(1, 1, 48, 64, dtype=torch.float64)
    mask[..., :10, :10] = 1
    mask[..., 20:40, 40:55] = 1  # three times as large
    fixed = pyramid_of(2, 1, mask)
    x = index_of(draw(begun(Uniform(4000), fixed))[0][0], fixed, 0)[:, 0]
    assert abs(float((x > 30).double().mean()) - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 4000)
    inside_pixel = x - x.round() + 0.5
    assert farthest_from_uniform(inside_pixel) < 1.95  # between the pixel centres too


def test_a_mask_of_one_pixel_is_enough() -> None:
    mask = torch.zeros(1, 1, 48, 64, dtype=torch.float64)
    mask[..., 11, 22] = 1
    fixed = pyramid_of(2, 1, mask)
    points = index_of(draw(begun(Uniform(50), fixed))[0][0], fixed, 0)
    assert ((points - torch.tensor([22, 11])).abs() <= 0.5).all()


# ---- edges


def step_image(ndim: int) -> tuple[Grid, float]:
    """A soft step along x at the position returned."""
    return Grid.regular(SHAPES[ndim]), 17.3


@pytest.mark.parametrize("dilation", [0, 2])
def test_edge_points_lie_near_edges_and_all_along_them(dilation: int, ndim: int) -> None:
    grid, place = step_image(ndim)
    fixed = alone(photograph(lambda points: torch.sigmoid(2 * (points[..., 0] - place)), grid=grid))
    drawn = draw(begun(Edges(400, dilation), fixed))[0][0]
    index = index_of(drawn, fixed, 0)
    half_width = 0.5 + (1 if ndim == 2 else grid.shape[-1] / 10 / 2 + 1)  # in 3-D a tenth of all voxels count
    assert (index[:, 0] - place).abs().max() < dilation + half_width + 0.5
    along = (index[:, 1] + 0.5) / grid.size[1]
    assert farthest_from_uniform(along.clamp(0, 1)) < 4  # Canny leaves out the border rows
    assert along.min() < 0.1
    assert along.max() > 0.9


def test_more_dilation_reaches_farther(ndim: int) -> None:
    grid, place = step_image(ndim)
    fixed = alone(photograph(lambda points: torch.sigmoid(2 * (points[..., 0] - place)), grid=grid))
    reach = [
        float((index_of(draw(begun(Edges(400, dilation), fixed))[0][0], fixed, 0)[:, 0] - place).abs().max())
        for dilation in (0, 3, 6)
    ]
    assert reach[0] + 2 < reach[1]
    assert reach[1] + 2 < reach[2]


def test_an_image_without_an_edge_is_refused(ndim: int) -> None:
    fixed = alone(photograph(lambda points: points[..., 0] * 0 + 0.5, grid=Grid.regular(SHAPES[ndim])))
    with pytest.raises(InputError, match="'edges': no edge found"):
        Edges().begin(fixed, torch.Generator())


def test_edges_that_the_mask_hides_do_not_count(ndim: int) -> None:
    grid, place = step_image(ndim)
    image = photograph(lambda points: torch.sigmoid(8 * (points[..., 0] - place)), grid=grid)
    mask = torch.zeros_like(image.data)
    mask[..., 40 if ndim == 2 else 30 :] = 1
    with pytest.raises(InputError, match="no edge found"):
        Edges().begin(alone(Image(image.data, grid, mask)), torch.Generator())


# ---- when, and how often


@pytest.mark.parametrize("name", RANDOM)
def test_points_are_fresh_at_each_draw(name: str, ndim: int) -> None:
    sampler = begun(build("sampler", SAMPLERS, name), pyramid_of(ndim))
    for before, after in zip(draw(sampler), draw(sampler), strict=True):
        assert not (before == after).any()


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_seed_gives_the_same_points_and_another_seed_others(name: str, ndim: int) -> None:
    fixed = pyramid_of(ndim)
    first, again, other = (begun(build("sampler", SAMPLERS, name), fixed, seed) for seed in (1, 1, 2))
    for _ in range(2):
        for a, b, c in zip(draw(first), draw(again), draw(other), strict=True):
            assert torch.equal(a, b)
            assert not torch.equal(a, c)


def test_torchs_own_random_numbers_are_left_alone(ndim: int) -> None:
    before = torch.get_rng_state()
    begun(Uniform(), pyramid_of(ndim)).draw(1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["uniform", "edges"])
def test_each_pair_of_a_batch_sees_the_points_it_would_see_alone(name: str) -> None:
    grid = Grid.regular((48, 64))
    images = []
    for seed, columns in ((0, slice(0, 30)), (1, slice(10, 60)), (2, slice(0, 64))):
        data = photograph(scene(grid, seed), grid=grid).data
        mask = torch.zeros_like(data)
        mask[..., columns] = 1
        images.append(Image(data, grid, mask))
    together = draw(begun(build("sampler", SAMPLERS, name), alone(batch(images))))[0]
    for number, image in enumerate(images):
        assert torch.equal(together[number], draw(begun(build("sampler", SAMPLERS, name), alone(image)))[0][0])


@pytest.mark.parametrize(
    ("points", "counts"), [(0.25, [1024, 256, 64]), (0.02, [82, 20, 16]), (100, [100] * 3), (16, [16] * 3)]
)
def test_points_are_a_number_or_a_share_of_each_level_but_16_at_least(points: float, counts: list[int]) -> None:
    grid = Grid.regular((64, 64))
    fixed = Pyramid.of(photograph(scene(grid), grid=grid), 3)
    sampler = begun(Uniform(points), fixed)
    assert [drawn.shape for drawn in draw(sampler)] == [(1, count, 2) for count in counts]
    assert [sampler.count(level.grid) for level in fixed.levels] == counts


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("name", "points", "together"),
    [("uniform", 100, True), ("uniform", 0.25, False), ("edges", 100, True), ("edges", 0.25, False), ("jittered", 64, True)],
)
def test_levels_with_as_many_points_come_together_and_others_apart(
    name: str, points: float, together: bool, masked: bool
) -> None:
    grid = Grid.regular((64, 64))
    image = photograph(scene(grid), grid=grid)
    images = batch([Image(image.data, grid, torch.ones_like(image.data) if masked else None)] * 2)
    groups = begun(build("sampler", SAMPLERS, {"name": name, "points": points}), Pyramid.of(images, 3)).draw(1)
    assert [levels for levels, _ in groups] == ([slice(0, 3)] if together else [slice(0, 1), slice(1, 2), slice(2, 3)])
    rows = 2 if name == "edges" or (masked and name == "uniform") else 1  # of their own for pairs with something to choose
    for levels, drawn in groups:
        assert drawn.shape[:2] == (levels.stop - levels.start, rows)
        assert drawn.shape[3] == 2


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_steps_drawn_together_are_as_many_steps_of_fresh_points(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = pyramid_of(2)
    sampler = begun(build("sampler", SAMPLERS, name if name == "all" else {"name": name, "points": 100}), fixed)
    assert sampler.ahead == max(1, AHEAD // sum(sampler.count(level.grid) for level in fixed.levels))
    sampler.ahead, asked = 3, list[int]()
    drawing = sampler.draw
    monkeypatch.setattr(sampler, "draw", lambda steps: asked.append(steps) or drawing(steps))
    steps = list(fixed_samples(fixed, sampler, 8))
    assert asked == [3, 3, 2]
    assert len(steps) == 8
    for before, after in itertools.pairwise(steps):
        for one, other in zip(before, after, strict=True):
            assert one.points.shape == other.points.shape == (*one.values.shape[:3], 2)
            assert (one.points == other.points).all() == (name == "all")
            known, inside = fixed.at(one.points, levels=one.levels)
            assert torch.allclose(one.values, known, rtol=0, atol=TOLERANCE[torch.float64])
            assert torch.equal(one.inside, inside)


def test_a_step_drawn_with_others_covers_the_image_by_itself() -> None:
    sampler = begun(Uniform(64), alone(photograph(scene(Grid.regular((64, 64))), grid=Grid.regular((64, 64)))))
    rows = (sampler.index(0, 5)[0, :, 1] + 0.5).view(5, 64)  # 64 pixels of a list of rows: one point in each row
    assert torch.equal(rows.floor().sort(1).values, torch.arange(64.0).double().expand(5, -1))
    assert not (rows[1:] == rows[:-1]).any()
    assert not torch.equal(rows, rows.sort(1).values)  # in no order: metrics take neighbours in the list for strangers


def test_all_gives_each_level_its_own_group_and_the_same_points_again() -> None:
    sampler = begun(EveryPixel(), pyramid_of(2, 3))
    first, again = sampler.draw(1), sampler.draw(1)
    assert [levels for levels, _ in first] == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, again, strict=True))


def test_points_have_the_dtype_of_the_image(dtype: torch.dtype) -> None:
    grid = Grid.regular((32, 32))
    fixed = alone(photograph(scene(grid), grid=grid, dtype=dtype))
    for name in SAMPLERS:
        assert draw(begun(build("sampler", SAMPLERS, name), fixed))[0].dtype == dtype


@pytest.mark.parametrize("points", [0, 15, -1, 0.0, -0.5, 1.5, 20.0, math.nan, math.inf, True, "many", None])
@pytest.mark.parametrize("name", RANDOM)
def test_a_number_of_points_that_makes_no_sense_is_refused(name: str, points: Any) -> None:
    with pytest.raises(InputError, match=r"^sampler points: expected"):
        build("sampler", SAMPLERS, {"name": name, "points": points})


@pytest.mark.parametrize("dilation", [-1, 1.5, True, "wide"])
def test_a_dilation_that_makes_no_sense_is_refused(dilation: Any) -> None:
    with pytest.raises(InputError, match=r"^sampler dilation: expected"):
        Edges(dilation=dilation)


@pytest.mark.parametrize("spec", [{"name": "all", "points": 99}, {"name": "uniform", "dilation": 1}, "uniforms"])
def test_options_a_sampler_does_not_have_are_refused(spec: Any) -> None:
    with pytest.raises(InputError, match="unknown"):
        build("sampler", SAMPLERS, spec)


# ---- read


def test_both_images_are_read_at_corresponding_points(ndim: int, dtype: torch.dtype) -> None:
    """Linear functions are read exactly, so that both images give the very same values where both have some."""
    grid = oblique(SHAPES[ndim], offset=9.0)
    function = linear([0.01, -0.02, 0.015][:ndim], 0.5)
    moving_from_fixed = translation(*[2.3, -1.7, 0.9][:ndim])
    fixed = photograph(function, grid=grid, dtype=dtype)
    moving = photograph(function, grid=grid, scene_from_world=torch.linalg.inv(moving_from_fixed), dtype=dtype)
    points = draw(begun(Uniform(500), alone(fixed)))[0]
    frame = grid.world_from_frame
    left, right, weight = read_one(fixed, moving, points * 0.9, (moving_from_fixed @ frame)[None])
    inner = weight[0] > 0
    border = index_of(points * 0.9, alone(fixed), 0)[0]
    inner &= ((border > 4) & (border < grid.size - 5)).all(-1)  # beyond the outermost pixel centres values are continued
    assert inner.sum() > 100
    assert torch.allclose(left[0][inner], right[0][inner], rtol=0, atol=2 * TOLERANCE[dtype])
    assert weight.shape == (1, 500)
    assert 0.8 < float(weight.mean()) <= 1


def test_a_pair_under_a_known_map_agrees_under_that_map_and_no_other(ndim: int) -> None:
    grid = oblique(SHAPES[ndim], offset=9.0)
    frame = grid.world_from_frame
    moving_from_fixed = frame @ rotation(ndim, 0.2) @ translation(*[0.05] * ndim) @ torch.linalg.inv(frame)
    fixed, moving = pair(moving_from_fixed, grid, grid)
    points = draw(begun(Uniform(500), alone(fixed)))[0] * 0.6
    errors = []
    for matrix in (moving_from_fixed, torch.linalg.inv(moving_from_fixed), torch.eye(ndim + 1).double()):
        left, right, weight = read_one(fixed, moving, points, (matrix @ frame)[None])
        assert weight.mean() > 0.5
        errors.append(float(((left - right).abs()[..., 0] * weight).sum() / weight.sum()))
    assert errors[0] < 0.01
    assert errors[0] < min(errors[1:]) / 5


@pytest.mark.parametrize("shift", [0, 5, 20, 64])
def test_overlap_is_the_share_of_fixed_pixels_with_a_partner(shift: int) -> None:
    grid = Grid.regular((48, 64))
    image = photograph(scene(grid), grid=grid)
    points = draw(begun(EveryPixel(), alone(image)))[0]
    frame = grid.world_from_frame
    weight = read_one(image, image, points, (translation(shift, 0.0) @ frame)[None])[2]
    assert weight.sum() == 48 * (64 - shift)
    assert float(Overlap(image, image)(posed(translation(shift, 0.0)[None], grid, grid))) == pytest.approx((64 - shift) / 64)


def test_both_masks_count_and_points_outside_the_fixed_mask_have_no_say_in_the_overlap() -> None:
    grid = Grid.regular((48, 64))
    image = photograph(scene(grid), grid=grid)
    left, top = torch.zeros_like(image.data), torch.zeros_like(image.data)
    left[..., :32] = 1
    top[..., :24, :] = 1
    points = draw(begun(EveryPixel(), alone(image)))[0]
    frame = grid.world_from_frame
    fixed, moving = Image(image.data, grid, left), Image(image.data, grid, top)
    weight = read_one(fixed, moving, points, frame[None])[2]
    assert torch.equal(weight.view(48, 64), (left * top)[0, 0])
    assert float(Overlap(fixed, moving)(posed(torch.eye(3)[None], grid, grid))) == 0.5


def test_without_any_valid_fixed_point_the_overlap_is_zero_and_finite() -> None:
    grid = Grid.regular((48, 64))
    image = photograph(scene(grid), grid=grid)
    empty = Image(image.data, grid, torch.zeros_like(image.data))
    assert float(Overlap(empty, image)(posed(torch.eye(3)[None], grid, grid))) == 0


def test_overlap_of_large_images_is_told_by_few_points(ndim: int) -> None:
    """Against every pixel, under a rotation, a shift and another spacing, within a hundredth."""
    shape, spacing = ((300, 400), (2.0, 1.0)) if ndim == 2 else ((40, 60, 50), (2.0, 1.0, 1.0))
    fixed, moving = Grid.regular(shape, spacing), Grid.regular(shape)
    matrix = translation(*[0.2 * length for length in moving.extent.tolist()]) @ rotation(ndim, 0.4)
    there, _ = apply(moving.index_from_world @ matrix @ fixed.world_from_index, fixed.index_points())
    exact = ((there >= -0.5) & (there <= moving.size - 0.5)).all(1).double().mean()
    images = [Image(torch.zeros(2, 1, *shape), grid) for grid in (fixed, moving)]
    assert Overlap(*images)(posed(matrix.expand(2, -1, -1), fixed, moving)).tolist() == pytest.approx(
        [float(exact)] * 2, abs=0.01
    )


def test_points_are_shared_by_the_pairs_of_a_batch_when_there_is_no_mask() -> None:
    grid = Grid.regular((48, 64))
    both = batch([photograph(scene(grid, seed), grid=grid) for seed in range(2)])
    points = draw(begun(Uniform(50), alone(both)))[0]
    matrices = torch.stack(
        [grid.world_from_frame, grid.world_from_frame @ scale_and_shift(*[torch.full((2,), 0.5).double()] * 2)]
    )
    assert points.shape == (1, 50, 2)
    left, right, weight = read_one(both, both, points, matrices)
    assert left.shape == right.shape == (2, 50, 1)
    assert weight.shape == (2, 50)
    assert torch.equal(left[0], right[0])
    assert not torch.equal(left[1], right[1])
    assert float(weight[0].min()) == 1


@pytest.mark.parametrize("levels", [slice(0, 3), slice(0, 1), slice(1, 3)], ids=str)
def test_levels_are_read_together_each_under_its_own_matrices(levels: slice, ndim: int, dtype: torch.dtype) -> None:
    grid = oblique(SHAPES[ndim], offset=9.0)
    frame = grid.world_from_frame
    masks = torch.ones(2, 2, 1, *grid.shape, dtype=dtype)  # of fixed and moving, for each of two pairs
    masks[0, 1, ..., : grid.shape[-1] // 2] = 0
    masks[1, :, :, : grid.shape[0] // 3] = 0
    images = [batch([photograph(scene(grid, seed), grid=grid, dtype=dtype) for seed in seeds]) for seeds in ((0, 1), (2, 3))]
    fixed, moving = (Pyramid.of(Image(image.data, grid, mask), 3) for image, mask in zip(images, masks, strict=True))
    turns = [frame @ rotation(ndim, 0.1 * number) @ translation(*[0.05 * number] * ndim) for number in range(6)]
    moving_from_frame = torch.stack(turns).view(3, 2, ndim + 1, ndim + 1)  # of all levels, whichever are read
    wanted = range(3)[levels]
    points = 2.4 * torch.rand(len(wanted), 1, 400, ndim, dtype=torch.float64).to(dtype) - 1.2  # a part lies outside
    model = ByMatrices(grid, moving_from_frame[levels])
    left, right, weight = read(seen_at(fixed, levels, points), moving, model, NCC())
    assert left.shape == right.shape == (len(wanted), 2, 400, 1)
    assert weight.shape == (len(wanted), 2, 400)
    assert weight.unique().tolist() == [0, 1]
    for row, level in enumerate(wanted):
        here = points[row].expand(2, -1, -1)
        fixed_alone, in_fixed = fixed.levels[level].at(here, frame[None])
        moving_alone, in_moving = moving.levels[level].at(model(points, levels).points[row], frame[None])
        both = (in_fixed > 0) & (in_moving > 0)
        assert torch.equal(weight[row] > 0, both)
        assert torch.allclose(left[row][both], fixed_alone[both], rtol=0, atol=2 * TOLERANCE[dtype])
        assert torch.allclose(right[row][both], moving_alone[both], rtol=0, atol=2 * TOLERANCE[dtype])
        assert ((both.sum(1) > 0) & (both.sum(1) < in_fixed.sum(1))).all()
