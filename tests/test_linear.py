"""Matrices as transforms, and the model that makes them: start times exponential, in the frame of the fixed grid."""

import pytest
import torch
from problems import oblique, rotation, translation, world_points
from tolerances import EXACT

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.lie import GROUPS, PARAMETRISATIONS, direct, exp, generators
from drmime.geometry.matrices import apply
from drmime.transform.linear import LieModel, LieTransform, MatrixTransform, matrix_of

ALL = slice(0, 4)


def model(fixed: Grid, group: str = "affine", start: torch.Tensor | None = None, finest: bool = False) -> LieModel:
    start = torch.eye(fixed.ndim + 1, dtype=torch.float64)[None] if start is None else start
    moving = Grid.regular([9] * fixed.ndim, [2.0] * fixed.ndim)
    return LieModel(generators(group, fixed.ndim), start, fixed, moving, finest)


def fill(lie: LieModel, size: float = 0.1) -> LieModel:
    with torch.no_grad():
        lie.coefficients.copy_(size * torch.randn_like(lie.coefficients))
    return lie


def matrices(lie: LieModel) -> torch.Tensor:
    return torch.stack([matrix_of(transform) for transform in lie.result()])


def starts(ndim: int) -> torch.Tensor:
    """A rigid and a projective start. shape: (2, D+1, D+1)"""
    bent = translation(*[5.0] * ndim)
    bent[-1, 0] = 1e-3
    return torch.stack([rotation(ndim, 0.5) @ translation(*[3.0] * ndim), bent])


def frame_points(ndim: int, count: int = 30) -> torch.Tensor:
    return 2 * torch.rand(1, 1, count, ndim, dtype=torch.float64) - 1


# ---- the model


@pytest.mark.parametrize("group", GROUPS)
def test_zero_coefficients_give_the_start(group: str, grid: Grid) -> None:
    found = matrices(model(grid, group, starts(grid.ndim)))
    assert torch.allclose(found, starts(grid.ndim), rtol=0, atol=100 * EXACT)
    assert found.dtype == torch.float64


def test_any_start_multiplies_from_the_left(grid: Grid) -> None:
    start = starts(grid.ndim)
    alone = fill(model(grid, "rigid"))
    after = model(grid, "rigid", start)
    with torch.no_grad():
        after.coefficients.copy_(alone.coefficients.expand_as(after.coefficients))
        found, expected = (lie.matrices(lie.coefficients.sum(1)) for lie in (after, alone))
    assert torch.allclose(found, start @ expected, rtol=0, atol=1e3 * EXACT)


@pytest.mark.parametrize("group", ["rigid", "projective"])
def test_mapped_is_the_map_and_then_the_matrices(group: str, grid: Grid) -> None:
    lie = fill(model(grid, group, starts(grid.ndim)[:1] if group == "rigid" else starts(grid.ndim)))
    then = torch.stack([translation(*[0.3] * grid.ndim), rotation(grid.ndim, 0.4)])[:, None]
    points = frame_points(grid.ndim).expand(2, -1, -1, -1)
    plain, found = lie(points, slice(0, 2)), lie.mapped(points, slice(0, 2), then)
    expected, _ = apply(then, plain.points)
    assert torch.equal(found.valid, plain.valid)
    assert torch.allclose(found.points[found.valid], expected[found.valid], rtol=0, atol=1e3 * EXACT)
    assert torch.equal(found.jacobian, plain.jacobian)


def test_each_pair_has_its_own_coefficients(grid: Grid) -> None:
    both = fill(model(grid, "affine", starts(grid.ndim)))
    for pair in range(2):
        alone = model(grid, "affine", starts(grid.ndim)[pair : pair + 1])
        with torch.no_grad():
            alone.coefficients.copy_(both.coefficients[pair : pair + 1])
        assert torch.allclose(matrices(alone)[0], matrices(both)[pair], rtol=0, atol=100 * EXACT)


@pytest.mark.parametrize("group", ["affine", "projective"])
def test_points_go_where_the_result_takes_them(group: str, grid: Grid) -> None:
    """The model in its frames, the result in the world: places, validity and slopes agree."""
    lie = fill(model(grid, group, starts(grid.ndim)))
    points = frame_points(grid.ndim)
    there = lie(points, slice(0, 1))
    moving = Grid.regular([9] * grid.ndim, [2.0] * grid.ndim)
    here = apply(grid.world_from_frame, points[0, 0])[0]
    for pair, transform in enumerate(lie.result()):
        found = apply(moving.world_from_frame, there.points[0, pair])[0]
        valid = there.valid[0, pair]
        assert torch.allclose(found[valid], transform(here)[valid], rtol=0, atol=1e4 * EXACT)
        assert torch.equal(transform(here).isfinite().all(-1), valid)
        slopes = there.jacobian[0, pair].expand(len(here), -1, -1)
        true = transform.jacobian(here)
        factor = slopes.det().abs() ** (1 / grid.ndim) / true.det().abs() ** (1 / grid.ndim)
        assert torch.allclose(slopes, factor[:, None, None] * true, rtol=1e-9, atol=1e-9)


def test_rotation_is_about_the_centre_of_the_fixed_grid(grid: Grid) -> None:
    lie = model(grid, "rigid")
    with torch.no_grad():
        lie.coefficients[..., list(lie.generators).index("rotation_xy")] = 0.7
    around = translation(*grid.centre) @ rotation(grid.ndim, 0.7) @ translation(*-grid.centre)
    assert torch.allclose(matrices(lie)[0], around, rtol=0, atol=1e3 * EXACT)


def test_a_coefficient_is_a_share_of_half_the_longest_side() -> None:
    lie = model(Grid.regular((20, 50), (1.0, 2.0)), "translation")
    with torch.no_grad():
        lie.coefficients[0, 0] = torch.tensor([0.1, 0.0], dtype=torch.float64)
    assert torch.allclose(matrices(lie)[0], translation(0.1 * 50 * 2 / 2, 0.0), rtol=0, atol=100 * EXACT)


def test_all_levels_share_one_transform_without_the_finest_vector(grid: Grid) -> None:
    lie = fill(model(grid))
    points = frame_points(grid.ndim).expand(4, -1, -1, -1)
    places = lie(points, ALL).points
    assert places.shape == (4, 1, 30, grid.ndim)
    assert torch.equal(places, places[:1].expand_as(places))


def test_the_finest_vector_acts_on_level_0_alone_and_makes_the_result(grid: Grid) -> None:
    lie = fill(model(grid, finest=True))
    points = frame_points(grid.ndim).expand(4, -1, -1, -1)
    places = lie(points, ALL).points
    both = lie.coefficients.clone()
    assert torch.equal(lie(points[:1], slice(0, 1)).points, places[:1])  # level by level as all at once
    assert torch.equal(lie(points[1:], slice(1, 4)).points, places[1:])
    result = matrices(lie)
    with torch.no_grad():
        lie.coefficients[:, 1] = 0  # what acts on the others
    assert torch.allclose(lie(points, ALL).points[1:], places[1:], rtol=0, atol=EXACT)
    assert not torch.allclose(lie(points, ALL).points[0], places[0])
    with torch.no_grad():
        lie.coefficients[:, 0] = both.sum(1)
    assert torch.allclose(matrices(lie), result, rtol=0, atol=100 * EXACT)


def test_the_second_vector_gets_no_gradient_from_coarse_levels(grid: Grid) -> None:
    lie = fill(model(grid, finest=True))
    lie(frame_points(grid.ndim).expand(2, -1, -1, -1), slice(1, 3)).points.sum().backward()
    assert lie.coefficients.grad[:, 0].abs().sum() > 0
    assert torch.equal(lie.coefficients.grad[:, 1], torch.zeros_like(lie.coefficients.grad[:, 1]))


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_the_motion_does_not_depend_on_where_the_fixed_image_lies_in_the_world(offset: float, ndim: int) -> None:
    shape, spacing = (24, 33, 20)[:ndim], (2.0, 0.5, 0.8)[:ndim]
    here, there = oblique(shape, spacing), oblique(shape, spacing, offset)
    away = there.centre - here.centre
    near_origin = fill(model(here, "affine"))
    far = model(there, "affine")
    with torch.no_grad():
        far.coefficients.copy_(near_origin.coefficients)
    points = world_points(here)
    expected, moved = (lie.result()[0](at) for lie, at in ((near_origin, points), (far, points + away)))
    assert torch.allclose(moved - away, expected, rtol=0, atol=1e-14 * offset * 100)


def test_the_coefficients_are_the_only_parameter_and_all_is_float64(grid: Grid) -> None:
    lie = model(grid, start=torch.eye(grid.ndim + 1)[None])
    assert [name for name, _ in lie.named_parameters()] == ["coefficients"]
    assert {tensor.dtype for tensor in lie.state_dict().values()} == {torch.float64}


def test_the_result_says_what_made_it_and_is_not_touched_by_further_steps(grid: Grid) -> None:
    lie = fill(model(grid, "similarity"))
    (found,) = lie.result()
    assert isinstance(found, LieTransform)
    assert list(found.coefficients) == list(found.generators) == list(lie.generators)
    assert list(found.coefficients.values()) == lie.coefficients[0, 0].tolist()
    assert {name: float(value) for name, value in lie.curves().items()} == {
        f"coefficients/{name}": value for name, value in found.coefficients.items()
    }
    before = found.matrix.clone()
    fill(lie)
    assert torch.equal(found.matrix, before)


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


# ---- matrices


def test_two_matrices_make_one_and_a_matrix_has_no_part_in_another_kind(ndim: int) -> None:
    first, second = (MatrixTransform(one) for one in starts(ndim))
    assert torch.equal(matrix_of(first @ second), first.matrix @ second.matrix)
    with pytest.raises(InputError, match="expected a transform that is one matrix, got a float"):
        matrix_of(1.0)  # type: ignore[arg-type]


def test_a_point_behind_the_horizon_has_no_place() -> None:
    bent = torch.eye(3, dtype=torch.float64)
    bent[2, 0] = -1 / 25
    found = MatrixTransform(bent)(torch.tensor([[5.0, 1.0], [30.0, 1.0]], dtype=torch.float64))
    assert found.isfinite().all(-1).tolist() == [True, False]
