"""Headers of MetaImage and NRRD: what they promise is there, and in their own folder."""

from pathlib import Path

import numpy as np
import pytest

from drmime.errors import InputError
from drmime.headers import companion
from drmime.io import read_image

sitk = pytest.importorskip("SimpleITK", reason="reads MetaImage and NRRD")

VOLUME = (np.random.default_rng(0).random((9, 12, 14)) * 1000).astype(np.int16)
KINDS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".mhd", ".nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_is_read_whole_and_refused_when_cut(ending: str, compressed: bool, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    image = sitk.GetImageFromArray(VOLUME.astype(kind))
    sitk.WriteImage(image, str(path), compressed)
    assert np.array_equal(read_image(path).array, VOLUME.astype(kind))
    data = companion(path) or path
    assert (data != path) == (ending in (".mhd", ".nhdr"))
    content = data.read_bytes()
    data.write_bytes(content[:-20])
    with pytest.raises(InputError, match=r"truncated|damaged"):
        read_image(path)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_broken_stream_is_refused(ending: str, tmp_path: Path) -> None:
    """ITK reads on, with wrong voxels."""
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(path), True)
    content = path.read_bytes()
    for at in range(len(content) // 2, len(content) - 8, 97):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        with pytest.raises(InputError, match=r"damaged|truncated"):
            read_image(path)


@pytest.mark.parametrize("place", ["/etc/passwd", "../b.raw", "sub/b.raw", "LIST", "b%03d.raw", "gone.raw"])
def test_a_header_leads_to_no_other_folder(place: str, tmp_path: Path) -> None:
    (tmp_path / "b.raw").write_bytes(VOLUME.tobytes())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.raw").write_bytes(VOLUME.tobytes())
    (tmp_path / "a.mhd").write_text(
        f"ObjectType = Image\nNDims = 3\nDimSize = 14 12 9\nElementType = MET_SHORT\nElementDataFile = {place}\n"
    )
    (tmp_path / "a.nhdr").write_text(
        f"NRRD0004\ntype: short\ndimension: 3\nsizes: 14 12 9\nencoding: raw\nendian: little\ndata file: {place}\n\n"
    )
    for name in ("a.mhd", "a.nhdr"):
        with pytest.raises(InputError, match=rf"{name}: points to"):
            read_image(tmp_path / name)


def test_a_file_beside_the_header_is_read(tmp_path: Path) -> None:
    (tmp_path / "b.raw").write_bytes(VOLUME.tobytes())
    (tmp_path / "a.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 14 12 9\nElementType = MET_SHORT\nElementDataFile = b.raw\n"
    )
    assert np.array_equal(read_image(tmp_path / "a.mhd").array, VOLUME)
    assert companion(tmp_path / "a.mhd") == tmp_path / "b.raw"
