"""Deformations in the files of ITK, SimpleITK and ANTs, and what these programs map points to."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from maps import grids, theirs, transform

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.transform.base import Chain, Transform
from drmime.transform.field import FieldTransform
from drmime.transform.formats.files import read_transform, write_transform
from drmime.transform.lattice import Lattice
from drmime.transform.lattice_transform import VelocityTransform

sitk = pytest.importorskip("SimpleITK")
FILES = ("a.h5", "a.tfm", "a_displacements.nii.gz", "a_1Warp.nii.gz", "displacements.mha", "displacements.nrrd")


def deformation(ndim: int, fixed: Grid) -> Transform:
    """An affine map after a flow."""
    lattice = Lattice.over(fixed, 0.5)
    velocities = 0.03 * torch.randn(ndim, *lattice.shape, dtype=torch.float64)
    return transform(ndim) @ VelocityTransform(velocities, lattice, fixed.world_from_frame)


def inner(fixed: Grid, count: int = 40) -> torch.Tensor:
    """World points between the outermost pixel centres."""
    index = torch.rand(count, fixed.ndim, dtype=torch.float64) * (fixed.size - 1)
    return apply(fixed.world_from_index, index, is_affine=True)[0]


def at_pixels(fixed: Grid) -> torch.Tensor:
    index = (inner(fixed) @ fixed.index_from_world[:-1, :-1].mT + fixed.index_from_world[:-1, -1]).round()
    return apply(fixed.world_from_index, index, is_affine=True)[0]


@pytest.mark.parametrize("name", FILES)
def test_what_is_written_comes_back(name: str, ndim: int, tmp_path: Path) -> None:
    fixed, moving = grids(ndim)
    made, points = deformation(ndim, fixed), at_pixels(fixed)
    write_transform(made, tmp_path / name, None, fixed, moving)
    again = read_transform(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert isinstance(again, Chain if name.endswith(("h5", "tfm")) else FieldTransform)
    assert torch.allclose(again(points), made(points), rtol=0, atol=1e-5 * float(fixed.extent.max()))


@pytest.mark.parametrize("name", ["a.h5", "a.tfm"])
def test_simpleitk_maps_points_alike(name: str, ndim: int, tmp_path: Path) -> None:
    fixed, moving = grids(ndim)
    made, points = deformation(ndim, fixed), inner(fixed)
    write_transform(made, tmp_path / name, None, fixed, moving)
    found = sitk.ReadTransform(str(tmp_path / name))
    expected = read_transform(tmp_path / name)(points)
    mapped = np.array([found.TransformPoint(point) for point in points.tolist()])
    assert np.abs(mapped - expected.numpy()).max() < 1e-6 * float(fixed.extent.max())
    assert np.abs(mapped - made(points).numpy()).max() < 0.02 * float(fixed.extent.max())  # linear between pixels


ANTS_MAPS = """
import ants, pandas
points = pandas.DataFrame(POINTS, columns=list("xyz")[: len(POINTS[0])])
print(ants.apply_transforms_to_points(len(POINTS[0]), points, ["a_1Warp.nii.gz"]).to_numpy().tolist())
"""


@pytest.mark.slow
def test_ants_maps_points_alike(ndim: int, tmp_path: Path) -> None:
    if find_spec("ants") is None:
        pytest.skip("ANTsPy is not installed: pip install 'drmime[peers]'")
    fixed, moving = grids(ndim)
    made, points = deformation(ndim, fixed), at_pixels(fixed)
    write_transform(made, tmp_path / "a_1Warp.nii.gz", None, fixed, moving)
    assert np.abs(theirs(ANTS_MAPS, points, tmp_path) - made(points).numpy()).max() < 1e-3 * float(fixed.extent.max())


def test_what_cannot_be_written_or_read_is_one_clear_error(tmp_path: Path) -> None:
    fixed, moving = grids(2)
    with pytest.raises(InputError, match="grid of the fixed image"):
        write_transform(deformation(2, fixed), tmp_path / "a.h5")
    with pytest.raises(InputError, match="one matrix"):
        write_transform(deformation(2, fixed), tmp_path / "a.fsl.mat", None, fixed, moving)
    sitk.WriteTransform(sitk.BSplineTransform(2), str(tmp_path / "b.h5"))
    with pytest.raises(InputError, match="TransformToDisplacementField"):
        read_transform(tmp_path / "b.h5")
    sitk.WriteImage(sitk.Image(5, 5, sitk.sitkFloat64), str(tmp_path / "c_displacements.mha"))
    with pytest.raises(InputError, match="displacement of 2 numbers"):
        read_transform(tmp_path / "c_displacements.mha")
    (tmp_path / "d_displacements.mha").write_text("no image")
    with pytest.raises(InputError, match="cannot be read"):
        read_transform(tmp_path / "d_displacements.mha")
    assert not list(tmp_path.glob("a*"))
