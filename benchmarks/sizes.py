"""What `register` costs by size: CPU seconds of one thread, peak memory of the process, and the error, of generated images.

    python benchmarks/sizes.py 4096x4096x3 8192x8192 --group affine
    python benchmarks/sizes.py 256x256x256 --group rigid

A size is pixels in array order, and "x3" for colour. Each runs in a process of its own, which makes the images too: a smooth
random scene and the same turned and inverted.
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np
from scipy import ndimage


def scene(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Blobs of a fortieth and a twelfth of the longest side, 0 to 1."""
    total = np.zeros(shape, np.float32)
    for share, weight in ((40, 1), (12, 2)):
        width = max(shape) / share
        step = max(1, int(width / 2))
        coarse = random.standard_normal([length // step + 8 for length in shape]).astype(np.float32)
        blurred = ndimage.gaussian_filter(coarse, width / step)
        fine = ndimage.zoom(blurred / blurred.std(), step, order=1) if step > 1 else blurred / blurred.std()
        total += weight * fine[tuple(slice(length) for length in shape)]
    return (total - total.min()) / np.ptp(total)


def pair(shape: tuple[int, ...], degrees: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fixed, moving, points of the fixed image and where they lie in the moving one (pixels, x first)."""
    fixed = scene(shape, np.random.default_rng(0))
    angle, ndim, middle = np.radians(degrees), len(shape), (np.array(shape) - 1) / 2
    linear = np.eye(ndim)
    linear[-2:, -2:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    offset = middle - linear @ middle + 0.02 * max(shape) * np.resize([1, -0.5], ndim)
    moving = 1 - ndimage.affine_transform(fixed, linear, offset, order=1, mode="nearest")
    points = (0.3 + 0.4 * np.indices((2,) * ndim).reshape(ndim, -1).T) * shape
    there = (points - offset) @ np.linalg.inv(linear).T
    return fixed, moving, points[:, ::-1], there[:, ::-1]


def measured(size: str, group: str, degrees: float) -> str:
    from drmime import register

    shape = tuple(map(int, size.split("x")))
    colour = len(shape) > 2 and shape[-1] == 3
    fixed, moving, points, there = pair(shape[:-1] if colour else shape, degrees)
    if colour:
        fixed, moving = (np.stack([255 * part, 128 * part, 255 * (1 - part)], -1).astype(np.uint8) for part in (fixed, moving))
    began = time.process_time()
    result = register(fixed, moving, transform=group)
    seconds = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = np.c_[points, np.ones(len(points))] @ result.pixel_matrix.T
    error = np.linalg.norm(found[:, :-1] / found[:, -1:] - there, axis=1).max()
    return f"| {size} {group} | {seconds:.1f} | {memory:.2f} | {error:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="+", metavar="SIZE")
    parser.add_argument("--group", default="affine")
    parser.add_argument("--degrees", type=float, default=15)
    args = parser.parse_args()
    print("| size | CPU seconds | peak memory, GiB | largest error, pixels |\n|---|---|---|---|", flush=True)
    for size in args.sizes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(measured, (size, args.group, args.degrees)), flush=True)


if __name__ == "__main__":
    main()
