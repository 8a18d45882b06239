"""Headers of MetaImage and NRRD: what they promise is there, and in their own folder."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from drmime.errors import InputError
from drmime.image.headers import companion
from drmime.image.io import read_image

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


def test_numbers_as_text_and_long_words_of_metaimage_are_read(tmp_path: Path) -> None:
    head = "ObjectType = Image\nNDims = 2\nDimSize = 14 12\n"
    text = f"{head}BinaryData = False\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "text.mha").write_text(text + " ".join(map(str, VOLUME[0].ravel())) + "\n")
    assert np.array_equal(read_image(tmp_path / "text.mha").array, VOLUME[0])
    words = f"{head}BinaryData = True\nBinaryDataByteOrderMSB = False\nElementType = MET_LONG\nElementDataFile = LOCAL\n"
    (tmp_path / "long.mha").write_bytes(words.encode() + VOLUME[0].astype("<i4").tobytes())
    assert np.array_equal(read_image(tmp_path / "long.mha").array, VOLUME[0])


def test_long_headers_and_several_gzip_members_of_nrrd_are_read(tmp_path: Path) -> None:
    head = "NRRD0004\ntype: short\ndimension: 2\nsizes: 14 12\nencoding: gzip\nendian: little\n"
    content = VOLUME[0].astype("<i2").tobytes()
    long = head + "".join(f"key{number}:={'x' * 1000}\n" for number in range(100)) + "\n"
    (tmp_path / "long.nrrd").write_bytes(long.encode() + gzip.compress(content))
    assert np.array_equal(read_image(tmp_path / "long.nrrd").array, VOLUME[0])
    half = len(content) // 2
    members = gzip.compress(content[:half]) + gzip.compress(content[half:])
    (tmp_path / "members.nrrd").write_bytes((head + "\n").encode() + members)
    assert np.array_equal(read_image(tmp_path / "members.nrrd").array, VOLUME[0])
