"""Thin-plate splines through landmarks: against SciPy's, their laws, and as a stage of a registration."""

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator
from test_elastic import bent_pair
from tolerances import EXACT
from torch import Tensor

from drmime import InputError, register
from drmime.geometry.grid import Grid
from drmime.transform.base import Hints
from drmime.transform.tps import ThinPlate, ThinPlateModel, ThinPlateTransform, gradients


def grid_of(ndim: int) -> Grid:
    return Grid.regular((40, 60, 50)[-ndim:], (1.0, 2.0, 1.0)[-ndim:])


def landmarks(ndim: int, count: int = 12, size: float = 3.0) -> tuple[Tensor, Tensor]:
    fixed = 40 * torch.quasirandom.SobolEngine(ndim, scramble=True, seed=0).draw(count).double()  # none near another
    return fixed, fixed + size * torch.randn(count, ndim, dtype=torch.float64)


def model(ndim: int, points: tuple[Tensor, Tensor], stiffness: float = 0.0) -> ThinPlateModel:
    start = torch.eye(ndim + 1, dtype=torch.float64)[None].repeat(2, 1, 1)
    start[1, 0, 0], start[1, 1, -1] = 1.1, 4.0
    return ThinPlate(stiffness).model(start, grid_of(ndim), grid_of(ndim), Hints(points))


@pytest.mark.parametrize("stiffness", [0.0, 0.1])
def test_it_is_the_spline_of_scipy(stiffness: float, ndim: int) -> None:
    centres, places = (2 * torch.rand(count, ndim, dtype=torch.float64) - 1 for count in (15, 50))
    moved = 0.1 * torch.randn(15, ndim, dtype=torch.float64)
    kernel = {2: "thin_plate_spline", 3: "linear"}[ndim]
    theirs = RBFInterpolator(centres.numpy(), moved.numpy(), kernel=kernel, smoothing=stiffness, degree=1)
    ours = ThinPlateTransform(centres, moved, stiffness, torch.eye(ndim + 1, dtype=torch.float64))
    assert np.allclose((ours(places) - places).numpy(), theirs(places.numpy()), rtol=0, atol=1e3 * EXACT)


def test_it_begins_at_the_landmarks_whatever_the_start(ndim: int) -> None:
    fixed, moving = landmarks(ndim, size=0.1)
    for transform in model(ndim, (fixed, moving)).result():
        assert torch.allclose(transform(fixed), moving, rtol=0, atol=1e4 * EXACT)
        assert torch.allclose(transform.inverse()(moving), fixed, rtol=0, atol=1e-4)


def test_landmarks_of_an_affine_map_give_that_map(ndim: int) -> None:
    fixed, _ = landmarks(ndim)
    slopes = torch.eye(ndim, dtype=torch.float64) + 0.1 * torch.randn(ndim, ndim, dtype=torch.float64)
    elsewhere = 40 * torch.rand(30, ndim, dtype=torch.float64)
    for transform in model(ndim, (fixed, fixed @ slopes.mT + 2)).result():
        assert torch.allclose(transform(elsewhere), elsewhere @ slopes.mT + 2, rtol=0, atol=1e4 * EXACT)


def test_a_stiffer_spline_misses_the_landmarks_by_more(ndim: int) -> None:
    fixed, moving = landmarks(ndim)
    missed = [
        float((model(ndim, (fixed, moving), stiffness).result()[0](fixed) - moving).norm()) for stiffness in (0, 0.01, 0.1, 1)
    ]
    assert missed == sorted(missed)
    assert missed[-1] > 1


def test_the_derivatives_are_those_of_the_spline(ndim: int) -> None:
    points = torch.rand(7, ndim, dtype=torch.float64)
    transform = model(ndim, landmarks(ndim)).result()[0].parts[-1]  # type: ignore[attr-defined]
    world = transform.world_from_frame[0, 0]
    frame = (points - transform.world_from_frame[:-1, -1]) / world
    slopes = torch.eye(ndim) + transform.weights.mT @ gradients(frame, transform.centres)
    assert torch.allclose(transform.jacobian(points), slopes, rtol=0, atol=1e3 * EXACT)


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        ([[1.0, 2], [5, 9]], "expected 3 to"),
        ([[1.0, 2], [2, 3], [3, 4], [4, 5]], "on one line"),
        ([[1.0, 2], [20, 3], [3, 14], [1, 2]], "rows 0 and 3"),
        (None, "expected landmarks"),
    ],
)
def test_landmarks_that_determine_no_spline_are_refused(fixed: list[list[float]] | None, words: str) -> None:
    pixels = np.random.default_rng(0).random((40, 44))
    points = None if fixed is None else {"fixed": fixed, "moving": fixed}
    with pytest.raises(InputError, match=words):
        register(pixels, pixels, transform="affine+tps", landmarks=points)


def test_a_mask_that_stays_affine_is_refused() -> None:
    pixels, points = np.random.default_rng(0).random((40, 44)), [[1.0, 2], [20, 3], [3, 14]]
    with pytest.raises(InputError, match=r"affine_mask: expected a deformation by a field"):
        register(
            pixels, pixels, transform="affine+tps", landmarks={"fixed": points, "moving": points}, affine_mask=pixels > 0.9
        )


@pytest.mark.slow
def test_the_images_refine_the_spline() -> None:
    fixed, moving, truth = bent_pair()
    random = np.random.default_rng(0)
    points = random.uniform(5, 90, (30, 2))
    clicked = truth(torch.as_tensor(points)).numpy() + random.normal(0, 1.5, (30, 2))
    given = {"fixed": points, "moving": clicked, "accuracy": 1.5, "weight": 0.05}
    stages = ["affine", {"name": "tps", "rate": 0.002}]
    result = register(fixed, moving, transform=stages, landmarks=given, start=None, levels=3)
    hints = Hints((torch.as_tensor(points), torch.as_tensor(clicked)))
    plain = ThinPlate().model(torch.eye(3)[None], Grid.regular(fixed.shape), Grid.regular(moving.shape), hints)
    elsewhere = torch.as_tensor(random.uniform(15, 80, (200, 2)))
    errors, before = (
        (torch.as_tensor(one) - truth(elsewhere)).norm(dim=1).mean()
        for one in (result.to_moving(elsewhere), plain.result()[0](elsewhere))
    )
    assert errors < 0.7 * before
