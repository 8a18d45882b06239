"""`Graph`: the registered pairs of a set of images, and what follows from them."""

import itertools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from drmime.optimise import Stop
from drmime.result import Registration
from drmime.stack import deformed
from drmime.stack.consensus import Consensus, Link, consensus, part_labels, ways
from drmime.stack.links import Pair, Pairs
from drmime.stack.mean import mean_pose
from drmime.stack.result import Stack
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import overlap
from drmime.verdict.calibration import Range
from drmime.verdict.judge import Status, Verdict

FARTHER = 3  # steps beyond `reach` over which images without a good neighbour are passed
ENOUGH = 3  # with at least so many pairs of an image, its only pair that did not fail is left out if it is doubtful
AGREED = "The map on which the registrations of a stack agree; the verdict is that of the best way to it."
AT_MEAN = (
    "The map from the mean pose of a stack, on the grid of its best connected image, on which the registrations agree; the "
    "verdict is that of the best way from that image."
)
CERTAIN = Verdict(Status.ALIGNED, 1.0, Range(0.0, 0.0, 0.0), Range(0.0, 0.0, 0.0))  # of the reference with itself


class Graph:
    """The registered pairs of a set of images, and what follows from them."""

    def __init__(self, pairs: Pairs, count: int, progress: bool) -> None:
        self.pairs, self.count, self.progress = pairs, count, progress
        self.found: list[Pair] = []
        self.order = tuple(range(count))

    def similarities(self) -> np.ndarray:
        """Of the pairs that make links; NaN for all others. shape: (count, count)"""
        found = np.full((self.count, self.count), math.nan)
        for pair in self.found:
            if pair.link is not None:
                found[pair.first, pair.second] = found[pair.second, pair.first] = pair.registration.similarity
        return found

    def register(self, which: Iterable[tuple[int, int]], matrices: Tensor | None = None) -> int:
        """Register pairs, from where maps of all images lead if they are given; the number of pairs that could be."""
        done = {(pair.first, pair.second) for pair in self.found}
        todo = [pair for pair in which if pair not in done and (matrices is None or matrices[list(pair)].isfinite().all())]
        before = len(self.found)
        for first, second in tqdm(todo, "pairs", disable=not (self.progress and sys.stderr.isatty()), leave=False):
            start = None if matrices is None else matrices[second] @ torch.linalg.inv(matrices[first])
            pair = self.pairs.registered(first, second, start)
            self.found += [] if pair is None else [pair]
        return len(self.found) - before

    @property
    def links(self) -> list[Link]:
        return [pair.link for pair in self.found if pair.link is not None and self._believed(pair)]

    def _believed(self, pair: Pair) -> bool:
        """Whether a pair makes a link, and is not the only doubtful one of at least `ENOUGH` of an image that failed else.

        Of several registrations of a ruined image one may be doubtful by chance.
        """
        if pair.link is None or pair.registration.verdict.status is not Status.DOUBTFUL:
            return pair.link is not None
        for image in (pair.first, pair.second):
            others = [one.link for one in self.found if one is not pair and image in (one.first, one.second)]
            if len(others) + 1 >= ENOUGH and not any(others):
                return False
        return True

    def pass_over(self, reach: int) -> None:
        """Register images farther apart where no good registration connects them: what is between may be ruined."""
        for step in range(reach + 1, min(reach + 1 + FARTHER, self.count)):
            parts = part_labels(self.links, self.count)
            self.register((first, first + step) for first in range(self.count - step) if parts[first] != parts[first + step])

    def best_connected(self) -> int:
        """The image from which the errors expected along the best ways to the others of the largest part are least."""
        links = self.links
        parts = part_labels(links, self.count)
        readable = np.array([image for image in range(self.count) if self.pairs.usable(image)])
        largest = readable[parts[readable] == np.bincount(parts[readable]).argmax()]
        return int(largest[ways(links, self.count, largest)[0][:, largest].sum(1).argmin()])

    def agreed(self, root: int, basis: Mapping[str, Tensor]) -> Consensus:
        grids = [self.pairs.grids.get(image, self.pairs.grids[root]) for image in range(self.count)]
        return consensus(self.links, grids, root, basis)

    def result(self, found: Consensus, root: int, mean: bool = False, deformation: Any = None) -> Stack:
        """The stack whose reference is the root, or the `mean` pose on its grid. InputError if there is none.

        `deformation`: of the images, after the linear maps; one stage as `register` takes it.
        """
        linked = [self._believed(pair) for pair in self.found]
        weights, misfits = np.zeros(len(linked)), np.full(len(linked), math.nan)
        weights[linked], misfits[linked] = found.weights.numpy(), found.misfits.numpy()
        good = list(itertools.compress(itertools.compress(self.found, linked), found.agrees.tolist()))
        total, before = ways([pair.link for pair in good if pair.link], self.count, root)
        outwards = [image for image in np.argsort(total, kind="stable").tolist() if math.isfinite(total[image])]
        steps = {image: int(before[image]) for image in outwards if image != root}
        start = torch.eye(found.matrices.shape[-1], dtype=torch.float64)
        if mean:
            start = mean_pose(found.matrices[np.isfinite(total)], self.pairs.grids[root])
        fits = [] if deformation is None else deformed.fits(self.pairs, deformation, steps, found.matrices, self.progress)
        maps: dict[int, Transform] = {image: MatrixTransform(found.matrices[image] @ start) for image in outwards}
        maps |= deformed.maps(fits, found.matrices, start)
        notes: dict[int, tuple[str, ...]] = {
            image: (AT_MEAN if mean else AGREED,) for image in outwards if image != root or mean
        }
        for fit in fits:
            notes[fit.second] += (deformed.note(fit),)
        ways_to = self._ways(good, steps, root)
        made = {
            image: _placed(ways_to[image], maps[image], notes[image]) if image in notes else ways_to[image] for image in maps
        }
        return Stack(
            registrations=tuple(made.get(image) for image in range(self.count)),
            reference=root,
            mean=mean,
            pairs=tuple(self.found),
            weights=tuple(weights.tolist()),
            misfits=tuple(misfits.tolist()),
            errors=dict(self.pairs.errors),
            order=self.order,
            names=tuple(str(image) if isinstance(image, (str, Path)) else "" for image in self.pairs.images),
            deformations=tuple(fits),
        )

    def _ways(self, good: Sequence[Pair], steps: Mapping[int, int], root: int) -> dict[int, Registration]:
        """Of each image with a place the registrations along the best way to it; `steps`: the image before each, outwards."""
        known = {(pair.first, pair.second): pair.registration for pair in good}
        made: dict[int, Registration] = {root: self._itself(root)}
        for image, last in steps.items():
            step = known[last, image] if (last, image) in known else known[image, last].inverse()
            made[image] = step if last == root else step @ made[last]
        return made

    def _itself(self, root: int) -> Registration:
        grid = self.pairs.grids[root]
        return Registration(
            transform=MatrixTransform(torch.eye(grid.ndim + 1, dtype=torch.float64)),
            fixed_grid=grid,
            moving_grid=grid,
            stop=Stop.CONVERGED,
            similarity=math.nan,
            overlap=1.0,
            history=np.zeros((0, 1)),
            settings={},
            totals=np.zeros(0),
            verdict=CERTAIN,
            notes=("The reference of a stack, as it is.",),
        )


def _placed(way: Registration, transform: Transform, notes: tuple[str, ...]) -> Registration:
    """The registration along a way, with the map that all pairs agree on; what belongs to another map is left out."""
    return replace(
        way,
        transform=transform,
        overlap=overlap(transform, way.fixed_grid, way.moving_grid),
        similarity=math.nan,
        history=way.history[:0],
        totals=way.totals[:0],
        candidates=(),
        peak_ratio=math.nan,
        blocks=None,
        notes=notes,
    )
