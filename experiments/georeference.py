"""Real remote-sensing pairs as GeoTIFF: does a georeference with large coordinates change what `register` finds?

    pip install 'drmime[geo]'
    DRMIME_DATA=... python experiments/georeference.py --count 10

Each pair with landmarks of people (`starain_remote` of `pairs.csv`) is registered as arrays and as two GeoTIFF files with made
georeferences: UTM, 10 m, origin (500000, 4649776), rows to the south. Errors are medians over the landmarks, in pixels of the
moving image. The warped file must have the coordinate reference system and the transform of the fixed one.
"""

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import rasterio

from drmime import register

SIDE = 10.0  # metres
TRANSFORM = rasterio.Affine(SIDE, 0, 500000, 0, -SIDE, 4649776)


def write(path: Path, image: np.ndarray) -> Path:
    bands = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    form = {"driver": "GTiff", "count": len(bands), "height": image.shape[0], "width": image.shape[1], "dtype": image.dtype}
    with rasterio.open(path, "w", **form, crs="EPSG:32633", transform=TRANSFORM) as data:
        data.write(bands)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10, help="pairs (10)")
    args = parser.parse_args()
    folder = Path(os.environ["DRMIME_DATA"])
    with (folder / "pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == "starain_remote" and row["fixed_landmarks"]]
    print(f"{'pair':26} {'arrays':>8} {'GeoTIFF':>8} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as place:
        for row in rows[: args.count]:
            images = [imageio.imread(folder / row[side]) for side in ("fixed", "moving")]
            points = [folder / row[f"{side}_landmarks"] for side in ("fixed", "moving")]
            plain = register(*images)
            begun = time.perf_counter()
            paths = [write(Path(place) / f"{side}.tif", image) for side, image in zip(("fixed", "moving"), images, strict=True)]
            placed = register(*paths)
            seconds = time.perf_counter() - begun
            placed.warp_file(paths[1], Path(place) / "warped.tif")
            with rasterio.open(paths[0]) as fixed, rasterio.open(Path(place) / "warped.tif") as warped:
                if (fixed.crs, fixed.transform, fixed.shape) != (warped.crs, warped.transform, warped.shape):
                    raise SystemExit(f"{row['pair']}: the warped file has lost the georeference")
            errors = [np.median(plain.landmark_errors(*points)), np.median(placed.landmark_errors(*points)) / SIDE]
            print(f"{row['pair']:26} {errors[0]:8.2f} {errors[1]:8.2f} {seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main()
