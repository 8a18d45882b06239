"""Frames: flat surroundings that say where a picture ends, and show less of the scene than what they surround.

Black corners of a turned image, the surroundings of a fundus camera's disc, the air around a head: their outline would be taken
for the strongest edge of all, and agrees best where frame lies on frame. The flat ground of nuclei, spots, labels or fibres
touches the border too, but there the outlines are most of what there is to see. So a flat region is left out if it surrounds a
picture, which is filled and has straight sides or is a disc, or a specimen with many edges inside. Of a volume only frames with
flat sides are: there is more outline to each edge inside, it fixes the rotation, and a ball is a head and no frame.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import (
    binary_dilation,
    binary_erosion,
    binary_opening,
    binary_propagation,
    gaussian_filter,
    generate_binary_structure,
    uniform_filter,
)
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor

from drmime.geometry.grid import border
from drmime.image.image import Image

GROUND, PICTURE_FRAME = 1, 2  # kinds of frames
CELLS = {2: 256, 3: 64}  # along the longest side, by dimension
FLAT = 0.02  # of the intensity range: a frame varies less
SMALLEST = 0.02  # share of the image; a smaller region is no frame
LARGEST = 0.9  # share of the image; what fills less than the rest is an object, and not content in a frame
INSIDE, OUTSIDE = 3, 2  # cells on either side of a frame's outline whose edges are the outline's
LITTLE = 0.05  # edges inside by edges along the outline, below which the outline is all there is to see
RICH = 0.3  # edges inside by edges along the outline: heads and specimens have 0.4 to 50
AROUND = 0.4  # share of a ground that lies outside the convex hull of a specimen: 0.5 and more; of nuclei or fibres 0
PICTURE = 0.95  # share of its convex hull that a picture in a frame fills
EXPLAINED = 0.75  # share of a picture's outline that lies on long flat sides, or on one circle and such sides
SIDE = {2: 0.2, 3: 0.4}  # of the longest side, by dimension: shorter pieces of an outline, or the caps of a ball, are not sides
ROUND = 0.4  # share of the outline, of which less on one circle is no disc
CLOSE = 1.0  # cells from a fitted side
TRIALS = 200  # fits of a side through points drawn at random
POINTS = 1000  # of an outline that are compared with a fit


def without_frames(fixed: Image, moving: Image) -> tuple[Image, Image]:
    """Both images, normalised, with their frames masked; as they are where they have none.

    The ground of a specimen is left out in both or in neither: where one image shows little but the specimen's outline, the
    outline of the other is what it can be compared with.
    """
    found = [frame(image) for image in (fixed, moving)]
    both = torch.stack([kinds.cpu().flatten(1).amax(1) > 0 for kinds in found]).all(0)
    return _masked(fixed, found[0], both), _masked(moving, found[1], both)


def _masked(image: Image, found: Tensor, grounds: Tensor) -> Image:
    """`image` without what `frame` found, grounds for those of the batch of which `grounds` (B,) says so."""
    grounds = grounds.to(found.device).view(-1, *[1] * (found.ndim - 1))
    out = ((found == PICTURE_FRAME) | ((found == GROUND) & grounds)).to(image.data)
    if not out.any():
        return image
    content = 1 - F.interpolate(out, size=image.grid.shape, mode="nearest")
    content = content if image.mask is None else content * image.mask
    some = content.flatten(1).any(1).view(-1, *[1] * (content.ndim - 1))  # a frame is never all that a mask leaves
    return replace(image, mask=torch.where(some, content, torch.ones_like(content) if image.mask is None else image.mask))


def frame(image: Image) -> Tensor:
    """`PICTURE_FRAME` in the frame of a picture, `GROUND` in that of a specimen, 0 elsewhere, for each image.

    On cells that `torch.nn.functional.interpolate` spreads over the image, which is normalised. shape: (B, 1, *cells)
    """
    shape, ndim = image.grid.shape, image.grid.ndim
    cells = [max(1, round(length * min(1, CELLS[ndim] / max(shape)))) for length in shape]
    mean = F.interpolate(image.data, size=cells, mode="area").cpu().numpy()
    exact = F.interpolate(image.data, size=cells, mode="nearest").cpu().numpy()
    found = np.zeros((len(mean), 1, *cells), np.float32)
    for number in range(len(mean)):
        edges = _edges(mean[number])
        regions = {region.tobytes(): region for region in _candidates(mean[number], exact[number])}  # some are the same
        for region in regions.values():
            if kind := _kind(region, edges):
                part = found[number, 0]
                wide = binary_dilation(region, _box(ndim))  # with cells that the outline crosses
                part[wide] = np.maximum(part[wide], kind)
    return torch.as_tensor(found).to(image.data)


def _edges(mean: np.ndarray) -> np.ndarray:
    """Squared gradients, summed over channels. (C, *cells) -> (*cells)"""
    squares = np.zeros(mean.shape[1:])
    for channel in mean:
        smooth = gaussian_filter(channel, 1.0)
        for axis, length in enumerate(smooth.shape):
            squares += np.square(np.gradient(smooth, axis=axis)) if length > 1 else 0
    return squares


def _candidates(mean: np.ndarray, exact: np.ndarray) -> Iterator[np.ndarray]:
    """Flat regions (*cells) that touch the border: as the border mostly is, or as dark as it gets, to the bit or nearly."""
    outer = border(mean.shape[1:]).numpy()
    smooth = uniform_filter(mean, (0, *[3] * outer.ndim))  # noise must not keep parts of one ground from each other
    for pixels, tolerance in ((exact, 1e-6), (smooth, FLAT)):
        flat = pixels.reshape(len(pixels), -1)
        for value in (np.median(pixels[:, outer], 1), flat.min(1)):
            away = np.abs(pixels - value.reshape(-1, *[1] * outer.ndim)).max(0)
            region = binary_propagation((away < tolerance) & outer, _box(outer.ndim), away < tolerance)
            yield binary_opening(np.pad(region, 2, "edge"), _box(outer.ndim))[(slice(2, -2),) * outer.ndim]


def _kind(region: np.ndarray, edges: np.ndarray) -> int:
    """What `region` (*cells) is: `PICTURE_FRAME`, `GROUND` of a specimen that shows more than its outline, or 0, no frame."""
    if not SMALLEST < region.mean() < LARGEST:
        return 0
    content, box = ~region, _box(region.ndim)
    inner = ~binary_dilation(region, box, iterations=INSIDE)
    outline = ~inner & ~binary_erosion(region, box, iterations=OUTSIDE, border_value=True)
    richness = edges[inner].sum() / max(edges[outline].sum(), 1e-30)
    if richness <= LITTLE:
        return 0
    hull = _hull(content)
    if content.sum() > PICTURE * hull.sum() and _regular(hull):
        return PICTURE_FRAME
    if region.ndim == 2 and richness > RICH and (region & ~hull).sum() > AROUND * region.sum():
        return GROUND
    return 0


def _hull(content: np.ndarray) -> np.ndarray:
    """The cells whose middle lies in the convex hull of those that are set; all where they do not span the space."""
    edge = np.argwhere(content & ~binary_erosion(content, _box(content.ndim)))
    try:
        sides = ConvexHull(edge).equations
    except (QhullError, ValueError):
        return np.ones_like(content)
    inside = np.ones(content.size, bool)
    cells = np.indices(content.shape).reshape(content.ndim, -1)
    for side in sides:
        inside &= side[:-1] @ cells <= 1e-6 - side[-1]
    return inside.reshape(content.shape)


def _regular(hull: np.ndarray) -> bool:
    """Whether most of the outline of `hull` (*cells) lies on few long flat sides or, in 2-D, on one circle and such sides.

    That of the hull, not of the content, in which dark parts and compression leave notches.
    """
    random, ndim = np.random.default_rng(0), hull.ndim
    outline = np.argwhere(~hull & binary_dilation(hull, generate_binary_structure(ndim, 1))).astype(float)
    points = outline[random.permutation(len(outline))[:POINTS]]
    if len(points) <= ndim + 1:
        return False
    shortest = (SIDE[ndim] * max(hull.shape)) ** (ndim - 1) * len(points) / len(outline)  # points of a side
    rests = [points]
    if ndim == 2 and (disc := _closest(points, ndim + 1, _from_circle, random)).sum() > ROUND * len(points):
        rests.append(points[~disc])
    return any(len(_beside_sides(rest, shortest, random)) < (1 - EXPLAINED) * len(points) for rest in rests)


def _beside_sides(points: np.ndarray, shortest: float, random: np.random.Generator) -> np.ndarray:
    """What of an outline is left without its flat sides of at least `shortest` points."""
    ndim = points.shape[1]
    while len(points) > max(ndim, shortest):
        side = _closest(points, ndim, _from_plane, random)
        if side.sum() < shortest:
            break
        points = points[~side]
    return points


def _closest(
    points: np.ndarray,
    needed: int,
    distances: Callable[[np.ndarray, np.ndarray], np.ndarray],
    random: np.random.Generator,
) -> np.ndarray:
    """Which points (N, D) are close to the one fit, of many through points drawn at random, that has most of them. (N,)"""
    close = distances(points[random.integers(0, len(points), (TRIALS, needed))], points) <= CLOSE
    return close[close.sum(1).argmax()]


def _from_plane(drawn: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distances (T, N) of points from the planes (in 2-D: lines) through D points each (T, D, D)."""
    normal = np.linalg.svd(drawn - drawn.mean(1, keepdims=True))[2][:, -1]
    return np.abs(points @ normal.T - (drawn[:, 0] * normal).sum(1)).T


def _from_circle(drawn: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distances (T, N) of points from the circles through three points each (T, 3, 2)."""
    chords, middles = drawn[:, 1:] - drawn[:, :1], (drawn[:, 1:] + drawn[:, :1]) / 2
    centre = (np.linalg.pinv(chords) @ (chords * middles).sum(2, keepdims=True))[..., 0]
    radius = np.linalg.norm(drawn[:, 0] - centre, axis=1)
    return np.abs(np.linalg.norm(points - centre[:, None], axis=2) - radius[:, None])


def _box(ndim: int) -> np.ndarray:
    return np.ones((3,) * ndim, bool)
