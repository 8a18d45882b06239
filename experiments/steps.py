"""How steps, rate, warm-up and precision of the optimisation trade error against time, from the starts that the search found.

    python experiments/steps.py --file ../shared/data/pairs.csv --each 6
    python experiments/steps.py --each 6 --settings default bfloat16

The search is run once for each pair, each setting then begins at its result, with two seeds. The error is the median landmark
error (known maps: of points inside), in 1e-4 of the moving image's diagonal. "bfloat16": the precision of the network.
"""

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime import register
from drmime.geometry.matrices import mapped
from drmime.points.files import read_landmarks

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "40 steps": {"schedule": {"steps": 40}},
    "40 steps, rate 0.001": {"schedule": {"steps": 40, "rate": 0.001}},
    "warm-up 15": {"metric": {"name": "mine", "warmup": 15}},
    "both": {"schedule": {"steps": 40, "rate": 0.001}, "metric": {"name": "mine", "warmup": 15}},
    "25 steps, rate 0.0015": {"schedule": {"steps": 25, "rate": 0.0015}, "metric": {"name": "mine", "warmup": 15}},
    "250 steps": {"schedule": {"steps": 250}},
    "bfloat16": {"metric": {"name": "mine", "precision": "bfloat16"}},
}
SEEDS = (0, 1)
GOOD = 100  # 1e-4 of the diagonal: pairs that some setting aligns


def chosen(file: Path, each: int) -> list[dict[str, str]]:
    """At most about `each` two-dimensional pairs of every dataset, evenly from its list."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["ndim"] == "2"]
    known = [row for row in rows if row["fixed_landmarks"] or row["fixed_to_moving"] or row["already_aligned"] == "1"]
    sets: dict[str, list[dict[str, str]]] = {}
    for row in known:
        sets.setdefault(row["dataset"], []).append(row)
    return [row for some in sets.values() for row in some[:: max(1, len(some) // each)][:each]]


def truth(row: dict[str, str], folder: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Points of the fixed image and where they lie in the moving one, pixels."""
    if row["fixed_landmarks"]:
        both = [read_landmarks(folder / row[f"{role}_landmarks"]) for role in ("fixed", "moving")]
        count = min(map(len, both))
        return both[0][:count], both[1][:count]
    along = np.linspace(0.1, 0.9, 5)
    points = np.stack(np.meshgrid(along * shape[1], along * shape[0]), -1).reshape(-1, 2)
    matrix = np.loadtxt(folder / row["fixed_to_moving"]) if row["fixed_to_moving"] else np.eye(3)
    return points, mapped(matrix, points)


def errors(row: dict[str, str], folder: Path, settings: Sequence[str]) -> list[tuple[float, float]]:
    """Mean error and CPU seconds of each of `settings`."""
    images = folder / row["fixed"], folder / row["moving"]
    first = register(*images, schedule={"steps": 1}).candidates[0].matrix.numpy()
    start = {"given": first, "propose": None, "refine": False}
    found = []
    for name in settings:
        some = []
        for seed in SEEDS:
            began = time.process_time()
            result = register(*images, start=start, seed=seed, **SETTINGS[name])
            seconds = time.process_time() - began
            here, there = truth(row, folder, result.fixed_grid.shape)
            error = np.median(np.linalg.norm(result.to_moving(here) - there, axis=1)) / np.hypot(*result.moving_grid.shape)
            some.append((1e4 * error, seconds))
        found.append(tuple(np.mean(some, 0).tolist()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("../shared/data/pairs.csv"))
    parser.add_argument("--each", type=int, default=6, help="pairs of each dataset")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in chosen(args.file, args.each):
        rows.append(errors(row, args.file.parent, args.settings))
        print(f"{row['dataset']}/{row['pair']}", *(f"{error:.1f}" for error, _ in rows[-1]), flush=True)
    table = np.array(rows)  # shape: (pairs, settings, 2)
    good = table[..., 0].min(1) < GOOD
    print("\n| setting | aligned | error, geometric mean | CPU seconds |\n|---|---|---|---|")
    for at, name in enumerate(args.settings):
        mean = np.exp(np.log(table[good, at, 0] + 1).mean()) - 1
        print(f"| {name} | {(table[:, at, 0] < GOOD).sum()} of {len(table)} | {mean:.1f} | {table[:, at, 1].sum():.0f} |")


if __name__ == "__main__":
    main()
