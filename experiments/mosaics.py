"""Mosaics with known places: 5 x 5 tiles cut from real images, by drmime, ASHLAR and phase correlation of scikit-image.

    python experiments/mosaics.py [--data ../shared/data] [--seeds 3] [--images retina hubble …] [--noise 0.02]

Tiles overlap by 10 % of their side; each is off its nominal place by up to 3 % of the side along both axes, a fraction of a
pixel included (cubic splines), has light that falls by up to 30 % towards its corners, Gaussian noise and 8 bits; two tiles are
empty.
Errors are distances in pixels from the true places, after the median offset is removed: of connected tiles with content.
`connected`: in the largest part, by seed; `within 0.3`: pixels, of these; `sure`: whose expected error is below 0.15 pixels.
ASHLAR is used if it can be imported; it needs Java for file formats only, which is not used here.
"""

import argparse
import functools
import importlib
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import skimage
from PIL import Image
from scipy.ndimage import map_coordinates, spline_filter
from skimage.registration import phase_cross_correlation

from drmime import stitch

ROWS = COLUMNS = 5
OVERLAP, JITTER, LIGHT, EMPTY = 0.1, 0.03, 0.3, 2
BAR = 0.3  # pixels
SURE = 0.15  # pixels: expected error of tiles that the column "sure" is about
EDGE = 4  # pixels of the image that are left out, so that splines see no edge
OURS = {
    name: f"{name}.{'jpg' if name in ('retina', 'hubble_deep_field') else 'png'}"
    for name in ("retina", "hubble_deep_field", "ihc")
}
SHARED = {
    "kidney": "birl_rat_kidney/he.jpg",
    "cells": "cellprofiler/vitra_01-A-01_fixed.tif",
    "speckles": "cellprofiler/speckles_h2ax_dna_fixed.tif",
    "fly": "cellprofiler/fly_076_D_R_fixed.tif",
    "satellite": "srif/Optical-Optical_4_fixed.jpg",
    "fundus": "starain_retina/Retina_Retina_104_fixed.png",
}


@dataclass(frozen=True)
class Case:
    tiles: list[np.ndarray]
    nominal: np.ndarray  # (N, 2), x first
    true: np.ndarray
    empty: np.ndarray  # numbers

    @property
    def content(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.tiles)), self.empty)


@dataclass(frozen=True)
class Found:
    positions: np.ndarray  # (N, 2), x first
    connected: np.ndarray  # numbers
    wrong: int = 0  # links
    expected: np.ndarray | None = None  # errors of positions, (N,); None if not told


def read(name: str, data: Path) -> np.ndarray:
    path = Path(skimage.__file__).parent / "data" / OURS[name] if name in OURS else data / SHARED[name]
    image = np.asarray(Image.open(path)).astype(np.float32)
    image = image.mean(-1) if image.ndim == 3 else image
    image = image - image.min()
    return image / np.percentile(image, 99.8)


def cut(image: np.ndarray, seed: int, noise: float) -> Case:
    random = np.random.default_rng(seed)
    side = [
        int((length - EDGE) / ((count - 1) * (1 - OVERLAP) + 1 + 2 * JITTER))
        for length, count in zip(image.shape, (ROWS, COLUMNS), strict=True)
    ]
    height, width = side
    row, column = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    nominal = (1 - OVERLAP) * np.stack([column * width, row * height], -1)
    true = nominal + JITTER * np.array([width, height]) * random.uniform(-1, 1, nominal.shape)
    empty = random.choice(ROWS * COLUMNS, EMPTY, replace=False)
    spline = spline_filter(image, 3)
    down, across = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    light = 1 - LIGHT * (np.square(across - 0.2) + np.square(down + 0.1)) / 1.5
    tiles = []
    for number, (x, y) in enumerate(true):
        places = np.meshgrid(
            np.arange(height) + y + JITTER * height + 1, np.arange(width) + x + JITTER * width + 1, indexing="ij"
        )
        pixels = map_coordinates(spline, np.stack(places), order=3, prefilter=False, mode="mirror")
        pixels = np.full_like(pixels, 0.1) if number in empty else pixels
        pixels = pixels * light + random.normal(0, noise, pixels.shape)
        tiles.append(np.clip(200 * pixels + 10, 0, 255).round().astype(np.uint8))
    return Case(tiles, nominal, true, empty)


def ours(case: Case, known: bool) -> Found:
    """The number of wrong links is of those that are believed."""
    found = stitch(case.tiles, (ROWS, COLUMNS) if known else None, overlap=OVERLAP)
    wrong = 0
    for link in found.links:
        away = np.linalg.norm(np.array(link.shift) - (case.true[link.second] - case.true[link.first]))
        wrong += not link.contradicted and away > 1 + 2 * link.error
    return Found(found.positions, np.array(found.parts[0] if found.parts else (), int), wrong, found.expected_errors)


def neighbours(case: Case) -> list[tuple[int, int]]:
    every = range(ROWS * COLUMNS)
    return [(one, one + 1) for one in every if (one + 1) % COLUMNS] + [(one, one + COLUMNS) for one in every[:-COLUMNS]]


def scikit_image(case: Case) -> Found:
    """Phase correlation of the nominal overlaps of neighbours, to a tenth of a pixel, and least squares over all of them."""
    rows, right = [], []
    height, width = case.tiles[0].shape
    for one, other in neighbours(case):
        x, y = (case.nominal[other] - case.nominal[one]).round().astype(int)
        first, second = case.tiles[one][y:, x:], case.tiles[other][: height - y, : width - x]
        shift, _, _ = phase_cross_correlation(first, second, upsample_factor=10)
        row = np.zeros(len(case.tiles))
        row[other], row[one] = 1, -1
        rows.append(row)
        right.append([x + shift[1], y + shift[0]])
    return Found(np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0], np.arange(len(case.tiles)))


def by_ashlar(case: Case, smooth: float = 0.0) -> Found:
    """EdgeAligner with a largest shift of twice the jitter of a tile; `smooth`: pixels, its option filter_sigma."""
    from ashlar import reg

    class Metadata(reg.Metadata):
        _num_images, num_channels, pixel_size, pixel_dtype = len(case.tiles), 1, 1.0, np.uint8

        def tile_position(self, number: int) -> np.ndarray:
            return case.nominal[number, ::-1]

        def tile_size(self, number: int) -> np.ndarray:
            return np.array(case.tiles[0].shape)

    class Reader(reg.Reader):
        metadata = Metadata()

        def read(self, series: int, c: int) -> np.ndarray:
            return case.tiles[series]

    reach = 2 * JITTER * max(case.tiles[0].shape) + 2
    aligner = reg.EdgeAligner(Reader(), max_shift=reach, do_make_thumbnail=False, filter_sigma=smooth)
    aligner.run()
    parts = list(reg.nx.connected_components(aligner.spanning_tree))
    return Found(np.asarray(aligner.positions)[:, ::-1], np.array(sorted(max(parts, key=len))))


def methods() -> dict[str, Callable[[Case], Found]]:
    found = {"drmime, rows and columns": lambda case: ours(case, True), "drmime, nothing known": lambda case: ours(case, False)}
    sys.modules.update({"jnius_config": types.SimpleNamespace(vm_running=True), "jnius": mock.MagicMock()})  # instead of Java
    try:
        importlib.import_module("ashlar.reg")

        found |= {"ASHLAR": by_ashlar, "ASHLAR, filter sigma 1": functools.partial(by_ashlar, smooth=1.0)}
    except ImportError as error:
        print(f"without ASHLAR: {error}", file=sys.stderr)
    return found | {"scikit-image": scikit_image}


def errors(case: Case, positions: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Distances in pixels of the tiles `which` from their true places."""
    away = positions[which] - case.true[which]
    return np.linalg.norm(away - np.median(away, 0), axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", nargs="+", default=[*OURS, *SHARED], choices=[*OURS, *SHARED])
    parser.add_argument("--noise", type=float, default=0.02, help="standard deviation, by the brightest value")
    args = parser.parse_args()
    print(
        "| image | tile | method | connected, of 23 | median | within 0.3 | largest | largest, sure | wrong links | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in args.images:
        image = read(name, args.data)
        cases = [cut(image, seed, args.noise) for seed in range(args.seeds)]
        for label, method in methods().items():
            found, seconds = [], 0.0
            for case in cases:
                begin = time.perf_counter()
                found.append(method(case))
                seconds += time.perf_counter() - begin
            size = " x ".join(map(str, cases[0].tiles[0].shape[::-1]))
            print(f"| {name} | {size} | {label} | {row(cases, found)} | {seconds / len(cases):.1f} |", flush=True)


def row(cases: list[Case], found: list[Found]) -> str:
    """The figures of a method on one image."""
    counts, every, sure = [], [], []
    for case, one in zip(cases, found, strict=True):
        part = np.intersect1d(one.connected, case.content)
        counts.append(str(len(part)))
        away = errors(case, one.positions, part)
        every.append(away)
        sure.append(away if one.expected is None else away[one.expected[part] < SURE])
    flat, certain = np.concatenate(every), np.concatenate(sure)
    within, wrong = (flat < BAR).sum(), sum(one.wrong for one in found)
    told = any(one.expected is not None for one in found)
    largest = f"{certain.max():.2f} ({len(certain)})" if told else ""
    return f"{', '.join(counts)} | {np.median(flat):.3f} | {within}/{len(flat)} | {flat.max():.2f} | {largest} | {wrong}"


if __name__ == "__main__":
    main()
