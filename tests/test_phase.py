"""Phase correlation and Fourier-Mellin: shifts, rotations and scales that were planted are found."""

import math

import pytest
import torch
from problems import Function, oblique, photograph, rotation, scene, translation
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.image import Image
from drmime.start.propose.base import peaks
from drmime.start.propose.phase import FourierMellin, PhaseCorrelation, phase_surface

SHAPES = {2: (90, 120), 3: (30, 36, 33)}


def busy(grid: Grid, seed: int = 0) -> Function:
    """A scene with detail at many places, some pixels wide."""
    coarse, fine = scene(grid, seed, 6), scene(grid, seed + 1, 80)
    fine = type(fine)(fine.centres, fine.widths / 5, fine.heights, fine.wave)
    return lambda points: coarse(points) + 1.5 * fine(points)


def photographs(moving_from_fixed: Tensor, fixed: Grid, moving: Grid, values: Function = lambda x: x) -> tuple[Image, Image]:
    """Two images of one busy scene; `values` changes those of the moving one."""
    what = busy(fixed)
    back = torch.linalg.inv(moving_from_fixed)
    return photograph(what, grid=fixed), photograph(lambda p: values(what(p)), grid=moving, scene_from_world=back)


def worst(matrix: Tensor, truth: Tensor, grid: Grid) -> float:
    """The largest error at a corner of the grid, in its pixels."""
    moved, right = (apply(m, grid.corners())[0] for m in (matrix, truth))
    return float((moved - right).norm(dim=1).max() / grid.spacing.min())


def proper(matrices: Tensor, ndim: int) -> bool:
    return (
        matrices.dtype == torch.float64
        and matrices.shape[1:] == (ndim + 1, ndim + 1)
        and torch.equal(matrices[:, -1], torch.eye(ndim + 1, dtype=torch.float64)[-1].expand(len(matrices), -1))
    )


@pytest.mark.parametrize("edges", [True, False], ids=["edges", "intensities"])
def test_a_planted_shift_is_found(ndim: int, edges: bool) -> None:
    fixed, moving = Grid.regular(SHAPES[ndim]), Grid.regular([n - 7 for n in SHAPES[ndim]])
    truth = translation(*[-13.0, 9.0, 5.0][:ndim])
    found = PhaseCorrelation(edges=edges)(*photographs(truth, fixed, moving))
    assert proper(found, ndim)
    assert 1 <= len(found) <= 4
    assert torch.equal(found[:, :-1, :-1], torch.eye(ndim, dtype=torch.float64).expand(len(found), -1, -1))
    assert worst(found[0], truth, fixed) < 1.5


def test_a_planted_shift_is_found_on_grids_of_unlike_spacing(ndim: int) -> None:
    fixed = oblique(SHAPES[ndim], (1.5, 0.5, 0.8)[-ndim:], offset=50.0)
    moving = oblique(SHAPES[ndim][::-1], (0.7, 0.9, 0.6)[-ndim:], offset=50.0)
    shift = fixed.world_from_index[:-1, :-1] @ torch.tensor([6.0, -5.0, 3.0], dtype=torch.float64)[:ndim]
    truth = translation(*(shift + moving.centre - fixed.centre).tolist())
    found = PhaseCorrelation()(*photographs(truth, fixed, moving))
    assert worst(found[0], truth, fixed) < 4


def test_the_moving_image_may_lie_otherwise_in_the_world() -> None:
    fixed = Grid.regular(SHAPES[2])
    moving = Grid(SHAPES[2][::-1], translation(100.0, 5.0) @ rotation(2, math.pi / 2))
    truth = translation(*(moving.centre - fixed.centre + 8.0).tolist())
    assert worst(PhaseCorrelation()(*photographs(truth, fixed, moving))[0], truth, fixed) < 1.5


@pytest.mark.parametrize("edges", [True, False], ids=["edges", "intensities"])
def test_reversed_contrast_makes_no_difference(ndim: int, edges: bool) -> None:
    grid, truth = Grid.regular(SHAPES[ndim]), translation(*[8.0, -6.0, 4.0][:ndim])
    found = PhaseCorrelation(edges=edges)(*photographs(truth, grid, grid, lambda x: 1 - x))
    assert worst(found[0], truth, grid) < 1.5


def masked(image: Image, trash: float) -> Image:
    """The image with a corner of trash that its mask covers."""
    corner = (0, 0, *(slice(0, n // 3) for n in image.grid.shape))
    data, mask = image.data.clone(), torch.ones_like(image.data)
    data[corner], mask[corner] = trash, 0
    return Image(data, image.grid, mask)


def test_what_a_mask_covers_is_not_correlated(ndim: int) -> None:
    grid, truth = Grid.regular(SHAPES[ndim]), translation(*[8.0, -6.0, 4.0][:ndim])
    fixed, moving = photographs(truth, grid, grid)
    found = [PhaseCorrelation()(masked(fixed, trash), masked(moving, trash)) for trash in (0.0, 1e3)]
    assert torch.allclose(found[0], found[1])
    assert worst(found[0][0], truth, grid) < 1.5


def test_channels_are_averaged() -> None:
    grid, truth = Grid.regular(SHAPES[2]), translation(8.0, -6.0)
    fixed, moving = photographs(truth, grid, grid)
    colour = Image(fixed.data.expand(-1, 3, -1, -1), grid)
    assert torch.allclose(PhaseCorrelation()(colour, moving), PhaseCorrelation()(fixed, moving))


def test_candidates_are_distinct_and_no_more_than_asked_for(ndim: int) -> None:
    grid = Grid.regular(SHAPES[ndim])
    for count in (1, 6):
        found = PhaseCorrelation(count=count)(*photographs(translation(*[5.0] * ndim), grid, grid))
        assert len(found) == count
        apart = (found[:, None, :-1, -1] - found[None, :, :-1, -1]).abs().amax(-1)
        assert count == 1 or apart[~torch.eye(count, dtype=torch.bool)].min() > max(grid.shape) / 20


def test_the_surface_is_that_of_the_definition() -> None:
    """A delta moved by (3, -2) gives a peak there; the surface is as large as there are shifts."""
    fixed, moving = torch.zeros(11, 12), torch.zeros(9, 15)
    fixed[5, 6], moving[8, 4] = 1, 1
    surface = phase_surface(fixed, moving)
    assert surface.shape == (11 + 9 - 1, 12 + 15 - 1)
    peak = peaks(surface[None], 2, 3)[1][0]
    assert (peak - torch.tensor([10, 11])).tolist() == [3, -2]


def test_a_periodic_axis_wraps_around() -> None:
    fixed = torch.rand(20, 15)
    surface = phase_surface(fixed, fixed.roll(-7, 0), periodic=0)
    assert surface.shape == (20, 29)
    peak = peaks(surface[None], 1, 3)[1][0]
    assert (peak - torch.tensor([10, 14])).tolist() == [-7, 0]


def similarity(grid: Grid, angle: float, scale: float, shift: tuple[float, float]) -> Tensor:
    size = torch.diag(torch.tensor([scale, scale, 1.0], dtype=torch.float64))
    middle = translation(*grid.centre.tolist())
    return translation(*shift) @ middle @ rotation(2, math.radians(angle)) @ size @ torch.linalg.inv(middle)


@pytest.mark.parametrize("edges", [True, False], ids=["edges", "intensities"])
@pytest.mark.parametrize(("angle", "scale"), [(137, 1.25), (-70, 0.8), (180, 1.0), (3, 1.5)])
def test_fourier_mellin_finds_rotation_scale_and_shift(angle: float, scale: float, edges: bool) -> None:
    fixed, moving = Grid.regular((120, 150)), Grid.regular((170, 160))
    truth = similarity(fixed, angle, scale, (12.0, 20.0))
    found = FourierMellin(edges=edges)(*photographs(truth, fixed, moving))
    assert proper(found, 2)
    assert 1 <= len(found) <= 4
    linear = found[0, :2, :2]
    turned = math.degrees(math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    assert abs((turned - angle + 180) % 360 - 180) < 2
    assert abs(float(torch.linalg.det(linear).sqrt()) / scale - 1) < 0.04
    assert worst(found[0], truth, fixed) < 10


def test_fourier_mellin_in_world_units() -> None:
    fixed = oblique((120, 140), (0.5, 0.6), offset=30.0)
    moving = Grid.regular((240, 250), (0.4, 0.3))
    truth = translation(*(moving.centre - fixed.centre).tolist()) @ similarity(fixed, 137, 1.1, (3.0, -2.0))
    assert worst(FourierMellin()(*photographs(truth, fixed, moving))[0], truth, fixed) < 10


def test_fourier_mellin_refuses_volumes() -> None:
    volume = photograph(busy(Grid.regular((20, 20, 20))), grid=Grid.regular((20, 20, 20)))
    with pytest.raises(InputError, match=r"2-D images only, got 3-D\. Take"):
        FourierMellin()(volume, volume)


@pytest.mark.parametrize("options", [{"count": 0}, {"count": 1.5}, {"side": 2}, {"side": "big"}, {"edges": 1}])
@pytest.mark.parametrize("part", [PhaseCorrelation, FourierMellin])
def test_options_out_of_range_are_refused(part: type, options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        part(**options)
