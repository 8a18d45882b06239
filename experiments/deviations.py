"""How many true errors lie in the 90 % intervals of `Registration.deviation`, under known maps of images of the same content.

    python experiments/deviations.py --workers 2 [--part 0]      # part 0 or 1: every other pair

The moving image is the fixed one with recoloured intensities, under a large and a small affine motion. `INFLATION` of
`drmime.precision` is the factor with which 85 to 95 % hold in both parts.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from verdicts import Item, items

import drmime
from drmime.geometry.matrices import mapped
from drmime.lab.datasets.case import Change, regular_points
from drmime.precision import INFLATION

FAR = 3.0  # pixels; registrations with a larger median error have not found the right optimum and are left out
FACTORS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4)


class Errors(NamedTuple):
    """One registration, at points of the fixed image that lie in the moving one."""

    name: str
    errors: np.ndarray  # shape: (N, 2), pixels
    deviations: np.ndarray  # shape: (N, 2)


def measured(item: Item, motion: str) -> Errors:
    torch.set_num_threads(1)
    moved = replace(item, pair=replace(item.pair, change=Change(motion, 0, recoloured=True)))
    case = moved.case()
    result = drmime.register(*case.images)
    points = regular_points(case.fixed.shape[:2])
    truth = mapped(case.truth, points)
    inside = ((truth >= 0) & (truth <= np.array(case.moving.shape[1::-1]) - 1)).all(1)
    errors, deviations = result.to_moving(points) - truth, result.deviation(points)
    return Errors(f"{item.pair.name} {motion}", errors[inside], deviations[inside])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--file", default="../shared/data/pairs.csv")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--part", type=int, choices=(0, 1))
    args = parser.parse_args()
    chosen = [item for item in items(args.file) if item.kind == "recoloured"]
    chosen = chosen if args.part is None else chosen[args.part :: 2]
    both = [(item, motion) for item in chosen for motion in ("large", "small")]
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        found = list(pool.map(measured, *zip(*both, strict=True)))
    near = [one for one in found if len(one.errors) and np.median(np.linalg.norm(one.errors, axis=1)) < FAR]
    typical = np.median([np.abs(one.errors).mean() for one in near])
    print(f"{len(near)} of {len(found)} registrations; median error {typical:.3f} pixels")
    print("factor of the deviations | errors within 1.645 deviations, x and y")
    for factor in FACTORS:
        held = np.mean([(np.abs(one.errors) <= 1.645 * factor * one.deviations).mean(0) for one in near], axis=0)
        print(f"{factor * INFLATION:24.3f} | {held[0]:.1%}, {held[1]:.1%}")


if __name__ == "__main__":
    main()
