"""elastix, SimpleITK and drmime on the same pairs, starts and threads: landmark error and seconds, in one table.

    pip install 'drmime[peers]'
    python benchmarks/peers.py birl_rat_kidney/he__pancyto --repeats 3 --seeds 0 1 2 --out table.md

A pair is dataset/pair of `pairs.csv` in the data folder. The error is the median rTRE: the median distance, over the
landmarks, between where a method puts a point of the fixed image and where it lies, divided by the diagonal of the moving
image. Only the registration itself is timed: from pixels and a starting shift to a transform, no image is warped. Every
method is warmed up on a small copy first, and in each repeat all methods take their turn, so that a machine that slows
down slows all of them. The peers compare one channel: with --rgb, too, they get the luminance.
"""

import argparse
import contextlib
import csv
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from methods import METHODS, Mapper, Run, gray

from drmime.geometry.matrices import affine
from drmime.image.door import as_image
from drmime.image.io import read_image
from drmime.parts import PROPOSERS
from drmime.points.files import read_landmarks

HEADER = ("pair", "method", "error", "worst", "seconds", "minimum", "ratio", "ratio of minima")


@dataclass(frozen=True)
class Pair:
    name: str
    fixed: np.ndarray  # shape: (H, W) or (H, W, 3), float32
    moving: np.ndarray
    points: np.ndarray  # shape: (N, 2), pixels of the fixed image, x first
    targets: np.ndarray  # shape: (N, 2), where they lie in the moving image
    shift: np.ndarray  # shape: (2,), the start: fixed pixels + shift = moving pixels

    def error(self, to_moving: Mapper) -> float:
        distances = np.linalg.norm(to_moving(self.points) - self.targets, axis=1)
        return float(np.median(distances) / math.hypot(*self.moving.shape[:2]))


def load_pair(data: Path, name: str, rgb: bool, start: str, size: int | None) -> Pair:
    with (data / "pairs.csv").open(newline="", encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if f"{row['dataset']}/{row['pair']}" == name]
    if not found or found[0]["ndim"] != "2" or not found[0]["fixed_landmarks"]:
        raise SystemExit(f"{name}: expected dataset/pair of a 2-D pair with landmarks in {data / 'pairs.csv'}")
    images, landmarks = [], []
    for side in ("fixed", "moving"):
        pixels = read_image(data / found[0][side]).array.astype(np.float32)
        pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] < 3 else pixels
        pixels = pixels[..., :3] if rgb and pixels.ndim == 3 else gray(pixels)
        small = pixels if size is None else zoomed(pixels, size / max(pixels.shape[:2]))
        scale = np.array(small.shape[1::-1]) / pixels.shape[1::-1]
        images.append(small)
        landmarks.append((read_landmarks(data / found[0][f"{side}_landmarks"]) + 0.5) * scale - 0.5)  # borders on borders
    count = min(map(len, landmarks))  # files of unequal length share their start
    first = PROPOSERS[start]()(*(as_image(gray(pixels), role=start) for pixels in images))[0].numpy()
    return Pair(name, *images, *(points[:count] for points in landmarks), first[:2, 2])


def zoomed(pixels: np.ndarray, factor: float) -> np.ndarray:
    planes = torch.as_tensor(pixels.reshape(*pixels.shape[:2], -1)).movedim(-1, 0)[None]
    shape = [round(length * factor) for length in pixels.shape[:2]]
    planes = torch.nn.functional.interpolate(planes, shape, mode="bilinear", antialias=factor < 1)
    return planes[0].movedim(0, -1).reshape(*shape, *pixels.shape[2:]).contiguous().numpy()


# ---- the table


@dataclass
class Row:
    """What one method did on one pair."""

    errors: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failure: str = ""

    def cells(self, reference: "Row | None") -> tuple[str, ...]:
        if self.failure:
            return f"failed: {self.failure}", *[""] * 5
        times = [statistics.median(self.seconds), min(self.seconds)]
        ratios = ["-", "-"]
        if reference is not None and not reference.failure:
            ratios = [f"{times[0] / statistics.median(reference.seconds):.2f}", f"{times[1] / min(reference.seconds):.2f}"]
        errors = statistics.median(self.errors), max(self.errors)
        return *(f"{error:.5f}" for error in errors), *(f"{seconds:.3f}" for seconds in times), *ratios


def compare(pair: Pair, names: Sequence[str], threads: int, seeds: Sequence[int], repeats: int) -> dict[str, Row]:
    rows = {name: Row() for name in names}
    ready = dict(prepared(pair, rows, threads))
    for seed in list(seeds) * repeats:
        for name, run in ready.items():
            with reported(rows[name]):
                began = time.perf_counter()
                to_moving = run(seed)
                seconds = time.perf_counter() - began
                rows[name].errors.append(pair.error(to_moving))
                rows[name].seconds.append(seconds)
    return rows


def prepared(pair: Pair, rows: Mapping[str, Row], threads: int) -> Iterator[tuple[str, Run]]:
    """Each method with its imports done, its images converted and one small run behind it."""
    for name, row in rows.items():
        with reported(row):
            run = METHODS[name](pair.fixed, pair.moving, affine(np.eye(2), pair.shift), threads)
            with contextlib.suppress(Exception):  # what matters is how the pair itself goes
                small = (zoomed(pixels, 0.25) for pixels in (pair.fixed, pair.moving))
                METHODS[name](*small, affine(np.eye(2), pair.shift / 4), threads)(0)
            yield name, run


@contextlib.contextmanager
def reported(row: Row) -> Iterator[None]:
    """A method that fails becomes a row with its reason."""
    try:
        yield
    except ImportError as error:
        row.failure = f"{error.name} is not installed: pip install 'drmime[peers]'"
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        row.failure = (lines[-1] if lines else type(error).__name__).replace("|", "/")


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [HEADER, rule, *rows]]
    return "\n".join(f"| {line} |" for line in lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="DATASET/PAIR")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[name for name in METHODS if name != "drmime-paper"])
    parser.add_argument("--reference", choices=METHODS, default="elastix", help="whose seconds are 1 in the ratios")
    parser.add_argument("--start", choices=PROPOSERS, default="identity")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each seed; seconds are the median of all runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, help="resize each image so that its longer side is this many pixels")
    colour = parser.add_mutually_exclusive_group()
    colour.add_argument("--rgb", action="store_true", help="colour, for drmime; the peers get the luminance")
    colour.add_argument("--gray", dest="rgb", action="store_false", default=False, help="luminance for all (default)")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    cells: list[tuple[str, ...]] = []
    for name in options.pairs:
        pair = load_pair(options.data, name, options.rgb, options.start, options.size)
        rows = compare(pair, options.methods, options.threads, options.seeds, options.repeats)
        cells += [(name, method, *row.cells(rows.get(options.reference))) for method, row in rows.items()]
        start = f"{pair.error(lambda points, shift=pair.shift: points + shift):.5f}"
        mode = "rgb" if pair.fixed.ndim == 3 or pair.moving.ndim == 3 else "gray"
        cells.append((name, f"({mode}, start: {options.start})", start, *[""] * 5))
    text = table(cells)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
