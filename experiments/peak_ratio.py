"""How well the peak ratio tells right starts from wrong ones, at two sizes of every pair.

    python experiments/peak_ratio.py [--file ../shared/data/pairs.csv] [--workers 2]

Of each pair the first five starts of the quick look are taken, as the pair comes and at a quarter of its sides. A start is
right if the median landmark error is below 2 % of the moving image's diagonal, wrong above 6 %.
"""

import argparse
import inspect
import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from skimage.transform import resize

import drmime
from drmime import checks
from drmime.geometry.grid import scaled
from drmime.geometry.lie import generators
from drmime.geometry.matrices import mapped
from drmime.lab.datasets.base import Pair
from drmime.lab.datasets.tables import pairs
from drmime.prepare import read_images
from drmime.start.inputs import Inputs
from drmime.start.looks import looks
from drmime.start.propose.simple import Centre
from drmime.start.refine import refined
from drmime.start.rivals import peak_ratio
from drmime.transform.linear import MatrixTransform

STARTS = 5
RIGHT, WRONG = 0.02, 0.06  # of the moving image's diagonal
SIZES = (1.0, 0.25)
SMALLEST = 160  # pixels of a side, below which a pair is not reduced
DEFAULTS = {name: one.default for name, one in inspect.signature(drmime.register).parameters.items()}
THRESHOLDS = (0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0)


class Start(NamedTuple):
    """One start of one pair."""

    pair: str
    size: float
    rank: int
    error: float
    score: float  # agreement of edges in standard deviations of independent pixels
    ratio: float


def shrunk(pixels: np.ndarray, size: float) -> np.ndarray:
    if size == 1:
        return pixels
    shape = [round(length * size) for length in pixels.shape[:2]]
    return resize(pixels.astype(float), (*shape, *pixels.shape[2:]), anti_aliasing=True)


def starts(pair: Pair) -> list[Start]:
    torch.set_num_threads(1)
    case = pair.load()
    found = []
    for size in SIZES:
        if size < 1 and min(*case.fixed.shape[:2], *case.moving.shape[:2]) < SMALLEST:
            continue
        images = [shrunk(pixels, size) for pixels in (case.fixed, case.moving)]
        read, _ = read_images(*images, None, None, None, None, checks.options(DEFAULTS))
        ready = read.normalised(common_scale=False).without_frames()
        inputs = Inputs(ready.fixed, ready.moving, generators("affine", 2), 0)
        look = looks(inputs.generators, ready.fixed.grid, ready.moving.grid)[0]
        proposed = [("given", Centre()(ready.fixed, ready.moving)[0])]
        for name, find in look.proposers:
            proposed += [(name, scaled(matrix, ready.fixed.grid)) for matrix in find(ready.fixed, ready.moving)]
        for rank, one in enumerate(refined([inputs], [proposed], look.rounds)[0][:STARTS]):
            here, there = (size * (points + 0.5) - 0.5 for points in (case.fixed_points, case.moving_points))
            off = np.linalg.norm(mapped(one.matrix, here) - there, axis=1)
            small = inputs.reduced(one.matrix)
            score = float(small.score_and_evidence(one.matrix[None, None])[0])
            error = float(np.median(off)) / math.hypot(*images[1].shape[:2])
            [ratio] = peak_ratio(small, [MatrixTransform(one.matrix)])
            found.append(Start(pair.name, size, rank, error, score, 0.0 if math.isnan(ratio) else ratio))
    return found


def report(found: list[Start]) -> None:
    right, wrong = [one for one in found if one.error < RIGHT], [one for one in found if one.error > WRONG]
    print(f"{len(right)} right and {len(wrong)} wrong starts")
    print("peak ratio | right below | wrong above")
    for threshold in THRESHOLDS:
        below, above = (np.mean([one.ratio < threshold for one in some]) for some in (right, wrong))
        print(f"{threshold:10.1f} | {below:11.1%} | {1 - above:11.1%}")
    for name in ("score", "ratio"):
        ours, theirs = (np.array([getattr(one, name) for one in some]) for some in (right, wrong))
        print(f"{name}: a right start has more than a wrong one with chance {np.mean(ours[:, None] > theirs):.3f}")
        most = max(getattr(one, name) for one in wrong)
        above = np.mean([getattr(one, name) > most for one in right])
        print(f"{name}: highest of a wrong start {most:.2f}, of the right ones {above:.1%} above it")
        firsts = {(one.pair, one.size): getattr(one, name) for one in right if one.rank == 0}
        whole, small = ({pair: value for (pair, size), value in firsts.items() if size == one} for one in SIZES)
        changes = [whole[pair] / small[pair] for pair in whole if pair in small]
        low, middle, high = np.quantile(changes, [0.05, 0.5, 0.95])
        print(f"  whole by quarter, {len(changes)} pairs: median {middle:.2f}, 5 and 95 %: {low:.2f}, {high:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--file", default="../shared/data/pairs.csv")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    chosen = pairs(args.file, where={"ndim": 2, "already_aligned": 0}, skip={"dataset": "superfusion", "fixed_landmarks": ""})
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        found = [one for some in pool.map(starts, chosen) for one in some]
    report(found)


if __name__ == "__main__":
    main()
