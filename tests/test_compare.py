"""Metrics against answers that can be derived: mutual information of correlated Gaussians is -log(1 - rho^2) / 2."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from drmime.compare.base import Similarity, shares
from drmime.compare.histogram import bspline, entropies
from drmime.compare.mine import BOUNDS, MINE, donsker_varadhan
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.image import Image
from drmime.parts import METRICS
from drmime.registry import build

RHOS = [0.3, 0.6, 0.9]
ONE = slice(0, 1)
TWO = slice(0, 2)
PLAIN = {"name": "mine", "orientation": False, "local": False}  # the network on the values it is given
SHAPE = (24, 25)


def scored(metric: Similarity, fixed: Tensor, moving: Tensor, weight: Tensor, levels: slice) -> Tensor:
    """The scores of a step."""
    metric.draw({levels.start: weight.shape[-1]})
    scores: Tensor = metric(fixed, moving, weight, levels)
    return scores


def gaussians(rho: float, ndim: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` draws of two `ndim`-vectors whose components correlate pairwise by `rho`. each (1, 1, count, ndim)"""
    x = torch.randn(1, 1, count, ndim, generator=generator)
    y = rho * x + math.sqrt(1 - rho**2) * torch.randn(x.shape, generator=generator)
    return x, y


def information(rho: float) -> float:
    return -0.5 * math.log(1 - rho**2)


def ready(spec: object, channels: tuple[int, int] = (1, 1), levels: int = 1, batch: int = 1) -> Similarity:
    metric = build("metric", METRICS, spec)
    metric.begin(levels, batch, channels, torch.Generator().manual_seed(0), torch.zeros(1, 1, *SHAPE))
    return metric


def trained(metric: Similarity, rho: float, ndim: int, generator: torch.Generator, steps: int = 500) -> float:
    """Train on fresh draws with a decaying rate, then estimate on 40 fresh batches."""
    optimiser = torch.optim.Adam(metric.parameters(), lr=metric.rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    weight = torch.ones(1, 1, 2048)
    for _ in range(steps):
        x, y = gaussians(rho, ndim, 2048, generator)
        optimiser.zero_grad()
        scored(metric, x, y, weight, ONE).sum().neg().backward()
        optimiser.step()
        decay.step()
    with torch.no_grad():
        draws = [gaussians(rho, ndim, 2048, generator) for _ in range(40)]
        return float(torch.stack([scored(metric, x, y, weight, ONE) for x, y in draws]).mean())


@pytest.mark.parametrize("ndim", [1, 3])
@pytest.mark.parametrize("rho", RHOS)
def test_mine_measures_the_information_of_gaussians(rho: float, ndim: int, generator: torch.Generator) -> None:
    estimate = trained(ready(PLAIN, (ndim, ndim)), rho, ndim, generator) / ndim
    assert abs(estimate - information(rho)) < max(0.03, 0.07 * information(rho))


@pytest.mark.parametrize("bound", ["nwj", "smile", "infonce"])
def test_other_bounds_of_mine_measure_it_too(bound: str, generator: torch.Generator) -> None:
    negatives = 16 if bound == "infonce" else 1
    metric = ready(PLAIN | {"bound": bound, "negatives": negatives})
    assert trained(metric, 0.6, 1, generator, 300) == pytest.approx(information(0.6), abs=0.03)


def test_mine_measures_it_with_half_of_the_digits_too(generator: torch.Generator) -> None:
    metric = ready(PLAIN | {"precision": "bfloat16"})
    assert trained(metric, 0.9, 1, generator) == pytest.approx(information(0.9), abs=0.05)
    assert all(one.dtype is not torch.bfloat16 for one in metric.parameters())


def test_jensen_shannon_stays_under_log_two_and_grows_with_dependence(generator: torch.Generator) -> None:
    values = [trained(ready(PLAIN | {"bound": "js"}), rho, 1, generator, 200) for rho in (0.3, 0.9, 0.999)]
    assert values == sorted(values)
    assert values[-1] < math.log(2)


@pytest.mark.parametrize("ndim", [1, 3])
@pytest.mark.parametrize("rho", RHOS)
def test_mattes_measures_the_information_of_gaussians(rho: float, ndim: int, generator: torch.Generator) -> None:
    x, y = gaussians(rho, ndim, 500_000, generator)
    end = stats.norm.ppf(0.999)  # the range that an image would be given
    x, y = ((values + end) / (2 * end) for values in (x, y))
    estimate = ready("mattes", (ndim, ndim))(x, y, torch.ones(x.shape[:3]), ONE)
    assert float(estimate) == pytest.approx(information(rho), rel=0.05)


def test_normalised_information_has_its_two_ends(generator: torch.Generator) -> None:
    x = (torch.randint(0, 8, (1, 1, 100_000, 1), generator=generator) / 7).float()
    y = torch.rand(x.shape, generator=generator)
    metric = ready("nmi")
    weight = torch.ones(1, 1, 100_000)
    assert float(scored(metric, x, y, weight, ONE)) == pytest.approx(1, abs=0.01)
    assert 1.5 < float(scored(metric, x, 1 - x, weight, ONE)) <= 2


def described(metric: Similarity, data: Tensor) -> Tensor:
    """What `metric` compares of two levels of a batch, at every pixel. (2 * B, 1, *SHAPE) -> (2, B, 600, C)"""
    channels = metric.describe(Image(data, Grid.regular(data.shape[2:]))).data
    return channels.flatten(2).transpose(1, 2).unflatten(0, (2, -1))


def fresh(name: str, values: tuple[Tensor, ...], **options: int) -> Similarity:
    """The metric, ready for two levels of these values."""
    return ready(name, (values[0].shape[-1], values[1].shape[-1]), levels=2, **options)


@pytest.mark.parametrize("name", METRICS)
class TestEveryMetric:
    def values(self, name: str, generator: torch.Generator, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Two levels, the moving image a noisy copy of the fixed one. (2, batch, 600, C) twice, (2, batch, 600)"""
        metric = build("metric", METRICS, name)
        fixed = torch.rand(2 * batch, 1, *SHAPE, generator=generator)
        moving = (fixed + 0.05 * torch.randn(fixed.shape, generator=generator)).clamp(0, 1)
        return described(metric, fixed), described(metric, moving), torch.ones(2, batch, math.prod(SHAPE))

    def test_one_score_for_each_level_and_pair(self, name: str, generator: torch.Generator) -> None:
        values = self.values(name, generator, 3)
        assert scored(fresh(name, values, batch=3), *values, TWO).shape == (2, 3)

    def test_levels_score_together_as_apart(self, name: str, generator: torch.Generator) -> None:
        values = self.values(name, generator)
        together = scored(fresh(name, values), *values, TWO)
        if name == "mine":  # its input is standardised by what it sees first
            pytest.skip("the network of MINE is shared by the levels")
        apart = [
            scored(fresh(name, values), *(v[level : level + 1] for v in values), slice(level, level + 1)) for level in (0, 1)
        ]
        assert torch.allclose(together, torch.cat(apart), atol=1e-6)

    def test_related_images_score_higher(self, name: str, generator: torch.Generator) -> None:
        fixed, moving, weight = self.values(name, generator)
        shuffled = moving[:, :, torch.randperm(600, generator=generator)]
        related, unrelated = (self.fitted(name, fixed, other, weight) for other in (moving, shuffled))
        assert (related > unrelated).all()

    def fitted(self, name: str, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        metric = fresh(name, (fixed, moving))
        if parameters := list(metric.parameters()):
            optimiser = torch.optim.Adam(parameters, lr=0.01)
            for _ in range(100):
                optimiser.zero_grad()
                scored(metric, fixed, moving, weight, TWO).sum().neg().backward()
                optimiser.step()
        return scored(metric, fixed, moving, weight, TWO)

    def test_what_is_compared_of_a_turned_image_is_turned_back(self, name: str, generator: torch.Generator) -> None:
        """By a right angle, which moves pixels onto pixels: the moving x is the fixed y, the moving y falls with fixed x."""
        data = torch.rand(2, 1, *SHAPE, generator=generator)
        metric = build("metric", METRICS, name)
        fixed = described(metric, data)
        metric = fresh(name, (fixed, fixed))
        channels = metric.describe(Image(data.rot90(1, (2, 3)), Grid.regular(SHAPE[::-1]))).data.rot90(-1, (2, 3))
        jacobian = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64).view(1, 1, 1, 2, 2)
        turned = metric.turn(channels.flatten(2).transpose(1, 2).unflatten(0, (2, -1)), jacobian.expand(2, -1, -1, -1, -1))
        assert torch.allclose(turned, fixed, atol=1e-4)

    def test_points_of_no_weight_do_not_count(self, name: str, generator: torch.Generator) -> None:
        fixed, moving, weight = self.values(name, generator)
        weight[0, :, :300] = 0
        first = scored(fresh(name, (fixed, moving)), fixed, moving, weight, TWO)
        for values in (fixed, moving):
            values[0, :, :300] = 0.37
        assert torch.allclose(first, scored(fresh(name, (fixed, moving)), fixed, moving, weight, TWO), atol=1e-6)

    def test_a_level_without_points_scores_nothing_and_disturbs_nothing(self, name: str, generator: torch.Generator) -> None:
        fixed, moving, weight = self.values(name, generator)
        weight[0] = 0
        moving.requires_grad_()
        metric = fresh(name, (fixed, moving))
        score = scored(metric, fixed, moving, weight, TWO)
        score.sum().backward()
        assert float(score[0].detach()) == 0
        assert score.isfinite().all()
        assert all(values.grad.isfinite().all() for values in [moving, *metric.parameters()])

    def test_a_pair_scores_in_a_batch_as_alone(self, name: str, generator: torch.Generator) -> None:
        values = self.values(name, generator, 3)
        together = scored(fresh(name, values, batch=3), *values, TWO)
        for pair in range(3):
            alone = scored(fresh(name, values), *(v[:, pair : pair + 1] for v in values), TWO)
            assert torch.allclose(together[:, pair], alone[:, 0], atol=1e-5)

    def test_constant_intensities_give_finite_scores_and_gradients(self, name: str, generator: torch.Generator) -> None:
        fixed, _, weight = self.values(name, generator)
        metric = fresh(name, (fixed, fixed))
        moving = described(metric, torch.full((2, 1, *SHAPE), 0.5)).requires_grad_()
        score = scored(metric, fixed, moving, weight, TWO)
        assert score.isfinite().all()
        score.sum().backward()
        assert moving.grad.isfinite().all()

    def test_gradient_with_respect_to_the_moving_intensities(self, name: str, generator: torch.Generator) -> None:
        middle = slice(280, 320)
        fixed, moving, weight = (values[:, :, middle].double() for values in self.values(name, generator))
        metric = build("metric", METRICS, name)
        metric.begin(2, 1, (fixed.shape[-1],) * 2, torch.Generator(), torch.zeros(1, 1, *SHAPE, dtype=torch.float64))
        scored(metric, fixed, moving, weight, TWO)  # sets what is set once
        state = torch.Generator().get_state()

        def score(values: Tensor) -> Tensor:
            metric.generator = torch.Generator()
            metric.generator.set_state(state)
            metric.log_average = torch.full((2, 1), math.nan)  # no past: the plain bound, whose gradient is its own
            return scored(metric, fixed, values, weight, TWO)

        assert torch.autograd.gradcheck(score, (0.05 + 0.9 * moving).requires_grad_(), eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("name", ["mattes", "nmi", "jhmi", "ncc", "mse"])
def test_one_channel_meets_each_of_three_but_two_do_not_meet_three(name: str, generator: torch.Generator) -> None:
    gray = torch.rand(1, 1, 400, 1, generator=generator)
    rgb = torch.rand(1, 1, 400, 3, generator=generator)
    weight = torch.ones(1, 1, 400)
    together = ready(name, (1, 3))(gray, rgb, weight, ONE)
    apart = [ready(name)(gray, rgb[..., [c]], weight, ONE) for c in range(3)]
    assert torch.allclose(together, torch.stack(apart).mean(0), atol=1e-5)
    with pytest.raises(InputError, match="got 2 and 3"):
        ready(name, (2, 3))


def test_mine_takes_any_channels_and_uses_them_all(generator: torch.Generator) -> None:
    """A sign, and its product with another: each moving channel alone says nothing, both together say all."""
    x, y = (torch.randint(0, 2, (1, 1, 4096, 1), generator=generator).float() * 2 - 1 for _ in range(2))
    weight = torch.ones(1, 1, 4096)
    metric = ready(PLAIN, (1, 2))
    optimiser = torch.optim.Adam(metric.parameters(), lr=0.01)
    for _ in range(300):
        optimiser.zero_grad()
        score = scored(metric, x, torch.cat([x * y, y], -1), weight, ONE)
        score.sum().neg().backward()
        optimiser.step()
    assert float(score.detach()) == pytest.approx(math.log(2), abs=0.05)


def test_the_moving_average_corrects_the_gradient_and_not_the_value(generator: torch.Generator) -> None:
    mine = MINE(average=0.1)
    mine.log_average = torch.tensor([[1.3]])
    t, t_random = (torch.randn(1, 1, 50, generator=generator, requires_grad=True) for _ in range(2))
    w = torch.full((1, 1, 50), 1 / 50)
    value = donsker_varadhan(mine, t, w, t_random, w, ONE)
    plain = t.mean() - t_random.exp().mean().log()
    assert float(value.detach()) == pytest.approx(float(plain.detach()), abs=1e-5)
    value.sum().backward()
    average = 0.9 * math.exp(1.3) + 0.1 * float(t_random.detach().exp().mean())
    assert torch.allclose(t_random.grad, -t_random.detach().exp() / 50 / average, atol=1e-6)
    assert float(mine.log_average) == pytest.approx(math.log(average), abs=1e-5)


def test_large_scores_do_not_overflow() -> None:
    t = torch.full((1, 1, 10), 500.0)
    w = torch.full((1, 1, 10), 0.1)
    assert float(donsker_varadhan(MINE(), t, w, t, w, ONE)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_splines_share_each_position_out_completely(order: int) -> None:
    position = torch.linspace(2, 8, 97, dtype=torch.float64)
    weights = bspline(position, 11, order)
    assert torch.allclose(weights.sum(-1), torch.ones(97, dtype=torch.float64))
    if order:
        assert torch.allclose(weights @ torch.arange(11, dtype=torch.float64), position)


def test_entropies_of_a_table_by_hand() -> None:
    rows, columns, both = entropies(torch.tensor([[0.5, 0.0], [0.25, 0.25]]))
    assert float(rows) == pytest.approx(math.log(2))
    assert float(columns) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert float(both) == pytest.approx(1.5 * math.log(2))


def test_ncc_of_a_line_is_one_and_mse_is_the_mean_square() -> None:
    x = torch.linspace(0, 1, 100).view(1, 1, -1, 1)
    weight = torch.ones(1, 1, 100)
    assert float(ready("ncc")(x, 0.3 * x + 0.2, weight, ONE)) == pytest.approx(1, abs=1e-4)
    assert float(ready("ncc")(x, 1 - x, weight, ONE)) == pytest.approx(-1, abs=1e-4)
    assert float(ready("mse")(x, x + 0.5, weight, ONE)) == pytest.approx(-0.25, abs=1e-6)


def test_shares_sum_to_one_or_are_all_zero() -> None:
    assert torch.allclose(shares(torch.tensor([[1.0, 3.0], [0.0, 0.0]])), torch.tensor([[0.25, 0.75], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("mutual", "unknown metric 'mutual'"),
        ({"name": "mine", "hiden": 3}, "did you mean 'hidden'"),
        ({"name": "mine", "bound": "infonc"}, "did you mean 'infonce'"),
        ({"name": "mine", "hidden": 0}, "metric hidden"),
        ({"name": "mine", "depth": 1.5}, "metric depth"),
        ({"name": "mine", "rate": -1}, "metric rate"),
        ({"name": "mine", "average": 2}, "below 1"),
        ({"name": "mattes", "bins": 3}, "metric bins"),
        ({"name": "jhmi", "smoothing": 0}, "metric smoothing"),
        ({"name": "mine", "orientation": 1}, "metric orientation"),
        ({"name": "mine", "local": "no"}, "metric local"),
        ({"name": "mine", "precision": "half"}, "metric precision"),
        ({"name": "angle", "width": 0}, "metric width"),
        ({"name": "angle", "noise": math.nan}, "metric noise"),
    ],
)
def test_what_a_metric_does_not_know_is_refused_by_name(spec: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build("metric", METRICS, spec)


def test_every_bound_is_tried_above() -> None:
    assert set(BOUNDS) == {"dv", "nwj", "js", "infonce", "smile"}
