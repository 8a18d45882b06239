"""What a `Registration` tells of its deformation: changes of volume, folds, the error of the inverse, and a picture."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.geometry.grid import Grid, unravel
from drmime.geometry.matrices import apply
from drmime.image.io import write_image
from drmime.modes import own_defaults
from drmime.pictures import mesh
from drmime.transform.base import Transform

CHUNK = 2**17  # pixels whose derivatives are computed at a time
PLACES = 2**16  # of the fixed image, about, at which folds and the error of the inverse are looked for


class Deforming:
    """The methods of `Registration` for maps that are no matrices; they hold for all maps."""

    transform: Transform
    fixed_grid: Grid
    moving_grid: Grid

    @own_defaults
    def volume_change(self) -> np.ndarray:
        """The factor by which the map changes areas (volumes), at each pixel of the fixed image; not positive where it folds.

        It is the determinant of the Jacobian matrix, world of the moving image by world of the fixed one. The array has the
        fixed image's shape, float32; NaN where a point has no image.

        Example:
            >>> bool((result.volume_change() == 1).all())
            True
        """
        out = np.empty(math.prod(self.fixed_grid.shape), np.float32)
        for start in range(0, len(out), CHUNK):
            part = torch.arange(start, min(start + CHUNK, len(out)))
            pixels = unravel(part, self.fixed_grid.shape).flip(-1).double()
            out[start : start + CHUNK] = self._determinants(pixels, self.fixed_grid).numpy()
        return out.reshape(self.fixed_grid.shape)

    @property
    @own_defaults
    def folded(self) -> float:
        """The share of the fixed image where the map folds or mirrors, unlike at its centre; at about 65,000 places.

        Example:
            >>> result.folded
            0.0
        """
        grid = self._places()
        signs = self._determinants(grid.index_points(), grid).sign()
        middle = self._determinants(((grid.size - 1) / 2)[None], grid).sign()
        known = signs.isfinite()
        return float((signs[known] != middle).double().mean()) if bool(known.any()) else math.nan

    @property
    @own_defaults
    def inverse_error(self) -> float:
        """The largest distance, in pixels of the fixed image, of points from where `to_moving` and `to_fixed` take them.

        Points are about 65,000 of the fixed image; the inverse of a deformation is computed numerically.

        Example:
            >>> result.inverse_error < 1e-9
            True
        """
        grid = self._places()
        points = grid.world_points()
        off = self.transform.inverse()(self.transform(points)) - points
        off = off[off.isfinite().all(-1)]
        return float(off.norm(dim=-1).max() / self.fixed_grid.spacing.min()) if len(off) else math.nan

    @own_defaults
    def mesh(self, moving: Any, path: str | Path | None = None, channel_axis: Any = "auto") -> np.ndarray:
        """A picture of the deformation, 8-bit RGB: lines on the moving image, left as it is, right warped; volumes as slices.

        Args:
            moving: the registered moving image.
            path: where to write the picture, if anywhere.
            channel_axis: as in `register`, of this image.

        Raises:
            InputError: an image of another shape, or a path that cannot be written.

        Example:
            >>> result.mesh(moving).dtype
            dtype('uint8')
        """
        picture = mesh(moving, self.transform, self.fixed_grid, self.moving_grid, channel_axis)
        if path is not None:
            write_image(path, picture)
        return picture

    def _places(self) -> Grid:
        """The fixed grid with at most about `PLACES` pixels."""
        shape = self.fixed_grid.shape
        factor = min(1.0, (PLACES / math.prod(shape)) ** (1 / len(shape)))
        return self.fixed_grid.resized([max(1, round(length * factor)) for length in shape])

    def _determinants(self, pixels: Tensor, grid: Grid) -> Tensor:
        points = apply(grid.world_from_index, pixels, is_affine=True)[0]
        known = self.transform(points).isfinite().all(-1)
        return self.transform.jacobian(points).det().where(known, math.nan)
