"""Matrices of FSL, FreeSurfer and AFNI map voxels as the package nitransforms maps them, and as these programs document."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from maps import grids, points, same, transform
from problems import oblique

from drmime import InputError
from drmime.geometry.grid import Grid
from drmime.transform.formats.afni import plumb_from_world
from drmime.transform.formats.files import read_transform, write_transform

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS from LPS


class Space(NamedTuple):
    """What nitransforms asks of an image."""

    affine: np.ndarray
    shape: tuple[int, ...]


def space(grid: Grid) -> Space:
    return Space(FLIP @ grid.world_from_index.numpy(), grid.shape[::-1])


def mirrored(grid: Grid) -> Grid:
    """The same voxels stored from the other end of x, so that the determinant changes its sign."""
    last = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
    last[0, 3] = grid.shape[-1] - 1
    return Grid(grid.shape, grid.world_from_index @ last)


FIXED, MOVING = grids(3)
STEEP = oblique((9, 8, 7), (2.0, 1.0, 1.5), offset=30.0)
PAIRS = {
    "oblique, straight": (FIXED, MOVING),
    "straight, oblique": (MOVING, FIXED),
    "mirrored, straight": (mirrored(FIXED), MOVING),
    "oblique, mirrored": (STEEP, mirrored(MOVING)),
    "both mirrored": (mirrored(MOVING), mirrored(STEEP)),
}


def theirs(kind: str) -> Any:
    io = pytest.importorskip("nitransforms.io", reason="nitransforms is not installed: pip install 'drmime[test]'")
    return {"fsl": io.fsl.FSLLinearTransform, "afni": io.afni.AFNILinearTransform, "freesurfer": io.lta.FSLinearTransform}[kind]


def in_ras(matrix: np.ndarray, places: torch.Tensor) -> np.ndarray:
    """Places (N, 3) in LPS mapped by a matrix in RAS."""
    matrix = FLIP @ matrix @ FLIP
    return places.numpy() @ matrix[:3, :3].T + matrix[:3, 3]


NAMES = {"fsl": "a.fsl.mat", "afni": "a.aff12.1D", "freesurfer": "a.lta"}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(("kind", "exact"), [("fsl", 1e-9), ("afni", 1e-9), ("freesurfer", 1e-4)])
def test_nitransforms_reads_what_is_written(kind: str, exact: float, pair: str, tmp_path: Path) -> None:
    fixed, moving = PAIRS[pair]
    made = transform(3)
    write_transform(made, tmp_path / NAMES[kind], None, fixed, moving)
    found = theirs(kind).from_string((tmp_path / NAMES[kind]).read_text())
    mapped = in_ras(found.to_ras(moving=space(moving), reference=space(fixed)), points(fixed))
    assert mapped == pytest.approx(made(points(fixed)).numpy(), abs=exact)  # of an LTA it reads single precision


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(("kind", "exact"), [("fsl", 1e-5), ("afni", 2e-3), ("freesurfer", 1e-4)])
def test_what_nitransforms_writes_is_read(kind: str, exact: float, pair: str, tmp_path: Path) -> None:
    fixed, moving = PAIRS[pair]
    made = transform(3)
    ras = FLIP @ made.matrix.numpy() @ FLIP
    text = theirs(kind).from_ras(ras, moving=space(moving), reference=space(fixed)).to_string()
    (tmp_path / NAMES[kind]).write_text(text)
    found = read_transform(tmp_path / NAMES[kind], None, fixed, moving)
    assert found(points(fixed)).numpy() == pytest.approx(made(points(fixed)).numpy(), abs=exact)  # 8, 6 and 15 digits


@pytest.mark.parametrize("pair", PAIRS)
def test_fsl_counts_millimetres_from_the_end_that_it_documents(pair: str, tmp_path: Path) -> None:
    fixed, moving = PAIRS[pair]
    made = transform(3)
    write_transform(made, tmp_path / "a.mat", "fsl", fixed, moving)
    fixed_from_moving = np.loadtxt(tmp_path / "a.mat")
    for place in points(fixed).numpy():
        there = made(torch.as_tensor(place)[None])[0].numpy()
        lengths = []
        for grid, at in ((fixed, place), (moving, there)):
            voxel = np.linalg.solve(grid.world_from_index.numpy(), [*at, 1])[:3]
            if np.linalg.det(space(grid).affine[:3, :3]) > 0:
                voxel[0] = grid.shape[2] - 1 - voxel[0]
            lengths.append([*(voxel * np.linalg.norm(space(grid).affine[:3, :3], axis=0)), 1])
        assert fixed_from_moving @ lengths[1] == pytest.approx(lengths[0], abs=1e-8)


def test_afni_s_matrices_are_those_of_itk_between_straight_images(tmp_path: Path) -> None:
    fixed, moving = MOVING, mirrored(Grid.regular((20, 21, 22), (2.0, 1.0, 1.5)))
    made = transform(3)
    write_transform(made, tmp_path / "a.aff12.1D", None, fixed, moving)
    lines = (tmp_path / "a.aff12.1D").read_text().splitlines()
    assert lines[0].startswith("#")
    assert np.array(lines[1].split(), float).reshape(3, 4) == pytest.approx(made.matrix[:3].numpy(), abs=1e-12)
    (tmp_path / "b.1D").write_text("\n".join(" ".join(map(str, row)) for row in made.matrix[:3].tolist()))
    same(made, read_transform(tmp_path / "b.1D", None, fixed, moving), fixed)


def test_afni_takes_the_axes_of_an_oblique_image_for_the_nearest_of_the_world() -> None:
    plumb = plumb_from_world(FIXED)
    corner, step = FIXED.world_from_index[:3, 3], FIXED.world_from_index[:3, :3]
    assert plumb(corner[None])[0].tolist() == pytest.approx(corner.tolist())  # the origin is kept
    moved = plumb(corner + step.T) - corner
    assert moved.abs().amax(1).tolist() == pytest.approx(FIXED.spacing.tolist())
    assert (moved.abs() > 1e-9).sum().item() == 3
    fine = Grid.regular((5, 6, 7), (0.00123456, 0.00123456, 0.00123456)).world_from_index @ oblique((5, 6, 7)).world_from_index
    lengths = Grid((5, 6, 7), fine)
    assert abs(float(plumb_from_world(lengths).matrix.det())) == pytest.approx(1)  # a rotation, however small the voxels are


def test_freesurfer_s_own_files_in_voxels_and_in_ras_are_one_transform() -> None:
    package = pytest.importorskip("nitransforms", reason="nitransforms is not installed: pip install 'drmime[test]'")
    data = Path(package.__file__).parent / "tests" / "data"
    files = [data / "bold-to-t1w.lta", data / "bold-to-t1w.v2v.lta"]
    if not all(file.is_file() for file in files):
        pytest.skip("nitransforms was installed without FreeSurfer's files")
    one, other = map(read_transform, files)
    places = points(Grid.regular((200, 200, 200)))
    assert one(places).numpy() == pytest.approx(other(places).numpy(), abs=1e-3)  # single precision of mri_coreg
    array = package.io.lta.FSLinearTransformArray.from_string(files[0].read_text())
    assert in_ras(array.to_ras()[0], places) == pytest.approx(one(places).numpy(), abs=1e-4)


def test_the_volumes_of_an_lta_file_are_moving_then_fixed(tmp_path: Path) -> None:
    write_transform(transform(3), tmp_path / "a.lta", None, FIXED, MOVING)
    found = theirs("freesurfer").from_string((tmp_path / "a.lta").read_text())
    for key, grid in (("src", MOVING), ("dst", FIXED)):
        assert found[key].as_affine() == pytest.approx(space(grid).affine, abs=1e-4)
        assert tuple(found[key].structarr["volume"]) == grid.shape[::-1]
    voxels = np.linalg.inv(space(FIXED).affine) @ found.structarr["m_L"] @ space(MOVING).affine
    text = (tmp_path / "a.lta").read_text().replace("type      = 1", "type      = 0").splitlines()
    start = text.index("1 4 4") + 1
    text[start : start + 4] = [" ".join(map(repr, row)) for row in voxels.tolist()]
    (tmp_path / "b.lta").write_text("\n".join(text))
    assert read_transform(tmp_path / "b.lta")(points(FIXED)).numpy() == pytest.approx(
        read_transform(tmp_path / "a.lta")(points(FIXED)).numpy(), abs=1e-3
    )


ROWS = "1 0 0 2\n0 1 0 3\n0 0 1 4\n"
LTA = f"type = 1\nnxforms = 1\n1 4 4\n{ROWS}0 0 0 1\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.fsl.mat", ""),
        ("a.fsl.mat", ROWS),
        ("a.fsl.mat", f"{ROWS}0 0 0.1 1\n"),
        ("a.fsl.mat", f"{ROWS}0 0 0 x\n"),
        ("a.fsl.mat", f"{ROWS}0 0 0\n"),
        ("a.fsl.mat", "0 0 0 0\n" * 3 + "0 0 0 1\n"),
        ("a.fsl.mat", f"{ROWS.replace('2', 'nan')}0 0 0 1\n"),
        ("a.fsl.mat", f"{ROWS}0 0 0 1\n" + " " * 2**20),
        ("a.aff12.1D", ""),
        ("a.aff12.1D", "# nothing\n"),
        ("a.aff12.1D", f"{' '.join(ROWS.split())}\n" * 2),
        ("a.aff12.1D", "1 2 3"),
        ("a.1D", ROWS.replace("2", "inf")),
        ("a.lta", ""),
        ("a.lta", LTA.replace("type = 1", "type = 14")),
        ("a.lta", LTA.replace("type = 1", "type = 0")),
        ("a.lta", LTA.replace("nxforms = 1", "nxforms = 2")),
        ("a.lta", LTA.replace("1 4 4", "1 3 3")),
        ("a.lta", LTA.replace("0 0 1 4", "0 0 1")),
        ("a.lta", LTA.replace("0 0 0 1", "0 0 1 1")),
        ("a.lta", LTA.replace("0 0 1 4", "0 0 0 4")),
        ("a.lta", "1 4 4\n" * 3),
        ("a.lta", "\0" * 100),
    ],
)
def test_damaged_files_are_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError):
        read_transform(tmp_path / name, None, FIXED, MOVING)


def test_an_lta_file_needs_no_grids(tmp_path: Path) -> None:
    (tmp_path / "a.lta").write_text(LTA)
    moved = read_transform(tmp_path / "a.lta")(torch.zeros(1, 3, dtype=torch.float64))
    assert moved.tolist() == [[2.0, 3.0, -4.0]]  # the inverse of (2, 3, 4) in RAS, in LPS
