"""Files: what is broken is refused in words, what is written comes back, and appears whole or not at all."""

import os
import struct
import subprocess
import sys
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from problems import oblique
from tolerances import EXACT

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.io import read_image, sweep, write_atomically, write_image, write_text
from drmime.image.readers import MEDICAL
from drmime.points.files import read_landmarks


def pixels(kind: str = "uint8", shape: tuple[int, ...] = (9, 11)) -> np.ndarray:
    """Values that use the whole range of an integer dtype, and [0, 1] of a real one."""
    values = np.random.default_rng(0).random(shape)
    if kind == "bool":
        return values > 0.5
    top = np.iinfo(kind).max if np.dtype(kind).kind in "ui" else 1
    return (values * top).astype(kind)


@pytest.fixture(autouse=True)
def toolkits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of ITK while a picture was read. The true one is hidden: it crashes where warnings are errors."""
    asked: list[str] = []
    stand_in = types.ModuleType("itk")

    def ask(name: str) -> Any:
        asked.append(name)
        raise AttributeError(name)

    stand_in.__getattr__ = ask
    monkeypatch.setitem(sys.modules, "itk", stand_in)
    return asked


# ---- reading what is broken


def _pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _truncated_png(path: Path) -> None:
    iio.imwrite(path, pixels(shape=(64, 64)))
    path.write_bytes(path.read_bytes()[:200])


def _truncated_npy(path: Path) -> None:
    np.save(path, pixels())
    path.write_bytes(path.read_bytes()[:-20])


def _png_of_no_pixels(path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)) + chunk(b"IEND", b""))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing.png": (lambda path: None, "does not exist"),
    "folder.png": (Path.mkdir, "a folder with none|needs? SimpleITK"),
    "empty.png": (Path.touch, r"empty \(0 bytes\)"),
    "empty.npy": (Path.touch, r"empty \(0 bytes\)"),
    "truncated.png": (_truncated_png, "truncated or of another format"),
    "no_pixels.png": (_png_of_no_pixels, "truncated or of another format"),
    "text.png": (lambda path: path.write_text("this is no picture\n"), "truncated or of another format"),
    "text.tif": (lambda path: path.write_text("this is no picture\n"), "truncated or of another format"),
    "text.npy": (lambda path: path.write_text("this is no picture\n"), "truncated or of another format"),
    "truncated.npy": (_truncated_npy, "truncated or of another format"),
    "pickled.npy": (_pickled, "Python objects"),
}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_truncated_volume_is_refused(ending: str, share: float, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK", reason="reads medical formats")
    path = tmp_path / f"cut{ending}"
    write_image(path, np.random.default_rng(0).random((20, 24, 28), dtype=np.float32))
    assert read_image(path).array.shape == (20, 24, 28)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_image_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, words = BROKEN[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=words) as caught:
        read_image(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["text.png", "text.jpg", "text.tif"])
def test_a_broken_picture_is_not_handed_to_other_toolkits(name: str, toolkits: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text("this is no picture\n")
    with pytest.raises(InputError):
        read_image(tmp_path / name)
    assert toolkits == []


def test_a_broken_medical_file_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    (tmp_path / "text.nii").write_text("this is no volume\n")
    with pytest.raises(InputError, match=r"text\.nii.*truncated or of another format"):
        read_image(tmp_path / "text.nii")


# ---- what is written comes back

ROUND_TRIPS = [
    *[(".png", kind) for kind in ("uint8", "uint16")],
    *[(".tif", kind) for kind in ("uint8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64")],
    *[(".npy", kind) for kind in ("bool", "uint8", "uint16", "int64", "float16", "float32", "float64")],
]


@pytest.mark.parametrize(("ending", "kind"), ROUND_TRIPS)
def test_pixels_come_back(ending: str, kind: str, tmp_path: Path) -> None:
    write_image(tmp_path / f"a{ending}", pixels(kind))
    source = read_image(tmp_path / f"a{ending}")
    read, grid = source.array, source.grid
    assert read.dtype == kind
    assert np.array_equal(read, pixels(kind))
    assert grid is None


@pytest.mark.parametrize(("ending", "kind"), [(".png", "uint8"), (".tif", "uint8"), (".tif", "uint16"), (".npy", "float32")])
def test_colours_come_back(ending: str, kind: str, tmp_path: Path) -> None:
    write_image(tmp_path / f"a{ending}", pixels(kind, (9, 11, 3)))
    assert np.array_equal(read_image(tmp_path / f"a{ending}").array, pixels(kind, (9, 11, 3)))


@pytest.mark.parametrize("ending", [".tif", ".npy"])
def test_volumes_come_back(ending: str, tmp_path: Path) -> None:
    write_image(tmp_path / f"a{ending}", pixels("uint16", (9, 11, 10)))
    assert np.array_equal(read_image(tmp_path / f"a{ending}").array, pixels("uint16", (9, 11, 10)))


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_true_and_false_become_white_and_black(ending: str, tmp_path: Path) -> None:
    write_image(tmp_path / f"a{ending}", pixels("bool"))
    assert np.array_equal(read_image(tmp_path / f"a{ending}").array, pixels("bool") * np.uint8(255))


@pytest.mark.parametrize("ending", [".NPY", ".PNG", ".TIF"])
def test_the_case_of_the_ending_does_not_matter(ending: str, tmp_path: Path) -> None:
    write_image(tmp_path / f"a{ending}", pixels())
    assert [path.name for path in tmp_path.iterdir()] == [f"a{ending}"]
    assert np.array_equal(read_image(tmp_path / f"a{ending}").array, pixels())


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".img", ".hdr", ".NII.GZ"])
def test_medical_volumes_come_back_or_are_refused_and_leave_no_strays(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    name = f"a{ending}"
    try:
        write_image(tmp_path / name, pixels("int16", (9, 11, 10)))
    except InputError:
        assert list(tmp_path.iterdir()) == []
        return
    assert np.array_equal(read_image(tmp_path / name).array, pixels("int16", (9, 11, 10)))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_the_usual_medical_formats_can_be_written(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    assert ending in MEDICAL
    write_image(tmp_path / f"a{ending}", pixels("int16", (9, 11, 10)))
    assert [path.name for path in tmp_path.iterdir()] == [f"a{ending}"]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_medical_formats_keep_spacing_origin_and_direction(ending: str, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    grid = oblique((9, 11, 10), (2.5, 0.5, 0.75), offset=13.0)
    write_image(tmp_path / f"a{ending}", pixels("int16", grid.shape), grid)
    source = read_image(tmp_path / f"a{ending}")
    read, back = source.array, source.grid
    assert np.array_equal(read, pixels("int16", grid.shape))
    assert back.shape == grid.shape
    assert torch.allclose(back.world_from_index, grid.world_from_index, rtol=0, atol=1e-5)  # NIfTI holds float32
    seen_by_others = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    place = seen_by_others.TransformIndexToPhysicalPoint((3, 4, 5))
    index = torch.tensor([3.0, 4.0, 5.0, 1.0], dtype=torch.float64)
    assert torch.allclose(grid.world_from_index[:-1] @ index, torch.tensor(place, dtype=torch.float64), rtol=0, atol=1e-4)
    assert seen_by_others.GetPixel(3, 4, 5) == pixels("int16", grid.shape)[5, 4, 3]


def test_the_grid_of_a_file_written_by_simpleitk_is_read(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(pixels("int16", (9, 11, 10)))
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((-3.0, 10.0, 40.0))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    source = read_image(tmp_path / "a.mha")
    grid = source.grid
    assert torch.allclose(grid.spacing, torch.tensor([0.5, 0.75, 2.0], dtype=torch.float64), rtol=0, atol=EXACT)
    corner = torch.tensor([2.0, 1.0, 3.0, 1.0], dtype=torch.float64)
    assert torch.allclose(
        grid.world_from_index @ corner, torch.tensor([-3.75, 11.0, 46.0, 1.0], dtype=torch.float64), rtol=0, atol=EXACT
    )


def test_medical_colours_keep_their_grid(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    grid = Grid.regular((9, 11), (2.0, 0.5))
    write_image(tmp_path / "a.mha", pixels("uint8", (9, 11, 3)), grid)
    source = read_image(tmp_path / "a.mha")
    read, back = source.array, source.grid
    assert np.array_equal(read, pixels("uint8", (9, 11, 3)))
    assert back.shape == (9, 11)
    assert back.spacing.tolist() == [0.5, 2.0]


# ---- writing


@pytest.mark.parametrize(
    ("ending", "kind"),
    [(".png", "float32"), (".png", "float64"), (".png", "int32"), (".png", "int64"), (".jpg", "uint16")],
)
def test_what_a_format_cannot_hold_is_refused_with_a_way_out(ending: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"a{ending}.*{kind}.*TIFF"):
        write_image(tmp_path / f"a{ending}", pixels(kind))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.xyz", "a"])
def test_an_ending_that_no_writer_knows_is_refused_with_those_that_are_known(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected an image ending .*\.png.*\.tif"):
        write_image(tmp_path / name, pixels())
    assert list(tmp_path.iterdir()) == []


def test_a_picture_format_does_not_take_a_volume_for_a_film(tmp_path: Path) -> None:
    for ending in (".png", ".bmp"):
        with pytest.raises(InputError, match="2-D"):
            write_image(tmp_path / f"a{ending}", pixels("uint8", (9, 11, 10)))
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_as_needed(tmp_path: Path) -> None:
    write_image(tmp_path / "new" / "deep" / "a.png", pixels())
    assert (tmp_path / "new" / "deep" / "a.png").is_file()


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_text("old")
    write_image(tmp_path / "a.npy", pixels())
    assert np.array_equal(read_image(tmp_path / "a.npy").array, pixels())


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_image(tmp_path / "a.npy", pixels())
    assert (tmp_path / "a.npy").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_writer_that_raises_changes_nothing_and_leaves_no_trace(
    error: type[BaseException], before: str | None, tmp_path: Path
) -> None:
    target = tmp_path / "a.txt"
    if before is not None:
        target.write_text(before)

    def half_way(path: Path) -> None:
        path.write_text("half", encoding="utf-8")
        raise error

    with pytest.raises(error):
        write_atomically(target, half_way)
    assert [path.read_text() for path in tmp_path.iterdir()] == ([] if before is None else [before])


def test_nothing_is_seen_at_the_target_before_all_is_written(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write(path: Path) -> None:
        path.write_text("new", encoding="utf-8")
        assert target.read_text() == "old"
        assert path.parent == target.parent  # replacing across file systems would not be one step

    write_atomically(target, write)
    assert target.read_text() == "new"


def test_text_is_written_as_it_is_and_what_is_no_text_as_its_escape(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "ü\n\ud800")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "ü\n\\ud800".encode()


def test_drafts_are_swept_once_they_are_old(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    paths = [tmp_path / ".part-new", tmp_path / "deep" / ".part-old", tmp_path / "old.txt"]
    for path in paths:
        path.touch()
    for path in paths[1:]:
        os.utime(path, (0, 0))
    sweep(tmp_path, below=True)
    assert [path.exists() for path in paths] == [True, False, True]


@pytest.mark.skipif(os.name != "posix", reason="other systems do not tell whether a process is there")
def test_drafts_of_a_process_that_was_killed_are_swept_at_once(tmp_path: Path) -> None:
    writing = (
        "import os, pathlib, signal; from drmime.image.io import write_atomically; "
        f"write_atomically(pathlib.Path({str(tmp_path / 'a.txt')!r}), lambda file: os.kill(os.getpid(), signal.SIGKILL))"
    )
    subprocess.run([sys.executable, "-c", writing], check=False)
    (draft,) = tmp_path.iterdir()
    own: list[Path] = []
    write_atomically(tmp_path / "b.txt", lambda file: (own.append(file), sweep(tmp_path), file.write_text("b")))
    assert not draft.exists()
    assert (tmp_path / "b.txt").read_text() == "b"


def test_a_disk_error_while_writing_is_told_as_such(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write .*a\.txt: No space left"):
        write_atomically(tmp_path / "a.txt", write)
    assert list(tmp_path.iterdir()) == []


def test_a_place_below_a_file_or_taken_by_a_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.npy").mkdir()
    for target in (tmp_path / "file" / "a.npy", tmp_path / "folder.npy"):
        with pytest.raises(InputError, match="cannot write"):
            write_image(target, pixels())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.npy"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot write"):
            write_image(tmp_path / "a.npy", pixels())
    finally:
        tmp_path.chmod(0o700)


def test_a_refusing_folder_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("drmime.image.io.tempfile.mkstemp", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        write_image(tmp_path / "a.npy", pixels())


# ---- real files


def test_every_image_and_landmark_file_of_the_ci_pairs_is_read(data: Path) -> None:
    pytest.importorskip("nibabel", reason="reads NIfTI")
    import csv

    with (data / "pairs.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["suite"] == "ci"]
    assert rows
    for row in rows:
        ndim = int(row["ndim"])
        for side in ("fixed", "moving"):
            source = read_image(data / row[side])
            array, grid = source.array, source.grid
            assert array.ndim in (ndim, ndim + 1)
            assert grid is None or grid.shape == array.shape[: grid.ndim]
            if row[f"{side}_landmarks"]:
                points = read_landmarks(data / row[f"{side}_landmarks"])
                assert points.shape[1] == ndim
                assert (points > -1).all()
                assert (points < np.array(array.shape[:ndim][::-1])).all()
