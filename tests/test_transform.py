"""Laws that every transform keeps, through one body: matrices, chains, and a map that is no matrix."""

import copy
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from problems import rotation, translation
from tolerances import EXACT, FLOW, MIDPOINT, TOLERANCE
from torch import Tensor

from drmime import parts
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.transform.base import Chain, Hints, Model, Transform, chain, from_state
from drmime.transform.field import FieldTransform, sampled
from drmime.transform.lattice import Lattice
from drmime.transform.lattice_model import LatticeModel
from drmime.transform.lattice_transform import VelocityTransform
from drmime.transform.linear import LieTransform, MatrixTransform, matrix_of
from drmime.transform.tps import ThinPlateModel


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
        return {"kind": "bend", "amount": self.amount}

    @classmethod
    def of(cls, state: Mapping[str, Any], ndim: int) -> Transform:
        return cls(ndim, state["amount"])


def matrix(ndim: int) -> MatrixTransform:
    return MatrixTransform(
        translation(*[0.3] * ndim) @ rotation(ndim, 0.4) @ torch.diag(torch.tensor([1.1] * ndim + [1.0]).double())
    )


def projective(ndim: int) -> MatrixTransform:
    bent = matrix(ndim).matrix.clone()
    bent[-1, 0] = 0.05
    return MatrixTransform(bent)


def flow(ndim: int) -> VelocityTransform:
    """A strong deformation."""
    grid = Grid.regular([9] * ndim, [0.5] * ndim)
    lattice = Lattice.over(grid, 1.0)
    velocities = 0.2 * torch.randn(ndim, *lattice.shape, dtype=torch.float64)
    return VelocityTransform(velocities, lattice, grid.world_from_frame)


def field(ndim: int) -> FieldTransform:
    grid = Grid.regular([12] * ndim, [0.2] * ndim)
    return FieldTransform(0.1 + 0.02 * torch.randn(ndim, *grid.shape, dtype=torch.float64), grid)


KINDS = {
    "field": field,
    "inverse field": lambda ndim: field(ndim).inverse(),
    "flow": flow,
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
    near = FLOW if isinstance(transform, VelocityTransform) else 1e3 * EXACT
    assert torch.allclose(transform.inverse()(there), here, rtol=0, atol=near)
    assert torch.allclose(transform(transform.inverse()(there)), there, rtol=0, atol=near)


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


def test_a_chain_is_no_matrix(ndim: int) -> None:
    with pytest.raises(InputError, match="expected a transform that is one matrix, got a Chain"):
        matrix_of(matrix(ndim) @ Bend(ndim))


def test_a_state_makes_the_transform_anew(transform: Transform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.SAVED_TRANSFORMS._places, "bend", f"{__name__}:Bend")
    again = from_state(json.loads(json.dumps(transform.state())), transform.ndim)
    here = points(transform.ndim)
    assert type(again) is type(transform)
    assert torch.equal(again(here), transform(here))


def test_a_sampled_transform_is_the_transform_at_the_pixels(transform: Transform) -> None:
    grid = Grid.regular([5] * transform.ndim, [0.25] * transform.ndim)
    here = grid.index_points() * 0.25
    assert torch.allclose(sampled(transform, grid)(here), transform(here), rtol=0, atol=1e3 * EXACT)


NO_STATES: list[dict[str, Any]] = [
    *({}, {"kind": "spline"}, {"kind": 5}, {"kind": "lie"}),
    *({"kind": "velocity"}, flow(2).state() | {"field": [[0.0]]}, flow(2).state() | {"shape": [4]}),
    *(flow(2).state() | {key: bad} for key, bad in (("spacing", 0.0), ("shape", [10**6, 10**6]))),
    flow(2).state() | {"field": [[None] * 25] * 2},
    *({"kind": "chain"}, {"kind": "chain", "parts": []}, {"kind": "chain", "parts": [{"kind": "matrix"}]}),
]


@pytest.mark.parametrize("state", NO_STATES, ids=lambda state: str(state)[:40])
def test_a_state_of_nothing_known_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises((InputError, ValueError)):
        from_state(state, 2)


def test_a_chain_of_one_is_that_one(ndim: int) -> None:
    state = {"kind": "chain", "parts": [matrix(ndim).state()]}
    assert torch.equal(matrix_of(from_state(state, ndim)), matrix(ndim).matrix)


def test_a_matrix_is_a_value_of_its_own(ndim: int) -> None:
    given = torch.eye(ndim + 1, dtype=torch.float64)
    made = MatrixTransform(given)
    given[0, 0] = 5
    assert torch.equal(made.matrix, torch.eye(ndim + 1, dtype=torch.float64))


def test_points_without_a_place_stay_so_through_a_chain() -> None:
    horizon = torch.eye(3, dtype=torch.float64)
    horizon[2, 0] = -1 / 25
    found = (matrix(2) @ Bend(2) @ MatrixTransform(horizon))(torch.tensor([[30.0, 1.0]], dtype=torch.float64))
    assert all(map(math.isnan, found[0].tolist()))


# ---- every transform that `register` takes by name


@pytest.fixture(params=parts.TRANSFORMS)
def model(request: pytest.FixtureRequest, ndim: int) -> Model:
    """Of two pairs, at their starts."""
    fixed, moving = Grid.regular((20, 24, 28)[:ndim]), Grid.regular((15, 20, 18)[:ndim], [1.3] * ndim)
    family = parts.TRANSFORMS[request.param]()
    assert all(generator.shape == (ndim + 1, ndim + 1) for generator in family.basis(ndim).values())
    start = torch.stack([matrix(ndim).matrix, torch.eye(ndim + 1, dtype=torch.float64)])
    some = 20 * torch.rand(8, ndim, dtype=torch.float64)  # landmarks, which only "tps" uses: it begins at them
    return family.fits()[0].model(start, fixed, moving, Hints((some, matrix(ndim)(some))))


def moved(model: Model) -> Model:
    with torch.no_grad():
        for parameter in model.parameters():
            assert len(parameter) == 2
            parameter += 0.02 * torch.randn_like(parameter)
    return model


def in_frames(transform: Transform, ndim: int) -> Transform:
    """The transform from the fixed frame to the moving frame of the images of `model`."""
    fixed, moving = Grid.regular((20, 24, 28)[:ndim]), Grid.regular((15, 20, 18)[:ndim], [1.3] * ndim)
    return MatrixTransform(moving.world_from_frame).inverse() @ transform @ MatrixTransform(fixed.world_from_frame)


def test_a_model_begins_at_its_start(model: Model, ndim: int) -> None:
    here = points(ndim)[0]
    expected = matrix(ndim)(here), matrix(ndim)(here) if isinstance(model, ThinPlateModel) else here
    for transform, there in zip(model.result(), expected, strict=True):
        assert torch.allclose(transform(here), there, rtol=0, atol=1e3 * EXACT)


@pytest.mark.parametrize("levels", [slice(0, 1), slice(0, 3)], ids=str)
def test_a_model_maps_points_as_its_result_does(model: Model, levels: slice, ndim: int, dtype: torch.dtype) -> None:
    here = 2 * points(ndim)[0] - 1
    there = moved(model)(here.to(dtype)[None, None], levels)
    near = max(20 * TOLERANCE[dtype], MIDPOINT if isinstance(model, LatticeModel) else 0)
    assert there.points.dtype == dtype
    for number, transform in enumerate(model.result()):
        mapping = in_frames(transform, ndim)
        assert torch.allclose(there.points[0, number].double(), mapping(here), rtol=0, atol=near)
        assert there.valid.expand(1, 2, len(here))[0, number].all()
        slopes = there.jacobian[0, number].double().expand(len(here), -1, -1)
        true = mapping.jacobian(here)
        factor = (slopes.det() / true.det()).abs() ** (1 / ndim)
        close = 1e3 * TOLERANCE[dtype] if isinstance(transform, MatrixTransform) else 0.1  # of deformations to first order
        assert torch.allclose(slopes, factor[:, None, None] * true, rtol=0, atol=close)


def test_gradients_reach_every_parameter_and_no_other_pair(model: Model, ndim: int) -> None:
    random = torch.randn(1, 1, 30, ndim, dtype=torch.float64)
    there = moved(model)(random, slice(0, 1)).points
    (there[:, 0] * torch.randn_like(there[:, 0])).sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad[0].abs().sum() > 0
        assert not parameter.grad[1].any()


def test_a_model_can_be_copied_and_its_result_stays_as_it_is(model: Model, ndim: int) -> None:
    here = points(ndim)[0]
    first = model.result()[0]
    before = first(here)
    twin = copy.deepcopy(moved(model))
    assert torch.equal(twin.result()[0](here), model.result()[0](here))
    assert torch.equal(first(here), before)
    assert torch.equal(from_state(json.loads(json.dumps(first.state())), ndim)(here), before)
    assert first.describe(Grid.regular((20, 24, 28)[:ndim]))
    assert all(value.shape == (2,) for value in model.curves().values())
    penalty = model.penalty()
    assert penalty is None or penalty.shape == (2,)
