"""Representations trained on some people's images, and registrations of other people's images under known maps.

    python experiments/comir.py --kind CT --train 600        # trains, evaluates, appends to results/comir.csv

The kinds are those of `harvard` (CT, PET, SPECT: each with MR). No person is on both sides. Each test pair is moved by small,
medium and large known maps (`drmime.lab.datasets.changes`), and registered by the default, by SIFT and α-AMD on
representations, and by the default's search and metric on representations.
"""

import argparse
import csv
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime import register
from drmime.lab.datasets.base import Change, Pair
from drmime.lab.datasets.tables import pairs
from drmime.lab.evaluate import scores
from drmime.lab.learning import overlaid
from drmime.learn.contrastive import CRITICS, retrieval
from drmime.learn.patches import draw
from drmime.learn.train import Trainer, Training
from drmime.learn.weights import Representation
from drmime.transform.warp import in_pixels

SIZES = ("small", "medium", "large")
PATCHES = 1000  # of retrieval
METHODS: dict[str, dict[str, Any]] = {  # options of register; "model" stands for the trained representation
    "default": {},
    "search and metric": {"representation": "all"},
    "search": {"representation": "search"},
    "metric": {"representation": "metric"},
    "search, then NCC": {"representation": "all", "metric": "ncc"},
    "SIFT": {"representation": "all", "start": "sift", "metric": "ncc"},
}


def person(pair: Pair) -> str:
    """The number of a person in the name of a pair."""
    found = re.search(r"_(\d\d)", pair.name)
    return found[1] if found else pair.name


def trained(train: list[Pair], held: list[Pair], steps: int, folder: Path, seed: int) -> Representation:
    scenes, validation = ([overlaid(pair) for pair in some] for some in (train, held))
    channels = [image.data.shape[1] for image in scenes[0].images]
    trainer = Trainer(
        scenes, validation, dict(zip(("fixed", "moving"), channels, strict=True)), Training(steps=steps, seed=seed), {}
    )
    before = trainer.validated(0.0).retrieval
    trainer.losses, trainer.scores, trainer.best = [], [], -1.0
    begun = time.monotonic()
    model = trainer.run(
        None, lambda found: print(found.step, f"{found.loss:.3f} {found.retrieval:.1%}", flush=True), lambda: None
    )
    print(f"{time.monotonic() - begun:.0f} s, retrieval {before:.1%} before, {trainer.best:.1%} after", flush=True)
    model.save(folder / "model.safetensors")
    return model


def found_of_1000(model: Representation | None, held: list[Pair]) -> float:
    """The share of patches of the test images that are found among 1,000; without a model by intensities."""
    patches = draw([overlaid(pair) for pair in held], PATCHES, 64, torch.Generator().manual_seed(3), plain=True)
    if model is None:
        encoded = [part.mean(1, keepdim=True) for part in patches]
    else:
        with torch.no_grad():
            encoded = [
                torch.cat([one(part) for part in cut.split(50)])
                for one, cut in zip(model.encoders.values(), patches, strict=True)
            ]
    return retrieval(*encoded, CRITICS["correlation"])


def error(pair: Pair, options: dict[str, Any], model: Representation) -> float:
    """The median error of the landmarks, as a share of the diagonal."""
    case = pair.load()
    given = dict(options)
    if "representation" in given:
        given["representation"] = {"name": model, "use": given["representation"]}
    result = register(*case.images, device="cpu", nan="mask", **given)
    return scores(in_pixels(result.transform, *case.grids), case, np.eye(case.ndim + 1))["rtre_median"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="CT", help="CT, PET or SPECT")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pairs.csv"))
    parser.add_argument("--train", type=int, default=600, metavar="STEPS")
    parser.add_argument("--out", type=Path, default=Path("runs/comir"))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    every = [pair for pair in pairs(str(args.data), where={"dataset": "harvard"}) if f"/{args.kind}_" in pair.name]
    people = sorted({person(pair) for pair in every})
    test = people[::3]
    held, rest = ([pair for pair in every if (person(pair) in test) == inside] for inside in (True, False))
    folder = args.out / args.kind
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    model = (
        Representation.load(path)
        if path.exists()
        else trained(rest[:-1] if len(rest) > 2 else rest, rest[-1:], args.train, folder, args.seed)
    )
    print(
        f"found of {PATCHES}: {found_of_1000(None, held):.1%} by intensities, {found_of_1000(model, held):.1%} by the model",
        flush=True,
    )
    with (folder / "rows.csv").open("a", newline="") as file:
        writer = csv.writer(file)
        for name in args.methods:
            counts = dict.fromkeys(SIZES, 0)
            for size in SIZES:
                for pair in held:
                    for seed in range(2):
                        moved = replace(pair, change=Change(size, seed))
                        value = error(moved, METHODS[name], model)
                        counts[size] += value < 0.01
                        writer.writerow([args.kind, name, size, pair.name, seed, f"{value:.5f}"])
                        file.flush()
            print(f"{args.kind} {name}: {counts} of {2 * len(held)} each", flush=True)


if __name__ == "__main__":
    main()
