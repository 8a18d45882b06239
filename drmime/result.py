"""`Registration`: everything needed to use, read, save, reload and repeat a result."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime import record, saved
from drmime.errors import InputError, numbers, shown
from drmime.geometry.grid import Grid, linear_part
from drmime.geometry.matrices import mapped
from drmime.image.io import write_image, write_text
from drmime.modes import own_defaults
from drmime.optimise import Stop
from drmime.pictures import compare
from drmime.start.doubts import Doubts
from drmime.start.refine import Candidate
from drmime.transform.warp import resample
from drmime.version import __version__

FORMAT = "drmime registration 2"


@dataclass(frozen=True, eq=False)
class Registration:
    """The transform that takes points of the fixed image to points of the moving image, and how it was found.

    World coordinates are x first, in the units of the spacing, or pixels (0-based, pixel centres) when none was given.
    """

    matrix: np.ndarray  # shape: (D+1, D+1), float64; moving_from_fixed, homogeneous, world
    fixed_grid: Grid
    moving_grid: Grid
    stop: Stop
    similarity: float  # of the metric, weighted mean of the levels, mean of the last steps
    overlap: float  # share of the fixed image (or its mask) that has a moving partner
    history: np.ndarray = field(repr=False)  # shape: (steps, levels), finest level first
    settings: Mapping[str, Any] = field(repr=False)  # as used, after defaults and caps
    totals: np.ndarray = field(repr=False)  # shape: (steps,), weighted mean of the levels
    candidates: tuple[Candidate, ...] = ()  # the starts of the last look, the one used first, others by `evidence`
    peak_ratio: float = math.nan  # agreement of edges at the start by that at the best other place; NaN where not counted
    doubts: Doubts = field(default_factory=dict)  # why it may be wrong, with figures; none found where it is empty
    notes: tuple[str, ...] = ()  # what was done differently from what was asked, in sentences
    generators: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)  # (D+1, D+1) each, of the fixed frame
    coefficients: Mapping[str, float] = field(default_factory=dict, repr=False)  # of the generators; none in an inverse
    version: str = __version__  # of the drmime that made it

    @property
    def success(self) -> bool:
        """Whether the run ended as planned. It does not promise that the images are aligned: look at `overlay`."""
        return self.stop.success

    @property
    def reasons(self) -> tuple[str, ...]:
        """`doubts` in sentences."""
        return tuple(doubt.sentence(figures) for doubt, figures in self.doubts.items())

    @property
    @own_defaults
    def pixel_matrix(self) -> np.ndarray:
        """moving_from_fixed in pixels, x first: what `matrix` is when there is no spacing. shape: (D+1, D+1)"""
        world = torch.as_tensor(self.matrix)
        return (self.moving_grid.index_from_world @ world @ self.fixed_grid.world_from_index).numpy()

    @own_defaults
    def to_moving(self, points: Any) -> np.ndarray:
        """Points of the fixed image to where they lie in the moving image. (N, D) -> (N, D), world, x first

        A point that a projective transform sends behind the horizon becomes NaN.
        """
        return _map(self.matrix, points)

    @own_defaults
    def to_fixed(self, points: Any) -> np.ndarray:
        """Points of the moving image to where they lie in the fixed image. (N, D) -> (N, D), world, x first"""
        return _map(np.linalg.inv(self.matrix), points)

    @own_defaults
    def inverse(self) -> "Registration":
        """The same alignment seen from the other side: fixed and moving change places."""
        starts = tuple(replace(start, matrix=torch.as_tensor(_inverse(start.matrix.numpy()))) for start in self.candidates)
        matrix = _inverse(self.matrix)
        turned = replace(self, matrix=matrix, fixed_grid=self.moving_grid, moving_grid=self.fixed_grid, candidates=starts)
        return replace(turned, generators={}, coefficients={})

    @own_defaults
    def warp(
        self, moving: Any, interpolation: str = "linear", fill: float = 0, channel_axis: int | str | None = "auto"
    ) -> np.ndarray:
        """The moving image on the grid of the fixed one.

        Args:
            moving: an image as `register` takes it, of the registered moving image's spatial shape; any channels, any dtype.
            interpolation: "nearest", "linear" or "cubic"; values never leave the range of the image.
            fill: value where the moving image has no pixel.
            channel_axis: as in `register`, of this image.

        Returns:
            an array of the fixed image's shape, with dtype and channel axis of `moving`.

        Raises:
            InputError: another shape, an unknown interpolation, a fill that the dtype cannot hold.
        """
        return resample(moving, self.pixel_matrix, self.moving_grid, self.fixed_grid, interpolation, fill, channel_axis)

    @own_defaults
    def warp_labels(self, labels: Any, fill: int = 0) -> np.ndarray:
        """A label map of the moving image on the grid of the fixed one; labels are never blended, there are no channels."""
        grids = self.moving_grid, self.fixed_grid
        return resample(labels, self.pixel_matrix, *grids, "nearest", fill, channel_axis=None, labels=True)

    @own_defaults
    def overlay(self, fixed: Any, moving: Any, path: str | Path | None = None, channel_axis: Any = "auto") -> np.ndarray:
        """A picture to judge the alignment by, 8-bit RGB; written to `path` if one is given.

        Above, blends of the fixed image (magenta) and the moving one (green): what is aligned turns gray. Below,
        checkerboards of both. Left, before: the moving image centre on centre, not turned, whatever the initial transform
        was. Right, after. Volumes are shown as three middle slices.

        Raises:
            InputError: images of other shapes than the registered ones, or a place that cannot be written.
        """
        picture = compare(fixed, moving, self.pixel_matrix, self.fixed_grid, self.moving_grid, channel_axis)
        if path is not None:
            write_image(path, picture)
        return picture

    @own_defaults
    def describe(self) -> str:
        """The matrix in words: shift of the image centre, rotation, scales, shear, perspective."""
        return _in_words(self)

    def __str__(self) -> str:
        scores = f"similarity {self.similarity:.4g}, overlap {self.overlap:.0%}"
        lines = [self.stop.value, *self.reasons, *self.notes, *self._start_in_words(), scores, self.describe()]
        return "\n".join(lines)

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
            InputError: the place cannot be written.
        """
        state = {
            "format": FORMAT,
            "direction": "matrix takes homogeneous fixed world points (x first) to moving world points",
            "matrix": self.matrix.tolist(),
            "pixel_matrix": self.pixel_matrix.tolist(),
            "description": self.describe(),
            "fixed": record.grid_state(self.fixed_grid),
            "moving": record.grid_state(self.moving_grid),
            "stop": self.stop.name,
            "reason": self.stop.value,
            "similarity": record.null(self.similarity),
            "overlap": record.null(self.overlap),
            "version": self.version,
            "peak_ratio": record.null(self.peak_ratio),
            "doubts": record.doubts_state(self.doubts),
            "reasons": list(self.reasons),
            "candidates": [record.candidate_state(one) for one in self.candidates],
            "generators": {name: matrix.tolist() for name, matrix in self.generators.items()},
            "coefficients": {name: record.null(value) for name, value in self.coefficients.items()},
            "notes": list(self.notes),
            "settings": dict(self.settings),
            "levels": self.history.shape[1],
            "totals": [record.null(round(float(value), 6)) for value in self.totals],
            "history": [[record.null(round(float(value), 6)) for value in row] for row in self.history],
        }
        text = json.dumps(state, indent=1, allow_nan=False) + "\n"
        write_text(Path(path), text)

    @classmethod
    @own_defaults
    def load(cls, path: str | Path) -> "Registration":
        """Read what `save` wrote.

        Raises:
            InputError: no such file, or not a saved registration.
        """
        state = saved.read(path, "a registration saved by drmime", {"format": str}, record.KINDS)
        try:
            found = cls(**_read_state(state))
            if not all(np.isfinite(one.pixel_matrix).all() for one in (found, found.inverse())):
                raise ValueError("numbers too large to be used")
            return found
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{path}: not a registration saved by drmime ({shown(str(error))})") from error


def _read_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Registration` from values of the right kinds; raises ValueError and the like where they do not fit."""
    if state["format"] != FORMAT:
        raise ValueError(f"format: expected {FORMAT!r}, got {shown(state['format'])}")
    fixed, moving = record.grid(state["fixed"]), record.grid(state["moving"])
    if fixed.ndim != moving.ndim:
        raise ValueError("grids of unequal dimension")
    history = np.array([[record.number(value) for value in row] for row in state["history"]]).reshape(-1, int(state["levels"]))
    totals = np.array([record.number(value) for value in state["totals"]]).reshape(len(history))
    return {
        "matrix": record.invertible(state["matrix"], fixed.ndim),
        "fixed_grid": fixed,
        "moving_grid": moving,
        "stop": Stop[state["stop"]],
        "similarity": record.number(state["similarity"]),
        "overlap": record.number(state["overlap"]),
        "history": history,
        "totals": totals,
        "settings": dict(state["settings"]),
        "candidates": tuple(record.candidate(one, fixed.ndim) for one in state["candidates"]),
        "peak_ratio": record.number(state["peak_ratio"]),
        "doubts": record.doubts(state["doubts"]),
        "notes": tuple(state["notes"]),
        "generators": {name: record.square(rows, fixed.ndim) for name, rows in state["generators"].items()},
        "coefficients": {name: record.number(value) for name, value in state["coefficients"].items()},
        "version": state["version"],
    }


def _map(matrix: np.ndarray, points: Any) -> np.ndarray:
    ndim = len(matrix) - 1
    form = f"an array of shape (N, {ndim}), x first"
    array = numbers("points", points, form)
    if array.ndim != 2 or array.shape[1] != ndim:
        raise InputError(f"points: expected {form}, got {array.shape}")
    return mapped(matrix, array)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    matrix = np.linalg.inv(matrix)  # its sign is right: where one denominator is positive so is the other
    return matrix / (abs(matrix[-1, -1]) or 1)


def _in_words(registration: Registration) -> str:
    centre = registration.fixed_grid.centre.numpy()
    ndim, perspective = len(centre), registration.matrix[-1, :-1] / (registration.matrix[-1, -1] or 1)
    shift = registration.to_moving(centre[None])[0] - centre
    left, scales, right = np.linalg.svd(linear_part(torch.as_tensor(registration.matrix), registration.fixed_grid).numpy())
    rotation = left @ right
    mirrored = np.linalg.det(rotation) < 0
    rotation[:, 0] *= -1 if mirrored else 1
    if ndim == 2:
        angle = f"{np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0])):.3f}"
    else:
        angle = f"{np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))):.3f}"
    words = [
        f"shift of the fixed image's centre ({', '.join(f'{value:.3f}' for value in shift)})",
        ("mirrored, x reversed; then " if mirrored else "")
        + f"rotation {angle} degrees"
        + (" from x towards y" if ndim == 2 else ""),
        f"scales along the principal axes ({', '.join(f'{value:.4f}' for value in scales)})",
    ]
    if np.abs(perspective).max() > 0:
        words.append(f"perspective ({', '.join(f'{value:.2e}' for value in perspective)})")
    return "fixed to moving: " + "; ".join(words)
