"""Drift of a time series with known motion, by drmime and by pystackreg, side by side in one run.

    python benchmarks/drift.py --image IMAGE [--frames 1000] [--side 512] [--transform translation] [--peer-frames 1000]

Frames are windows of the image at known places (cubic splines): a random walk of 0.5 pixels a frame, for "rigid" also of 0.05
degrees, that fade by 20 % in all, with Gaussian noise of 6 of 255 gray levels. Errors are distances of the frame's corners and
centre, the largest, from where they belong, relative to the first frame. pystackreg registers each frame to the one before (its
default for drift).
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates, spline_filter

from drmime import register_stack

STEP, TURN, FADE, NOISE = 0.5, 0.05, 0.2, 6.0


def motions(count: int, room: float, turning: bool) -> list[np.ndarray]:
    """Homogeneous maps from the first frame to each frame, about the frame's centre, in pixels."""
    random = np.random.default_rng(0)
    shifts, angles = np.zeros((count, 2)), np.zeros(count)
    for at in range(1, count):
        shifts[at] = np.clip(shifts[at - 1] + random.normal(0, STEP, 2), -room, room)
        angles[at] = np.clip(angles[at - 1] + np.deg2rad(random.normal(0, TURN)), -0.1, 0.1) if turning else 0
    made = []
    for shift, angle in zip(shifts, angles, strict=True):
        c, s = np.cos(angle), np.sin(angle)
        made.append(np.array([[c, -s, shift[0]], [s, c, shift[1]], [0, 0, 1]]))
    return made


def frames(image: np.ndarray, side: int, maps: list[np.ndarray]) -> np.ndarray:
    random = np.random.default_rng(1)
    spline = spline_filter(image, 3)
    middle = (side - 1) / 2
    rows, columns = np.mgrid[:side, :side] - middle
    places = np.stack([columns, rows, np.ones_like(rows)])
    centre = np.array([[image.shape[1] / 2], [image.shape[0] / 2]])
    made = []
    for at, matrix in enumerate(maps):
        there = np.tensordot(np.linalg.inv(matrix), places, 1)[:2].reshape(2, -1) + centre
        seen = map_coordinates(spline, there[::-1], order=3, prefilter=False, mode="mirror").reshape(side, side)
        seen = 200 * seen * (1 - FADE * at / len(maps)) + 20 + random.normal(0, NOISE, seen.shape)
        made.append(np.clip(seen, 0, 255).round().astype(np.uint8))
    return np.stack(made)


def report(name: str, seconds: tuple[float, float], maps: list[np.ndarray], found: list[np.ndarray], side: int) -> None:
    """A row of the table.

    Args:
        seconds: by the clock and of the CPU.
        maps: from the first frame to each frame, about the frame's centre.
        found: likewise, from the first pixel.
    """
    middle = np.array([[1, 0, -(side - 1) / 2], [0, 1, -(side - 1) / 2], [0, 0, 1]])
    ends = side - 1.0
    points = np.array([[0, 0, 1], [ends, 0, 1], [0, ends, 1], [ends, ends, 1], [ends / 2, ends / 2, 1]]).T
    errors = []
    for true, own in zip(maps, found, strict=False):
        away = (np.linalg.inv(middle) @ true @ middle - own) @ points
        errors.append(np.linalg.norm(away[:2], axis=0).max())
    each = " | ".join(f"{one / len(found):.3f}" for one in seconds)
    print(f"| {name} | {len(found)} | {each} | {np.median(errors):.3f} | {max(errors):.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--transform", choices=["translation", "rigid"], default="translation")
    parser.add_argument("--peer-frames", type=int, default=0, help="frames of pystackreg, from the first; 0 for as many")
    args = parser.parse_args()
    image = np.asarray(Image.open(args.image)).astype(np.float32)
    image = image.mean(-1) if image.ndim == 3 else image
    image = image / np.percentile(image, 99.8)
    maps = motions(args.frames, (min(image.shape) - args.side) / 4, args.transform == "rigid")
    movie = frames(image, args.side, maps)
    print(
        "| program | frames | seconds a frame | CPU seconds a frame | median error | largest error |\n|---|---|---|---|---|---|"
    )
    begin = time.perf_counter(), time.process_time()
    stack = register_stack(movie, time_axis=0, transform=args.transform, reference="first")
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    found = [np.full((3, 3), np.nan) if one is None else one.matrix for one in stack.registrations]
    report("drmime", seconds, maps, found, args.side)
    try:
        from pystackreg import StackReg
    except ImportError:
        print("pystackreg is not installed")
        return
    kind = StackReg.TRANSLATION if args.transform == "translation" else StackReg.RIGID_BODY
    part = movie[: args.peer_frames or None]
    begin = time.perf_counter(), time.process_time()
    matrices = StackReg(kind).register_stack(part, reference="previous")
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    report("pystackreg", seconds, maps, list(matrices), args.side)


if __name__ == "__main__":
    main()
