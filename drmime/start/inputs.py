"""`Inputs`: the images and settings that every stage of the search for a start uses."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from drmime.geometry.grid import scale_of
from drmime.geometry.lie import affine_generators, similarity_generators
from drmime.image.image import Image
from drmime.start.score import Reduced

ALIKE = 1.1  # largest ratio of two scales for which the same reduced images are used


@dataclass(frozen=True, eq=False)
class Inputs:
    """Both images of one pair (normalised, B = 1, on the CPU), the generators of the transform, and the seed."""

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

    def reduced(self, start: Tensor) -> Reduced:
        """Both images at a few coarse levels; under `start` (D+1, D+1) their pixels have about the same size."""
        scale = scale_of(start, self.fixed.grid)
        for known, made in self._reduced.items():
            if 1 / ALIKE <= scale / known <= ALIKE:
                return made
        return self._reduced.setdefault(scale, Reduced.of(self.fixed, self.moving, scale))
