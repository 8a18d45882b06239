"""TIFF: axes and pixel lengths by OME or ImageJ metadata, and every page that is promised."""

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.headers import fits
from drmime.image.pixels import Pixels

UNITS = {  # micrometres
    **{"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "\\u00b5m": 1.0},
    **{"mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0, "Å": 1e-4},
}
DAMAGE = ("invalid page offset", "corrupted", "invalid value offset", "invalid tag offset")  # what tifffile warns of


def read_tiff(path: Path, labels: bool) -> Pixels:
    """The first series of a TIFF file; axes and pixel lengths, in micrometres, are those that OME or ImageJ metadata state.

    Rows and columns are taken as stored; a palette stands for its colours, or with `labels` for its entries.
    """
    with _heard() as warnings, tifffile.TiffFile(path, _multifile=False) as file:
        series = file.series[0]
        fits(path, series.nbytes)
        stated = _ome_pixels(file) if file.is_ome else {}
        _check_tiff(path, file, series, stated, warnings)
        array, axes = series.asarray(), series.axes
        colours = series.keyframe.colormap
        if colours is not None and not labels:  # 16 bits in the file
            array, axes = np.moveaxis(colours[:, array] // 256, 0, -1).astype(np.uint8), axes + "S"
        lengths = _lengths(file, stated)
    named = [at for at, axis in enumerate(axes) if axis in "SC"]
    if len([at for at in named if array.shape[at] > 1]) > 1:  # RGB planes of several channels: the planes are the channels
        array = np.moveaxis(array, (axes.index("C"), axes.index("S")), (-2, -1))
        axes = axes.replace("C", "").replace("S", "") + "C"
        array = array.reshape(*array.shape[:-2], -1)
        named = [len(axes) - 1]
    named = [at for at in named if array.shape[at] > 1] or named
    unnamed = set(axes) & set("QI")
    if unnamed and not named:
        return Pixels(array)  # nothing is stated
    space = tuple(at for at, axis in enumerate(axes) if axis in ("ZYXQI" if unnamed else "ZYX"))
    channel_axis = named[0] if named else "auto" if len(space) < array.ndim else None  # "auto": an axis of time, say
    grid = None
    if lengths and not unnamed:
        grid = Grid.regular([array.shape[at] for at in space], [lengths.get(axes[at], 1.0) for at in space])
    return Pixels(array, grid, space, channel_axis)


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """What tifffile warns of, instead of the screen."""
    logger, said = logging.getLogger("tifffile"), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _check_tiff(path: Path, file: Any, series: Any, stated: Mapping[str, Any], warnings: Sequence[str]) -> None:
    """An InputError where pages, or parts of them, are not there: they would be left out, or zeros."""
    if damage := next((line for line in warnings if any(words in line for words in DAMAGE)), None):
        raise InputError(f"{path}: truncated or damaged ({damage})")
    size = path.stat().st_size
    for page in series.pages:
        if page is None:
            raise InputError(f"{path}: refers to planes that it does not hold; save it as one file")
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if any(count == 0 or offset + count > size for offset, count in parts):
            raise InputError(f"{path}: truncated or damaged: a part of its pixels is not in the file")
    expected = _stated_size(file, stated)
    if expected and series.size < expected:
        raise InputError(f"{path}: truncated or damaged: its metadata states {expected} values, got {series.size}")


def _stated_size(file: Any, stated: Mapping[str, Any]) -> int:
    """Values that OME (`stated`) or ImageJ metadata promise; 0 where they promise nothing."""
    if file.is_ome:
        return math.prod(int(stated.get(f"Size{axis}", 1)) for axis in "XYZCT")
    told = file.imagej_metadata or {}
    return int(told.get("images", 0)) * math.prod(file.pages.first.shape)


def _ome_pixels(file: Any) -> dict[str, Any]:
    """The attributes of the first image's pixels in OME metadata."""
    state = tifffile.xml2dict(file.ome_metadata).get("OME", {}).get("Image", {})
    state = state[0] if isinstance(state, list) else state
    return dict(state.get("Pixels", {}))


def _lengths(file: Any, stated: Mapping[str, Any]) -> dict[str, float]:
    """Pixel lengths by axis, in micrometres; none where there is no unit of length."""
    if file.is_ome:
        units = {axis: UNITS.get(stated.get(f"PhysicalSize{axis}Unit", "µm"), 0.0) for axis in "XYZ"}
        lengths = {axis: float(stated.get(f"PhysicalSize{axis}") or 0) * unit for axis, unit in units.items()}
    else:
        told = file.imagej_metadata or {}
        unit = UNITS.get(str(told.get("unit", "")).lower(), 0.0)
        lengths = {"Z": float(told.get("spacing") or 0) * unit}
        for axis in "XY":
            tag = file.pages.first.tags.get(f"{axis}Resolution")
            lengths[axis] = unit * tag.value[1] / tag.value[0] if tag is not None and all(tag.value) else 0.0
    return {axis: length for axis, length in lengths.items() if length > 0}
