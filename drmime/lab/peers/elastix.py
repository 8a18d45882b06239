"""elastix (itk-elastix): its own parameter maps, and three made for speed on images of a few hundred pixels."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drmime.lab.peers.base import GROUPS, Problem, Run, capped, package, probed, tolerant, within
from drmime.registry import known

METRICS = {"mattes": "AdvancedMattesMutualInformation", "nmi": "NormalizedMutualInformation"}
TRANSFORMS = {
    "translation": "TranslationTransform",
    "rigid": "EulerTransform",
    "similarity": "SimilarityTransform",
    "affine": "AffineTransform",
}
DEFAULT = {"translation": ("translation",), "rigid": ("rigid",), "similarity": ("rigid",), "affine": ("rigid", "affine")}

# few samples, drawn anew each time, few bins, recursive pyramids, short estimates of the step
QUICK = {
    "Registration": "MultiResolutionRegistration",
    "HowToCombineTransforms": "Compose",
    "AutomaticTransformInitialization": "false",
    "AutomaticScalesEstimation": "true",
    "NumberOfHistogramBins": 16,
    "ImageSampler": "RandomCoordinate",
    "NumberOfSpatialSamples": 1000,
    "NewSamplesEveryIteration": "true",
    "Interpolator": "LinearInterpolator",
    "FixedImagePyramid": "FixedRecursiveImagePyramid",
    "MovingImagePyramid": "MovingRecursiveImagePyramid",
    "Optimizer": "AdaptiveStochasticGradientDescent",
    "AutomaticParameterEstimation": "true",
    "ASGDParameterEstimationMethod": "DisplacementDistribution",
    "NumberOfJacobianMeasurements": 200,
    "NumberOfSamplesForExactGradient": 1000,
    "NumberOfGradientMeasurements": 1,
    "ResampleInterpolator": "FinalLinearInterpolator",
    "Resampler": "DefaultResampler",
}
Stage = tuple[str, Sequence[int], Sequence[int], float | None]  # group, shrink factors, iterations, step in coarsest pixels
RIGID: Stage = ("rigid", (16, 8), (30, 30), 0.25)
NEAR: Stage = ("affine", (8, 4, 2), (200, 75, 50), None)
FAR: Stage = ("affine", (32, 16, 8, 4, 2), (200, 200, 100, 50, 50), None)
SETTINGS: dict[str, tuple[Stage, ...]] = {"default": (), "tuned": (RIGID, NEAR), "fast": (NEAR,), "far": (FAR,)}


@tolerant()
def elastix(problem: Problem, metric: str = "mattes", settings: str = "default", group: str = "affine") -> Run:
    """Stochastic gradient descent on a mutual information, 2-D or 3-D, on gray.

    elastix (Klein et al. 2010, DOI 10.1109/TMI.2009.2035616). The start comes first, each stage after it. A constant
    image ends the process: run this peer in one of its own.

    Args:
        metric: "mattes" (AdvancedMattesMutualInformation) or "nmi" (NormalizedMutualInformation).
        settings: "default", elastix's own maps: rigid, then affine, or for a smaller group one stage alone; "tuned", a
            quick rigid stage and an affine one; "fast", this affine one; "far", five levels, for starts further off. The
            last three are for pictures of several hundred pixels a side, shrink no side under 16, and end up to a pixel
            or two off where spacings are unequal or sides odd: so far do ITK's shrinking pyramids shift an image.
        group: "translation", "rigid", "similarity" or "affine": no stage has a larger one.

    Raises:
        InputError: an unknown option, or itk-elastix is not installed.
    """
    known("metric of elastix", metric, METRICS)
    stages = SETTINGS[known("settings of elastix", settings, SETTINGS)]
    known("group of elastix", group, GROUPS)
    itk = package("itk", "ElastixRegistrationMethod", "ParameterObject", "AffineTransform", "MultiThreaderBase")
    itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(problem.threads)
    maps = [_quick(stage, group, problem) for stage in stages] or _default(itk, group)
    common = {"Metric": [METRICS[metric]], "WriteResultImage": ["false"], "AutomaticTransformInitialization": ["false"]}
    images = _images(itk, problem)
    start = _start(itk, problem)

    @tolerant()
    def run(seed: int) -> np.ndarray:
        parameters = itk.ParameterObject.New()
        for values in maps:
            parameters.AddParameterMap(values | common | {"RandomSeed": [str(seed)]})
        method = itk.ElastixRegistrationMethod.New(*images)
        method.SetParameterObject(parameters)
        method.SetExternalInitialTransform(start)
        method.SetNumberOfThreads(problem.threads)
        _execute(method)
        return problem.in_pixels(probed(method.GetCombinationTransform().TransformPoint, problem.ndim))

    return run


def _images(itk: Any, problem: Problem) -> list[Any]:
    images = [itk.image_from_array(pixels) for pixels in problem.grays()]
    for image, sides in zip(images, problem.pixel_sides, strict=True):
        image.SetSpacing(sides.tolist())
    return images


def _start(itk: Any, problem: Problem) -> Any:
    start = itk.AffineTransform[itk.D, problem.ndim].New()
    start.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(problem.world_start[:-1, :-1])))
    start.SetTranslation(problem.world_start[:-1, -1].tolist())
    return start


def _default(itk: Any, group: str) -> list[dict[str, Any]]:
    """elastix's own maps; the largest stage has `group`."""
    maps = [dict(itk.ParameterObject.New().GetDefaultParameterMap(name)) for name in DEFAULT[group]]
    return [*maps[:-1], maps[-1] | {"Transform": [TRANSFORMS[group]]}]


def _quick(stage: Stage, group: str, problem: Problem) -> dict[str, list[str]]:
    """A parameter map for speed."""
    own, shrink, iterations, step = stage
    schedule = capped(shrink, np.minimum(*problem.sides))
    kind = within("group of elastix", own, group)
    settings = QUICK | {
        "Transform": TRANSFORMS[kind],
        "NumberOfResolutions": len(schedule),
        "ImagePyramidSchedule": [factor for level in schedule for factor in level],
        "MaximumNumberOfIterations": iterations,
    }
    if kind == "translation":  # whose estimates by displacement come out without bounds: as in elastix's own map
        settings |= {"AutomaticScalesEstimation": "false", "ASGDParameterEstimationMethod": "Original"}
    if step is not None:  # else elastix's own: the mean side of a pixel
        settings["MaximumStepLength"] = step * max(schedule[0])
    return {
        name: [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
        for name, value in settings.items()
    }


def _execute(method: Any) -> None:
    """Run it; elastix tells only its log why it failed.

    Raises:
        RuntimeError: it failed; the message is elastix's reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        method.SetLogToConsole(False)
        method.SetLogToFile(True)
        method.SetOutputDirectory(folder)
        method.SetLogFileName("log")
        try:
            method.UpdateLargestPossibleRegion()
        except RuntimeError as error:
            log = (Path(folder) / "log").read_text(encoding="utf-8", errors="replace")
            reasons = re.findall(r"Description: (?:ITK ERROR: )?(?:\w+\(0x\w+\): )?(.+)", log)
            raise RuntimeError(f"elastix: {reasons[0] if reasons else error}") from error
