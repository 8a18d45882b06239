"""`register_stack`: many images, aligned together by a graph of registrations of pairs."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from torch import Tensor

from drmime import checks
from drmime.errors import InputError, shown, whole
from drmime.geometry.lie import affine_generators
from drmime.keywords import Keywords
from drmime.modes import own_modes
from drmime.registration import DEFAULTS, Interrupted
from drmime.registry import known
from drmime.stack.correlation import OPTIONS, Correlated
from drmime.stack.deformed import check, split
from drmime.stack.frames import frames_of
from drmime.stack.graph import Graph
from drmime.stack.links import OF_IMAGES, Pairs
from drmime.stack.order import order_of
from drmime.stack.result import Stack

ORDERS = ("given", "auto")
HOWS = ("auto", "search", "correlation")
ALL = 5  # images, up to which every pair is registered
REFUSED = ("fixed_mask", "moving_mask", "affine_mask", "landmarks", "fixed_spacing", "moving_spacing")


@own_modes()
def register_stack(
    images: Any,
    *,
    reference: str | int = "auto",
    order: str = "given",
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
        reference: the image that stays as it is: "auto", the best connected one; "first" and "last" in their order; or a
            number from 0. "previous": the first one, and each image is registered with the one before it alone, as far as none
            is ruined: the maps are products along the chain, as StackReg's; `reach` does not count. "mean": no image but the
            mean pose: the mean of the logarithms of all maps, in world coordinates, is zero, on the grid of the best
            connected image (`drmime.stack.mean`).
        order: of the images: "given"; or "auto" if it is not known: every pair is registered, and neighbours are those that
            have most in common (`Stack.order`).
        reach: how many neighbours on each side an image is registered with by a full search.
        pairs: how two images are registered. "search": by `register`, for any modalities and motions. "correlation": by
            normalised cross-correlation (`drmime.shifts`), for images of one modality that are shifted, and turned or stretched
            by a few per cent from one to the next; in a tenth of a second. "auto": "correlation" for the frames of one series
            if all options are of that, else "search".
        time_axis: of one series, the axis of time; "auto" is the one that the file states.
        folder: where each finished registration of a pair is kept; pairs are searched then. A run with the same images and
            options goes on from there.
        progress: shows a bar on stderr, where that is a terminal.
        options: of "correlation" `transform`, `channel_axis`, `channel` (the one that is compared) and `nan`; of "search" those
            of `register` without masks, landmarks, spacings and start. The transform is linear, without perspective; or linear
            with a deformation after it, as "rigid+velocity": each image is then deformed to match the one before it on its way
            from the reference (`drmime.stack.deformed`), if there is evidence for that.

    Returns:
        the `Stack`.

    Raises:
        InputError: an option that cannot be used, fewer than two images, fewer than two that can be read, a series without an
            axis of time, or images without a mean pose.

    Example:
        >>> rows, columns = np.mgrid[:64, :64]
        >>> image = np.hypot(rows - 20, columns - 30) + 20 * np.sin(rows / 5)
        >>> stack = register_stack([np.roll(image, shift, axis=1) for shift in (0, 2, 4)], transform="translation", reference=0)
        >>> stack.registrations[2].to_moving([[30, 30]]).round()
        array([[34., 30.]])
    """
    series = not isinstance(images, (list, tuple))
    if not series and not (isinstance(time_axis, str) and time_axis == "auto"):
        raise InputError(f"time_axis: expected it with one series alone, got {len(images)} images and {shown(time_axis)}")
    images = frames_of(images, time_axis).frames if series else images
    if len(images) < 2:
        raise InputError(f"images: expected a list of at least two images, got {shown(images)}")
    reach = whole("reach", reach, 1)
    known("order", order, ORDERS)
    unordered, chain, mean = order == "auto", reference == "previous", reference == "mean"
    if chain and unordered:
        raise InputError("reference: 'previous' is for images whose order is given, got order='auto'")
    reach = 1 if chain else reach
    number = None if unordered and reference in ("first", "last") else _reference(reference, len(images))
    count = len(images) * (len(images) - 1) // 2 if unordered else (reach + 1) * len(images)  # of pairs, about
    linear, deformation = split(options.get("transform", DEFAULTS["transform"]))
    if deformation is not None:
        pairs = "search" if known("pairs", pairs, HOWS) == "auto" else pairs
        if pairs == "correlation":
            raise InputError("transform: expected no deformation for pairs='correlation'; pass pairs='search' (--pairs search)")
        options = {**options, "transform": linear}
    made = _pairs(images, options, pairs, series, count, None if folder is None else Path(folder))
    basis = _checked(made, options, number)
    if deformation is not None:
        check(deformation, next(iter(made.grids.values())))
    graph = Graph(made, len(images), progress)
    try:
        graph.register(_neighbours(len(images), len(images) if unordered else reach, chain))
        graph.pass_over(reach)
        if unordered:
            similarities = graph.similarities()
            graph.order = order_of(similarities)
            linked = [image for image in graph.order if np.isfinite(similarities[image]).any()] or [0]
            number = {"first": linked[0], "last": linked[-1]}.get(str(reference), number)
        root = graph.best_connected() if number is None else number
        found = graph.agreed(root, basis)
        if graph.register([] if unordered or chain else _farther(len(images), reach), found.matrices):
            found = graph.agreed(root, basis)
        return graph.result(found, root, mean, deformation)
    except Interrupted:  # its results are those of one pair
        raise KeyboardInterrupt from None


def _pairs(images: Sequence[Any], options: Mapping[str, Any], how: str, series: bool, count: int, folder: Path | None) -> Pairs:
    """What registers pairs of images. InputError for an option that it does not take."""
    how = known("pairs", how, HOWS)
    if how == "auto":
        how = how_of(how, options) if series and folder is None else "search"
    if how == "search":
        return Pairs(images, options, folder)
    if folder is not None:
        raise InputError("folder: not an option of pairs='correlation', which is faster than files")
    return Correlated(images, options, count)


def how_of(how: str, options: Mapping[str, Any]) -> str:
    """How the frames of one series are registered: as asked, or by correlation if it takes all options."""
    several = len(checks.specs(options.get("transform", "affine"))) > 1  # stages
    return how if how != "auto" else "correlation" if set(options) <= set(OPTIONS) and not several else "search"


def _checked(pairs: Pairs, options: Mapping[str, Any], reference: int | None) -> Mapping[str, Tensor]:
    """The generators of the maps, after a check of everything that can be checked before the first registration.

    Raises:
        InputError: an option that cannot be used, a reference or too many images that cannot be read.
    """
    for name in REFUSED:
        if options.get(name) is not None:
            raise InputError(f"{name}: not an option of a stack. Give images with masks and geometry as drmime.Image.")
    if "errors" in options:
        raise InputError("errors: not an option of a stack, which passes over images that cannot be used and names them")
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
    names = {"auto": None, "mean": None, "first": 0, "previous": 0, "last": count - 1}
    if isinstance(value, str) and value in names:
        return names[value]
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= value < count:
        return int(value)
    raise InputError(f"reference: expected {', '.join(map(repr, names))} or a number from 0 to {count - 1}, got {shown(value)}")


def _neighbours(count: int, reach: int, chain: bool = False) -> list[tuple[int, int]]:
    most = count - 1 if count <= ALL and not chain else reach
    return [(first, first + step) for step in range(1, most + 1) for first in range(count - step)]


def _farther(count: int, reach: int) -> list[tuple[int, int]]:
    """Pairs at distances of powers of two, so that the number of steps between two images grows with its logarithm only."""
    found, step = [], 2
    while step < count and count > ALL:
        found += [(first, first + step) for first in range(0, count - step, step)] if step > reach else []
        step *= 2
    return found
