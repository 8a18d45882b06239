"""Scores of gradient directions: against sums counted one shift at a time, and polynomials against their integrals."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tolerances import EXACT
from torch import Tensor

from drmime.compare.angle import GradientAngle
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.image import Image
from drmime.image.orientation import basis
from drmime.start.propose.angle import AngleMaps, coefficients, powers

SINGLE = 1e-5  # the polynomial's coefficients meet the spectra in float32
SHAPES = {
    2: [((9, 12), (11, 8)), ((6, 7), (15, 16)), ((5, 14), (19, 19))],  # fixed, canvas; the last two larger than twice a side
    3: [((6, 7, 5), (5, 6, 8)), ((4, 6, 5), (11, 11, 11))],
}
ANGLE = (np.arange(2**14) + 0.5) * (math.pi / 2**14)  # α, midpoints
F = -np.log(np.sin(ANGLE))  # π times the density's integral is π log 2


def directions(shape: Sequence[int], copies: int = 1) -> tuple[Tensor, Tensor]:
    """Random unit vectors (P, *shape, D) and weights (P, *shape)."""
    normals = torch.nn.functional.normalize(torch.randn(copies, *shape, len(shape), dtype=torch.float64), dim=-1)
    return normals, torch.rand(copies, *shape, dtype=torch.float64)


def described(normals: Tensor, weights: Tensor, mask: Tensor | None = None) -> Image:
    """w n nᵀ as an image."""
    parts = weights[..., None] * torch.einsum("aij,...i,...j->...a", basis(normals.shape[-1]), normals, normals)
    return Image(parts.movedim(-1, 1), Grid.regular(weights.shape[1:]), mask)


def counted(here: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor], weights: Sequence[float]) -> tuple[float, float]:
    """The sum over points of w w Σ c_k cos(2kα), less its mean over directions, and the variance of that sum."""
    normals, others = here[0].reshape(-1, here[0].shape[-1]), there[0].reshape(-1, there[0].shape[-1])
    both = (here[1] * there[1]).reshape(-1)
    cosine = (normals * others).sum(1).abs().clamp(max=1)
    if normals.shape[1] == 3:  # cos²α has the mean 1/3 and the variance 4/45
        return float((both * (cosine**2 - 1 / 3)).sum()), float((both**2).sum()) * 4 / 45
    alpha = cosine.acos()
    value = sum(c * (2 * k * alpha).cos() for k, c in enumerate(weights, 1))
    return float((both * value).sum()), float((both**2).sum()) * sum(c * c for c in weights) / 2


def overlapping(
    fixed: Sequence[int], canvas: Sequence[int], shift: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The pixels of either image that meet when canvas pixel j lies on the fixed pixel j + shift."""
    here = tuple(slice(max(0, s), max(0, min(f, s + m))) for f, m, s in zip(fixed, canvas, shift, strict=True))
    there = tuple(slice(one.start - s, max(0, one.stop - s)) for one, s in zip(here, shift, strict=True))
    return here, there


def clean(shift: Sequence[int], fixed: Sequence[int], canvas: Sequence[int], lengths: Sequence[int]) -> bool:
    """Whether nothing else meets at this shift: nothing when the canvas is moved on by a whole length of the FFT."""
    return all(s + n >= f and s - n + m <= 0 for s, f, m, n in zip(shift, fixed, canvas, lengths, strict=True))


# The polynomial


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_the_polynomial_is_a_density_like_the_one_it_is_near(degree: int) -> None:
    """Not negative, of the same integral, and where Kullback and Leibler's divergence does not change.

    Where the polynomial touches 0 at the right angle the divergence would fall on along (-1)^(k+1), and along nothing else.
    """
    c = coefficients(degree)
    waves = np.cos(2 * np.arange(1, degree + 1)[:, None] * ANGLE)
    p = math.log(2) + c @ waves
    assert c.shape == (degree,)
    assert p.min() > -1e-9
    assert p.mean() == pytest.approx(math.log(2), abs=1e-12)
    assert F.mean() == pytest.approx(math.log(2), abs=1e-4)  # the midpoint rule at a logarithm
    slope = (F * waves / np.maximum(p, 1e-12)).mean(1)
    across = (-1.0) ** np.arange(degree)
    least = slope @ across / degree
    assert np.abs(slope - least * across).max() < 1e-3
    assert (abs(least) < 1e-3 and p.min() > 1e-3) or (least > 0 and p.min() < 1e-6)


def test_of_one_term_the_weight_is_log_2() -> None:
    """Where the polynomial just touches 0."""
    assert coefficients(1)[0] == pytest.approx(math.log(2), abs=1e-4)


def gain(c: np.ndarray) -> float:
    """The integral of f log p: the Kullback-Leibler divergence from f, but for its sign and what p does not change."""
    p = math.log(2) + c @ np.cos(2 * np.arange(1, len(c) + 1)[:, None] * ANGLE)
    return float((F * np.log(p)).mean()) if p.min() > 0 else -math.inf


def test_more_terms_are_nearer() -> None:
    best = [gain(0.999999 * coefficients(degree)) for degree in range(1, 7)]
    assert all(one < other for one, other in itertools.pairwise(best))
    assert best[-1] < float((F * np.log(F)).mean())  # of f itself


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_no_other_polynomial_is_nearer(degree: int, rng: np.random.Generator) -> None:
    c = coefficients(degree)
    best = gain(c * (1 - 1e-9))
    assert best > -math.inf
    for size in (1e-3, 1e-2, 0.1, 0.5):
        for change in rng.standard_normal((50, degree)):
            assert gain(c + size * change) < best + 1e-6


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_powers_are_multiples_of_the_angle_at_the_same_size(degree: int) -> None:
    angle, size = torch.rand(3, 40, dtype=torch.float64) * 7, torch.rand(3, 40, dtype=torch.float64)
    made = powers(torch.stack([size * angle.cos(), size * angle.sin()], 1), degree)
    assert len(made) == degree
    for k, field in enumerate(made, 1):
        assert torch.allclose(field, torch.stack([size * (k * angle).cos(), size * (k * angle).sin()], 1), atol=100 * EXACT)
    nothing = powers(torch.zeros(1, 2, 5), degree)
    assert not torch.cat(nothing).any()  # and not NaN


# Maps


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_every_shift_is_what_a_loop_counts(ndim: int, degree: int, masked: bool) -> None:
    if ndim == 3 and degree > 1:
        pytest.skip("one term only in three dimensions")
    for shape, canvas in SHAPES[ndim]:
        here, there = directions(shape), directions(canvas, 2)
        masks = [(torch.rand(len(w), 1, *w.shape[1:]) > 0.3).double() if masked else None for w in (here[1], there[1])]
        if masked:  # what is described is zero there
            here, there = ((n, w * m[:, 0]) for (n, w), m in zip((here, there), masks, strict=True))
        covers = [torch.ones_like(w) if m is None else m[:, 0] for (_, w), m in zip((here, there), masks, strict=True)]
        maps = AngleMaps(degree)
        fixed, moving = described(*here, masks[0]), described(*there, masks[1])
        maps.begin(fixed, moving, canvas)
        score, overlap = maps.maps(moving)
        assert score.shape == overlap.shape == (2, *maps.lengths)
        compared = 0
        for entry in np.ndindex(*maps.lengths):
            shift = [first + i for first, i in zip(maps.first, entry, strict=True)]
            if not clean(shift, shape, canvas, maps.lengths):
                continue
            mine, its = overlapping(shape, canvas, shift)
            for copy in range(2):
                assert overlap[(copy, *entry)] == (covers[0][0][mine] * covers[1][copy][its]).sum()
                total, variance = counted(
                    (here[0][0][mine], here[1][0][mine]), (there[0][copy][its], there[1][copy][its]), maps.weights
                )
                if variance > 0.05:
                    assert float(score[(copy, *entry)]) == pytest.approx(total / math.sqrt(variance), abs=SINGLE)
                    compared += 1
        assert compared > 0.3 * math.prod(shape)


@pytest.mark.parametrize("canvas", [3, 8, 17, 40, 90])
@pytest.mark.parametrize("fixed", [2, 9, 16, 33])
def test_the_map_holds_every_shift_of_much_overlap(fixed: int, canvas: int) -> None:
    """Each at which a shorter fixed image lies on the canvas, or half of a shorter canvas on it; nothing else falls there."""
    maps = AngleMaps()
    images = [Image(torch.zeros(1, 3, length, 5), Grid.regular((length, 5))) for length in (fixed, canvas)]
    maps.begin(*images, (canvas, 5))
    length, first = maps.lengths[0], maps.first[0]
    enough = fixed if fixed < canvas else canvas / 2
    for shift in range(-canvas, fixed):
        if min(fixed, shift + canvas) - max(0, shift) >= enough:
            assert first <= shift < first + length
            assert clean([shift], [fixed], [canvas], [length])


def test_what_a_mask_covers_counts_for_nothing(ndim: int) -> None:
    """A described image is zero there already; the mask tells the overlap."""
    shape, canvas = SHAPES[ndim][0]
    here, there = directions(shape), directions(canvas)
    mask = torch.ones(1, 1, *canvas, dtype=torch.float64)
    mask[..., :4] = 0
    moving = described(there[0], there[1] * mask[:, 0], mask)
    smaller = described(there[0][..., 4:, :], there[1][..., 4:])
    maps = AngleMaps()
    maps.begin(described(*here), moving, canvas)
    score, overlap = maps.maps(moving)
    padded = described(there[0], torch.nn.functional.pad(there[1][..., 4:], (4, 0)))
    assert torch.allclose(maps.maps(padded)[0], score, atol=SINGLE)
    assert float(overlap.max()) <= math.prod(smaller.grid.shape)
    assert float(overlap.sum()) == math.prod(shape) * math.prod(smaller.grid.shape)


def test_a_copy_has_the_map_it_has_alone(ndim: int) -> None:
    shape, canvas = SHAPES[ndim][0]
    here, there = described(*directions(shape)), described(*directions(canvas, 3))
    maps = AngleMaps(1 if ndim == 3 else 3)
    maps.begin(here, there, canvas)
    score, overlap = maps.maps(there)
    alone = [maps.maps(there.pair(number)) for number in range(3)]
    assert torch.allclose(torch.cat([one[0] for one in alone]), score, atol=1e-9)
    assert torch.equal(torch.cat([one[1] for one in alone]), overlap)


def test_each_copy_has_the_map_with_the_fixed_image_that_is_named(ndim: int) -> None:
    shape, canvas = SHAPES[ndim][0]
    mask = (torch.rand(2, 1, *shape) > 0.3).double()
    here, there = described(*directions(shape, 2), mask), described(*directions(canvas, 3))
    maps = AngleMaps(1 if ndim == 3 else 3)
    maps.begin(here, there, canvas)
    rows = torch.tensor([1, 0, 1])
    score, overlap = maps.maps(there, rows)
    assert all(torch.equal(*both) for both in zip(maps.maps(there.pair(0), rows[:1]), (score[:1], overlap[:1]), strict=True))
    pair = Image(there.data[:2], there.grid)
    for both in zip(maps.maps(pair), maps.maps(pair, torch.arange(2)), strict=True):
        assert torch.equal(*both)
    for number, row in enumerate(rows.tolist()):
        alone = AngleMaps(maps.degree)
        alone.begin(here.pair(row), there, canvas)
        one = alone.maps(there.pair(number))
        assert torch.allclose(one[0][0], score[number], atol=1e-9)
        assert torch.equal(one[1][0], overlap[number])


def test_directions_at_random_score_a_standard_normal(ndim: int) -> None:
    shape = {2: (40, 44), 3: (14, 15, 16)}[ndim]
    for degree in (1, 3)[: 4 - ndim]:
        maps = AngleMaps(degree)
        here, there = described(*directions(shape)), described(*directions(shape, 2))
        maps.begin(here, there, shape)
        score, overlap = maps.maps(there)
        values = score[overlap > 0.3 * math.prod(shape)]
        assert float(values.mean()) == pytest.approx(0, abs=0.15)
        assert float(values.std()) == pytest.approx(1, abs=0.15)


def test_an_empty_image_scores_nothing(ndim: int) -> None:
    shape, canvas = SHAPES[ndim][0]
    maps, nothing = AngleMaps(), described(*directions(canvas))
    nothing = Image(0 * nothing.data, nothing.grid)
    maps.begin(described(*directions(shape)), nothing, canvas)
    assert torch.allclose(maps.maps(nothing)[0], torch.zeros(1).double(), atol=1e-9)


def test_more_than_one_term_in_three_dimensions_is_an_error() -> None:
    image = described(*directions((5, 6, 7)))
    with pytest.raises(InputError, match="degree"):
        AngleMaps(2).begin(image, image, (5, 6, 7))


@pytest.mark.parametrize("option", [{"degree": 0}, {"degree": 9}, {"degree": 1.5}, {"width": 0}, {"noise": 0}, {"noise": "a"}])
def test_a_bad_option_is_named(option: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(option))):
        AngleMaps(**option)
    if "degree" not in option:
        with pytest.raises(InputError, match=next(iter(option))):
            GradientAngle(**option)


# The metric


def points(ndim: int, pairs: int = 3, count: int = 60) -> tuple[tuple[Tensor, Tensor], Tensor]:
    normals = torch.nn.functional.normalize(torch.randn(pairs, count, ndim, dtype=torch.float64), dim=-1)
    weights = torch.rand(pairs, count, dtype=torch.float64)
    return (normals, weights), weights[..., None] * torch.einsum("aij,...i,...j->...a", basis(ndim), normals, normals)


def test_the_metric_is_what_a_loop_counts_by_the_root_of_the_points(ndim: int) -> None:
    (here, fixed), (there, moving) = points(ndim), points(ndim)
    inside = (torch.rand(3, 60) > 0.3).double()
    found = GradientAngle().score(fixed, moving, inside)
    for pair in range(3):
        chosen = inside[pair] > 0
        one, other = ((n[pair][chosen], w[pair][chosen]) for n, w in (here, there))
        total, variance = counted(one, other, [1.0])
        assert float(found[pair]) == pytest.approx(total / math.sqrt(60 * variance), rel=1e-4)


def test_the_metric_and_the_map_agree_where_nothing_is_shifted(ndim: int) -> None:
    shape = SHAPES[ndim][0][0]
    fixed, moving = described(*directions(shape)), described(*directions(shape))
    maps = AngleMaps()
    maps.begin(fixed, moving, shape)
    entry = tuple(-first for first in maps.first)
    flat = [image.data.flatten(2).transpose(1, 2) for image in (fixed, moving)]
    score = GradientAngle().score(*flat, torch.ones(1, math.prod(shape), dtype=torch.float64))
    assert float(score) * math.sqrt(math.prod(shape)) == pytest.approx(float(maps.maps(moving)[0][(0, *entry)]), rel=1e-4)


def test_the_metric_of_an_image_with_itself_is_largest_where_all_edges_are_clear(ndim: int) -> None:
    """√2 in the plane and √5 in space, by the variance of cos²; Cauchy and Schwarz put all else below."""
    _, tensors = points(ndim)
    largest = math.sqrt({2: 2, 3: 5}[ndim])
    ones = torch.ones(3, 60, dtype=torch.float64)
    unit = tensors / (math.sqrt(ndim) * tensors[..., -1:])
    assert torch.allclose(GradientAngle().score(unit, unit, ones), torch.tensor(largest).double(), atol=1e-4)
    itself = GradientAngle().score(tensors, tensors, ones)
    assert bool(((itself > 0) & (itself < largest)).all())


def test_the_metric_of_crossed_edges_is_smallest(ndim: int) -> None:
    (normals, _), _ = points(ndim)
    across = torch.randn(3, 60, ndim, dtype=torch.float64)
    across = across - (across * normals).sum(-1, keepdim=True) * normals
    across = across / across.norm(dim=-1, keepdim=True)
    here, there = (torch.einsum("aij,...i,...j->...a", basis(ndim), n, n) for n in (normals, across))
    smallest = -math.sqrt({2: 2, 3: 5 / 4}[ndim])
    score = GradientAngle().score(here, there, torch.ones(3, 60, dtype=torch.float64))
    assert torch.allclose(score, torch.tensor(smallest).double(), atol=1e-4)


def test_points_without_weight_do_not_count_but_as_points(ndim: int) -> None:
    """The score of half the points is that of all, were the other half away, by √2."""
    _, fixed = points(ndim)
    _, moving = points(ndim)
    half = (torch.arange(60) < 30).double().expand(3, -1)
    alone = GradientAngle().score(fixed[:, :30], moving[:, :30], half[:, :30])
    assert torch.allclose(GradientAngle().score(fixed, moving, half), alone / math.sqrt(2), atol=1e-4)
    assert not GradientAngle().score(fixed, moving, 0 * half).any()


def test_the_metric_of_random_directions_is_noise_of_one_by_the_root_of_the_points(ndim: int) -> None:
    (_, fixed), (_, moving) = points(ndim, 500, 200), points(ndim, 500, 200)
    score = GradientAngle().score(fixed, moving, torch.ones(500, 200, dtype=torch.float64)) * math.sqrt(200)
    assert float(score.mean()) == pytest.approx(0, abs=3 / math.sqrt(500))
    assert float(score.std()) == pytest.approx(1, abs=3 / math.sqrt(1000))
