"""Find frames (flat regions at the border of an image that are not part of the scene) and mask them.

Examples are the black corners of a rotated image, the area around the disc of a fundus camera and the air around a head. The
outline of a frame is often the strongest edge of the image, so that a metric is highest where the two frames overlap. The flat
background of nuclei, spots, labels or fibres touches the border too, but there the outlines are most of the content. A flat
region is therefore masked only if it surrounds a picture (a filled region with straight sides, or a disc) or a specimen with
many edges inside. In a volume only frames with flat sides are masked: there the outline has more voxels for each edge inside,
it determines the rotation, and a ball is a head rather than a picture.
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

GROUND, PICTURE_FRAME = 1, 2  # kinds of frame: the background of a specimen, the surroundings of a picture
CELLS = {2: 256, 3: 64}  # cells along the longest side, by dimension
FLAT_TOLERANCE = 0.02  # largest deviation of intensities within a frame, as a share of the intensity range
MIN_SHARE = 0.02  # share of the image; a smaller region is not a frame
MAX_SHARE = 0.9  # share of the image; if a region is larger, the rest is an object and not content in a frame
OUTLINE_INSIDE, OUTLINE_OUTSIDE = 3, 2  # cells on either side of a frame's outline whose gradients belong to the outline
MIN_RICHNESS = 0.05  # ratio of squared gradients inside to those along the outline; below it the outline is the only content
SPECIMEN_RICHNESS = 0.3  # the same ratio, above which the content is a specimen: heads and specimens have 0.4 to 50
OUTSIDE_HULL = 0.4  # share of a background outside the convex hull of the content: specimens 0.5 and more, nuclei or fibres 0
PICTURE_FILL = 0.95  # share of its convex hull that a picture in a frame fills at least
REGULAR_SHARE = 0.75  # share of a picture's outline on long flat sides, or on one circle and such sides, at least
MIN_SIDE = {2: 0.2, 3: 0.4}  # least length of a flat side, as a share of the longest: excludes arcs and the caps of a ball
DISC_SHARE = 0.4  # share of the outline of a disc that lies on one circle at least
FIT_TOLERANCE = 1.0  # cells; largest distance of an inlier from the fitted side or circle
TRIALS = 200  # fits through points drawn at random (RANSAC)
POINTS = 1000  # points of an outline that are compared with a fit, at most


def without_frames(fixed: Image, moving: Image) -> tuple[Image, Image]:
    """Mask the frames of both images, which are normalised; an image without a frame is returned unchanged.

    The background of a specimen is masked in both images or in neither: if one image shows little but the specimen's outline,
    it can only be compared with the outline in the other.
    """
    found = [frame(image) for image in (fixed, moving)]
    both = torch.stack([kinds.cpu().flatten(1).amax(1) > 0 for kinds in found]).all(0)
    return _masked(fixed, found[0], both), _masked(moving, found[1], both)


def _masked(image: Image, found: Tensor, grounds: Tensor) -> Image:
    """Mask what `frame` found in `image`; `GROUND` only for those images of the batch where `grounds` (B,) is true."""
    grounds = grounds.to(found.device).view(-1, *[1] * (found.ndim - 1))
    out = ((found == PICTURE_FRAME) | ((found == GROUND) & grounds)).to(image.data)
    if not out.any():
        return image
    content = 1 - F.interpolate(out, size=image.grid.shape, mode="nearest")
    content = content if image.mask is None else content * image.mask
    some = content.flatten(1).any(1).view(-1, *[1] * (content.ndim - 1))  # never mask all that is left of an image
    return replace(image, mask=torch.where(some, content, torch.ones_like(content) if image.mask is None else image.mask))


def frame(image: Image) -> Tensor:
    """Frames of each image: `PICTURE_FRAME` around a picture, `GROUND` around a specimen, 0 elsewhere. (B, 1, *cells)

    The image is normalised. Cells are a coarse grid over it, as `torch.nn.functional.interpolate` with mode "nearest" reads it.
    """
    shape, ndim = image.grid.shape, image.grid.ndim
    cells = [max(1, round(length * min(1, CELLS[ndim] / max(shape)))) for length in shape]
    mean = F.interpolate(image.data, size=cells, mode="area").cpu().numpy()
    exact = F.interpolate(image.data, size=cells, mode="nearest").cpu().numpy()
    found = np.zeros((len(mean), 1, *cells), np.float32)
    for number in range(len(mean)):
        edges = _edges(mean[number])
        regions = {region.tobytes(): region for region in _candidates(mean[number], exact[number])}  # without duplicates
        for region in regions.values():
            if kind := _classified(region, edges):
                part = found[number, 0]
                wide = binary_dilation(region, _box(ndim))  # includes cells that the outline crosses
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
    """Flat regions (*cells) at the border, of its median or the image's lowest value, exactly or within `FLAT_TOLERANCE`."""
    outer = border(mean.shape[1:]).numpy()
    smooth = uniform_filter(mean, (0, *[3] * outer.ndim))  # so that noise does not split a background
    for pixels, tolerance in ((exact, 1e-6), (smooth, FLAT_TOLERANCE)):
        flat = pixels.reshape(len(pixels), -1)
        for value in (np.median(pixels[:, outer], 1), flat.min(1)):
            away = np.abs(pixels - value.reshape(-1, *[1] * outer.ndim)).max(0)
            region = binary_propagation((away < tolerance) & outer, _box(outer.ndim), away < tolerance)
            yield binary_opening(np.pad(region, 2, "edge"), _box(outer.ndim))[(slice(2, -2),) * outer.ndim]


def _classified(region: np.ndarray, edges: np.ndarray) -> int:
    """Classify `region` (*cells): `PICTURE_FRAME`, `GROUND` of a specimen that shows more than its outline, or 0 (no frame)."""
    if not MIN_SHARE < region.mean() < MAX_SHARE:
        return 0
    content, box = ~region, _box(region.ndim)
    inner = ~binary_dilation(region, box, iterations=OUTLINE_INSIDE)
    outline = ~inner & ~binary_erosion(region, box, iterations=OUTLINE_OUTSIDE, border_value=True)
    richness = edges[inner].sum() / max(edges[outline].sum(), 1e-30)
    if richness <= MIN_RICHNESS:
        return 0
    hull = _hull(content)
    if content.sum() > PICTURE_FILL * hull.sum() and _regular(hull):
        return PICTURE_FRAME
    if region.ndim == 2 and richness > SPECIMEN_RICHNESS and (region & ~hull).sum() > OUTSIDE_HULL * region.sum():
        return GROUND
    return 0


def _hull(content: np.ndarray) -> np.ndarray:
    """The cells whose centre lies in the convex hull of the set cells; all cells if the set cells do not span the space."""
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

    The outline is that of the hull, not of the content: dark parts and compression make the outline of the content irregular.
    """
    random, ndim = np.random.default_rng(0), hull.ndim
    outline = np.argwhere(~hull & binary_dilation(hull, generate_binary_structure(ndim, 1))).astype(float)
    points = outline[random.permutation(len(outline))[:POINTS]]
    if len(points) <= ndim + 1:
        return False
    shortest = (MIN_SIDE[ndim] * max(hull.shape)) ** (ndim - 1) * len(points) / len(outline)  # in points
    rests = [points]
    if ndim == 2 and (disc := _inliers(points, ndim + 1, _from_circle, random)).sum() > DISC_SHARE * len(points):
        rests.append(points[~disc])
    return any(len(_without_flat_sides(rest, shortest, random)) < (1 - REGULAR_SHARE) * len(points) for rest in rests)


def _without_flat_sides(points: np.ndarray, shortest: float, random: np.random.Generator) -> np.ndarray:
    """The points of an outline that are not on flat sides of at least `shortest` points."""
    ndim = points.shape[1]
    while len(points) > max(ndim, shortest):
        side = _inliers(points, ndim, _from_plane, random)
        if side.sum() < shortest:
            break
        points = points[~side]
    return points


def _inliers(
    points: np.ndarray,
    needed: int,
    distances: Callable[[np.ndarray, np.ndarray], np.ndarray],
    random: np.random.Generator,
) -> np.ndarray:
    """The inliers among points (N, D) of the best of `TRIALS` fits through `needed` points drawn at random. -> (N,), bool"""
    close = distances(points[random.integers(0, len(points), (TRIALS, needed))], points) <= FIT_TOLERANCE
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
