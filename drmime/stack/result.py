"""`Stack`: the result of `register_stack`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drmime.errors import InputError
from drmime.image.io import remove_numbered, write_image, write_table
from drmime.pictures import thumbnail
from drmime.result import Registration
from drmime.stack.consensus import AGREES
from drmime.stack.deformed import bent
from drmime.stack.links import Pair
from drmime.stack.movie import SECONDS, write_movie

LONGEST = 320  # pixels of one picture in a montage
COLUMNS = 6  # of a montage, at most
COLOUR = (214, 60, 40)  # marks an image without a place


@dataclass(frozen=True, eq=False)
class Stack:
    """The maps from the reference, an image or the mean pose, to every image, and the registrations of pairs behind them."""

    registrations: tuple[Registration | None, ...]  # fixed: the reference; None of an image that has no place
    reference: int
    pairs: tuple[Pair, ...]  # every pair that was registered
    # of each pair: 1 if it agrees with the result, 0 if it failed, is contradicted, or has no way to the reference
    weights: tuple[float, ...]
    misfits: tuple[float, ...]  # of each pair: its distance from the result, world units of its second image; NaN if unknown
    errors: Mapping[int, str]  # why an image could not be read
    order: tuple[int, ...]  # of the images: as given, or as it was found
    names: tuple[str, ...]  # paths of the images, or ""
    mean: bool = False  # whether the reference is the mean pose of all images, on the grid of the image `reference`
    # if deformations were asked for: of each image with a place the fit, after the linear maps, to the image before it
    # (`first`) on its way from the reference
    deformations: tuple[Pair, ...] = ()

    @property
    def ruined(self) -> tuple[int, ...]:
        """Numbers of the images that no registration connects with the reference: they have no place."""
        return tuple(number for number, found in enumerate(self.registrations) if found is None)

    @property
    def deformed(self) -> tuple[int, ...]:
        """Numbers of the images for which there is evidence of a deformation from the image before them on their way."""
        return tuple(sorted(fit.second for fit in self.deformations if bent(fit)))

    @property
    def contradicted(self) -> tuple[Pair, ...]:
        """Pairs whose registration was not called failed, but that the others contradict."""
        figures = zip(self.pairs, self.weights, self.misfits, strict=True)
        return tuple(pair for pair, weight, misfit in figures if math.isfinite(misfit) and weight <= AGREES)

    def warp(self, images: Sequence[Any], **options: Any) -> Iterator[np.ndarray | None]:
        """Each image on the reference's grid, as `Registration.warp` with its options; None of one without a place.

        Raises:
            InputError: another number of images, or an image of another shape than the registered one.
        """
        self._check(images)
        for found, image in zip(self.registrations, images, strict=True):
            yield None if found is None else found.warp(image, **options)

    def montage(self, images: Sequence[Any], path: str | Path | None = None, channel_axis: Any = "auto") -> np.ndarray:
        """All images on the reference's grid in rows, in their order; red for an image without a place. -> (H, W, 3), uint8

        Raises:
            InputError: as `warp`, or a path that cannot be written.
        """
        cells = [self.picture(image) for image in self.warp(images, fill=0, channel_axis=channel_axis)]
        picture = in_rows([cells[number] for number in self.order])
        if path is not None:
            write_image(path, picture)
        return picture

    def movie(self, images: Sequence[Any], path: str | Path, seconds: float = SECONDS, channel_axis: Any = "auto") -> None:
        """A movie of the images on the reference's grid in their order, without those that have no place.

        `path` ends with .gif, or with .mp4 (H.264; extra `movie`). Each image is shown for some `seconds`.

        Raises:
            InputError: as `warp`; a path with another ending or that cannot be written, or no PyAV for MP4.
        """
        warped = self.warp(images, fill=0, channel_axis=channel_axis)
        cells = [None if image is None else self.picture(image) for image in warped]
        write_movie(path, [cell for number in self.order if (cell := cells[number]) is not None], seconds)

    def picture(self, warped: np.ndarray | None) -> np.ndarray:
        """A small picture of an image that `warp` gave, of the same size for each; red for None. -> (H, W, 3), uint8"""
        shape = next(found.fixed_grid.shape for found in self.registrations if found is not None)
        if warped is None:
            return np.full_like(thumbnail(np.zeros(shape), LONGEST, None), COLOUR)
        axis = next((axis for axis in (0, -1) if np.delete(warped.shape, axis).tolist() == list(shape)), None)
        return thumbnail(warped, LONGEST, axis)

    def save(self, folder: str | Path) -> None:
        """Write each registration (`0003.json`), `pairs.csv` (every pair, its verdict, weight and misfit) and `order.csv`.

        Raises:
            InputError: the folder cannot be written.
        """
        for number, found in enumerate(self.registrations):
            file = Path(folder) / f"{number:04d}.json"
            if found is not None:
                found.save(file)
            else:
                file.unlink(missing_ok=True)  # of an earlier run
        remove_numbered(Path(folder), len(self.registrations))
        rows: list[list[Any]] = [["first", "second", "verdict", "probability", "expected_error", "weight", "misfit"]]
        for pair, weight, misfit in zip(self.pairs, self.weights, self.misfits, strict=True):
            said = pair.registration.verdict
            figures = [f"{value:.4g}" for value in (said.probability, said.expected_error.median, weight, misfit)]
            rows.append([pair.first, pair.second, said.status, *figures])
        write_table(Path(folder) / "pairs.csv", rows)
        write_table(Path(folder) / "order.csv", [["image", "name"], *([at, self.names[at]] for at in self.order)])

    def __str__(self) -> str:
        reference = f"the mean pose, on the grid of image {self.reference}" if self.mean else self.reference
        lines = [f"{len(self.registrations)} images, reference {reference}, {len(self.pairs)} pairs registered"]
        for number, found in enumerate(self.registrations):
            agree = [
                weight > AGREES
                for pair, weight in zip(self.pairs, self.weights, strict=True)
                if number in (pair.first, pair.second)
            ]
            said = self.errors.get(number, "no place: no registration connects it with the reference")
            what = said if found is None else str(found.verdict)
            lines.append(f"{number:4d} {self.names[number]}: {what}; {sum(agree)} of {len(agree)} pairs agree")
        if self.order != tuple(range(len(self.order))):
            lines.append(f"order: {', '.join(map(str, self.order))}")
        if self.deformations:
            lines.append(f"deformed: {len(self.deformed)} of {len(self.deformations)} images")
        lines += [f"pair {pair.first}, {pair.second}: contradicted by the others" for pair in self.contradicted]
        return "\n".join(lines)

    def _check(self, images: Sequence[Any]) -> None:
        if len(images) != len(self.registrations):
            raise InputError(f"images: expected the {len(self.registrations)} of the stack, got {len(images)}")


def in_rows(cells: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of equal size (H, W, 3) in rows of at most `COLUMNS`, in order."""
    across = min(COLUMNS, len(cells))
    full = [*cells, *[np.zeros_like(cells[0])] * (-len(cells) % across)]
    return np.concatenate([np.concatenate(full[at : at + across], 1) for at in range(0, len(full), across)])
