"""Moments: a blob without symmetry is turned back, whatever its rotation."""

import math

import pytest
import torch
from problems import Function, oblique, photograph, rotation, translation
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.image import Image
from drmime.start.propose.moments import Moments

SHAPES = {2: (80, 90), 3: (40, 46, 44)}


def blob(grid: Grid) -> Function:
    """An ellipsoid of unequal axes with a knob off every axis, well inside the grid, in world units."""
    radius = float(grid.extent.min()) / 2
    widths = radius * torch.tensor([0.26, 0.15, 0.09], dtype=torch.float64)[: grid.ndim]
    knob = radius * torch.tensor([0.3, 0.12, 0.07], dtype=torch.float64)[: grid.ndim]

    def values(points: Tensor) -> Tensor:
        off = points - grid.centre
        body = torch.exp(-0.5 * (off / widths).square().sum(-1))
        return body + 0.8 * torch.exp(-0.5 * ((off - knob) / (0.08 * radius)).square().sum(-1))

    return values


def pair(truth: Tensor, fixed: Grid, moving: Grid, dark: bool = False) -> tuple[Image, Image]:
    what, back = blob(fixed), torch.linalg.inv(truth)
    seen = photograph(what, grid=moving, scene_from_world=back)
    return photograph(what, grid=fixed), Image(1 - 0.5 * seen.data, moving) if dark else seen


def about(fixed: Grid, moving: Grid, linear: Tensor, shift: float = 2.0) -> Tensor:
    """The map that acts as `linear` (homogeneous) about the centres of the grids, then shifts."""
    to = translation(*(moving.centre + shift * moving.spacing).tolist())
    return to @ linear @ translation(*(-fixed.centre).tolist())


def worst(matrix: Tensor, truth: Tensor, grid: Grid) -> float:
    """The largest error at a corner of the grid, as a share of its longest side."""
    moved, right = (apply(m, grid.corners())[0] for m in (matrix, truth))
    return float((moved - right).norm(dim=1).max() / grid.extent.max())


@pytest.mark.parametrize("dark", [False, True], ids=["bright", "dark"])
@pytest.mark.parametrize("angle", [0, 40, 137, 180, -95])
def test_a_rotation_is_found(angle: float, ndim: int, dark: bool) -> None:
    grid = Grid.regular(SHAPES[ndim])
    linear = rotation(ndim, math.radians(angle))
    if ndim == 3:
        linear = linear @ rotation(3, 1.1, (1, 2)) @ rotation(3, -2.0, (0, 2))
    truth = about(grid, grid, linear)
    found = Moments()(*pair(truth, grid, grid, dark))
    assert found.shape == (2 if ndim == 2 else 4, ndim + 1, ndim + 1)
    assert found.dtype == torch.float64
    assert worst(found[0], truth, grid) < 0.01
    assert torch.equal(found[:, -1], torch.eye(ndim + 1, dtype=torch.float64)[-1].expand(len(found), -1))
    turns = found[:, :-1, :-1]
    assert torch.allclose(turns @ turns.mT, torch.eye(ndim, dtype=torch.float64).expand_as(turns))
    assert (torch.linalg.det(turns) > 0).all()
    apart = (turns[:, None] - turns[None]).abs().amax((-1, -2)) + torch.eye(len(turns))
    assert apart.min() > 0.5  # all are different


def test_rotation_and_scale_on_grids_of_unlike_spacing(ndim: int) -> None:
    fixed = oblique(SHAPES[ndim], (0.9, 0.7, 0.8)[-ndim:], offset=20.0)
    moving = Grid.regular([n + 20 for n in SHAPES[ndim]], (1.1, 1.2, 0.9)[-ndim:])
    size = torch.diag(torch.tensor([1.2] * ndim + [1.0], dtype=torch.float64))
    truth = about(fixed, moving, rotation(ndim, 2.5) @ size)
    images = pair(truth, fixed, moving)
    assert worst(Moments(scale=True)(*images)[0], truth, fixed) < 0.02
    rigid = Moments()(*images)[0, :-1, :-1]
    assert torch.allclose(rigid @ rigid.T, torch.eye(ndim, dtype=torch.float64))


def test_mirrored_maps_come_after_all_others(ndim: int) -> None:
    grid = Grid.regular(SHAPES[ndim])
    mirror = torch.eye(ndim + 1, dtype=torch.float64)
    mirror[0, 0] = -1
    truth = about(grid, grid, rotation(ndim, 2.0) @ mirror)
    images = pair(truth, grid, grid)
    found = Moments(mirrored=True)(*images)
    half = 2 ** (ndim - 1)
    assert len(found) == 2 * half
    assert torch.linalg.det(found).sign().tolist() == [1.0] * half + [-1.0] * half
    assert worst(found[half], truth, grid) < 0.01
    assert torch.allclose(found[:half], Moments()(*images))


def test_what_a_mask_covers_weighs_nothing(ndim: int) -> None:
    grid = Grid.regular(SHAPES[ndim])
    truth = about(grid, grid, rotation(ndim, 2.0))
    fixed, moving = pair(truth, grid, grid)
    corner = (0, 0, *(slice(0, 6) for _ in range(ndim)))
    data, mask = moving.data.clone(), torch.ones_like(moving.data)
    data[corner], mask[corner] = 50.0, 0
    assert worst(Moments()(fixed, Image(data, grid, mask))[0], truth, grid) < 0.01


def test_colours_weigh_together() -> None:
    grid = Grid.regular(SHAPES[2])
    truth = about(grid, grid, rotation(2, 2.0))
    fixed, moving = pair(truth, grid, grid)
    colour = Image(moving.data * torch.tensor([1.0, -0.5, 0.0]).view(1, 3, 1, 1), grid)
    assert worst(Moments()(fixed, colour)[0], truth, grid) < 0.01


@pytest.mark.parametrize("options", [{"scale": 1}, {"mirrored": "yes"}])
def test_options_are_true_or_false(options: dict) -> None:
    with pytest.raises(InputError, match="expected True or False"):
        Moments(**options)
