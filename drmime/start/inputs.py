"""`Inputs`: the images and settings that every stage of the search for a start uses."""

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from torch import Tensor

from drmime.geometry.grid import Grid, scale_of
from drmime.geometry.lie import affine_generators, similarity_generators
from drmime.image.image import Image
from drmime.start.score import SIDE, Reduced
from drmime.start.together import in_groups

# Pixels of the reduced images of pairs that are computed at once, by type of device, to limit the memory. On a CPU four pairs
# at once take 0.9 of the time of one after the other (256 x 256 pixels), eight no less.
AT_ONCE = {"cpu": 2**18}
AT_ONCE_ELSEWHERE = 2**22  # 64 pairs of images, 16 of volumes
ALIKE = 1.1  # ratio of neighbouring scales of reduced images; all starts nearest to one of these scales share its images


@dataclass(frozen=True, eq=False)
class Inputs:
    """Both images of one pair (normalised, B = 1, on one device), the generators of the transform, and the seed."""

    fixed: Image
    moving: Image
    generators: Mapping[str, Tensor]  # (D+1, D+1) each, in the fixed frame
    seed: int  # of every random number
    graphs: bool = False  # as of `drmime.Device`
    kept: dict[float, Reduced] = field(default_factory=dict, init=False, repr=False)  # reduced images, by `scale_class`

    @functools.cached_property
    def on_cpu(self) -> tuple[Image, Image]:
        """Both images on the CPU, for proposers other than a search."""
        return self.fixed.to("cpu"), self.moving.to("cpu")

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
        return reduced_together([self], scale_class(start, self.fixed.grid))


def scale_class(start: Tensor, fixed: Grid) -> float:
    """The scale for which images are reduced for a start (D+1, D+1): the power of `ALIKE` nearest to that of the start."""
    return nearest_class(scale_of(start, fixed))


def nearest_class(scale: float) -> float:
    """The power of `ALIKE` nearest to a scale."""
    return float(ALIKE ** round(math.log(scale, ALIKE)))


class Placed(Protocol):
    """What has the inputs of a pair, and a map of the scale at which its images are compared."""

    @property
    def inputs(self) -> Inputs: ...

    @property
    def matrix(self) -> Tensor: ...


One = TypeVar("One", bound=Placed)
Answer = TypeVar("Answer")


def at_scales(
    asked: Sequence[One],
    compute: Callable[[Reduced, Sequence[One]], Sequence[Answer]],
    key: Callable[[One], Hashable] = lambda one: None,
) -> list[Answer]:
    """The answers of `compute` on the reduced images of each pair; called once for all of one `scale_class` and `key`."""

    def scale(one: One) -> float:
        return scale_class(one.matrix, one.inputs.fixed.grid)

    def computed(some: Sequence[One]) -> Sequence[Answer]:
        size = side_by_side([one.inputs for one in some])
        parts = (some[first : first + size] for first in range(0, len(some), size))
        answers = (compute(reduced_together([one.inputs for one in part], scale(part[0])), part) for part in parts)
        return list(itertools.chain.from_iterable(answers))

    return in_groups(asked, lambda one: (scale(one), key(one)), computed)


def side_by_side(inputs: Sequence[Inputs]) -> int:
    """How many of these pairs are computed at once."""
    grid, device = inputs[0].fixed.grid, inputs[0].fixed.data.device.type
    return max(1, AT_ONCE.get(device, AT_ONCE_ELSEWHERE) // SIDE[grid.ndim] ** grid.ndim)


def reduced_together(inputs: Sequence[Inputs], scale: float) -> Reduced:
    """The reduced images of pairs on equal grids, for a `scale_class`, as one batch; missing ones are made and kept."""
    missing = [one for one in dict.fromkeys(inputs) if scale not in one.kept]
    if missing:
        made = Reduced.of([one.fixed for one in missing], [one.moving for one in missing], scale)
        for number, one in enumerate(missing):
            one.kept[scale] = made.pair(number)
        if len(missing) == len(inputs):
            return made
    return Reduced.joined([one.kept[scale] for one in inputs])
