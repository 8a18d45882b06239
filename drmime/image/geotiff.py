"""Read GeoTIFF, also cloud-optimised, by GDAL (rasterio): a grid in the file's coordinate reference system, masks, levels; make
the tags of a georeference.

Sources: docs.ogc.org/is/19-008r4 (GeoTIFF 1.1); gdal.org/drivers/raster/gtiff.html.
"""

import contextlib
import importlib.util
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from drmime.errors import InputError, package
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import translation
from drmime.image.crs import UNKNOWN
from drmime.image.pixels import Pixels
from drmime.image.source import Source
from drmime.image.tiff import DAMAGE_WARNINGS, LARGE, collected_warnings, open_tiff, read_tiff

ENDINGS = (".tif", ".tiff")
SCALE, TRANSFORMATION, KEYS, NODATA = 33550, 34264, 34735, 42113  # tags: pixel lengths, a matrix, the CRS, the no-data value
REFERENCE = (SCALE, 33922, TRANSFORMATION, KEYS, 34736, 34737)  # tags that state a georeference
UNITS = {"metre": "m", "degree": "°", "unknown": ""}  # of GDAL; others keep their names
SAFE = {  # what is read is in the file itself: no file beside it, nothing that it names
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
}
ELSEWHERE = ("OVERVIEWS", "ProxyOverviewRequest")  # domains of metadata by which GDAL would open other files
MISSING = (
    "its georeference was not read, so that the world is that of its pixels: this needs rasterio, pip install 'drmime[geo]'."
)
CONTROL_POINTS = (
    "its georeference was not used, so that the world is that of its pixels: it has ground control points and no transform. "
    "Rectify it (gdalwarp) to use it."
)
NO_PLACE = "its coordinate reference system was not used: the file does not say where its pixels lie in it."


def is_geotiff(path: Path) -> bool:
    """Whether a file is a TIFF with tags of a georeference, and not OME-TIFF.

    Raises:
        tifffile.TiffFileError: it is no TIFF.
    """
    if path.suffix.lower() not in ENDINGS or not path.is_file():
        return False
    with collected_warnings(), tifffile.TiffFile(path, _multifile=False) as file:
        return not file.is_ome and any(tag in file.pages.first.tags for tag in (SCALE, TRANSFORMATION, KEYS))


def read_geotiff(path: Path, labels: bool) -> Pixels:
    """Read a TIFF file with its georeference, if it has one; else as `read_tiff`.

    World coordinates are those of the file's coordinate reference system, x first, of pixel centres. Values that are no-data or
    masked are in `mask`. A palette image gives its colours, or with `labels` its indices.

    Raises:
        InputError: as `read_tiff`; a georeference that is not invertible, or several images in one file.
    """
    if not is_geotiff(path):
        return read_tiff(path, labels)
    found = _opened(path)
    if found.source is None:
        return replace(read_tiff(path, labels), note=found.note)
    pixels = found.source.pixels()
    if found.colours is None or labels:
        return pixels
    colours, (first, second) = found.colours[pixels.array], pixels.space
    mask = None if pixels.mask is None else np.repeat(pixels.mask[..., None], colours.shape[-1], -1)
    return replace(pixels, array=colours, space=(first, second), channel_axis=2, mask=mask, names="YXS", nodata=None)


def open_geotiff(path: Path) -> Source | None:
    """The levels of a GeoTIFF, its overviews; None if it has one, which is not large, or indices of a palette, which are not
    averaged. Of any other TIFF as `open_tiff`.

    Raises:
        InputError: as `read_geotiff`.
    """
    if not is_geotiff(path):
        return open_tiff(path)
    found = _opened(path)
    if found.source is None:
        source = open_tiff(path)
        return None if source is None else replace(source, note=found.note)
    many = len(found.source.arrays) > 1 or math.prod(found.source.arrays[0].shape) >= LARGE
    return found.source if many and found.colours is None else None


def geo_tags(grid: Grid, nodata: float | None = None) -> list[tuple[int, int, int, Any, bool]]:
    """Additional tags (code, type, count, value, True) of a TIFF on a georeferenced grid, as tifffile takes them.

    Raises:
        InputError: rasterio is not installed.
    """
    rasterio = package("rasterio", "GeoTIFF files", "geo")
    corner = grid.world_from_index @ translation(torch.tensor([-0.5, -0.5], dtype=torch.float64))
    crs = None if grid.crs == UNKNOWN else rasterio.crs.CRS.from_user_input(grid.crs)
    form = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
    with rasterio.io.MemoryFile() as memory:
        with memory.open(**form, crs=crs, transform=rasterio.Affine(*corner[:2].flatten().tolist())):
            pass
        with tifffile.TiffFile(io.BytesIO(memory.read())) as file:
            own = file.pages.first.tags
            tags = [(code, int(own[code].dtype), own[code].count, own[code].value, True) for code in REFERENCE if code in own]
    if nodata is not None:
        text = f"{nodata:.17g}"
        tags.append((NODATA, 2, len(text) + 1, text, True))
    return tags


@dataclass(frozen=True)
class _Opened:
    """What a GeoTIFF holds: its levels if it states places, else a note that says why it does not; the colours of a palette."""

    source: Source | None = None
    note: str = ""
    colours: np.ndarray | None = None  # shape: (indices, 3), uint8


def _opened(path: Path) -> _Opened:
    if importlib.util.find_spec("rasterio") is None:
        return _Opened(note=MISSING)
    _check_parts(path)
    with warnings.catch_warnings(action="ignore"), _dataset(path) as data:  # rasterio warns of files without a transform
        if any(data.tags(ns=domain) for domain in ELSEWHERE):
            raise InputError(f"{path}: its metadata name another file with its overviews, which is not opened. Remove them.")
        if len(data.subdatasets) > 1:
            raise InputError(
                f"{path}: holds {len(data.subdatasets)} images; save one of them by itself, as by gdal_translate "
                f"GTIFF_DIR:1:{path.name} one.tif"
            )
        if data.transform.is_identity:
            return _Opened(note=CONTROL_POINTS if data.gcps[0] else NO_PLACE)
        masked = not all("all_valid" in [flag.name for flag in flags] for flags in data.mask_flag_enums)
        colours = data.colormap(1) if data.colorinterp[0].name == "palette" else None
        grid = _grid(path, data)
        axes, shapes = _axes(data), [(data.height, data.width)]
        count, dtype, chunk = data.count, np.dtype(data.dtypes[0]), data.block_shapes[0]
        overviews, nodata = len(data.overviews(1)), _held(data.nodata, dtype)
    for number in range(overviews):
        with _dataset(path, overview_level=number) as data:
            shapes.append((data.height, data.width))
    order = [0, *sorted((at for at in range(1, len(shapes)) if shapes[at] < shapes[0]), key=lambda at: -shapes[at][0])]
    made = [
        [_Level(path, at, axes, count, shapes[at], np.dtype(bool) if mask else dtype, chunk, mask) for at in order]
        for mask in (False, True)
    ]
    table = None
    if colours is not None:
        table = np.zeros((1 + max(colours), 3), np.uint8)
        for index, colour in colours.items():
            table[index] = colour[:3]
    return _Opened(Source(str(path), tuple(made[0]), axes, grid, tuple(made[1]) if masked else (), nodata), colours=table)


@contextlib.contextmanager
def _dataset(path: Path, **options: Any) -> Iterator[Any]:
    """A GeoTIFF as rasterio opens it: a file of this machine, in this format, without files beside it."""
    rasterio = package("rasterio", "GeoTIFF files", "geo")
    with rasterio.Env(**SAFE), rasterio.open(path.resolve(), driver="GTiff", sharing=False, **options) as data:
        yield data


def _axes(data: Any) -> str:
    """The letters of the axes: bands are colours (S) where the file says so, else channels (C)."""
    if data.count == 1:
        return "YX"
    colours = [one.name for one in data.colorinterp] in (["red", "green", "blue"], ["red", "green", "blue", "alpha"])
    return "CYX" if data.profile.get("interleave") == "band" else "YXS" if colours else "YXC"


def _held(nodata: float | None, dtype: np.dtype) -> float | None:
    """A no-data value, if the dtype can hold it."""
    if nodata is None or (dtype.kind in "iu" and not np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max):
        return None
    return nodata if dtype.kind == "f" or float(nodata).is_integer() else None


def _grid(path: Path, data: Any) -> Grid:
    """The grid of pixel centres; the file's transform is of their outer corners."""
    matrix = torch.tensor([*data.transform], dtype=torch.float64).view(3, 3)
    linear = matrix[:2, :2]
    flat = float(linear.det().abs()) <= 1e-9 * float(linear.square().sum())
    if flat or not bool(matrix.isfinite().all()):
        raise InputError(f"{path}: expected an invertible georeference, got the transform {matrix[:2].tolist()}")
    centres = matrix @ translation(torch.tensor([0.5, 0.5], dtype=torch.float64))
    crs, unit = data.crs, ""
    if crs:
        unit = UNITS.get(crs.units_factor[0], crs.units_factor[0])
    return Grid((data.height, data.width), centres, placed=True, unit=unit, crs=_text(crs) if crs else UNKNOWN)


def _text(crs: Any) -> str:
    """A coordinate reference system as text: its EPSG code if that is the same one, else WKT."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code is not None and type(crs).from_epsg(code) == crs else crs.to_wkt()


def _check_parts(path: Path) -> None:
    """Raise an InputError if parts of the pixels are not in the file; parts of 0 bytes hold no values, as GDAL writes them."""
    size = path.stat().st_size
    with collected_warnings() as told, tifffile.TiffFile(path, _multifile=False) as file:
        for page in file.pages:
            if any(offset + count > size for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
                raise InputError(f"{path}: truncated or damaged: a part of its pixels is not in the file")
        if damage := next((line for line in told if any(words in line for words in DAMAGE_WARNINGS)), None):
            raise InputError(f"{path}: truncated or damaged ({damage})")


class _Level:
    """A level of a GeoTIFF, or which of its values are valid. The file is opened for each part that is read."""

    def __init__(
        self, path: Path, number: int, axes: str, count: int, shape: tuple[int, int], dtype: np.dtype, chunk: Any, mask: bool
    ) -> None:
        self._path, self._axes, self._mask = path, axes, mask
        self._options = {"overview_level": number - 1} if number else {}
        lengths = {"Y": shape[0], "X": shape[1], "C": count, "S": count}
        self.shape, self.dtype = tuple(lengths[letter] for letter in axes), dtype
        self.chunks = tuple(min(n, lengths[letter]) for letter, n in zip(axes, self._along(chunk, count), strict=True))

    def _along(self, chunk: Any, count: int) -> list[int]:
        sides = {"Y": chunk[0], "X": chunk[1], "C": 1 if self._axes[0] == "C" else count, "S": count}
        return [sides[letter] for letter in self._axes]

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        """Values in a box; `key` has one slice with step 1 for each axis."""
        parts = dict(zip(self._axes, key, strict=True))
        window = tuple(parts[letter].indices(self.shape[self._axes.index(letter)])[:2] for letter in "YX")
        with _dataset(self._path, **self._options) as data:
            found = data.read_masks(window=window) != 0 if self._mask else data.read(window=window)
        if "C" not in parts and "S" not in parts:
            return found[0]
        bands = next(parts[letter] for letter in "CS" if letter in parts)
        return found[bands] if self._axes[0] == "C" else np.moveaxis(found[bands], 0, -1)
