"""Registrations of pairs of images of one modality by normalised cross-correlation, in hundredths of a second each."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError, shown
from drmime.geometry import lie
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.optimise import Stop
from drmime.registry import known
from drmime.result import Registration
from drmime.shifts.pair import TRANSFORMS, Match, Prepared, levels_for, match, pixel_basis
from drmime.stack.links import OF_IMAGES, Pair, Pairs
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import overlap
from drmime.verdict.calibration import Range
from drmime.verdict.judge import NO_VERDICT, Status, Verdict

OPTIONS = ("transform", *OF_IMAGES)
SIDE = 128  # pixels of the longest side of the level at which all shifts are compared
# pixels: expected error at which no finer level is looked at; 0 takes three times as long, with largest drift errors of 0.007
# instead of 0.013 (40 frames of `benchmarks/drift.py`)
ENOUGH = 0.03
KEPT = 2**29  # bytes of what is computed from images that are kept in memory
FALSE = 0.05  # pairs of a whole stack that chance may connect, expected
NEAR = 4.0  # pixels from where other pairs lead, within which a pair is looked for
MEDIAN, LOW, HIGH = (math.sqrt(-math.log(1 - share)) for share in (0.5, 0.05, 0.95))  # of a distance, by its root mean square
NOTE = "Aligned by normalised cross-correlation, for images of one modality; the probability is that chance gives no such peak."


class Correlated(Pairs):
    """Registers pairs of images by `drmime.shifts.pair.match`.

    Args:
        images: as `Pairs` takes them, of equal pixel lengths.
        options: any of `OPTIONS`.
        pairs: how many will be registered, about.

    Raises:
        InputError: another option, or a transform that is not a name of `TRANSFORMS`.
    """

    def __init__(self, images: Sequence[Any], options: Mapping[str, Any], pairs: int) -> None:
        for name in options:
            if name not in OPTIONS:
                raise InputError(f"{name}: not an option of pairs='correlation', which takes {', '.join(OPTIONS)}")
        self.transform = options.get("transform", "affine")
        if not isinstance(self.transform, str):
            raise InputError(f"transform: expected a name for pairs='correlation', got {shown(self.transform)}")
        known("transform of pairs='correlation'", self.transform, TRANSFORMS)
        super().__init__(images, options)
        self.most_chance = FALSE / max(pairs, 1)
        self._prepared: OrderedDict[tuple[int, int], Prepared] = OrderedDict()

    def registered(self, first: int, second: int, start: Tensor | None = None) -> Pair | None:
        """The pair, near a start if one is given; its verdict is "failed" if chance may explain what they have in common."""
        if not all([self.usable(first), self.usable(second)]):
            return None
        fixed, moving = self.grids[first], self.grids[second]
        if not torch.allclose(fixed.spacing, moving.spacing, rtol=1e-3, atol=0):
            raise InputError(
                f"pairs='correlation': expected images of equal pixel lengths, got {fixed.spacing.tolist()} and "
                f"{moving.spacing.tolist()} of images {first} and {second}"
            )
        count = levels_for((fixed.shape, moving.shape), SIDE)
        basis = pixel_basis(lie.generators(self.transform, fixed.ndim), fixed)
        near, reach = _expected(start, fixed, moving)
        both = self._levels(first, count), self._levels(second, count)
        found = match(both[0], both[1], basis, self.most_chance, near, reach, ENOUGH)
        return Pair(first, second, _registration(found, fixed, moving, self.transform))

    def _levels(self, number: int, count: int) -> Prepared:
        """The levels of an image; those used last stay in memory."""
        key = number, count
        if key not in self._prepared:
            image = self.image(number)
            data = image.data[0].mean(0).numpy()
            mask = None if image.mask is None else image.mask[0, 0].numpy() > 0
            self._prepared[key] = Prepared(data, None if mask is None or mask.all() else mask, count)
            while len(self._prepared) > max(4, KEPT // (2 * data.nbytes)):
                self._prepared.popitem(last=False)
        self._prepared.move_to_end(key)
        return self._prepared[key]


def _expected(start: Tensor | None, fixed: Grid, moving: Grid) -> tuple[np.ndarray | None, float]:
    """Where the shift of a pair is looked for, in pixels, array order, and how far from there."""
    if start is None:
        return None, math.inf
    middle = (fixed.size - 1) / 2
    there = apply(moving.index_from_world @ start @ fixed.world_from_index, middle[None])[0][0]
    return (there - middle).flip(0).numpy(), NEAR


def _registration(found: Match | None, fixed: Grid, moving: Grid, transform: str) -> Registration:
    """The registration that a match makes; without one, a failed one that keeps the images as they are."""
    matrix = np.eye(fixed.ndim + 1) if found is None else found.matrix
    placed = MatrixTransform(moving.world_from_index @ torch.as_tensor(matrix) @ fixed.index_from_world)
    return Registration(
        transform=placed,
        fixed_grid=fixed,
        moving_grid=moving,
        stop=Stop.CONVERGED,
        similarity=math.nan if found is None else found.score,
        overlap=overlap(placed, fixed, moving),
        history=np.zeros((0, 1)),
        settings={"pairs": "correlation", "transform": transform},
        totals=np.zeros(0),
        verdict=NO_VERDICT if found is None else _verdict(found, moving),
        notes=(NOTE,),
    )


def _verdict(found: Match, moving: Grid) -> Verdict:
    length = float(moving.spacing.square().mean().sqrt())
    pixels = Range(*(found.error * share for share in (MEDIAN, LOW, HIGH)))
    return Verdict(Status.ALIGNED, 1 - found.chance, Range(*(length * value for value in pixels)), pixels)
