"""SimpleITK's registration framework (version 4 of ITK's): four metrics, four groups, gradient descent."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from drmime.errors import number, whole
from drmime.lab.peers.base import GROUPS, Problem, Run, capped, counts, listed, package, probed
from drmime.registry import known

MIN_POINTS = 500  # points; smallest sample of a level, if it has that many pixels

METRICS: dict[str, Callable[[Any, int], None]] = {  # arguments: a registration method and the number of bins
    "mse": lambda method, bins: method.SetMetricAsMeanSquares(),
    "ncc": lambda method, bins: method.SetMetricAsCorrelation(),
    "mattes": lambda method, bins: method.SetMetricAsMattesMutualInformation(bins),
    "jhmi": lambda method, bins: method.SetMetricAsJointHistogramMutualInformation(bins),
}


def simpleitk(
    problem: Problem,
    metric: str = "mattes",
    group: str = "affine",
    shrink: Sequence[int] = (8, 4, 2),
    smoothing: Sequence[float] = (4, 2, 1),
    iterations: int = 100,
    sampling: float = 0.05,
    bins: int = 32,
    rate: float = 0.5,
) -> Run:
    """Regular-step gradient descent from coarse to fine, 2-D or 3-D, on gray images.

    SimpleITK (Lowekamp et al. 2013, DOI 10.3389/fninf.2013.00045), ITK's metrics of version 4 (Avants et al. 2014,
    DOI 10.3389/fninf.2014.00044). The transform is centred on the fixed image and followed by the start.

    Args:
        metric: "mse", "ncc" (correlation), "mattes" or "jhmi" (mutual information by a joint histogram).
        group: "translation", "rigid", "similarity" or "affine".
        shrink: shrink factor of each level, coarse first; reduced if a side would have less than 16 pixels.
        smoothing: standard deviation of the blur of each level, in pixels; reduced in proportion to its factor.
        iterations: the largest number on each level.
        sampling: share of the pixels, drawn at random, but at least 500 per level if it has as many; 1 for all.
        bins: bins of the histogram of "mattes" and "jhmi".
        rate: first step of each level, in pixels of the coarsest; each reversal of direction multiplies later steps by 0.7.

    Raises:
        InputError: an unknown or invalid option, or SimpleITK is not installed.
    """
    known("metric of simpleitk", metric, METRICS)
    known("group of simpleitk", group, GROUPS)
    asked = counts("shrink", shrink)
    factors = [min(axes) for axes in capped(asked, np.minimum(*problem.sides))]
    sigmas = [s * f / a for s, f, a in zip(listed("smoothing", smoothing, len(asked)), factors, asked, strict=True)]
    shares = _shares(number("sampling", sampling, 0, 1 + 1e-9), factors, problem)
    most, bins, step = whole("iterations", iterations, 1), whole("bins", bins, 4), number("rate", rate, 0) * factors[0]
    sitk = package("SimpleITK")
    images = _images(sitk, problem)

    def run(seed: int) -> np.ndarray:
        transform = _transform(sitk, group, problem)
        method = sitk.ImageRegistrationMethod()
        METRICS[metric](method, bins)
        if min(shares) < 1:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentagePerLevel(shares, seed + 1)  # with 0 SimpleITK takes the clock as seed
        method.SetInterpolator(sitk.sitkLinear)
        method.SetShrinkFactorsPerLevel(factors)
        method.SetSmoothingSigmasPerLevel(sigmas)
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
        method.SetOptimizerAsRegularStepGradientDescent(step, 1e-3, most, relaxationFactor=0.7, gradientMagnitudeTolerance=1e-8)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, True)
        method.SetNumberOfThreads(problem.threads)
        method.Execute(*images)
        return problem.in_pixels(problem.world_start @ probed(transform.TransformPoint, problem.ndim))

    return run


def _images(sitk: Any, problem: Problem) -> list[Any]:
    """Both images in the fixed image's world: the start is applied to the geometry of the moving image.

    Given as a moving initial transform, it would disturb ITK's estimation of the scales of the parameters.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(problem.threads)
    fixed, moving = (sitk.GetImageFromArray(pixels) for pixels in problem.grays())
    sides, world = problem.pixel_sides, np.linalg.inv(problem.world_start)
    axes = world[:-1, :-1] * sides[1]  # columns: one step along each axis of the moving image
    lengths = np.linalg.norm(axes, axis=0)
    fixed.SetSpacing(sides[0].tolist())
    moving.SetOrigin(world[:-1, -1].tolist())
    moving.SetSpacing(lengths.tolist())
    moving.SetDirection((axes / lengths).ravel().tolist())
    return [fixed, moving]


def _transform(sitk: Any, group: str, problem: Problem) -> Any:
    """The identity of `group`, centred on the fixed image."""
    ndim = problem.ndim
    kinds = {"translation": "TranslationTransform", "affine": "AffineTransform"}
    if group in kinds:
        transform = getattr(sitk, kinds[group])(ndim)
    else:
        transform = getattr(sitk, {"rigid": "Euler", "similarity": "Similarity"}[group] + f"{ndim}DTransform")()
    if group != "translation":
        transform.SetCenter(((problem.sides[0] - 1) / 2 * problem.pixel_sides[0]).tolist())
    return transform


def _shares(sampling: float, factors: Sequence[int], problem: Problem) -> list[float]:
    """The sampled share of the pixels of each level: `sampling`, or more if that is fewer than `MIN_POINTS` points."""
    return [min(1.0, max(sampling, MIN_POINTS / float(np.prod(problem.sides[0] // factor)))) for factor in factors]
