"""Training of a representation from a YAML file: pairs that overlay, or whose truth is known, and options."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime import settings
from drmime.errors import InputError
from drmime.image.door import as_image
from drmime.lab.datasets import Pair, dataset
from drmime.lab.datasets.base import digests
from drmime.learn.patches import Overlaid
from drmime.learn.train import Trainer, Training
from drmime.registry import known, names_only, options_as
from drmime.start.score import moved
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import in_world

KEYS = {  # keys of a configuration and their meaning
    "dataset": "the pairs to train with: a name of drmime.lab.datasets.DATASETS and its options",
    "validation": "the pairs to validate with, likewise",
    "modalities": "names of the fixed and of the moving modality",
    "training": "options of drmime.learn.train.Training",
    "folder": "where model, checkpoint and curves are written",
}


@dataclass(frozen=True)
class Plan:
    """A checked configuration."""

    pairs: Sequence[Pair]
    validation: Sequence[Pair]
    modalities: tuple[str, str]
    training: Training
    folder: Path

    def trainer(self) -> Trainer:
        """Read all images.

        Raises:
            InputError: a pair that cannot be read, has no truth, or has other channels than the first.
        """
        scenes, held = ([overlaid(pair) for pair in pairs] for pairs in (self.pairs, self.validation))
        channels = [image.data.shape[1] for image in scenes[0].images]
        for scene in (*scenes, *held):
            if (found := [image.data.shape[1] for image in scene.images]) != channels:
                raise InputError(f"pair {scene.name!r}: expected {channels} channels, as the first pair has, got {found}")
        paths = dict.fromkeys(path for pair in (*self.pairs, *self.validation) for path in pair.files())
        data = {Path(path).name: found["sha256"] for path, found in digests(paths).items()}
        return Trainer(scenes, held, dict(zip(self.modalities, channels, strict=True)), self.training, data)


def load(path: Path, overrides: Iterable[tuple[str, Any]] = ()) -> Plan:
    """Load a training from a YAML file and apply `overrides`: values by dotted keys, such as "training.steps".

    Raises:
        InputError: a missing or invalid file, an unknown key, name or option, or a pair both to train and to validate with.
    """
    state = settings.document(path)
    for key, value in overrides:
        settings.put(state, key, value)
    state = {name: settings.expanded(value) for name, value in state.items()}
    for name in state:
        known(f"key in {path}:", str(name), KEYS)
    for name in ("dataset", "validation"):
        if name not in state:
            raise InputError(f"{path}: expected the key {name!r}: {KEYS[name]}")
    modalities = state.get("modalities", ["fixed", "moving"])
    if not isinstance(modalities, list) or len(modalities) != 2 or len(set(map(str, modalities))) < 2:
        raise InputError(f"modalities: expected two different names, got {modalities!r}")
    with names_only():
        pairs, validation = dataset(state["dataset"]), dataset(state["validation"])
    both = {pair.fixed for pair in pairs} & {pair.fixed for pair in validation}
    if both:
        raise InputError(f"validation: expected other images than those to train with, got both {sorted(both)[0]}")
    return Plan(
        pairs=pairs,
        validation=validation,
        modalities=(str(modalities[0]), str(modalities[1])),
        training=options_as("training", Training, state.get("training") or {}),
        folder=Path(str(state.get("folder", "runs/training"))),
    )


def overlaid(pair: Pair) -> Overlaid:
    """Both images of a pair on the grid of the fixed one, intensities in [0, 1].

    Raises:
        InputError: they cannot be read, or how they lie is not known.
    """
    case = pair.load()
    if case.truth is None:
        raise InputError(f"pair {pair.name!r}: expected images that overlay, or a known transform (fixed_to_moving)")
    fixed, moving = (
        as_image(image, role=role, nan="mask").normalised()
        for role, image in zip(("fixed", "moving"), case.images, strict=True)
    )
    transform = in_world(MatrixTransform(torch.as_tensor(np.array(case.truth))), fixed.grid, moving.grid)
    return Overlaid([fixed, moved(fixed, moving, transform)], pair.name)
