"""A second answer near the first is told, by the resolution of the score's own peak; where there is one answer, none is."""

import functools

import numpy as np
import pytest
import torch
from alike import bent, pairs
from counting import Counting
from scipy import ndimage

import drmime
from drmime import Doubt
from drmime.geometry.matrices import translation
from drmime.image.door import as_image
from drmime.start.rivals import LEAST_OVERLAP, Rival, by_edges, by_intensities, peak_ratio, rival
from drmime.start.score import Reduced
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform

skimage_data = pytest.importorskip("skimage.data", reason="scikit-image brings the pictures")
register = functools.partial(drmime.register, device="cpu")


@functools.cache
def camera() -> np.ndarray:
    return skimage_data.camera()[::2, ::2].astype(float)


def band() -> np.ndarray:
    """A third of the picture moved by 12 pixels, by itself."""
    moved = camera().copy()
    moved[:, 60:150] = np.roll(camera(), 12, 1)[:, 60:150]
    return moved


def lattice(shift: tuple[float, float], period: float, seed: int) -> np.ndarray:
    rows, columns = np.mgrid[:256, :256].astype(float)
    waves = [np.cos(2 * np.pi * (place - off) / period) for place, off in zip((columns, rows), shift, strict=True)]
    return waves[0] + waves[1] + 0.1 * np.random.default_rng(seed).standard_normal((256, 256))


def static() -> tuple[np.ndarray, np.ndarray]:
    """A weak scene that moves by (9, -6) behind the pattern of the camera's own pixels."""
    random = np.random.default_rng(17)
    gain = 1 + 0.15 * ndimage.gaussian_filter(random.standard_normal((256, 256)), 0.7) / 0.4
    moved = ndimage.shift(camera(), (-6, 9), order=1, mode="nearest")
    return (150 + 0.25 * camera()) * gain, (150 + 0.25 * moved) * gain


def found(fixed: np.ndarray, moving: np.ndarray, x: float = 0.0, y: float = 0.0) -> Rival | None:
    images = [as_image(pixels, role="fixed").normalised() for pixels in (fixed, moving)]
    [other] = rival(
        Reduced.of(*([one] for one in images), 1.0), [MatrixTransform(translation(torch.tensor([x, y], dtype=torch.float64)))]
    )
    return other


def test_one_answer_has_no_rival() -> None:
    assert found(camera(), camera()) is None
    assert found(camera(), 255 - ndimage.shift(camera(), (-6, 9), order=1, mode="nearest"), 9, -6) is None


def test_a_part_that_moves_by_itself_is_a_rival_with_its_shift() -> None:
    """Begun from either answer the other is named, 12 pixels to one side and to the other."""
    for start, shift in ((0.0, 12.0), (12.0, -12.0)):
        other = found(camera(), band(), start)
        assert other is not None
        assert other.by == "edges"
        assert other.share > 0.8
        assert other.shift.tolist() == pytest.approx([shift, 0], abs=2)


@pytest.mark.parametrize("period", [10, 16, 24, 40])
def test_a_lattice_has_rivals(period: int) -> None:
    shift = (0.7 * period, -0.6 * period)
    other = found(lattice((0, 0), period, 0), lattice(shift, period, 1), *shift)
    assert other is not None
    halves = (2 * other.shift / period).numpy()  # half a period in both directions inverts it, to which directions are blind
    assert np.abs(halves - np.rint(halves)).max() < 0.3
    assert np.abs(np.rint(halves)).max() >= 1


def test_a_camera_s_own_pattern_is_contradicted_by_the_scene() -> None:
    other = found(*static())
    assert other is not None
    assert other.by == "intensities"
    assert other.shift.tolist() == pytest.approx([9, -6], abs=3.5)  # the pattern draws it towards 0


def test_intensities_are_heard_beside_edges() -> None:
    images = [as_image(pixels, role="fixed").normalised() for pixels in static()]
    small, eye = Reduced.of(*([one] for one in images), 1.0), MatrixTransform(torch.eye(3))
    [other] = by_intensities(small, [eye])
    assert other is not None
    assert 1 < other.share <= 10
    assert by_edges(small, [eye]) == [None]


def test_shifts_are_in_the_world_of_the_fixed_image() -> None:
    images = [as_image(pixels, role="fixed", spacing=(0.5, 0.5)).normalised() for pixels in (camera(), band())]
    [other] = rival(Reduced.of(*([one] for one in images), 1.0), [MatrixTransform(torch.eye(3, dtype=torch.float64))])
    assert other is not None
    assert other.shift.tolist() == pytest.approx([6, 0], abs=1)


def test_a_volume_of_one_answer_has_no_rival_and_a_periodic_one_has(rng: np.random.Generator) -> None:
    plain = ndimage.gaussian_filter(rng.standard_normal((32, 40, 48)), 2)
    periodic = np.tile(ndimage.gaussian_filter(rng.standard_normal((32, 40, 12)), 1.5, mode="wrap"), 4)
    assert found_3d(plain) is None
    other = found_3d(periodic)
    assert other is not None
    assert abs(float(other.shift[0])) % 12 == pytest.approx(0, abs=1.5)


def found_3d(pixels: np.ndarray) -> Rival | None:
    image = as_image(pixels.astype(np.float32), role="fixed").normalised()
    [other] = rival(Reduced.of([image], [image], 1.0), [MatrixTransform(torch.eye(4, dtype=torch.float64))])
    return other


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["band", "static", "lattice 10", "lattice 24"])
@pytest.mark.parametrize("group", ["translation", pytest.param("affine", marks=pytest.mark.slow)])
def test_the_result_is_right_or_doubtful(kind: str, group: str) -> None:
    if kind.startswith("lattice"):
        period = int(kind.split()[1])
        shift = (0.7 * period, -0.6 * period)
        pair = lattice((0, 0), period, 0), lattice(shift, period, 1)
    else:
        pair, shift = {"band": ((camera(), band()), (0, 0)), "static": (static(), (9, -6))}[kind]
    result = register(*pair, transform=group)
    off = np.abs(result.to_moving([[128, 128]])[0] - 128 - shift).max()
    assert off < 1 or result.doubts
    if kind.startswith("lattice"):
        assert Doubt.SHIFTED in result.doubts


# The peak ratio


def ratio(fixed: np.ndarray, moving: np.ndarray, x: float = 0.0) -> float:
    images = [as_image(pixels, role="fixed", channel_axis=None).normalised() for pixels in (fixed, moving)]
    matrix = torch.eye(fixed.ndim + 1, dtype=torch.float64)
    matrix[0, -1] = x
    [found] = peak_ratio(Reduced.of(*([one] for one in images), 1.0), [MatrixTransform(matrix)])
    return found


def test_the_right_place_stands_above_all_wrong_ones_and_a_wrong_one_does_not() -> None:
    negative = 255 - camera()
    assert ratio(camera(), negative) > 3
    assert ratio(camera(), negative, 60) < 1
    assert ratio(camera(), negative[::-1].T.copy()) < 1


def blobs(side: int, ndim: int) -> np.ndarray:
    """One scene at any size: smooth, so that larger images show no more of it."""
    coarse = np.random.default_rng(5).random((12,) * ndim)
    return ndimage.zoom(coarse, side / 12, order=3, mode="grid-constant", grid_mode=True)


def test_one_scene_has_one_ratio_at_every_size() -> None:
    ratios = [ratio(blobs(side, 2), 1 - blobs(side, 2)) for side in (64, 128, 256, 512)]
    assert max(ratios) < 1.3 * min(ratios)
    ratios = [ratio(blobs(side, 3), 1 - blobs(side, 3)) for side in (32, 48, 64)]  # 12.8, 9.9, 9.3: few other places in 32³
    assert max(ratios) < 1.5 * min(ratios)


def test_noise_and_lattices_have_a_low_ratio_and_images_without_edges_none() -> None:
    one, other = np.random.default_rng(0).random((2, 96, 96))
    assert ratio(one, other) < 1.2
    assert ratio(lattice((0, 0), 16, 0), lattice((0, 0), 16, 1)) < 1.2
    nothing = np.zeros((64, 64))
    nothing[:32] = 1
    assert ratio(nothing, nothing, 1000) == 0


def test_turned_places_count_where_the_group_turns() -> None:
    """A scene of six equal sectors fits as well turned by 60 degrees."""
    rows, columns = np.mgrid[-64:64, -64:64] + 0.5
    sectors = np.cos(6 * np.arctan2(rows, columns)) * np.exp(-((np.hypot(rows, columns) - 36) ** 2) / 300)
    image = as_image(sectors).normalised()
    small, eye = Reduced.of([image], [image], 1.0), MatrixTransform(torch.eye(3, dtype=torch.float64))
    assert peak_ratio(small, [eye]) == pytest.approx([1], abs=0.1)
    assert peak_ratio(small, [eye], turned=False)[0] > 1.4


# Several pairs at once


def same(found: Rival | None, alone: Rival | None) -> bool:
    if found is None or alone is None:
        return found is alone
    return (
        found.by == alone.by and torch.equal(found.shift, alone.shift) and found.share == pytest.approx(alone.share, rel=1e-4)
    )


def test_each_picture_of_a_batch_has_the_rivals_and_the_ratio_that_it_has_alone() -> None:
    """With rivals by edges, by intensities and none; and images without edges."""
    waves = lattice((0, 0), 16, 0), lattice((0, 0), 16, 1)
    flat = np.zeros((256, 256))
    flat[:128] = 1
    shown = [static(), (camera(), 255 - camera()), waves, (camera(), band()), (flat, flat)]
    several = [Reduced.of(*([as_image(pixels, role="fixed").normalised()] for pixels in two), 1.0) for two in shown]
    eye = torch.eye(3, dtype=torch.float64)
    away = translation(torch.tensor([2000.0, 0], dtype=torch.float64))
    transforms = [MatrixTransform(matrix) for matrix in (eye, eye, eye, eye, away)]
    kinds = [one and one.by for one in check(several, transforms)]
    assert kinds == ["intensities", None, "edges", "edges", None]


def check(several: list[Reduced], transforms: list[Transform]) -> list[Rival | None]:
    """Assert that batches of these pairs in two orders give what each pair gives alone; the rivals of each."""
    alone = [(one, [transform]) for one, transform in zip(several, transforms, strict=True)]
    singles = {function: [function(*one)[0] for one in alone] for function in (rival, by_edges, by_intensities)}
    ratios = [peak_ratio(*one)[0] for one in alone]
    last = len(several) - 1
    for order in (range(last + 1), [last, *range(last)]):
        small, maps = Reduced.joined([several[at] for at in order]), [transforms[at] for at in order]
        for function, found in singles.items():
            assert all(same(one, found[at]) for one, at in zip(function(small, maps), order, strict=True)), function
        assert peak_ratio(small, maps) == pytest.approx([ratios[at] for at in order], rel=1e-4, nan_ok=True)
    return singles[rival]


@pytest.mark.parametrize("masked", [False, True])
def test_each_pair_of_a_batch_has_the_rivals_and_the_ratio_that_it_has_alone(ndim: int, masked: bool) -> None:
    several, transforms = pairs(ndim, 4, masked)
    check(several, list(transforms))


def test_deformations_stand_beside_matrices() -> None:
    several, matrices = (some[:2] for some in pairs(2, 4))
    check(several, [matrices[0] @ bent(2, 1), matrices[1]])


def test_volumes_of_a_batch_have_their_own_rivals(rng: np.random.Generator) -> None:
    plain = ndimage.gaussian_filter(rng.standard_normal((32, 40, 48)), 2)
    periodic = np.tile(ndimage.gaussian_filter(rng.standard_normal((32, 40, 12)), 1.5, mode="wrap"), 4)
    images = [
        as_image(pixels.astype(np.float32), role="fixed").normalised() for pixels in (plain, periodic, plain[::-1].copy())
    ]
    eye = MatrixTransform(torch.eye(4, dtype=torch.float64))
    found = check([Reduced.of([image], [image], 1.0) for image in images], [eye, eye, eye])
    assert [one is None for one in found] == [True, False, True]


def test_many_pairs_take_few_more_operations_than_one() -> None:
    """Those on matrices are counted for each pair."""
    several, transforms = pairs(2, 16)
    for function, share in ((by_edges, 1.1), (by_intensities, 1.1), (peak_ratio, 1.25)):
        counts = []
        for count in (1, 16):
            small = Reduced.joined(several[:count])
            small.maps(0, LEAST_OVERLAP)  # the fixed side, which the first call of a pair computes
            with Counting() as counted:
                function(small, transforms[:count])
            counts.append(counted)
        assert counts[1].operations.total() < share * counts[0].operations.total()
        assert counts[1].waits.total() == counts[0].waits.total()


def test_the_fixed_side_of_a_pair_is_transformed_once() -> None:
    [small], _ = pairs(2, 1)
    assert small.maps(0, LEAST_OVERLAP) is small.maps(0, LEAST_OVERLAP)
