"""Files of other programs: axes, lengths and places are those that they state, and what is promised is there."""

import gzip
import logging
import os
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import drmime
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image import headers
from drmime.image.door import as_image
from drmime.image.io import read_image, write_image
from drmime.image.tiff import collected_warnings

VOLUME = (np.random.default_rng(0).random((9, 12, 14)) * 1000).astype(np.float32)
PICTURE = (VOLUME[0] / 4).astype(np.uint8)


def seen(path: Path, **options: object) -> tuple[tuple[int, ...], list[float]]:
    """Channels and shape, and the pixel lengths, x first, as `register` sees them."""
    image = as_image(path, role="fixed", **options)
    return tuple(image.data.shape[1:]), image.grid.spacing.tolist()


# ---- TIFF


@pytest.mark.parametrize(
    ("axes", "shape", "options", "expected"),
    [
        ("ZYX", (9, 12, 14), {"imagej": True, "resolution": (4, 2), "more": {"spacing": 2.0, "unit": "um"}}, [0.25, 0.5, 2.0]),
        ("ZYX", (9, 12, 14), {"imagej": True, "resolution": (4, 2), "more": {"unit": "pixel"}}, [1, 1, 1]),
        ("CYX", (3, 12, 14), {"imagej": True}, [1, 1]),
        ("ZCYX", (9, 2, 12, 14), {"imagej": True, "more": {"spacing": 3.0, "unit": "mm"}}, [1000, 1000, 3000]),
        ("ZYX", (9, 12, 14), {"ome": True, "more": {"PhysicalSizeX": 0.25, "PhysicalSizeZ": 1.5}}, [0.25, 1, 1.5]),
        ("CYX", (3, 12, 14), {"ome": True, "more": {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}}, [0.25, 0.5]),
        ("CZYX", (2, 9, 12, 14), {"ome": True, "more": {"PhysicalSizeY": 0.5}}, [1, 0.5, 1]),
        (
            "ZYX",
            (9, 12, 14),
            {"ome": True, "more": {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeZ": 2}},
            [0.5, 1, 2],
        ),
        ("YX", (12, 14), {"ome": True, "more": {"PhysicalSizeX": 2, "PhysicalSizeXUnit": "pixel"}}, [1, 1]),
        ("TCYX", (1, 5, 12, 14), {"ome": True}, [1, 1]),
        ("CYX", (3, 12, 14), {}, [1, 1]),
    ],
)
def test_axes_and_lengths_of_tiff_are_those_of_its_metadata(
    axes: str, shape: tuple, options: dict, expected: list, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).random(shape).astype(np.float32)
    metadata = {"axes": axes, **options.pop("more", {})}
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata=metadata, **options)
    sizes = dict(zip(axes, shape, strict=True))
    wanted = (sizes.get("C", 1), *(sizes[axis] for axis in "ZYX" if axis in sizes))
    assert seen(tmp_path / "a.tif") == (wanted, pytest.approx(expected))


def test_an_axis_of_time_is_a_question_that_the_option_answers(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, photometric="minisblack", metadata={"axes": "TYX"})
    with pytest.raises(InputError, match=r"axis 0 of shape \(9, 12, 14\) is neither space nor channels.*channel_axis=0"):
        seen(tmp_path / "a.tif")
    assert seen(tmp_path / "a.tif", channel_axis=0)[0] == (9, 12, 14)


@pytest.mark.parametrize("kind", ["plain", "imagej", "ome", "tiles", "zlib"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_cut_tiff_is_refused(kind: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    options = {
        "imagej": {"imagej": True},
        "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
        "tiles": {"tile": (16, 16)},
        "zlib": {"compression": "zlib"},
    }
    tifffile.imwrite(path, VOLUME, **options.get(kind, {}))
    assert read_image(path).array.shape == VOLUME.shape
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"a\..*(truncated|damaged)"):
        read_image(path)


def test_tiles_that_are_missing_are_no_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME[0].repeat(4, 0).repeat(4, 1), tile=(16, 16))
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["TileByteCounts"]
        at = tag.valueoffset
    content = bytearray(path.read_bytes())
    content[at : at + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(InputError, match="not in the file"):
        read_image(path)


def test_planes_in_other_files_are_not_read(tmp_path: Path) -> None:
    """OME-TIFF may name other files as the place of its planes."""
    tifffile.imwrite(tmp_path / "a.ome.tif", VOLUME, metadata={"axes": "ZYX"})
    content = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "b.ome.tif").write_bytes(content.replace(b'SizeZ="9"', b'SizeZ="8"').replace(b"a.ome.tif", b"b.ome.tif"))
    cut = content.replace(b'SizeC="1"', b'SizeC="7"')
    (tmp_path / "a.ome.tif").write_bytes(cut)
    with pytest.raises(InputError):
        read_image(tmp_path / "a.ome.tif")


def test_planes_of_colour_of_several_channels_are_channels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 3, 12, 14)).astype(np.uint8)
    options = {"photometric": "rgb", "planarconfig": "separate", "metadata": {"axes": "CSYX"}}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, **options)
    image = as_image(tmp_path / "a.ome.tif", role="fixed")
    assert np.array_equal(image.data[0].numpy(), pixels.reshape(6, 12, 14))


@pytest.mark.parametrize("shape", [(4, 12, 14), (12, 14, 4), (4, 12, 14, 3), (12, 14, 3), (12, 14, 2), (9, 12, 14)])
@pytest.mark.parametrize("kind", ["uint8", "float32", "int64"])
@pytest.mark.parametrize("length", [1.0, 0.5])
def test_tiff_that_is_written_is_read_as_what_it_was(shape: tuple, kind: str, length: float, tmp_path: Path) -> None:
    volume = shape in ((4, 12, 14), (12, 14, 4), (9, 12, 14), (4, 12, 14, 3))
    spatial = shape[:3] if volume else shape[:2]
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(kind)
    write_image(tmp_path / "a.tif", pixels, Grid.regular(spatial, [length] * len(spatial)))
    image = as_image(tmp_path / "a.tif", role="fixed")
    assert image.grid.shape == spatial
    channels = pixels[None] if len(shape) == len(spatial) else np.moveaxis(pixels, -1, 0)
    assert np.array_equal(image.data[0].numpy(), channels.astype(np.float32))
    if kind != "int64":
        assert image.grid.spacing.tolist() == [length] * len(spatial)


def test_a_palette_of_tiff_stands_for_its_colours_or_for_its_entries(tmp_path: Path) -> None:
    colours = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256) * 64
    tifffile.imwrite(tmp_path / "a.tif", PICTURE, photometric="palette", colormap=colours)
    assert np.array_equal(read_image(tmp_path / "a.tif").array, np.moveaxis(colours[:, PICTURE] // 256, 0, -1))
    assert np.array_equal(read_image(tmp_path / "a.tif", labels=True).array, PICTURE)


def test_a_compression_that_needs_another_package_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    tifffile.imwrite(tmp_path / "a.tif", VOLUME)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", refuse)
    with pytest.raises(InputError, match=r"imagecodecs: pip install 'drmime\[tiff\]'"):
        read_image(tmp_path / "a.tif")


def test_what_tifffile_says_of_a_damaged_file_is_not_printed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, imagej=True)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        read_image(tmp_path / "a.tif")
    assert not caplog.records


# ---- pictures


def test_a_palette_stands_for_its_colours_or_for_its_entries(tmp_path: Path) -> None:
    labels = Image.fromarray((PICTURE > 100).astype(np.uint8), mode="P")
    labels.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    labels.save(tmp_path / "labels.png")
    assert read_image(tmp_path / "labels.png").array.shape == (12, 14, 3)
    entries = read_image(tmp_path / "labels.png", labels=True).array
    assert np.array_equal(entries, PICTURE > 100)
    image = as_image(PICTURE.astype(float), role="fixed", mask=tmp_path / "labels.png")
    assert np.array_equal(image.mask[0, 0].numpy(), PICTURE > 100)


def test_a_photograph_with_previews_is_one_picture(tmp_path: Path) -> None:
    """As telephones store them: JPEG with a second frame, of another size."""
    first, second = (Image.fromarray(np.stack([PICTURE.repeat(n, 0).repeat(n, 1)] * 3, -1)) for n in (4, 2))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert read_image(tmp_path / "a.jpg").array.shape == (48, 56, 3)


def test_frames_are_a_stack_and_labels_are_one_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.roll(PICTURE, shift, 1)) for shift in range(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").array.shape[:3] == (5, 12, 14)
    with pytest.raises(InputError, match="one frame of labels, got 5"):
        read_image(tmp_path / "a.gif", labels=True)


def test_a_gray_gif_is_gray(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.gif")
    assert np.array_equal(read_image(tmp_path / "a.gif").array, PICTURE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright_as_exif_says(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = Image.fromarray(np.stack([PICTURE.repeat(8, 0).repeat(8, 1)] * 3, -1))
    photo.save(tmp_path / "a.png", exif=exif)
    ways = [
        lambda a: a,
        lambda a: a[:, ::-1],
        lambda a: a[::-1, ::-1],
        lambda a: a[::-1],
        lambda a: a.swapaxes(0, 1),
        lambda a: np.rot90(a, -1),
        lambda a: a[::-1, ::-1].swapaxes(0, 1),
        lambda a: np.rot90(a),
    ]
    assert np.array_equal(read_image(tmp_path / "a.png").array, ways[orientation - 1](np.asarray(photo)))


# ---- medical formats

ENDINGS = [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("shape", [(12, 14), (9, 12, 14), (12, 14, 3), (9, 12, 14, 2)])
def test_the_geometry_is_what_itk_says(ending: str, shape: tuple, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="reads medical formats")
    several = shape[-1] < 4
    pixels = np.random.default_rng(0).random(shape).astype(np.float32)
    image = sitk.GetImageFromArray(pixels, isVector=several)
    ndim = image.GetDimension()
    image.SetSpacing((0.5, 0.75, 2.5)[:ndim])
    image.SetOrigin((10.0, -20.0, 30.0)[:ndim])
    if ndim == 3:
        image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, -1))
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
    theirs = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    ours = as_image(tmp_path / f"a{ending}", role="fixed")
    assert ours.grid.shape == theirs.GetSize()[::-1]
    assert ours.data.shape[1] == theirs.GetNumberOfComponentsPerPixel()
    for index in ((0, 0, 0), (3, 5, 7)):
        place = theirs.TransformIndexToPhysicalPoint(index[:ndim])
        world = ours.grid.world_from_index @ torch.tensor([*index[:ndim], 1.0], dtype=torch.float64)
        assert world[:-1].tolist() == pytest.approx(place, abs=1e-5)
    channels = np.moveaxis(pixels, -1, 0) if several else pixels[None]
    assert np.array_equal(ours.data[0].numpy(), channels)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("shape", [(12, 14), (9, 12, 14), (12, 14, 3), (9, 12, 14, 2), (3, 12, 14)])
def test_what_is_written_has_the_same_geometry_in_itk(ending: str, shape: tuple, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="reads medical formats")
    spatial = tuple(length for length in shape if length > 4)
    grid = Grid.regular(spatial, (2.5, 0.75, 0.5)[-len(spatial) :])
    pixels = np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)
    write_image(tmp_path / f"a{ending}", pixels, grid)
    theirs = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    assert theirs.GetSize() == spatial[::-1]
    assert theirs.GetSpacing() == pytest.approx(grid.spacing.tolist())
    read = sitk.GetArrayFromImage(theirs)
    assert np.array_equal(read, np.moveaxis(pixels, 0, -1) if shape[0] == 3 else pixels)


def test_slices_and_series_keep_their_lengths(tmp_path: Path) -> None:
    """Slices in volumes, and series of a few volumes."""
    sitk = pytest.importorskip("SimpleITK", reason="reads medical formats")
    image = sitk.GetImageFromArray(VOLUME[:1])
    image.SetSpacing((0.5, 0.25, 3.0))
    sitk.WriteImage(image, str(tmp_path / "slice.nii.gz"))
    for options in ({}, {"channel_axis": 0}, {"channel_axis": None}):
        assert seen(tmp_path / "slice.nii.gz", **options) == ((1, 12, 14), [0.5, 0.25])
    series = sitk.GetImageFromArray(np.stack([VOLUME] * 3), isVector=False)
    series.SetSpacing((2, 2, 5, 1.5))
    sitk.WriteImage(series, str(tmp_path / "series.nii.gz"))
    for options in ({}, {"channel_axis": 0}):
        assert seen(tmp_path / "series.nii.gz", **options) == ((3, 9, 12, 14), [2, 2, 5])
    long = sitk.GetImageFromArray(np.stack([VOLUME] * 7), isVector=False)
    sitk.WriteImage(long, str(tmp_path / "long.nii.gz"))
    with pytest.raises(InputError, match=r"axis 0 .* is neither space nor channels"):
        seen(tmp_path / "long.nii.gz")


def test_sheared_axes_are_named(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel", reason="reads NIfTI")
    affine = np.eye(4)
    affine[0, 1] = 0.15
    nibabel.save(nibabel.Nifti1Image(VOLUME.T, affine), tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a\.nii: its axes are sheared"):
        read_image(tmp_path / "a.nii")


def test_scale_factors_of_nifti_are_applied(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel", reason="reads NIfTI")
    image = nibabel.Nifti1Image((VOLUME.T * 2).astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").array == pytest.approx(nibabel.load(tmp_path / "a.nii").get_fdata().T)


@pytest.mark.parametrize("name", [b"\xff.nrrd", b"\xe9\xff.mha"])
def test_a_name_that_is_not_utf8_is_refused_where_itk_would_end_the_process(name: bytes, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK", reason="reads medical formats")
    path = tmp_path / os.fsdecode(name)
    try:
        path.write_bytes(b"NRRD0004\n")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(InputError, match="rename it"):
        read_image(path)


@pytest.mark.parametrize(("ending", "name"), [(".nii.gz", "nibabel"), (".mha", "SimpleITK"), (".nrrd", "SimpleITK")])
def test_a_package_that_is_missing_is_named(ending: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / f"a{ending}"
    with pytest.raises(InputError, match=rf"medical formats need {name}: pip install 'drmime\[medical\]'"):
        write_image(path, VOLUME)
    assert not list(tmp_path.iterdir())
    path.touch()
    path.write_bytes(b"anything")
    with pytest.raises(InputError, match=rf"medical formats need {name}: pip install 'drmime\[medical\]'"):
        read_image(path)


# ---- declared sizes


def test_a_declared_size_is_compared_before_memory_is_taken(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel", reason="reads NIfTI")
    nibabel.save(nibabel.Nifti1Image(VOLUME.T, np.eye(4)), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<4h", content, 40, 3, 1200, 1200, 700)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match="cannot hold"):
        read_image(tmp_path / "a.nii.gz")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000, 100), }"
    header += b" " * (117 - len(header)) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(InputError):
        read_image(tmp_path / "a.npy")


def test_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.tif", VOLUME)
    write_image(tmp_path / "a.npy", VOLUME)
    write_image(tmp_path / "a.png", PICTURE)
    monkeypatch.setattr(headers, "memory", lambda: 500)
    for name in ("a.tif", "a.npy", "a.png"):
        with pytest.raises(InputError, match=rf"{name}: declares .* GiB of pixels"):
            read_image(tmp_path / name)
    assert drmime.__version__


# ---- damage of any kind

WRITTEN = [".nii", ".nii.gz", ".mha", ".nrrd", ".npy", ".tif", ".ome.tif", ".png", ".jpg", ".gif", ".bmp", ".webp", ".pgm"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", WRITTEN)
def test_a_mutated_file_is_read_or_refused_and_a_cut_one_has_no_other_pixels(ending: str, tmp_path: Path) -> None:
    path, random = tmp_path / f"a{ending}", np.random.default_rng(len(ending))
    if ending == ".ome.tif":
        tifffile.imwrite(path, VOLUME, metadata={"axes": "ZYX"})
    elif ending == ".gif":
        Image.fromarray(PICTURE).save(path)
    else:
        if ending in (".nii", ".nii.gz", ".mha", ".nrrd"):
            pytest.importorskip("SimpleITK", reason="writes medical formats")
        write_image(path, VOLUME if ending in (".nii", ".nii.gz", ".mha", ".nrrd", ".npy", ".tif") else PICTURE)
    content, whole = path.read_bytes(), read_image(path).array
    for number in range(150):
        cut = content[: random.integers(1, len(content))]
        spoilt = bytearray(content)
        for at in random.integers(0, min(len(content), 400) if number % 2 else len(content), 4):
            spoilt[at] = random.integers(256)
        for changed, is_cut in ((cut, True), (bytes(spoilt), False)):
            path.write_bytes(changed)
            try:
                read = read_image(path).array
            except InputError as error:
                assert path.name in str(error)  # noqa: PT017 - either is right
            else:
                assert not is_cut or np.array_equal(read, whole)


# ---- wrong geometry


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('PhysicalSizeX="0.5"', 'PhysicalSizeX="-0.5"', "positive PhysicalSizeX"),
        ('PhysicalSizeX="0.5"', 'PhysicalSizeX="0"', "positive PhysicalSizeX"),
        ('PhysicalSizeX="0.5"', 'PhysicalSizeX="half"', "positive PhysicalSizeX"),
        ('SizeX="30"', 'SizeX="300"', "truncated or damaged"),
        ('SizeC="1"', 'SizeC="7"', "planes"),
        ("</OME>", "", "OME metadata"),
    ],
)
def test_wrong_ome_metadata_are_refused_by_name(old: str, new: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    pixels = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})
    text = tifffile.tiffcomment(path)
    assert old in text
    tifffile.tiffcomment(path, text.replace(old, new).encode())
    with pytest.raises(InputError, match=rf"a\.ome\.tif: .*{words}"):
        read_image(path)


@pytest.mark.parametrize(
    ("ending", "old", "new", "words"),
    [
        (".mha", "ElementSpacing = 1 1 1", "ElementSpacing = 0 1 1", "positive ElementSpacing"),
        (".mha", "ElementSpacing = 1 1 1", "ElementSpacing = 1 -1 1", "positive ElementSpacing"),
        (".mha", "TransformMatrix = 1 0 0 0 1 0", "TransformMatrix = 1 0 0 1 0 0", "determinant is 0"),
        (".nrrd", "(1,0,0) (0,1,0)", "(0,0,0) (0,1,0)", "Zero-valued spacing"),
        (".nrrd", "(1,0,0) (0,1,0)", "(1,0,0) (1,0,0)", "determinant is 0"),
    ],
)
def test_singular_geometry_is_refused_by_name(ending: str, old: str, new: str, words: str, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(0).random((9, 10, 12)).astype(np.float32)), str(path))
    assert old.encode() in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    with pytest.raises(InputError, match=rf"a\{ending}: .*{words}"):
        read_image(path)


@pytest.mark.parametrize("column", [[0, 0, 0], [0, 1, 0]])
def test_nifti_with_a_singular_direction_is_refused(column: list[float], tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros((9, 10, 12), np.float32), None)
    affine = np.eye(4)
    affine[:3, 0] = column
    image.header.set_sform(affine, 1)
    image.header["qform_code"] = 0
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a\.nii: .*(positive length|orthogonal)"):
        read_image(tmp_path / "a.nii")


def test_two_threads_collect_their_own_warnings_and_the_logger_is_as_before() -> None:
    logger, first, second = logging.getLogger("tifffile"), threading.Event(), threading.Event()
    before = logger.propagate, list(logger.handlers)
    seen = list[list[str]]()

    def other() -> None:
        with collected_warnings() as told:
            first.set()
            second.wait(10)
            logger.warning("of the other thread")
        seen.append(told)

    thread = threading.Thread(target=other)
    with collected_warnings() as told:
        thread.start()
        first.wait(10)
        logger.warning("of this thread")
    second.set()
    thread.join()
    assert (told, seen) == (["of this thread"], [["of the other thread"]])
    assert (logger.propagate, logger.handlers) == before
