"""What a `Registration` carries along: images, label maps and points."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.door import load
from drmime.image.io import write_image
from drmime.image.planes import Planes, planes_of
from drmime.modes import own_defaults
from drmime.parts import INTERPOLATIONS, LABEL_INTERPOLATIONS
from drmime.placing import Placing
from drmime.points.files import move_points
from drmime.registry import known
from drmime.tiled.job import Job, source_of
from drmime.tiled.run import MEMORY
from drmime.tiled.run import warp_tiles as run
from drmime.transform.grids import check_view, with_shape
from drmime.transform.interpolate import filled
from drmime.transform.warp import in_pixels, pulled

LOSSY = (".jpg", ".jpeg", ".webp")  # formats that blend pixels


class Warping(Placing):
    """The methods of `Registration` that warp images and files. In the examples `result` shifts x by 2 and y by 1."""

    @own_defaults
    def warp(
        self,
        moving: Any,
        interpolation: str = "linear",
        fill: float | None = None,
        channel_axis: Any = "auto",
        *,
        grid: Any = "fixed",
        spacing: Any = None,
        antialias: bool = True,
        same_extent: bool = False,
    ) -> np.ndarray:
        """Warp the moving image, or another image of its scene, to the grid of the fixed one; it is read once.

        An image whose file or object states origin and direction lies where these say, if those of the registered moving image
        were used as well: it may be of another resolution, or a part. Every other image has the shape of the registered moving
        image, or shows the same extent in more or fewer pixels, which pixel lengths or `same_extent` say.

        Args:
            moving: an image as for `register`; any channels, time points and dtype.
            interpolation: "nearest", "linear", "cubic" or "bspline" (both: cubic B-spline), or "lanczos"; values are limited to
                the range of the image.
            fill: value where the moving image has no pixel, or its own mask excludes the nearest one; None for the no-data
                value that the file states (GeoTIFF), else 0.
            channel_axis: as in `register`, of this image; or a sequence of all axes that are not spatial, such as time and
                channels, each entry of which is warped by itself.
            grid: of the result: "fixed"; "union": the fixed grid, extended to hold the whole moving image; a `Grid`; or an
                image, whose grid is used.
            spacing: pixel lengths of the result, one or one for each axis in array order; by default those of `grid`.
            antialias: where pixels of the result are coarser than those of the moving image, blur it by as much first.
            same_extent: the image's outer edges are those of the registered moving image.

        Returns:
            an array of the shape of `output_grid(grid, spacing)`, with dtype, channels and other axes of `moving`.

        Raises:
            InputError: another shape without `same_extent`, an image that lies elsewhere, an unknown interpolation, a fill that
                the dtype cannot hold.

        Example:
            >>> bool((result.warp(moving)[:62, :62] == fixed[:62, :62]).all())
            True
            >>> result.warp(np.kron(moving, np.ones((2, 2))), same_extent=True, spacing=0.5).shape  # twice as fine
            (128, 128)
        """
        known("interpolation", interpolation, INTERPOLATIONS)
        source = _source(moving, channel_axis)
        return self._warped(source, interpolation, fill, self.output_grid(grid, spacing), antialias, same_extent)

    @own_defaults
    def warp_labels(
        self,
        labels: Any,
        fill: int | None = None,
        interpolation: str = "nearest",
        *,
        grid: Any = "fixed",
        spacing: Any = None,
        same_extent: bool = False,
    ) -> np.ndarray:
        """Warp a label map of the moving image to the grid of the fixed one; labels are never blended.

        `labels` has no channels; axes of time and others are taken as its file states them. `interpolation`: "nearest", or
        "majority": the label that covers most of a pixel, for results that are coarser. Otherwise as `warp`.

        Example:
            >>> np.unique(result.warp_labels(moving > 0.5)).tolist()
            [False, True]
        """
        known("interpolation of labels", interpolation, LABEL_INTERPOLATIONS)
        source = _source(labels, "auto", labels=True)
        return self._warped(source, interpolation, fill, self.output_grid(grid, spacing), False, same_extent)

    @own_defaults
    def warp_file(
        self,
        moving: Any,
        path: str | Path,
        interpolation: str | None = None,
        fill: float | None = None,
        channel_axis: Any = "auto",
        *,
        labels: bool = False,
        grid: Any = "fixed",
        spacing: Any = None,
        antialias: bool = True,
        same_extent: bool = False,
    ) -> None:
        """Warp an image as `warp`, or with `labels` as `warp_labels`, and write it with the geometry of the result.

        Args:
            moving: an image, usually a path.
            path: where to write, in the format that its ending says.
            interpolation, fill, channel_axis, grid, spacing, antialias, same_extent: as for `warp`; labels take the
                interpolations of `warp_labels`, and their own axes.

        Raises:
            InputError: as `warp`; a path that cannot be written, a format that cannot hold the result, or labels in one that
                blends pixels.

        Example:
            >>> result.warp_file(moving, "warped.tif")
            >>> bool((drmime.as_image("warped.tif").data[0, 0].numpy() == result.warp(moving).astype("float32")).all())
            True
        """
        kind, table = ("interpolation of labels", LABEL_INTERPOLATIONS) if labels else ("interpolation", INTERPOLATIONS)
        how = known(kind, interpolation or ("nearest" if labels else "linear"), table)
        if labels and Path(path).suffix.lower() in LOSSY:
            raise InputError(f"{path}: expected a format that keeps labels as they are, such as .png or .tif")
        source, target = _source(moving, channel_axis, labels), self.output_grid(grid, spacing)
        array = self._warped(source, how, fill, target, antialias and not labels, same_extent)
        write_image(path, array, target, source.names, source.nodata)

    @own_defaults
    def warp_tiles(
        self,
        moving: Any,
        path: str | Path,
        interpolation: str | None = None,
        fill: float | None = None,
        channel_axis: Any = "auto",
        *,
        labels: bool = False,
        grid: Any = "fixed",
        spacing: Any = None,
        antialias: bool = True,
        same_extent: bool = False,
        workers: int | None = None,
        memory: float = MEMORY,
        scheduler: str = "",
        progress: bool = False,
    ) -> None:
        """Warp an image tile by tile to OME-Zarr (.zarr) or pyramidal OME-TIFF (.tif): neither has to fit the memory.

        Parts of a slide (OME-Zarr, pyramidal TIFF, SVS, …) are read as they are needed, from the coarsest level that has the
        detail of the result. A run that was killed goes on from the tiles that are done, which are in a folder beside `path`
        until the result is complete. Extra `slides`.

        Args:
            moving, path, fill, channel_axis, labels, grid, spacing, antialias, same_extent: as for `warp_file`.
            interpolation: "linear", or of labels "nearest" or "majority".
            workers: tiles computed at once, by default one for each core; fewer if they would exceed `memory`.
            memory: GiB for the tiles that are computed at once.
            scheduler: the address of a Dask scheduler whose workers compute the tiles; they read and write the same paths.
            progress: show a bar on stderr, where that is a terminal.

        Raises:
            InputError: as `warp_file`; an option that cannot be used.

        Example:
            >>> result.warp_tiles(moving, "warped.zarr", spacing=0.5)
            >>> drmime.as_image("warped.zarr").grid.shape
            (128, 128)
        """
        how = interpolation or ("nearest" if labels else "linear")
        known("interpolation of labels" if labels else "interpolation", how, LABEL_INTERPOLATIONS if labels else INTERPOLATIONS)
        source, target = source_of(moving, channel_axis, labels), self.output_grid(grid, spacing)
        place = self._place(source.grid, source.grid.shape, same_extent)
        check_view(self.transform, target, place)
        fill = source.nodata or 0 if fill is None else fill
        job = Job(self.transform, target, source, place, how, fill, antialias and not labels, channel_axis)
        run(job, Path(path), workers=workers, memory=memory, scheduler=scheduler, progress=progress)

    @own_defaults
    def warp_points(
        self,
        source: str | Path,
        path: str | Path,
        to: str = "fixed",
        *,
        format: str | None = None,
        fixed_shape: Sequence[int] | None = None,
        moving_shape: Sequence[int] | None = None,
    ) -> None:
        """Carry the points of a file to the other image; everything else in the file is kept.

        Known are CSV with columns x, y[, z] (pixels, 0-based, pixel centres), points and shapes of napari, GeoJSON of QuPath
        (holes, multi-polygons; classification, names and colours are kept; measurements are not computed again), and CSV of
        DeepLabCut. All count pixels, not lengths.

        Args:
            source: a file of points on the moving image (on the fixed image for `to="moving"`).
            path: where to write the file of the same format with the points on the other image.
            to: "fixed" or "moving".
            format: a name of `drmime.parts.POINT_FORMATS`; by default what the contents say.
            fixed_shape, moving_shape: the shape (array order) of the image whose pixels the points count, if it shows the same
                extent as the registered image at another resolution, such as a slide of which a thumbnail was registered.

        Raises:
            InputError: a file without points of a known format and of this dimension, a path that cannot be written, or a shape
                that is not one.

        Example:
            >>> np.savetxt("points.csv", [[12, 21]], "%d", ",", header="x,y", comments="")
            >>> result.warp_points("points.csv", "there.csv")
            >>> np.loadtxt("there.csv", delimiter=",", skiprows=1)
            array([10., 20.])
        """
        known("to", to, ("fixed", "moving"))
        fixed = with_shape(self.fixed_grid, fixed_shape, "fixed_shape")
        moving = with_shape(self.moving_grid, moving_shape, "moving_shape")
        mapping = in_pixels(self.transform, fixed, moving)
        mapping = mapping.inverse() if to == "fixed" else mapping
        move_points(source, path, lambda points: mapping(torch.as_tensor(points)).numpy(), fixed.ndim, format)

    def _warped(
        self, source: Planes, interpolation: str, fill: float | None, target: Grid, antialias: bool, same_extent: bool
    ) -> np.ndarray:
        place = self._place(source.grid, source.planes.shape[1:], same_extent)
        if target is not self.fixed_grid:
            check_view(self.transform, target, place)
        planes, fill = source.planes, source.nodata or 0 if fill is None else fill
        if source.mask is not None:
            planes = np.stack([filled(plane, valid) for plane, valid in zip(planes, source.mask, strict=True)])
        found = pulled(planes, self.transform, place, target, interpolation, fill, antialias)
        if source.mask is not None:
            inside = pulled(source.mask.astype(np.uint8), self.transform, place, target, "nearest")
            found[inside == 0] = fill
        return source.whole(found)


def _source(image: Any, channel_axis: Any, labels: bool = False) -> Planes:
    pixels = load(image, "moving", labels)
    axis = None if labels and not pixels.space else channel_axis
    return planes_of(pixels, axis, "moving", tensor=isinstance(image, Tensor))
