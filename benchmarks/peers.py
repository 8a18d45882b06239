"""elastix, SimpleITK and drmime on the same pairs, starts and threads: landmark error and seconds, in one table.

    pip install 'drmime[peers]'
    python benchmarks/peers.py birl_rat_kidney/he__pancyto --repeats 3 --seeds 0 1 2 --out table.md

A pair is dataset/pair of `pairs.csv` in the data folder. The error is the median rTRE: the median distance, over the
landmarks, between where a method puts a point of the fixed image and where it lies, divided by the diagonal of the moving
image. Only the registration itself is timed: from pixels and a starting shift to a transform, no image is warped. Every
method is warmed up on a small copy first, and in each repeat all methods take their turn, so that a machine that slows
down slows all of them. The peers compare one channel: with --rgb, too, they get the luminance.
"""

import argparse
import contextlib
import csv
import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch

from drmime import register

LUMINANCE = np.array([0.299, 0.587, 0.114])
WARM_UP_SIZE = 256  # pixels of the long side
POINTS_PER_AXIS = 10  # of the grid that stands for landmarks where a pair has a known map instead
HEADER = ("pair", "method", "error", "worst seed", "seconds", "minimum", "ratio")

Mapper = Callable[[np.ndarray], np.ndarray]  # fixed pixels to moving pixels, (N, 2) -> (N, 2), x first
Method = Callable[["Pair", int], Callable[[int], Mapper]]  # (pair, threads) -> what is timed: seed -> result


@dataclass(frozen=True)
class Pair:
    name: str
    fixed: np.ndarray  # shape: (H, W) or (H, W, 3), float32
    moving: np.ndarray
    points: np.ndarray  # shape: (N, 2), pixels of the fixed image, x first
    targets: np.ndarray  # shape: (N, 2), where they lie in the moving image
    shift: np.ndarray  # shape: (2,), the start: fixed pixels + shift = moving pixels

    def error(self, to_moving: Mapper) -> float:
        distances = np.linalg.norm(to_moving(self.points) - self.targets, axis=1)
        return float(np.median(distances) / math.hypot(*self.moving.shape[:2]))


@dataclass
class Row:
    """What one method did on one pair."""

    errors: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failure: str = ""

    def cells(self, reference: "Row | None") -> tuple[str, ...]:
        if self.failure:
            return f"failed: {self.failure}", "", "", "", ""
        seconds = statistics.median(self.seconds)
        known = reference is not None and not reference.failure
        ratio = f"{seconds / statistics.median(reference.seconds):.2f}" if known else "-"
        errors = f"{statistics.median(self.errors):.5f}", f"{max(self.errors):.5f}"
        return *errors, f"{seconds:.3f}", f"{min(self.seconds):.3f}", ratio


# ---- pairs


def load_pair(data: Path, name: str, rgb: bool, start: str, size: int | None) -> Pair:
    with (data / "pairs.csv").open(newline="", encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if f"{row['dataset']}/{row['pair']}" == name]
    if not found:
        raise SystemExit(f"{name}: no such pair in {data / 'pairs.csv'}; expected dataset/pair")
    row = found[0]
    if row["ndim"] != "2" or not (row["fixed_landmarks"] or row["fixed_to_moving"]):
        raise SystemExit(f"{name}: expected a 2-D pair with landmarks or a known map (fixed_to_moving)")
    fixed, moving = (read_pixels(data / row[side], rgb) for side in ("fixed", "moving"))
    points, targets = read_truth(data, row, fixed.shape[:2], moving.shape[:2])
    pair = Pair(name, fixed, moving, points, targets, np.zeros(2))
    pair = pair if size is None else resized(pair, size)
    return replace(pair, shift=STARTS[start](gray(pair.fixed), gray(pair.moving)))


def read_pixels(path: Path, rgb: bool) -> np.ndarray:
    pixels = np.asarray(iio.imread(path), dtype=np.float32)
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] < 3 else pixels
    return pixels[..., :3] if rgb and pixels.ndim == 3 else gray(pixels)


def gray(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 2 else (pixels[..., :3] @ LUMINANCE).astype(np.float32)


def read_truth(data: Path, row: Mapping[str, str], shape: Sequence[int], moving_shape: Sequence[int]) -> tuple:
    """Points of the fixed image and where they lie in the moving one; landmark files of unequal length share their start."""
    if row["fixed_landmarks"]:
        files = (data / row["fixed_landmarks"], data / row["moving_landmarks"])
        points, targets = (np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2)[:, :2] for file in files)
        count = min(len(points), len(targets))
        return points[:count], targets[:count]
    axes = [np.linspace(0, length - 1, POINTS_PER_AXIS) for length in reversed(shape)]
    points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    targets = mapped(np.loadtxt(data / row["fixed_to_moving"]), points)
    inside = ((targets >= 0) & (targets <= np.array(moving_shape)[::-1] - 1)).all(1)
    return points[inside], targets[inside]


def mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    result = np.c_[points, np.ones(len(points))] @ matrix.T
    return result[:, :2] / result[:, 2:]


def resized(pair: Pair, size: int) -> Pair:
    """The pair, both images scaled alike, so that the longer side of either is `size`; points and start follow."""
    factor = size / max(*pair.fixed.shape[:2], *pair.moving.shape[:2])
    fixed, moving = zoomed(pair.fixed, factor), zoomed(pair.moving, factor)
    points, targets = follow(pair.points, pair.fixed, fixed), follow(pair.targets, pair.moving, moving)
    return Pair(pair.name, fixed, moving, points, targets, pair.shift * factor)


def zoomed(pixels: np.ndarray, factor: float) -> np.ndarray:
    planes = torch.as_tensor(pixels.reshape(*pixels.shape[:2], -1)).movedim(-1, 0)[None]
    shape = [round(length * factor) for length in pixels.shape[:2]]
    planes = torch.nn.functional.interpolate(planes, shape, mode="bilinear", antialias=factor < 1)
    return planes[0].movedim(0, -1).reshape(*shape, *pixels.shape[2:]).contiguous().numpy()


def follow(points: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Pixel coordinates after a resize, in which borders lie on borders: half a pixel outside the outermost centres."""
    scale = np.array(after.shape[1::-1]) / np.array(before.shape[1::-1])
    return (points + 0.5) * scale - 0.5


def middle(pixels: np.ndarray) -> np.ndarray:
    return (np.array(pixels.shape[::-1]) - 1) / 2


def mass(pixels: np.ndarray) -> np.ndarray:
    """Centre of what differs from the background, the median of the border. -> (x, y)"""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    weight = np.abs(pixels - np.median(border)).astype(float)
    return np.array([np.average(np.arange(pixels.shape[1 - axis]), weights=weight.sum(axis)) for axis in (0, 1)])


STARTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "identity": lambda fixed, moving: np.zeros(2),
    "centre": lambda fixed, moving: middle(moving) - middle(fixed),
    "mass": lambda fixed, moving: mass(moving) - mass(fixed),
}


# ---- methods


def elastix(pair: Pair, threads: int, stages: Sequence[Mapping[str, Any] | str]) -> Callable[[int], Mapper]:
    """One elastix stage after the other: a parameter map, or the name of one of elastix's default maps."""
    import itk

    itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(threads)
    images = itk.image_from_array(gray(pair.fixed)), itk.image_from_array(gray(pair.moving))
    images[1].SetOrigin((-pair.shift).tolist())  # the start: in these coordinates it is the identity
    defaults = itk.ParameterObject.New()
    named = [defaults.GetDefaultParameterMap(stage) if isinstance(stage, str) else stage for stage in stages]
    maps = [{key: in_words(values[key]) for key in values} | {"WriteResultImage": ["false"]} for values in named]

    def run(seed: int) -> Mapper:
        parameters = itk.ParameterObject.New()
        for values in maps:
            parameters.AddParameterMap(values | {"RandomSeed": [str(seed)]})
        method = itk.ElastixRegistrationMethod.New(*images)
        method.SetParameterObject(parameters)
        method.SetNumberOfThreads(threads)
        method.SetLogToConsole(False)
        method.UpdateLargestPossibleRegion()
        found = method.GetTransformParameterObject()
        matrices = [elastix_matrix(found.GetParameterMap(index)) for index in range(found.GetNumberOfParameterMaps())]
        matrix = functools.reduce(lambda first, then: then @ first, matrices)
        return lambda points: mapped(matrix, points) + pair.shift

    return run


def in_words(value: Any) -> list[str]:
    return [str(item) for item in value] if not isinstance(value, str | int | float) else [str(value)]


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


def simpleitk(pair: Pair, threads: int) -> Callable[[int], Mapper]:
    """Mattes MI and a regular-step gradient descent on an affine transform about the centre, in three resolutions."""
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    fixed, moving = (sitk.GetImageFromArray(gray(pixels)) for pixels in (pair.fixed, pair.moving))
    moving.SetOrigin((-pair.shift).tolist())

    def run(seed: int) -> Mapper:
        transform = sitk.AffineTransform(2)
        transform.SetCenter(middle(gray(pair.fixed)).tolist())
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
        method.Execute(fixed, moving)
        return lambda points: np.array([transform.TransformPoint(point) for point in points.tolist()]) + pair.shift

    return run


def ours(pair: Pair, threads: int, **options: Any) -> Callable[[int], Mapper]:
    start = np.eye(3)
    start[:2, 2] = pair.shift

    def run(seed: int) -> Mapper:
        result = register(pair.fixed, pair.moving, initial_transform=start, seed=seed, **options)
        if not result.success:
            raise RuntimeError(result.stop.value)
        return result.to_moving

    return run


def stage(transform: str, shrink: Sequence[int], iterations: Sequence[int]) -> dict[str, Any]:
    """An elastix parameter map for speed: few samples, drawn anew each time, few bins, recursive pyramids, short estimates."""
    return {
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
    }


NEAR = stage("AffineTransform", (8, 4, 2), (200, 75, 50))
RIGID = stage("EulerTransform", (16, 8), (30, 30)) | {"MaximumStepLength": 4}
FAR = stage("AffineTransform", (32, 16, 8, 4, 2), (200, 200, 100, 50, 50))
PAPER = {
    "levels": 6,
    "sampler": {"name": "uniform", "points": 0.1},
    "metric": {"name": "mine", "hidden": 100, "depth": 2, "warmup": 0},
    "steps": 500,
    "finest_vector": True,
    "balanced": False,  # the plain sum of the levels
}
METHODS: dict[str, Method] = {
    "elastix": functools.partial(elastix, stages=[NEAR]),  # the fastest that is as accurate as drmime on the kidney pair
    "elastix-rigid-affine": functools.partial(elastix, stages=[RIGID, NEAR]),
    "elastix-far": functools.partial(elastix, stages=[FAR]),  # for starts some per cent off
    "elastix-default": functools.partial(elastix, stages=["rigid", "affine"]),
    "simpleitk": simpleitk,
    "drmime-mine": functools.partial(ours, metric="mine"),
    "drmime-mattes": functools.partial(ours, metric="mattes"),
    "drmime-nmi": functools.partial(ours, metric="nmi"),
    "drmime-ncc": functools.partial(ours, metric="ncc"),
    "drmime-paper": functools.partial(ours, **PAPER),  # minutes; DRMIME as published, arXiv 2001.09865
}


# ---- the table


def compare(pair: Pair, names: Sequence[str], threads: int, seeds: Sequence[int], repeats: int) -> dict[str, Row]:
    rows = {name: Row() for name in names}
    ready = dict(prepared(pair, rows, threads))
    for seed in list(seeds) * repeats:
        for name, run in ready.items():
            with reported(rows[name]):
                began = time.perf_counter()
                to_moving = run(seed)
                seconds = time.perf_counter() - began
                rows[name].errors.append(pair.error(to_moving))
                rows[name].seconds.append(seconds)
    return rows


def prepared(pair: Pair, rows: Mapping[str, Row], threads: int) -> Iterator[tuple[str, Callable[[int], Mapper]]]:
    """Each method with its imports done, its images converted and one small run behind it."""
    for name, row in rows.items():
        with reported(row):
            run = METHODS[name](pair, threads)
            with contextlib.suppress(Exception):  # what matters is how the pair itself goes
                METHODS[name](resized(pair, WARM_UP_SIZE), threads)(0)
            yield name, run


@contextlib.contextmanager
def reported(row: Row) -> Iterator[None]:
    """A method that fails becomes a row with its reason."""
    try:
        yield
    except ImportError as error:
        row.failure = f"{error.name} is not installed: pip install 'drmime[peers]'"
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        row.failure = (lines[-1] if lines else type(error).__name__).replace("|", "/")


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [HEADER, *rows]) for column in range(len(HEADER))]
    rule = ["-" * width for width in widths]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [HEADER, rule, *rows]]
    return "\n".join(f"| {line} |" for line in lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="DATASET/PAIR")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[name for name in METHODS if name != "drmime-paper"])
    parser.add_argument("--reference", choices=METHODS, default="elastix", help="whose seconds are 1 in the last column")
    parser.add_argument("--start", choices=STARTS, default="identity")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each seed; seconds are the median of all runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, help="resize so that the longer side is this many pixels")
    colour = parser.add_mutually_exclusive_group()
    colour.add_argument("--rgb", action="store_true", help="colour, for drmime; the peers get the luminance")
    colour.add_argument("--gray", dest="rgb", action="store_false", default=False, help="luminance for all (default)")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    cells: list[tuple[str, ...]] = []
    for name in options.pairs:
        pair = load_pair(options.data, name, options.rgb, options.start, options.size)
        rows = compare(pair, options.methods, options.threads, options.seeds, options.repeats)
        reference = rows.get(options.reference)
        cells += [(name, method, *row.cells(reference)) for method, row in rows.items()]
        start = f"{pair.error(lambda points, shift=pair.shift: points + shift):.5f}"
        mode = "rgb" if pair.fixed.ndim == 3 or pair.moving.ndim == 3 else "gray"
        cells.append((name, f"({mode}, start: {options.start})", start, "", "", "", ""))
    text = table(cells)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
