"""Whole slides as their programs write them: pyramidal OME-TIFF, and OME-Zarr."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

LENGTH = 0.5  # µm


def halves(array: np.ndarray, count: int) -> list[np.ndarray]:
    """Images (H, W, …), each of means of two by two pixels of the one before, without a last odd row or column."""
    found = [array]
    for _ in range(count - 1):
        last = found[-1]
        even = last[: last.shape[0] // 2 * 2, : last.shape[1] // 2 * 2].astype(float)
        blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, *even.shape[2:])
        found.append(np.rint(blocks.mean((1, 3))).astype(array.dtype))
    return found


def write_slide(path: Path, levels: Sequence[np.ndarray], side: int = 64) -> None:
    """A pyramidal OME-TIFF of colour images (H, W, 3), finest first, in tiles."""
    options: dict[str, Any] = {"tile": (side, side), "photometric": "rgb", "compression": "zlib"}
    lengths = {f"PhysicalSize{axis}": LENGTH for axis in "XY"}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(levels[0], subifds=len(levels) - 1, metadata={"axes": "YXS", **lengths}, **options)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, **options)


def write_zarr(path: Path, levels: Sequence[np.ndarray], version: str = "0.4", **changes: Any) -> None:
    """OME-Zarr of gray images (H, W), finest first; `changes` replace entries of its multiscales metadata."""
    import zarr

    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for number, level in enumerate(levels):
        group.create_array(str(number), data=level, chunks=(32, 32))
        scale = [{"type": "scale", "scale": [LENGTH * 2**number] * 2}]
        datasets.append({"path": str(number), "coordinateTransformations": scale})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    state = {"multiscales": [{"version": version, "axes": axes, "datasets": datasets, **changes}]}
    group.attrs.update(state if version == "0.4" else {"ome": {"version": version, **state}})
