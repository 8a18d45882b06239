"""The methods that `peers.py` compares, and how each was set; README.md says how the settings were found.

A method takes the two images, the starting shift and the threads, makes everything ready and gives what is timed: a
function from a seed to the map it found. Each peer is given its images in its own type beforehand, drmime plain arrays.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from drmime import register

LUMINANCE = np.array([0.299, 0.587, 0.114])

Mapper = Callable[[np.ndarray], np.ndarray]  # fixed pixels to moving pixels, (N, 2) -> (N, 2), x first
Run = Callable[[int], Mapper]  # of a seed
Method = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Run]  # fixed, moving, shift (2,), threads


def gray(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 2 else (pixels[..., :3] @ LUMINANCE).astype(np.float32)


# ---- elastix


def elastix(fixed: np.ndarray, moving: np.ndarray, shift: np.ndarray, threads: int, stages: Sequence[Any]) -> Run:
    """One stage after the other: a parameter map, or the name of one of elastix's default maps."""
    import itk

    itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(threads)
    images = itk.image_from_array(gray(fixed)), itk.image_from_array(gray(moving))
    images[1].SetOrigin((-shift).tolist())  # the start: in these coordinates it is the identity
    default = itk.ParameterObject.New().GetDefaultParameterMap
    maps = [dict(default(stage)) if isinstance(stage, str) else stage for stage in stages]

    def run(seed: int) -> Mapper:
        parameters = itk.ParameterObject.New()
        for values in maps:
            parameters.AddParameterMap(values | {"WriteResultImage": ["false"], "RandomSeed": [str(seed)]})
        method = itk.ElastixRegistrationMethod.New(*images)
        method.SetParameterObject(parameters)
        method.SetNumberOfThreads(threads)
        method.SetLogToConsole(False)
        method.UpdateLargestPossibleRegion()
        found = method.GetTransformParameterObject()
        matrix = np.eye(3)
        for index in range(len(maps)):
            matrix = elastix_matrix(found.GetParameterMap(index)) @ matrix
        return lambda points: points @ matrix[:2, :2].T + matrix[:2, 2] + shift

    return run


def elastix_matrix(found: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Fixed to moving points of one stage: x -> A (x - centre) + centre + translation."""
    numbers = np.array(found["TransformParameters"], dtype=float)
    centre = np.array(found["CenterOfRotationPoint"], dtype=float)
    if found["Transform"][0] == "EulerTransform":
        cosine, sine = math.cos(numbers[0]), math.sin(numbers[0])
        linear, translation = np.array([[cosine, -sine], [sine, cosine]]), numbers[1:]
    else:
        linear, translation = numbers[:4].reshape(2, 2), numbers[4:]
    return np.block([[linear, (centre + translation - linear @ centre)[:, None]], [np.zeros((1, 2)), np.ones((1, 1))]])


def stage(transform: str, shrink: Sequence[int], iterations: Sequence[int], **more: Any) -> dict[str, list[str]]:
    """A parameter map for speed: few samples, drawn anew each time, few bins, recursive pyramids, short estimates."""
    settings = {
        "Registration": "MultiResolutionRegistration",
        "Transform": transform,
        "HowToCombineTransforms": "Compose",
        "AutomaticTransformInitialization": "false",
        "AutomaticScalesEstimation": "true",
        "Metric": "AdvancedMattesMutualInformation",
        "NumberOfHistogramBins": 16,
        "ImageSampler": "RandomCoordinate",
        "NumberOfSpatialSamples": 1000,
        "NewSamplesEveryIteration": "true",
        "Interpolator": "LinearInterpolator",
        "FixedImagePyramid": "FixedRecursiveImagePyramid",
        "MovingImagePyramid": "MovingRecursiveImagePyramid",
        "NumberOfResolutions": len(shrink),
        "ImagePyramidSchedule": [factor for factor in shrink for _ in "xy"],
        "Optimizer": "AdaptiveStochasticGradientDescent",
        "MaximumNumberOfIterations": iterations,
        "AutomaticParameterEstimation": "true",
        "ASGDParameterEstimationMethod": "DisplacementDistribution",
        "NumberOfJacobianMeasurements": 200,
        "NumberOfSamplesForExactGradient": 1000,
        "NumberOfGradientMeasurements": 1,
        "ResampleInterpolator": "FinalLinearInterpolator",
        "Resampler": "DefaultResampler",
    } | more
    return {
        name: [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
        for name, value in settings.items()
    }


RIGID = stage("EulerTransform", (16, 8), (30, 30), MaximumStepLength=4)
NEAR = stage("AffineTransform", (8, 4, 2), (200, 75, 50))
FAR = stage("AffineTransform", (32, 16, 8, 4, 2), (200, 200, 100, 50, 50))


# ---- SimpleITK


def simpleitk(fixed: np.ndarray, moving: np.ndarray, shift: np.ndarray, threads: int) -> Run:
    """Mattes MI and a regular-step gradient descent on an affine transform about the centre, in three resolutions."""
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    images = sitk.GetImageFromArray(gray(fixed)), sitk.GetImageFromArray(gray(moving))
    images[1].SetOrigin((-shift).tolist())

    def run(seed: int) -> Mapper:
        transform = sitk.AffineTransform(2)
        transform.SetCenter([(length - 1) / 2 for length in fixed.shape[1::-1]])
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.05, seed + 1)  # seed 0 would be the clock
        method.SetInterpolator(sitk.sitkLinear)
        method.SetShrinkFactorsPerLevel([8, 4, 2])
        method.SetSmoothingSigmasPerLevel([4, 2, 1])
        method.SetOptimizerAsRegularStepGradientDescent(4.0, 1e-3, 100, relaxationFactor=0.7)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, True)
        method.Execute(*images)
        return lambda points: np.array([transform.TransformPoint(point) for point in points.tolist()]) + shift

    return run


# ---- drmime


def ours(fixed: np.ndarray, moving: np.ndarray, shift: np.ndarray, threads: int, **options: Any) -> Run:
    torch.set_num_threads(threads)
    start = np.eye(3)
    start[:2, 2] = shift

    def run(seed: int) -> Mapper:
        result = register(fixed, moving, initial_transform=start, seed=seed, device="cpu", **options)
        if not result.success:
            raise RuntimeError(result.stop.value)
        return result.to_moving

    return run


PAPER = yaml.safe_load((Path(__file__).parents[1] / "configs" / "paper.yaml").read_text(encoding="utf-8"))
METHODS: dict[str, Method] = {
    "elastix": functools.partial(elastix, stages=[RIGID, NEAR]),  # the reference: tuned on the kidney pair
    "elastix-fast": functools.partial(elastix, stages=[NEAR]),  # the fastest found on the kidney pair
    "elastix-far": functools.partial(elastix, stages=[FAR]),  # tuned on kidney and lesions, which start further off
    "elastix-default": functools.partial(elastix, stages=["rigid", "affine"]),
    "simpleitk": simpleitk,
    "drmime": ours,  # as it comes: searches from any start
    "drmime-mine": functools.partial(ours, initialiser=None),  # from the given start alone, as the peers
    "drmime-plain": functools.partial(ours, initialiser=None, metric={"name": "mine", "orientation": False, "local": False}),
    "drmime-mattes": functools.partial(ours, initialiser=None, metric="mattes"),
    "drmime-nmi": functools.partial(ours, initialiser=None, metric="nmi"),
    "drmime-ncc": functools.partial(ours, initialiser=None, metric="ncc"),
    "drmime-paper": functools.partial(ours, **PAPER),  # minutes; DRMIME as published, arXiv 2001.09865
}
