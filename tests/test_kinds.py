"""Kinds of images that registration programs get wrong: sparse ones, tiles, details of a whole, unequal pixels, slabs.

`experiments/kinds.py` makes many of each; here are some, as `register` comes.
"""

import kinds
import numpy as np
import pytest

import drmime

pytest.importorskip("skimage.data", reason="scikit-image brings the pictures")

QUICK = [
    ("nuclei", 40),
    ("spots", 1),
    ("labels", 2),
    ("tiles 15% translation", 0),
    ("tiles 20% rigid", 1),
    ("tiles 20% rigid", 3),
    ("slab 6 8", 0),
]
SLOW = [("tiles 15% affine", 2), ("detail 0.25", 0), ("detail 0.25", 2), ("unequal pixels 4", 1), ("slab 10 40", 1)]
LONG = [
    *[(kind, number) for kind in ("nuclei", "spots", "binary", "labels") for number in range(10, 16)],
    *[(f"tiles {share} {group}", 4) for share in ("15%", "20%", "30%") for group in ("translation", "rigid", "affine")],
    *[("detail 0.25", number) for number in (4, 5)],
    *[("unequal pixels 2", number) for number in range(3)],
    *[(kind, 2) for kind in ("slab 4 8", "slab 8 25", "slab 14 8")],
]


def solved(kind: str, number: int) -> tuple[float, drmime.Registration]:
    """The median error in pixels, and the result."""
    problem = kinds.problem(kind, number)
    result = drmime.register(problem.fixed, problem.moving, device="cpu", **problem.options)
    points = np.c_[problem.fixed_points, np.ones(len(problem.fixed_points))] @ result.pixel_matrix.T
    return float(np.median(np.linalg.norm(points[:, :-1] - problem.moving_points, axis=1))), result


@pytest.mark.parametrize(("kind", "number"), [*QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)])
def test_they_align_to_a_pixel(kind: str, number: int) -> None:
    error, _ = solved(kind, number)
    assert error < 1


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number"), LONG)
def test_more_of_them_do_or_are_doubted(kind: str, number: int) -> None:
    error, result = solved(kind, number)
    assert error < 1 or result.doubts


def test_the_overlap_is_that_of_the_images_whatever_the_metric_sees() -> None:
    """A sparse image, of which metrics count very different points, at one pose."""
    problem = kinds.problem("nuclei", 3)
    matrix = kinds.rigid(0.4, np.array([30.0, -20.0]), (kinds.SIDE - 1) / 2)
    pixels = np.mgrid[: kinds.SIDE, : kinds.SIDE].reshape(2, -1).T[:, ::-1] @ matrix[:2, :2].T + matrix[:2, 2]
    exact = ((pixels >= -0.5) & (pixels <= kinds.SIDE - 0.5)).all(1).mean()
    for metric in ("mine", "mattes", "angle"):
        result = drmime.register(
            problem.fixed,
            problem.moving,
            metric=metric,
            start={"given": matrix, "refine": False},
            schedule={"steps": 1, "rate": 1e-9},
            device="cpu",
        )
        assert result.overlap == pytest.approx(exact, abs=0.02)


def test_a_volume_of_few_slices_is_said_to_be_taken_for_one() -> None:
    problem = kinds.problem("slab 6 8", 0)
    result = drmime.register(problem.fixed, problem.moving, start=None, schedule={"steps": 1}, device="cpu")
    assert sum("volume of 6 slices; set channel_axis" in note for note in result.notes) == 2


@pytest.mark.slow
def test_pixels_of_unequal_sides_are_found_and_said_to_be_likely() -> None:
    error, result = solved("unequal pixels 2", 1)
    assert error < 1
    assert any("stretches one direction against another by 2.0" in note for note in result.notes)
