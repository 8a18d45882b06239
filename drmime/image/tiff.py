"""Read TIFF, whole or by level and region: axes and pixel lengths from OME or ImageJ metadata; a check that all declared pages
are in the file."""

import contextlib
import logging
import math
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from drmime.errors import InputError, package
from drmime.geometry.grid import Grid
from drmime.image.headers import fits
from drmime.image.pixels import Pixels
from drmime.image.source import Source, space_of

UNITS = {  # micrometres
    **{"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "\\u00b5m": 1.0},
    **{"mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0, "Å": 1e-4},
}
TIFF = (".tif", ".tiff", ".btf", ".svs", ".ndpi", ".scn", ".bif", ".qptiff")
LARGE = 2**28  # values; a file without coarser levels is read by regions from this size on
_lock = threading.Lock()
_passed_on: list[bool] = []  # whether warnings were passed on before each collection that has begun
DAMAGE_WARNINGS = (  # of tifffile, in parts
    *("invalid page offset", "invalid offset", "corrupted"),
    *("invalid value offset", "invalid tag offset"),
)


def read_tiff(path: Path, labels: bool) -> Pixels:
    """Read the first series of a TIFF file; axes and pixel lengths (micrometres) are those of the OME or ImageJ metadata.

    Rows and columns are not rotated. A palette image gives its colours, or with `labels` its indices.

    Raises:
        InputError: the file is truncated or damaged, larger than the memory, or refers to planes in other files.
    """
    with collected_warnings() as warnings, tifffile.TiffFile(path, _multifile=False) as file:
        if not file.is_ome and "<OME " in file.pages.first.description[:1000]:  # tifffile would ignore them
            raise InputError(f"{path}: expected OME metadata that are whole, got an XML document without its end")
        series = file.series[0]
        fits(path, series.nbytes)
        stated = ome_pixels(file) if file.is_ome else {}
        _check_tiff(path, file, series, stated, warnings)
        array, axes = series.asarray(), series.axes
        colours = series.keyframe.colormap
        if colours is not None and not labels:  # colour maps of TIFF have 16 bits
            array, axes = np.moveaxis(colours[:, array] // 256, 0, -1).astype(np.uint8), axes + "S"
        lengths = _lengths(file, stated, [axis for axis, length in zip(axes, array.shape, strict=True) if length > 1])
    named = [at for at, axis in enumerate(axes) if axis in "SC"]
    if len([at for at in named if array.shape[at] > 1]) > 1:  # several channels of RGB each: every plane becomes a channel
        array = np.moveaxis(array, (axes.index("C"), axes.index("S")), (-2, -1))
        axes = axes.replace("C", "").replace("S", "") + "C"
        array = array.reshape(*array.shape[:-2], -1)
        named = [len(axes) - 1]
    named = [at for at in named if array.shape[at] > 1] or named
    unnamed = set(axes) & set("QI")
    if unnamed and not named:
        return Pixels(array)  # the metadata do not state the axes
    space = tuple(at for at, axis in enumerate(axes) if axis in ("ZYXQI" if unnamed else "ZYX"))
    channel_axis = named[0] if named else "auto" if len(space) < array.ndim else None  # "auto": for example an axis of time
    grid = None
    if lengths and not unnamed:
        grid = Grid.regular([array.shape[at] for at in space], [lengths.get(axes[at], 1.0) for at in space], "µm")
    return Pixels(array, grid, space, channel_axis, names=axes)


def open_tiff(path: Path) -> Source | None:
    """The levels of a TIFF file, such as a whole slide; None if it has one, which is not large, or if its axes are not known.

    Raises:
        InputError: the file is truncated or damaged.
    """
    with collected_warnings() as warnings, contextlib.ExitStack() as opened:
        file = opened.enter_context(tifffile.TiffFile(path, _multifile=False))
        series = file.series[0]
        axes = series.axes
        known = set("YX") <= set(axes) <= set("TCSZYX") and all(level.axes == axes for level in series.levels)
        if not known or (len(series.levels) == 1 and series.size < LARGE):
            return None
        stated = ome_pixels(file) if file.is_ome else {}
        for level in series.levels:
            _check_tiff(path, file, level, stated if level is series else {}, warnings)
        lengths = _lengths(file, stated, [axis for axis in axes if axis in "ZYX"]) or _aperio_lengths(file)
        file.filehandle.set_lock(True)  # tiles are read by several threads
        opened.pop_all()  # the file stays open
    closing = _Closing(file)
    space = space_of(axes, series.shape)
    unit = "µm" if lengths else ""
    grid = Grid.regular([series.shape[at] for at in space], [lengths.get(axes[at], 1.0) for at in space], unit)
    return Source(str(path), tuple(_Level(series, number, closing) for number in range(len(series.levels))), axes, grid)


class _Closing:
    """Closes a file when this object is not used any more."""

    def __init__(self, file: Any) -> None:
        weakref.finalize(self, file.close)


class _Level:
    """A level of a series: as a whole by tifffile, a part of it by zarr. The file is open as long as there is a level."""

    def __init__(self, series: Any, number: int, closing: "_Closing") -> None:
        self._series, self._number = series.levels[number], number
        self.shape, self.dtype = self._series.shape, self._series.dtype
        self.chunks = self._series.keyframe.chunks  # of a page
        self._whole = series
        self._closing = closing
        self._array: Any = None
        self._opening = threading.Lock()

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        if all(part.indices(length)[:2] == (0, length) for part, length in zip(key, self.shape, strict=True)):
            return self._series.asarray()
        with self._opening:
            if self._array is None:
                zarr = package("zarr", "regions of slides", "slides")
                self._array = zarr.open(self._whole.aszarr(level=self._number), mode="r")
        return np.asarray(self._array[key])


def _aperio_lengths(file: Any) -> dict[str, float]:
    """Pixel lengths of a slide of Aperio (SVS), in micrometres; none if they are not stated."""
    words = (part.partition("=") for part in file.pages.first.description.split("|")) if file.is_svs else ()
    stated = {name.strip(): value.strip() for name, _, value in words}
    try:
        length = float(stated.get("MPP", ""))
    except ValueError:
        return {}
    return {"Y": length, "X": length} if 0 < length < math.inf else {}


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the warnings that tifffile gives in this thread in a list instead of printing them."""
    logger, messages, here = logging.getLogger("tifffile"), list[str](), threading.get_ident()
    handler = logging.Handler()
    handler.addFilter(lambda record: record.thread == here)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    with _lock:
        _passed_on.append(logger.propagate)
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield messages
    finally:
        with _lock:
            logger.removeHandler(handler)
            logger.propagate = _passed_on.pop()  # that of before the first one if this is the last to end


def _check_tiff(path: Path, file: Any, series: Any, stated: Mapping[str, Any], warnings: Sequence[str]) -> None:
    """Raise an InputError if pages or parts of them are missing; tifffile would omit them or read zeros."""
    if damage := next((line for line in warnings if any(words in line for words in DAMAGE_WARNINGS)), None):
        raise InputError(f"{path}: truncated or damaged ({damage})")
    size = path.stat().st_size
    sparse = series.keyframe.is_tiled and len(series.levels) > 1  # slides leave out tiles without content
    for page in series.pages:
        if page is None:
            raise InputError(f"{path}: refers to planes that it does not hold; save it as one file")
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if any((count == 0 and not sparse) or offset + count > size for offset, count in parts):
            raise InputError(f"{path}: truncated or damaged: a part of its pixels is not in the file")
    if series.dataoffset is not None and series.dataoffset + series.nbytes > size:  # all pages in one contiguous block
        raise InputError(f"{path}: truncated or damaged: a part of its pixels is not in the file")
    expected = _stated_size(file, stated)
    if expected and series.size < expected:
        raise InputError(f"{path}: truncated or damaged: its metadata states {expected} values, got {series.size}")


def _stated_size(file: Any, stated: Mapping[str, Any]) -> int:
    """The number of values that OME (`stated`) or ImageJ metadata declare; 0 if they declare none."""
    if file.is_ome:
        return math.prod(int(stated.get(f"Size{axis}", 1)) for axis in "XYZCT")
    metadata = file.imagej_metadata or {}
    return int(metadata.get("images", 0)) * math.prod(file.pages.first.shape)


def ome_pixels(file: Any) -> dict[str, Any]:
    """The attributes of the element Pixels of the first image in OME metadata."""
    state = tifffile.xml2dict(file.ome_metadata).get("OME", {}).get("Image", {})
    state = state[0] if isinstance(state, list) else state
    return dict(state.get("Pixels", {}))


def _lengths(file: Any, stated: Mapping[str, Any], axes: Sequence[str]) -> dict[str, float]:
    """Pixel lengths of `axes`, in micrometres; those without a length or a known unit are absent."""
    if file.is_ome:
        units = {axis: UNITS.get(stated.get(f"PhysicalSize{axis}Unit", "µm"), 0.0) for axis in "XYZ"}
        lengths = {axis: _length(stated, axis) * unit for axis, unit in units.items() if axis in axes}
    else:
        metadata = file.imagej_metadata or {}
        unit = UNITS.get(str(metadata.get("unit", "")).lower(), 0.0)
        lengths = {"Z": float(metadata.get("spacing") or 0) * unit}
        for axis in "XY":
            tag = file.pages.first.tags.get(f"{axis}Resolution")
            lengths[axis] = unit * tag.value[1] / tag.value[0] if tag is not None and all(tag.value) else 0.0
    return {axis: length for axis, length in lengths.items() if length > 0}


def _length(stated: Mapping[str, Any], axis: str) -> float:
    """The pixel length along an axis in OME metadata, 0 if they state none; InputError for one that is not positive."""
    value = stated.get(f"PhysicalSize{axis}")
    if value is None:
        return 0.0
    try:
        length = float(value)
    except (TypeError, ValueError):
        length = math.nan
    if not 0 < length < math.inf:
        raise InputError(
            f"expected a positive PhysicalSize{axis} in its OME metadata, got {value!r}. Correct or remove it "
            "(tifffile.tiffcomment writes the metadata alone)."
        )
    return length
