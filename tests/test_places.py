"""Places of a box by a lattice: those of the mapping itself."""

import numpy as np
import pytest
import torch
from problems import rotation, translation

from drmime.geometry.grid import Grid
from drmime.transform import places as module
from drmime.transform.field import FieldTransform
from drmime.transform.lattice import Lattice
from drmime.transform.lattice_transform import VelocityTransform
from drmime.transform.linear import MatrixTransform
from drmime.transform.places import SIDE, TOLERANCE, boxes, places

SHAPES = {2: (90, 120), 3: (40, 30, 50)}


def flow(ndim: int, size: float) -> VelocityTransform:
    """A smooth deformation; velocities have standard deviation `size` in units of half the longest side."""
    grid = Grid.regular(SHAPES[ndim])
    lattice = Lattice.over(grid, 0.4)
    velocities = size * torch.randn(ndim, *lattice.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return VelocityTransform(velocities, lattice, grid.world_from_frame)


def exact(mapping: object, first: tuple[float, ...], shape: tuple[int, ...]) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) + f for n, f in zip(shape, first, strict=True)], indexing="ij"), -1)
    points = torch.as_tensor(index.reshape(-1, len(shape))[:, ::-1].copy())
    return mapping(points).numpy().T[::-1]  # type: ignore[operator]


def test_of_a_matrix_they_are_exact(ndim: int) -> None:
    mapping = MatrixTransform(translation(*[1.5, -2.0, 0.25][:ndim]) @ rotation(ndim, 0.3))
    first = (3.0, 0.5, 7.0)[:ndim]
    assert np.array_equal(places(mapping, first, SHAPES[ndim]), exact(mapping, first, SHAPES[ndim]))


@pytest.mark.parametrize("size", [0.01, 0.1])
def test_of_a_deformation_they_are_right_to_a_share_of_a_pixel(size: float, ndim: int) -> None:
    mapping, first = flow(ndim, size), (5.0, 3.0, 2.0)[:ndim]
    found = places(mapping, first, SHAPES[ndim])
    assert np.abs(found - exact(mapping, first, SHAPES[ndim])).max() < 2 * TOLERANCE


def test_a_lattice_takes_few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    mapped = module._mapped
    monkeypatch.setattr(
        module, "_mapped", lambda mapping, axes: asked.append(np.prod([*map(len, axes)])) or mapped(mapping, axes)
    )
    places(flow(2, 0.01), (0.0, 0.0), SHAPES[2])
    assert sum(asked) < np.prod(SHAPES[2]) / 5


def test_small_boxes_and_thin_ones_are_computed_too(ndim: int) -> None:
    mapping = flow(ndim, 0.02)
    for shape in ((1, 1, 1), (1, 40, 3), (40, 2, 5)):
        found = places(mapping, (1.0,) * ndim, shape[:ndim])
        assert np.abs(found - exact(mapping, (1.0,) * ndim, shape[:ndim])).max() < 2 * TOLERANCE


def test_boxes_fill_a_shape_once(ndim: int) -> None:
    shape = (70, 64, 33)[:ndim]
    count = np.zeros(shape, int)
    for first, size in boxes(shape, 32):
        count[tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))] += 1
    assert (count == 1).all()


def test_a_map_whose_detail_is_not_known_is_computed_at_every_pixel() -> None:
    grid = Grid.regular((128, 128))
    rows, columns = np.mgrid[:128, :128]
    bump = 3 * np.exp(-((rows - 50) ** 2 + (columns - 51) ** 2) / 4.5)  # between the nodes of a lattice
    field = FieldTransform(torch.as_tensor(np.stack([bump, 0 * bump])), grid)
    for mapping in (field, MatrixTransform(translation(0.5, 0.0)) @ field, field.inverse()):
        found = places(mapping, (0.0, 0.0), (128, 128))
        assert np.allclose(found, exact(mapping, (0.0, 0.0), (128, 128)), rtol=0, atol=1e-9, equal_nan=True)


def test_the_detail_of_a_chain_is_in_its_own_units() -> None:
    velocity = flow(2, 0.01)
    doubled = MatrixTransform(torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)))
    assert velocity.detail == pytest.approx(0.4 * 60)
    assert (velocity @ doubled).detail == pytest.approx(velocity.detail / 2)
    assert (doubled @ velocity).detail == velocity.detail
    assert velocity.inverse().detail == velocity.detail
    assert np.isinf(doubled.detail)


def test_long_boxes_are_made_of_parts() -> None:
    mapping, shape = flow(2, 0.01), (3, 2 * SIDE + 5)
    found = places(mapping, (40.0, 0.0), shape)
    assert np.abs(found - exact(mapping, (40.0, 0.0), shape)).max() < 2 * TOLERANCE
