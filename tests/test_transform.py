"""Laws that every transform keeps, through one body: matrices, chains, and a map that is no matrix."""

import math
from typing import Any

import pytest
import torch
from problems import rotation, translation
from tolerances import EXACT
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.transform.base import Chain, Transform, chain
from drmime.transform.linear import LieTransform, MatrixTransform, matrix_of


class Bend(Transform):
    """x + amount * sin y along the first axis, all else as it is: no matrix, and its inverse is exact."""

    def __init__(self, ndim: int, amount: float = 0.3) -> None:
        self._ndim, self.amount = ndim, amount

    @property
    def ndim(self) -> int:
        return self._ndim

    def __call__(self, points: Tensor) -> Tensor:
        return torch.cat([points[..., :1] + self.amount * points[..., 1:2].sin(), points[..., 1:]], -1)

    def jacobian(self, points: Tensor) -> Tensor:
        slopes = torch.eye(self.ndim).to(points).repeat(*points.shape[:-1], 1, 1)
        slopes[..., 0, 1] = self.amount * points[..., 1].cos()
        return slopes

    def inverse(self) -> Transform:
        return Bend(self.ndim, -self.amount)

    def describe(self, fixed: Grid) -> str:
        return "a bend"

    def state(self) -> dict[str, Any]:
        return {"amount": self.amount}


def matrix(ndim: int) -> MatrixTransform:
    return MatrixTransform(
        translation(*[0.3] * ndim) @ rotation(ndim, 0.4) @ torch.diag(torch.tensor([1.1] * ndim + [1.0]).double())
    )


def projective(ndim: int) -> MatrixTransform:
    bent = matrix(ndim).matrix.clone()
    bent[-1, 0] = 0.05
    return MatrixTransform(bent)


KINDS = {
    "matrix": matrix,
    "projective": projective,
    "lie": lambda ndim: LieTransform(matrix(ndim).matrix, {}, {}),
    "bend": Bend,
    "chain": lambda ndim: matrix(ndim) @ Bend(ndim),
    "long chain": lambda ndim: projective(ndim) @ Bend(ndim, 0.2) @ matrix(ndim) @ matrix(ndim) @ Bend(ndim),
}


@pytest.fixture(params=KINDS)
def transform(request: pytest.FixtureRequest, ndim: int) -> Transform:
    return KINDS[request.param](ndim)


def points(ndim: int) -> Tensor:
    return torch.rand(3, 20, ndim, dtype=torch.float64)


def test_the_inverse_undoes_it(transform: Transform) -> None:
    here = points(transform.ndim)
    there = transform(here)
    assert there.shape == here.shape
    assert (there - here).abs().max() > 0.05
    assert torch.allclose(transform.inverse()(there), here, rtol=0, atol=1e3 * EXACT)
    assert torch.allclose(transform(transform.inverse()(there)), there, rtol=0, atol=1e3 * EXACT)


def test_the_jacobian_is_the_slope(transform: Transform) -> None:
    here, step = points(transform.ndim), 1e-6
    slopes = transform.jacobian(here)
    assert slopes.shape == (*here.shape, transform.ndim)
    for axis in range(transform.ndim):
        off = step * torch.eye(transform.ndim, dtype=torch.float64)[axis]
        measured = (transform(here + off) - transform(here - off)) / (2 * step)
        assert torch.allclose(slopes[..., axis], measured, rtol=0, atol=1e-8)


def test_composition_applies_the_second_first_and_is_associative(transform: Transform) -> None:
    here, other = points(transform.ndim), matrix(transform.ndim)
    assert torch.allclose((transform @ other)(here), transform(other(here)), rtol=0, atol=100 * EXACT)
    assert torch.allclose((other @ transform)(here), other(transform(here)), rtol=0, atol=100 * EXACT)
    left, right = (other @ transform) @ other, other @ (transform @ other)
    assert torch.allclose(left(here), right(here), rtol=0, atol=100 * EXACT)
    slopes = transform.jacobian(other(here)) @ other.jacobian(here)
    assert torch.allclose((transform @ other).jacobian(here), slopes, rtol=0, atol=1e3 * EXACT)


def test_a_transform_is_described(transform: Transform) -> None:
    assert transform.describe(Grid.regular([9] * transform.ndim))


def test_neighbours_in_a_chain_are_joined_where_they_make_one(ndim: int) -> None:
    one, bend = matrix(ndim), Bend(ndim)
    mixed = one @ one @ bend @ one @ one
    assert isinstance(mixed, Chain)
    assert len(mixed.parts) == 3
    assert len((mixed @ mixed).parts) == 5  # matrices meet in the middle
    assert isinstance(chain([one, one, one]), MatrixTransform)


def test_a_chain_is_no_matrix_and_is_not_saved(ndim: int) -> None:
    mixed = matrix(ndim) @ Bend(ndim)
    with pytest.raises(InputError, match="expected a transform that is one matrix, got a Chain"):
        matrix_of(mixed)
    with pytest.raises(InputError, match="chain of 2"):
        mixed.state()


def test_points_without_a_place_stay_so_through_a_chain() -> None:
    horizon = torch.eye(3, dtype=torch.float64)
    horizon[2, 0] = -1 / 25
    found = (matrix(2) @ Bend(2) @ MatrixTransform(horizon))(torch.tensor([[30.0, 1.0]], dtype=torch.float64))
    assert all(map(math.isnan, found[0].tolist()))
