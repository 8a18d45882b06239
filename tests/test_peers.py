"""Every peer finds a motion that is known, in the right direction; what it cannot do it refuses in words."""

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import photograph
from textures import about, busy, turn

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import affine
from drmime.lab.datasets.case import regular_points, within
from drmime.lab.peers import PEERS, Problem, ready, settings
from drmime.lab.peers.base import GROUPS, centre_on_centre, luminance, probed
from drmime.start.propose.simple import Centre
from drmime.transform.base import Transform

PACKAGES = {"simpleitk": "SimpleITK", "elastix": "itk", "ants": "ants", "ecc": "cv2", "sift": "cv2", "phase": "skimage"}
PACKAGES |= {"elastix_bspline": "itk", "ants_syn": "ants", "convexadam": "convexAdam"}
FLAT = ("ecc", "sift")  # 2-D alone
VOLUMES = ("convexadam",)  # 3-D alone
FREE = ("centre", "identity", "start")
ITERATIVE = ("simpleitk", "elastix", "ants", "ecc")

QUICK = 1.0  # pixels; ITK's shrinking pyramids lie up to about a pixel off where sides or spacings are not even

# in pixels, the largest error anywhere in the fixed image; the motion is one of `GROUPS`
CASES: list[tuple[str, dict[str, Any], str, float]] = [
    ("simpleitk", {"metric": "mse"}, "affine", 0.3),
    ("simpleitk", {"metric": "ncc"}, "affine", 0.3),
    ("simpleitk", {}, "affine", 0.3),
    ("simpleitk", {"metric": "jhmi"}, "affine", 0.4),
    ("simpleitk", {"group": "similarity"}, "similarity", 0.3),
    ("simpleitk", {"group": "rigid", "sampling": 1}, "rigid", 0.3),
    ("simpleitk", {"group": "translation"}, "translation", 0.3),
    ("elastix", {}, "affine", 0.1),
    ("elastix", {"metric": "nmi", "settings": "fast"}, "affine", QUICK),
    ("elastix", {"settings": "tuned"}, "affine", QUICK),
    ("elastix", {"settings": "tuned", "group": "similarity"}, "similarity", QUICK),
    ("elastix", {"settings": "far", "group": "rigid"}, "rigid", QUICK),
    ("elastix", {"settings": "tuned", "group": "translation"}, "translation", QUICK),
    ("ants", {}, "affine", 0.2),
    ("ants", {"metric": "mse"}, "affine", 0.3),
    ("ants", {"metric": "ncc"}, "affine", 0.3),
    ("ants", {"transform": "TRSAA", "iterations": (100, 100, 50, 0)}, "affine", 0.5),
    ("ants", {"transform": "Rigid"}, "rigid", 0.2),
    ("ecc", {}, "affine", 0.1),
    ("ecc", {"motion": "homography"}, "affine", 0.2),
    ("ecc", {"motion": "translation"}, "translation", 0.1),
    ("sift", {}, "affine", 2.0),
    ("sift", {"motion": "homography"}, "affine", 3.0),
    ("phase", {}, "translation", 0.4),
]
NAMES = [f"{peer}-{'-'.join(str(value) for value in options.values())}".rstrip("-") for peer, options, _, _ in CASES]
MATRICES = {
    2: torch.tensor([[1.03, 0.02], [0.0, 0.98]], dtype=torch.float64),
    3: torch.tensor([[1.03, 0.02, 0.0], [0.0, 0.98, 0.0], [0.01, 0.0, 1.02]], dtype=torch.float64),
}
SHAPES = {2: ((120, 140), (132, 126)), 3: ((32, 40, 48), (36, 40, 44))}
SPACINGS = {2: ((0.005, 0.006), (0.0055, 0.005)), 3: ((20.0, 10.0, 11.0), (18.0, 11.0, 10.0))}  # any units


@dataclass(frozen=True)
class Known:
    """Two photographs of one scene, and the matrix between them."""

    problem: Problem
    truth: np.ndarray

    def error(self, found: np.ndarray) -> float:
        """The largest distance at the corners and the middle of the fixed image, in pixels of the moving one."""
        sides = self.problem.sides[0]
        steps = np.array(np.meshgrid(*([0, 0.5, 1] for _ in sides))).reshape(len(sides), -1).T * (sides - 1)
        points = np.c_[steps, np.ones(len(steps))]
        mapped = points @ found.T
        return float(np.linalg.norm(mapped[:, :-1] / mapped[:, -1:] - (points @ self.truth.T)[:, :-1], axis=1).max())


def known(ndim: int, motion: str = "affine", spaced: bool = False, shift: float = 3.0, zoom: float = 1) -> Known:
    """`shift` in pixels along x, a little less and the other way along the other axes; `zoom` of the images' sides."""
    shapes = [[int(zoom * side) for side in sides] for sides in SHAPES[ndim]]
    spacings = SPACINGS[ndim] if spaced else ((1.0,) * ndim,) * 2
    fixed, moving = (Grid.regular(*each) for each in zip(shapes, spacings, strict=True))
    turned = turn(4) if ndim == 2 else turn(4, (1.0, 2.0, 0.5))
    linear = {
        "translation": torch.eye(ndim, dtype=torch.float64),
        "rigid": turned,
        "similarity": 1.03 * turned,
        "affine": turned @ MATRICES[ndim],
    }[motion]
    offset = shift * torch.tensor([1.0, -0.7, 0.5][:ndim], dtype=torch.float64) * fixed.spacing.min()
    moving_from_fixed = about(linear, fixed.centre, moving.centre + offset)
    scene = busy(fixed, finest=0.08)
    images = (
        photograph(scene, grid=fixed),
        photograph(scene, grid=moving, scene_from_world=torch.linalg.inv(moving_from_fixed)),
    )
    pixels = [127.5 + 120 * image.data[0, 0].numpy() for image in images]
    truth = (moving.index_from_world @ moving_from_fixed @ fixed.world_from_index).numpy()
    return Known(Problem.of(*pixels, *spacings), truth)


def found(what: Problem, peer: str, options: Mapping[str, Any] | None = None, seed: int = 0) -> Any:
    need(peer)
    return ready(what, peer, options or {})(seed)


def numbers(result: Any) -> np.ndarray:
    """The matrix of a result, or where it carries points."""
    if isinstance(result, Transform):
        return result(torch.cartesian_prod(*[torch.arange(0.0, 20, 3, dtype=torch.float64)] * result.ndim)).numpy()
    return np.asarray(result)


def need(peer: str) -> None:
    # looked up, not imported: itk ends a process in which its own DeprecationWarning is an error
    if peer in PACKAGES and importlib.util.find_spec(PACKAGES[peer]) is None:
        pytest.skip(f"the package of {peer} is not installed: pip install 'drmime[peers]'")


@pytest.mark.parametrize("spaced", [False, True], ids=["pixels", "spaced"])
@pytest.mark.parametrize(("peer", "options", "motion", "tolerance"), CASES, ids=NAMES)
def test_a_known_motion_is_found(peer: str, options: dict[str, Any], motion: str, tolerance: float, spaced: bool) -> None:
    what = known(2, motion, spaced, zoom=2.5 if "settings" in options else 1)
    assert what.error(what.problem.start) > 3
    assert what.error(found(what.problem, peer, options)) < tolerance


@pytest.mark.slow
@pytest.mark.parametrize("spaced", [False, True], ids=["pixels", "spaced"])
@pytest.mark.parametrize(
    ("peer", "options"),
    [
        ("elastix_bspline", {}),
        ("elastix_bspline", {"metric": "nmi"}),
        ("ants_syn", {"iterations": (100, 50, 0, 0)}),
        ("ants_syn", {"metric": "cc", "iterations": (40, 20, 0, 0)}),
        ("convexadam", {}),
    ],
)
def test_a_deformation_begins_at_the_start_and_brings_images_nearer(
    peer: str, options: dict[str, Any], spaced: bool, ndim: int
) -> None:
    """Its freedom includes that of the affine map that is missing."""
    if peer in VOLUMES and ndim != 3:
        pytest.skip("for volumes alone")
    what = known(ndim, "affine", spaced, shift=2.0)
    map_of_pixels = found(what.problem, peer, options)
    assert isinstance(map_of_pixels, Transform)
    points = regular_points(what.problem.fixed.shape)
    ends = points @ what.truth[:-1, :-1].T + what.truth[:-1, -1]
    inner = within(ends, what.problem.moving.shape, -4) & within(points, what.problem.fixed.shape, -4)
    before = points @ what.problem.start[:-1, :-1].T + what.problem.start[:-1, -1]
    errors = [
        np.linalg.norm(there - ends, axis=1)[inner].mean() for there in (map_of_pixels(torch.as_tensor(points)).numpy(), before)
    ]
    assert errors[0] < 0.75 * errors[1]


@pytest.mark.parametrize("spaced", [False, True], ids=["pixels", "spaced"])
@pytest.mark.parametrize(
    ("peer", "options", "motion", "tolerance"),
    [
        ("simpleitk", {}, "affine", 0.4),
        ("simpleitk", {"metric": "ncc", "group": "similarity"}, "similarity", 0.4),
        ("simpleitk", {"group": "rigid"}, "rigid", 0.4),
        ("elastix", {"group": "rigid"}, "rigid", 0.1),
        ("elastix", {"settings": "fast"}, "affine", 2 * QUICK),
        ("elastix", {"settings": "fast", "group": "similarity"}, "similarity", 2 * QUICK),
        ("ants", {}, "affine", 0.3),
        ("ants", {"transform": "Similarity"}, "similarity", 0.3),
        ("phase", {}, "translation", 0.3),
    ],
)
def test_a_known_motion_of_a_volume_is_found(
    peer: str, options: dict[str, Any], motion: str, tolerance: float, spaced: bool
) -> None:
    what = known(3, motion, spaced, shift=2.0)
    assert what.error(what.problem.start) > 1.5
    assert what.error(found(what.problem, peer, options)) < tolerance


@pytest.mark.slow
@pytest.mark.parametrize("peer", PACKAGES)
def test_a_colour_image_counts_by_its_luminance(peer: str) -> None:
    ndim = 3 if peer in VOLUMES else 2
    what = known(ndim, "translation")
    fixed, moving = what.problem.fixed, what.problem.moving
    colours = [np.stack([pixels, 255 - pixels / 2, pixels], -1).astype(np.float32) for pixels in (fixed, moving)]
    problem = Problem.of(*colours, (1.0,) * ndim, (1.0,) * ndim)
    grays = Problem.of(*problem.grays(), (1.0,) * ndim, (1.0,) * ndim)
    np.testing.assert_array_equal(numbers(found(problem, peer)), numbers(found(grays, peer)))


@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 1), ("uint16", 200), ("int32", 1000), ("float64", 1 / 255)])
@pytest.mark.parametrize(
    ("peer", "options"),
    [
        ("simpleitk", {"metric": "mse"}),
        ("simpleitk", {"metric": "jhmi"}),
        ("elastix", {"settings": "fast", "group": "translation"}),
        ("ants", {}),
        ("ecc", {}),
        ("sift", {}),
        ("phase", {}),
    ],
)
def test_any_type_and_range_of_pixels_will_do(peer: str, options: dict[str, Any], dtype: str, scale: float) -> None:
    what = known(2, "translation")
    pixels = [(image * scale).astype(dtype) for image in (what.problem.fixed, what.problem.moving)]
    problem = Problem.of(*pixels, (1.0, 1.0), (1.0, 1.0))
    assert what.error(found(problem, peer, options)) < 1.0


@pytest.mark.parametrize("peer", ITERATIVE)
def test_the_start_is_where_it_begins(peer: str) -> None:
    """A sheared start near the truth, for a motion that is too far from centre on centre."""
    what = known(2, "affine", spaced=True, shift=60.0)
    start = affine(np.array([[1, 0.02], [0.0, 1]]), np.array([1.5, -2.0])) @ what.truth
    assert what.error(start) > 1.5
    near = Problem.of(what.problem.fixed, what.problem.moving, *SPACINGS[2], start=start)
    assert what.error(found(near, peer)) < 0.4
    try:
        far = what.error(found(what.problem, peer))
    except Exception:  # cv2.error has no other base: no convergence is no result either
        return
    assert far > 10


def test_phase_correlation_adds_a_shift_to_its_start() -> None:
    what = known(2, "affine", spaced=True)
    shifted = affine(np.eye(2), np.array([-4.0, 7.0]))
    near = Problem.of(what.problem.fixed, what.problem.moving, *SPACINGS[2], start=what.truth @ shifted)
    assert what.error(found(near, "phase")) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("peer", [*PACKAGES, *FREE])
def test_a_seed_gives_the_same_again(peer: str) -> None:
    what = known(3 if peer in VOLUMES else 2, "affine", spaced=True)
    need(peer)
    run = ready(what.problem, peer, {})
    np.testing.assert_array_equal(numbers(run(3)), numbers(run(3)))


@pytest.mark.parametrize("peer", ["simpleitk", "elastix", "ants"])
def test_another_seed_draws_other_points(peer: str) -> None:
    what = known(2)
    need(peer)
    run = ready(what.problem, peer, {})
    assert (run(0) != run(1)).any()


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_peer_has_no_more_freedom_than_its_group(ndim: int) -> None:
    """Which a product of a sheared motion, anisotropic pixels and several stages shows."""
    what = known(ndim, "affine", spaced=True, shift=2.0)
    fixed, moving = what.problem.pixel_sides
    for peer, more in (("simpleitk", {}), ("elastix", {"settings": "tuned"})):
        for group in GROUPS[:-1]:
            linear = np.diag(moving) @ found(what.problem, peer, {"group": group, **more})[:-1, :-1] @ np.diag(1 / fixed)
            size = np.linalg.det(linear) ** (1 / ndim)
            assert np.allclose(linear / size, np.eye(ndim), atol=1e-5) == (group == "translation")
            np.testing.assert_allclose(linear @ linear.T, size**2 * np.eye(ndim), atol=1e-5)
            assert (abs(size - 1) < 1e-5) == (group != "similarity")


def test_what_needs_no_search() -> None:
    what = Problem.of(np.zeros((10, 20)), np.zeros((30, 40)), (1.0, 2.0), (0.5, 4.0), start=affine(np.eye(2), np.array([1, 2])))
    np.testing.assert_array_equal(found(what, "start"), what.start)
    np.testing.assert_array_equal(found(what, "identity"), np.diag([0.5, 2.0, 1.0]))
    expected = [[0.5, 0, 19.5 - 0.5 * 9.5], [0, 2, 14.5 - 2 * 4.5], [0, 0, 1]]
    np.testing.assert_array_equal(found(what, "centre"), expected)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_default_start_is_that_of_register(ndim: int) -> None:
    what = known(ndim, spaced=True)
    grids = [Grid.regular(shape, spacing) for shape, spacing in zip(SHAPES[ndim], SPACINGS[ndim], strict=True)]
    images = [photograph(lambda points: points[..., 0], grid=grid) for grid in grids]
    expected = grids[1].index_from_world @ Centre()(*images)[0] @ grids[0].world_from_index
    np.testing.assert_allclose(what.problem.start, expected.numpy(), atol=1e-12)


@given(st.lists(st.floats(0.1, 10), min_size=4, max_size=4), st.floats(1e-6, 1e6))
def test_pixels_to_worlds_and_back(spacing: list[float], unit: float) -> None:
    """And the world does not depend on the unit in which spacings are given."""
    spacings = [tuple(unit * side for side in sides) for sides in (spacing[:2], spacing[2:])]
    what = Problem.of(np.zeros((5, 6)), np.zeros((7, 8)), *spacings)
    np.testing.assert_allclose(what.in_pixels(what.world_start), what.start, rtol=1e-9, atol=1e-9)
    assert np.prod(what.pixel_sides[0]) == pytest.approx(1)
    expected = centre_on_centre((5, 6), (7, 8), spacing[:2], spacing[2:])
    np.testing.assert_allclose(what.start, expected, rtol=1e-9, atol=1e-9)


def test_a_map_is_known_by_its_points(rng: np.random.Generator) -> None:
    matrix = affine(rng.normal(size=(3, 3)), rng.normal(size=3))
    np.testing.assert_allclose(probed(lambda point: matrix[:3, :3] @ point + matrix[:3, 3], 3), matrix, atol=1e-12)


def test_gray() -> None:
    assert luminance(np.full((4, 5), 7, np.uint8), 2).dtype == np.float32
    np.testing.assert_allclose(luminance(np.full((4, 5, 3), 7, np.uint8), 2), 7, rtol=1e-6)
    opaque = np.array([[[100, 0, 0, 255]]])
    np.testing.assert_allclose(luminance(opaque, 2), 29.9, rtol=1e-6)
    np.testing.assert_allclose(luminance(np.array([[[1, 3]]]), 2), 2)


def test_no_result_is_no_matrix() -> None:
    what = known(2).problem
    for bad in (np.diag([np.nan, 1, 1]), np.diag([0.0, 1, 1])):
        with pytest.raises(RuntimeError, match="cannot be used"):
            what.in_pixels(bad)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fixed": np.zeros(5)}, "fixed: expected an array"),
        ({"moving": [[1, 2], [3, 4]]}, "moving: expected an array"),
        ({"fixed": np.zeros((4, 4), complex)}, "of complex"),
        ({"moving": np.full((4, 4), np.nan)}, "moving: expected finite"),
        ({"moving": np.zeros((0, 4))}, "moving: expected finite"),
        ({"fixed_spacing": (1.0, -1.0)}, "fixed_spacing"),
        ({"fixed_spacing": 1.0}, "fixed_spacing"),
        ({"moving_spacing": (1.0, 1.0, 1.0)}, "moving_spacing: expected 2"),
        ({"start": np.eye(4)}, "start: expected an invertible affine"),
        ({"start": np.diag([1.0, 0.0, 1.0])}, "start: expected an invertible affine"),
        ({"start": np.full((3, 3), np.nan)}, "start: expected an invertible affine"),
        ({"start": np.array([[1, 0, 0], [0, 1, 0], [0.01, 0, 1]])}, "start: expected an invertible affine"),
        ({"threads": 0}, "threads"),
    ],
)
def test_a_problem_is_checked(changes: dict[str, Any], words: str) -> None:
    good = {"fixed": np.zeros((4, 4)), "moving": np.zeros((4, 4)), "fixed_spacing": (1.0, 1.0), "moving_spacing": (1.0, 1.0)}
    with pytest.raises(InputError, match=words):
        Problem.of(**(good | changes))


@pytest.mark.parametrize(
    ("peer", "options", "words"),
    [
        ("simpleitk", {"metric": "nmi"}, "unknown metric of simpleitk 'nmi'"),
        ("simpleitk", {"group": "affin"}, "did you mean 'affine'"),
        ("simpleitk", {"shrink": (4, 2)}, "smoothing: expected a list of 2"),
        ("simpleitk", {"shrink": "4"}, "shrink"),
        ("simpleitk", {"shrink": (4, 2, 0)}, "shrink"),
        ("simpleitk", {"sampling": 2}, "sampling"),
        ("simpleitk", {"iterations": 1.5}, "iterations"),
        ("simpleitk", {"itertions": 3}, "did you mean 'iterations'"),
        ("elastix", {"settings": "slow"}, "unknown settings of elastix"),
        ("elastix", {"metric": "mse"}, "unknown metric of elastix"),
        ("elastix", {"group": 3}, "unknown group of elastix"),
        ("ants", {"transform": "SyN"}, "unknown transform of ants"),
        ("ants_syn", {"metric": "ccc"}, "did you mean 'cc'"),
        ("elastix_bspline", {"spacing": 2}, "spacing: expected a number"),
        ("ants", {"iterations": (1, 2)}, "iterations: expected a list of 4"),
        ("ants", {"iterations": (1, 2, 3, 4.5)}, "iterations: expected a whole"),
        ("ecc", {"motion": "rigid"}, "unknown motion of ecc"),
        ("ecc", {"blur": 4}, "blur: expected an odd"),
        ("sift", {"motion": "euclidean"}, "unknown motion of sift"),
        ("sift", {"ratio": 0}, "ratio"),
        ("phase", {"upsampling": 0}, "upsampling"),
        ("centre", {"metric": "mse"}, "unknown option of peer 'centre'"),
        ("simplitk", {}, "did you mean 'simpleitk'"),
    ],
)
def test_an_option_is_checked(peer: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ready(known(2).problem, peer, options)


@pytest.mark.parametrize("peer", FLAT)
def test_a_peer_of_pictures_refuses_volumes(peer: str) -> None:
    with pytest.raises(InputError, match=f"{peer}: expected 2-D images, got 3-D"):
        ready(known(3).problem, peer, {})


@pytest.mark.parametrize("peer", VOLUMES)
def test_a_peer_of_volumes_refuses_pictures(peer: str) -> None:
    with pytest.raises(InputError, match=f"{peer}: expected 3-D images, got 2-D"):
        ready(known(2).problem, peer, {})


def test_euclidean_motion_needs_a_start_without_stretch() -> None:
    with pytest.raises(InputError, match="a rotation in pixels"):
        ready(known(2, spaced=True).problem, "ecc", {"motion": "euclidean"})
    what = known(2, "rigid")
    assert what.error(found(what.problem, "ecc", {"motion": "euclidean"})) < 0.1


@pytest.mark.parametrize("peer", PACKAGES)
def test_a_package_that_is_not_there_is_named(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = {"phase": "skimage.registration", "convexadam": "convexAdam.convex_adam_MIND"}.get(peer, PACKAGES[peer])
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"needs the package {PACKAGES[peer]}: pip install 'drmime\[peers\]'"):
        ready(known(3 if peer in VOLUMES else 2).problem, peer, {})


def test_settings_are_resolved_without_any_package() -> None:
    assert settings("elastix", {"group": "rigid"}) == {"metric": "mattes", "settings": "default", "group": "rigid"}
    assert settings("centre", {}) == {}
    for peer in PEERS:
        assert settings(peer, settings(peer, {})) == settings(peer, {})


def test_elastix_says_why_it_failed() -> None:
    what = known(2)
    apart = Problem.of(
        what.problem.fixed, what.problem.moving, (1.0, 1.0), (1.0, 1.0), start=affine(np.eye(2), np.full(2, 1e4))
    )
    with pytest.raises(RuntimeError, match="elastix: Too many samples map outside moving image buffer"):
        found(apart, "elastix")


def test_images_without_features_are_a_failure_in_words() -> None:
    blank = Problem.of(np.zeros((50, 50)), np.zeros((50, 50)), (1.0, 1.0), (1.0, 1.0))
    with pytest.raises(RuntimeError, match="too few matches"):
        found(blank, "sift")
    with pytest.raises(RuntimeError, match="without contrast"):
        found(blank, "phase")


def test_images_too_far_apart_for_one_array() -> None:
    start = affine(np.eye(2), np.full(2, 1e6))
    what = Problem.of(np.zeros((50, 50)), np.zeros((50, 50)), (1.0, 1.0), (1.0, 1.0), start=start)
    with pytest.raises(InputError, match="Give a nearer start"):
        found(what, "phase")
