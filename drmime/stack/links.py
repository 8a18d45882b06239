"""Registrations of pairs among many images; each is kept in a file if a folder is given, so that a run goes on."""

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.door import as_image
from drmime.image.image import Image
from drmime.registration import register
from drmime.result import Registration
from drmime.stack.consensus import Link
from drmime.stack.kept import pair_file, plain
from drmime.verdict.judge import Status

KEPT = 8  # images in memory
OF_IMAGES = ("channel_axis", "channel", "nan")  # options of `register` with which images are read


@dataclass(frozen=True)
class Pair:
    """The registration of two images of a set; `first` is the fixed one."""

    first: int
    second: int
    registration: Registration

    @functools.cached_property
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
        self.errors: dict[int, str] = {}  # of images that cannot be used
        self.ndim = 0  # of all images, once one has been read
        self._digests: dict[int, Any] = {}
        self._read: OrderedDict[int, Image] = OrderedDict()

    def image(self, number: int) -> Image:
        """An image; the last few stay in memory. InputError if it cannot be read."""
        if number not in self._read:
            made = as_image(self.images[number], role=f"number {number}", **self.reading)
            self.grids[number] = made.grid
            if self.folder is not None and number not in self._digests:
                self._digests[number] = plain([made.data, made.valid, made.grid.world_from_index])
            self._read[number] = made
            if len(self._read) > KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(number)
        return self._read[number]

    def usable(self, number: int) -> bool:
        """Whether an image can be read and fits those before; if not, `errors` says why."""
        try:
            if number not in self.grids and number not in self.errors:
                made = self.image(number)
                self.ndim = self.ndim or made.grid.ndim
                if made.grid.ndim != self.ndim:
                    self.errors[number] = f"expected an image in {self.ndim}-D as the others, got shape {made.grid.shape}"
                first = next(iter(self.grids.values()))
                if bool(made.grid.crs) != bool(first.crs):  # a pair of both kinds has another world than a pair of one
                    here, there = ("a georeference" if grid.crs else "none" for grid in (first, made.grid))
                    self.errors[number] = f"georeference: the first image has {here}, this one {there}; give all or none one"
        except InputError as error:
            self.errors[number] = str(error)
        return number not in self.errors

    def registered(self, first: int, second: int, start: Tensor | None = None) -> Pair | None:
        """The pair, from a start near its result if one is given; None if one of the images cannot be read."""
        if not all([self.usable(first), self.usable(second)]):  # both are tried, so that `errors` is complete
            return None
        near = {} if start is None else {"start": {"given": start.numpy(), "propose": None}}
        return self._kept(first, second, self.options, near, start)

    def deformed(self, first: int, second: int, start: Tensor, deformation: Any) -> Pair:
        """The pair, of which only a deformation is fitted, after the map `start`."""
        given = {"start": {"given": start.numpy(), "propose": None, "refine": False}}
        return self._kept(first, second, {**self.options, "transform": deformation}, given, start)

    def _kept(
        self, first: int, second: int, options: Mapping[str, Any], given: Mapping[str, Any], start: Tensor | None
    ) -> Pair:
        """The pair from its file, or registered with `options` and the start in `given` and kept there."""
        file = self._file(first, second, options, start)
        if file is not None and file.is_file():
            with contextlib.suppress(InputError):  # a damaged file is replaced
                return Pair(first, second, Registration.load(file))
        found = register(self.image(first), self.image(second), **{**options, **given})
        if file is not None:
            found.save(file)
        return Pair(first, second, found)

    def _file(self, first: int, second: int, options: Mapping[str, Any], start: Tensor | None) -> Path | None:
        if self.folder is None:
            return None
        options = {name: value for name, value in options.items() if name != "observers"}
        known = [self._digests[first], self._digests[second], plain(options), plain(start)]
        return pair_file(self.folder, first, second, known)
