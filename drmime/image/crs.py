"""Coordinate reference systems of georeferenced images, as `Grid.crs` holds them: an EPSG code or WKT."""

import importlib.util
from collections.abc import Sequence

from drmime.errors import InputError, package
from drmime.geometry.grid import Grid

UNKNOWN = "unknown"  # in `Grid.crs`: the pixels have places in a world that the file does not name


def check_crs(one: Grid, other: Grid, names: Sequence[str]) -> None:
    """Check that two georeferenced images have one coordinate reference system.

    Raises:
        InputError: they have not.
    """
    known = {one.crs, other.crs} - {"", UNKNOWN}
    if len(known) == 2 and not _equal(*known):
        raise InputError(
            f"expected one coordinate reference system, got {crs_name(one.crs)} of {names[0]} and {crs_name(other.crs)} of "
            f"{names[1]}. Reproject one, as by gdalwarp -t_srs {crs_name(one.crs)} IN OUT or rasterio.warp.reproject."
        )


def crs_name(crs: str) -> str:
    """A short name of a coordinate reference system: its code, or the name in its WKT."""
    return crs if crs.startswith("EPSG:") else [*crs.split('"'), crs][1]


def _equal(one: str, other: str) -> bool:
    if one == other or importlib.util.find_spec("rasterio") is None:
        return one == other
    make = package("rasterio.crs").CRS.from_user_input
    return bool(make(one) == make(other))
