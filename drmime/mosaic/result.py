"""`Mosaic`: the result of `stitch`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.io import remove_numbered, write_image, write_table
from drmime.image.tiff import TIFF
from drmime.modes import own_defaults
from drmime.mosaic.fuse import HOWS, Fusing, mosaic_grid
from drmime.mosaic.tiles import Tiles
from drmime.mosaic.writing import write_tiled
from drmime.parts import INTERPOLATIONS
from drmime.pictures import thumbnail
from drmime.registry import known
from drmime.stack.consensus import AGREES
from drmime.transform.formats.files import write_transform
from drmime.transform.linear import MatrixTransform

LONGEST = 1200  # pixels of the longest side of a picture
CONNECTED, ALONE = (0, 158, 115), (213, 94, 0)  # outlines in a picture of tiles that links connect, and of others


@dataclass(frozen=True)
class TileLink:
    """The overlap of two tiles."""

    first: int
    second: int
    matrix: Tensor = field(repr=False)  # second_from_first, world of the tiles. shape: (D+1, D+1), float64
    shift: tuple[float, ...]  # from the first to the second tile in the mosaic, at the overlap's centre, world, x first
    error: float  # expected, world units
    chance: float  # how many correlations as high chance is expected to give at the shifts that were looked at
    score: float  # correlation of local contrasts in the overlap, -1 to 1
    weight: float  # 1 if it agrees with the places, 0 if it is contradicted
    misfit: float  # its distance from the places, world units; NaN if they are not known

    @property
    def contradicted(self) -> bool:
        return self.weight <= AGREES


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Where the tiles of a mosaic lie, and the overlaps from which that follows. In the examples it has two tiles."""

    transforms: tuple[MatrixTransform | None, ...]  # mosaic world to each tile's world; None of a tile without a place
    positions: np.ndarray  # of each tile's first pixel, mosaic world, x first. shape: (N, D); NaN without a place
    links: tuple[TileLink, ...]  # every overlap for which there is evidence
    parts: tuple[tuple[int, ...], ...]  # numbers of the tiles that links connect, the largest part first
    nominal: np.ndarray | None  # expected positions, of the layout; None if nothing was known. shape: (N, D)
    errors: Mapping[int, str]  # why a tile could not be read
    names: tuple[str, ...]  # paths of the tiles, or ""
    grids: tuple[Grid | None, ...] = field(repr=False)  # of each tile; None if it could not be read
    reading: Mapping[str, Any] = field(repr=False)  # options with which the tiles were read

    @property
    def grid(self) -> Grid:
        """The grid that holds all tiles that have a place. InputError if none has one."""
        if not any(self.transforms):
            raise InputError("mosaic: no tile has a place, since no two overlap")
        return mosaic_grid(self._placed().values())

    @property
    def unconnected(self) -> tuple[int, ...]:
        """Numbers of the tiles that could be read and that no link connects with the largest part."""
        largest = self.parts[0] if self.parts else ()
        return tuple(number for number, grid in enumerate(self.grids) if grid is not None and number not in largest)

    @cached_property
    def expected_errors(self) -> np.ndarray:
        """Root mean square error of each tile's position against the mean of the others of its part, world units. shape: (N,)

        Of the least squares fit to the links that agree, from their expected errors; NaN of tiles without a link.
        """
        found = np.full(len(self.transforms), math.nan)
        for part in self.parts:
            at = {number: place for place, number in enumerate(part)}
            laplacian = np.zeros((len(part), len(part)))
            for link in self.links:
                if link.first in at and not link.contradicted:
                    one, other = at[link.first], at[link.second]
                    share = link.weight / link.error**2
                    laplacian[[one, other], [one, other]] += share
                    laplacian[[one, other], [other, one]] -= share
            # of the inverse they are relative to the mean of all, of which a tile itself is one
            variances = np.maximum(np.diagonal(np.linalg.pinv(laplacian, hermitian=True)), 0)
            found[list(part)] = np.sqrt(variances) * len(part) / (len(part) - 1)
        return found

    @property
    def contradicted(self) -> tuple[TileLink, ...]:
        """Links that the others contradict."""
        return tuple(link for link in self.links if link.contradicted)

    @own_defaults
    def fuse(self, tiles: Sequence[Any], how: str = "blend", interpolation: str = "linear", fill: float = 0) -> np.ndarray:
        """The pixels of the mosaic, with the dtype and the axes of the tiles.

        Args:
            tiles: those of `stitch`, or others of the same shapes, such as another channel.
            how: in overlaps, "blend": the mean weighted by the distance to each tile's edge; "nearest": the value of the tile
                whose centre is nearest, so that nothing is averaged.
            interpolation: as for `Registration.warp`.
            fill: the value where no tile is.

        Raises:
            InputError: another number of tiles, tiles of other shapes, an option that is not known.

        Example:
            >>> mosaic.fuse(tiles).shape, mosaic.fuse(tiles).dtype
            ((64, 100), dtype('float64'))
        """
        fusing = self._fusing(tiles, how, interpolation, fill)
        return fusing.first.planes.whole(fusing.block(self.grid))

    @own_defaults
    def write(
        self, tiles: Sequence[Any], path: str | Path, how: str = "blend", interpolation: str = "linear", fill: float = 0
    ) -> None:
        """Write the mosaic to a file; arguments as of `fuse`.

        TIFF (.tif) is written row by row in tiles of 512 pixels, as BigTIFF where it is large, so the mosaic need not fit into
        memory. Other formats are those of `Registration.warp_file`, in memory.

        Raises:
            InputError: as `fuse`; a path that cannot be written, or a format that cannot hold the mosaic.
        """
        path = Path(path)
        if path.suffix.lower() in TIFF:
            write_tiled(path, self._fusing(tiles, how, interpolation, fill), self.grid)
        else:
            write_image(path, self.fuse(tiles, how, interpolation, fill), self.grid)

    @own_defaults
    def picture(self, tiles: Sequence[Any], path: str | Path | None = None) -> np.ndarray:
        """A small picture of the mosaic with the outlines of its tiles, orange of those that no link connects. -> (H, W, 3)

        Of a volume the middle slice. Written to `path`, if one is given.

        Raises:
            InputError: as `fuse`, or a path that cannot be written.
        """
        fusing, grid = self._fusing(tiles, "blend", "linear", 0), self.grid
        if grid.ndim == 3:
            grid = grid.cut([grid.shape[0] // 2, 0, 0], [1, *grid.shape[1:]])
        factor = max(1.0, max(grid.shape[-2:]) / LONGEST)
        small = grid.resized([*grid.shape[:-2], *(max(1, round(length / factor)) for length in grid.shape[-2:])])
        block = fusing.block(small, antialias=True)
        block = block.reshape(len(block), *small.shape[-2:])
        colours = thumbnail(block if len(block) == 3 else block.mean(0), LONGEST, 0 if len(block) == 3 else None)
        drawn = Pillow.fromarray(np.ascontiguousarray(colours))
        pencil = ImageDraw.Draw(drawn)
        connected = self.parts[0] if self.parts else ()
        for number, (transform, own) in sorted(self._placed().items(), key=lambda one: one[0] not in connected):
            corners = MatrixTransform(small.index_from_world)(transform.inverse()(own.corners())).numpy()
            # x is slowest among corners; of a volume those of one end of z
            outline = [tuple(corners[:: grid.ndim - 1][at, :2]) for at in (0, 1, 3, 2, 0)]
            pencil.line(outline, fill=CONNECTED if number in connected else ALONE, width=2)
        picture = np.asarray(drawn)
        if path is not None:
            write_image(path, picture)
        return picture

    def save(self, folder: str | Path) -> None:
        """Write positions.csv, pairs.csv, and the transform of each tile (`transforms/0003.json`).

        Raises:
            InputError: the folder cannot be written.
        """
        folder = Path(folder)
        axes = "xyz"[: self.positions.shape[1]]
        nominal = np.full_like(self.positions, math.nan) if self.nominal is None else self.nominal
        rows: list[list[Any]] = [["tile", "name", *axes, *(f"nominal_{axis}" for axis in axes), "expected_error", "part"]]
        for number, (name, place, expected) in enumerate(zip(self.names, self.positions, nominal, strict=True)):
            part = next((str(at) for at, part in enumerate(self.parts) if number in part), "")
            figures = (*place, *expected, self.expected_errors[number])
            rows.append([number, name, *map(_text, figures), part])
        write_table(folder / "positions.csv", rows)
        shifts = [f"shift_{axis}" for axis in axes]
        rows = [["first", "second", *shifts, "expected_error", "chance", "score", "weight", "misfit"]]
        for link in self.links:
            said = (link.error, link.chance, link.score, link.weight, link.misfit)
            rows.append([link.first, link.second, *map(_text, link.shift), *(f"{value:.4g}" for value in said)])
        write_table(folder / "pairs.csv", rows)
        for number, transform in enumerate(self.transforms):
            file = folder / "transforms" / f"{number:04d}.json"
            if transform is not None:
                write_transform(transform, file, "drmime")
            else:
                file.unlink(missing_ok=True)  # of an earlier run
        remove_numbered(folder / "transforms", len(self.transforms))

    def __str__(self) -> str:
        linked = len(self.parts[0]) if self.parts else 0
        size = " x ".join(map(str, self.grid.shape[::-1])) if any(self.transforms) else "no"
        misfits = [link.misfit for link in self.links if not link.contradicted]
        lines = [f"{len(self.transforms)} tiles, {len(self.links)} overlaps, {linked} tiles connected, {size} pixels"]
        if misfits:
            lines.append(f"overlaps fit to {np.median(misfits):.2g} (median) and {max(misfits):.2g} (largest), world units")
        for number, why in self.errors.items():
            lines.append(f"tile {number} {self.names[number]}: left out: {why}")
        lines += [f"part {at}: tiles {', '.join(map(str, part))}" for at, part in enumerate(self.parts) if at]
        for number in self.unconnected:
            where = "no place" if self.transforms[number] is None else "placed by the layout"
            lines.append(f"tile {number} {self.names[number]}: not connected with the others; {where}")
        lines += [f"overlap of {link.first} and {link.second}: contradicted by the others" for link in self.contradicted]
        return "\n".join(lines)

    def _fusing(self, tiles: Sequence[Any], how: str, interpolation: str, fill: float) -> Fusing:
        known("how", how, HOWS)
        known("interpolation", interpolation, INTERPOLATIONS)
        if not isinstance(tiles, (list, tuple)) or len(tiles) != len(self.transforms):
            given = len(tiles) if isinstance(tiles, (list, tuple)) else tiles
            raise InputError(f"tiles: expected a list of the {len(self.transforms)} of the mosaic, got {given!r}")
        if not any(self.transforms):
            raise InputError("mosaic: no tile has a place, since no two overlap")
        reading = {name: value for name, value in self.reading.items() if name != "channel"}  # all are fused
        return Fusing(Tiles(tiles, **reading), self._placed(), how, interpolation, fill)

    def _placed(self) -> dict[int, tuple[MatrixTransform, Grid]]:
        """The transform and the grid of each tile that has a place."""
        both = zip(self.transforms, self.grids, strict=True)
        return {
            at: (transform, grid) for at, (transform, grid) in enumerate(both) if transform is not None and grid is not None
        }


def _text(value: float) -> str:
    """A coordinate for a table; empty if it is not known."""
    return f"{value:.4f}" if math.isfinite(value) else ""
