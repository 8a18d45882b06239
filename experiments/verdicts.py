"""Registrations with known errors, to which the verdict is calibrated (`calibrate.py`).

    python experiments/verdicts.py --out runs/verdicts --workers 2               # register; finished ones are kept
    python experiments/verdicts.py --out runs/verdicts --workers 2 --measure     # only measure the evidence anew

The pairs of the table are taken as they come, small, turned, cropped and under known maps; as they come and under known maps
also without a search, which ends in local maxima; and pairs that do not belong together: images of two scenes, and an image
beside noise of its own spectrum. Each has a row NAME.figures.json and its registration, NAME.registration.json.
"""

import argparse
import json
import math
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peak_ratio import shrunk

import drmime
from drmime import Doubt, checks
from drmime.image.io import write_text
from drmime.lab import evaluate
from drmime.lab.datasets.base import Pair
from drmime.lab.datasets.case import Case, Change
from drmime.lab.datasets.tables import pairs
from drmime.prepare import read_images
from drmime.registration import DEFAULTS
from drmime.start.choose import rivals
from drmime.start.inputs import Inputs
from drmime.transform.warp import in_pixels
from drmime.verdict.evidence import evidence
from drmime.verdict.judge import HARD, judged

SMALL = 96  # pixels of the longest side of small images


@dataclass(frozen=True)
class Item:
    """One registration: a pair, or the fixed image of one and the moving image of another."""

    kind: str
    pair: Pair
    other: Pair | None = None  # whose moving image is used
    noise: bool = False  # the moving image is replaced by noise of its spectrum
    search: bool = True
    side: int = 0  # pixels to which the longest side of both images is reduced; 0: as they are

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.pair.name.replace('/', '_')}"

    @property
    def belongs(self) -> bool:
        """Whether the two images show one scene."""
        return self.other is None and not self.noise

    @property
    def options(self) -> dict[str, Any]:
        three = "3d" in self.pair.domain
        return ({} if self.search else {"start": "none"}) | ({"transform": "rigid"} if three else {})

    def case(self) -> Case:
        case = self.pair.load()
        if self.other is not None:
            there = self.other.load()
            case = replace(case, moving=there.moving, moving_spacing=there.moving_spacing, moving_world=there.moving_world)
        if self.noise:
            case = replace(case, moving=shuffled(case.moving, np.random.default_rng(zlib.crc32(self.name.encode())), case.ndim))
        return smaller(case, self.side) if self.side else case


def shuffled(pixels: np.ndarray, random: np.random.Generator, ndim: int) -> np.ndarray:
    """Noise with the amplitudes of the image's Fourier transform and random phases."""
    axes, shape = tuple(range(ndim)), pixels.shape[:ndim]
    spectrum = np.fft.rfftn(pixels.astype(float), axes=axes)
    phases = np.fft.rfftn(random.normal(size=shape))
    phases = phases / np.abs(phases)
    return np.fft.irfftn(np.abs(spectrum) * phases.reshape(*phases.shape, *[1] * (pixels.ndim - ndim)), shape, axes)


def smaller(case: Case, side: int) -> Case:
    """Both images with the same reduction, and the points."""
    size = side / max(*case.fixed.shape[:2], *case.moving.shape[:2])
    fixed, moving = (shrunk(pixels, size) for pixels in (case.fixed, case.moving))
    points = [None if one is None else size * (one + 0.5) - 0.5 for one in (case.fixed_points, case.moving_points)]
    return replace(case, fixed=fixed, moving=moving, fixed_points=points[0], moving_points=points[1])


def items(file: str) -> Iterator[Item]:
    """All registrations, the kinds in turn so that a part of them has some of each."""
    usable = {"dataset": "superfusion", "fixed_landmarks": ""}
    plain = pairs(file, where={"ndim": 2, "already_aligned": 0}, skip=usable)
    overlaid = pairs(file, where={"ndim": 2, "already_aligned": 1})
    volumes = pairs(file, where={"dataset": ["stroke3d", "spm3d", "openms3d", "ptbp3d"]})
    bodies = pairs(file, where={"dataset": ["prostate3d", "sct3d"]})  # heads are like heads
    random = np.random.default_rng(0)
    every = plain + overlaid

    def moved(some: tuple[Pair, ...], motion: str, recoloured: bool = False) -> list[Pair]:
        return [replace(pair, change=Change(motion, 0, recoloured)) for pair in some]

    def stranger(pair: Pair, some: tuple[Pair, ...]) -> Pair:
        others = [one for one in some if dataset(one) != dataset(pair)]
        return others[random.integers(len(others))]

    kinds = {
        "plain": [Item("plain", pair) for pair in plain],
        "turned": [Item("turned", pair) for pair in moved(plain, "turned")],
        "crop": [Item("crop", pair) for pair in moved(plain[::2], "crop")],
        "known": [Item("known", pair) for pair in moved(overlaid, "large")],
        "recoloured": [Item("recoloured", pair) for pair in moved(every[::3], "large", True)],
        "plain unsearched": [Item("plain unsearched", pair, search=False) for pair in plain],
        "known unsearched": [Item("known unsearched", pair, search=False) for pair in moved(overlaid, "medium")],
        "strangers": [Item("strangers", pair, other=stranger(pair, every)) for pair in every[::2]],
        "noise": [Item("noise", pair, noise=True) for pair in every[1::5]],
        "small": [Item("small", pair, side=SMALL) for pair in plain[1::2]],
        "small strangers": [Item("small strangers", pair, other=stranger(pair, every), side=SMALL) for pair in every[2::6]],
        "small noise": [Item("small noise", pair, noise=True, side=SMALL) for pair in every[3::6]],
        "volumes": [Item("volumes", pair) for pair in moved(volumes, "volume")],
        "volumes unsearched": [Item("volumes unsearched", pair, search=False) for pair in moved(volumes, "medium")],
        "volume noise": [Item("volume noise", pair, noise=True) for pair in volumes],
        "volume strangers": [Item("volume strangers", pair, other=stranger(pair, bodies)) for pair in volumes],
    }
    places = [((at + 0.5) / len(some), kind, at) for kind, some in kinds.items() for at in range(len(some))]
    for _, kind, at in sorted(places):
        yield kinds[kind][at]


def dataset(pair: Pair) -> str:
    return pair.name.split("/")[0]


def collected(item: Item, folder: Path, measure: bool) -> str:
    """Register an item, or with `measure` only measure the evidence of its registration; writes its row. -> an error, or ""."""
    torch.set_num_threads(1)
    row, saved = (folder / f"{item.name}.{what}.json" for what in ("figures", "registration"))
    if row.exists() != measure:
        return ""
    try:
        case = item.case()
        if measure:
            result = measured(drmime.Registration.load(saved), item, case)
        else:
            result = drmime.register(*case.images, **item.options)
        result.save(saved)
        error = None
        if item.belongs:
            error = evaluate.scores(in_pixels(result.transform, *case.grids), case, np.eye(case.ndim + 1))["rtre_median"]
        figures = {name: value if math.isfinite(value) else None for name, value in result.verdict.figures.items()}
        own = {"kind": item.kind, "pair": item.pair.name, "belongs": item.belongs, "error": error, "figures": figures}
        own |= {"datasets": sorted({dataset(one) for one in (item.pair, item.other) if one is not None})}
        write_text(row, json.dumps({**own, "hard": [doubt.name for doubt in result.doubts if doubt in HARD]}))
        return ""
    except Exception as error:  # the others go on
        return f"{item.name}: {type(error).__name__}: {error}"


def measured(result: drmime.Registration, item: Item, case: Case) -> drmime.Registration:
    """A registration with evidence and verdict measured by the program as it is."""
    asked = checks.options(DEFAULTS | item.options)
    read, _ = read_images(*case.images, None, None, None, None, asked)
    pair = read.normalised(common_scale=False).without_frames()
    inputs = Inputs(pair.fixed, pair.moving, asked.transform.basis(case.ndim), 0)
    compared = rivals(result.candidates, pair.fixed.grid) if item.search else None
    known = {doubt: figures for doubt, figures in result.doubts.items() if doubt in (Doubt.MIRRORED, Doubt.ALONE)}
    [seen] = evidence([inputs], [result.transform], [compared], [result.overlap])
    found = judged(seen, known, result.moving_grid)
    return replace(result, verdict=found.verdict, doubts=found.doubts, blocks=found.blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--file", default="../shared/data/pairs.csv")
    parser.add_argument("--out", type=Path, default=Path("runs/verdicts"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--measure", action="store_true")
    args = parser.parse_args()
    every = list(items(args.file))
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        for problem in pool.map(collected, every, repeat(args.out), repeat(args.measure)):
            if problem:
                print(problem, flush=True)


if __name__ == "__main__":
    main()
