"""The pairs of images that `register` is given: checked one by one before anything is computed, then put into batches."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime import checks
from drmime.checks import Options
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import translation
from drmime.hints import hints_of, read_held
from drmime.image.image import batch
from drmime.prepare import Given, Images, read_images
from drmime.start.plan import Start

# The largest batch, which bounds the memory. With the default metric in float32 on the CPU a pair of 256 x 256 pixels adds
# 24 MB to the peak of a run, one of 512 x 512 39 MB and one of 2048 x 2048 370 MB: a full batch takes 1.5 to 6 GB
# (`benchmarks/speed.py --start none --batches`).
MOST_PAIRS = 64
MOST_VALUES = 2**27  # of the finest levels of both images, all channels and pairs


@dataclass(eq=False)
class Pair:
    """One pair, checked and ready; both images with B = 1."""

    number: int  # in the lists given
    images: Images  # until `together` takes them
    grids: tuple[Grid, Grid]  # of the images as they were given
    levels: int  # of the pyramid
    start: Start
    held: np.ndarray | None  # pixels of the fixed image that are not deformed. shape: that of the fixed image as it was given
    settings: Mapping[str, Any]  # those that are its own
    notes: tuple[str, ...]  # what was changed, in sentences

    @property
    def kind(self) -> tuple[Any, ...]:
        """Pairs of one kind can be registered together."""
        grids = [(grid.shape, grid.world_from_index.numpy().tobytes(), grid.placed, grid.unit, grid.crs) for grid in self.grids]
        images = [
            (image.data.shape, image.grid.world_from_index.numpy().tobytes(), image.mask is None)
            for image in (self.images.fixed, self.images.moving)
        ]
        return (*grids, *images, self.held is None)

    @property
    def values(self) -> int:
        """The number of values of both images."""
        return self.images.fixed.data.numel() + self.images.moving.data.numel()


def read_pairs(given: Mapping[str, Any], asked: Options) -> list[Pair | InputError]:
    """The pairs of `register`, whose arguments are `given` by name; `asked` are its options.

    Of a pair that cannot be used there is the error if `errors` is "return". Images wait for their batch on the CPU.

    Raises:
        InputError: lists of unequal lengths; an option that does not fit a pair; a pair that cannot be used, after all pairs
            have been read, if `errors` is "raise".
    """
    door = _Door(given, asked)
    found: list[Pair | InputError] = []
    for number in range(door.count):
        try:
            read = door.read(number)
        except InputError as error:
            if not door.many and asked.errors == "raise":
                raise
            without_locals(error)  # which hold the pixels
            found.append(error)
            continue
        found.append(door.fitted(number, *read))
    bad = {number: one for number, one in enumerate(found) if isinstance(one, InputError)}
    if bad and asked.errors == "raise":
        first, *others = bad
        more = f" {listed(others).capitalize()} cannot be used either." if others else ""
        raise InputError(f"{listed([first])}: {bad[first]}{more}") from bad[first]
    return found


def without_locals(error: BaseException | None) -> None:
    """Clear the local variables that the traceback of an error holds, and those of its causes: it may be kept for long."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def listed(numbers: Sequence[int]) -> str:
    """Numbers of pairs for a message; of many the first only."""
    shown = ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")
    return f"pair{'s' if len(numbers) > 1 else ''} {shown} (from 0)"


class _Door:
    """The arguments of `register`, by pair."""

    def __init__(self, given: Mapping[str, Any], asked: Options) -> None:
        self.given, self.asked, self.many = given, asked, isinstance(given["fixed"], (list, tuple))
        images, masks = {}, {}
        for role in ("fixed", "moving"):
            data, mask = given[role], given[f"{role}_mask"]
            several = isinstance(data, (list, tuple))
            if several and not data:
                raise InputError(f"{role}: expected at least one image, got an empty list")
            images[role] = data if several else [data]
            masks[role] = checks.one_each(mask, len(data), role) if several else [mask]
        self.count = len(images["fixed"])
        if len(images["moving"]) != self.count:
            raise InputError(f"expected as many fixed as moving images, got {self.count} and {len(images['moving'])}")
        self.images: list[tuple[Any, ...]] = list(zip(*images.values(), *masks.values(), strict=True))
        affine = given["affine_mask"]
        self.affine = checks.one_each(affine, self.count, "affine") if self.many else [affine]

    def read(self, number: int) -> tuple[Images, Given, np.ndarray | None]:
        """The images of a pair, prepared; what they were; the mask of what is not deformed.

        Raises:
            InputError: an image or mask that cannot be used.
        """
        spacings = self.given["fixed_spacing"], self.given["moving_spacing"]
        fixed, moving, *masks = self.images[number]
        images, seen = read_images(fixed, moving, masks[0], masks[1], *spacings, self.asked)
        held = read_held(self.affine[number], seen.grids[0])
        if held is not None:
            self._models(images, seen.grids, held)
        if self.count > 1:
            images = Images(images.fixed.to("cpu"), images.moving.to("cpu"))
        return images, seen, held

    def fitted(self, number: int, images: Images, seen: Given, held: np.ndarray | None) -> Pair:
        """The pair, after a check of the options that depend on the size of its images.

        Raises:
            InputError: an option that does not fit.
        """
        try:
            levels, capped = checks.levels(self.asked.levels, images.fixed.grid, images.moving.grid)
            self.asked.schedule.weights(levels)
            start = self.asked.start.of_pair(number, self.count)
            if not callable(start.first):
                start.on(*seen.grids).matrices(images.fixed, images.moving)
            self._models(images, seen.grids, None)
        except InputError as error:
            if not self.many:
                raise
            raise InputError(f"{listed([number])}: {error}") from error
        settings = {**seen.masks, "affine_mask": checks.plain(self.affine[number]), "start": checks.used(start)}
        return Pair(number, images, seen.grids, levels, start, held, settings, seen.notes + capped)

    def _models(self, images: Images, grids: tuple[Grid, Grid], held: np.ndarray | None) -> None:
        """InputError if there is no model of a stage for these images. What a model begins at plays no role."""
        fixed, moving = images.fixed.grid, images.moving.grid
        hints, _ = hints_of([held], self.asked, *grids)
        for stage in self.asked.stages:
            stage.fits()[0].model(translation(moving.centre - fixed.centre)[None], fixed, moving, hints)


def batches(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs in batches of one kind and at most `MOST_PAIRS` and `MOST_VALUES`, kinds in the order of their first pairs."""
    kinds: dict[tuple[Any, ...], list[Pair]] = {}
    for pair in pairs:
        kinds.setdefault(pair.kind, []).append(pair)
    made = []
    for alike in kinds.values():
        size = max(1, min(MOST_PAIRS, MOST_VALUES // alike[0].values))
        made += [alike[at : at + size] for at in range(0, len(alike), size)]
    return made


def together(pairs: Sequence[Pair], place: torch.device, once: bool) -> Images:
    """The images of pairs of one kind, as a batch on a device. `once`: the pairs forget them, to save memory."""
    fixed, moving = (batch([getattr(pair.images, role) for pair in pairs]).to(place) for role in ("fixed", "moving"))
    if once:
        for pair in pairs:
            del pair.images
    return Images(fixed, moving)


def starts(pairs: Sequence[Pair], images: Images) -> Tensor:
    """The given start of each pair. `images`: normalised. shape: (B, D+1, D+1), moving_from_fixed, world, float64

    Raises:
        InputError: a proposer that finds no start.
    """
    found = [
        pair.start.on(*pair.grids).matrices(images.fixed.pair(at), images.moving.pair(at)) for at, pair in enumerate(pairs)
    ]
    return torch.cat(found)
