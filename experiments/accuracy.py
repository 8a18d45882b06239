"""How accurate `register` is on real pairs from several starts, and what each of its parts contributes.

    python experiments/accuracy.py --data ../shared/data --jobs 4 --out tables.md
    python experiments/accuracy.py --variants default            # the first table alone

Histology: the median, over the landmarks, of the distance between where a landmark is put and where it lies, divided by
the diagonal of the moving image (median rTRE); beside it that of the affine transform fitted by least squares to the landmarks
themselves. Volume: T2, turned by 8 degrees about a random axis and shifted by 10 voxels, is registered to T1 by a rigid
transform; the error is the mean over the brain, in voxels.
"""

import argparse
import functools
import itertools
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from drmime import register
from drmime.grid import Grid
from drmime.image import as_image
from drmime.initialise import INITIALISERS
from drmime.io import read_image, read_landmarks
from drmime.resample import resample

LUMINANCE = np.array([0.299, 0.587, 0.114])
ANGLE, SHIFT = 8, 10  # of the volume: degrees, voxels
PAIRS = {
    "kidney": ("birl_rat_kidney/he", "birl_rat_kidney/pancyto"),
    "cd31": ("cima_lesion3/he", "cima_lesion3/cd31"),
    "ki67": ("cima_lesion3/he", "cima_lesion3/ki67"),
    "stroke": ("stroke3d/T1", "stroke3d/T2"),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "given start alone": {"initialiser": None},
    "plain intensities": {"metric": {"name": "mine", "orientation": False, "local": False}},
    "no warm-up": {"metric": {"name": "mine", "warmup": 0}},
    "1 level": {"levels": 1},
    "hidden 100, depth 2": {"metric": {"name": "mine", "hidden": 100, "depth": 2}},
    "angle": {"metric": "angle"},
    "mattes": {"metric": "mattes"},
}


@dataclass(frozen=True)
class Case:
    pair: str
    start: str
    rgb: bool = False

    def __str__(self) -> str:
        return f"{self.pair}{' RGB' if self.rgb else ''}, {self.start}"


CASES = (
    *(Case("kidney", start, rgb) for rgb in (False, True) for start in ("identity", "mass")),
    *(Case(pair, start) for pair in ("cd31", "ki67") for start in ("identity", "centre", "mass")),
    Case("stroke", "centre"),
)


@dataclass(frozen=True)
class Problem:
    """Two images and points whose places in both are known."""

    fixed: np.ndarray
    moving: np.ndarray
    points: np.ndarray  # shape: (N, D), pixels of the fixed image, x first
    targets: np.ndarray  # shape: (N, D), where they lie in the moving image
    diagonal: float
    over: Callable[[np.ndarray], Any] = np.median
    options: dict[str, Any] = field(default_factory=dict)  # of `register`

    def error(self, found: np.ndarray) -> float:
        """Of points (N, D) that should be `targets`, in pixels; infinite where a point has no image."""
        return float(np.nan_to_num(self.over(np.linalg.norm(found - self.targets, axis=1)), nan=np.inf, posinf=np.inf))

    def share(self, found: np.ndarray) -> float:
        """The error in diagonals, or in voxels of a volume."""
        return self.error(found) / (self.diagonal if self.points.shape[1] == 2 else 1)

    def affine_fit(self) -> np.ndarray:
        """The points under the affine transform fitted to them and their targets by least squares. shape: (N, D)"""
        ones = np.c_[self.points, np.ones(len(self.points))]
        return ones @ np.linalg.lstsq(ones, self.targets, rcond=None)[0]


@functools.lru_cache(maxsize=4)
def histology(data: Path, pair: str, rgb: bool) -> Problem:
    images, landmarks = [], []
    for name in PAIRS[pair]:
        pixels, _ = read_image(data / f"{name}.jpg")
        images.append(pixels if rgb else (pixels @ LUMINANCE).astype(np.float32))
        landmarks.append(read_landmarks(data / f"{name}.csv"))
    count = min(map(len, landmarks))
    return Problem(*images, *(points[:count] for points in landmarks), float(np.hypot(*images[1].shape[:2])))


@functools.lru_cache(maxsize=4)
def volume(data: Path, pair: str, seed: int) -> Problem:
    """An aligned pair whose second volume is moved by a known matrix: true up to how well its provider had aligned it."""
    fixed, moving = (read_image(data / f"{name}.nii.gz")[0].astype(np.float32) for name in PAIRS[pair])
    random = np.random.default_rng(seed)
    axis, shift = (vector / np.linalg.norm(vector) for vector in random.normal(size=(2, 3)))
    centre = (np.array(moving.shape[::-1]) - 1) / 2
    truth = np.eye(4)
    truth[:3, :3] = Rotation.from_rotvec(np.radians(ANGLE) * axis).as_matrix()
    truth[:3, 3] = centre + SHIFT * shift - truth[:3, :3] @ centre
    grid = Grid.regular(moving.shape)
    moved = resample(moving, np.linalg.inv(truth), grid, grid, channel_axis=None)
    brain = np.argwhere(fixed > fixed.mean())[::97, ::-1].astype(float)
    targets, diagonal = brain @ truth[:3, :3].T + truth[:3, 3], float(np.linalg.norm(moving.shape))
    return Problem(fixed, moved, brain, targets, diagonal, np.mean, {"group": "rigid"})


def problem(data: Path, case: Case, seed: int) -> Problem:
    return volume(data, case.pair, seed) if case.pair == "stroke" else histology(data, case.pair, case.rgb)


def one(data: Path, case: Case, variant: str, seed: int) -> tuple[float, float]:
    """Error and seconds of one run; a run that fails counts with the transform that it ended at."""
    what = problem(data, case, seed)
    options = {"initial_transform": case.start, "seed": seed, "device": "cpu"} | what.options | VARIANTS[variant]
    began = time.perf_counter()
    result = register(what.fixed, what.moving, **options)
    return what.share(result.to_moving(what.points)), time.perf_counter() - began


def measure(data: Path, variants: Sequence[str], seeds: Sequence[int], jobs: int) -> dict[tuple[str, Case], list]:
    """(error, seconds) of every seed, for each variant and case."""
    tasks = [
        (variant, case, seed)
        for variant, case in itertools.product(variants, CASES)
        for seed in (seeds[:3] if case.pair == "stroke" else seeds)
    ]
    found: dict[tuple[str, Case], list] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        runs = [pool.submit(one, data, case, variant, seed) for variant, case, seed in tasks]
        for done, ((variant, case, _), run) in enumerate(zip(tasks, runs, strict=True), 1):
            found.setdefault((variant, case), []).append(run.result())
            print(f"\r{done} of {len(tasks)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def accuracy_table(data: Path, found: dict[tuple[str, Case], list], seeds: Sequence[int]) -> str:
    rows = [("case", "before", "median", "worst seed", "affine fit")]
    for case in CASES:
        what = problem(data, case, seeds[0])
        images = (as_image(pixels, role=case.start) for pixels in (what.fixed, what.moving))
        shift = INITIALISERS[case.start]()(*images)[0, :-1, -1].numpy()
        errors = [error for error, _ in found["default", case]]
        values = what.share(what.points + shift), statistics.median(errors), max(errors), what.share(what.affine_fit())
        rows.append((str(case), *(shown(value, case) for value in values)))
    return markdown(rows)


def ablation_table(found: dict[tuple[str, Case], list], variants: Sequence[str]) -> str:
    rows = [("case", *variants)]
    for case in CASES:
        errors = [[error for error, _ in found[variant, case]] for variant in variants]
        rows.append((str(case), *(f"{shown(statistics.median(of), case)} ({shown(max(of), case)})" for of in errors)))
    seconds = [[seconds for case in CASES for _, seconds in found[variant, case]] for variant in variants]
    rows.append(("seconds", *(f"{statistics.median(of):.1f}" for of in seconds)))
    return markdown(rows)


def shown(error: float, case: Case) -> str:
    return f"{error:.3f}" if case.pair == "stroke" else f"{error:.4f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="the volume takes the first three")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=2, help="processes, each with one thread")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    options = parser.parse_args()
    variants = list(dict.fromkeys(["default", *options.variants]))
    found = measure(options.data, variants, options.seeds, options.jobs)
    text = accuracy_table(options.data, found, options.seeds)
    if len(variants) > 1:
        text += "\n\n" + ablation_table(found, variants)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
