"""Representations trained on some groups of a kind of pairs, and registrations of the other groups under known maps.

    python experiments/comir.py --kind CT --fold 0

The kinds are those of `harvard` (CT, PET, SPECT: each with MR), `biop_mouse`, `cellprofiler` and `roadscene`. The groups of a
kind (the column `group` of the table: a person, a section) are dealt into two folds; those of `--fold` are tested, none is on
both sides. The last group left to train with validates (and trains, if it is the only one). Each test pair is moved by one
small, medium and large known map (`drmime.lab.datasets.changes`) and registered by the methods below. The model and rows.csv
are written to --out.
"""

import argparse
import csv
import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from drmime import register
from drmime.lab.datasets.base import Change, Pair
from drmime.lab.datasets.tables import pairs, read_table
from drmime.lab.evaluate import scores
from drmime.lab.learning import overlaid
from drmime.learn.contrastive import CRITICS, retrieval
from drmime.learn.patches import draw
from drmime.learn.train import Trainer, Training
from drmime.learn.weights import Representation
from drmime.transform.warp import in_pixels

KINDS = {  # dataset, and how the names of its pairs begin
    **{kind: ("harvard", f"{kind}_") for kind in ("CT", "PET", "SPECT")},
    **{kind: (kind, "") for kind in ("biop_mouse", "cellprofiler", "roadscene")},
}
SIZES = ("small", "medium", "large")
ALIGNED = 0.01  # largest median error of the landmarks, as a share of the diagonal
PATCHES = 1000  # of retrieval
METHODS: dict[str, dict[str, Any]] = {  # options of register; "model" stands for the trained representation
    "default": {},
    "metric": {"representation": "metric"},
    "search": {"representation": "search"},
    "search and metric": {"representation": "all"},
    "search, then NCC": {"representation": "all", "metric": "ncc"},
    "metric NCC": {"representation": "metric", "metric": "ncc"},
    "SIFT": {"representation": "all", "start": "sift", "metric": "ncc"},
    "alpha_amd": {"representation": "metric", "metric": "alpha_amd"},
}


def of_kind(table: Path, kind: str) -> dict[str, list[Pair]]:
    """The pairs of a kind by group, in the order of the table."""
    dataset, prefix = KINDS[kind]
    rows, _ = read_table(str(table), ("dataset", "pair", "group"), None)
    made = {pair.name: pair for pair in pairs(str(table), where={"dataset": dataset})}
    groups: dict[str, list[Pair]] = {}
    for row in rows:
        if row["dataset"] == dataset and row["pair"].startswith(prefix):
            groups.setdefault(row["group"], []).append(made[f"{dataset}/{row['pair']}"])
    return groups


def trained(train: list[Pair], held: list[Pair], options: Training) -> Representation:
    scenes, validation = ([overlaid(pair) for pair in some] for some in (train, held))
    trainer = Trainer(scenes, validation, options, {})
    begun = time.monotonic()
    model = trainer.run(
        None, lambda found: print(found.step, f"{found.loss:.3f} {found.retrieval:.1%}", flush=True), lambda: None
    )
    print(f"{trainer.step} steps, {time.monotonic() - begun:.0f} s", flush=True)
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
    parser.add_argument("--kind", default="CT", choices=KINDS)
    parser.add_argument("--fold", type=int, default=0, choices=(0, 1))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pairs.csv"))
    parser.add_argument("--out", type=Path, default=Path("runs/comir"))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), metavar="NAME", help=", ".join(METHODS))
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="options of training, such as shifts=0")
    args = parser.parse_args()
    torch.set_num_threads(1)
    groups = of_kind(args.data, args.kind)
    tested = list(groups)[args.fold :: 2]
    test = [pair for group in tested for pair in groups[group]]
    *train, last = [groups[group] for group in groups if group not in tested]
    folder = args.out / f"{args.kind}-{args.fold}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    if path.exists() and args.set:
        parser.error(f"{path} is trained already: delete it, or leave out --set")
    if not path.exists():
        options = {name: yaml.safe_load(value) for name, _, value in (one.partition("=") for one in args.set)}
        trained([pair for some in train or [last] for pair in some], last, Training(**options)).save(path)
    model = Representation.load(path)
    before, after = found_of_1000(None, test), found_of_1000(model, test)
    print(f"{args.kind}: of {PATCHES} found {before:.1%} by intensities, {after:.1%} by the model", flush=True)
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for name in args.methods:
            counts = dict.fromkeys(SIZES, 0)
            for size, pair in itertools.product(SIZES, test):
                value = error(replace(pair, change=Change(size, 0)), METHODS[name], model)
                counts[size] += value < ALIGNED
                writer.writerow([args.kind, name, size, pair.name, f"{value:.5f}"])
                file.flush()
            print(f"{args.kind} {name}: {sum(counts.values())} of {len(SIZES) * len(test)} {counts}", flush=True)


if __name__ == "__main__":
    main()
