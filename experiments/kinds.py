"""Generated kinds of images with a known answer: how many `register` aligns, and whether it doubts what it does not.

    python experiments/kinds.py                                   # every kind
    python experiments/kinds.py nuclei labels --count 50 --workers 2

Aligned: the median error over points that both images show is below one pixel. Silent: not aligned, and no doubt is said.
`problem(kind, number)` makes one of them; the pictures come from scikit-image (`pip install 'drmime[demo]'`).
"""

import argparse
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

SIDE = 256  # pixels of a generated picture
NOISES = ("gaussian", "poisson", "speckle")
PICTURES = (
    "camera",
    "astronaut",
    "immunohistochemistry",
    "coffee",
    "retina",
    "moon",
    "brick",
    "gravel",
    "hubble_deep_field",
    "cat",
)


@dataclass(frozen=True)
class Generated:
    """Two images, options of `register`, and where points of the fixed image lie in the moving one (pixels, x first)."""

    fixed: np.ndarray
    moving: np.ndarray
    fixed_points: np.ndarray
    moving_points: np.ndarray
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How one problem ended."""

    error: float  # pixels
    doubted: bool
    seconds: float
    notes: tuple[str, ...]


# ---- objects on a flat ground


def objects(kind: str, number: int, group: str = "rigid") -> Generated:
    """Nuclei, spots, a binary mask or a label image under any rotation, with noise of one of three kinds."""
    random = np.random.default_rng([number, sum(map(ord, kind))])
    angle, shift = random.uniform(-np.pi, np.pi), random.uniform(-15, 15, 2)
    moving_from_fixed = rigid(angle, shift, (SIDE - 1) / 2)
    scene = scattered(random, kind)
    noise = NOISES[number % len(NOISES)]
    images = [noisy(painted(kind, scene, matrix), noise, random) for matrix in (np.eye(3), moving_from_fixed)]
    if kind == "labels":
        images[1] = 1.1 - images[1]  # the labels of the second image count down
    return Generated(*images, *shared_points(moving_from_fixed), {"transform": group})


def rigid(angle: float, shift: np.ndarray, middle: float) -> np.ndarray:
    """A rotation about the middle of a square picture and a shift. shape: (3, 3)"""
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:2, 2] = middle - matrix[:2, :2] @ (middle, middle) + shift
    return matrix


def scattered(random: np.random.Generator, kind: str) -> list[tuple[np.ndarray, np.ndarray, float, float]]:
    """Middles, half axes, angles and brightness of objects that do not touch, over twice the picture's sides."""
    radius, count = {"spots": (3.0, 250)}.get(kind, (14.0, 160))
    middles: list[np.ndarray] = []
    for _ in range(20 * count):
        place = (random.random(2) - 0.25) * 2 * SIDE
        if len(middles) < count and all(np.hypot(*(place - other)) > 2.1 * radius for other in middles):
            middles.append(place)
    axes = radius * random.uniform(0.6, 1.0, (len(middles), 2))
    return list(zip(middles, axes, random.random(len(middles)) * np.pi, random.uniform(0.3, 1.0, len(middles)), strict=True))


def painted(kind: str, scene: Iterable[tuple[np.ndarray, np.ndarray, float, float]], matrix: np.ndarray) -> np.ndarray:
    """The scene as the camera sees it whose pixels are `matrix` times those of the first one."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    places = np.stack([columns.ravel(), rows.ravel(), np.ones(SIDE * SIDE)], 1) @ np.linalg.inv(matrix).T
    image = np.zeros(SIDE * SIDE)
    for middle, (long, short), turn, brightness in scene:
        x, y = places[:, 0] - middle[0], places[:, 1] - middle[1]
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        if kind == "spots":
            image += brightness * np.exp(-0.5 * (x**2 + y**2) / 1.5**2)
        else:
            inside = (u / long) ** 2 + (v / short) ** 2 < 1
            image[inside] = {"binary": 1.0, "nuclei": brightness}.get(kind, np.ceil(10 * brightness) / 10)
    picture = image.reshape(SIDE, SIDE)
    return ndimage.gaussian_filter(picture, 1) if kind == "nuclei" else picture


def noisy(picture: np.ndarray, noise: str, random: np.random.Generator) -> np.ndarray:
    if noise == "gaussian":
        return picture + 0.03 * random.standard_normal(picture.shape)
    if noise == "poisson":
        return random.poisson((picture + 0.02) * 500) / 500
    return (picture + 0.02) * random.gamma(20, 1 / 20, picture.shape)


def shared_points(matrix: np.ndarray, shape: tuple[int, int] = (SIDE, SIDE)) -> tuple[np.ndarray, np.ndarray]:
    """Points of a regular grid over the fixed image that lie in a moving image of `shape`, and where."""
    points = (np.indices((12, 12)).reshape(2, -1).T[:, ::-1] + 0.5) * SIDE / 12 - 0.5
    there = points @ matrix[:2, :2].T + matrix[:2, 2]
    inside = ((there >= 0) & (there <= np.array(shape[::-1]) - 1)).all(1)
    return points[inside], there[inside]


# ---- parts of photographs


def photograph(name: str) -> np.ndarray:
    """A picture of scikit-image in gray, 0 to 1."""
    from skimage import data

    picture = getattr(data, name)().astype(float)
    return (picture.mean(-1) if picture.ndim == 3 else picture) / 255


def tiles(share: float, group: str, number: int) -> Generated:
    """Two tiles of 300 pixels of one picture that overlap by `share`, side by side or one above the other."""
    random = np.random.default_rng([number, 17])
    scene = at_least(photograph(PICTURES[number % len(PICTURES)]), 600)
    across = random.integers(-8, 9)
    offset = round(300 * (1 - share * 300 / (300 - abs(across))))
    shift = np.array([offset, across] if number % 2 else [across, offset])  # x, y: of the second tile
    first = np.array([random.integers(max(0, -s), scene.shape[1 - axis] - 300 - max(0, s) + 1) for axis, s in enumerate(shift)])
    cut = [scene[y : y + 300, x : x + 300] for x, y in (first, first + shift)]
    images = [part + 0.02 * random.standard_normal(part.shape) for part in cut]
    low, high = np.maximum(0, shift), np.minimum(300, 300 + shift) - 1
    points = np.stack(np.meshgrid(*[np.linspace(a, b, 8) for a, b in zip(low, high, strict=True)]), -1).reshape(-1, 2)
    return Generated(images[0], 0.1 + 0.7 * images[1], points, points - shift, {"transform": group})


def at_least(scene: np.ndarray, side: int) -> np.ndarray:
    factor = side / min(scene.shape)
    return ndimage.zoom(scene, factor, order=1) if factor > 1 else scene


def outliers(kind: str, share: float, number: int) -> Generated:
    """A photograph and its turned self, in which a share of the pixels holds no-data values, or is hot or dead."""
    random = np.random.default_rng([number, 23])
    name = PICTURES[number % 6]
    scene = at_least(photograph(name), 512)[:512, :512] * 4000
    matrix = rigid(random.uniform(-0.5, 0.5), random.uniform(-15, 15, 2), (SIDE - 1) / 2)
    images = [_spoilt(viewed(scene, m), kind, share, random) for m in (np.eye(3), matrix)]
    return Generated(images[0], images[1], *shared_points(matrix), {"transform": "affine"})


def viewed(scene: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The middle of a scene, SIDE pixels wide, by a camera whose pixels are `matrix` times those of the first one."""
    back, corner = np.linalg.inv(matrix)[:2], (np.array(scene.shape) - SIDE) / 2
    swapped = back[::-1, 1::-1]
    return ndimage.affine_transform(scene, swapped, back[::-1, 2] + corner, (SIDE, SIDE), order=1, mode="nearest")


def _spoilt(picture: np.ndarray, kind: str, share: float, random: np.random.Generator) -> np.ndarray:
    picture = picture.copy()
    if kind == "no data":  # in patches
        blurred = ndimage.gaussian_filter(random.standard_normal(picture.shape), 6)
        picture[blurred > np.quantile(blurred, 1 - share)] = -9999
    else:
        chosen = random.random(picture.shape) < share
        picture[chosen] = 65535 * random.uniform(0.5, 1, chosen.sum()) if kind == "hot" else -20000.0
    return picture


def detail(ratio: float, number: int) -> Generated:
    """A part of a picture, and the whole of it with `ratio` times as many pixels along each side as the part."""
    random = np.random.default_rng([number, 29])
    scene = at_least(photograph(("retina", "immunohistochemistry", "coffee", "astronaut")[number % 4]), 1400)[:1400, :1400]
    side = round(1400 * ratio)
    corner = random.integers(0, 1400 - side + 1, 2)  # x, y
    part = scene[corner[1] : corner[1] + side, corner[0] : corner[0] + side]
    images = []
    for picture in (part, scene):
        factor = 350 / picture.shape[0]
        blurred = ndimage.gaussian_filter(picture, max(0.0, 0.4 / factor)) if factor < 1 else picture
        places = (np.mgrid[:350, :350] + 0.5) / factor - 0.5
        images.append(ndimage.map_coordinates(blurred, places, order=1, mode="nearest"))
    points = np.stack(np.meshgrid([40.0, 175, 310], [40.0, 175, 310]), -1).reshape(-1, 2)
    there = ((points + 0.5) * side / 350 + corner) * 350 / 1400 - 0.5
    if number % 2:
        return Generated(images[1], images[0] * 0.8, there, points, {"transform": "similarity"})
    return Generated(images[0], images[1] * 0.8, points, there, {"transform": "similarity"})


def unequal_pixels(ratio: float, number: int) -> Generated:
    """A photograph, and its turned self of which only every `ratio`-th row is there, without spacing."""
    random = np.random.default_rng([number, 31])
    scene = at_least(photograph(PICTURES[number % 6]), 512)[:512, :512]
    matrix = rigid(random.uniform(-0.3, 0.3), random.uniform(-15, 15, 2), (SIDE - 1) / 2)
    fixed, moving = (viewed(scene, m) for m in (np.eye(3), matrix))
    step = round(ratio)
    moving = moving[: SIDE // step * step].reshape(SIDE // step, step, SIDE).mean(1)
    points, there = shared_points(matrix, (SIDE // step * step, SIDE))
    return Generated(fixed, moving * 0.8, points, (there + np.array([0, 0.5])) / (1, step) - (0, 0.5), {"transform": "affine"})


# ---- volumes of few slices


def slab(slices: int, degrees: float, number: int, side: int = 96, spacing: tuple[float, ...] = (1, 1, 1)) -> Generated:
    """A slab of a smooth random volume, and the same turned in its plane, shifted and inverted."""
    random = np.random.default_rng([number, 37])
    shape = (slices + 8, side, side)
    parts = [ndimage.gaussian_filter(random.standard_normal(shape), [width / s for s in spacing]) for width in (4, 10)]
    volume = parts[0] / parts[0].std() + 2 * parts[1] / parts[1].std()
    angle = np.radians(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])  # z, y, x
    middle, shift = (np.array(shape) - 1) / 2, np.array([0, *random.uniform(-6, 6, 2)])
    moving = -ndimage.affine_transform(volume, turn.T, middle - turn.T @ (middle + shift), order=1, mode="nearest")
    points = np.stack(np.meshgrid([1, slices - 2], [20, side - 20], [20, side - 20]), -1).reshape(-1, 3) + np.array([4, 0, 0])
    there = (points - middle) @ turn.T + middle + shift
    up = np.array([4, 0, 0])
    return Generated(
        volume[4 : 4 + slices],
        moving[4 : 4 + slices],
        (points - up)[:, ::-1].astype(float),
        (there - up)[:, ::-1],
        {"transform": "rigid", "fixed_spacing": spacing, "moving_spacing": spacing},
    )


KINDS: dict[str, tuple[int, Callable[[int], Generated]]] = {  # how many by default, and what makes one
    **{kind: (50, lambda n, k=kind: objects(k, n)) for kind in ("nuclei", "spots", "binary", "labels")},
    **{
        f"tiles {share:.0%} {group}": (20, lambda n, s=share, g=group: tiles(s, g, n))
        for share in (0.1, 0.15, 0.2, 0.3)
        for group in ("translation", "rigid", "affine")
    },
    **{
        f"{kind} {share:.1%}": (12, lambda n, k=kind, s=share: outliers(k, s, n))
        for kind in ("no data", "hot", "dead")
        for share in (0.002, 0.01, 0.03)
    },
    **{f"detail {ratio:g}": (8, lambda n, r=ratio: detail(r, n)) for ratio in (0.5, 0.25, 0.15)},
    **{f"unequal pixels {ratio:g}": (6, lambda n, r=ratio: unequal_pixels(r, n)) for ratio in (2, 4)},
    **{
        f"slab {slices} {degrees:g}": (3, lambda n, s=slices, d=degrees: slab(s, d, n))
        for slices, degrees in ((4, 8), (6, 8), (8, 25), (10, 40), (14, 8))
    },
}


def problem(kind: str, number: int) -> Generated:
    """One of a kind."""
    return KINDS[kind][1](number)


def solve(kind: str, number: int) -> Outcome:
    """Register it as it comes."""
    from drmime import register

    given = problem(kind, number)
    began = time.perf_counter()
    result = register(given.fixed, given.moving, seed=number, **given.options)
    seconds = time.perf_counter() - began
    points = np.c_[given.fixed_points, np.ones(len(given.fixed_points))] @ result.pixel_matrix.T
    errors = np.linalg.norm(points[:, :-1] / points[:, -1:] - given.moving_points, axis=1)
    doubted = bool(result.doubts) or not result.success
    return Outcome(float(np.median(errors)), doubted, seconds, (*result.reasons, *result.notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"beginnings of: {', '.join(KINDS).replace('%', '%%')}")
    parser.add_argument("--count", type=int, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--each", action="store_true", help="a line for each that is not aligned, or doubted")
    args = parser.parse_args()
    chosen = [kind for kind in KINDS if not args.kinds or kind.startswith(tuple(args.kinds))]
    tasks = [(kind, args.first + n) for kind in chosen for n in range(args.count or KINDS[kind][0])]
    columns = ("kind", "aligned", "not aligned, doubted", "silent", "aligned, doubted", "median error", "seconds")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with ProcessPoolExecutor(args.workers) as pool:
        outcomes = list(zip(tasks, pool.map(solve, *zip(*tasks, strict=True)), strict=True))
    for kind in chosen:
        some = [(number, outcome) for (name, number), outcome in outcomes if name == kind]
        good = [outcome.error < 1 for _, outcome in some]
        doubted = [outcome.doubted for _, outcome in some]
        counts = [sum(g == a and d == b for g, d in zip(good, doubted, strict=True)) for a, b in ((0, 1), (0, 0), (1, 1))]
        error, seconds = (float(np.median([getattr(outcome, name) for _, outcome in some])) for name in ("error", "seconds"))
        print(
            f"| {kind} | {sum(good)}/{len(some)} | {' | '.join(map(str, counts))} | {error:.2f} | {seconds:.1f} |", flush=True
        )
        for (number, outcome), well in zip(some, good, strict=True):
            if args.each and (not well or outcome.doubted):
                print(f"  {number}: {outcome.error:.2f} pixels; {' '.join(outcome.notes)[:150]}")


if __name__ == "__main__":
    main()
