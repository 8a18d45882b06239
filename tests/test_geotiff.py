"""GeoTIFF: worlds are those of the files, what is warped keeps the georeference, and wrong files are told in one sentence."""

import importlib.util
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from textures import busy

from drmime import InputError, Registration, as_image, register, register_stack, stitch
from drmime.cli import main
from drmime.geometry.grid import Grid
from drmime.image import geotiff, source, tiff
from drmime.image.io import open_source, read_image, write_image
from drmime.info import describe, report
from drmime.pictures import thumbnail
from drmime.transform.grids import grid_of

rasterio = pytest.importorskip("rasterio", reason="GeoTIFF files need rasterio: pip install 'drmime[geo]'")

WEST, NORTH, SIDE = 500000.0, 4649776.0, 10.0  # of the first pixel's outer corner; metres
SHAPE = (90, 110)
QUICK: dict[str, Any] = {"transform": "translation", "levels": 2, "schedule": {"steps": 60}, "device": "cpu"}


def north_up(west: float = WEST, north: float = NORTH, side: float = SIDE) -> Any:
    return rasterio.Affine(side, 0, west, 0, -side, north)


def write(path: Path, array: np.ndarray, overviews: int = 0, **options: Any) -> Path:
    """A GeoTIFF of bands (C, H, W) or of one band (H, W)."""
    bands = array if array.ndim == 3 else array[None]
    form = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.open(path, "w", **{**form, "crs": "EPSG:32633", "transform": north_up(), **options}) as data,
    ):
        data.write(bands)
        if overviews:
            data.build_overviews([2**number for number in range(1, overviews + 1)], rasterio.enums.Resampling.average)
    return path


def scene(shift: tuple[float, float] = (0.0, 0.0), shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A texture of 8 bits, moved by (x, y) pixels."""
    grid = Grid.regular(shape)
    values = busy(grid, seed=3)(grid.index_points() - torch.tensor(shift, dtype=torch.float64)).view(shape).numpy()
    return np.rint(1 + 250 * (values - values.min()) / np.ptp(values)).astype(np.uint8)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(tmp_path / "image.tif", scene())


def test_the_world_is_that_of_pixel_centres_in_the_crs(image: Path) -> None:
    grid = grid_of(image)
    assert grid.world_from_index.tolist() == [[SIDE, 0, WEST + SIDE / 2], [0, -SIDE, NORTH - SIDE / 2], [0, 0, 1]]
    assert (grid.crs, grid.unit, grid.placed) == ("EPSG:32633", "m", True)
    with rasterio.open(image) as data:
        x, y = (grid.world_from_index[:2] @ torch.tensor([5.0, 7, 1], dtype=torch.float64)).tolist()
        assert data.index(x, y) == (7, 5)
        assert (data.transform.c + 5.5 * SIDE, data.transform.f - 7.5 * SIDE) == (x, y)


def test_pixel_is_point_gives_the_same_places(tmp_path: Path) -> None:
    path = write(tmp_path / "point.tif", scene())
    with rasterio.open(path, "r+") as data:
        data.update_tags(AREA_OR_POINT="Point")
    with rasterio.open(path) as data:
        assert data.tags()["AREA_OR_POINT"] == "Point"
    assert grid_of(path).world_from_index[:2, 2].tolist() == [WEST + SIDE / 2, NORTH - SIDE / 2]


@pytest.mark.parametrize("code", [4326, 3857, 2263, 3035])
def test_units_are_those_of_the_crs(tmp_path: Path, code: int) -> None:
    grid = grid_of(write(tmp_path / "a.tif", scene(), crs=f"EPSG:{code}"))
    assert grid.unit == {4326: "°", 2263: "US survey foot"}.get(code, "m")
    assert grid.crs == f"EPSG:{code}"


def test_a_crs_without_a_code_is_kept(tmp_path: Path) -> None:
    own = "+proj=tmerc +lat_0=1 +lon_0=12.3 +k=0.9996 +x_0=7 +y_0=0 +datum=WGS84 +units=m"
    path = write(tmp_path / "a.tif", scene(), crs=own)
    grid = grid_of(path)
    assert grid.crs.startswith("PROJCS")
    write_image(tmp_path / "b.tif", scene(), grid)
    assert grid_of(tmp_path / "b.tif").crs == grid.crs


@pytest.mark.parametrize(
    "transform",
    [
        rasterio.Affine(7, 3, WEST, 3, -7, NORTH),
        rasterio.Affine(10, 0, WEST, 0, 10, NORTH),  # the first row is in the south
        rasterio.Affine(10, 2, WEST, 0, -9, NORTH),  # sheared
    ],
)
def test_any_invertible_georeference_is_kept(tmp_path: Path, transform: Any) -> None:
    grid = grid_of(write(tmp_path / "a.tif", scene(), transform=transform))
    assert np.allclose(grid.world_from_index[:2, :2].numpy().ravel(), [transform.a, transform.b, transform.d, transform.e])
    write_image(tmp_path / "b.tif", scene(), grid)
    with rasterio.open(tmp_path / "b.tif") as data:
        assert data.transform.almost_equals(transform, 1e-6)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"photometric": "rgb", "interleave": "pixel"}, "YXS"),
        ({"interleave": "pixel", "photometric": "minisblack"}, "YXC"),
        ({"interleave": "band"}, "CYX"),
    ],
)
def test_bands_keep_their_order_through_a_file(tmp_path: Path, options: dict[str, str], names: str) -> None:
    bands = np.stack([scene(), scene()[::-1], scene()[:, ::-1]])
    pixels = read_image(write(tmp_path / "a.tif", bands, nodata=0, **options))
    assert pixels.names == names
    assert np.array_equal(pixels.array if names == "CYX" else np.moveaxis(pixels.array, -1, 0), bands)
    write_image(tmp_path / "b.tif", pixels.array, pixels.grid, pixels.names, pixels.nodata)
    again = read_image(tmp_path / "b.tif")
    assert (again.names, again.nodata) == (names, 0)
    assert np.array_equal(again.array, pixels.array)
    with rasterio.open(tmp_path / "b.tif") as data:
        assert (data.count, data.nodata, data.crs.to_epsg(), data.transform) == (3, 0, 32633, north_up())


@pytest.mark.parametrize("compress", ["deflate", "lzw", "zstd", "lerc", "jpeg"])
def test_compressed_files_are_read(tmp_path: Path, compress: str) -> None:
    found = read_image(write(tmp_path / "a.tif", scene(), compress=compress)).array
    assert np.abs(found.astype(int) - scene()).max() <= (40 if compress == "jpeg" else 0)


def test_no_data_and_opacity_are_masks(tmp_path: Path) -> None:
    array = scene().astype(np.float32)
    array[:20] = -9999
    image = as_image(write(tmp_path / "a.tif", array, nodata=-9999))
    assert image.mask is not None
    assert np.array_equal(image.mask[0, 0].numpy() > 0, array > 0)
    array[:20] = np.nan
    assert as_image(write(tmp_path / "b.tif", array, nodata=np.nan)).mask is not None
    colours = np.stack([scene(), scene(), scene(), np.where(np.arange(SHAPE[1]) < 30, 0, 255) * np.ones(SHAPE)]).astype(
        np.uint8
    )
    opaque = as_image(write(tmp_path / "c.tif", colours, photometric="rgb", alpha="yes"))
    assert opaque.mask is not None
    assert not opaque.mask[0, 0, :, :30].any()
    assert opaque.mask[0, 0, :, 30:].all()
    assert as_image(write(tmp_path / "d.tif", scene())).mask is None
    assert read_image(write(tmp_path / "e.tif", scene(), nodata=0)).mask is None  # no pixel has this value


def test_a_fourth_band_is_no_opacity_unless_the_file_says_so(tmp_path: Path) -> None:
    bands = np.stack([scene(), scene(), scene(), np.zeros(SHAPE, np.uint8)])
    pixels = read_image(write(tmp_path / "a.tif", bands, interleave="pixel", photometric="minisblack", alpha="no"))
    assert pixels.mask is None
    write_image(tmp_path / "b.tif", pixels.array, pixels.grid, pixels.names)
    assert read_image(tmp_path / "b.tif").mask is None


def test_a_palette_gives_colours_and_labels_its_indices(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", (scene() > 128).astype(np.uint8))
    with rasterio.open(path, "r+") as data:
        data.write_colormap(1, {0: (10, 20, 30, 255), 1: (200, 100, 0, 255)})
    colours = read_image(path)
    assert np.array_equal(colours.array[scene() > 128][0], [200, 100, 0])
    assert colours.grid is not None
    assert np.array_equal(read_image(path, labels=True).array, scene() > 128)


def test_a_palette_with_overviews_gives_colours_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", (scene() > 128).astype(np.uint8))
    with rasterio.open(path, "r+") as data:
        data.write_colormap(1, {0: (10, 20, 30, 255), 1: (200, 100, 0, 255)})
        data.build_overviews([2])
    assert open_source(path) is None  # indices are not averaged
    assert np.array_equal(read_image(path).array[scene() > 128][0], [200, 100, 0])


def test_no_data_does_not_darken_pictures(tmp_path: Path) -> None:
    elevations = scene().astype(np.float32)
    elevations[:10, :10] = -9999
    path = write(tmp_path / "a.tif", elevations, nodata=-9999)
    shown = thumbnail(path, 100)
    assert (shown[:9, :9] == shown.min()).all()
    assert shown[20:].std() > 30


def test_a_stack_of_both_kinds_of_world_leaves_out_those_unlike_the_first(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.tif", scene((2 * number, 0))) for number in range(2)]
    found = register_stack([*paths, scene((4, 0))], **QUICK)
    assert found.ruined == (2,)
    assert "georeference" in found.errors[2]


@pytest.mark.parametrize("origin", [(0.0, 0.0), (WEST, NORTH)])
def test_a_shift_is_found_in_metres_wherever_the_origin_is(tmp_path: Path, origin: tuple[float, float]) -> None:
    fixed = write(tmp_path / "fixed.tif", scene(), transform=north_up(*origin))
    moving = write(tmp_path / "moving.tif", scene((4, -3)), transform=north_up(*origin))
    result = register(fixed, moving, **QUICK)
    assert result.verdict.status == "aligned"
    centre = result.fixed_grid.centre.numpy()
    assert (result.to_moving([centre]) - centre)[0] == pytest.approx([40, 30], abs=1.5)  # 3 rows up are 30 m north
    result.warp_file(moving, tmp_path / "warped.tif", fill=0)
    with rasterio.open(fixed) as one, rasterio.open(tmp_path / "warped.tif") as other:
        assert (one.crs, one.transform, one.shape) == (other.crs, other.transform, other.shape)
        assert np.abs(one.read(1)[5:-5, 5:-5].astype(int) - other.read(1)[5:-5, 5:-5]).mean() < 2


@pytest.mark.parametrize("transform", ["rigid", "affine"])
def test_the_result_does_not_depend_on_the_origin(tmp_path: Path, transform: str) -> None:
    corners = []
    for number, origin in enumerate([(0.0, 0.0), (WEST, NORTH)]):
        paths = [
            write(tmp_path / f"{number}-{name}.tif", scene(shift), transform=north_up(*origin))
            for name, shift in (("fixed", (0.0, 0.0)), ("moving", (3.0, 2.0)))
        ]
        result = register(*paths, **(QUICK | {"transform": transform}))
        points = result.fixed_grid.corners().numpy()
        corners.append(result.to_moving(points) - points)
    assert np.abs(corners[0] - corners[1]).max() < 0.05 * SIDE


def test_images_of_other_places_in_one_world_map_by_what_is_left(tmp_path: Path) -> None:
    """Parts of one scene whose georeferences are right: the map is the identity of the world."""
    whole = scene(shape=(120, 140))
    fixed = write(tmp_path / "fixed.tif", whole[:100, :120])
    moving = write(tmp_path / "moving.tif", whole[15:, 12:], transform=north_up(WEST + 12 * SIDE, NORTH - 15 * SIDE))
    result = register(fixed, moving, **QUICK)
    assert np.abs(result.matrix - np.eye(3)).max() < 0.2 * SIDE
    known = register(fixed, moving, **(QUICK | {"start": {"given": "identity", "propose": None}}))
    assert np.abs(known.matrix - np.eye(3)).max() < 0.1 * SIDE


def test_other_reference_systems_are_an_error_that_names_both(tmp_path: Path, image: Path) -> None:
    other = write(tmp_path / "other.tif", scene(), crs="EPSG:4326")
    with pytest.raises(InputError, match=r"EPSG:32633 of the fixed image and EPSG:4326 of the moving image\. Reproject"):
        register(image, other, **QUICK)
    with pytest.raises(InputError, match="EPSG:4326"):
        register(image, image, **QUICK).warp(other)
    assert "EPSG:4326" in report([image, other])[0]
    same = write(tmp_path / "same.tif", scene(), crs=rasterio.CRS.from_epsg(32633).to_wkt(version="WKT1_ESRI"))
    assert grid_of(same).crs == "EPSG:32633"


def test_a_transform_without_a_crs_goes_with_any(tmp_path: Path, image: Path) -> None:
    other = write(tmp_path / "other.tif", scene((2, 0)), crs=None)
    assert (grid_of(other).crs, grid_of(other).unit) == ("unknown", "")
    result = register(other, image, **QUICK)
    result.warp_file(image, tmp_path / "warped.tif")
    with rasterio.open(tmp_path / "warped.tif") as data:
        assert (data.crs, data.transform) == (None, north_up())


def test_an_image_without_georeference_is_registered_with_y_upwards(tmp_path: Path, image: Path) -> None:
    plain = scene((4, -3))
    result = register(image, plain, **QUICK)
    assert "not georeferenced" in " ".join(result.notes)
    assert result.verdict.status == "aligned"
    assert result.landmark_errors([[50, 40]], [[54, 37]]).max() < 0.15 * SIDE
    np.save(tmp_path / "plain.npy", plain)
    assert "are taken to be as long. Give moving_spacing" in report([image, tmp_path / "plain.npy"])[0]
    back = register(plain, image, **QUICK)
    assert back.landmark_errors([[54, 37]], [[50, 40]]).max() < 0.15 * SIDE
    result.warp_file(plain, tmp_path / "placed.tif")
    with rasterio.open(tmp_path / "placed.tif") as data:
        assert (data.crs.to_epsg(), data.transform) == (32633, north_up())
    finer = register(image, np.kron(plain, np.ones((2, 2), np.uint8)), moving_spacing=(5, 5), **QUICK)
    assert finer.landmark_errors([[50, 40]], [[108.5, 74.5]]).max() < 0.15 * SIDE


def test_a_saved_registration_keeps_the_crs(tmp_path: Path, image: Path) -> None:
    result = register(image, image, **QUICK)
    result.save(tmp_path / "t.json")
    loaded = Registration.load(tmp_path / "t.json")
    assert loaded.fixed_grid.crs == loaded.moving_grid.crs == "EPSG:32633"
    state = json.loads((tmp_path / "t.json").read_text())
    del state["fixed"]["crs"]  # as before there were any
    (tmp_path / "t.json").write_text(json.dumps(state))
    assert Registration.load(tmp_path / "t.json").fixed_grid.crs == ""


# ---- levels


@pytest.fixture
def cog(tmp_path: Path) -> Path:
    array = scene(shape=(300, 420)).astype(np.int16)
    array[:60, :70] = -1
    options = {"driver": "COG", "blocksize": 128, "overview_resampling": "nearest", "compress": "deflate", "nodata": -1}
    return write(tmp_path / "cog.tif", array, **options)


def test_overviews_are_levels_that_are_read_by_region(cog: Path) -> None:
    levels = open_source(cog)
    assert levels is not None
    assert [grid.shape for grid in levels.grids()] == [(300, 420), (150, 210), (75, 105)]
    assert levels.grids()[1].world_from_index[:2, 2].tolist() == [WEST + SIDE, NORTH - SIDE]
    whole = read_image(cog)
    assert np.array_equal(levels.planes(0, (40, 50), (33, 77))[0], whole.array[40:73, 50:127])
    assert np.array_equal(levels.valid(0, (40, 50), (33, 77))[0], whole.array[40:73, 50:127] >= 0)
    with rasterio.open(cog, overview_level=0) as data:
        assert np.array_equal(levels.planes(1, (3, 4), (20, 30))[0], data.read(1)[3:23, 4:34])
        assert np.array_equal(levels.valid(1, (3, 4), (20, 30))[0], data.read(1)[3:23, 4:34] >= 0)


@pytest.mark.parametrize("largest", [150 * 210, 2000])
def test_a_coarse_level_is_registered_with_its_mask(cog: Path, largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(source.LARGEST, 2, largest)
    made = as_image(cog)
    assert made.grid.shape[0] < 200
    assert made.finest is not None
    assert made.finest.shape == (300, 420)
    assert made.mask is not None
    reduction = 300 / made.grid.shape[0]
    assert made.mask.mean() == pytest.approx(1 - 60 * 70 / (300 * 420), abs=0.05)
    assert not made.mask[0, 0, : int(60 / reduction) - 1, : int(70 / reduction) - 1].any()
    assert made.data[made.mask > 0].min() >= 0


@pytest.mark.parametrize("bands", [1, 2, 3])
def test_tiles_are_what_is_warped_at_once_with_the_georeference(tmp_path: Path, bands: int) -> None:
    pytest.importorskip("zarr", reason="tiles need zarr: pip install 'drmime[slides]'")
    shape = (1100, 300)
    array = np.stack([scene(shape=shape)] * bands)
    array[:, 100:200, 50:90] = 0
    options = {"photometric": "rgb"} if bands == 3 else {}
    path = write(tmp_path / "moving.tif", array, 2, nodata=0, tiled=True, blockxsize=128, blockysize=128, **options)
    other = write(tmp_path / "fixed.tif", array[:, :, :280], nodata=0)
    result = register(other, other, **QUICK)
    result = Registration(**{**vars(result), "moving_grid": grid_of(path)})
    result.warp_tiles(path, tmp_path / "tiles.tif", workers=1, antialias=False)
    result.warp_file(path, tmp_path / "whole.tif", antialias=False)
    with (
        rasterio.open(tmp_path / "tiles.tif") as one,
        rasterio.open(tmp_path / "whole.tif") as two,
        rasterio.open(other) as fixed,
    ):
        assert np.array_equal(one.read(), two.read())
        assert one.count == two.count == bands
        assert (one.crs, one.transform, one.shape) == (fixed.crs, fixed.transform, fixed.shape)
        assert one.nodata == two.nodata == 0
        assert one.overviews(1) == [2]
        assert (one.read_masks(1)[100:200, 50:90] == 0).all()
    levels = open_source(tmp_path / "tiles.tif")
    assert levels is not None
    assert len(levels.arrays) == 2
    result.warp_tiles(path, tmp_path / "threads.tif", workers=3, antialias=False)
    assert (tmp_path / "threads.tif").read_bytes() == (tmp_path / "tiles.tif").read_bytes()


def test_large_files_without_overviews_are_read_by_regions(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_source(image) is None
    monkeypatch.setattr(geotiff, "LARGE", 100)
    levels = open_source(image)
    assert levels is not None
    assert np.array_equal(levels.planes(0, (10, 20), (5, 6))[0], scene()[10:15, 20:26])


# ---- no-data values of results


def test_what_lies_outside_gets_the_no_data_value(tmp_path: Path, image: Path) -> None:
    array = scene((6, 0)).astype(np.float32)
    moving = write(tmp_path / "moving.tif", array, nodata=-5)
    result = register(image, moving, **QUICK)
    assert (result.warp(moving)[:, -3:] == -5).all()
    assert (result.warp(moving, fill=7)[:, -3:] == 7).all()
    result.warp_file(moving, tmp_path / "warped.tif")
    with rasterio.open(tmp_path / "warped.tif") as data:
        assert data.nodata == -5
        assert not data.read_masks(1)[:, -3:].any()
    assert (result.warp(array)[:, -3:] == 0).all()


def test_a_no_data_value_that_the_pixels_cannot_hold_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tags = [*geotiff.geo_tags(grid_of(write(path, scene()))), (42113, 2, 6, "-9999", True)]
    tifffile.imwrite(path, scene(), metadata=None, extratags=tags)
    assert read_image(path).nodata is None


# ---- commands


def test_the_commands_keep_and_tell_the_georeference(tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moving = write(tmp_path / "moving.tif", scene((3, 2)), nodata=0)
    out = tmp_path / "out"
    words = ["register", image, moving, "--out", out, "--transform", "translation", "--levels", "2", "--device", "cpu"]
    assert main([*map(str, words), "--set", "schedule.steps=60"]) == 0
    assert main(["warp", str(out / "transform.json"), str(moving), "--out", str(out / "again.tif")]) == 0
    for name in ("warped.tif", "again.tif"):
        with rasterio.open(out / name) as data:
            assert (data.crs.to_epsg(), data.transform, data.nodata) == (32633, north_up(), 0)
    capsys.readouterr()
    assert main(["info", str(image)]) == 0
    text = capsys.readouterr().out
    assert "EPSG:32633" in text
    assert "500000, 4648876, 501100, 4649776 m (west, south, east, north)" in text
    assert "mirrored" not in text
    state = describe(image).state
    assert (state["crs"], state["unit"], state["warnings"]) == ("EPSG:32633", "m", [])
    assert state["bounds"] == [WEST, NORTH - 900, WEST + 1100, NORTH]


# ---- without rasterio


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "rasterio" else find(name, *rest))
    made = importlib.import_module

    def absent(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "rasterio":
            raise ImportError(name)
        return made(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)


def test_without_rasterio_pixels_are_read_with_a_note(image: Path, without: None) -> None:
    assert np.array_equal(read_image(image).array, scene())
    result = register(image, scene((2, 1)), **QUICK)
    assert any("georeference was not read" in note and "drmime[geo]" in note for note in result.notes)
    assert any("georeference was not read" in note for note in describe(image).state["register"]["notes"])


def test_without_rasterio_a_georeference_is_not_dropped_when_writing(image: Path, tmp_path: Path) -> None:
    grid = grid_of(image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "rasterio", None)
        with pytest.raises(InputError, match=r"drmime\[geo\]"):
            write_image(tmp_path / "b.tif", scene(), grid)
    assert not (tmp_path / "b.tif").exists()


def test_without_rasterio_levels_have_the_note_too(cog: Path, without: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "LARGE", 100)
    levels = open_source(cog)
    assert levels is not None
    assert "georeference was not read" in as_image(cog).note


# ---- files that are wrong, or that ask for more than they may


def plain(path: Path, tags: list[Any]) -> Path:
    tifffile.imwrite(path, scene(), metadata=None, extratags=tags)
    return path


def test_a_singular_georeference_is_an_error(tmp_path: Path) -> None:
    flat = [10.0, 20.0, 0, WEST, 5.0, 10.0, 0, NORTH, 0, 0, 0, 0, 0, 0, 0, 1]
    path = plain(tmp_path / "a.tif", [(34264, 12, 16, flat, True)])
    with pytest.raises(InputError, match="expected an invertible georeference"):
        read_image(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:200],
        lambda data: data[:8] + bytes(len(data) - 8),
        lambda data: data.replace(b"\x01\x00\x01\x00\x00\x00", b"\xff\x00\xff\x00\xff\xff"),
    ],
)
@pytest.mark.parametrize("compress", ["deflate", "none"])
def test_a_damaged_file_is_one_error_or_whole(
    tmp_path: Path, damage: Callable[[bytes], bytes], compress: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.tif", scene(), compress=compress)
    path.write_bytes(damage(path.read_bytes()))
    told = str(path)
    try:
        found = read_image(path).array
    except InputError as error:
        found, told = scene(), str(error)
    assert told.startswith(str(path))
    assert np.array_equal(found, scene())
    assert not capfd.readouterr().err


@pytest.mark.parametrize("levels", [1, 3])
def test_a_truncated_file_with_levels_is_told(tmp_path: Path, levels: int) -> None:
    path = write(tmp_path / "a.tif", scene(shape=(400, 500)), levels, tiled=True, blockxsize=128, blockysize=128)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="truncated"):
        open_source(path)


def test_wrong_keys_of_a_crs_do_no_harm(tmp_path: Path, image: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tags = [tag for tag in geotiff.geo_tags(grid_of(image)) if tag[0] in (33550, 33922)]
    keys = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 31999)  # a projected system whose code is none
    path = plain(tmp_path / "a.tif", [*tags, (34735, 3, len(keys), keys, True)])
    grid = grid_of(path)
    assert grid.placed
    assert not capfd.readouterr().err
    write_image(tmp_path / "b.tif", scene(), grid)
    assert grid_of(tmp_path / "b.tif").world_from_index.equal(grid.world_from_index)


def test_control_points_and_no_place_are_told(tmp_path: Path) -> None:
    points = [
        rasterio.control.GroundControlPoint(row, column, WEST + column, NORTH - row) for row in (0, 80) for column in (0, 90)
    ]
    one = write(tmp_path / "a.tif", scene(), transform=None, crs=None)
    with warnings.catch_warnings(action="ignore"), rasterio.open(one, "r+") as data:
        data.gcps = (points, rasterio.CRS.from_epsg(32633))
    assert "ground control points" in as_image(one).note
    assert "does not say where" in as_image(write(tmp_path / "b.tif", scene(), transform=None)).note


def test_several_images_in_a_file_are_an_error(tmp_path: Path, image: Path) -> None:
    tags = geotiff.geo_tags(grid_of(image))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(3):
            file.write(scene(), metadata=None, extratags=tags)
    with pytest.raises(InputError, match="holds 3 images"):
        read_image(tmp_path / "a.tif")


def test_a_declared_size_is_compared_with_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", scene(), sparse_ok=True)
    monkeypatch.setattr("drmime.image.headers.memory", lambda: 1000)
    with pytest.raises(InputError, match="declares"):
        read_image(path)


def test_nothing_beside_a_file_is_read(tmp_path: Path, image: Path) -> None:
    bait = write(tmp_path / "bait.tif", scene()[::-1], 1)
    before = grid_of(image)
    image.with_name("image.tif.ovr").write_bytes(bait.read_bytes())
    image.with_name("image.tif.msk").write_bytes(bait.read_bytes())
    image.with_suffix(".tfw").write_text("1\n0\n0\n-1\n5\n5\n")
    image.with_name("image.tif.aux.xml").write_text(
        f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{bait}</MDI></Metadata>'
        "<GeoTransform>1, 2, 3, 4, 5, 6</GeoTransform><SRS>EPSG:4326</SRS>"
        '<PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    assert open_source(image) is None
    found = read_image(image)
    assert (found.nodata, found.mask) == (None, None)
    assert found.grid is not None
    assert found.grid.world_from_index.equal(before.world_from_index)
    assert found.grid.crs == "EPSG:32633"


def test_files_that_its_metadata_name_are_not_opened(tmp_path: Path, image: Path) -> None:
    bait = write(tmp_path / "bait.tif", scene()[::-1], 1)
    xml = f'<GDALMetadata><Item name="OVERVIEW_FILE" domain="OVERVIEWS">{bait}</Item></GDALMetadata>\n'
    path = plain(tmp_path / "a.tif", [*geotiff.geo_tags(grid_of(image)), (42112, 2, len(xml) + 1, xml, True)])
    for read in (open_source, read_image, as_image):
        with pytest.raises(InputError, match="another file"):
            read(path)


@pytest.mark.parametrize("name", ["a.tif", "a.tiff"])
def test_what_is_no_tiff_is_not_opened_by_another_driver(tmp_path: Path, image: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(
        f'<VRTDataset rasterXSize="90" rasterYSize="90"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{image}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(InputError, match=str(path)):
        read_image(path)


@pytest.mark.parametrize("name", ["a#b?c=d.tif", "zip:b.tif", "GTIFF_DIR:1:a.tif", "å ä!.tif", "%2e.tif"])
def test_names_are_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.tif", scene()).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(read_image(name).array, scene())
    with pytest.raises(InputError):
        read_image("/vsicurl/https://example.org/a.tif")


def test_no_network_is_needed_for_addresses(tmp_path: Path) -> None:
    for address in ("https://example.org/a.tif", "/vsizip/a.zip/a.tif", "s3://bucket/a.tif"):
        with pytest.raises(InputError, match="does not exist"):
            read_image(address)


# ---- many images


def test_a_mosaic_lies_as_its_tiles(tmp_path: Path) -> None:
    whole = scene(shape=(200, 260))
    one = write(tmp_path / "one.tif", whole[:, :150])
    other = write(tmp_path / "other.tif", whole[10:190, 110:], transform=north_up(WEST + 110 * SIDE, NORTH - 10 * SIDE))
    found = stitch([one, other])
    assert found.grid.unit == "m"
    fused = found.fuse([one, other])
    assert fused.shape == whole.shape
    assert np.abs(fused[:, :150].astype(int) - whole[:, :150]).mean() < 1


def test_a_stack_keeps_the_georeference(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{number}.tif", scene((2 * number, -number)))) for number in range(3)]
    words = ["stack", *paths, "--out", str(tmp_path / "out"), "--transform", "translation", "--pairs", "correlation"]
    assert main([*words, "--reference", "first"]) == 0
    for number in range(3):
        with rasterio.open(tmp_path / "out" / "aligned" / f"000{number}-{number}.tif") as data:
            assert (data.crs.to_epsg(), data.transform) == (32633, north_up())
            assert np.abs(data.read(1)[5:-5, 5:-5].astype(int) - scene()[5:-5, 5:-5]).mean() < 3
