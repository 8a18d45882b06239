"""`Inputs`: the images and settings that every stage of the search for a start uses."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from drmime.geometry.grid import Grid, scale_of
from drmime.geometry.lie import affine_generators, similarity_generators
from drmime.image.image import Image
from drmime.start.score import Reduced

ALIKE = 1.1  # ratio of neighbouring scales of reduced images; all starts nearest to one of these scales share its images


@dataclass(frozen=True, eq=False)
class Inputs:
    """Both images of one pair (normalised, B = 1, on one device), the generators of the transform, and the seed."""

    fixed: Image
    moving: Image
    generators: Mapping[str, Tensor]  # (D+1, D+1) each, in the fixed frame
    seed: int  # of every random number
    _reduced: dict[float, Reduced] = field(default_factory=dict, init=False, repr=False)  # by scale

    @functools.cached_property
    def affine(self) -> dict[str, Tensor]:
        """The generators without perspective, which is optimised by the metric only, after the search."""
        return affine_generators(self.generators)

    @functools.cached_property
    def similarity(self) -> dict[str, Tensor]:
        """The generators of shift, rotation and uniform scale, as far as the group has them."""
        return similarity_generators(self.affine)

    def known(self, scale: float) -> bool:
        """Whether there are reduced images of this `scale_class`."""
        return scale in self._reduced

    def keep(self, scale: float, made: Reduced) -> None:
        """Use reduced images of this pair that were made for a `scale_class`, such as with those of other pairs."""
        self._reduced[scale] = made

    def reduced(self, start: Tensor) -> Reduced:
        """Both images at a few coarse levels; under `start` (D+1, D+1) their pixels have about the same size."""
        return reduced_together([self], scale_class(start, self.fixed.grid))


def scale_class(start: Tensor, fixed: Grid) -> float:
    """The scale for which images are reduced for a start (D+1, D+1): the power of `ALIKE` nearest to that of the start."""
    return nearest_class(scale_of(start, fixed))


def nearest_class(scale: float) -> float:
    """The power of `ALIKE` nearest to a scale."""
    return float(ALIKE ** round(math.log(scale, ALIKE)))


def reduced_together(inputs: Sequence[Inputs], scale: float) -> Reduced:
    """The reduced images of pairs on equal grids, for a `scale_class`, as one batch; missing ones are made and kept."""
    missing = [one for one in dict.fromkeys(inputs) if not one.known(scale)]
    if missing:
        made = Reduced.of([one.fixed for one in missing], [one.moving for one in missing], scale)
        for number, one in enumerate(missing):
            one.keep(scale, made.pair(number))
        if len(missing) == len(inputs):
            return made
    return Reduced.joined([one._reduced[scale] for one in inputs])
