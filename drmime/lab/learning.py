"""Training of a representation from a YAML file: pairs that overlay, or that a registration aligned, and options."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime import settings
from drmime.errors import InputError, shown, whole
from drmime.image.door import as_image
from drmime.lab.datasets import Pair, dataset
from drmime.lab.datasets.base import digests
from drmime.lab.datasets.reading import REGISTRATION
from drmime.learn.patches import Overlaid
from drmime.learn.synthesise import synthesised
from drmime.learn.train import Trainer, Training
from drmime.registry import known, names_only, options_as
from drmime.result import Registration
from drmime.start.score import moved
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import in_world
from drmime.verdict.judge import Status

KEYS = {  # keys of a configuration and their meaning
    "pairs": "a list of what to train with: mappings with the keys modalities, dataset and validation",
    "training": "options of drmime.learn.train.Training",
    "folder": "where model, checkpoint and curves are written",
}
ENTRY = {  # keys of an entry of `pairs`
    "modalities": "names of the fixed and of the moving modality",
    "dataset": "the pairs to train with: a name of drmime.lab.datasets.DATASETS, or synthesised, and its options",
    "validation": "the pairs to validate with, likewise",
}
SYNTHESISED = {"count": 200, "side": 192, "ndim": 2, "seed": 0}  # options of the dataset "synthesised", and their defaults


@dataclass(frozen=True)
class Source:
    """Pairs of one or two modalities: files, or the options of `synthesised`."""

    modalities: tuple[str, str]
    pairs: Sequence[Pair] | Mapping[str, int]

    def scenes(self) -> list[Overlaid]:
        """Read, or make, all images. Raises: InputError: as `overlaid`, or a number out of its range."""
        if isinstance(self.pairs, Mapping):
            return synthesised(**self.pairs, modality=self.modalities[0])
        return [overlaid(pair, self.modalities) for pair in self.pairs]

    def files(self) -> list[str]:
        return [] if isinstance(self.pairs, Mapping) else [path for pair in self.pairs for path in pair.files()]

    def images(self) -> set[Any]:
        """What must not be on both sides: the paths of the images, or the options by which they are made."""
        if isinstance(self.pairs, Mapping):
            return {tuple((name, value) for name, value in sorted(self.pairs.items()) if name != "count")}
        return {Path(path).resolve() for pair in self.pairs for path in (pair.fixed, pair.moving)}

    def state(self) -> list[Any]:
        """The source as values for JSON."""
        found = self.pairs if isinstance(self.pairs, Mapping) else [pair.to_dict() for pair in self.pairs]
        return [self.modalities, found]


@dataclass(frozen=True)
class Plan:
    """A checked configuration."""

    sources: Sequence[Source]
    validation: Sequence[Source]
    training: Training
    folder: Path
    left_out: Sequence[str] = ()  # names of pairs whose registration is not sure

    def trainer(self) -> Trainer:
        """Read all images.

        Raises:
            InputError: a pair that cannot be read, has no truth, or has other channels than others of its modality.
        """
        scenes, held = ([scene for one in some for scene in one.scenes()] for some in (self.sources, self.validation))
        paths = dict.fromkeys(path for one in (*self.sources, *self.validation) for path in one.files())
        base = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths]) if paths else ""
        data = {os.path.relpath(path, base): found["sha256"] for path, found in digests(paths).items()}
        used = json.dumps([[one.state() for one in some] for some in (self.sources, self.validation)])
        data["plan"] = hashlib.sha256(used.encode()).hexdigest()
        return Trainer(scenes, held, self.training, data)


def load(path: Path, overrides: Iterable[tuple[str, Any]] = ()) -> Plan:
    """Load a training from a YAML file and apply `overrides`: values by dotted keys, such as "training.steps".

    Raises:
        InputError: a missing or invalid file, an unknown key, name or option, or an image both to train and to validate with.
    """
    state = settings.document(path)
    for key, value in overrides:
        settings.put(state, key, value)
    state = {name: settings.expanded(value) for name, value in state.items()}
    for name in state:
        known(f"key in {path}:", str(name), KEYS)
    entries = state.get("pairs")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: expected the key 'pairs': {KEYS['pairs']}; got {shown(entries)}")
    left_out: list[str] = []
    read = [_sources(entry, f"{path}: pairs, entry {number}", left_out) for number, entry in enumerate(entries, 1)]
    sources, validation = ([two[which] for two in read] for which in (0, 1))
    both = set[Any]().union(*(one.images() for one in sources)) & set[Any]().union(*(one.images() for one in validation))
    if both:
        raise InputError(f"validation: expected other images than those to train with, got {min(map(str, both))} in both")
    training = options_as("training", Training, state.get("training") or {})
    return Plan(sources, validation, training, Path(str(state.get("folder", "runs/training"))), left_out)


def _sources(entry: Any, where: str, left_out: list[str]) -> tuple[Source, Source]:
    """What to train and to validate with; adds to `left_out` the names of pairs whose registration is not sure."""
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: expected the keys {', '.join(ENTRY)}, got {shown(entry)}")
    for name in entry:
        known(f"key in {where}:", str(name), ENTRY)
    for name in ("dataset", "validation"):
        if name not in entry:
            raise InputError(f"{where}: expected the key {name!r}: {ENTRY[name]}")
    names = entry.get("modalities", ["fixed", "moving"])
    if not isinstance(names, list) or len(names) != 2:
        raise InputError(f"{where}: modalities: expected two names, got {shown(names)}")
    first, second = map(str, names)
    made = [_pairs(entry[name], f"{where}: {name}", left_out) for name in ("dataset", "validation")]
    if first != second and any(isinstance(one, Mapping) for one in made):
        raise InputError(f"{where}: modalities: expected one name twice, since synthesised images share it, got {names}")
    return Source((first, second), made[0]), Source((first, second), made[1])


def _pairs(spec: Any, where: str, left_out: list[str]) -> Sequence[Pair] | Mapping[str, int]:
    if not (isinstance(spec, Mapping) and spec.get("name") == "synthesised"):
        with names_only():
            every = dataset(spec)
        pairs: list[Pair] = []
        for pair in every:
            if _sure(pair):
                pairs.append(pair)
            else:
                left_out.append(pair.name)
        if not pairs:
            raise InputError(f"{where}: expected pairs whose registrations are aligned, got none among {len(every)}")
        return pairs
    options = {name: value for name, value in spec.items() if name != "name"}
    for name in options:
        known("option of synthesised", str(name), SYNTHESISED)
        whole(f"{where}: {name}", options[name], 0)
    return SYNTHESISED | options


def _sure(pair: Pair) -> bool:
    """Whether a pair does not depend on a registration whose verdict is other than "aligned"."""
    return not pair.truth.lower().endswith(REGISTRATION) or Registration.load(pair.truth).verdict.status is Status.ALIGNED


def overlaid(pair: Pair, modalities: tuple[str, str] = ("fixed", "moving")) -> Overlaid:
    """Both images of a pair on the grid of the fixed one, intensities in [0, 1].

    Raises:
        InputError: they cannot be read, or how they lie is not known.
    """
    case = pair.load()
    if case.truth is None:
        raise InputError(
            f"pair {pair.name!r}: expected images that overlay, a known transform, or a registration (fixed_to_moving)"
        )
    fixed, moving = (
        as_image(image, role=role, nan="mask").normalised()
        for role, image in zip(("fixed", "moving"), case.images, strict=True)
    )
    transform = in_world(MatrixTransform(torch.as_tensor(np.array(case.truth))), fixed.grid, moving.grid)
    return Overlaid([fixed, moved(fixed, moving, [transform])], modalities, pair.name)
