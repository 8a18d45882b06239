"""What a registration carries: other resolutions, other grids, series, files; and registrations composed."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from problems import oblique, rotation, translation
from scipy import ndimage
from test_result import made

import drmime
from drmime import InputError, Registration, Status, Verdict
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import scale_and_shift
from drmime.image.io import read_image, write_image
from drmime.image.pixels import Pixels
from drmime.transform.linear import MatrixTransform
from drmime.verdict.calibration import Range

SHAPES = {2: (24, 33), 3: (12, 14, 17)}


def smooth(points: torch.Tensor) -> np.ndarray:
    """A function of world points (..., D) with details of many pixels."""
    waves = torch.tensor([0.2, -0.13, 0.17], dtype=torch.float64)[: points.shape[-1]]
    return torch.sin(points @ waves).numpy()


def photograph(grid: Grid) -> np.ndarray:
    points = grid.index_points() @ grid.world_from_index[:-1, :-1].mT + grid.world_from_index[:-1, -1]
    return smooth(points).reshape(grid.shape)


# ---- other interpolations


@pytest.mark.parametrize(("name", "order"), [("nearest", 0), ("linear", 1), ("cubic", 3), ("bspline", 3)])
def test_interpolations_are_those_of_scipy(name: str, order: int, ndim: int, rng: np.random.Generator) -> None:
    image = rng.random((30,) * ndim)
    image[(0,) * ndim], image[(-1,) * ndim] = -9, 9  # so that nothing is clipped to the range
    result = made((rotation(ndim, 0.2) @ translation(*[0.37] * ndim)).numpy(), Grid.regular(image.shape))
    points = result.to_moving(result.fixed_grid.index_points()).T[::-1]
    expected = ndimage.map_coordinates(image, points, order=order, mode="mirror").reshape(image.shape)
    inside = np.all((points > 0) & (points < 29), 0).reshape(image.shape)
    assert np.abs(result.warp(image, name) - expected)[inside].max() < 1e-5


@pytest.mark.parametrize(("name", "theirs"), [("cubic", "sitkBSpline"), ("lanczos", "sitkLanczosWindowedSinc")])
def test_interpolations_are_those_of_simpleitk(name: str, theirs: str, ndim: int, rng: np.random.Generator) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = ndimage.gaussian_filter(rng.random((30,) * ndim), 1)
    image[(0,) * ndim], image[(-1,) * ndim] = -9, 9  # so that nothing is clipped to the range
    result = made((rotation(ndim, 0.2) @ translation(*[0.37] * ndim)).numpy(), Grid.regular(image.shape))
    there = sitk.GetImageFromArray(image)
    expected = sitk.GetArrayFromImage(sitk.Resample(there, there, result.to_itk(), getattr(sitk, theirs), -99.0))
    inside = expected > -99
    assert inside.mean() > 0.5
    assert np.abs(result.warp(image, name) - expected)[inside].max() < 1e-5


# ---- coarser and finer


def test_a_coarser_result_is_not_aliased(ndim: int) -> None:
    fine = Grid.regular((96,) * ndim)
    stripes = (np.indices(fine.shape).sum(0) % 2).astype(np.float32)  # alternate from pixel to pixel: gray from afar
    result = made(np.eye(ndim + 1), fine)
    plain, gray = (result.warp(stripes, spacing=3.0, antialias=choice) for choice in (False, True))
    assert plain.shape == gray.shape == (32,) * ndim
    inner = (slice(2, -2),) * ndim
    assert plain[inner].std() > 0.4
    assert np.abs(gray[inner] - 0.5).max() < 0.01


def test_anti_aliasing_changes_nothing_where_nothing_shrinks(ndim: int, rng: np.random.Generator) -> None:
    image = rng.random(SHAPES[ndim])
    result = made(
        (rotation(ndim, 0.3) @ scale_and_shift(torch.full((ndim,), 0.9).double(), torch.zeros(ndim).double())).numpy()
    )
    assert np.array_equal(result.warp(image, antialias=True), result.warp(image, antialias=False))


@pytest.mark.parametrize("factor", [2, 3])
def test_the_same_extent_at_a_finer_resolution_lands_alike(factor: int, ndim: int) -> None:
    coarse = Grid.regular(SHAPES[ndim])
    fine = coarse.resized([n * factor for n in coarse.shape])
    result = made(translation(*[1.5, -0.7, 0.3][:ndim]).numpy(), coarse)
    found = result.warp(photograph(fine), "cubic", same_extent=True, fill=math.nan)
    expected = smooth(result.transform(coarse.index_points())).reshape(coarse.shape)
    inner = (slice(4, -4),) * ndim
    assert np.nanmax(np.abs(found - expected)[inner]) < 0.01
    large = result.warp(photograph(fine), same_extent=True, spacing=1 / factor)
    assert large.shape == fine.shape


def test_what_states_its_geometry_lies_where_that_says(ndim: int) -> None:
    whole = replace(oblique(SHAPES[ndim], (2.0, 0.5, 0.8)[-ndim:], offset=70.0), placed=True)
    part = whole.cut([3] * ndim, [n - 5 for n in whole.shape]).resized([2 * (n - 5) for n in whole.shape])
    axes = tuple(range(ndim))
    result = made(np.eye(ndim + 1), whole)
    found = result.warp(Pixels(photograph(part), part, axes, None), "cubic", fill=math.nan)
    expected = photograph(whole)
    inner = (slice(5, -5),) * ndim
    assert np.abs(found - expected)[inner].max() < 0.02
    assert np.isnan(found[(0,) * ndim])
    elsewhere = whole.cut([1000] * ndim, whole.shape)
    with pytest.raises(InputError, match="overlaps the registered moving image"):
        result.warp(Pixels(photograph(elsewhere), elsewhere, axes, None))


def test_a_spacing_that_was_given_replaces_what_the_file_says() -> None:
    grid = Grid.regular((24, 33), (2.0, 2.0))
    result = made(np.eye(3), grid, settings={"moving_spacing": [2.0, 2.0]})
    other = Grid.regular((24, 33), (0.3, 0.3))
    image = photograph(grid)
    assert np.array_equal(result.warp(Pixels(image, other, (0, 1), None)), image)
    assert result.inverse().settings == {"fixed_spacing": [2.0, 2.0]}


def test_lengths_without_a_place_are_taken_for_the_same_extent(tmp_path: Path) -> None:
    """TIFF states pixel lengths, not where its first pixel lies."""
    coarse = Grid.regular((24, 33), (2.0, 2.0), "µm")
    fine = coarse.resized((96, 132))
    write_image(tmp_path / "fine.tif", photograph(fine).astype(np.float32), fine)
    result = made(np.eye(3), coarse)
    found = result.warp(tmp_path / "fine.tif")
    assert np.array_equal(found, result.warp(photograph(fine).astype(np.float32), same_extent=True))
    assert np.array_equal(found, result.warp(tmp_path / "fine.tif", grid=tmp_path / "fine.tif", spacing=2.0))
    write_image(tmp_path / "part.tif", photograph(fine)[:48].astype(np.float32), fine.cut((0, 0), (48, 132)))
    with pytest.raises(InputError, match="same-extent"):
        result.warp(tmp_path / "part.tif")


def test_nifti_that_states_no_place_lies_on_the_registered_image(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    grid = replace(oblique(SHAPES[3], (2.0, 0.5, 0.8), offset=70.0), placed=True)
    image = nibabel.Nifti1Image(photograph(grid).T.astype(np.float32), None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nibabel.save(image, tmp_path / "a.nii")
    result = made(np.eye(4), grid)
    assert np.array_equal(result.warp(tmp_path / "a.nii"), photograph(grid).astype(np.float32))


def test_a_place_at_the_origin_is_one(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    grid = Grid.regular(SHAPES[3])
    moved = grid.cut((0, 0, 5), grid.shape)
    pixels = photograph(grid).astype(np.float32)
    for name, one in (("a", grid), ("b", moved)):
        write_image(tmp_path / f"{name}.mha", pixels, one)
    result = made(np.eye(4), read_image(tmp_path / "a.mha").grid)
    assert np.array_equal(result.warp(tmp_path / "b.mha")[..., 5:], pixels[..., :-5])


def test_masked_pixels_have_no_value(rng: np.random.Generator) -> None:
    image = np.ma.masked_array(np.full((24, 33), 7, np.int32))
    image[5, 5] = -9999
    image[5, 5] = np.ma.masked
    image.data[5, 5] = -9999
    found = made(translation(0.4, 0.3).numpy()).warp(image, "cubic", fill=-1)
    assert set(np.unique(found).tolist()) == {7, -1}
    assert (found == -1).sum() == 1


def test_a_grid_without_the_image_is_told() -> None:
    result = made(np.eye(3))
    with pytest.raises(InputError, match="meets the warped image"):
        result.warp(np.zeros((24, 33)), grid=result.fixed_grid.cut((100, 0), (9, 9)))


def test_an_image_in_pixels_must_have_the_shape() -> None:
    result = made(np.eye(3))
    with pytest.raises(InputError, match="--same-extent"):
        result.warp(np.zeros((48, 66)))
    with pytest.raises(InputError, match=r"shape \(24, 33\)"):
        result.warp(np.zeros((24, 33, 9)), same_extent=True)


# ---- grids of the result


def test_the_union_holds_both_images(ndim: int) -> None:
    fixed, moving = (
        oblique(SHAPES[ndim], (2.0, 0.5, 0.8)[-ndim:], offset=70.0),
        Grid.regular((9, 8, 7)[:ndim], (3.0, 2.0, 1.0)[:ndim]),
    )
    matrix = translation(*(moving.centre - fixed.centre)) @ translation(*[5.0] * ndim)
    result = made(matrix.numpy(), fixed, moving)
    union = result.output_grid("union")
    back = result.transform.inverse()(moving.corners())
    index = back @ union.index_from_world[:-1, :-1].mT + union.index_from_world[:-1, -1]
    assert (index > -0.5 - 1e-6).all()
    assert (index < union.size - 0.5 + 1e-6).all()
    whole = union.index_from_world @ fixed.world_from_index
    assert torch.allclose(whole[:-1, -1], whole[:-1, -1].round(), atol=1e-9)  # fixed pixels are pixels of the union
    ones = result.warp(np.ones(moving.shape), "nearest", grid="union")
    assert ones.sum() * math.prod(fixed.spacing.tolist()) == pytest.approx(math.prod(moving.extent.tolist()), rel=0.15)


def test_grids_of_ones_own() -> None:
    result = made(translation(2.0, 1.0).numpy())
    image = np.arange(24 * 33.0).reshape(24, 33)
    cut = result.fixed_grid.cut([2, 3], [5, 6])
    assert np.array_equal(result.warp(image, grid=cut), result.warp(image)[2:7, 3:9])
    assert result.warp(image, grid=np.zeros((9, 11))).shape == (9, 11)
    assert result.output_grid("union").shape == (25, 35)
    assert result.output_grid(spacing=[2.0, 3.0]).shape == (12, 11)
    for grid, spacing in ((Grid.regular((4, 4, 4)), None), ("fixed", 0), ("fixed", [1, 2, 3]), ("fixed", "a"), ("fixed", 1e-9)):
        with pytest.raises(InputError):
            result.output_grid(grid, spacing)
    with pytest.raises(InputError):
        result.output_grid("fixd")
    tilted = np.eye(3)
    tilted[2, 0] = -0.05
    with pytest.raises(InputError, match="horizon"):
        made(np.linalg.inv(tilted)).output_grid("union")


# ---- labels


@pytest.mark.parametrize("kind", ["uint16", "uint32", "int64"])
@pytest.mark.parametrize("interpolation", ["nearest", "majority"])
def test_no_new_label_appears(interpolation: str, kind: str, ndim: int, rng: np.random.Generator) -> None:
    names = np.array([0, 3, np.iinfo(kind).max, np.iinfo(kind).max - 1], kind)
    labels = names[rng.integers(0, 4, SHAPES[ndim])]
    result = made((rotation(ndim, 0.4) @ translation(*[0.3] * ndim)).numpy())
    for spacing in (None, 2.5, 0.6):
        warped = result.warp_labels(labels, fill=3, interpolation=interpolation, spacing=spacing)
        assert warped.dtype == labels.dtype
        assert set(np.unique(warped).tolist()) == set(names.tolist())
    assert np.array_equal(made(np.eye(ndim + 1)).warp_labels(labels, interpolation=interpolation), labels)


def test_the_majority_is_the_label_that_covers_most(ndim: int, rng: np.random.Generator) -> None:
    labels = rng.integers(0, 3, (18,) * ndim)
    result = made(np.eye(ndim + 1), Grid.regular(labels.shape))
    found = result.warp_labels(labels, interpolation="majority", spacing=3.0)
    blocks = labels.reshape(*[6, 3] * ndim).transpose(*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2)).reshape(*[6] * ndim, -1)
    counts = np.stack([(blocks == label).sum(-1) for label in range(3)])
    assert np.array_equal(np.take_along_axis(counts, found[None], 0)[0], counts.max(0))
    with pytest.raises(InputError, match="interpolation of labels"):
        result.warp_labels(labels, interpolation="linear")
    with pytest.raises(InputError, match="unknown interpolation"):
        result.warp(labels, "majority")


# ---- series


def test_time_and_channels_are_warped_alike(rng: np.random.Generator) -> None:
    movie = rng.integers(0, 200, (4, 24, 33, 2)).astype(np.uint8)
    result = made(rotation(2, 0.2).numpy())
    found = result.warp(movie, channel_axis=(0, -1))
    assert found.shape == movie.shape
    for time in range(4):
        for channel in range(2):
            assert np.array_equal(found[time, :, :, channel], result.warp(movie[time, :, :, channel]))
    for axes in ((0, 9), (0, 0), ("a", 0)):
        with pytest.raises(InputError, match="channel_axis"):
            result.warp(movie, channel_axis=axes)


@pytest.mark.parametrize("axes", ["TCYX", "TYX", "TZYX", "CTYX", "TYXS", "TZCYX", "CYX"])
def test_a_tiff_keeps_its_axes_and_lengths(axes: str, tmp_path: Path, rng: np.random.Generator) -> None:
    lengths = {"T": 5, "C": 2, "Z": 9, "Y": 24, "X": 33, "S": 3}
    movie = rng.integers(0, 200, [lengths[axis] for axis in axes]).astype(np.uint8)
    metadata = {"axes": axes, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, **({"PhysicalSizeZ": 2.0} if "Z" in axes else {})}
    colour = "rgb" if axes.endswith("S") else "minisblack"
    tifffile.imwrite(tmp_path / "movie.ome.tif", movie, ome=True, photometric=colour, metadata=metadata)
    grid = Grid.regular(*(((9, 24, 33), (2.0, 0.5, 0.5)) if "Z" in axes else ((24, 33), (0.5, 0.5))))
    result = made(np.eye(grid.ndim + 1), grid)
    result.warp_file(tmp_path / "movie.ome.tif", tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.series[0].axes == axes
        assert np.array_equal(file.series[0].asarray(), movie)
    assert read_image(tmp_path / "out.tif").grid.spacing.tolist() == grid.spacing.tolist()
    assert result.warp(tmp_path / "movie.ome.tif").shape == movie.shape


def test_a_tiff_without_lengths_keeps_its_axes_too(tmp_path: Path, rng: np.random.Generator) -> None:
    for axes, shape in (("CYX", (20, 20, 20)), ("CYX", (3, 20, 20)), ("ZCYX", (9, 2, 20, 20)), ("TYX", (3, 20, 20))):
        pixels = rng.integers(0, 200, shape).astype(np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata={"axes": axes})
        spatial = [length for axis, length in zip(axes, shape, strict=True) if axis in "ZYX"]
        made(np.eye(len(spatial) + 1), Grid.regular(spatial)).warp_file(tmp_path / "a.tif", tmp_path / "b.tif")
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            assert file.series[0].axes == axes
            assert np.array_equal(file.series[0].asarray(), pixels)


def test_time_is_no_colour(tmp_path: Path, rng: np.random.Generator) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", rng.random((3, 24, 33)).astype(np.float32), photometric="minisblack", metadata={"axes": "TYX"}
    )
    for ending in ("png", "mha", "nrrd"):
        with pytest.raises(InputError, match="holds one image"):
            made(np.eye(3)).warp_file(tmp_path / "a.tif", tmp_path / f"b.{ending}")


def test_labels_of_a_series(tmp_path: Path, rng: np.random.Generator) -> None:
    labels = rng.integers(0, 9, (4, 24, 33)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="minisblack", metadata={"axes": "TYX"})
    result = made(translation(2.0, 1.0).numpy())
    assert np.array_equal(result.warp_labels(tmp_path / "a.tif")[:, :-1, :-2], labels[:, 1:, 2:])
    result.warp_file(tmp_path / "a.tif", tmp_path / "b.tif", labels=True)
    assert np.array_equal(read_image(tmp_path / "b.tif").array[:, :-1, :-2], labels[:, 1:, 2:])
    with pytest.raises(InputError, match="keeps labels"):
        result.warp_file(labels[0], tmp_path / "b.jpg", labels=True)


@pytest.mark.parametrize(("unit", "ending"), [("mm", "tif"), ("µm", "nii"), ("µm", "mha"), ("µm", "tif"), ("mm", "nii")])
def test_units_are_written(unit: str, ending: str, tmp_path: Path) -> None:
    for package in ("nibabel", "SimpleITK"):
        pytest.importorskip(package)
    grid = Grid.regular(SHAPES[3], (2.0, 0.5, 0.5), unit)
    made(np.eye(4), grid).warp_file(photograph(grid).astype(np.float32), tmp_path / f"a.{ending}")
    back = read_image(tmp_path / f"a.{ending}").grid
    micrometres = {"mm": 1e3, "µm": 1.0}
    assert (back.spacing * micrometres[back.unit]).tolist() == pytest.approx((grid.spacing * micrometres[unit]).tolist())


def test_a_series_gives_its_grid(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(np.zeros((17, 14, 12, 6), np.float32), np.diag([-1.0, -1, 1, 1])), tmp_path / "a.nii")
    grid = replace(Grid.regular((12, 14, 17)), placed=True)
    assert made(np.eye(4), grid).output_grid(tmp_path / "a.nii").shape == (12, 14, 17)


def test_a_series_in_nifti_stays_one(tmp_path: Path, rng: np.random.Generator) -> None:
    nibabel = pytest.importorskip("nibabel")
    movie = rng.random((10, 12, 9, 5)).astype(np.float32)  # x, y, z, time
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(movie, affine), tmp_path / "movie.nii.gz")
    grid = drmime.as_image(tmp_path / "movie.nii.gz", channel=0, channel_axis=0).grid
    result = made(np.eye(4), grid)
    result.warp_file(tmp_path / "movie.nii.gz", tmp_path / "out.nii.gz")
    back = nibabel.load(tmp_path / "out.nii.gz")
    assert np.array_equal(np.asarray(back.dataobj), movie)
    assert np.allclose(back.affine, affine)
    assert back.header["pixdim"][4] == 0  # the time step is not carried, so none is stated


# ---- composition


def registration(matrix: Any, fixed: Grid, moving: Grid, probability: float = 0.9, error: float = 3.0) -> Registration:
    verdict = Verdict(Status.ALIGNED, probability, Range(error, 1.0, 6.0), Range(error, 1.0, 6.0), {})
    return made(matrix, fixed, moving, verdict=verdict)


def test_a_chain_reads_the_source_once(ndim: int) -> None:
    a, b, c = (Grid.regular([n + add for n in SHAPES[ndim]]) for add in (0, 2, 5))
    first = registration((rotation(ndim, 0.2) @ translation(*[0.4] * ndim)).numpy(), a, b)
    second = registration((translation(*[1.3] * ndim) @ rotation(ndim, -0.1)).numpy(), b, c)
    both = second @ first
    points = np.random.default_rng(0).random((7, ndim)) * 9
    assert both.to_moving(points) == pytest.approx(second.to_moving(first.to_moving(points)), abs=1e-12)
    assert both.to_fixed(points) == pytest.approx(first.to_fixed(second.to_fixed(points)), abs=1e-12)
    inner = (slice(5, -5),) * ndim
    expected = smooth(MatrixTransform(both.matrix)(a.index_points())).reshape(a.shape)[inner]
    once, twice = both.warp(photograph(c)), first.warp(second.warp(photograph(c)))
    assert np.abs(once[inner] - expected).max() < 0.8 * np.abs(twice[inner] - expected).max()


def test_the_verdict_of_a_chain_is_that_of_both(tmp_path: Path) -> None:
    grid = Grid.regular((24, 33))
    double = scale_and_shift(torch.full((2,), 2.0).double(), torch.zeros(2).double()).numpy()
    first = registration(np.eye(3), grid, grid, 0.9, 3.0)
    second = registration(double, grid, Grid.regular((48, 66)), 0.6, 4.0)
    both = second @ first
    assert both.verdict.probability == pytest.approx(0.54)
    assert both.verdict.status is Status.ALIGNED
    assert both.verdict.expected_error.median == pytest.approx(math.hypot(4.0, 2 * 3.0))
    assert (both @ registration(np.eye(3), grid, grid, 0.5)).verdict.status is Status.DOUBTFUL
    assert both.overlap == 1.0
    assert "Composed" in str(both)
    both.save(tmp_path / "both.json")
    assert Registration.load(tmp_path / "both.json").to_moving([[1, 2]]).tolist() == [[2.0, 4.0]]


def test_registrations_of_other_images_are_not_composed() -> None:
    first = registration(np.eye(3), Grid.regular((24, 33)), Grid.regular((24, 33)))
    other = registration(np.eye(3), Grid.regular((24, 34)), Grid.regular((24, 33)))
    with pytest.raises(InputError, match=r"shape \(24, 34\)"):
        other @ first
    with pytest.raises(TypeError):
        first @ 3
    finer = registration(np.eye(3), Grid.regular((24, 33)).resized((48, 66)), Grid.regular((24, 33)))
    assert (finer @ first).moving_grid.shape == (24, 33)


# ---- files


def test_a_warped_file_has_the_geometry_of_the_result(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    grid = oblique(SHAPES[3], (2.0, 0.5, 0.8), offset=70.0)
    result = made(np.eye(4), grid)
    write_image(tmp_path / "a.mha", photograph(grid).astype(np.float32), grid)
    result.warp_file(tmp_path / "a.mha", tmp_path / "b.mha", grid="union", spacing=1.0)
    found = read_image(tmp_path / "b.mha").grid
    assert torch.allclose(found.world_from_index, result.output_grid("union", 1.0).world_from_index)
    with pytest.raises(InputError, match="ending"):
        result.warp_file(tmp_path / "a.mha", tmp_path / "b.abc")
    assert {path.name for path in tmp_path.iterdir()} == {"a.mha", "b.mha"}
