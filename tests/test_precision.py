"""Deviations follow from the modes of a transform; the covariance is that of an optimum that is known."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import drmime
from drmime import InputError
from drmime.compare.moments import NCC
from drmime.geometry.grid import Grid
from drmime.geometry.lie import generators
from drmime.geometry.matrices import apply
from drmime.transform.linear import LieModel, LieTransform


def with_modes(ndim: int, group: str, covariance: Tensor | None = None) -> tuple[LieModel, LieTransform, Tensor]:
    fixed, moving = Grid.regular((30, 40, 20)[:ndim], (2.0, 0.5, 1.0)[:ndim]), Grid.regular((25, 25, 25)[:ndim])
    basis = generators(group, ndim)
    start = torch.eye(ndim + 1, dtype=torch.float64)[None].clone()
    start[0, 0, 1], start[0, 0, -1] = 0.2, 5.0
    model = LieModel(basis, start, fixed, moving)
    if covariance is None:
        root = 1e-4 * torch.randn(len(basis), len(basis), dtype=torch.float64)
        covariance = root @ root.T
    (transform,) = model.result(covariance[None])
    return model, transform, covariance


@pytest.mark.parametrize("group", ["translation", "rigid", "affine", "projective"])
def test_deviations_are_those_of_maps_with_random_coefficients(ndim: int, group: str) -> None:
    model, transform, covariance = with_modes(ndim, group)
    points = torch.tensor([[0.0, 0, 0], [10, 30, 5], [3, 50, 15]], dtype=torch.float64)[:, :ndim]
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(len(covariance)), covariance.numpy(), 4000)
    places = apply(model.matrices(torch.as_tensor(draws)[:, None])[:, 0], points)[0]
    assert transform.deviation(points).numpy() == pytest.approx(places.std(0).numpy(), rel=0.06)


def test_of_no_modes_deviations_are_not_known_and_modes_are_saved() -> None:
    model, transform, _ = with_modes(2, "affine")
    again = LieTransform.of(transform.state(), 2)
    points = torch.rand(5, 2, dtype=torch.float64)
    assert torch.equal(again.deviation(points), transform.deviation(points))
    (plain,) = model.result()
    for unknown in (plain, LieTransform.of(plain.state(), 2), transform.inverse()):
        with pytest.raises(InputError, match="deviation"):
            unknown.deviation(points)


def test_around_a_model_its_maps_are_at_zero(ndim: int) -> None:
    model, _, _ = with_modes(ndim, "affine")
    with torch.no_grad():
        model.coefficients += 0.1 * torch.randn_like(model.coefficients)
    (here,), (there,) = model.result(), model.around().result()
    assert torch.allclose(here.matrix, there.matrix)
    assert not any(there.coefficients.values())


def test_with_a_quarter_of_the_points_a_result_is_half_as_precise(rng: np.random.Generator) -> None:
    """The covariance of the gradient is that of a mean over the points."""
    scene = ndimage.gaussian_filter(rng.standard_normal((120, 140)), 1.5)
    pair = [image / scene.std() + 0.3 * rng.standard_normal(image.shape) for image in (scene, -np.roll(scene, (2, -3), (0, 1)))]
    deviations = []
    for points in (4096, 1024):
        options = {"transform": "translation", "sampler": {"name": "uniform", "points": points}, "device": "cpu"}
        result = drmime.register(*pair, **options)
        assert np.abs(result.to_moving([[60, 60]]) - [57, 62]).max() < 1
        deviations.append(float(np.linalg.norm(result.deviation([[60, 60]]))))
    assert 0 < deviations[0] < 0.2
    assert 1.4 < deviations[1] / deviations[0] < 2.9
    with pytest.raises(InputError, match="deviation"):
        result.inverse().deviation([[60, 60]])
    with pytest.raises(InputError, match="points"):
        result.deviation([60, 60])


def test_where_a_run_failed_or_points_never_change_deviations_are_not_known(rng: np.random.Generator) -> None:
    fixed = ndimage.gaussian_filter(rng.standard_normal((60, 70)), 2)
    away = np.eye(3)
    away[0, 2] = 500.0
    failed = {"start": {"given": away, "propose": None, "refine": False}}
    every_pixel = {"sampler": "all", "start": "none", "schedule": {"steps": 3}}
    for options in (failed, every_pixel):
        result = drmime.register(fixed, -fixed, metric="ncc", transform="translation", device="cpu", **options)
        with pytest.raises(InputError, match="deviation"):
            result.deviation([[10, 10]])


@pytest.mark.parametrize("where", ["drmime.registration.evidence", "drmime.stages.with_precision"])
def test_ctrl_c_after_the_loop_keeps_the_result(where: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    fixed = ndimage.gaussian_filter(rng.standard_normal((60, 70)), 2)
    with pytest.raises(drmime.Interrupted) as caught:
        drmime.register(fixed, np.roll(fixed, 1, 0), metric="ncc", start="none", schedule={"steps": 20}, device="cpu")
    (result,) = caught.value.registrations
    assert result.stop is drmime.Stop.INTERRUPTED
    assert result.verdict.status is drmime.Status.FAILED
    assert len(result.totals) == 20


def test_state_of_each_pair_goes_with_its_copies(rng: np.random.Generator) -> None:
    """Gradients are those of copies of each pair; buffers of a metric of one's own are repeated too."""

    class Weighted(NCC):
        def begin(self, levels: int, batch: int, channels: tuple[int, int], generator: torch.Generator, like: Tensor) -> None:
            super().begin(levels, batch, channels, generator, like)
            self.register_buffer("gain", like.new_ones(batch))

        def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
            return super().score(fixed, moving, weight) * self.gain.repeat(len(fixed) // len(self.gain))

    images = [rng.random((40, 44)).cumsum(0).cumsum(1) for _ in range(2)]
    options = {"metric": Weighted(), "start": None, "levels": 2, "schedule": {"steps": 3}, "transform": "translation"}
    both = drmime.register(images, images, **options)
    for image, found in zip(images, both, strict=True):
        alone = drmime.register(image, image, **options)
        assert np.allclose(alone.matrix, found.matrix, atol=1e-4)
        assert np.allclose(alone.deviation([[10, 10]]), found.deviation([[10, 10]]), rtol=1e-2)
