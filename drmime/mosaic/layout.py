"""Where tiles are expected: rows and columns, positions, or those of a microscope's stage; and which tiles may overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drmime.errors import InputError, number, numbers, shown, whole
from drmime.geometry.grid import Grid
from drmime.image.stage import stage_position
from drmime.registry import known

ORDERS = ("row", "snake", "column", "column-snake")
KEYS = ("rows", "columns", "order")


@dataclass(frozen=True, eq=False)
class Layout:
    """Where tiles are expected."""

    positions: np.ndarray  # of the tiles' first pixels, world, x first. shape: (N, D); NaN of a tile that cannot be read
    reach: np.ndarray  # world length by which the shift between two tiles may differ from that. shape: (D,)

    def pairs(self, grids: Mapping[int, Grid]) -> list[tuple[int, int]]:
        """The pairs of tiles that overlap if their places are off by as much."""
        numbers = sorted(grids)
        boxes = {}  # of each tile, from its first pixel
        for one in numbers:
            corners = grids[one].corners() - grids[one].world_from_index[:-1, -1]
            boxes[one] = corners.amin(0).numpy(), corners.amax(0).numpy()
        found = []
        for at, one in enumerate(numbers):
            for other in numbers[at + 1 :]:
                apart = self.positions[other] - self.positions[one]
                (low, high), (least, most) = boxes[one], boxes[other]
                if ((apart + least < high + self.reach) & (apart + most > low - self.reach)).all():
                    found.append((one, other))
        return found


def layout_of(given: Any, tiles: Sequence[Any], grids: Mapping[int, Grid], overlap: float, margin: float) -> Layout | None:
    """The expected positions of tiles; None if nothing is known of them.

    Args:
        given: as `layout` of `drmime.stitch`.
        grids: of the tiles that can be read.

    Raises:
        InputError: a layout that cannot be used, or in which no two tiles touch.
    """
    overlap = number("overlap", overlap, -1e-9, 1)
    margin = number("margin", margin, 0)
    if given is None:
        return None
    sizes = np.stack([(grid.size * grid.spacing).numpy() for grid in grids.values()])
    if isinstance(given, str):
        known("layout", given, ("stage",))
        places = _stage(tiles, grids)
    elif isinstance(given, Mapping) or _is_grid(given):
        first = next(iter(grids.values()))
        directions = (first.world_from_index[:-1, :-1] / first.spacing).numpy()  # of rows and columns in the world
        places = _rows_and_columns(given, len(tiles), sizes.max(0), overlap) @ directions.T
    else:
        form = f"None, (rows, columns), 'stage' or positions of shape {(len(tiles), sizes.shape[1])}"
        places = numbers("layout", given, form)
        if places.shape != (len(tiles), sizes.shape[1]):
            raise InputError(f"layout: expected {form}, x first, got shape {places.shape}")
        if not np.isfinite(places).all():
            raise InputError(f"layout: expected finite positions, got {int((~np.isfinite(places)).sum())} that are not")
    found = Layout(places, margin * sizes.max(0))
    if not found.pairs(grids):
        raise InputError("layout: expected tiles that overlap or touch, got positions at which no two do. Check their unit.")
    return found


def _is_grid(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and len(given) == 2 and all(isinstance(one, (int, np.integer)) for one in given)


def _rows_and_columns(given: Any, count: int, side: np.ndarray, overlap: float) -> np.ndarray:
    """Positions of tiles in rows and columns, in the plane of the first two axes. shape: (N, D)"""
    if not isinstance(given, Mapping):
        given = dict(zip(KEYS, given, strict=False))
    for key in given:
        known("key of layout", key, KEYS)
    if not {"rows", "columns"} <= set(given):
        raise InputError(f"layout: expected rows and columns, got {shown(given)}")
    rows, columns = (whole(f"layout: {key}", given[key], 1) for key in ("rows", "columns"))
    order = known("order of layout", given.get("order", "row"), ORDERS)
    if rows * columns != count:
        raise InputError(f"layout: expected {rows} rows of {columns} columns, {rows * columns} tiles, got {count}")
    by_column = order.startswith("column")
    length = rows if by_column else columns
    line, place = np.divmod(np.arange(count), length)
    if order.endswith("snake"):
        place = np.where(line % 2 == 1, length - 1 - place, place)
    across = np.stack([line, place] if by_column else [place, line], -1)
    places = np.zeros((count, len(side)))
    places[:, :2] = across * (1 - overlap) * side[:2]
    return places


def _stage(tiles: Sequence[Any], grids: Mapping[int, Grid]) -> np.ndarray:
    """The positions that OME-TIFF files state, in micrometres. shape: (N, D)"""
    ndim = next(iter(grids.values())).ndim
    places = np.full((len(tiles), ndim), np.nan)
    for at, grid in grids.items():
        if not isinstance(tiles[at], (str, Path)):
            raise InputError(f"layout: expected paths of OME-TIFF files for 'stage', got {shown(tiles[at])} as tile {at}")
        if grid.unit != "µm":
            raise InputError(f"{tiles[at]}: states no pixel length in a known unit, which its stage position needs")
        places[at] = stage_position(Path(tiles[at]), ndim)
    return places
