"""Check headers before ITK reads a file: the declared pixels fit into memory, are complete, and lie in the header's own folder.

ITK itself reads missing pixels as zeros, ignores errors in a compressed stream, and opens any file that a header names.
"""

import math
import mmap
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from drmime.errors import InputError

MAX_HEADER = 2**24  # bytes; largest header that is read, without pixels
MAX_COMPRESSION = 1100  # largest ratio of decompressed to compressed size
CHUNK = 2**20  # bytes read or decompressed at a time
GZIP_MAGIC = b"\x1f\x8b"  # first bytes of each member of a gzip file
META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG_LONG": 8, "LONG": 4, "FLOAT": 4, "DOUBLE": 8}  # for MET_CHAR, MET_UCHAR
NRRD_BYTES = {"float": 4, "double": 8, "char": 1, "short": 2, "int": 4, "longlong": 8, "long": 8}
PIXEL_DATA, END_OF_ITEMS = b"\xe0\x7f\x10\x00", b"\xfe\xff\xdd\xe0"  # tags of DICOM: of the pixels, and after compressed ones
UNDEFINED = 2**32 - 1  # length of pixels in DICOM that are compressed
META, NRRD = (".mha", ".mhd"), (".nrrd", ".nhdr")


def memory() -> int:
    """The memory of this machine in bytes; 16 GiB where the system does not state it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 2**34


def fits(path: str | Path, size: int, packed: bool = False) -> None:
    """Check that the `size` in bytes that a header declares fits into memory and, if the file is `packed`, into the file.

    Raises:
        InputError: it is larger than the memory, or than a compressed file of this size can hold.
    """
    if size > memory():
        raise InputError(f"{path}: declares {size / 2**30:.3g} GiB of pixels, this machine has {memory() / 2**30:.3g} GiB")
    if packed and size > MAX_COMPRESSION * Path(path).stat().st_size + 2**16:
        raise InputError(f"{path}: truncated or damaged: {Path(path).stat().st_size} bytes cannot hold the {size} it declares")


def check_meta(path: Path) -> None:
    """Check a MetaImage file (.mha, .mhd).

    Raises:
        InputError: it refers to a file outside its folder, its pixels are incomplete or damaged, or a pixel length is not
            positive.
    """
    fields, data, offset = _header(path)
    lengths = fields.get("elementspacing", "").split()
    if not all(float(length) > 0 for length in lengths):  # ITK reads -1 as 1
        raise InputError(f"{path}: expected a positive ElementSpacing, got {' '.join(lengths)}")
    sizes = [int(word) for word in fields.get("dimsize", "").split()]
    kind = fields.get("elementtype", "").removeprefix("MET_").removeprefix("U").removesuffix("_ARRAY")
    expected = math.prod([*sizes, int(fields.get("elementnumberofchannels", "1"))]) * META_BYTES.get(kind, 1)
    offset = offset if data == path else max(0, int(fields.get("headersize", "0")))
    if fields.get("binarydata", "true").lower() == "false":  # pixels are stored as text
        return
    compressed = fields.get("compresseddata", "false").lower() == "true"
    _check_complete(path, data, offset, expected, compressed)


def check_nrrd(path: Path) -> None:
    """Check an NRRD file (.nrrd, .nhdr).

    Raises:
        InputError: it refers to a file outside its folder, or its pixels are incomplete or damaged.
    """
    fields, data, offset = _header(path)
    kind = re.sub(r"unsigned|signed|u(?=int)|_t|\s|\d+", "", fields.get("type", ""))
    bits = re.search(r"int(\d+)", fields.get("type", ""))
    size = int(bits[1]) // 8 if bits else NRRD_BYTES.get(kind, NRRD_BYTES.get(kind.removeprefix("u"), 1))
    expected = math.prod([int(word) for word in fields.get("sizes", "").split()]) * size
    encoding = fields.get("encoding", "raw").lower()
    if encoding in ("raw", "gzip", "gz") and not {"line skip", "lineskip", "byte skip", "byteskip"} & {*fields}:
        _check_complete(path, data, offset, expected, encoding != "raw")


def check_dicom(path: Path) -> None:
    """Check that the pixels that a DICOM file declares are in it; GDCM fills what is missing with zeros.

    Raises:
        InputError: they are not.
    """
    size = path.stat().st_size
    if not size:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        explicit = max(data.rfind(PIXEL_DATA + kind) for kind in (b"OW\0\0", b"OB\0\0"))  # the last one: earlier ones are icons
        start = explicit + 12 if explicit >= 0 else data.rfind(PIXEL_DATA) + 8
        if start < 12:  # no pixels, which SimpleITK tells
            return
        length = int.from_bytes(data[start - 4 : start], "little")
        whole = data.rfind(END_OF_ITEMS) > start if length == UNDEFINED else start + length <= size
    if not whole:
        raise InputError(f"{path}: truncated: expected {length} bytes of pixels, got {size - start}")


def companion(path: Path) -> Path | None:
    """The other file of a header and its pixels that are stored in two files; None if there is no other file."""
    ending = path.suffix.lower()
    if ending in (".hdr", ".img"):
        other = path.with_suffix(".img" if ending == ".hdr" else ".hdr")
        return other if other.is_file() else None
    if ending not in (*META, *NRRD):
        return None
    _, data, _ = _header(path)
    return None if data == path else data


def neighbour(header: Path, name: str) -> Path:
    """The path of the file `name` that a header refers to.

    Raises:
        InputError: it is not in the header's own folder, does not exist, or is a list of files.
    """
    if not name or Path(name).name != name or "\\" in name or "%" in name or name.split()[0].upper() == "LIST":
        raise InputError(
            f"{header}: points to {name!r}; expected one file in the header's own folder. Save it as one file (.mha, .nrrd)."
        )
    if not (header.parent / name).is_file():
        raise InputError(f"{header}: points to {name!r}, which does not exist beside it")
    return header.parent / name


def _header(path: Path) -> tuple[dict[str, str], Path, int]:
    """The fields of a header, the file of its pixels, and their offset there: the header's end, or 0 in a second file."""
    meta = path.suffix.lower() in META
    fields, end = _fields(path, "=" if meta else ":", "elementdatafile" if meta else "")
    place = fields.get("elementdatafile", "local") if meta else fields.get("data file", fields.get("datafile", ""))
    own = place.lower() == "local" if meta else not place
    return (fields, path, end) if own else (fields, neighbour(path, place), 0)


def _fields(path: Path, sign: str, last: str) -> tuple[dict[str, str], int]:
    """The keys (lower case) and values of a text header, and its end in bytes: after the key `last` or an empty line."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < MAX_HEADER and (line := file.readline(MAX_HEADER)):
            text = line.decode("utf-8", "replace").strip()
            if not text:
                break
            key, _, value = text.partition(sign)
            key = key.strip().lower()
            fields[key] = value.strip()
            if key == last:
                break
        return fields, file.tell()


def _check_complete(path: Path, data: Path, offset: int, expected: int, compressed: bool) -> None:
    """Raise an InputError if the pixels are incomplete or their compressed stream is damaged."""
    if not compressed:
        found = data.stat().st_size - offset
    else:
        try:
            found = sum(map(len, _decompressed(data, offset)))
        except (zlib.error, EOFError) as error:
            raise InputError(f"{path}: damaged: its compressed pixels cannot be read ({error})") from error
    if found < expected:
        raise InputError(f"{path}: truncated: expected {expected} bytes of pixels, got {found}")


def _decompressed(path: Path, offset: int) -> Iterator[bytes]:
    """The decompressed content of a zlib or gzip stream, in chunks; zlib checks the checksum at the end."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib or gzip
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(CHUNK):
            while chunk:
                yield stream.decompress(chunk, CHUNK)
                chunk = stream.unconsumed_tail
                if stream.eof and stream.unused_data.startswith(GZIP_MAGIC):  # another member follows
                    chunk, stream = stream.unused_data, zlib.decompressobj(zlib.MAX_WBITS | 32)
                elif stream.eof:
                    return
    if not stream.eof:
        raise EOFError("the stream ends too early")
