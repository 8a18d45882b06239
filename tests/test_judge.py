"""Verdicts follow from the figures; what is said explains them; results of real pairs, noise and textures are judged."""

import functools
import math

import numpy as np
import pytest
import torch
from test_calibration import RIGHT, WRONG

import drmime
from drmime import Doubt, Status
from drmime.geometry.grid import Grid
from drmime.start.doubts import Doubts
from drmime.start.rivals import Rival
from drmime.transform.linear import MatrixTransform
from drmime.verdict.calibration import calibration
from drmime.verdict.evidence import Blocks, Evidence
from drmime.verdict.judge import HARD, LIKELY, NO_VERDICT, REASONS, UNLIKELY, Judgement, judged, unknown

GRID = Grid.regular((30, 40), (2.0, 2.0))
register = functools.partial(drmime.register, device="cpu")


def judge(figures: dict[str, float], known: Doubts | None = None, shifted: Rival | None = None) -> Judgement:
    nothing = np.zeros((0, 2))
    return judged(Evidence(figures, Blocks(nothing, nothing, np.zeros(0), 1.0, 1.0), shifted), known or {}, GRID)


def between(low: float, high: float) -> dict[str, float]:
    """Figures between wrong and right ones whose probability is in this range."""
    for share in np.linspace(0, 1, 200):
        figures = {name: (1 - share) * WRONG[name] + share * RIGHT[name] for name in RIGHT}
        if low < calibration().aligned(figures) < high:
            return figures
    raise AssertionError("no such figures")


def test_the_status_follows_the_probability() -> None:
    assert judge(RIGHT).verdict.status is Status.ALIGNED
    assert judge(between(UNLIKELY, LIKELY)).verdict.status is Status.DOUBTFUL
    assert judge(WRONG).verdict.status is Status.FAILED


def test_an_aligned_result_has_no_doubts_and_any_other_has() -> None:
    assert judge(RIGHT, {Doubt.ALONE: {}}).doubts == {}
    for figures in (WRONG, between(UNLIKELY, LIKELY)):
        assert judge(figures).doubts
    assert Doubt.ALONE in judge(WRONG, {Doubt.ALONE: {}}).doubts


def test_unusual_figures_are_named_with_what_is_usual() -> None:
    doubts = judge(WRONG).doubts
    assert Doubt.SCATTERED in doubts
    usual = calibration().scales["in_place"].usual
    assert doubts[Doubt.SCATTERED] == {"agreeing": 1.0, "blocks": 20.0, "in_place": WRONG["in_place"], "usual": usual}
    assert Doubt.OVERLAP not in doubts
    assert all("usual" in doubt.value[0] for doubt in REASONS.values())


def test_of_figures_that_are_not_known_nothing_is_said() -> None:
    """Where no block can be compared and the images overlap, the result is doubtful: nothing speaks against it."""
    unseen = WRONG | {"blocks": 0.0, "agreeing": 0.0, "in_place": 0.0, "residual": math.nan, "peak_ratio": math.nan}
    found = judge(unseen)
    assert found.verdict.status is Status.DOUBTFUL
    assert Doubt.UNSEEN in found.doubts
    assert not {Doubt.DISPLACED, Doubt.CHANCE} & set(found.doubts)
    assert judge(unseen | {"overlap": 0.05}).verdict.status is Status.FAILED


@pytest.mark.parametrize("doubt", HARD)
def test_what_edges_cannot_see_makes_a_result_doubtful_whatever_the_figures(doubt: Doubt) -> None:
    known = {Doubt.MIRRORED: {"mirrored": 3.0, "ratio": 1.0}} if doubt is Doubt.MIRRORED else {}
    rival = Rival(0.95, torch.tensor([16.0, 0.0]), "edges") if doubt is Doubt.SHIFTED else None
    found = judge(RIGHT, known, rival)
    assert found.verdict.status is Status.DOUBTFUL
    assert list(found.doubts) == [doubt]
    assert judge(RIGHT, shifted=Rival(0.75, torch.tensor([16.0, 0.0]), "edges")).verdict.status is Status.ALIGNED


def test_the_expected_error_is_in_world_units_and_in_pixels() -> None:
    verdict = judge(RIGHT).verdict
    share = calibration().expected(RIGHT)
    assert verdict.expected_pixels == pytest.approx(tuple(50 * part for part in share))
    assert verdict.expected_error == pytest.approx(tuple(100 * part for part in share))
    half = MatrixTransform(torch.diag(torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64)))
    other = verdict.inverse(half, Grid.regular((300, 400), (0.5, 0.5)))  # that the images differ in size plays no role
    assert other.expected_error == pytest.approx(tuple(200 * part for part in share))
    assert other.expected_pixels == pytest.approx(tuple(400 * part for part in share))
    assert judge(WRONG).verdict.expected_pixels.high == 50  # of what failed nothing is excluded


def test_a_run_that_did_not_end_as_planned_has_failed() -> None:
    assert unknown({Doubt.ALONE: {}}) == (NO_VERDICT, {Doubt.ALONE: {}}, None)
    assert str(NO_VERDICT) == "failed"
    assert math.isnan(NO_VERDICT.probability)


def test_a_verdict_in_words_has_its_figures() -> None:
    words = str(judge(RIGHT).verdict)
    assert words.startswith("aligned (probability ")
    assert "pixels" in words


# Whole registrations


def checks(period: int, seed: int) -> np.ndarray:
    rows, columns = np.mgrid[:160, :200] // (period // 2)
    return (rows + columns) % 2 + 0.1 * np.random.default_rng(seed).standard_normal((160, 200))


def fibres(period: int, seed: int) -> np.ndarray:
    rows, columns = np.mgrid[:160, :200]
    waves = np.cos(2 * np.pi * rows / period) ** 8 + np.cos(2 * np.pi * columns / period) ** 8
    return waves + 0.1 * np.random.default_rng(seed).standard_normal(waves.shape)


@pytest.mark.parametrize("texture", [checks, fibres])
@pytest.mark.parametrize("periods", [0, 1])
def test_a_repeated_texture_is_doubtful_whichever_period_it_is_aligned_to(texture: type, periods: int) -> None:
    period = 20
    start = np.eye(3)
    start[0, 2] = periods * period
    result = register(texture(period, 0), texture(period, 1), transform="translation", start={"given": start, "propose": None})
    assert result.verdict.status is not Status.ALIGNED
    assert Doubt.SHIFTED in result.doubts


@pytest.mark.parametrize("ndim", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_noise_beside_noise_is_not_called_aligned(ndim: int) -> None:
    random = np.random.default_rng(0)
    shape = (100, 120) if ndim == 2 else (24, 28, 32)
    pair = [random.standard_normal(shape).astype(np.float32) for _ in range(2)]
    result = register(*pair, transform="rigid")
    assert result.verdict.status is not Status.ALIGNED
    assert result.doubts


def test_a_channel_that_is_constant_does_not_change_the_verdict() -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the picture")

    fixed = data.camera()[::4, ::4].astype(float)
    moving = 255 - np.roll(fixed, (3, -4), (0, 1))
    both = np.stack([moving, np.full_like(moving, 7.0)], -1)
    plain, more = (register(fixed, image, transform="translation", channel_axis="auto") for image in (moving, both))
    assert plain.verdict.status is more.verdict.status is Status.ALIGNED


def test_a_tiny_overlap_is_not_called_aligned() -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the picture")

    fixed = data.camera()[::2, ::2].astype(float)
    start = np.eye(3)
    start[0, 2] = 245.0
    result = register(fixed, 255 - fixed, start={"given": start, "propose": None, "refine": False}, transform="translation")
    assert result.verdict.status is not Status.ALIGNED
    assert Doubt.OVERLAP in result.doubts
