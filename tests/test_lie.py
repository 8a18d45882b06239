"""Lie groups: the generators are those of the group, and their exponential obeys its laws."""

import math
from itertools import pairwise

import pytest
import torch
from problems import rotation, translation
from tolerances import EXACT

from drmime.errors import InputError
from drmime.geometry.lie import GROUPS, exp, exp_by_series, generators, similarity_generators

COUNTS = {  # of the degrees of freedom, by dimension
    "translation": {2: 2, 3: 3},
    "rigid": {2: 3, 3: 6},
    "similarity": {2: 4, 3: 7},
    "affine": {2: 6, 3: 12},
    "projective": {2: 8, 3: 15},
}


def basis(group: str | list[str], ndim: int) -> torch.Tensor:
    return torch.stack(list(generators(group, ndim).values()))


def random_elements(group: str, ndim: int, count: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients (count, K) and their matrices."""
    vectors = basis(group, ndim)
    theta = torch.randn(count, len(vectors), dtype=torch.float64) * 0.4
    return theta, exp(theta, vectors)


def span(group: str, ndim: int) -> torch.Tensor:
    """The generators as columns; projective matrices are equal up to a factor, so that the identity belongs to them."""
    vectors = basis(group, ndim)
    if group == "projective":
        vectors = torch.cat([vectors, torch.eye(ndim + 1, dtype=torch.float64)[None]])
    return vectors.flatten(1).T


def in_span(columns: torch.Tensor, matrices: torch.Tensor) -> bool:
    """Whether each of the matrices (N, n, n) is a weighted sum of the columns."""
    wanted = matrices.flatten(1).T
    return near(columns @ torch.linalg.lstsq(columns, wanted).solution, wanted)


def near(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.allclose(left, right, rtol=0, atol=100 * EXACT)


def test_every_group_is_counted_here() -> None:
    assert set(COUNTS) == set(GROUPS)


@pytest.mark.parametrize("group", COUNTS)
def test_a_group_has_as_many_independent_generators_as_degrees_of_freedom(group: str, ndim: int) -> None:
    vectors = basis(group, ndim)
    assert vectors.shape == (COUNTS[group][ndim], ndim + 1, ndim + 1)
    assert torch.linalg.matrix_rank(vectors.flatten(1)) == COUNTS[group][ndim]


def test_a_smaller_group_lies_in_the_larger(ndim: int) -> None:
    groups = [set(generators(group, ndim)) for group in ("translation", "rigid", "similarity", "affine", "projective")]
    assert all(small < large for small, large in pairwise(groups))


@pytest.mark.parametrize("group", GROUPS)
def test_the_commutator_of_two_generators_is_in_their_span(group: str, ndim: int) -> None:
    vectors = basis(group, ndim)
    products = torch.einsum("aij,bjk->abik", vectors, vectors)
    assert in_span(span(group, ndim), (products - products.transpose(0, 1)).flatten(0, 1))


@pytest.mark.parametrize("group", GROUPS)
def test_zero_is_exactly_the_identity(group: str, ndim: int) -> None:
    vectors = basis(group, ndim)
    identity = exp(torch.zeros(3, len(vectors), dtype=torch.float64), vectors)
    assert torch.equal(identity, torch.eye(ndim + 1, dtype=torch.float64).expand(3, -1, -1))


@pytest.mark.parametrize("group", GROUPS)
def test_the_opposite_coefficients_give_the_inverse(group: str, ndim: int) -> None:
    theta, matrices = random_elements(group, ndim)
    assert near(exp(-theta, basis(group, ndim)) @ matrices, torch.eye(ndim + 1, dtype=torch.float64).expand_as(matrices))


@pytest.mark.parametrize("group", GROUPS)
def test_a_matrix_of_any_coefficients_keeps_orientation(group: str, ndim: int) -> None:
    assert (torch.linalg.det(random_elements(group, ndim)[1]) > 0).all()


def test_translation_is_a_shift(ndim: int) -> None:
    shift = [3.0, -2.0, 0.5][:ndim]
    assert near(exp(torch.tensor(shift, dtype=torch.float64), basis("translation", ndim)), translation(*shift))


@pytest.mark.parametrize("angle", [0.3, -2.0, math.pi])
def test_rotation_turns_the_first_axis_towards_the_second(angle: float, ndim: int) -> None:
    for i in range(ndim):
        for j in range(i + 1, ndim):
            turned = exp(torch.tensor([angle], dtype=torch.float64), basis([f"rotation_{'xyz'[i]}{'xyz'[j]}"], ndim))
            assert near(turned, rotation(ndim, angle, (i, j)))


def test_scale_is_the_exponential_of_its_coefficient(ndim: int) -> None:
    grown = exp(torch.tensor([math.log(3)], dtype=torch.float64), basis(["scale"], ndim))
    assert near(grown, torch.diag(torch.tensor([3.0] * ndim + [1.0], dtype=torch.float64)))


def test_stretch_keeps_the_volume(ndim: int) -> None:
    theta = torch.full((ndim - 1,), 0.7, dtype=torch.float64)
    stretched = exp(theta, basis(["stretch"], ndim))
    assert float(torch.linalg.det(stretched)) == pytest.approx(1, abs=1e-12)
    assert near(stretched, torch.diag(stretched.diagonal()))


def test_shear_is_the_hyperbolic_rotation() -> None:
    sheared = exp(torch.tensor([0.4], dtype=torch.float64), basis(["shear"], 2))
    c, s = math.cosh(0.4), math.sinh(0.4)
    assert near(sheared, torch.tensor([[c, s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64))


def test_perspective_bends_the_denominator_alone(ndim: int) -> None:
    bent = exp(torch.full((ndim,), 0.2, dtype=torch.float64), basis(["perspective"], ndim))
    expected = torch.eye(ndim + 1, dtype=torch.float64)
    expected[-1, :-1] = 0.2
    assert near(bent, expected)


def test_rigid_is_orthogonal_with_determinant_one(ndim: int) -> None:
    linear = random_elements("rigid", ndim)[1][:, :-1, :-1]
    assert near(linear @ linear.mT, torch.eye(ndim, dtype=torch.float64).expand_as(linear))
    assert near(torch.linalg.det(linear), torch.ones(len(linear), dtype=torch.float64))


def test_similarity_is_orthogonal_times_one_scale(ndim: int) -> None:
    linear = random_elements("similarity", ndim)[1][:, :-1, :-1]
    squared = linear @ linear.mT
    assert near(squared, squared[:, :1, :1] * torch.eye(ndim, dtype=torch.float64))


@pytest.mark.parametrize("group", ["translation", "rigid", "similarity", "affine"])
def test_the_last_row_of_an_affine_matrix_is_that_of_the_identity(group: str, ndim: int) -> None:
    last = random_elements(group, ndim)[1][:, -1]
    assert torch.equal(last, torch.eye(ndim + 1, dtype=torch.float64)[-1].expand_as(last))


@pytest.mark.parametrize("group", GROUPS)
def test_the_product_of_two_elements_is_in_the_group(group: str, ndim: int) -> None:
    """The logarithm of a product of two near the identity lies in the span of the generators."""
    vectors = basis(group, ndim)
    a, b = torch.randn(2, len(vectors), dtype=torch.float64) * 0.05
    step = exp(a, vectors) @ exp(b, vectors) - torch.eye(ndim + 1, dtype=torch.float64)
    logarithm, power = torch.zeros_like(step), torch.eye(ndim + 1, dtype=torch.float64)
    for order in range(1, 80):  # the series of log(1 + step), which converges as step is small
        power = power @ step
        logarithm = logarithm + (-1) ** (order + 1) * power / order
    assert in_span(span(group, ndim), logarithm[None])
    other = "affine" if group == "projective" else "projective"
    assert in_span(span(other, ndim), logarithm[None]) == (group != "projective")  # the question can be answered no


@pytest.mark.parametrize("size", [0.0, 0.5])
@pytest.mark.parametrize("group", GROUPS)
def test_gradients_through_the_exponential_are_right_also_at_zero(group: str, size: float, ndim: int) -> None:
    vectors = basis(group, ndim)
    theta = (size * torch.randn(2, len(vectors), dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: exp(t, vectors), (theta,))


def test_the_gradient_at_zero_is_the_generators(ndim: int) -> None:
    vectors = basis("projective", ndim)
    jacobian = torch.autograd.functional.jacobian(lambda t: exp(t, vectors), torch.zeros(len(vectors), dtype=torch.float64))
    assert near(jacobian.movedim(-1, 0), vectors)


def test_a_list_takes_blocks_and_single_generators_in_the_order_of_the_groups() -> None:
    assert list(generators(["scale", "translation_x"], 2)) == ["translation_x", "scale"]
    assert list(generators(["rotation"], 3)) == ["rotation_xy", "rotation_xz", "rotation_yz"]
    assert list(generators(["rotation", "rotation_xy"], 2)) == ["rotation_xy"]


def test_a_mapping_brings_generators_of_ones_own() -> None:
    named = generators({"slide": [[0, 0, 1], [0, 0, 1], [0, 0, 0]]}, 2)
    assert list(named) == ["slide"]
    moved = exp(torch.tensor([2.0], dtype=torch.float64), torch.stack(list(named.values())))
    assert near(moved, translation(2.0, 2.0))


@pytest.mark.parametrize(
    "matrix",
    [torch.zeros(4, 4), torch.zeros(3), torch.full((3, 3), math.nan), "abc", [[1], [1, 2]]],
    ids=["other shape", "vector", "nan", "text", "ragged"],
)
def test_a_generator_of_ones_own_must_be_a_finite_matrix_of_the_dimension(matrix: object) -> None:
    with pytest.raises(InputError, match="bend"):
        generators({"bend": matrix}, 2)


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("afine", ["afine", "did you mean 'affine'", *GROUPS]),
        ("rotation", ["unknown group of generators 'rotation'"]),
        (["sheer"], ["unknown generator 'sheer'", "did you mean 'shear'", "rotation_xy", "translation"]),
        (["rotation_xz"], ["rotation_xz", "rotation_xy"]),
        ([], ["at least one"]),
        ({}, ["at least one"]),
    ],
)
def test_an_unknown_group_says_what_is_known_and_what_is_nearest(group: object, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        generators(group, 2)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("group", [None, 5])
def test_a_group_that_is_no_name_list_or_mapping_is_refused(group: object) -> None:
    with pytest.raises(InputError):
        generators(group, 2)


@pytest.mark.parametrize("group", GROUPS)
def test_generators_of_a_similarity_shift_turn_and_scale_and_no_more(group: str, ndim: int) -> None:
    kept = set(similarity_generators(generators(group, ndim)))
    assert all(name.startswith(("translation", "rotation", "scale")) for name in kept)
    assert kept >= set(generators(group, ndim)) & set(generators("similarity", ndim))


@pytest.mark.parametrize(("norm", "error"), [(0.0, 0.0), (1e-3, 3e-14), (1.0, 3e-14), (16.0, 3e-14), (64.0, 1e-8)])
def test_the_series_for_gpus_gives_what_torch_gives(norm: float, error: float, ndim: int) -> None:
    matrices = torch.randn(2, 20, ndim + 1, ndim + 1, dtype=torch.float64)
    matrices *= norm / torch.linalg.matrix_norm(matrices, 1, keepdim=True)
    matrices.requires_grad_()
    known, found = torch.linalg.matrix_exp(matrices), exp_by_series(matrices)
    assert ((found - known).abs() <= error * known.detach().abs().amax((-2, -1), keepdim=True)).all()
    slopes = [torch.autograd.grad(one.sum(), matrices)[0] for one in (known, found)]
    assert torch.allclose(*slopes, rtol=0, atol=max(error, 1e-14) * float(slopes[0].abs().max()))
