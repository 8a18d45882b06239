"""From centre on centre without a search: how many poses `alpha_amd`, `mse` and `ncc` align.

    python experiments/alpha_amd.py
    python experiments/alpha_amd.py textures nuclei binary --scale 0.3

Pairs of one modality, 256 x 256, the moving image turned by up to 30 degrees and shifted by up to 20 % of the side along each
axis (times `--scale`). The loop is that of `register(..., transform="rigid", start=None)`, all poses of a kind as one batch,
without the verdict, which takes longer than the loop. Aligned: the median error over points that both images show is below 1 %
of the diagonal.
The pictures come from scikit-image (`pip install 'drmime[demo]'`).
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kinds
import numpy as np
import torch

from drmime.compare.base import Similarity
from drmime.geometry.grid import Grid
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.optimise import maximise
from drmime.parts import METRICS, SAMPLERS, TRANSFORMS
from drmime.registry import build
from drmime.sampling import Overlap
from drmime.schedule import Schedule

ANGLE = 30.0  # degrees
SHIFT = 0.2  # of the side
NOISE = 0.03  # standard deviation in gray images, of the range of intensities
ALIGNED = 0.01 * kinds.SIDE * 2**0.5  # pixels
TEXTURES = ("moon", "brick", "gravel", "hubble_deep_field")  # pictures of many parts that look alike
PICTURES = tuple(name for name in kinds.PICTURES if name not in TEXTURES)
LEVELS = 5  # the coarsest is 16 pixels wide
SAMPLER = {"name": "uniform", "points": 512}
SCHEDULES: dict[str, dict[str, Any]] = {  # for alpha_amd rates of 0.02 and 0.05 give the same counts within 1 of 20
    "together": {"steps": 150, "rate": 0.02},
    "in stages": {"steps": 150, "rate": 0.02, "level_weights": [[0, 0, 0, 0, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]},
}
COMPARED: tuple[str | dict[str, Any], ...] = ("alpha_amd", "mse", "ncc")


def pair(kind: str, number: int, scale: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Fixed and moving image of a kind, and the matrix moving_from_fixed in pixels, x first."""
    random = np.random.default_rng([number, sum(map(ord, kind))])
    angle, shift = np.radians(random.uniform(-ANGLE, ANGLE)), random.uniform(-SHIFT, SHIFT, 2) * kinds.SIDE
    matrix = kinds.rigid(scale * angle, scale * shift, (kinds.SIDE - 1) / 2)
    images = KINDS[kind][1](kind, number, [np.eye(3), matrix], random)
    return images, matrix


def scattered(kind: str, number: int, cameras: Sequence[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    scene = kinds.scattered(random, kind)
    images = [kinds.painted(kind, scene, camera) for camera in cameras]
    return images if kind == "binary" else [noisy(image, random) for image in images]


def photographs(kind: str, number: int, cameras: Sequence[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    """Pictures in turn; binary: brighter than the mean of the fixed image."""
    names = TEXTURES if kind == "textures" else PICTURES
    scene = kinds.at_least(kinds.photograph(names[number % len(names)]), 512)
    top, left = ((length - 512) // 2 for length in scene.shape)
    images = [kinds.viewed(scene[top : top + 512, left : left + 512], camera) for camera in cameras]
    if kind == "photographs, binary":
        return [(image > images[0].mean()).astype(float) for image in images]
    return [noisy(image, random) for image in images]


def horse(kind: str, number: int, cameras: Sequence[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    """One binary shape on a ground larger than the view."""
    from skimage import data

    shape = np.pad(~data.horse()[::2, ::2], 200).astype(float)
    return [(kinds.viewed(shape, camera) > 0.5).astype(float) for camera in cameras]


def noisy(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return picture + NOISE * random.standard_normal(picture.shape)


Maker = Callable[[str, int, Sequence[np.ndarray], np.random.Generator], list[np.ndarray]]
KINDS: dict[str, tuple[int, Maker]] = {  # how many by default, and what makes one
    "horse, binary": (40, horse),
    "photographs": (40, photographs),
    "photographs, binary": (40, photographs),
    "textures": (24, photographs),
    "nuclei": (24, scattered),
    "binary": (24, scattered),
}


def described(fixed: Image, moving: Image, metric: Similarity) -> tuple[Pyramid, Pyramid, Pyramid]:
    """The plain pyramid of the fixed image and what the metric compares of both."""
    fixed, moving = fixed.normalised(), moving.normalised(fixed if metric.common_scale else None)
    plain = Pyramid.of(fixed, LEVELS)
    return plain, plain.described(metric.describe), Pyramid.of(moving, LEVELS).described(metric.describe)


def errors(
    kind: str, spec: str | Mapping[str, Any], numbers: Sequence[int], scale: float = 1.0
) -> tuple[dict[str, np.ndarray], float]:
    """Median error of each pose in pixels by schedule, and seconds of a pose with one schedule."""
    pairs = [pair(kind, number, scale) for number in numbers]
    grid = Grid.regular((kinds.SIDE, kinds.SIDE))
    images = [Image(torch.tensor(np.stack([p[0][i] for p in pairs]))[:, None].float(), grid) for i in (0, 1)]
    began = time.process_time()
    plain, fixed, moving = described(*images, build("metric", METRICS, spec))
    found, seconds = {}, [time.process_time() - began]
    for name, schedule in SCHEDULES.items():
        began = time.process_time()
        metric, sampler = build("metric", METRICS, spec), build("sampler", SAMPLERS, SAMPLER)
        model = build("transform", TRANSFORMS, "rigid").model(torch.eye(3).double().repeat(len(pairs), 1, 1), grid, grid)
        random = torch.Generator().manual_seed(0)
        sampler.begin(plain, random)
        channels = fixed.levels[0].data.shape[1], moving.levels[0].data.shape[1]
        metric.begin(LEVELS, len(pairs), channels, random, images[0].data)
        outcome = maximise(fixed, moving, model, metric, sampler, Schedule(**schedule), Overlap(*images), lambda step: None)
        found[name] = np.array([error(t, p[1]) for t, p in zip(outcome.transforms, pairs, strict=True)])
        seconds.append(time.process_time() - began)
    return found, (seconds[0] + float(np.mean(seconds[1:]))) / len(pairs)


def error(transform: Callable[[torch.Tensor], torch.Tensor], matrix: np.ndarray) -> float:
    points, there = kinds.shared_points(matrix)
    return float(np.median(np.linalg.norm(transform(torch.as_tensor(points)).numpy() - there, axis=1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--count", type=int, help="poses of each kind")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all angles and shifts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    columns = ("kind", "metric", *SCHEDULES, "median error, pixels", "seconds")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for kind in args.kinds or KINDS:
        for spec in COMPARED:
            found, seconds = errors(kind, spec, range(args.count or KINDS[kind][0]), args.scale)
            counts = " | ".join(f"{(some < ALIGNED).sum()}/{len(some)}" for some in found.values())
            best = min(float(np.median(some)) for some in found.values())
            print(f"| {kind} | {spec} | {counts} | {best:.2f} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
