"""Registrations of pairs among many images; each is kept in a file if a folder is given, so that a run goes on."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.checks import plain
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.door import as_image
from drmime.image.image import Image
from drmime.registration import register
from drmime.result import Registration
from drmime.stack.consensus import Link
from drmime.verdict.judge import Status

KEPT = 8  # images in memory
OF_IMAGES = ("channel_axis", "channel", "nan")  # options of `register` with which images are read


@dataclass(frozen=True)
class Pair:
    """The registration of two images of a set; `first` is the fixed one."""

    first: int
    second: int
    registration: Registration

    @property
    def link(self) -> Link | None:
        """The link that it makes; None if it failed."""
        found = self.registration
        if not found.success or found.verdict.status is Status.FAILED:
            return None
        return Link(self.first, self.second, torch.as_tensor(found.matrix), found.verdict.expected_error.median)


class Pairs:
    """Registers pairs of images with the same options.

    Args:
        images: as `register` takes them; a path is read when it is needed.
        options: of `register`.
        folder: where each registration is kept; one that is there, of the same images and options, is read instead.
    """

    def __init__(self, images: Sequence[Any], options: Mapping[str, Any], folder: Path | None = None) -> None:
        self.images, self.folder = images, folder
        self.reading = {name: value for name, value in options.items() if name in OF_IMAGES}
        self.options = {name: value for name, value in options.items() if name not in OF_IMAGES}
        self.grids: dict[int, Grid] = {}
        self.errors: dict[int, str] = {}  # of images that cannot be read
        self._digests: dict[int, str] = {}
        self._read: OrderedDict[int, Image] = OrderedDict()

    def image(self, number: int) -> Image:
        """An image, read at most once while it is needed. InputError if it cannot be read."""
        if number not in self._read:
            made = as_image(self.images[number], role=f"image {number}", **self.reading)
            self.grids[number] = made.grid
            self._digests[number] = _digest(made)
            self._read[number] = made
            if len(self._read) > KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(number)
        return self._read[number]

    def usable(self, number: int) -> bool:
        """Whether an image can be read; if not, `errors` says why."""
        try:
            if number not in self.grids and number not in self.errors:
                self.image(number)
        except InputError as error:
            self.errors[number] = str(error)
        return number not in self.errors

    def registered(self, first: int, second: int, start: Tensor | None = None) -> Pair | None:
        """The pair, from a start near its result if one is given; None if one of the images cannot be read."""
        if not (self.usable(first) and self.usable(second)):
            return None
        file = self._file(first, second, start)
        if file is not None and file.is_file():
            return Pair(first, second, Registration.load(file))
        options = dict(self.options)
        if start is not None:
            options["start"] = {"given": start.numpy(), "propose": None}
        found = register(self.image(first), self.image(second), **options)
        if file is not None:
            found.save(file)
        return Pair(first, second, found)

    def _file(self, first: int, second: int, start: Tensor | None) -> Path | None:
        if self.folder is None:
            return None
        options = {name: plain(value) for name, value in self.options.items() if name != "observers"}
        said = [self._digests[first], self._digests[second], options, None if start is None else start.tolist()]
        key = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return self.folder / f"{first:04d}-{second:04d}-{key}.json"


def _digest(image: Image) -> str:
    parts = (image.data, image.valid, image.grid.world_from_index)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part.cpu().numpy()).tobytes() for part in parts)).hexdigest()
