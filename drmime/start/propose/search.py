"""`Search`: the global search over all rotations and shifts and some scales, used by `start="auto"`.

Both images are reduced to some hundred pixels. For each pose (rotation, scale, perhaps a reflection) the moving image is
resampled on a canvas in that pose, and a map of scores gives its agreement with the fixed image at every shift. The highest
peaks of all maps, distinct from each other, are the candidates.

Poses of several pairs are scored together if their canvases have one shape. Each pair has the candidates that it has alone.
"""

import copy
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from drmime.errors import InputError, number, numbers, switch, whole
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import homogeneous, translation
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.registry import build
from drmime.start.propose.angle import AngleMaps
from drmime.start.propose.base import THIN, directions, distinct_each, peaks, pyramids, reduced, stacked
from drmime.start.propose.cross import CrossMaps
from drmime.start.propose.poses import angles, mirror, nudges, planar, possible, rotations, thin_axis
from drmime.start.propose.scoring import Bounds, Maps, Peaks, Rows, Tell, best_first, promising

SIZE = {2: 192, 3: 32}  # pixels along the fixed image's longest side
STEP = {2: 5.625, 3: 24.0}  # degrees between rotations
SCALES = (0.64, 0.8, 1.0, 1.25, 1.56)  # tried at each rotation
PEAKS = 3  # most peaks of each pose's map
COARSE = {2: 64, 3: 20}  # pixels along the fixed image's longest side in a first pass over all poses; none if smaller
BETTER = {2: 0.12, 3: 0.05}  # share of the poses that are scored again at full size
TOGETHER = 2**18  # pixels of canvases processed at once on a CPU; more do not fit its cache
TOGETHER_ELSEWHERE = 2**23  # on other devices; edge maps of them take about 1 GB of memory in 2-D, 2.6 GB in 3-D
ALIKE = 1.1  # ratio of sizes up to which images are taken to have the same scale
LARGEST = 2.5  # longest moving side by longest fixed side, above which both images get fewer pixels
FEWEST = 16  # pixels along the fixed image's longest side, below which a scale is not tried


SCORES: dict[str, Callable[..., Maps]] = {"angle": AngleMaps, "cross": CrossMaps}


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
        if "rows" not in inspect.signature(self.maps.maps).parameters:
            raise InputError(f"score: expected a method maps(moving, rows), got one of {score!r} without rows")
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
        return self.many([fixed], [moving], tell)[0]

    def many(self, fixed: Sequence[Image], moving: Sequence[Image], tell: Tell = lambda share: None) -> list[Tensor]:
        """The candidates of several pairs, each as `search(fixed, moving)` gives them for one. shape: (K, D+1, D+1) each

        All fixed images (B = 1) have one grid and number of channels, and all or none a mask; likewise the moving ones.
        """
        found = self.peaks(fixed, moving, tell)
        return distinct_each([one.matrix for one in found], fixed[0].grid, self.count, self.apart)

    def peaks(self, fixed: Sequence[Image], moving: Sequence[Image], tell: Tell = lambda share: None) -> list[Peaks]:
        """The highest peaks of the best poses' maps of each pair, best first.

        Every pose is scored at fewer pixels first, which costs a fraction; the better ones are scored again at full size.
        """
        here, there = fixed[0].grid, moving[0].grid
        poses, longest = self._poses(here, there), float(here.extent.max())
        spacing = max(longest / (self.size or SIZE[here.ndim]), float(here.spacing.min()))
        every = {scale: possible(poses, scale, here, there, self.least_overlap) for scale in self._scales(here, there)}
        chosen: list[Mapping[float, Sequence[int]]] = [every] * len(fixed)
        levels = pyramids(fixed), pyramids(moving)
        coarse = 2 * spacing if here.ndim == 2 else longest / COARSE[here.ndim]
        if round(longest / coarse) >= COARSE[here.ndim] and coarse > 1.1 * spacing:
            found = self._at(*levels, coarse, poses, chosen, 1, tell)
            chosen = [promising(one, BETTER[here.ndim], every) for one in found]
        found = self._at(*levels, spacing, poses, chosen, PEAKS, tell)
        for halving in range(1, 1 + (self.refine if self.rotate else 0)):
            near = nudges(here.ndim, math.radians(self.step or STEP[here.ndim]) / 2**halving)
            best = [one.pose[: self.count] for one in found]
            chosen = self._next(found, len(poses), len(near))
            poses = torch.cat([poses, (poses[torch.cat(best), None] @ near).flatten(0, 1)])
            found = best_first([*found, *self._at(*levels, spacing, poses, chosen, 1, tell)], len(found))
        return found

    def _next(self, found: Sequence[Peaks], first: int, each: int) -> list[Mapping[float, Sequence[int]]]:
        """Numbers of poses, from `first` on, by scale for each pair: `each` for one of its best peaks after the other."""
        numbers_ = itertools.count(first)
        chosen: list[Mapping[float, Sequence[int]]] = []
        for one in found:
            own: dict[float, list[int]] = {}
            for scale in one.scale[: self.count].tolist():
                own.setdefault(scale, []).extend(itertools.islice(numbers_, each))
            chosen.append(own)
        return chosen

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
        fixed: Sequence[Pyramid],
        moving: Sequence[Pyramid],
        spacing: float,
        poses: Tensor,
        chosen: Sequence[Mapping[float, Sequence[int]]],
        count: int,
        tell: Tell,
    ) -> list[Peaks]:
        """For each pair at most `count` peaks of each of its chosen poses (`chosen`: numbers by scale), best first.

        Working pixels have world length `spacing`, or longer if the moving images are far larger than the fixed ones.
        """
        scales = sorted({scale for own in chosen for scale, numbers_ in own.items() if numbers_})
        longer = _longer(fixed[0].levels[0].grid, moving[0].levels[0].grid, spacing, scales)
        described = {factor: self.maps.describe(reduced(fixed, spacing * factor)) for factor in set(longer.values())}
        bounds, ndim = Bounds(poses), poses.shape[-1]
        nothing = torch.zeros(0, dtype=torch.float64)
        found = [Peaks(torch.zeros(0), stacked([], ndim), nothing, nothing.long(), nothing.long())]
        done, total = 0, sum(len(numbers_) for own in chosen for numbers_ in own.values())
        for scale in scales:
            pairs = [pair for pair, own in enumerate(chosen) if own.get(scale)]
            asked = [chosen[pair][scale] for pair in pairs]
            length = spacing * longer[scale] * scale
            here, there = described[longer[scale]], reduced([moving[pair] for pair in pairs], length)
            wide = sorted((there.grid.extent / length).tolist())[ndim - 2]  # in 3-D the middle one
            if wide < THIN or max(here.grid.shape) < FEWEST:
                done += sum(map(len, asked))
                continue
            there = self.maps.describe(there)
            for shape, members in bounds.by_shape(asked, scale, here.grid, there.grid).items():
                some = torch.tensor([number_ for member in members for number_ in asked[member]])
                own = torch.tensor([place for place, member in enumerate(members) for _ in asked[member]])
                numbers_ = torch.tensor([pairs[member] for member in members])
                images = _those(here, numbers_), _those(there, torch.tensor(members))
                for past, peaks_ in self._at_scale(*images, shape, Rows(scale, scale * poses[some], some, own), count):
                    found.append(peaks_._replace(pair=numbers_[peaks_.pair]))
                    tell((done + past) / total)
                done += len(some)
        return best_first(found, len(fixed))

    def _scales(self, fixed: Grid, moving: Grid) -> list[float]:
        """All scales to try. A single scale is relative to the world, whose scale is known then."""
        ratio = float((moving.extent.prod() / fixed.extent.prod()) ** (1 / fixed.ndim))
        bases = [1.0] if len(self.scales) == 1 or 1 / ALIKE < ratio < ALIKE else [1.0, ratio]
        return sorted({float(f"{base * scale:.5g}") for base, scale in itertools.product(bases, self.scales)})

    def _at_scale(
        self, here: Image, there: Image, shape: tuple[int, ...], rows: Rows, count: int
    ) -> Iterator[tuple[int, Peaks]]:
        """Yield, chunk by chunk, how many of some poses at one scale are done and the chunk's peaks.

        `here` and `there`: the fixed and the moving images, reduced and described. `shape`: of the canvas.
        """
        ndim, device = here.grid.ndim, here.data.device
        maps = copy.copy(self.maps)  # it keeps the fixed spectra: a copy, since two threads may use one search
        maps.begin(here, there, shape, self.least_overlap)
        first, apart = torch.tensor(maps.first), max(3, round(0.04 * max(here.grid.shape)))
        canvas = Grid.regular(shape, here.grid.spacing.flip(0).tolist())
        from_canvas = homogeneous(rows.linear @ directions(here.grid), there.grid.centre) @ translation(-canvas.centre)
        points, most = canvas.world_points().to(there.data), here.valid.flatten(1).sum(1)
        together = max(1, (TOGETHER if device.type == "cpu" else TOGETHER_ELSEWHERE) // math.prod(shape))
        for start in range(0, len(rows.pose), together):
            some = slice(start, start + together)
            pair = rows.pair[some].to(device) if len(here.data) > 1 else None
            source = there.copies(len(from_canvas[some])) if pair is None else there.chosen(pair)
            score, overlap = maps.maps(self._read(source, canvas, points, from_canvas[some], rows.linear[some]), pair)
            # the largest overlap of each pose, at most the fixed image's valid pixels
            enough = self.least_overlap * overlap.flatten(1).amax(1).minimum(most if pair is None else most[pair])
            score = torch.where(overlap >= enough.view(-1, *[1] * ndim).clamp(min=1), score, -math.inf)
            row, places, heights = peaks(score, count, apart)
            shifts = -(places + first).flip(-1).double()
            back = homogeneous(torch.eye(ndim).double().expand(len(row), -1, -1), shifts)
            row += start
            matrices = from_canvas[row] @ canvas.world_from_index @ back @ here.grid.index_from_world
            scales = torch.full((len(row),), rows.scale, dtype=torch.float64)
            done = min(start + together, len(rows.pose))
            yield done, Peaks(heights, matrices, scales, rows.pose[row], rows.pair[row])

    def _read(self, source: Image, canvas: Grid, points: Tensor, from_canvas: Tensor, linear: Tensor) -> Image:
        """Described moving images (B = P) read at the canvas's `points` (N, D), in one pose each. -> (P, C, *canvas.shape)"""
        count, shape = len(linear), canvas.shape
        values, inside = source.at(points.expand(count, -1, -1), from_canvas)
        values = self.maps.turn(values, linear[:, None]) * inside[..., None]
        return Image(values.transpose(1, 2).reshape(count, -1, *shape), canvas, inside.view(count, 1, *shape))


def _longer(fixed: Grid, moving: Grid, spacing: float, scales: Sequence[float]) -> dict[float, float]:
    """By which factor working pixels are longer than `spacing` at each scale: the larger image has a limited number of them."""
    finest = float(fixed.spacing.min()) / spacing
    ratios = {scale: float(moving.extent.max()) / (scale * float(fixed.extent.max())) for scale in scales}
    return {scale: max(1.0, ratio / LARGEST) * max(finest, min(1.0, ratio * LARGEST)) for scale, ratio in ratios.items()}


def _those(image: Image, numbers_: Tensor) -> Image:
    """The images of these numbers, distinct and in order; the same object if they are all."""
    return image if len(numbers_) == len(image.data) else image.chosen(numbers_.to(image.data.device))
