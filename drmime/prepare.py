"""Prepares images for a registration: checks, removal of no-data values and hot or dead pixels, and limits of size."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from drmime import checks
from drmime.checks import Options
from drmime.device import DTYPES
from drmime.geometry.grid import Grid
from drmime.image.door import as_image
from drmime.image.frames import without_frames
from drmime.image.image import Image, few_slices
from drmime.image.outliers import mended
from drmime.image.pyramid import halved
from drmime.image.source import LARGEST


@dataclass(frozen=True)
class Images:
    """The fixed and the moving images: of the same dimension, in batches of the same length."""

    fixed: Image
    moving: Image

    def __post_init__(self) -> None:
        checks.pair(self.fixed, self.moving)

    def normalised(self, common_scale: bool) -> "Images":
        reference = self.fixed if common_scale and self.fixed.data.shape[1] == self.moving.data.shape[1] else None
        return Images(self.fixed.normalised(), self.moving.normalised(reference))

    def without_frames(self) -> "Images":
        return Images(*without_frames(self.fixed, self.moving))


@dataclass(frozen=True)
class Given:
    """Properties of two images as they were given, and notes on what was changed."""

    grids: tuple[Grid, Grid]
    masks: Mapping[str, str | None]  # by option: SHA-256 of the mask; None if it excludes nothing
    notes: tuple[str, ...]  # what was changed, in sentences


def read_images(
    fixed: Any,
    moving: Any,
    fixed_mask: Any,
    moving_mask: Any,
    fixed_spacing: Sequence[float] | None,
    moving_spacing: Sequence[float] | None,
    asked: Options,
) -> tuple[Images, Given]:
    """Read and prepare one pair of images of `register`, whose arguments these are; `asked` are its other options.

    Returns:
        the prepared images, and the properties of the given ones.

    Raises:
        InputError: an image, mask or spacing that cannot be used, or images that do not fit each other.
    """
    images, grids, masks, notes = [], [], {}, list[str]()
    common: dict[str, Any] = {"device": asked.device.place, "dtype": DTYPES[asked.device.dtype]}
    for role, data, mask, spacing, own in zip(
        ("fixed", "moving"),
        (fixed, moving),
        (fixed_mask, moving_mask),
        (fixed_spacing, moving_spacing),
        asked.own,
        strict=True,
    ):
        image = as_image(data, role=role, mask=mask, spacing=spacing, **own, **common)
        grids.append(image.finest or image.grid)
        masks[f"{role}_mask"] = _hash(image)
        ready = prepared(image, role)
        notes += ready.notes
        images.append(ready.finest)
    for at, spacing in enumerate((fixed_spacing, moving_spacing)):
        if grids[1 - at].crs and not grids[at].placed and grids[at].ndim == 2:
            moved, note = _upwards(grids[at], grids[1 - at], spacing is not None, ("fixed", "moving")[at])
            images[at] = replace(images[at], grid=moved(images[at].grid))
            grids[at] = moved(grids[at])
            notes.append(note)
    return Images(*images), Given((grids[0], grids[1]), masks, tuple(notes))


def _upwards(grid: Grid, georeferenced: Grid, known: bool, role: str) -> tuple[Callable[[Grid], Grid], str]:
    """For an image without a place beside a georeferenced one: a function that turns y of its grids upwards, and a note.

    Unless pixel lengths are `known`, they become those of the georeferenced image.
    """
    other = "moving" if role == "fixed" else "fixed"
    alike = not known and not grid.unit and bool((grid.spacing == 1).all())
    factors = georeferenced.spacing if alike else torch.ones(2, dtype=torch.float64)
    turn = torch.diag(torch.tensor([float(factors[0]), -float(factors[1]), 1.0], dtype=torch.float64))
    lengths = ", ".join(f"{length:g}" for length in factors.tolist())
    told = f", and its pixels are taken to be as long as those of the {other} image ({lengths}; else give {role}_spacing)"
    note = f"The {role} image is not georeferenced: its world begins at its first pixel, with y upwards{told if alike else ''}."
    return lambda one: replace(one, world_from_index=turn @ one.world_from_index), note


@dataclass(frozen=True)
class Prepared:
    """An image without outliers, its finest level, and notes on what was changed."""

    clean: Image  # on the grid of the image as it was given
    finest: Image
    notes: tuple[str, ...]


def prepared(image: Image, role: str) -> Prepared:
    """Mask no-data values of `image`, replace hot and dead pixels, and halve it until it has at most `LARGEST` pixels.

    `role` is the name of the image in the notes.
    """
    notes = [f"The {role} image: {image.note}"] if image.note else []
    if few := few_slices(image.grid.shape):
        notes.append(f"The {role} image was taken as a volume of {few} slices; set channel_axis if these are channels.")
    clean = mended(image, role)
    finest = clean.image
    while math.prod(finest.grid.shape) > LARGEST[finest.grid.ndim]:
        finest = halved(finest)
    notes += clean.notes
    given = image.finest or image.grid
    if finest.grid.shape != given.shape:
        notes.append(f"The finest level of the {role} image has shape {finest.grid.shape}, of {given.shape}.")
    return Prepared(clean.image, finest, tuple(notes))


def _hash(image: Image) -> str | None:
    """SHA-256 of the mask's bits, packed by `numpy.packbits` in C order; 0 also where NaN or the image's own mask exclude."""
    if image.mask is None or image.mask.all():
        return None
    return hashlib.sha256(np.packbits(image.mask.cpu().numpy() > 0).tobytes()).hexdigest()
