"""What every stage of the search for a start is given."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from drmime.geometry.grid import scale_of
from drmime.geometry.lie import affine_generators, similarity_generators
from drmime.image.image import Image
from drmime.start.score import Reduced

ALIKE = 1.1  # ratio of scales up to which the images reduced for one serve another as well


@dataclass(frozen=True, eq=False)
class Inputs:
    """Both images of one pair, normalised, B = 1, on the CPU; what may move; and the seed of every random number."""

    fixed: Image
    moving: Image
    generators: Mapping[str, Tensor]
    seed: int
    _reduced: dict[float, Reduced] = field(default_factory=dict, init=False, repr=False)  # by scale

    @functools.cached_property
    def affine(self) -> dict[str, Tensor]:
        """The generators without perspective, which is left to the metric."""
        return affine_generators(self.generators)

    @functools.cached_property
    def similarity(self) -> dict[str, Tensor]:
        """The generators that keep shapes."""
        return similarity_generators(self.affine)

    def reduced(self, start: Tensor) -> Reduced:
        """Both images at a few coarse levels, whose pixels are of about one size under `start` (D+1, D+1)."""
        scale = scale_of(start, self.fixed.grid)
        for known, made in self._reduced.items():
            if 1 / ALIKE <= scale / known <= ALIKE:
                return made
        return self._reduced.setdefault(scale, Reduced.of(self.fixed, self.moving, scale))
