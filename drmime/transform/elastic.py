"""The families of deformations between control points: "velocity", "bspline" and "polyaffine"."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from drmime.errors import InputError, number
from drmime.geometry import lie
from drmime.geometry.grid import Grid
from drmime.schedule import Schedule
from drmime.transform.base import NO_HINTS, Hints
from drmime.transform.coefficients import Coefficients, Regions, Waves
from drmime.transform.deformation import Deformation
from drmime.transform.lattice import MOST_CONTROLS, Lattice
from drmime.transform.lattice_model import LatticeModel
from drmime.transform.lattice_transform import BSplineTransform, LatticeTransform, VelocityTransform

SPACING = 0.08  # of control points by default, half longest sides
APART = 0.5  # of the centres of regions by default, half longest sides
FINEST = 2.0  # pixels; control points may not be closer
FINE = 8.0  # pixels; by default they are not closer: a field with as many coefficients as small volumes have pixels fits noise
CONTROLS = 4  # control points along the distance of two regions
WIDTH = 0.5  # of the Gaussian weight of a region, distances of two regions
MOST_WEIGHTS = 2**24  # numbers of regions times control points


@dataclass(frozen=True)
class Elastic(Deformation):
    """A deformation after a linear stage, by a field between control points.

    Args:
        spacing: distance of the control points (of "polyaffine": of the regions' centres) in world units; by default 4 %
            (25 %) of the fixed image's longest side, and at least 8 pixels.
        bending: weight of the mean square of the field's second derivatives, in units of half the longest side.
        volume: weight of the mean square of the logarithm of changes of volume.
        chance: probability with which a deformation may be taken for true that is none; with 1 little evidence is enough, for
            images that are known to be deformed.
        steps, rate: those of `drmime.Schedule`, for this stage. Several rates: with each there is a fit, and that of the
            highest similarity in the parts of the image which the fits do not use is the result.

    Raises:
        InputError: a number out of its range.
    """

    spacing: float | None = None
    bending: float = 0.0
    volume: float = 0.0
    chance: float = Deformation.chance
    steps: int = 500
    rate: float | Sequence[float] = 0.002  # type: ignore[assignment]  # one in each of `fits`

    varied: ClassVar[tuple[str, ...]] = ("rate",)  # options that may have several values, of which each fit has one
    kind: ClassVar[type[LatticeTransform]] = VelocityTransform
    share: ClassVar[float] = SPACING  # default spacing, half longest sides
    finest: ClassVar[float] = FINEST  # smallest spacing, pixels

    def __post_init__(self) -> None:
        if self.spacing is not None:
            number("transform spacing", self.spacing, 0)
        for name in ("bending", "volume"):
            if getattr(self, name) != 0:
                number(f"transform {name}", getattr(self, name), 0)
        if self.chance != 1:
            number("transform chance", self.chance, 0, 1)
        if not any(isinstance(getattr(self, name), (list, tuple)) for name in self.varied):
            Schedule(steps=self.steps, rate=self.rate)  # type: ignore[arg-type]
        elif not self.fits():
            raise InputError(f"transform {self.varied[0]}: expected a number or several, got none")

    def fits(self) -> Sequence["Elastic"]:
        given = {name: getattr(self, name) for name in self.varied}
        lists = {name: value if isinstance(value, (list, tuple)) else [value] for name, value in given.items()}
        count = max(map(len, lists.values()))
        if any(len(values) not in (1, count) for values in lists.values()):
            raise InputError(f"transform {', '.join(lists)}: expected as many of each, or one, got {given}")
        every = {
            name: [number(f"transform {name}", value, -math.inf) for value in values] * (count if len(values) == 1 else 1)
            for name, values in lists.items()
        }
        return [replace(self, **{name: every[name][fit] for name in every}) for fit in range(count)]  # type: ignore[arg-type]

    def model(self, start: Tensor, fixed: Grid, moving: Grid, hints: Hints = NO_HINTS) -> LatticeModel:
        half = float(fixed.extent.max()) / 2
        least = self.finest * float(fixed.spacing.max()) / half
        default = max(self.share, FINE * float(fixed.spacing.max()) / half)
        spacing = default if self.spacing is None else self.spacing / half
        if self.spacing is not None and spacing < least * (1 - 1e-9):
            raise InputError(
                f"transform spacing: expected at least {self.finest:g} pixels, or {least * half:.4g}, got {self.spacing:g}"
            )
        lattice, coefficients = self.parameters(len(start), fixed, max(spacing, least))
        return LatticeModel(start, fixed, moving, lattice, coefficients, self.kind, self.bending, self.volume, hints.held)

    @abstractmethod
    def parameters(self, batch: int, fixed: Grid, spacing: float) -> tuple[Lattice, Coefficients]:
        """The control points and what makes their field; `spacing` in half longest sides."""

    def too_many(self) -> InputError:
        return InputError(f"transform spacing: {self.spacing} makes too many control points. Give more than that.")


@dataclass(frozen=True)
class Velocity(Elastic):
    """The flow of a stationary velocity field, as in "affine+velocity": invertible, without folds.

    By default there are two fits: one of large and smooth deformations, such as of a field of view, and one of small and fine
    ones, such as of tissue.

    Args:
        smoothness: exponent by which fine waves of the field are damped; several as of `rate`.
    """

    bending: float = 0.004
    rate: float | Sequence[float] = (0.002, 0.0003)
    smoothness: float | Sequence[float] = (2.0, 0.7)

    varied = ("rate", "smoothness")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.smoothness, (list, tuple)) and self.smoothness != 0:
            number("transform smoothness", self.smoothness, 0)

    def parameters(self, batch: int, fixed: Grid, spacing: float) -> tuple[Lattice, Coefficients]:
        lattice = Lattice.over(fixed, spacing)
        if math.prod(lattice.shape) > MOST_CONTROLS:
            raise self.too_many()
        return lattice, Waves(batch, lattice, self.smoothness)  # type: ignore[arg-type]


@dataclass(frozen=True)
class BSpline(Velocity):
    """Displacements between control points, as of elastix (free-form deformation); nothing keeps it from folding."""

    kind = BSplineTransform


@dataclass(frozen=True)
class Polyaffine(Elastic):
    """The flow of the blended velocities of one linear map for each of several regions (log-Euclidean polyaffine).

    Args:
        generators: of the regions' maps: "affine", "rigid" or another name of `drmime.geometry.lie.GROUPS` or a list of
            generators, none of them projective.
    """

    generators: str | Sequence[str] = "affine"
    steps: int = 300

    share = APART
    finest = FINEST * CONTROLS

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(bool(generator[-1].any()) for generator in lie.generators(self.generators, 3).values()):
            raise InputError(f"transform generators: expected affine ones for a polyaffine transform, got {self.generators}")

    def parameters(self, batch: int, fixed: Grid, spacing: float) -> tuple[Lattice, Coefficients]:
        lattice = Lattice.over(fixed, spacing / CONTROLS)
        wide = Lattice.over(fixed, spacing)  # its control points on the image are the centres of the regions
        inner = Grid.regular([length - 2 for length in wide.shape]).index_points() + 1
        centres = torch.tensor(wide.first, dtype=torch.float64) + spacing * inner
        if math.prod(lattice.shape) * len(centres) > MOST_WEIGHTS:
            raise self.too_many()
        generators = lie.generators(self.generators, fixed.ndim)
        return lattice, Regions(batch, lattice, centres, WIDTH * spacing, generators)
