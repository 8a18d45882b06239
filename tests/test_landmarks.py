"""Landmarks: maps that are known, recovered from points; and what is said about points that determine none."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import oblique, rotation, translation
from tolerances import EXACT
from torch import Tensor

from drmime import prepare, register
from drmime.errors import InputError
from drmime.geometry import lie
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.image import Image
from drmime.start.propose.landmarks import Landmarks, fit

COUNT = 12  # points


def points_of(grid: Grid, generator: torch.Generator, count: int = COUNT) -> Tensor:
    """World points that fill most of the grid. shape: (count, D)"""
    unit = 1.8 * torch.rand(count, grid.ndim, generator=generator, dtype=torch.float64) - 0.9
    return apply(grid.world_from_unit, unit)[0]


def member(group: dict[str, Tensor], grid: Grid, generator: torch.Generator, turn: float = 0.0) -> Tensor:
    """A map of the group in world units, turned by `turn` where the group can."""
    size = torch.tensor([0.1 if name.startswith("perspective") else 0.3 for name in group], dtype=torch.float64)
    theta = size * (2 * torch.rand(len(group), generator=generator, dtype=torch.float64) - 1)
    inner = lie.exp(theta, torch.stack(list(group.values())))
    if "rotation_xy" in group:
        inner = rotation(grid.ndim, turn) @ inner
    return grid.world_from_frame @ inner @ torch.linalg.inv(grid.world_from_frame)


def distances(matrix: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
    return (apply(matrix, sources)[0] - targets).norm(dim=1)


@pytest.mark.parametrize("turn", [0, 95, 170, 180, -170])
@pytest.mark.parametrize("name", lie.GROUPS)
def test_points_that_match_give_the_map_exactly(name: str, turn: float, grid: Grid, generator: torch.Generator) -> None:
    group = lie.generators(name, grid.ndim)
    truth = member(group, grid, generator, math.radians(turn))
    sources = points_of(grid, generator)
    matrix = fit(sources, apply(truth, sources)[0], group, grid)
    size = float(grid.world_from_frame.abs().max())
    assert matrix.dtype == torch.float64
    assert float(matrix[-1, -1]) == 1
    assert distances(matrix, sources, apply(truth, sources)[0]).max() < 1000 * EXACT * size
    elsewhere = points_of(grid, generator)
    assert distances(matrix, elsewhere, apply(truth, elsewhere)[0]).max() < 1e5 * EXACT * size
    if name != "projective":
        assert torch.equal(matrix[-1], torch.eye(grid.ndim + 1, dtype=torch.float64)[-1])


@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("angle", [170, 180])
def test_half_turns_about_every_axis(plane: tuple[int, int], angle: float, generator: torch.Generator) -> None:
    grid = Grid.regular((20, 24, 22))
    truth = translation(3.0, -4.0, 50.0) @ rotation(3, math.radians(angle), plane) @ rotation(3, 0.4, (0, 1))
    sources = points_of(grid, generator)
    matrix = fit(sources, apply(truth, sources)[0], lie.generators("rigid", 3), grid)
    assert torch.allclose(matrix, truth, atol=100 * EXACT)


@pytest.mark.parametrize("name", lie.GROUPS)
def test_noise_is_fitted_at_least_as_well_as_by_the_truth(name: str, grid: Grid, generator: torch.Generator) -> None:
    group = lie.generators(name, grid.ndim)
    truth = member(group, grid, generator, math.radians(170))
    sources = points_of(grid, generator)
    noise = 0.02 * float(grid.world_from_frame[0, 0]) * torch.randn(sources.shape, generator=generator, dtype=torch.float64)
    targets = apply(truth, sources)[0] + noise
    matrix = fit(sources, targets, group, grid)
    assert distances(matrix, sources, targets).square().sum() <= noise.square().sum()


def test_affine_is_the_linear_least_squares_solution(grid: Grid, generator: torch.Generator) -> None:
    group = lie.generators("affine", grid.ndim)
    sources, noise = points_of(grid, generator), torch.randn(COUNT, grid.ndim, generator=generator, dtype=torch.float64)
    targets = apply(member(group, grid, generator, 2.0), sources)[0] + noise
    ones = torch.ones(COUNT, 1, dtype=torch.float64)
    solution = torch.linalg.lstsq(torch.cat([sources, ones], 1), targets).solution
    matrix = fit(sources, targets, group, grid)
    expected = torch.cat([sources, ones], 1) @ solution
    assert torch.allclose(apply(matrix, sources)[0], expected, atol=1e-6)


def test_a_rigid_map_of_points_of_another_size_is_rigid(grid: Grid, generator: torch.Generator) -> None:
    sources = points_of(grid, generator)
    matrix = fit(sources, 3 * sources, lie.generators("rigid", grid.ndim), grid)
    linear = matrix[:-1, :-1]
    assert torch.allclose(linear @ linear.T, torch.eye(grid.ndim, dtype=torch.float64), atol=100 * EXACT)


def test_a_similarity_between_worlds_of_other_units(grid: Grid, generator: torch.Generator) -> None:
    size = torch.diag(torch.tensor([1000.0] * grid.ndim + [1.0], dtype=torch.float64))
    for truth in (size, torch.linalg.inv(size)):
        truth = translation(*[1e4] * grid.ndim) @ truth @ rotation(grid.ndim, 3.0)
        sources = points_of(grid, generator)
        matrix = fit(sources, apply(truth, sources)[0], lie.generators("similarity", grid.ndim), grid)
        assert torch.allclose(matrix, truth, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("names", [["translation_x"], ["rotation"], ["translation", "stretch"], ["scale", "shear_xy"]])
def test_a_list_of_generators_is_kept_to(names: list[str], grid: Grid, generator: torch.Generator) -> None:
    group = lie.generators(names, grid.ndim)
    truth = member(group, grid, generator, math.radians(170) if names == ["rotation"] else 0)
    sources = points_of(grid, generator)
    matrix = fit(sources, apply(truth, sources)[0], group, grid)
    assert torch.allclose(matrix, truth, atol=1e-8)
    shifted = fit(sources, apply(truth, sources)[0] + 1.0, group, grid)
    if "translation" not in names:
        rest = torch.linalg.inv(grid.world_from_frame) @ shifted @ grid.world_from_frame
        fixed_entries = [i for i in range(grid.ndim) if not (names == ["translation_x"] and i == 0)]
        assert torch.allclose(rest[fixed_entries, -1], torch.zeros(len(fixed_entries), dtype=torch.float64), atol=1e-9)


def test_fewest_points_are_enough(grid: Grid, generator: torch.Generator) -> None:
    fewest = {
        "translation": 1,
        "rigid": grid.ndim,
        "similarity": grid.ndim,
        "affine": grid.ndim + 1,
        "projective": grid.ndim + 2,
    }
    for name, count in fewest.items():
        group = lie.generators(name, grid.ndim)
        sources = points_of(grid, generator, count)
        targets = apply(member(group, grid, generator), sources)[0]
        matrix = fit(sources, targets, group, grid)
        assert distances(matrix, sources, targets).max() < 1e-6, name
        if name != "translation":
            with pytest.raises(InputError, match=r"at least|do not determine"):
                fit(sources[1:], targets[1:], group, grid)


def line(grid: Grid, count: int = COUNT) -> Tensor:
    """World points on a line through the grid."""
    step = torch.linspace(-0.8, 0.8, count, dtype=torch.float64)[:, None]
    return apply(grid.world_from_unit, step * torch.tensor([1.0, 0.5, -0.3], dtype=torch.float64)[: grid.ndim])[0]


@pytest.mark.parametrize("name", ["affine", "projective"])
def test_points_on_a_line_are_refused(name: str, grid: Grid, generator: torch.Generator) -> None:
    group = lie.generators(name, grid.ndim)
    with pytest.raises(InputError, match="lie on one line"):
        fit(line(grid), line(grid), group, grid)
    with pytest.raises(InputError, match=r"moving points .* lie on one line"):
        fit(points_of(grid, generator), line(grid), group, grid)


def test_points_on_a_line_determine_a_rotation_in_a_plane_but_not_in_space(grid: Grid) -> None:
    group = lie.generators("rigid", grid.ndim)
    if grid.ndim == 2:
        truth = translation(5.0, 1.0) @ rotation(2, 2.5)
        assert torch.allclose(fit(line(grid), apply(truth, line(grid))[0], group, grid), truth, atol=1e-9)
    else:
        with pytest.raises(InputError, match="lie on one line"):
            fit(line(grid), line(grid), group, grid)


def test_equal_points_are_refused(grid: Grid, generator: torch.Generator) -> None:
    same = grid.centre.repeat(COUNT, 1)
    with pytest.raises(InputError, match="coincide"):
        fit(same, same, lie.generators("similarity", grid.ndim), grid)
    with pytest.raises(InputError, match=r"moving points .* coincide"):
        fit(points_of(grid, generator), same, lie.generators("similarity", grid.ndim), grid)


def test_mirrored_points_are_refused(grid: Grid, generator: torch.Generator) -> None:
    sources = points_of(grid, generator)
    mirror = torch.ones(grid.ndim, dtype=torch.float64)
    mirror[0] = -1
    with pytest.raises(InputError, match="mirror image"):
        fit(sources, sources * mirror, lie.generators("affine", grid.ndim), grid)


def image(grid: Grid) -> Image:
    return Image(torch.rand(1, 1, *grid.shape), grid)


def test_the_proposer_takes_pixels_of_grids_of_unlike_spacing(ndim: int, generator: torch.Generator) -> None:
    fixed = image(oblique((20, 24, 22)[:ndim], (2.0, 0.5, 0.8)[-ndim:], offset=7.0))
    moving = image(Grid.regular((30, 25, 28)[:ndim], (1.5, 1.0, 0.7)[-ndim:]))
    sources = points_of(fixed.grid, generator)
    truth = translation(*[4.0] * ndim) @ rotation(ndim, 2.9)
    fixed_pixels = apply(fixed.grid.index_from_world, sources)[0]
    moving_pixels = apply(moving.grid.index_from_world, apply(truth, sources)[0])[0]
    for kinds in (lambda p: p, lambda p: p.numpy(), lambda p: p.tolist()):
        matrix = Landmarks(kinds(fixed_pixels), kinds(moving_pixels), "rigid")(fixed, moving)
        assert matrix.shape == (1, ndim + 1, ndim + 1)
        assert torch.allclose(matrix[0], truth, atol=1e-9)


def write(path: Path, points: Tensor, header: str = "x,y,z") -> Path:
    header = ",".join(header.split(",")[: points.shape[1]])
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in points.tolist())]), encoding="utf-8")
    return path


def test_files_are_read(tmp_path: Path, ndim: int, generator: torch.Generator) -> None:
    picture = image(Grid.regular((20, 24, 22)[:ndim]))
    points = points_of(picture.grid, generator)
    fixed, moving = write(tmp_path / "f.csv", points), write(tmp_path / "m.csv", points + 2)
    matrix = Landmarks(fixed, str(moving), "translation")(picture, picture)
    assert torch.allclose(matrix[0], translation(*[2.0] * ndim), atol=1e-9)


def test_bad_files_are_told_apart(tmp_path: Path) -> None:
    good = write(tmp_path / "good.csv", torch.rand(4, 2))
    with pytest.raises(InputError, match="does not exist"):
        Landmarks(good, tmp_path / "missing.csv")
    with pytest.raises(InputError, match="CSV with columns x,y"):
        Landmarks(good, write(tmp_path / "columns.csv", torch.rand(4, 2), "a,b"))
    (tmp_path / "words.csv").write_text("x,y\n1,two\n", encoding="utf-8")
    with pytest.raises(InputError, match="expected a number"):
        Landmarks(good, tmp_path / "words.csv")
    (tmp_path / "empty.csv").write_text("x,y\n", encoding="utf-8")
    with pytest.raises(InputError, match="at least one point"):
        Landmarks(tmp_path / "empty.csv", tmp_path / "empty.csv")


def test_bad_points_are_told_apart() -> None:
    four = np.random.default_rng(0).random((4, 2))
    cases = [
        ((four, four[:3]), "as many fixed as moving"),
        ((four, np.random.default_rng(0).random((4, 3))), "of one dimension"),
        ((four[:1], four[:1]), "at least 2 pairs"),
        ((four.ravel(), four), r"shape \(N, 2\)"),
        ((np.zeros((4, 4)), four), r"shape \(N, 2\)"),
        ((four, [["a", "b"]] * 4), "rows of 2 or 3"),
        ((four, [[1, 2], [3]]), "rows of 2 or 3"),
        ((four, np.full((4, 2), np.nan)), "finite moving points"),
    ]
    for points, message in cases:
        with pytest.raises(InputError, match=message):
            Landmarks(*points)
    with pytest.raises(InputError, match="unknown group"):
        Landmarks(four, four, "rigidity")


def test_points_of_another_dimension_than_the_images_are_refused(generator: torch.Generator) -> None:
    plane = torch.rand(4, 2, generator=generator)
    volume = image(Grid.regular((9, 9, 9)))
    with pytest.raises(InputError, match="expected 3-D points for the fixed image, got 2-D"):
        Landmarks(plane, plane)(volume, volume)


def test_moving_points_in_a_plane_determine_a_rigid_map(generator: torch.Generator) -> None:
    """As where somebody marks one volume in a single slice."""
    grid = Grid.regular((20, 24, 22))
    sources = points_of(grid, generator)
    sources[:, 2] = 0.01 * sources[:, 2] + 10
    targets = sources.clone()
    targets[:, 2] = 7
    matrix = fit(sources, targets, lie.generators("rigid", 3), grid)
    assert torch.allclose(matrix, translation(0.0, 0.0, -3.1), atol=0.2)


def test_the_same_points_give_the_same_map(grid: Grid, generator: torch.Generator) -> None:
    sources = points_of(grid, generator)
    targets = sources + torch.randn(sources.shape, generator=generator, dtype=torch.float64)
    for name in lie.GROUPS:
        group = lie.generators(name, grid.ndim)
        assert torch.equal(fit(sources, targets, group, grid), fit(sources, targets, group, grid)), name


def test_points_are_pixels_of_the_images_as_given(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """However much the finest level is reduced."""
    monkeypatch.setattr(prepare, "LARGEST", {2: 2**10})
    image = np.kron(rng.random((16, 16)), np.ones((4, 4)))
    points = np.array([[10.0, 12], [40, 20], [30, 50]])
    there = points + np.array([6, 4])
    landmarks = {"name": "landmarks", "fixed_points": points, "moving_points": there, "group": "translation"}
    moved = np.roll(image, (4, 6), (0, 1))
    found = register(image, moved, start={"given": landmarks, "refine": False}, schedule={"steps": 1})
    np.testing.assert_allclose(found.to_moving(points), there, atol=1)
    proposed = register(image, moved, start=landmarks).candidates
    np.testing.assert_allclose(next(one for one in proposed if one.source == "landmarks").matrix[:2, 2], [6, 4], atol=1)
