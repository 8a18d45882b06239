"""Score maps of a search: what `Search` needs of them, poses that are scored together, and the peaks that are found."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.image.image import Image

CORNERS = {2: 1.0, 3: 0.81}  # share of the moving diagonal that the canvas holds; a rotated cube loses 1 % of its volume

Tell = Callable[[float], None]  # called with the share of a pass that is done


class Maps(Protocol):
    """A score map over all shifts: the methods that `Search` needs."""

    first: list[int]  # the shift, in pixels and array order, of a map's first entry

    def describe(self, image: Image) -> Image:
        """The images' channels that are compared, such as orientation tensors."""

    def turn(self, moving: Tensor, jacobian: Tensor) -> Tensor:
        """See `drmime.compare.Similarity.turn`."""

    def begin(self, fixed: Image, moving: Image, shape: Sequence[int], least_overlap: float) -> None:
        """Prepare for `maps` of B fixed and B moving images, described, the latter not rotated. Canvases will have `shape`.

        Maps must be valid at shifts where at least the share `least_overlap` of the smaller image lies on the other one.
        """

    def maps(self, moving: Image, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Score and overlap in pixels at every shift, for canvases (P, C, *shape). shape: (P, *shifts) each

        `rows`: the number of the fixed image of each canvas, (P,); None: one fixed image for all, or one each, in order.
        """


class Rows(NamedTuple):
    """Poses of several pairs at one scale, which are scored together."""

    scale: float
    linear: Tensor  # moving world by fixed world. shape: (N, D, D), float64
    pose: Tensor  # numbers of the poses. shape: (N,)
    pair: Tensor  # numbers of the pairs among those scored together. shape: (N,)


class Peaks(NamedTuple):
    """Peaks of the score maps of one pair or several."""

    score: Tensor  # shape: (N,)
    matrix: Tensor  # shape: (N, D+1, D+1), moving_from_fixed, world
    scale: Tensor  # shape: (N,)
    pose: Tensor  # shape: (N,), number of the pose
    pair: Tensor  # shape: (N,), number of the pair


class Bounds:
    """How large the canvas must be for each of some poses."""

    def __init__(self, poses: Tensor) -> None:
        """poses: linear maps from the fixed world to the moving one, without their scale. shape: (R, D, D)"""
        self.reach = torch.linalg.inv(poses).abs().numpy()  # sides of the turned image from its sides
        self.stretch = (1 / torch.linalg.svdvals(poses).amin(-1)).numpy()

    def by_shape(
        self, numbers: Sequence[Sequence[int]], scale: float, fixed: Grid, moving: Grid
    ) -> dict[tuple[int, ...], list[int]]:
        """Which pairs have a canvas of one shape, by that shape; `numbers`: those of the poses of each pair.

        A pair's canvas has the spacing of `fixed` and holds the moving image in all of the pair's poses.
        """
        spacing, extent = fixed.spacing.numpy(), moving.extent.numpy()
        longest = max(extent.max(), CORNERS[fixed.ndim] * np.linalg.norm(extent))
        found: dict[tuple[int, ...], list[int]] = {}
        for member, some in enumerate(numbers):
            sides = np.minimum((self.reach[some] @ extent).max(0), longest * self.stretch[some].max())
            counts = (sides / scale / spacing)[::-1].tolist()
            found.setdefault(tuple(math.ceil(round(count, 6)) for count in counts), []).append(member)
        return found


def best_first(several: Sequence[Peaks], count: int) -> list[Peaks]:
    """The peaks of each of `count` pairs, best first."""
    joined = Peaks(*(torch.cat(parts) for parts in zip(*several, strict=True)))
    order = joined.score.argsort(descending=True, stable=True)
    order = order[joined.pair[order].argsort(stable=True)]
    sizes = joined.pair.bincount(minlength=count).tolist()
    return [Peaks(*one) for one in zip(*(part[order].split(sizes) for part in joined), strict=True)]


def promising(found: Peaks, share: float, tried: Mapping[float, Sequence[int]]) -> dict[float, Sequence[int]]:
    """The better `share` of the poses of one pair, as numbers by scale; `found` holds one peak of each pose.

    Of a scale of which nothing was found all that were `tried` are kept: a thin image may be too small for the first pass.
    """
    chosen: dict[float, list[int]] = {}
    scales, poses = found.scale.tolist(), found.pose.tolist()
    best = slice(max(1, math.ceil(share * len(scales))))
    for scale, pose in zip(scales[best], poses[best], strict=True):
        chosen.setdefault(scale, []).append(pose)
    seen = set(scales)
    return {**chosen, **{scale: numbers for scale, numbers in tried.items() if scale not in seen}}
