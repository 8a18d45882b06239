"""Sections with known places: how far off `register_stack` is, whether it names ruined ones and recovers an order.

    pip install 'drmime[demo]'
    python experiments/stacks.py --count 20 --ruined 7 8
    python experiments/stacks.py --count 10 --shuffled
    python experiments/stacks.py --count 10 --content 0.9 --transform rigid+velocity

Each section is a real picture (stained tissue of scikit-image), turned by up to 25 degrees, shifted by up to 15 pixels, bent by
a smooth random field that changes from section to section, with its colours exchanged, another contrast and noise. Errors are
distances from the known places at points of the reference, in pixels; a rigid map cannot follow the bends. With `--content` the
scene itself changes from section to section, as tissue does: the correlation of what neighbours show is that.

With a deformation in `--transform` each section is given with the linear maps of the stack, with its deformations, and with a
deformation of the reference alone that begins at the linear map.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from skimage import data

from drmime import Stack, register, register_stack
from drmime.stack.deformed import split

SIDE = 384  # pixels
KEPT = 0.9  # correlation of the bends of neighbouring sections
WAVES = 12  # side by the standard deviation of the Gaussian that makes a field smooth


@dataclass(frozen=True)
class Section:
    """A section, and where its pixels lie in the scene: a rigid map and a field of displacements (2, SIDE, SIDE), y first."""

    image: np.ndarray
    rotation: np.ndarray
    shift: np.ndarray
    field: np.ndarray

    def to_scene(self, points: np.ndarray) -> np.ndarray:
        """(N, 2), y first."""
        middle = (SIDE - 1) / 2
        there = (points - middle) @ self.rotation.T + middle + self.shift
        return there + self._bend(there)

    def from_scene(self, points: np.ndarray) -> np.ndarray:
        there = points
        for _ in range(30):  # the field is smooth and small, so this converges
            there = points - self._bend(there)
        middle = (SIDE - 1) / 2
        return (there - middle - self.shift) @ self.rotation + middle

    def _bend(self, points: np.ndarray) -> np.ndarray:
        return np.stack([ndimage.map_coordinates(part, points.T, order=1, mode="nearest") for part in self.field], -1)


def sections(count: int, bend: float, seed: int, content: float = 1.0) -> list[Section]:
    """Sections whose bends have a root mean square of a share `bend` of the diagonal; `content`: correlation of neighbours."""
    random = np.random.default_rng(seed)
    tissue = data.immunohistochemistry() / 255
    tissue = ndimage.zoom(tissue, (SIDE / len(tissue), SIDE / len(tissue), 1), order=1)

    def smooth() -> np.ndarray:
        made = ndimage.gaussian_filter(random.standard_normal((2, SIDE, SIDE)), (0, SIDE / WAVES, SIDE / WAVES))
        return made / np.sqrt(np.square(made).sum(0).mean()) * bend * SIDE * 2**0.5

    field, found = smooth(), []
    points = np.stack(np.mgrid[:SIDE, :SIDE], -1).reshape(-1, 2).astype(float)
    scene = tissue
    for _ in range(count):
        angle = np.radians(random.uniform(-25, 25))
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        one = Section(np.zeros(0), rotation, random.uniform(-15, 15, 2), field)
        places = one.to_scene(points).T
        seen = [ndimage.map_coordinates(channel, places, order=1, cval=0.9) for channel in np.moveaxis(scene, -1, 0)]
        image = np.stack(seen, -1).reshape(SIDE, SIDE, 3)[..., random.permutation(3)] ** random.uniform(0.7, 1.5)
        image = np.clip(255 * (image + 0.02 * random.standard_normal(image.shape)), 0, 255).astype(np.uint8)
        found.append(Section(image, rotation, one.shift, field))
        field = KEPT * field + np.sqrt(1 - KEPT**2) * smooth()
        if content < 1:
            scene = changed(scene, tissue, content, random)
    return found


def changed(scene: np.ndarray, tissue: np.ndarray, content: float, random: np.random.Generator) -> np.ndarray:
    """A scene with the correlation `content` to this one, its rest from another place of the tissue."""
    other = np.roll(np.rot90(tissue, random.integers(4)), random.integers(0, SIDE, 2), (0, 1))
    middle = tissue.mean((0, 1))
    return np.clip(middle + content * (scene - middle) + np.sqrt(1 - content**2) * (other - middle), 0, 1)


def error(fixed: Section, moving: Section, to_moving: object) -> float:
    """Mean distance of mapped points from where they are, pixels."""
    points = np.stack(np.mgrid[60 : SIDE - 60 : 9j, 60 : SIDE - 60 : 9j], -1).reshape(-1, 2)
    there = moving.from_scene(fixed.to_scene(points))
    return float(np.linalg.norm(to_moving(points[:, ::-1])[:, ::-1] - there, axis=1).mean())  # type: ignore[operator]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--bend", type=float, default=0.01, help="root mean square of the bends, share of the diagonal")
    parser.add_argument("--ruined", type=int, nargs="*", default=[], help="numbers of sections that are noise")
    parser.add_argument("--shuffled", action="store_true", help="sections in a random order, which is to be found")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--transform", default="rigid", help="also with a deformation, as rigid+velocity")
    parser.add_argument("--content", type=float, default=1.0, help="correlation of what neighbours show")
    args = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(args.seed + 1)
    made = sections(args.count, args.bend, args.seed, args.content)
    places = random.permutation(args.count) if args.shuffled else np.arange(args.count)
    images = [made[place].image for place in places]
    for number in args.ruined:
        images[number] = random.integers(0, 256, images[number].shape).astype(np.uint8)
    begun = time.perf_counter()
    device = {"name": "cpu", "threads": 1}
    order = "auto" if args.shuffled else "given"
    linear, deformation = split(args.transform)
    common = {"reference": "first", "order": order, "device": device, "progress": True}
    with tempfile.TemporaryDirectory() as folder:
        stack = register_stack(images, transform=linear, folder=folder, **common)
        seconds = time.perf_counter() - begun
        print(f"{len(stack.pairs)} pairs, {seconds:.0f} s; no place: {stack.ruined}, ruined: {tuple(args.ruined)}")
        if args.shuffled:
            print("found order:", [int(places[number]) for number in stack.order])
        if deformation is not None:
            compare_deformed(
                stack, register_stack(images, transform=args.transform, folder=folder, **common), made, images, places
            )
            return
    fixed = made[places[stack.reference]]
    for number in stack.order:
        found = stack.registrations[number]
        if found is None or number == stack.reference:
            continue
        moving = made[places[number]]
        alone = register(images[stack.reference], images[number], transform=args.transform, device=device)
        off, direct = error(fixed, moving, found.to_moving), error(fixed, moving, alone.to_moving)
        print(f"section {places[number]}: {off:.3f} in the stack, {direct:.3f} registered with the reference alone")


def compare_deformed(linear: Stack, deformed: Stack, made: list[Section], images: list[np.ndarray], places: np.ndarray) -> None:
    """Print the errors of each section with the linear maps, with the deformations of the stack, and with one of its own."""
    fixed, before = made[places[linear.reference]], {fit.second: fit.first for fit in deformed.deformations}
    rows = []
    for number, image in before.items():
        given = deformed.deformations[0].registration.settings
        start = {"given": linear.registrations[number].matrix, "refine": False}
        alone = register(
            images[linear.reference], images[number], transform=given["transform"], start=start, device=given["device"]["name"]
        )
        found = linear.registrations[number], deformed.registrations[number], alone
        rows.append([error(fixed, made[places[number]], one.to_moving) for one in found])
        print(
            f"section {places[number]}: {rows[-1][0]:.3f} linear, {rows[-1][1]:.3f} by image {image}, {rows[-1][2]:.3f} alone"
        )
    print("mean: {:.3f} linear, {:.3f} in the stack, {:.3f} alone".format(*np.mean(rows, 0)))


if __name__ == "__main__":
    main()
