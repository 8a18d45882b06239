"""`register`: two images in, a `Registration` out."""

import copy
import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

import torch
from torch import Tensor

from drmime import checks
from drmime.batches import IncompleteError, Interrupted, in_batches
from drmime.checks import Options
from drmime.compare.base import Similarity
from drmime.device import Device
from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.hints import hints_of
from drmime.keywords import Keywords
from drmime.modes import own_modes
from drmime.optimise import LAST_STEPS, Outcome, Stop
from drmime.pairs import Pair, read_pairs, starts, together
from drmime.part import Part
from drmime.prepare import Images
from drmime.result import Registration
from drmime.sampling import Overlap, Sampler
from drmime.schedule import Schedule
from drmime.searching import inputs_of, rankings, unsearched
from drmime.stages import Problem, interrupted, not_begun, solved
from drmime.start.inputs import Inputs
from drmime.start.ranking import Ranking
from drmime.threads import threads as use_threads
from drmime.transform.base import Family
from drmime.verdict.evidence import evidence
from drmime.verdict.judge import Judgement, judged, unknown

Many = list[Any] | tuple[Any, ...]

__all__ = ["DEFAULTS", "IncompleteError", "Interrupted", "register"]


Results = Registration | InputError | list[Registration] | list[Registration | InputError]


@overload
def register(
    fixed: Many, moving: Many, *, errors: Literal["raise"] = ..., **options: Unpack[Keywords]
) -> list[Registration]: ...
@overload
def register(
    fixed: Many, moving: Many, *, errors: Literal["return"], **options: Unpack[Keywords]
) -> list[Registration | InputError]: ...
@overload
def register(fixed: Any, moving: Any, *, errors: Literal["raise"] = ..., **options: Unpack[Keywords]) -> Registration: ...
@overload
def register(
    fixed: Any, moving: Any, *, errors: Literal["return"], **options: Unpack[Keywords]
) -> Registration | InputError: ...
@own_modes()
def register(
    fixed: Any,
    moving: Any,
    *,
    levels: int = 4,
    transform: str | Mapping[str, Any] | Family | Sequence[Any] = "affine",
    metric: str | Mapping[str, Any] | Similarity = "mine",
    sampler: str | Mapping[str, Any] | Sampler = "uniform",
    start: Any = "auto",
    representation: Any = None,
    fixed_mask: Any = None,
    moving_mask: Any = None,
    affine_mask: Any = None,
    landmarks: Any = None,
    fixed_spacing: Sequence[float] | None = None,
    moving_spacing: Sequence[float] | None = None,
    channel_axis: Any = "auto",
    channel: Any = None,
    nan: str = "error",
    schedule: Mapping[str, Any] | Schedule | None = None,
    seed: int = 0,
    device: str | torch.device | Mapping[str, Any] | Device | None = None,
    observers: Any = (),
    errors: Literal["raise", "return"] = "raise",
) -> Results:
    """Align `moving` to `fixed`: find the transform that maps points of the fixed image to the moving image.

    Images have two or three spatial dimensions, gray or with channels, of any sizes and spacings: paths, NumPy arrays, torch
    tensors, `drmime.Image`, or images of itk, SimpleITK, ANTs, nibabel, xarray, Pillow and numpy.ma, whose geometry and masks
    are kept. Two lists of images, of any sizes and dimensions, give a list in their order: pairs that are alike in shapes,
    channels, spacings and masks are registered as a batch, one batch after the other, and each pair gives what it gives alone.

    A part (transform, metric, sampler, start, observer) is given by its name, by a mapping with options such as
    `{"name": "mine", "hidden": 64}`, by `"module:attribute"`, or as an object.

    Args:
        levels: number of levels of the Gaussian pyramid, all optimised jointly; fewer if the coarsest would have a side of less
            than 16 pixels.
        transform: "translation", "rigid", "similarity", "affine", "projective", with the options `parametrisation` and
            `finest_vector`, or any generators: `{"name": "lie", "generators": ["translation", "scale"]}`
            (`drmime.transform.linear.LieGroup`). Or stages, joined by "+" or in a list: "affine+velocity" deforms the image
            after the affine stage (`drmime.transform.elastic.Velocity`; also "bspline", "polyaffine", "tps").
        metric: "mine", "mattes", "nmi", "jhmi", "ncc", "mse", "angle" or "alpha_amd".
        sampler: how points are drawn: "uniform", "jittered", "all", "edges"; `{"name": "uniform", "points": 2048}`.
        start: "auto": a search over every rotation, shift and scale that the transform allows. A matrix (D+1, D+1) from fixed
            to moving world coordinates, x first: one start in addition to those of the search. A name of what proposes starts
            instead of the search ("sift", "landmarks", …), or a list of these. None: the optimisation begins at centre on
            centre. Or a mapping with any of `given`, `propose` and `refine` (`drmime.Start`).
        representation: None, or the path of a trained representation (`drmime train`), by which both images are compared in
            place of their intensities. Or a mapping with its `name` and any of `fixed` and `moving` (modalities) and `use`
            ("metric", "search", "all"). The verdict looks at the images themselves.
        fixed_mask, moving_mask: arrays or paths, of the spatial shape; nonzero pixels are used. For lists of images, lists.
        affine_mask: likewise, of the fixed image: what is not deformed; the map there is that of the last linear stage.
        landmarks: corresponding points as soft constraints beside the metric: a mapping with `fixed` and `moving`, (N, D) in
            pixels, x first, or paths of files, and any of `accuracy` (pixels) and `weight` (`drmime.soft.SoftLandmarks`).
        fixed_spacing, moving_spacing: pixel lengths in array order; by default those of the file, else 1.
        channel_axis: where channels are, None for none, or two of these, of the fixed and of the moving image; "auto" is what
            the file or object states, else the last axis (the first of a tensor) if its length is 2 to 4. The opacity of an
            RGBA picture is a channel like the others: leave it out if it carries no information.
        channel: number of the one channel to compare, None for all, or two of these.
        nan: "error", or "mask" to leave out pixels that are not finite.
        schedule: a mapping with any of `steps`, `rate`, `level_weights`, `tolerance`, `least_overlap` (`drmime.Schedule`).
        seed: seed of every random number; the same seed gives the same result.
        device: "cpu", "cuda", …; by default a GPU if torch finds one; or a mapping with any of `name`, `dtype` ("float32",
            "float64"), `threads` and `graphs` (`drmime.Device`).
        observers: "progress" for a bar on stderr (where that is a terminal), `{"name": "tensorboard", "folder": …}`, objects of
            `drmime.Observer`, functions of a `drmime.Step`, or a list of these. Of lists they see each batch as a run.
        errors: "raise": images that cannot be used are an error, before anything is computed. "return": such a pair gives its
            `InputError` in place of a `Registration` (single images also), and the others are registered; also a pair whose
            registration fails in any other way. Options that cannot be used are raised always.

    Returns:
        the `Registration` of the pair; for lists, a list of them.

    Raises:
        InputError: input that cannot be used; of lists, the message names the pair.
        IncompleteError: an `InputError` for one batch of lists when others are finished; holds their results.
        Interrupted: Ctrl-C; holds the results so far, which are the best starts if the search has not ended.

    The method is DRMIME (Nan, Tennant, Rubin, Ray, MIDL 2020, arXiv 2001.09865).

    Example:
        >>> rows, columns = np.mgrid[:64, :64]
        >>> fixed = np.hypot(rows - 20, columns - 30) + 20 * np.sin(rows / 5)
        >>> moving = 100 - np.roll(fixed, (2, 3), axis=(0, 1))
        >>> register(fixed, moving, transform="translation").to_moving([[30, 30]]).round()
        array([[33., 32.]])
    """
    given = {name: value for name, value in locals().items() if name not in ("fixed", "moving")}
    asked = checks.options(locals())
    registered = functools.partial(_together, asked, checks.resolved(asked, given))
    with use_threads(asked.device.threads):
        results = in_batches(read_pairs({"fixed": fixed, "moving": moving, **given}, asked), registered, asked.errors)
    return results if isinstance(fixed, (list, tuple)) else results[0]


def _together(
    asked: Options, settings: Mapping[str, Any], pairs: Sequence[Pair], part: Part, begin: bool
) -> list[Registration]:
    """The results of pairs of one kind. If not `begin`, after Ctrl-C, those of the given starts."""
    asked = replace(asked, metric=copy.deepcopy(asked.metric), sampler=copy.deepcopy(asked.sampler))
    grids, count = pairs[0].grids, pairs[0].levels
    read = together(pairs, asked.device.place, once=part.count == 1)
    basis = asked.stages[0].basis(read.fixed.grid.ndim)
    normalised = read.normalised(asked.metric.common_scale)
    overlap = Overlap(normalised.fixed, normalised.moving)  # of the images with their frames
    pair = normalised.without_frames()
    searched, compared = _represented(read, pair, asked)
    del read, normalised
    first = starts(pairs, pair)
    hints, located = hints_of([one.held for one in pairs], asked, *grids)
    common = {**settings, **pairs[0].settings, "levels": count}
    problem = Problem(compared.fixed, compared.moving, common, count, overlap, hints, located, part)

    plan = asked.start.on(*grids).plan
    how = basis, asked.seed, asked.device.graphs
    inputs = inputs_of(searched, *how) if begin else []
    ranked = rankings(inputs, first, plan, asked.observers, part) if begin else [unsearched(start) for start in first]
    matrices = torch.stack([one.candidates[0].matrix for one in ranked])
    begun = not any(one.interrupted for one in ranked)
    outcome = solved(problem, matrices, asked) if begun else not_begun(problem, matrices, asked)
    seen = inputs if searched is pair or not begun else inputs_of(pair, *how)
    outcome, verdicts = _verdicts(seen, outcome, ranked, grids[1])
    return _results(outcome, asked.schedule.weights(count)[-1], pairs, common, ranked, verdicts)


def _represented(read: Images, pair: Images, asked: Options) -> tuple[Images, Images]:
    """What the search for a start and what the metric compares.

    `read`: the images before they were normalised; encoders see each in its own range, as in training. `pair`: for the metric.
    """
    if asked.representation is None:
        return pair, pair
    own = read.normalised(common_scale=False).without_frames() if asked.metric.common_scale else pair
    encoded = Images(*asked.representation(own.fixed, own.moving))
    use = asked.representation.use
    return (pair if use == "metric" else encoded), (pair if use == "search" else encoded)


def _verdicts(
    inputs: Sequence[Inputs], outcome: Outcome, ranked: Sequence[Ranking], moving: Grid
) -> tuple[Outcome, list[Judgement]]:
    """The outcome, and the verdict on each pair; after Ctrl-C, now or before, no pair has one."""
    found = [unknown(one.doubts) for one in ranked]
    if Stop.INTERRUPTED in outcome.stops:
        return outcome, found
    good = [number for number, stop in enumerate(outcome.stops) if stop.success]
    try:
        seen = evidence(
            [inputs[number] for number in good],
            [outcome.transforms[number] for number in good],
            [ranked[number].rivals for number in good],
            [float(outcome.overlap[number]) for number in good],
        )
        for number, one in zip(good, seen, strict=True):
            found[number] = judged(one, ranked[number].doubts, moving)
    except KeyboardInterrupt:
        return interrupted(outcome), [unknown(one.doubts) for one in ranked]
    return outcome, found


def _results(
    outcome: Outcome,
    weights: Tensor,
    pairs: Sequence[Pair],
    settings: Mapping[str, Any],
    ranked: Sequence[Ranking],
    verdicts: Sequence[Judgement],
) -> list[Registration]:
    results = []
    for number, (pair, stop) in enumerate(zip(pairs, outcome.stops, strict=True)):
        last = outcome.history[number][-LAST_STEPS:]
        results.append(
            Registration(
                transform=outcome.transforms[number],
                fixed_grid=pair.grids[0],
                moving_grid=pair.grids[1],
                stop=stop,
                similarity=float((last.double() @ weights).mean()) if len(last) else math.nan,
                overlap=float(outcome.overlap[number]),
                history=outcome.history[number].numpy(),
                totals=outcome.totals[number].numpy(),
                settings={**settings, **pair.settings},
                verdict=verdicts[number].verdict,
                doubts=verdicts[number].doubts,
                blocks=verdicts[number].blocks,
                peak_ratio=ranked[number].ratio,
                notes=pair.notes + ranked[number].notes + outcome.notes[number],
                candidates=ranked[number].candidates,
            )
        )
    return results


DEFAULTS = {one.name: one.default for one in inspect.signature(register).parameters.values()}  # of the keywords of `register`
