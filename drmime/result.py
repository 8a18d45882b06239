"""`Registration`: a result with everything needed to use, describe, save, reload and repeat it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from drmime import record, saved
from drmime.deforming import Deforming
from drmime.errors import InputError, shown
from drmime.exchange import Exchange
from drmime.geometry.grid import Grid
from drmime.image.io import write_image, write_text
from drmime.modes import own_defaults
from drmime.optimise import Stop
from drmime.parts import SAVED_TRANSFORMS
from drmime.pictures import compare
from drmime.placing import mapped
from drmime.points.files import landmarks
from drmime.registry import known
from drmime.start.doubts import Doubts
from drmime.start.refine import Candidate
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform, matrix_of
from drmime.transform.warp import overlap
from drmime.verdict.errormap import error_map
from drmime.verdict.evidence import Blocks
from drmime.verdict.judge import NO_VERDICT, Verdict
from drmime.version import __version__
from drmime.warping import Warping


@dataclass(frozen=True, eq=False)
class Registration(Exchange, Warping, Deforming):
    """The transform that maps points of the fixed image to points of the moving image, and how it was found.

    World coordinates are x first, in the units of the spacing, or pixels (0-based, pixel centres) when none was given. In the
    examples `result` shifts x by 2 and y by 1.
    """

    transform: Transform  # maps fixed world points to moving world points
    fixed_grid: Grid
    moving_grid: Grid
    stop: Stop
    similarity: float  # value of the metric: weighted mean over the levels, mean over the last steps
    overlap: float  # share of the fixed image (or its mask) that lies on the moving image (or its mask)
    history: np.ndarray = field(repr=False)  # shape: (steps, levels), finest level first
    settings: Mapping[str, Any] = field(repr=False)  # as used, including defaults and the reduced number of levels
    totals: np.ndarray = field(repr=False)  # shape: (steps,), weighted mean of the levels, less penalties
    candidates: tuple[Candidate, ...] = ()  # starts of the last look; the one used first, others by `evidence`
    peak_ratio: float = math.nan  # agreement of edges at the start, divided by that at the best other place; NaN if unknown
    verdict: Verdict = NO_VERDICT  # is it aligned, how sure, how far off
    doubts: Doubts = field(default_factory=dict)  # why it may be wrong, with figures; empty if the verdict is "aligned"
    blocks: Blocks | None = field(default=None, repr=False)  # errors measured on blocks of the image; None if not measured
    notes: tuple[str, ...] = ()  # what was done differently from what was asked, in sentences
    version: str = __version__  # of drmime when the registration was made

    @property
    def success(self) -> bool:
        """Whether the run ended as planned. Whether the images are aligned is told by `verdict`."""
        return self.stop.success

    @property
    def reasons(self) -> tuple[str, ...]:
        """`doubts` as sentences: what was seen and what to try."""
        return tuple(doubt.sentence(figures) for doubt, figures in self.doubts.items())

    @property
    def matrix(self) -> np.ndarray:
        """moving_from_fixed, homogeneous, world, x first. shape: (D+1, D+1), float64

        Raises:
            InputError: the transform is not one matrix.

        Example:
            >>> result.matrix
            array([[1., 0., 2.],
                   [0., 1., 1.],
                   [0., 0., 1.]])
        """
        return matrix_of(self.transform).numpy().copy()

    @own_defaults
    def deviation(self, points: Any) -> np.ndarray:
        """Standard deviations of the coordinates that `to_moving` gives. (N, D) -> (N, D), world of the moving image, x first

        They tell how precisely the optimum of the similarity is known, from its curvature and its noise (sandwich estimate,
        `drmime.precision`); about 90 % of true errors are within 1.645 of them if the optimum is the right one, which `verdict`
        is about.

        Raises:
            InputError: points of another shape; a registration that did not end as planned, an inverse, or a transform with
                other than a few coefficients: deviations are not known.

        Example:
            >>> bool((result.deviation([[10, 20]]) < 1).all())
            True
        """
        return mapped(self.transform.deviation, self.transform.ndim, points)

    @own_defaults
    def landmark_errors(self, fixed_points: Any, moving_points: Any) -> np.ndarray:
        """Target registration errors: distances of mapped fixed landmarks from the moving ones. (N, D), (N, D) -> (N,)

        They are in world units of the moving image; infinite for a point behind the horizon of a projective transform.

        Args:
            fixed_points, moving_points: pixels of each image, x first, 0-based, pixel centres, row i corresponding to row i; or
                paths of files as `warp_points` reads them.

        Raises:
            InputError: points or files that are none, of another dimension, or of unequal number.

        Example:
            >>> result.landmark_errors([[10, 20], [30, 30]], [[12, 21], [32, 34]])
            array([0., 3.])
        """
        grids = self.fixed_grid, self.moving_grid
        fixed, moving = (
            mapped(MatrixTransform(grid.world_from_index), grid.ndim, landmarks(points, grid.ndim))
            for grid, points in zip(grids, (fixed_points, moving_points), strict=True)
        )
        if len(fixed) != len(moving):
            raise InputError(f"landmarks: expected as many fixed as moving points, got {len(fixed)} and {len(moving)}")
        errors = np.linalg.norm(self.to_moving(fixed) - moving, axis=1)
        return np.where(np.isnan(errors), np.inf, errors)

    @own_defaults
    def inverse(self) -> "Registration":
        """The same alignment with the fixed and the moving image exchanged.

        Example:
            >>> result.inverse().to_moving([[12, 21]])
            array([[10., 20.]])
        """
        starts = tuple(replace(start, matrix=MatrixTransform(start.matrix).inverse().matrix) for start in self.candidates)
        verdict = self.verdict.inverse(self.transform, self.fixed_grid)
        blocks = None if self.blocks is None else self.blocks.inverse(self.transform)
        turned = replace(self, fixed_grid=self.moving_grid, moving_grid=self.fixed_grid, candidates=starts)
        settings = {_other_side(name): value for name, value in self.settings.items() if name != "affine_mask"}
        if settings.get("landmarks") is not None:
            settings["landmarks"] = {_other_side(name): value for name, value in settings["landmarks"].items()}
        return replace(turned, transform=self.transform.inverse(), verdict=verdict, blocks=blocks, settings=settings)

    @own_defaults
    def __matmul__(self, first: "Registration") -> "Registration":
        """The composition: `first` takes image A to image B, this registration takes B to C, and `self @ first` A to C.

        `(c_from_b @ b_from_a).warp(c)` reads C once. The verdict is that of both: the product of the probabilities, and the
        square root of the sum of squared errors.

        Raises:
            InputError: the moving image of `first` does not lie where the fixed image of this one does.

        Example:
            >>> (result @ result).to_moving([[10, 20]])
            array([[14., 22.]])
        """
        if not isinstance(first, Registration):
            return NotImplemented
        if not self.fixed_grid.covers_alike(first.moving_grid):
            raise InputError(
                f"compose: expected the moving image of the right registration ({first.moving_grid}) to lie where the fixed "
                f"image of the left does ({self.fixed_grid}). Compose the transforms alone if their worlds agree."
            )
        transform = self.transform @ first.transform
        failed = [one.stop for one in (first, self) if not one.success]
        return Registration(
            transform=transform,
            fixed_grid=first.fixed_grid,
            moving_grid=self.moving_grid,
            stop=failed[0] if failed else self.stop,
            similarity=math.nan,
            overlap=overlap(transform, first.fixed_grid, self.moving_grid),
            history=np.zeros((0, self.history.shape[1])),
            settings={name: one.settings.get(name) for name, one in (("fixed_spacing", first), ("moving_spacing", self))},
            totals=np.zeros(0),
            verdict=self.verdict.after(first.verdict, self.transform, self.fixed_grid),
            doubts={**first.doubts, **self.doubts},
            notes=("Composed of two registrations.", *first.notes, *self.notes),
        )

    @own_defaults
    def overlay(self, fixed: Any, moving: Any, path: str | Path | None = None, channel_axis: Any = "auto") -> np.ndarray:
        """A picture that shows the alignment, 8-bit RGB; written to `path` if one is given.

        Above, blends of the fixed image (magenta) and the moving one (green): what is aligned turns gray. Below,
        checkerboards of both. Left, before: the moving image centre on centre without rotation, whatever the start was.
        Right, after: the result. At the bottom, if it was measured, the remaining error over the fixed image: from blue (none)
        by yellow to red (3 % of the diagonal and more), gray where nothing is known. Volumes are shown as three middle slices.

        Raises:
            InputError: images of other shapes than the registered ones, or a path that cannot be written.

        Example:
            >>> result.overlay(fixed, moving).dtype
            dtype('uint8')
        """
        picture = compare(fixed, moving, self.transform, self.fixed_grid, self.moving_grid, channel_axis, self.blocks)
        if path is not None:
            write_image(path, picture)
        return picture

    @own_defaults
    def error_map(self) -> np.ndarray:
        """The remaining error, in pixels of the moving image, at each pixel of the fixed image; NaN where nothing is known.

        Blocks of both images are compared over small shifts: errors above 6 % of the diagonal are not seen. The array has the
        fixed image's shape, float32.

        Raises:
            InputError: the errors were not measured, since the run did not end as planned.

        Example:
            >>> bool(np.nanmedian(result.error_map()) < 1)
            True
        """
        if self.blocks is None:
            raise InputError("error_map: expected a registration that ended as planned; the errors of this one are not known")
        return error_map(self.blocks, self.fixed_grid, self.moving_grid)

    @own_defaults
    def describe(self) -> str:
        """The transform as text: shift of the fixed image's centre, rotation, scales, perspective.

        Example:
            >>> result.describe().partition(";")[0]
            "fixed to moving: shift of the fixed image's centre (2.000, 1.000)"
        """
        return self.transform.describe(self.fixed_grid)

    def __str__(self) -> str:
        scores = f"similarity {self.similarity:.4g}, overlap {self.overlap:.0%}"
        said = [f"verdict: {self.verdict}", *(f"- {reason}" for reason in self.reasons)]
        return "\n".join([*said, self.stop.value, *self.notes, *self._start_in_words(), scores, self.describe()])

    def _start_in_words(self) -> list[str]:
        if not self.candidates:
            return []
        best, count = self.candidates[0], len(self.candidates)
        chosen = "" if count == 1 else f", the best of {count}"
        known = math.isfinite(self.peak_ratio)
        agreed = f"; edges agree there {self.peak_ratio:.2f} times as well as at the best other place" if known else ""
        return [f"start: {best.source}{chosen}{agreed}"]

    @own_defaults
    def save(self, path: str | Path) -> None:
        """Write everything to a JSON file, which `load` and other programs can read.

        Raises:
            InputError: the path cannot be written, or the transform is of a kind that `load` does not know.

        Example:
            >>> result.save("result.json")
            >>> Registration.load("result.json").to_moving([[10, 20]])
            array([[12., 21.]])
        """
        transform = self.transform.state()
        known("kind of transform", transform["kind"], SAVED_TRANSFORMS)
        state = record.state(self, transform)
        text = json.dumps(state, indent=1, allow_nan=False) + "\n"
        write_text(Path(path), text)

    @classmethod
    @own_defaults
    def load(cls, path: str | Path) -> "Registration":
        """Read what `save` wrote.

        Raises:
            InputError: no such file, or not a saved registration.

        Example:
            >>> result.save("result.json")
            >>> Registration.load("result.json").stop is result.stop
            True
        """
        state = saved.read(path, "a registration saved by drmime", {"format": str}, record.KINDS)
        try:
            return cls(**record.fields(state))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"{path}: not a registration saved by drmime ({shown(str(error))})") from error


def _other_side(name: str) -> str:
    """The name of an option of the other image: "moving_mask" for "fixed_mask", and the reverse."""
    side, dash, rest = name.partition("_")
    return {"fixed": "moving", "moving": "fixed"}.get(side, side) + dash + rest
