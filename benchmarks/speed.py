"""What `register` costs: by size, by batch, and in operations; in one table, and as a history by commit.

    python benchmarks/speed.py --sizes 512x512 1024x1024 2048x2048x3 64x64x64
    python benchmarks/speed.py --sizes 512x512 --batches 1 4 16 --start none --device cuda
    python benchmarks/speed.py --sizes 512x512 1024x1024 --peers --record laptop

A size is pixels in array order, and "x3" for colour; volumes are registered by rigid maps, images by affine ones. Every row
runs in a process of its own, which makes the images too: smooth random scenes, and the same turned, moved and inverted.

`seconds` is the time of a pair, images in memory, the second one of the process; `CPU` the processor's; `unit` is the same
divided by that of a fixed piece of work (FFT and products of matrices in NumPy), which makes machines and days comparable;
`GiB` the peak memory of the process with its imports, of a GPU that of its allocator; `operations` what torch dispatched for a
pair, and `waits` those of them that would wait for a GPU. Rows of a batch are of one pair of it. `--start none` leaves the
search out, and the rotation of the images: what the optimisation and the verdict cost.

`--record NAME` adds the rows to history/NAME.csv with date and commit. `--against NAME` compares with the last rows there:
more than a tenth above in `unit` or in operations is marked.
"""

import argparse
import csv
import datetime
import json
import math
import multiprocessing
import resource
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from counting import Counting
from methods import METHODS, gray
from scipy import ndimage

from drmime import register

HISTORY = Path(__file__).parent / "history"
COLUMNS = ("row", "seconds", "CPU", "unit", "GiB", "error", "operations", "waits")
MARKED = 1.1  # times the figure before
PEERS = ("elastix-default", "search-elastix")
DEGREES = 15.0


def scene(shape: Sequence[int], seed: int) -> np.ndarray:
    """Blobs of a fortieth and a twelfth of the longest side, 0 to 1."""
    random, total = np.random.default_rng(seed), np.zeros(shape, np.float32)
    for share, weight in ((40, 1), (12, 2)):
        width = max(shape) / share
        step = max(1, int(width / 2))
        coarse = random.standard_normal([length // step + 8 for length in shape]).astype(np.float32)
        blurred = ndimage.gaussian_filter(coarse, width / step)
        fine = ndimage.zoom(blurred / blurred.std(), step, order=1) if step > 1 else blurred / blurred.std()
        total += weight * fine[tuple(slice(length) for length in shape)]
    return (total - total.min()) / np.ptp(total)


def pair(size: str, seed: int, degrees: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fixed, moving, points of the fixed image and where they lie in the moving one (pixels, x first)."""
    shape = tuple(map(int, size.split("x")))
    colour = len(shape) > 2 and shape[-1] == 3
    shape = shape[:-1] if colour else shape
    angle, ndim, middle = np.radians(degrees), len(shape), (np.array(shape) - 1) / 2
    margin = math.ceil(0.2 * max(shape))  # so that the moving image is filled
    wide = scene([length + 2 * margin for length in shape], seed)
    fixed = wide[tuple(slice(margin, margin + length) for length in shape)]
    linear = np.eye(ndim)
    linear[-2:, -2:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    shift = 0.02 if degrees else 0.005
    offset = middle - linear @ middle + shift * max(shape) * np.resize([1, -0.5], ndim)
    moving = 1 - ndimage.affine_transform(wide, linear, offset + margin, output_shape=shape, order=1, mode="nearest")
    points = (0.3 + 0.4 * np.indices((2,) * ndim).reshape(ndim, -1).T) * shape
    there = (points - offset) @ np.linalg.inv(linear).T
    if colour:
        fixed, moving = (np.stack([255 * part, 128 * part, 255 * (1 - part)], -1).astype(np.uint8) for part in (fixed, moving))
    return fixed, moving, points[:, ::-1], there[:, ::-1]


def unit() -> float:
    """CPU seconds of a fixed piece of work, the least of five."""
    random = np.random.default_rng(0)
    image, matrix = random.standard_normal((512, 512)), random.standard_normal((300, 300))
    found = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(5):
            np.fft.irfft2(np.fft.rfft2(image)).sum()
            (matrix @ matrix).sum()
        found.append(time.process_time() - began)
    return min(found)


def measured(size: str, count: int, method: str, start: str, device: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    threads = device["threads"]
    torch.set_num_threads(threads)
    pairs = [pair(size, seed, DEGREES if start == "auto" else 0) for seed in range(count)]
    fixed, moving = [one[0] for one in pairs], [one[1] for one in pairs]
    ndim = pairs[0][2].shape[1]

    def ours() -> list[Any]:
        options: dict[str, Any] = {"transform": "affine" if ndim == 2 else "rigid", "start": start, "device": device}
        return [result.to_moving for result in register(fixed, moving, **options)]

    def peer() -> list[Any]:
        return [METHODS[method](gray(fixed[0]), gray(moving[0]), np.eye(3), threads)(0)]

    run = ours if method == "drmime" else peer
    run()
    clock, cpu = time.perf_counter(), time.process_time()
    maps = run()
    seconds, cpu = (time.perf_counter() - clock) / count, (time.process_time() - cpu) / count
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device["name"].startswith("cuda"):
        memory = torch.cuda.max_memory_allocated() / 2**30
    errors = [np.linalg.norm(to(points) - there, axis=1).max() for to, (_, _, points, there) in zip(maps, pairs, strict=True)]
    name = f"{method} {size}" + ("" if start == "auto" else f" start {start}") + (f" batch {count}" if count > 1 else "")
    name += " graphs" if device["graphs"] and method == "drmime" else ""
    row = {"row": name, "seconds": seconds, "CPU": cpu}
    row |= {"unit": cpu / unit(), "GiB": memory, "error": float(np.median(errors)), "operations": "", "waits": ""}
    if method == "drmime":
        with Counting() as counted:
            ours()
        row |= {"operations": counted.operations.total() // count, "waits": counted.waits.total() // count}
        row["stages"] = {stage: number // count for stage, number in counted.operations.most_common()}
    return row


def shown(row: dict[str, Any], before: dict[str, str] | None) -> str:
    cells = []
    for name in COLUMNS:
        value = row[name]
        cell = f"{value:.3g}" if isinstance(value, float) else str(value)
        old = (before or {}).get(name)
        if name in ("unit", "operations") and old and value:
            ratio = float(value) / float(old)
            cell += f" ({ratio:.2f}{', more' if ratio > MARKED else ''})"
        cells.append(cell)
    return f"| {' | '.join(cells)} |"


def last_rows(name: str | None) -> dict[str, dict[str, str]]:
    file = HISTORY / f"{name}.csv"
    if name is None or not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        return {line["row"]: line for line in csv.DictReader(lines)}


def record(name: str, rows: Sequence[dict[str, Any]]) -> None:
    HISTORY.mkdir(exist_ok=True)
    file = HISTORY / f"{name}.csv"
    here = ["git", "-C", str(HISTORY), "describe", "--always", "--dirty"]
    commit = subprocess.run(here, capture_output=True, encoding="utf-8", check=False).stdout.strip()
    fields = ("date", "commit", "torch", *COLUMNS)
    new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, fields, extrasaction="ignore", lineterminator="\n")
        if new:
            writer.writeheader()
        for row in rows:
            figures = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()}
            writer.writerow({"date": f"{datetime.date.today()}", "commit": commit, "torch": torch.__version__, **figures})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["512x512", "1024x1024"], metavar="SIZE")
    parser.add_argument("--batches", nargs="+", type=int, default=[1], metavar="N", help="pairs in one call")
    parser.add_argument("--peers", action="store_true", help=f"{' and '.join(PEERS)} beside it, for images")
    parser.add_argument("--start", choices=("auto", "none"), default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--graphs", action="store_true", help="on a GPU: repeat steps as CUDA graphs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stages", action="store_true", help="operations by stage below the table")
    parser.add_argument("--record", metavar="NAME")
    parser.add_argument("--against", metavar="NAME")
    args = parser.parse_args()
    before, rows = last_rows(args.against or args.record), []
    if args.device.startswith("cuda"):
        print(torch.cuda.get_device_name(), end="\n\n")
    device = {"name": args.device, "threads": args.threads, "graphs": args.graphs}
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for size in args.sizes:
        tasks = [(size, count, "drmime", args.start, device) for count in args.batches]
        flat = len(size.removesuffix("x3").split("x")) == 2
        tasks += [(size, 1, name, args.start, {**device, "name": "cpu"}) for name in PEERS if args.peers and flat]
        for task in tasks:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(measured, task))
            print(shown(rows[-1], before.get(rows[-1]["row"])), flush=True)
    if args.stages:
        print("\n" + "\n".join(f"{row['row']}: {json.dumps(row['stages'])}" for row in rows if "stages" in row))
    if args.record:
        record(args.record, rows)


if __name__ == "__main__":
    main()
