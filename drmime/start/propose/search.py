"""`Search`: the global search over all rotations and shifts and some scales, used by `start="auto"`.

Both images are reduced to some hundred pixels. For each pose (rotation, scale, perhaps a reflection) the moving image is
resampled on a canvas in that pose, and a map of scores gives its agreement with the fixed image at every shift. The highest
peaks of all maps, distinct from each other, are the candidates.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from drmime.errors import InputError, number, numbers, switch, whole
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import homogeneous, translation
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.registry import build
from drmime.start.propose.angle import AngleMaps
from drmime.start.propose.base import THIN, directions, distinct, peaks, pyramid, reduced, stacked
from drmime.start.propose.cross import CrossMaps
from drmime.start.propose.poses import angles, mirror, nudges, planar, possible, rotations, thin_axis

SIZE = {2: 192, 3: 32}  # pixels along the fixed image's longest side
STEP = {2: 5.625, 3: 24.0}  # degrees between rotations
SCALES = (0.64, 0.8, 1.0, 1.25, 1.56)  # tried at each rotation
PEAKS = 3  # most peaks of each pose's map
COARSE = {2: 64, 3: 20}  # pixels along the fixed image's longest side in a first pass over all poses; none if smaller
BETTER = {2: 0.12, 3: 0.05}  # share of the poses that are scored again at full size
TOGETHER = 2**18  # pixels of canvases processed at once; more do not fit a processor's cache
CORNERS = {2: 1.0, 3: 0.81}  # share of the moving diagonal that the canvas holds; a rotated cube loses 1 % of its volume
ALIKE = 1.1  # ratio of sizes up to which images are taken to have the same scale
LARGEST = 2.5  # longest moving side by longest fixed side, above which both images get fewer pixels
FEWEST = 16  # pixels along the fixed image's longest side, below which a scale is not tried


class Maps(Protocol):
    """A score map over all shifts: the methods that `Search` needs."""

    first: list[int]  # the shift, in pixels and array order, of a map's first entry

    def describe(self, image: Image) -> Image:
        """The image's channels that are compared, such as orientation tensors."""

    def turn(self, moving: Tensor, jacobian: Tensor) -> Tensor:
        """See `drmime.compare.Similarity.turn`."""

    def begin(self, fixed: Image, moving: Image, shape: Sequence[int], least_overlap: float) -> None:
        """Prepare for `maps`. Both images are described, B = 1, the moving one not rotated; canvases will have `shape`.

        Maps must be valid at shifts where at least the share `least_overlap` of the smaller image lies on the other one.
        """

    def maps(self, moving: Image) -> tuple[Tensor, Tensor]:
        """Score and overlap in pixels at every shift, for canvases (P, C, *shape). shape: (P, *shifts) each"""


SCORES: dict[str, Callable[..., Maps]] = {"angle": AngleMaps, "cross": CrossMaps}


Tell = Callable[[float], None]  # called with the share of a pass that is done


class Peaks(NamedTuple):
    """Peaks of the score maps."""

    score: Tensor  # shape: (N,)
    matrix: Tensor  # shape: (N, D+1, D+1), moving_from_fixed, world
    scale: Tensor  # shape: (N,)
    pose: Tensor  # shape: (N,), number of the pose


class Search:
    """The best poses of the moving image on the fixed one, by a map of scores for each rotation and scale."""

    def __init__(
        self,
        score: str | Mapping[str, Any] | Maps = "angle",
        size: int | None = None,
        step: float | None = None,
        scales: Sequence[float] = SCALES,
        rotate: bool = True,
        mirrored: bool = False,
        largest_rotation: float = 180,
        aspects: Sequence[float] = (),
        least_overlap: float = 0.35,
        count: int = 10,
        apart: float = 0.08,
        refine: int = 0,
    ) -> None:
        """
        Args:
            score: what is compared: "angle" (gradient directions) or "cross" (mutual information of intensities), or a
                mapping with options such as `{"name": "cross", "bins": 8}`.
            size: pixels along the fixed image's longest side; by default 192 in two dimensions and 32 in three.
            step: degrees between rotations; by default 5.6 in two dimensions and 24 in three.
            scales: ratios of a world length in the moving image to that in the fixed image, tried at each rotation. If images
                differ in size by more than 10 %, each times the ratio of their sizes is tried as well. A single scale is
                that of the world, and tried alone.
            rotate: False: only shifts and scales.
            mirrored: search reflected poses instead of proper ones.
            largest_rotation: degrees; larger rotations are not tried.
            aspects: in two dimensions, ratios of pixel sides of one image relative to the other; each is tried along either
                axis of either image, and no pose is without one.
            least_overlap: share of the smaller image that must lie on the other one.
            count: most candidates returned.
            apart: share of the fixed image's diagonal; of candidates with smaller mean corner distance only the best is kept.
            refine: rounds in which rotations next to the best `count` are tried, each at half the angle of the one before.

        Raises:
            InputError: a number out of its range.
        """
        self.maps: Maps = build("score", SCORES, score)
        if not all(callable(getattr(self.maps, method, None)) for method in ("describe", "turn", "begin", "maps")):
            raise InputError(f"score: expected one of {', '.join(SCORES)} or an object like them, got {score!r}")
        self.size = size if size is None else whole("size", size, 16, 1024)
        self.step = step if step is None else number("step", step, 0.1, 360)
        self.scales = [float(s) for s in numbers("scales", scales, "positive numbers").ravel()]
        if not self.scales or not all(0.01 <= s <= 100 for s in self.scales):
            raise InputError(f"scales: expected numbers from 0.01 to 100, got {scales!r}")
        self.rotate, self.mirrored = switch("rotate", rotate), switch("mirrored", mirrored)
        self.largest_rotation = number("largest_rotation", largest_rotation, 0, 180 + 1e-9)
        self.aspects = [number("aspects", float(a), 1, 100) for a in numbers("aspects", aspects, "numbers above 1").ravel()]
        self.least_overlap = number("least_overlap", least_overlap, 0, 1)
        self.count, self.apart = whole("count", count, 1, 10_000), number("apart", apart, 0, 1)
        self.refine = whole("refine", refine, 0, 10)

    def __call__(self, fixed: Image, moving: Image, tell: Tell = lambda share: None) -> Tensor:
        """Candidates, moving_from_fixed in world coordinates, best first. shape: (K, D+1, D+1), float64

        K is 0 if no map has a peak, as on images without structure. `tell` is called with the share of a pass that is done.
        """
        return distinct(self.peaks(fixed, moving, tell).matrix, fixed.grid, self.count, self.apart)

    def peaks(self, fixed: Image, moving: Image, tell: Tell = lambda share: None) -> Peaks:
        """The highest peaks of the best poses' maps, best first.

        Every pose is scored at fewer pixels first, which costs a fraction; the better ones are scored again at full size.
        """
        ndim = fixed.grid.ndim
        poses = self._poses(fixed.grid, moving.grid)
        longest = float(fixed.grid.extent.max())
        spacing = max(longest / (self.size or SIZE[ndim]), float(fixed.grid.spacing.min()))
        chosen = {
            scale: possible(poses, scale, fixed.grid, moving.grid, self.least_overlap)
            for scale in self._scales(fixed.grid, moving.grid)
        }
        here, there = pyramid(fixed), pyramid(moving)
        coarse = 2 * spacing if ndim == 2 else longest / COARSE[ndim]
        if round(longest / coarse) >= COARSE[ndim] and coarse > 1.1 * spacing:
            found = self._at(here, there, coarse, poses, chosen, 1, tell)
            seen = found.scale.tolist()  # a thin image may be too small for the first pass
            chosen = _promising(found, BETTER[ndim]) | {
                scale: numbers_ for scale, numbers_ in chosen.items() if scale not in seen
            }
        found = self._at(here, there, spacing, poses, chosen, PEAKS, tell)
        for halving in range(1, 1 + (self.refine if self.rotate else 0)):
            near = nudges(ndim, math.radians(self.step or STEP[ndim]) / 2**halving)
            chosen, first = {}, len(poses)
            for scale in found.scale[: self.count].tolist():
                chosen.setdefault(scale, []).extend(range(first, first + len(near)))
                first += len(near)
            poses = torch.cat([poses, (poses[found.pose[: self.count], None] @ near).flatten(0, 1)])
            found = _sorted([found, self._at(here, there, spacing, poses, chosen, 1, tell)])
        return found

    def _poses(self, fixed: Grid, moving: Grid) -> Tensor:
        """Linear maps from the fixed world to the moving one, without their scale. shape: (R, D, D), float64"""
        ndim = fixed.ndim
        if not self.rotate:
            poses = torch.eye(ndim).double()[None]
        elif ndim == 3 and (normal := thin_axis(fixed)) is not None and normal == thin_axis(moving):
            thin, wide = sorted(fixed.extent.tolist())[:2]
            poses = planar(directions(fixed)[:, normal], (self.step or STEP[3]) / 3, math.atan(thin / wide))
        else:
            poses = rotations(ndim, self.step or STEP[ndim])
        poses = poses[angles(poses) <= math.radians(self.largest_rotation) + 1e-9]
        poses = poses @ mirror(ndim) if self.mirrored else poses
        if not self.aspects:
            return poses
        if ndim != 2:
            raise InputError(f"aspects: expected none in three dimensions, got {self.aspects}")
        ratios = torch.tensor([ratio for aspect in self.aspects for ratio in (aspect, 1 / aspect)]).double().sqrt()
        stretches = torch.diag_embed(torch.stack([ratios, 1 / ratios], -1))[:, None]
        return torch.cat([stretches @ poses, poses @ stretches]).flatten(0, 1)

    def _at(
        self,
        fixed: Pyramid,
        moving: Pyramid,
        spacing: float,
        poses: Tensor,
        chosen: Mapping[float, Sequence[int]],
        count: int,
        tell: Tell,
    ) -> Peaks:
        """At most `count` peaks of each chosen pose (`chosen`: numbers of poses by scale), best first.

        Working pixels have world length `spacing`, or longer if the moving image is far larger than the fixed one.
        """
        sides = [float(levels.levels[0].grid.extent.max()) for levels in (fixed, moving)]
        finest = float(fixed.levels[0].grid.spacing.min()) / spacing
        ratios = {scale: sides[1] / (scale * sides[0]) for scale in chosen}
        longer = {scale: max(1.0, ratio / LARGEST) * max(finest, min(1.0, ratio * LARGEST)) for scale, ratio in ratios.items()}
        described = {factor: self.maps.describe(reduced([fixed], spacing * factor)) for factor in set(longer.values())}
        found: list[Peaks] = []
        done, total = 0, sum(map(len, chosen.values()))
        for scale, numbers_ in chosen.items():
            length = spacing * longer[scale]
            here, there = described[longer[scale]], reduced([moving], length * scale)
            wide = sorted((there.grid.extent / (length * scale)).tolist())[there.grid.ndim - 2]  # in 3-D the middle one
            if numbers_ and wide >= THIN and max(here.grid.shape) >= FEWEST:
                for past, peaks_ in self._at_scale(here, self.maps.describe(there), scale, poses[numbers_], count):
                    found.append(peaks_._replace(pose=torch.tensor(numbers_)[peaks_.pose]))
                    tell((done + past) / total)
            done += len(numbers_)
        ndim = len(poses[0])
        nothing = Peaks(torch.zeros(0), stacked([], ndim), torch.zeros(0, dtype=torch.float64), torch.zeros(0).long())
        return _sorted([nothing, *found])

    def _scales(self, fixed: Grid, moving: Grid) -> list[float]:
        """All scales to try. A single scale is relative to the world, whose scale is known then."""
        ratio = float((moving.extent.prod() / fixed.extent.prod()) ** (1 / fixed.ndim))
        bases = [1.0] if len(self.scales) == 1 or 1 / ALIKE < ratio < ALIKE else [1.0, ratio]
        return sorted({float(f"{base * scale:.5g}") for base, scale in itertools.product(bases, self.scales)})

    def _at_scale(self, here: Image, there: Image, scale: float, poses: Tensor, count: int) -> Iterator[tuple[int, Peaks]]:
        """Yield, chunk by chunk, how many poses at one scale are done and the chunk's peaks.

        `here` and `there`: the fixed and the moving image, reduced and described.
        """
        ndim = here.grid.ndim
        # the canvas holds the moving image at every rotation
        sides = (torch.linalg.inv(poses).abs() @ there.grid.extent / scale).amax(0)
        longest, diagonal = float(there.grid.extent.max()), float(there.grid.extent.norm())
        stretch = float(1 / torch.linalg.svdvals(poses).amin())
        sides = sides.clamp(max=max(longest, CORNERS[ndim] * diagonal) / scale * stretch)
        shape = tuple(math.ceil(round(count, 6)) for count in (sides / here.grid.spacing).flip(0).tolist())
        maps = copy.copy(self.maps)  # it keeps the fixed spectra: a copy, since two threads may use one search
        maps.begin(here, there, shape, self.least_overlap)
        axes, first = directions(here.grid), torch.tensor(maps.first)
        apart = max(3, round(0.04 * max(here.grid.shape)))
        canvas = Grid.regular(shape, here.grid.spacing.flip(0).tolist())
        middle = translation(-canvas.centre)
        together = max(1, TOGETHER // math.prod(shape))
        for start, some in zip(range(0, len(poses), together), poses.split(together), strict=True):
            linear = scale * some  # moving world by fixed world
            from_canvas = homogeneous(linear @ axes, there.grid.centre) @ middle
            score, overlap = maps.maps(self._read(there, canvas, from_canvas, linear))
            enough = self.least_overlap * self._least(here, overlap)
            score = torch.where(overlap >= enough.view(-1, *[1] * ndim).clamp(min=1), score, -math.inf)
            pose, places, heights = peaks(score, count, apart)
            shifts = -(places + first).flip(-1).double()
            back = homogeneous(torch.eye(ndim).double().expand(len(pose), -1, -1), shifts)
            matrices = from_canvas[pose] @ canvas.world_from_index @ back @ here.grid.index_from_world
            yield (
                start + len(some),
                Peaks(heights, matrices, torch.full((len(pose),), scale, dtype=torch.float64), start + pose),
            )

    def _read(self, there: Image, canvas: Grid, from_canvas: Tensor, linear: Tensor) -> Image:
        """The described moving image resampled on the canvas in some poses. -> (P, C, *canvas.shape)"""
        count, shape = len(linear), canvas.shape
        points = canvas.world_points().to(there.data)
        values, inside = there.copies(count).at(points.expand(count, -1, -1), from_canvas)
        values = self.maps.turn(values, linear[:, None]) * inside[..., None]
        return Image(values.transpose(1, 2).reshape(count, -1, *shape), canvas, inside.view(count, 1, *shape))

    def _least(self, here: Image, overlap: Tensor) -> Tensor:
        """The largest overlap of each pose, at most the fixed image's valid pixels. shape: (P,)"""
        whole_fixed = float(here.mask.sum()) if here.mask is not None else math.prod(here.grid.shape)
        return overlap.flatten(1).amax(1).clamp(max=whole_fixed)


def _sorted(peaks_: Sequence[Peaks]) -> Peaks:
    """Several `Peaks` as one, best first."""
    joined = Peaks(*(torch.cat(parts) for parts in zip(*peaks_, strict=True)))
    order = joined.score.argsort(descending=True, stable=True)
    return Peaks(*(part[order] for part in joined))


def _promising(found: Peaks, share: float) -> dict[float, list[int]]:
    """The better `share` of the poses, as numbers by scale; `found` holds one peak of each pose."""
    chosen: dict[float, list[int]] = {}
    best = slice(max(1, math.ceil(share * len(found.score))))
    for scale, pose in zip(found.scale[best].tolist(), found.pose[best].tolist(), strict=True):
        chosen.setdefault(scale, []).append(pose)
    return chosen
