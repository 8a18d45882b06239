"""Searches over every pose: rotations that cover all there are, and scenes that were turned, scaled, shifted and inverted."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from counting import Counting
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Function, oblique, photograph
from scipy.fft import next_fast_len
from textures import about, busy, corner_error, inverted, turn
from tolerances import EXACT
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.door import as_image
from drmime.image.image import Image, batch
from drmime.start.propose.angle import AngleMaps
from drmime.start.propose.base import corner_distances, pyramid, reduced
from drmime.start.propose.cross import CrossMaps
from drmime.start.propose.poses import good_length, mirror, planar, possible, rotations, thin_axis
from drmime.start.propose.search import Search

SIDES = {2: (96, 120), 3: (24, 26, 28)}
SMALL: dict[int, dict[str, Any]] = {2: {"size": 64, "step": 7.5}, 3: {"size": 16, "step": 40}}
FOUND = 0.03  # of the diagonal, of the corners on average


def angle_between(one: Tensor, other: Tensor) -> Tensor:
    """Of rotations, in degrees; broadcast."""
    ndim = one.shape[-1]
    trace = (one * other).sum((-1, -2))
    cosine = trace / 2 if ndim == 2 else (trace - 1) / 2
    return torch.rad2deg(cosine.clamp(-1, 1).acos())


def any_rotations(count: int) -> Tensor:
    """Uniform over all rotations of space: unit quaternions from Gaussians, by QR for the matrices."""
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    return q * q.det()[:, None, None]


def taken(
    linear: Tensor, fixed: Grid, moving: Grid, off: Sequence[float] = (), seed: int = 0, change: Any = inverted
) -> tuple[Image, Image, Tensor]:
    """A scene, the same scene posed and of other contrast, and the pose: the grids' middles are `off` apart."""
    shift = torch.tensor(off or [0.0] * fixed.ndim, dtype=torch.float64)
    truth = about(linear, fixed.centre, moving.centre + shift)
    scene: Function = busy(fixed, seed, 0.14 if fixed.ndim == 2 else 0.3)
    one = photograph(scene, grid=fixed, dtype=torch.float32).normalised()
    back = torch.linalg.inv(truth)
    other = photograph(change(scene), grid=moving, scene_from_world=back, dtype=torch.float32).normalised()
    return one, other, truth


def turn_in(ndim: int, degrees: float) -> Tensor:
    return turn(degrees) if ndim == 2 else turn(degrees, (1, 2, -1))


# Poses


@pytest.mark.parametrize("step", [90.0, 40.0, 25.0])
def test_rotations_are_rotations_and_the_identity_comes_first(ndim: int, step: float) -> None:
    found = rotations(ndim, step)
    identity = torch.eye(ndim, dtype=torch.float64)
    assert found.dtype == torch.float64
    assert torch.allclose(found @ found.mT, identity.expand(len(found), -1, -1), atol=100 * EXACT)
    assert torch.allclose(found.det(), torch.ones(len(found)).double(), atol=100 * EXACT)
    assert torch.allclose(found[0], identity, atol=100 * EXACT)
    assert torch.equal(found, rotations(ndim, step))


@pytest.mark.parametrize("step", [40.0, 20.0])
def test_rotations_are_spread_evenly(ndim: int, step: float) -> None:
    """No two are much nearer than the step, and no rotation is much further from all of them."""
    found = rotations(ndim, step)
    between = angle_between(found[:, None], found[None]) + 360 * torch.eye(len(found))
    assert float(between.min()) > 0.5 * step
    every = any_rotations(500) if ndim == 3 else torch.stack([turn(float(a)) for a in torch.linspace(0, 360, 500)])
    assert float(angle_between(every[:, None], found[None]).amin(1).max()) < 1.05 * step


def test_rotations_of_the_plane_are_equal_steps() -> None:
    assert torch.allclose(rotations(2, 30.0), torch.stack([turn(30.0 * k) for k in range(12)]), atol=EXACT)
    assert len(rotations(2, 359.0)) == 1


def test_a_mirror_turns_left_to_right(ndim: int) -> None:
    assert float(mirror(ndim).det()) == -1
    assert torch.equal(mirror(ndim) @ mirror(ndim), torch.eye(ndim, dtype=torch.float64))
    assert float(mirror(ndim)[0, 0]) == -1


def test_good_lengths_have_no_other_factors_than_2_3_and_5() -> None:
    smooth = sorted(2**a * 3**b * 5**c for a, b, c in itertools.product(range(12), range(8), range(6)))
    for length in range(1, 1000):
        assert good_length(length) == next(n for n in smooth if n >= length)


# Parts of the search


def test_a_reduced_image_covers_the_same_world_in_cubes(ndim: int) -> None:
    grid = oblique(SIDES[ndim], (2.0, 0.5, 0.8)[-ndim:], offset=7.0)
    image = photograph(busy(grid), grid=grid, dtype=torch.float32)
    spacing = 1.6
    small = reduced([pyramid(image)], spacing)
    extent = grid.extent.flip(0)
    assert torch.allclose(small.grid.spacing, torch.full((ndim,), spacing).double(), atol=1e-9)
    assert torch.allclose(small.grid.centre, grid.centre, atol=1e-9)
    assert all(abs(n * spacing - e) <= 0.5 * spacing + 1e-9 for n, e in zip(small.grid.shape, extent.tolist(), strict=True))
    axes = [g.world_from_index[:-1, :-1] / g.spacing for g in (small.grid, grid)]
    assert torch.allclose(*axes, atol=1e-9)


def test_a_slab_is_reduced_in_its_plane_and_keeps_its_slices() -> None:
    small = reduced([pyramid(photograph(busy(Grid.regular((6, 96, 96))), grid=Grid.regular((6, 96, 96))))], 3.0).grid
    assert small.shape == (6, 32, 32)
    assert small.spacing.tolist() == [3, 3, 1]


def test_rotations_of_a_slab_are_in_its_plane_of_either_side_and_little_tilted() -> None:
    poses = planar(torch.tensor([0.0, 0.0, 1.0]).double(), 8, 0.1)
    assert torch.equal(poses[0], torch.eye(3).double())
    assert len(poses) == 5 * 2 * 45
    assert torch.allclose(poses @ poses.mT, torch.eye(3).double().expand(len(poses), -1, -1), atol=1e-12)
    tilts = poses[:, 2, 2].abs().clamp(max=1).acos()
    assert float(tilts.max()) == pytest.approx(0.1)
    assert thin_axis(Grid.regular((6, 96, 96))) == 2
    assert thin_axis(Grid.regular((64, 96, 96))) is None


def test_poses_in_which_too_little_can_overlap_are_not_tried() -> None:
    """A strip of 10 by 100 pixels, turned: at a right angle a tenth of it lies on the other."""
    strip = Grid.regular((10, 100))
    poses = rotations(2, 90)
    assert possible(poses, 1.0, strip, strip, 0.35) == [0, 2]
    assert possible(poses, 1.0, strip, strip, 0.05) == [0, 1, 2, 3]
    square = Grid.regular((100, 100))
    assert possible(rotations(2, 10), 1.0, square, square, 0.8) == list(range(36))


@pytest.mark.parametrize("ratio", [2.0, 4.0])
def test_pixels_of_unequal_sides_are_found_by_their_ratio(ratio: float) -> None:
    """The moving image has one row for `ratio` rows of the fixed one."""
    grid = Grid.regular((96, 96))
    rows = Grid.regular((round(96 / ratio), 96))
    truth = torch.diag(torch.tensor([1.0, 1 / ratio, 1.0]).double())
    fixed = photograph(busy(grid), grid=grid, dtype=torch.float32)
    moving = photograph(busy(grid), grid=rows, scene_from_world=torch.linalg.inv(truth), dtype=torch.float32)
    search = Search(size=64, step=10, largest_rotation=30, scales=(0.7, 1.0, 1.4), aspects=(ratio,))
    best = search(fixed.normalised(), moving.normalised())[0]
    assert float(corner_distances(best, truth, grid).mean()) < 0.08


@pytest.mark.parametrize(
    "options", [{"aspects": (0.5,)}, {"aspects": "wide"}, {"largest_rotation": 0}, {"largest_rotation": 270}]
)
def test_numbers_out_of_their_range_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Search(**options)


def test_an_image_is_reduced_on_its_own_device_though_matrices_are_on_the_cpu(ndim: int) -> None:
    grid = Grid.regular(SIDES[ndim])
    image = Image(torch.empty(1, 2, *grid.shape, device="meta"), grid)
    small = reduced([pyramid(image)], 2.0)
    assert small.data.device.type == small.mask.device.type == "meta"


def test_a_reduced_scene_is_the_scene(ndim: int) -> None:
    """As far as it is smooth: read by a camera of larger pixels."""
    grid = oblique(SIDES[ndim], (1.0, 0.7, 0.8)[-ndim:])
    scene = busy(grid, finest=0.5)
    small = reduced([pyramid(photograph(scene, grid=grid, dtype=torch.float32))], 2.0)
    known = photograph(scene, grid=small.grid, dtype=torch.float32)
    inside = (slice(None), slice(None), *[slice(2, -2)] * ndim)
    assert float((small.data - known.data)[inside].abs().mean()) < 0.06
    assert float(small.mask.mean()) > 0.7


# Scenes


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.25])
def test_a_turned_scaled_shifted_and_inverted_scene_is_found_first(scale: float) -> None:
    fixed, moving, truth = taken(scale * turn(137), Grid.regular(SIDES[2]), Grid.regular((110, 100)), (5, -7))
    found = Search(**SMALL[2], scales=(0.8, 1.0, 1.25))(fixed, moving)
    assert found.dtype == torch.float64
    assert corner_error(found[0], truth, fixed) < FOUND


def test_at_the_size_it_has_by_default() -> None:
    fixed, moving, truth = taken(turn(-50), Grid.regular((200, 180)), Grid.regular((210, 190)), (15, 12))
    assert corner_error(Search(scales=(1.0,))(fixed, moving)[0], truth, fixed) < FOUND


def test_a_photograph_is_found_under_its_negative() -> None:
    data = pytest.importorskip("skimage.data")
    pixels = data.camera()[::2, ::2].astype(np.float32)
    fixed = as_image(pixels, role="fixed").normalised()
    truth = about(0.8 * turn(137), fixed.grid.centre, torch.tensor([95.0, 105.0], dtype=torch.float64))
    grid = Grid.regular((200, 210))
    values, inside = fixed.at(grid.index_points()[None].float(), torch.linalg.inv(truth)[None])
    moving = Image(((1 - values[..., 0]) ** 2 * inside).view(1, 1, *grid.shape), grid).normalised()
    assert corner_error(Search(size=80, step=7.5, scales=(0.8, 1.0))(fixed, moving)[0], truth, fixed) < FOUND


def best_possible(search: Search, truth: Tensor, fixed: Image) -> float:
    """The error of the searched rotation next to the true one, were its shift right."""
    poses = rotations(fixed.grid.ndim, search.step or 30)
    poses = poses[angle_between(poses, truth[:-1, :-1]).argmin()]
    centre = fixed.grid.centre
    return corner_error(about(poses, centre, truth[:-1, :-1] @ centre + truth[:-1, -1]), truth, fixed)


def test_a_volume_is_among_the_candidates_as_near_as_its_rotations_lie() -> None:
    """About an oblique axis, by an angle between those that are tried."""
    fixed, moving, truth = taken(turn(60, (1, 2, -1)), Grid.regular(SIDES[3]), Grid.regular((26, 24, 28)), (1, -2, 1))
    search = Search(**SMALL[3], scales=(1.0,))
    errors = [corner_error(matrix, truth, fixed) for matrix in search(fixed, moving)]
    assert min(errors) < best_possible(search, truth, fixed) + 0.05


def test_a_volume_in_a_pose_that_is_tried_is_found_first() -> None:
    pose = rotations(3, 40)[17]
    fixed, moving, truth = taken(pose, Grid.regular(SIDES[3]), Grid.regular((26, 24, 28)), (1, -2, 1))
    assert corner_error(Search(**SMALL[3], scales=(1.0,))(fixed, moving)[0], truth, fixed) < 0.08


def test_a_part_is_found_in_a_far_larger_image(ndim: int) -> None:
    """Three to four times as long, mostly out of sight: nothing is left out for that."""
    fixed_grid, moving_grid = (
        Grid.regular([n * side for n in (6, 5, 6)[:ndim]]) for side in ((10, 40) if ndim == 2 else (5, 15))
    )
    fixed, moving, truth = taken(torch.eye(ndim, dtype=torch.float64), fixed_grid, moving_grid, (40, -20, 10)[:ndim])
    found = Search(scales=(1.0,), rotate=False)(fixed, moving)
    assert corner_error(found[0], truth, fixed) < FOUND


def test_spacings_and_oblique_grids_are_respected(ndim: int) -> None:
    """Fine and coarse pixels, one camera turned: shifts alone, in the world."""
    fine = oblique([2 * n for n in SIDES[ndim]], (0.5, 0.4, 0.6)[-ndim:], offset=3.0)
    coarse = Grid.regular(SIDES[ndim], (1.1, 0.9, 1.0)[-ndim:])
    for one, other in ((fine, coarse), (coarse, fine)):
        fixed, moving, truth = taken(torch.eye(ndim, dtype=torch.float64), one, other, (4.0, -3.0, 2.0)[:ndim])
        found = Search(size=SMALL[ndim]["size"] * 3 // 2, rotate=False, scales=(1.0,))(fixed, moving)
        assert corner_error(found[0], truth, fixed) < FOUND
        assert torch.allclose(found[:, :-1, :-1], torch.eye(ndim, dtype=torch.float64), atol=1e-9)


def test_a_turn_on_grids_of_unlike_pixels_is_found() -> None:
    fixed_grid, moving_grid = oblique((90, 240), (2.0, 0.7), offset=5.0), Grid.regular((240, 130), (0.8, 1.3))
    fixed, moving, truth = taken(1.25 * turn(137), fixed_grid, moving_grid, (9, -6))
    assert corner_error(Search(**SMALL[2], scales=(0.8, 1.0, 1.25))(fixed, moving)[0], truth, fixed) < FOUND


def test_images_without_spacing_may_be_of_unlike_size() -> None:
    """A scan at 2.2 times as many pixels; the ratio of the sizes is tried."""
    fixed, moving, truth = taken(2.2 * turn(77), Grid.regular((80, 90)), Grid.regular((180, 200)))
    assert corner_error(Search(**SMALL[2], scales=(0.8, 1.0, 1.25))(fixed, moving)[0], truth, fixed) < FOUND


def test_a_mirrored_scene_is_found_where_mirrors_are_searched(ndim: int) -> None:
    linear = turn_in(ndim, 0 if ndim == 3 else 137) @ mirror(ndim)
    fixed, moving, truth = taken(linear, Grid.regular(SIDES[ndim]), Grid.regular(SIDES[ndim]), (4.0, -3.0, 2.0)[:ndim])
    rotate = ndim == 2
    found = Search(**SMALL[ndim], scales=(1.0,), rotate=rotate, mirrored=True)(fixed, moving)
    assert bool((found[:, :-1, :-1].det() < 0).all())
    assert corner_error(found[0], truth, fixed) < FOUND
    plain = Search(**SMALL[ndim], scales=(1.0,), rotate=rotate)(fixed, moving)
    assert all(corner_error(matrix, truth, fixed) > 0.1 for matrix in plain)


def test_one_scale_alone_is_the_worlds(ndim: int) -> None:
    """Whatever the sizes."""
    fixed, moving, _ = taken(torch.eye(ndim).double(), Grid.regular(SIDES[ndim]), Grid.regular([n * 2 for n in SIDES[ndim]]))
    found = Search(size=SMALL[ndim]["size"], scales=(0.9,), rotate=False)(fixed, moving)
    assert len(found) > 0
    assert torch.allclose(found[:, :-1, :-1], 0.9 * torch.eye(ndim, dtype=torch.float64), atol=1e-9)


def test_what_masks_cover_is_not_searched() -> None:
    """Trash with strong edges, alike in both images, in places that do not match."""
    fixed, moving, truth = taken(turn(137), Grid.regular(SIDES[2]), Grid.regular((110, 100)), (5, -7))
    trash = (torch.rand(1, 1, 10, 12) > 0.5).float().repeat_interleave(4, 2).repeat_interleave(4, 3)
    images = []
    for image, (row, column) in ((fixed, (2, 3)), (moving, (60, 40))):
        data, mask = image.data.clone(), torch.ones_like(image.data)
        data[..., row : row + 40, column : column + 48], mask[..., row : row + 40, column : column + 48] = trash, 0
        images.append(Image(data, image.grid, mask))
    search = Search(**SMALL[2], scales=(1.0,))
    found = search(*images)
    assert corner_error(found[0], truth, fixed) < FOUND
    blank = [Image(image.data * image.mask, image.grid, image.mask) for image in images]
    assert torch.allclose(search(*blank)[0], found[0], atol=1e-6)


@pytest.mark.parametrize("swap", [False, True], ids=["fixed", "moving"])
def test_a_turned_crop_of_half_the_scene_is_found(swap: bool) -> None:
    """A quarter of the other's area, near a corner of it."""
    whole, crop = Grid.regular((120, 120)), Grid.regular((60, 60))
    scene = busy(whole, finest=0.1)
    middle = torch.tensor([84.0, 42.0], dtype=torch.float64)
    crop_from_whole = about(turn(50), middle, crop.centre)
    one = photograph(scene, grid=whole, dtype=torch.float32).normalised()
    back = torch.linalg.inv(crop_from_whole)
    other = photograph(inverted(scene), grid=crop, scene_from_world=back, dtype=torch.float32).normalised()
    fixed, moving, truth = (other, one, back) if swap else (one, other, crop_from_whole)
    found = Search(size=60 if swap else 120, scales=(1.0,))(fixed, moving)
    assert min(corner_error(matrix, truth, other if swap else fixed) for matrix in found[:3]) < 2 * FOUND


def test_mutual_information_finds_a_negative_as_well() -> None:
    fixed, moving, truth = taken(turn(45), Grid.regular((60, 64)), Grid.regular((62, 60)), (3, -4), change=inverted)
    for score in ("cross", {"name": "cross", "bins": 8}, CrossMaps(8)):
        found = Search(score, size=40, step=15, scales=(1.0,))(fixed, moving)
        assert corner_error(found[0], truth, fixed) < 2 * FOUND


def test_mutual_information_finds_a_masked_negative(ndim: int) -> None:
    fixed, moving, truth = taken(
        torch.eye(ndim).double(), Grid.regular(SIDES[ndim]), Grid.regular(SIDES[ndim]), (3, -2, 2)[:ndim]
    )
    data, mask = fixed.data.clone(), torch.ones_like(fixed.data)
    data[..., :8], mask[..., :8] = torch.rand(data[..., :8].shape), 0
    search = Search({"name": "cross", "bins": 8}, size=SMALL[ndim]["size"], scales=(1.0,), rotate=False)
    assert corner_error(search(Image(data, fixed.grid, mask), moving)[0], truth, fixed) < 2 * FOUND


@pytest.mark.parametrize("score", ["angle", {"name": "cross", "bins": 8}])
def test_a_rotation_between_those_that_are_tried_is_refined(score: Any, ndim: int) -> None:
    step = 15.0 if ndim == 2 else 40.0
    pose = rotations(ndim, step)[5] @ (turn(7.0) if ndim == 2 else turn(15.0, (1, 2, -1)))
    fixed, moving, _ = taken(pose, Grid.regular(SIDES[ndim]), Grid.regular(SIDES[ndim]))
    off = []
    for refine in (0, 2):
        search = Search(score, size=SMALL[ndim]["size"], step=step, scales=(1.0,), refine=refine)
        [found] = search.peaks([fixed], [moving])
        assert (found.score.diff() <= 0).all()
        off.append(float(angle_between(found.matrix[:, :-1, :-1], pose)[: search.count].min()))
    assert off[0] > 5
    assert off[1] < 0.6 * off[0]


@pytest.mark.parametrize("degree", [1, 3])
def test_more_terms_find_it_too(degree: int) -> None:
    fixed, moving, truth = taken(turn(137), Grid.regular(SIDES[2]), Grid.regular((110, 100)), (5, -7))
    found = Search({"name": "angle", "degree": degree}, **SMALL[2], scales=(1.0,))(fixed, moving)
    assert corner_error(found[0], truth, fixed) < FOUND


def test_nothing_stands_out_of_an_image_without_structure(ndim: int) -> None:
    grid = Grid.regular(SIDES[ndim])
    plain = Image(torch.full((1, 1, *grid.shape), 0.4), grid)
    other = photograph(busy(grid), grid=grid, dtype=torch.float32).normalised()
    search = Search(**SMALL[ndim], rotate=False, scales=(1.0,))
    for pair in ((plain, other), (other, plain), (plain, plain)):
        assert search(*pair).shape == (0, ndim + 1, ndim + 1)


@pytest.mark.parametrize("shape", [(20, 400), (8, 8), (8, 2000), (9, 31), (8, 8, 8), (8, 8, 300), (8, 40, 40)])
def test_odd_shapes_are_no_crash(shape: tuple[int, ...]) -> None:
    grid, ndim = Grid.regular(shape), len(shape)
    image = photograph(busy(grid), grid=grid, dtype=torch.float32).normalised()
    found = Search(step=60 if ndim == 2 else 120, scales=(1.0,))(image, image)
    assert found.shape[1:] == (ndim + 1, ndim + 1)
    assert bool(found.isfinite().all())
    if shape == (20, 400):
        assert corner_error(found[0], torch.eye(3, dtype=torch.float64), image) < FOUND
    cube = Grid.regular((30,) * ndim)
    other = photograph(busy(cube), grid=cube, dtype=torch.float32).normalised()
    for pair in ((image, other), (other, image)):
        assert bool(Search(step=60 if ndim == 2 else 120, scales=(1.0,), rotate=ndim == 2)(*pair).isfinite().all())


def test_candidates_are_apart_best_first_no_more_than_asked_for_and_the_same_each_time() -> None:
    fixed, moving, _ = taken(turn(137), Grid.regular(SIDES[2]), Grid.regular((110, 100)), (5, -7))
    search = Search(size=48, scales=(1.0,), count=6)
    found = search(fixed, moving)
    assert found.shape == (6, 3, 3)
    assert torch.equal(search(fixed, moving), found)
    assert torch.equal(Search(size=48, scales=(1.0,), count=3)(fixed, moving), found[:3])
    for one, other in itertools.combinations(found, 2):
        assert corner_error(one, other, fixed) > 0.08
    [peaks] = search.peaks([fixed], [moving])
    scores = dict(zip(map(tuple, peaks.matrix.flatten(1).tolist()), peaks.score.tolist(), strict=True))
    values = [scores[tuple(matrix.flatten().tolist())] for matrix in found]
    assert values == sorted(values, reverse=True)
    assert values[0] == max(scores.values())


@pytest.mark.parametrize("scale", [0.7, 1.0])
def test_only_the_better_poses_are_searched_at_full_size(scale: float) -> None:
    """At half the size all of them, at full size an eighth."""
    scored: list[int] = []

    class Counted(AngleMaps):
        def maps(self, moving: Image, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
            scored.extend([moving.grid.shape[0]] * len(moving.data))
            return super().maps(moving, rows)

    fixed, moving, _ = taken(turn(137), Grid.regular((120, 140)), Grid.regular((120, 140)))
    Search(Counted(), size=140, step=10, scales=(scale,))(fixed, moving)
    assert [scored.count(side) for side in sorted(set(scored))] == [36, 5]


def test_maps_that_do_not_know_rows_are_refused() -> None:
    class Alone(AngleMaps):
        def maps(self, moving: Image) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return super().maps(moving)

    with pytest.raises(InputError, match="rows"):
        Search(Alone())


def test_less_overlap_is_not_looked_at() -> None:
    """A scene shifted by half its side is found where half may be off, and not where a tenth may be."""
    fixed, moving, truth = taken(turn(0), Grid.regular((96, 96)), Grid.regular((96, 96)), (40, 0))
    found = Search(size=96, scales=(1.0,), rotate=False, least_overlap=0.3)(fixed, moving)
    assert corner_error(found[0], truth, fixed) < FOUND
    found = Search(size=96, scales=(1.0,), rotate=False, least_overlap=0.9)(fixed, moving)
    shifts = found[:, :-1, -1]
    assert bool((((96 - shifts.abs()).prod(1) / 96**2) > 0.85).all())


# Several pairs


def pairs(ndim: int, count: int, masked: bool = False) -> tuple[list[Image], list[Image]]:
    """Scenes on equal grids, each in another pose, from none to a half turn; masks differ."""
    shapes = [Grid.regular(SIDES[ndim]), Grid.regular([n + 4 for n in SIDES[ndim]])]
    made = [taken(turn_in(ndim, 180 / count * number), *shapes, (3.0, -2.0, 1.0)[:ndim], number) for number in range(count)]
    fixed, moving = [one for one, _, _ in made], [other for _, other, _ in made]
    if masked:
        fixed, moving = ([_hidden(image, number) for number, image in enumerate(some)] for some in (fixed, moving))
    return fixed, moving


def _hidden(image: Image, number: int) -> Image:
    """The image with a mask that excludes some of its rows."""
    mask = torch.ones_like(image.data)
    mask[:, :, 2 + number : 8 + number] = 0
    return Image(image.data, image.grid, mask)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("score", ["angle", {"name": "cross", "bins": 4}], ids=["angle", "cross"])
def test_a_pair_has_the_candidates_among_others_that_it_has_alone(ndim: int, score: Any, masked: bool) -> None:
    """Chunks hold poses of several pairs."""
    fixed, moving = pairs(ndim, 3, masked)
    step, side, refine = {2: (60.0, 36, 1), 3: (120.0, 16, 0)}[ndim]
    looking = Search(score, size=side, step=step, scales=(1.0,), count=4, refine=refine)
    together, backwards = looking.many(fixed, moving), looking.many(fixed[::-1], moving[::-1])
    for number, found in enumerate(together):
        alone = looking(fixed[number], moving[number])
        assert len(alone) > 0
        assert torch.allclose(found, alone, rtol=0, atol=1e-9)
        assert torch.allclose(backwards[-1 - number], found, rtol=0, atol=1e-9)


def test_canvases_of_several_shapes_are_scored_apart() -> None:
    """In the second pass. A pair without structure has all poses in it."""
    begun: list[tuple[int, tuple[int, ...]]] = []

    class Watched(AngleMaps):
        def begin(self, fixed: Image, moving: Image, shape: Sequence[int], least_overlap: float = 0.35) -> None:
            begun.append((len(fixed.data), tuple(shape)))
            super().begin(fixed, moving, shape, least_overlap)

    grid = Grid.regular((128, 160))
    made = [taken(turn(degrees), grid, grid, seed=number) for number, degrees in enumerate((0, 45, 0))]
    fixed, moving = [one for one, _, _ in made], [other for _, other, _ in made]
    plain = Image(torch.full_like(fixed[0].data, 0.4), grid)
    looking = Search(Watched(), size=128, step=45, scales=(1.0,))
    found = looking.many([*fixed, plain], [*moving, moving[0]])
    assert begun[0][0] == 4
    assert len(begun) == len({shape for _, shape in begun}) == 3
    assert [count for count, _ in begun[1:]] == [2, 2]
    assert [len(one) > 0 for one in found] == [True, True, True, False]
    for one, (image, _, truth) in zip(found, made, strict=False):
        assert corner_error(one[0], truth, image) < FOUND
    for number in range(2):
        assert torch.allclose(looking(fixed[number], moving[number]), found[number], rtol=0, atol=1e-9)


@pytest.mark.parametrize("score", ["angle", {"name": "cross", "bins": 4, "memory": 1e4}], ids=["angle", "cross"])
def test_many_pairs_take_hardly_more_operations_than_one(score: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drmime.start.propose.search.TOGETHER", 2**40)
    monkeypatch.setattr("drmime.start.propose.cross.CACHE", math.inf)
    fixed, moving = pairs(2, 16)
    looking = Search(score, size=40, step=30, scales=(1.0,))
    looking.many(fixed, moving)  # pyramids are cached in the images
    counts = []
    for count in (1, 16):
        with Counting() as counting:
            looking.many(fixed[:count], moving[:count])
        counts.append(counting.operations.total())
    assert counts[1] < 1.6 * counts[0]


def test_reduced_images_of_several_pairs_are_those_of_each(ndim: int) -> None:
    for masked in (False, True):
        images, _ = pairs(ndim, 3, masked)
        several = reduced([pyramid(image) for image in images], 3.1)
        joined = reduced([pyramid(batch(images))], 3.1)
        for number, image in enumerate(images):
            alone = reduced([pyramid(image)], 3.1)
            for one in (several, joined):
                assert torch.equal(one.grid.world_from_index, alone.grid.world_from_index)
                assert torch.allclose(one.pair(number).data, alone.data, atol=1e-6)
                assert torch.equal(one.pair(number).valid, alone.valid)


def test_the_share_that_is_done_grows_to_all_of_it() -> None:
    told: list[float] = []
    fixed, moving = pairs(2, 3)
    Search(size=40, step=30).many(fixed, moving, told.append)
    assert all(one < other for one, other in itertools.pairwise(told))
    assert told[-1] == pytest.approx(1)


# The door

BAD: list[dict[str, Any]] = [
    {"score": "angel"}, {"score": {"name": "angle", "degre": 1}}, {"score": 3}, {"score": None},
    {"size": 15}, {"size": 2000}, {"size": 64.5}, {"step": 0}, {"step": 360}, {"step": math.nan}, {"step": "5"},
    {"scales": ()}, {"scales": (0.0,)}, {"scales": (-1.0,)}, {"scales": (math.nan,)}, {"scales": "all"}, {"scales": (1, "a")},
    {"rotate": 1}, {"rotate": "no"}, {"mirrored": None}, {"least_overlap": 0}, {"least_overlap": 1},
    {"least_overlap": math.inf}, {"count": 0}, {"count": True}, {"count": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("option", BAD, ids=str)
def test_a_bad_option_is_named(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(option))):
        Search(**option)


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.lists(st.floats(), max_size=3), st.just(1j)
)


@settings(max_examples=20)
@given(
    options=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("size", "step", "scales", "rotate", "mirrored", "least_overlap", "count"), anything),
    )
)
def test_whatever_comes_is_taken_or_named(options: dict[str, Any]) -> None:
    try:
        search = Search(**options)
    except InputError as error:
        named = str(error).split(":")[0]
    else:
        named = ""
    if named:
        assert named in options
        return
    assert search.size is None or 16 <= search.size <= 1024
    assert search.step is None or 0.1 < search.step < 360
    assert search.scales
    assert all(0.01 <= scale <= 100 for scale in search.scales)
    assert 0 < search.least_overlap < 1
    assert search.count >= 1
    assert {type(search.rotate), type(search.mirrored)} == {bool}


def test_lengths_for_the_fft_are_those_of_scipy() -> None:
    assert [good_length(n) for n in range(1, 2000)] == [next_fast_len(n, real=True) for n in range(1, 2000)]
