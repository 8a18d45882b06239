"""Mutual information at every shift: against histograms counted one shift at a time, and shifts that are known."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tolerances import TOLERANCE
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.door import as_image
from drmime.image.image import Image, batch
from drmime.start.propose import cross
from drmime.start.propose.cross import CrossMaps, Levels, good_length, palette

SHAPES = {2: ((9, 12), (11, 8)), 3: ((4, 5, 6), (5, 3, 4))}  # fixed, moving
TEXTURES = {2: (48, 60), 3: (16, 18, 20)}
CLOSE = TOLERANCE[torch.float32]


def noise(shape: Sequence[int], copies: int = 1, channels: int = 1, masked: bool = False) -> Image:
    data = torch.rand(copies, channels, *shape)
    return Image(data, Grid.regular(shape), (torch.rand(copies, 1, *shape) > 0.3).float() if masked else None)


def quantise(image: Image, bins: int) -> Tensor:
    """The levels of each image of a batch by its own range."""
    return Levels(image, bins).of(image)


def texture(ndim: int, channels: int = 1) -> Tensor:
    """Smooth random values. shape: (1, channels, *TEXTURES[ndim])"""
    coarse = torch.rand(1, channels, *[length // 4 for length in TEXTURES[ndim]])
    return F.interpolate(coarse, size=TEXTURES[ndim], mode="bilinear" if ndim == 2 else "trilinear")


def at_shift(fixed: np.ndarray, moving: np.ndarray, index: Sequence[int], normalised: bool = False) -> tuple[float, int]:
    """Score and overlap of two arrays of levels at one entry of the map, from a histogram."""
    shifts = [i - (m - 1) for i, m in zip(index, moving.shape, strict=True)]
    ends = [min(f, s + m) for f, s, m in zip(fixed.shape, shifts, moving.shape, strict=True)]
    here = fixed[tuple(slice(max(0, s), end) for s, end in zip(shifts, ends, strict=True))]
    there = moving[tuple(slice(max(0, -s), end - s) for s, end in zip(shifts, ends, strict=True))]
    both = (here >= 0) & (there >= 0)
    table = np.zeros((16, 16))
    np.add.at(table, (here[both], there[both]), 1)
    total = int(both.sum())
    if total == 0:
        return 0, 0
    of_fixed, of_moving, joint = (
        -sum(n / total * math.log(n / total) for n in counts.flat if n > 0) for counts in (table.sum(1), table.sum(0), table)
    )
    if normalised:
        return ((of_fixed + of_moving) / joint if joint > 0 else 1), total
    return of_fixed + of_moving - joint, total


def at_all_shifts(fixed: Tensor, moving: Tensor, normalised: bool) -> tuple[Tensor, Tensor]:
    full = [f + m - 1 for f, m in zip(fixed.shape, moving.shape, strict=True)]
    values = [at_shift(fixed.numpy(), moving.numpy(), index, normalised) for index in np.ndindex(*full)]
    score, overlap = torch.tensor(values, dtype=torch.float32).T.reshape(2, *full)
    return score, overlap


def maps(search: CrossMaps, fixed: Image, moving: Image, reference: Image | None = None) -> tuple[Tensor, Tensor]:
    """`reference`, upright, gives the levels of all copies; by default each gives its own."""
    search.begin(fixed, moving if reference is None else reference, moving.grid.shape)
    return search.maps(moving)


def best(score: Tensor, overlap: Tensor) -> tuple[int, ...]:
    """Entry of the highest score where at least half of the most pixels overlap."""
    place = torch.where(overlap >= overlap.max() / 2, score, -1).argmax()
    return tuple(int(i) for i in np.unravel_index(int(place), score.shape))


@pytest.mark.parametrize("normalised", [False, True], ids=["mi", "nmi"])
@pytest.mark.parametrize("bins", [4, 16])
@pytest.mark.parametrize("masked", [*itertools.product([False, True], repeat=2)])
def test_every_shift_is_that_of_a_counted_histogram(ndim: int, masked: tuple[bool, bool], bins: int, normalised: bool) -> None:
    (fixed_shape, moving_shape), (fixed_masked, moving_masked) = SHAPES[ndim], masked
    fixed, moving = noise(fixed_shape, masked=fixed_masked), noise(moving_shape, 2, masked=moving_masked)
    score, overlap = maps(CrossMaps(bins, normalised), fixed, moving)
    for copy, levels in enumerate(quantise(moving, bins)):
        true_score, true_overlap = at_all_shifts(quantise(fixed, bins)[0], levels, normalised)
        assert torch.equal(overlap[copy], true_overlap)
        assert torch.allclose(score[copy], true_score, atol=CLOSE)


def test_flat_overlaps_tell_nothing() -> None:
    """MI 0 and NMI 1 wherever one pair of levels fills the overlap, not what rounding leaves."""
    fixed = as_image(np.eye(1, 400).reshape(20, 20) > 0, role="fixed")  # one pixel, in the first corner
    for normalised, expected in ((False, 0), (True, 1)):
        score, _ = maps(CrossMaps(4, normalised), fixed, fixed)
        assert torch.allclose(score[0, 20:], torch.tensor(float(expected)), atol=1e-6)


@pytest.mark.parametrize("shape", [(160, 160), (500, 520), (8, 70000)], ids=["small", "large", "in float64"])
def test_counts_of_large_images_are_exact(shape: tuple[int, ...]) -> None:
    image = noise(shape)
    _, overlap = maps(CrossMaps(2), image, image)
    rows, columns = (torch.cat([torch.arange(1, n + 1), torch.arange(n - 1, 0, -1)]) for n in shape)
    assert torch.equal(overlap[0].long(), rows[:, None] * columns)


def test_scores_of_larger_images_at_random_shifts(rng: np.random.Generator) -> None:
    shape = (160, 160)
    fixed, moving = noise(shape, masked=True), noise(shape, masked=True)
    score, overlap = maps(CrossMaps(16), fixed, moving)
    levels = [quantise(image, 16)[0].numpy() for image in (fixed, moving)]
    for index in rng.integers(0, 319, (40, 2)).tolist():
        true_score, true_overlap = at_shift(*levels, index)
        assert overlap[0, *index] == true_overlap
        assert float(score[0, *index]) == pytest.approx(true_score, abs=CLOSE)


@pytest.mark.parametrize("normalised", [False, True], ids=["mi", "nmi"])
def test_a_crop_of_inverted_contrast_is_found_where_it_was_cut(ndim: int, normalised: bool) -> None:
    data, corner = texture(ndim), (5, 3, 4)[:ndim]
    crop = 1 - data[(..., *[slice(start, start + n // 2) for start, n in zip(corner, TEXTURES[ndim], strict=True)])] ** 2
    fixed, moving = Image(data, Grid.regular(data.shape[2:])), Image(crop, Grid.regular(crop.shape[2:]))
    score, overlap = maps(CrossMaps(8, normalised), fixed, moving)
    assert best(score[0], overlap[0]) == tuple(start + n - 1 for start, n in zip(corner, crop.shape[2:], strict=True))


def test_a_recoloured_crop_is_found_where_it_was_cut(ndim: int) -> None:
    data, corner = texture(ndim, channels=3), (5, 3, 4)[:ndim]
    crop = data[(..., *[slice(start, start + n // 2) for start, n in zip(corner, TEXTURES[ndim], strict=True)])]
    crop = 1 - crop.flip(1)
    fixed, moving = Image(data, Grid.regular(data.shape[2:])), Image(crop, Grid.regular(crop.shape[2:]))
    score, overlap = maps(CrossMaps(8), fixed, moving)
    assert best(score[0], overlap[0]) == tuple(start + n - 1 for start, n in zip(corner, crop.shape[2:], strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_copy_scores_in_a_batch_what_it_scores_alone(ndim: int, channels: int) -> None:
    fixed_shape, moving_shape = SHAPES[ndim]
    fixed, moving = noise(fixed_shape, channels=channels), noise(moving_shape, 5, channels, masked=True)
    moving = Image(moving.data * torch.linspace(0.5, 1, 5).view(5, 1, *[1] * ndim), moving.grid, moving.mask)
    reference, search = noise(moving_shape, channels=channels), CrossMaps(8)
    score, overlap = maps(search, fixed, moving, reference)
    for copy in range(5):
        alone = Image(moving.data[copy][None], moving.grid, moving.mask[copy][None])
        one_score, one_overlap = search.maps(alone)
        assert torch.equal(one_overlap[0], overlap[copy])
        assert torch.allclose(one_score[0], score[copy], atol=CLOSE)


@pytest.mark.parametrize("memory", [0.05, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_copy_has_the_map_with_the_fixed_image_that_is_named(ndim: int, channels: int, memory: float) -> None:
    """Each pair has its own range of values, and levels that another one lacks."""
    fixed, moving = (noise(shape, 3, channels, masked=True) for shape in SHAPES[ndim])
    scale = torch.tensor([1.0, 30, 0.1]).view(3, 1, *[1] * ndim)
    fixed = Image((scale * fixed.data).round(), fixed.grid, fixed.mask)
    rows = torch.tensor([2, 0, 1, 2, 0])
    copies = Image((scale * moving.data)[rows].roll(1, -1), moving.grid, moving.mask[rows])
    reference, search = Image(scale * moving.data, moving.grid, moving.mask), CrossMaps(8, memory=memory)
    search.begin(fixed, reference, copies.grid.shape)
    score, overlap = search.maps(copies, rows)
    for number, row in enumerate(rows.tolist()):
        one_score, one_overlap = maps(CrossMaps(8), fixed.pair(row), copies.pair(number), reference.pair(row))
        assert torch.equal(one_overlap[0], overlap[number])
        assert torch.allclose(one_score[0], score[number], atol=CLOSE)
    for both in zip(search.maps(reference), search.maps(reference, torch.arange(3)), strict=True):
        assert torch.equal(*both)


def test_levels_are_those_of_the_image_that_gives_them() -> None:
    dim = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    both = Image(torch.cat([dim, 2.5 * dim]), Grid.regular((8, 8)))
    assert torch.equal(Levels(both.pair(1), 4).of(both).amax((1, 2)), torch.tensor([1, 3]).short())
    assert torch.equal(*quantise(both, 4))
    swapped = Levels(both, 4).of(both, torch.tensor([1, 0]))
    assert torch.equal(swapped[:1], Levels(both.pair(1), 4).of(both.pair(0)))
    assert torch.equal(swapped[1:], Levels(both.pair(0), 4).of(both.pair(1)))


def test_memory_bounds_what_is_at_work_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, moving = noise((20, 24), masked=True), noise((21, 18), 6, masked=True)
    largest, inverse = 0, torch.fft.irfftn

    def watched(spectra: Tensor, s: Sequence[int]) -> Tensor:
        nonlocal largest
        largest = max(largest, math.prod(spectra.shape[:-2]))
        return inverse(spectra, s=s)

    monkeypatch.setattr(torch.fft, "irfftn", watched)
    one_map = 4 * good_length(40) * good_length(41) / 2**20  # MiB
    results = []
    for maps_in_memory, at_once in ((0.01, 1), (16 + 6 + 4 * 3, 3), (2 * (5 * 16 + 6), 2 * 16), (10**6, 6 * 16)):
        monkeypatch.setattr(cross, "CACHE", math.inf)
        largest = 0
        results.append(maps(CrossMaps(16, memory=1.001 * maps_in_memory * one_map), fixed, moving))
        assert largest == at_once
    for score, overlap in results[1:]:
        assert torch.equal(overlap, results[0][1])
        assert torch.allclose(score, results[0][0], atol=CLOSE)


def test_what_a_mask_covers_does_not_matter(ndim: int) -> None:
    fixed, moving = noise(SHAPES[ndim][0], masked=True), noise(SHAPES[ndim][1], 2, channels=2, masked=True)
    clean = maps(CrossMaps(4), fixed, moving)
    trashed = [Image(torch.where(image.mask > 0, image.data, 9.0), image.grid, image.mask) for image in (fixed, moving)]
    for a, b in zip(clean, maps(CrossMaps(4), *trashed), strict=True):
        assert torch.equal(a, b)


def test_a_copy_that_its_mask_covers_whole_scores_nothing() -> None:
    fixed, seen, hidden = noise((9, 12)), noise((10, 8)), noise((10, 8))
    hidden = Image(hidden.data, hidden.grid, torch.zeros(1, 1, 10, 8))
    search = CrossMaps(4, normalised=True)
    for a, b in zip(maps(search, fixed, batch([hidden, seen]), seen), search.maps(seen), strict=True):
        assert torch.equal(a[1:], b)
        assert not a[0].any()
    assert not any(result.any() for result in search.maps(hidden))
    assert not any(result.any() for result in maps(search, fixed, hidden))


def test_levels_are_of_equal_width_and_one_hot_pixel_does_not_move_them() -> None:
    ramp = torch.linspace(0, 1, 6400).view(1, 1, 80, 80)
    levels = quantise(Image(ramp, Grid.regular((80, 80))), 4)
    assert torch.allclose(levels.flatten().long().bincount() / 6400, torch.tensor(0.25), atol=0.002)
    ramp[0, 0, 40, 40] = 1e4
    assert (quantise(Image(ramp, Grid.regular((80, 80))), 4) != levels).sum() < 10


def test_the_palette_holds_the_colours_there_are() -> None:
    colours = torch.tensor([[0.1, 0.1, 0.9], [0.9, 0.2, 0.1], [0.5, 0.8, 0.5], [0.0, 0.9, 0.9]])
    pixels = colours.repeat_interleave(torch.tensor([3000, 500, 400, 100]), 0) + 0.01 * torch.randn(4000, 3)
    found = palette(pixels[torch.randperm(4000)], 4)
    assert torch.cdist(colours, found).amin(1).max() < 0.01
    assert torch.equal(palette(pixels, 8), palette(pixels, 8))
    assert torch.allclose(palette(colours.repeat(9, 1), 8).unique(dim=0), colours.unique(dim=0))  # fewer than asked for


def test_good_lengths_are_the_next_of_small_factors() -> None:
    good = sorted(2**i * 3**j * 5**k for i in range(12) for j in range(8) for k in range(6))
    assert [good_length(n) for n in range(1, 2000)] == [next(g for g in good if g >= n) for n in range(1, 2000)]


@pytest.mark.parametrize(
    "options",
    [{"bins": 1}, {"bins": 2.5}, {"bins": True}, {"bins": 10**6}, {"normalised": 1}, {"memory": 0}, {"memory": math.nan}],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        CrossMaps(**options)
