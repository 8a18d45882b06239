"""A folder with a DICOM series is one volume; what is not is one clear error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drmime import InputError, as_image
from drmime.cli import main
from drmime.image.io import read_image

sitk = pytest.importorskip("SimpleITK", reason="reads DICOM: pip install 'drmime[medical]'")


def series(folder: Path, count: int = 9, uid: str = "1.2.3", **changed: Any) -> np.ndarray:
    """Slices of 10 x 12 pixels of 0.5 x 0.8 mm, 2.5 mm apart, of a turned volume, in files whose names are not in order."""
    folder.mkdir(exist_ok=True)
    volume = np.random.default_rng(0).integers(0, 1000, (count, 10, 12)).astype(np.int16)
    across, down = np.array([0.8, 0.6, 0.0]), np.array([-0.6, 0.8, 0.0])
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(count):
        image = sitk.GetImageFromArray(volume[number])
        image.SetSpacing([0.8, 0.5])
        place = np.array([5.0, -7.0, 11.0]) + 2.5 * number * np.cross(across, down)
        tags = {
            "0008|0060": "MR",
            "0020|000e": uid,
            "0020|000d": "1.2",
            "0008|0018": f"{uid}.{number}",
            "0020|0013": str(number),
        }
        tags |= {"0020|0032": "\\".join(map(str, place)), "0020|0037": "\\".join(map(str, [*across, *down]))}
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{uid}-{(number * 7) % count}.dcm"))
        writer.Execute(image)
    return volume


def test_slices_become_a_volume_in_the_order_of_their_places(tmp_path: Path) -> None:
    volume = series(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("not DICOM")
    found = read_image(tmp_path / "a")
    assert np.array_equal(found.array, volume)
    assert found.grid.spacing.tolist() == pytest.approx([0.8, 0.5, 2.5])
    assert found.grid.world_from_index[:3, 3].tolist() == pytest.approx([5.0, -7.0, 11.0])
    assert found.grid.world_from_index[:3, 0].tolist() == pytest.approx([0.64, 0.48, 0.0])
    assert as_image(tmp_path / "a").grid.shape == volume.shape


def test_a_missing_slice_is_told(tmp_path: Path) -> None:
    series(tmp_path / "a")
    (tmp_path / "a" / "1.2.3-1.dcm").unlink()  # the fourth
    with pytest.raises(InputError, match=r"even distances, got 2\.5 to 5 mm"):
        read_image(tmp_path / "a")


def test_several_series_or_none_are_a_question(tmp_path: Path) -> None:
    series(tmp_path / "a")
    series(tmp_path / "a", 4, "1.2.4")
    with pytest.raises(InputError, match="one DICOM series, got a folder with 2 of"):
        read_image(tmp_path / "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="got a folder with none"):
        read_image(tmp_path / "b")


def test_a_truncated_slice_is_told(tmp_path: Path) -> None:
    series(tmp_path / "a")
    path = tmp_path / "a" / "1.2.3-0.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    for source in (tmp_path / "a", path):
        with pytest.raises(InputError, match="truncated: expected 240 bytes of pixels, got 140"):
            read_image(source)
    path.write_bytes(b"")
    with pytest.raises(InputError):
        read_image(path)


def test_compressed_slices_are_read_and_truncated_ones_told(tmp_path: Path) -> None:
    volume = series(tmp_path / "a")
    path = tmp_path / "a" / "1.2.3-0.dcm"
    image = sitk.ReadImage(str(path), sitk.sitkUInt16)
    writer = sitk.ImageFileWriter()
    writer.SetUseCompression(True)
    writer.SetFileName(str(tmp_path / "b.dcm"))
    writer.Execute(image)
    assert np.array_equal(read_image(tmp_path / "b.dcm").array.squeeze(), volume[0])
    (tmp_path / "b.dcm").write_bytes((tmp_path / "b.dcm").read_bytes()[:-20])
    with pytest.raises(InputError, match="truncated"):
        read_image(tmp_path / "b.dcm")


def test_a_registered_series_is_written_as_nifti(tmp_path: Path) -> None:
    pytest.importorskip("nibabel", reason="writes NIfTI")
    series(tmp_path / "a", 20)
    options = ["--start", "none", "--set", "metric=mse", "--set", "schedule.steps=2", "--device", "cpu", "--levels", "1"]
    assert main(["register", str(tmp_path / "a"), str(tmp_path / "a"), "--out", str(tmp_path / "out"), *options]) in (0, 1)
    assert (tmp_path / "out" / "warped.nii.gz").is_file()
