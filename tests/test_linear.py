"""The transform: start times exponential, in the frame of the fixed grid."""

import pytest
import torch
from problems import oblique, rotation, translation, world_points
from tolerances import EXACT

from drmime.geometry.grid import Grid
from drmime.geometry.lie import GROUPS, PARAMETRISATIONS, direct, exp, generators
from drmime.geometry.matrices import apply
from drmime.transform.linear import LieTransform


def transform(fixed: Grid, group: str = "affine", start: torch.Tensor | None = None, finest: bool = False) -> LieTransform:
    start = torch.eye(fixed.ndim + 1, dtype=torch.float64)[None] if start is None else start
    return LieTransform(generators(group, fixed.ndim), start, fixed, finest)


def fill(lie: LieTransform, size: float = 0.1) -> LieTransform:
    with torch.no_grad():
        lie.coefficients.copy_(size * torch.randn_like(lie.coefficients))
    return lie


def starts(ndim: int) -> torch.Tensor:
    """A rigid and a projective start. shape: (2, D+1, D+1)"""
    bent = translation(*[5.0] * ndim)
    bent[-1, 0] = 1e-3
    return torch.stack([rotation(ndim, 0.5) @ translation(*[3.0] * ndim), bent])


@pytest.mark.parametrize("group", GROUPS)
def test_zero_coefficients_give_the_start(group: str, grid: Grid) -> None:
    start = starts(grid.ndim)
    matrix = transform(grid, group, start).matrix()
    assert torch.allclose(matrix, start, rtol=0, atol=100 * EXACT)
    assert matrix.dtype == torch.float64


@pytest.mark.parametrize("group", GROUPS)
def test_zero_coefficients_give_the_start_to_the_bit_in_the_frame(group: str, grid: Grid) -> None:
    lie = transform(grid, group, starts(grid.ndim))
    assert torch.equal(lie.moving_from_frame(lie.by_level(1))[0], starts(grid.ndim) @ grid.world_from_frame)


def test_any_start_multiplies_from_the_left(grid: Grid) -> None:
    start = starts(grid.ndim)
    alone = fill(transform(grid, "rigid"))
    after = transform(grid, "rigid", start)
    with torch.no_grad():
        after.coefficients.copy_(alone.coefficients.expand_as(after.coefficients))
    assert torch.allclose(after.matrix(), start @ alone.matrix(), rtol=0, atol=1e3 * EXACT)


def test_each_pair_has_its_own_coefficients(grid: Grid) -> None:
    both = fill(transform(grid, "affine", starts(grid.ndim)))
    for pair in range(2):
        alone = transform(grid, "affine", starts(grid.ndim)[pair : pair + 1])
        single = alone.matrix(both.coefficients[0, pair : pair + 1])[0]
        assert torch.allclose(single, both.matrix()[pair], rtol=0, atol=100 * EXACT)


def test_rotation_is_about_the_centre_of_the_fixed_grid(grid: Grid) -> None:
    lie = transform(grid, "rigid")
    with torch.no_grad():
        lie.coefficients[..., lie.names.index("rotation_xy")] = 0.7
    around = translation(*grid.centre) @ rotation(grid.ndim, 0.7) @ translation(*-grid.centre)
    assert torch.allclose(lie.matrix()[0], around, rtol=0, atol=1e3 * EXACT)


def test_a_coefficient_is_a_share_of_half_the_longest_side() -> None:
    fixed = Grid.regular((20, 50), (1.0, 2.0))
    lie = transform(fixed, "translation")
    with torch.no_grad():
        lie.coefficients[0, 0] = torch.tensor([0.1, 0.0], dtype=torch.float64)
    assert torch.allclose(lie.matrix()[0], translation(0.1 * 50 * 2 / 2, 0.0), rtol=0, atol=100 * EXACT)


def test_all_levels_share_one_transform_without_the_finest_vector(grid: Grid) -> None:
    lie = fill(transform(grid))
    levels = lie.moving_from_frame(lie.by_level(4))
    assert levels.shape == (4, 1, grid.ndim + 1, grid.ndim + 1)
    assert torch.equal(levels, levels[:1].expand_as(levels))


def test_the_finest_vector_acts_on_level_0_alone(grid: Grid) -> None:
    lie = fill(transform(grid, finest=True))
    shared, finest = lie.coefficients
    levels = lie.by_level(4)
    assert torch.equal(levels[0], shared + finest)
    assert torch.equal(levels[1:], shared.expand(3, -1, -1))
    assert finest.abs().min() > 0


def test_the_result_is_the_transform_of_the_finest_level(grid: Grid) -> None:
    lie = fill(transform(grid, finest=True))
    finest = lie.moving_from_frame(lie.by_level(4))[0] @ torch.linalg.inv(grid.world_from_frame)
    assert torch.allclose(lie.matrix(), finest, rtol=0, atol=100 * EXACT)


def test_a_single_level_is_the_finest(grid: Grid) -> None:
    lie = fill(transform(grid, finest=True))
    assert torch.equal(lie.by_level(1), lie.by_level(4)[:1])


def test_the_second_vector_gets_no_gradient_from_coarse_levels(grid: Grid) -> None:
    lie = fill(transform(grid, finest=True))
    lie.moving_from_frame(lie.by_level(3))[1:].sum().backward()
    assert lie.coefficients.grad[0].abs().sum() > 0
    assert torch.equal(lie.coefficients.grad[1], torch.zeros_like(lie.coefficients.grad[1]))


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_the_motion_does_not_depend_on_where_the_fixed_image_lies_in_the_world(offset: float, ndim: int) -> None:
    shape, spacing = (24, 33, 20)[:ndim], (2.0, 0.5, 0.8)[:ndim]
    here, there = oblique(shape, spacing), oblique(shape, spacing, offset)
    away = there.centre - here.centre
    near_origin = fill(transform(here, "affine"))
    far = transform(there, "affine")
    with torch.no_grad():
        far.coefficients.copy_(near_origin.coefficients)
    points = world_points(here)
    expected, _ = apply(near_origin.matrix()[0], points)
    moved, _ = apply(far.matrix()[0], points + away)
    assert torch.allclose(moved - away, expected, rtol=0, atol=1e-14 * offset * 100)


def test_the_coefficients_are_the_only_parameter_and_all_is_float64(grid: Grid) -> None:
    lie = transform(grid, start=torch.eye(grid.ndim + 1)[None])
    assert [name for name, _ in lie.named_parameters()] == ["coefficients"]
    assert {tensor.dtype for tensor in lie.state_dict().values()} == {torch.float64}


@pytest.mark.parametrize("group", GROUPS)
def test_direct_entries_begin_as_the_exponential_does(group: str, ndim: int) -> None:
    """The same start, to the bit, and the same slope there; elsewhere entries are linear in the coefficients."""
    basis = torch.stack(list(generators(group, ndim).values()))
    zero = torch.zeros(1, len(basis), dtype=torch.float64)
    assert torch.equal(direct(zero, basis), exp(zero, basis))
    slopes = [torch.autograd.functional.jacobian(lambda c, f=f: f(c, basis), zero) for f in PARAMETRISATIONS.values()]
    assert torch.allclose(*slopes, rtol=0, atol=EXACT)
    some, eye = 0.3 * torch.randn_like(zero), torch.eye(ndim + 1, dtype=torch.float64)
    assert torch.allclose(direct(2 * some, basis) - eye, 2 * (direct(some, basis) - eye), rtol=0, atol=EXACT)
