"""elastix (itk-elastix): its default parameter maps, and three fast ones for images of a few hundred pixels."""

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

# fast: few samples (new ones in each iteration), few bins, recursive pyramids, short estimation of the step size
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
    """Adaptive stochastic gradient descent on mutual information, 2-D or 3-D, on gray images.

    elastix (Klein et al. 2010, DOI 10.1109/TMI.2009.2035616). Each stage is composed with the start. A constant image
    aborts the process: run this peer in a separate process.

    Args:
        metric: "mattes" (AdvancedMattesMutualInformation) or "nmi" (NormalizedMutualInformation).
        settings: "default", elastix's default maps: rigid, then affine, or one stage for a smaller group; "tuned", a short
            rigid stage and an affine one; "fast", only this affine stage; "far", five levels, for larger initial errors. The
            last three are for images of several hundred pixels per side and shrink no side below 16. With unequal spacings
            or odd sides they have errors of up to one or two pixels, since ITK's shrinking pyramids shift an image.
        group: "translation", "rigid", "similarity" or "affine"; the largest group of any stage.

    Raises:
        InputError: an unknown or invalid option, or itk-elastix is not installed.
    """
    known("metric of elastix", metric, METRICS)
    stages = SETTINGS[known("settings of elastix", settings, SETTINGS)]
    known("group of elastix", group, GROUPS)
    itk = package("itk", "ElastixRegistrationMethod", "ParameterObject", "AffineTransform", "MultiThreaderBase")
    itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(problem.threads)
    maps = [_quick(stage, group, problem) for stage in stages] or _default(itk, group)
    common = {"Metric": [METRICS[metric]], "WriteResultImage": ["false"], "AutomaticTransformInitialization": ["false"]}
    inputs = images(itk, problem)
    start = _start(itk, problem)

    @tolerant()
    def run(seed: int) -> np.ndarray:
        parameters = itk.ParameterObject.New()
        for values in maps:
            parameters.AddParameterMap(values | common | {"RandomSeed": [str(seed)]})
        method = itk.ElastixRegistrationMethod.New(*inputs)
        method.SetParameterObject(parameters)
        method.SetExternalInitialTransform(start)
        method.SetNumberOfThreads(problem.threads)
        execute(method)
        return problem.in_pixels(probed(method.GetCombinationTransform().TransformPoint, problem.ndim))

    return run


def images(itk: Any, problem: Problem) -> list[Any]:
    made = [itk.image_from_array(pixels) for pixels in problem.grays()]
    for image, sides in zip(made, problem.pixel_sides, strict=True):
        image.SetSpacing(sides.tolist())
    return made


def _start(itk: Any, problem: Problem) -> Any:
    start = itk.AffineTransform[itk.D, problem.ndim].New()
    start.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(problem.world_start[:-1, :-1])))
    start.SetTranslation(problem.world_start[:-1, -1].tolist())
    return start


def _default(itk: Any, group: str) -> list[dict[str, Any]]:
    """elastix's default parameter maps; the last stage uses `group`."""
    maps = [dict(itk.ParameterObject.New().GetDefaultParameterMap(name)) for name in DEFAULT[group]]
    return [*maps[:-1], maps[-1] | {"Transform": [TRANSFORMS[group]]}]


def _quick(stage: Stage, group: str, problem: Problem) -> dict[str, list[str]]:
    """The fast parameter map of a stage."""
    own, shrink, iterations, step = stage
    schedule = capped(shrink, np.minimum(*problem.sides))
    kind = within("group of elastix", own, group)
    settings = QUICK | {
        "Transform": TRANSFORMS[kind],
        "NumberOfResolutions": len(schedule),
        "ImagePyramidSchedule": [factor for level in schedule for factor in level],
        "MaximumNumberOfIterations": iterations,
    }
    if kind == "translation":  # the estimation by displacements diverges for it; settings as in elastix's default map
        settings |= {"AutomaticScalesEstimation": "false", "ASGDParameterEstimationMethod": "Original"}
    if step is not None:  # by default elastix takes the mean side of a pixel
        settings["MaximumStepLength"] = step * max(schedule[0])
    return {
        name: [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
        for name, value in settings.items()
    }


def execute(method: Any) -> None:
    """Run elastix, which writes the reason of a failure only to its log.

    Raises:
        RuntimeError: elastix failed; the message is the reason from the log.
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
