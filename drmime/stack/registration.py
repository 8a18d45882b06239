"""`register_stack`: many images, aligned together by a graph of registrations of pairs."""

import itertools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from tqdm import tqdm

from drmime import checks
from drmime.errors import InputError, shown, whole
from drmime.geometry.lie import affine_generators
from drmime.keywords import Keywords
from drmime.modes import own_modes
from drmime.optimise import Stop
from drmime.registration import DEFAULTS, Interrupted
from drmime.registry import known
from drmime.result import Registration
from drmime.stack.consensus import Consensus, Link, consensus, ways
from drmime.stack.correlation import OPTIONS, Correlated
from drmime.stack.frames import frames_of
from drmime.stack.links import OF_IMAGES, Pair, Pairs
from drmime.stack.result import Stack
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import overlap
from drmime.verdict.calibration import Range
from drmime.verdict.judge import Status, Verdict

HOWS = ("auto", "search", "correlation")
ALL = 5  # images, up to which every pair is registered
FARTHER = 3  # steps beyond `reach` over which images without a good neighbour are passed
REFUSED = ("fixed_mask", "moving_mask", "affine_mask", "landmarks", "fixed_spacing", "moving_spacing")
CERTAIN = Verdict(Status.ALIGNED, 1.0, Range(0.0, 0.0, 0.0), Range(0.0, 0.0, 0.0))  # of the reference with itself


@own_modes()
def register_stack(
    images: Any,
    *,
    reference: str | int = "auto",
    reach: int = 2,
    pairs: str = "auto",
    time_axis: int | str = "auto",
    folder: str | Path | None = None,
    progress: bool = False,
    **options: Unpack[Keywords],
) -> Stack:
    """Align serial sections, stainings or frames to one of them.

    Neighbours are registered, images with their second neighbours, and images farther apart from where these lead; of up to
    five images every pair. The maps from the reference to all images are those that agree with most of these registrations
    (`drmime.stack.consensus`): errors do not add up along the stack, a wrong registration does no harm, and a ruined image is
    passed over and named.

    Args:
        images: two or more, in order; paths, arrays or whatever `register` takes. A path is read when it is needed. Or one
            path or array with an axis of time: its frames, all channels of which move alike; it is read once.
        reference: the image that stays as it is: "auto", the best connected one; "first"; "last"; or a number from 0.
        reach: how many neighbours on each side an image is registered with by a full search.
        pairs: how two images are registered. "search": by `register`, for any modalities and motions. "correlation": by
            normalised cross-correlation (`drmime.shifts`), for images of one modality that are shifted, and turned or stretched
            by a few per cent from one to the next; in a tenth of a second. "auto": "correlation" for the frames of one series
            if all options are of that, else "search".
        time_axis: of one series, the axis of time; "auto" is the one that the file states.
        folder: of "search": where each finished registration of a pair is kept. A run with the same images and options goes on
            from there.
        progress: shows a bar on stderr, where that is a terminal.
        options: of "correlation" `transform`, `channel_axis`, `channel` (the one that is compared) and `nan`; of "search" those
            of `register` without masks, landmarks, spacings and start; the transform is linear, without perspective.

    Returns:
        the `Stack`.

    Raises:
        InputError: an option that cannot be used, fewer than two images, fewer than two that can be read, or a series without
            an axis of time.

    Example:
        >>> rows, columns = np.mgrid[:64, :64]
        >>> image = np.hypot(rows - 20, columns - 30) + 20 * np.sin(rows / 5)
        >>> stack = register_stack([np.roll(image, shift, axis=1) for shift in (0, 2, 4)], transform="translation", reference=0)
        >>> stack.registrations[2].to_moving([[30, 30]]).round()
        array([[34., 30.]])
    """
    series = not isinstance(images, (list, tuple))
    images = frames_of(images, time_axis).frames if series else images
    if len(images) < 2:
        raise InputError(f"images: expected a list of at least two images, got {shown(images)}")
    reach = whole("reach", reach, 1)
    number = _reference(reference, len(images))
    made = _pairs(images, options, pairs, series, reach, None if folder is None else Path(folder))
    basis = _checked(made, options, number)
    graph = _Graph(made, len(images), progress)
    try:
        graph.register(_neighbours(len(images), reach))
        graph.pass_over(reach)
        root = graph.best_connected() if number is None else number
        found = graph.agreed(root, basis)
        if graph.register(_farther(len(images), reach), found.matrices):
            found = graph.agreed(root, basis)
    except Interrupted:  # its results are those of one pair
        raise KeyboardInterrupt from None
    return graph.result(found, root)


def _pairs(images: Sequence[Any], options: Mapping[str, Any], how: str, series: bool, reach: int, folder: Path | None) -> Pairs:
    """What registers pairs of images. InputError for an option that it does not take."""
    how = known("pairs", how, HOWS)
    if how == "auto":
        how = how_of(how, options) if series and folder is None else "search"
    if how == "search":
        return Pairs(images, options, folder)
    if folder is not None:
        raise InputError("folder: not an option of pairs='correlation', which is faster than files")
    return Correlated(images, options, (reach + 1) * len(images))


def how_of(how: str, options: Mapping[str, Any]) -> str:
    """How the frames of one series are registered: as asked, or by correlation if it takes all options."""
    return how if how != "auto" else "correlation" if set(options) <= set(OPTIONS) else "search"


def _checked(pairs: Pairs, options: Mapping[str, Any], reference: int | None) -> Mapping[str, Tensor]:
    """The generators of the maps, after a check of everything that can be checked before the first registration.

    Raises:
        InputError: an option that cannot be used, a reference or too many images that cannot be read.
    """
    for name in REFUSED:
        if options.get(name) is not None:
            raise InputError(f"{name}: not an option of a stack. Give images with masks and geometry as drmime.Image.")
    if "start" in options and not (isinstance(options["start"], str) and options["start"] == "auto"):
        raise InputError(f"start: not an option of a stack, whose starts are searched, got {shown(options['start'])}")
    for name in OF_IMAGES:
        if isinstance(options.get(name), (list, tuple)):
            raise InputError(f"{name}: expected one value for all images of a stack, got {shown(options[name])}")
    asked = checks.options({**DEFAULTS, **options, "fixed": None})
    if not all(stage.linear for stage in asked.stages):
        raise InputError("transform: expected a linear transform for a stack, such as 'rigid' or 'affine'")
    if reference is not None and not pairs.usable(reference):
        raise InputError(f"reference: image {reference} cannot be read: {pairs.errors[reference]}")
    readable = list(itertools.islice(filter(pairs.usable, range(len(pairs.images))), 2))  # the others when they are needed
    if len(readable) < 2:
        why = next(iter(pairs.errors.values()))
        raise InputError(f"images: expected at least two that can be read, got {len(readable)}: {why}")
    basis = asked.stages[-1].basis(pairs.ndim)
    if len(affine_generators(basis)) < len(basis):
        raise InputError("transform: expected one without perspective for a stack, such as 'affine'")
    return basis


def _reference(value: str | int, count: int) -> int | None:
    names = {"auto": None, "first": 0, "last": count - 1}
    if isinstance(value, str) and value in names:
        return names[value]
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= value < count:
        return int(value)
    raise InputError(f"reference: expected 'auto', 'first', 'last' or a number from 0 to {count - 1}, got {shown(value)}")


def _neighbours(count: int, reach: int) -> list[tuple[int, int]]:
    most = count - 1 if count <= ALL else reach
    return [(first, first + step) for step in range(1, most + 1) for first in range(count - step)]


def _farther(count: int, reach: int) -> list[tuple[int, int]]:
    """Pairs at distances of powers of two, so that the number of steps between two images grows with its logarithm only."""
    found, step = [], 2
    while step < count and count > ALL:
        found += [(first, first + step) for first in range(0, count - step, step)] if step > reach else []
        step *= 2
    return found


class _Graph:
    """The registered pairs of a set of images, and what follows from them."""

    def __init__(self, pairs: Pairs, count: int, progress: bool) -> None:
        self.pairs, self.count, self.progress = pairs, count, progress
        self.found: list[Pair] = []

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
        return [pair.link for pair in self.found if pair.link is not None]

    def parts(self, links: Sequence[Link]) -> np.ndarray:
        """The number of the connected part of each image. shape: (count,)"""
        ends = np.array([(link.first, link.second) for link in links], int).reshape(-1, 2)
        return connected_components(coo_matrix((np.ones(len(ends)), ends.T), (self.count, self.count)), directed=False)[1]

    def pass_over(self, reach: int) -> None:
        """Register images farther apart where no good registration connects them: what is between may be ruined."""
        for step in range(reach + 1, min(reach + 1 + FARTHER, self.count)):
            parts = self.parts(self.links)
            self.register((first, first + step) for first in range(self.count - step) if parts[first] != parts[first + step])

    def best_connected(self) -> int:
        """The image from which the errors expected along the best ways to the others of the largest part are least."""
        links = self.links
        parts = self.parts(links)
        readable = np.array([image for image in range(self.count) if self.pairs.usable(image)])
        largest = readable[parts[readable] == np.bincount(parts[readable]).argmax()]
        return int(largest[ways(links, self.count, largest)[0][:, largest].sum(1).argmin()])

    def agreed(self, root: int, basis: Mapping[str, Tensor]) -> Consensus:
        grids = [self.pairs.grids.get(image, self.pairs.grids[root]) for image in range(self.count)]
        return consensus(self.links, grids, root, basis)

    def result(self, found: Consensus, root: int) -> Stack:
        linked = [pair.link is not None for pair in self.found]
        weights, misfits = np.zeros(len(linked)), np.full(len(linked), math.nan)
        weights[linked], misfits[linked] = found.weights.numpy(), found.misfits.numpy()
        good = list(itertools.compress(itertools.compress(self.found, linked), found.agrees.tolist()))
        return Stack(
            registrations=self._registrations(good, found, root),
            reference=root,
            pairs=tuple(self.found),
            weights=tuple(weights.tolist()),
            misfits=tuple(misfits.tolist()),
            errors=dict(self.pairs.errors),
            names=tuple(str(image) if isinstance(image, (str, Path)) else "" for image in self.pairs.images),
        )

    def _registrations(self, good: Sequence[Pair], found: Consensus, root: int) -> tuple[Registration | None, ...]:
        """Of each image: the registrations along the best way to it, with the map that all agree on; None without a way."""
        steps = {(pair.first, pair.second): pair.registration for pair in good}
        total, before = ways([pair.link for pair in good if pair.link], self.count, root)
        made: dict[int, Registration] = {root: self._itself(root)}
        for image in np.argsort(total, kind="stable").tolist():
            if image != root and math.isfinite(total[image]):
                last = int(before[image])
                step = steps[last, image] if (last, image) in steps else steps[image, last].inverse()
                way = step if last == root else step @ made[last]
                made[image] = _placed(way, MatrixTransform(found.matrices[image]))
        return tuple(made.get(image) for image in range(self.count))

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


def _placed(way: Registration, transform: MatrixTransform) -> Registration:
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
        notes=("The map on which the registrations of a stack agree; the verdict is that of the best way to it.",),
    )
