"""Image grids: shape, pixel-to-world matrix, and the four coordinate frames.

| frame | what |
|---|---|
| index | pixel centres, x first |
| world | physical units, or pixels when none are given |
| frame | centred on the grid, divided by one scalar (half its longest side), so that a rotation stays a rotation |
| unit  | [-1, 1] from the outer edge of the first pixel to the outer edge of the last |

Matrices are named `a_from_b` and are float64, homogeneous, coordinates x first. Shapes and spacings are in array order
(slowest axis first), as in NumPy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from drmime.geometry.matrices import apply, homogeneous, scale_and_shift, translation


@dataclass(frozen=True, eq=False)
class Grid:
    """The geometry of an image: its shape (array order) and the matrix from index to world coordinates. Immutable."""

    shape: tuple[int, ...]
    world_from_index: Tensor  # shape: (D+1, D+1), float64
    placed: bool = False  # whether the source states origin and direction in a world that it shares with other images
    unit: str = ""  # of lengths, such as "mm", "µm", "m", "°"; "" if the source states none
    crs: str = ""  # coordinate reference system of the world, "EPSG:32633" or WKT; "" if the source is not georeferenced

    @classmethod
    def regular(cls, shape: Sequence[int], spacing: Sequence[float] | None = None, unit: str = "") -> "Grid":
        """An axis-aligned grid with the first pixel centre at the origin; `spacing` in array order, 1 by default."""
        spacing = [1.0] * len(shape) if spacing is None else spacing
        return cls(tuple(shape), torch.diag(torch.tensor([*reversed(spacing), 1.0], dtype=torch.float64)), unit=unit)

    def __deepcopy__(self, memo: object) -> "Grid":
        return self  # it does not change

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def size(self) -> Tensor:
        """Number of pixels along x, y[, z]. shape: (D,)"""
        return torch.tensor(self.shape[::-1], dtype=torch.float64)

    @cached_property
    def spacing(self) -> Tensor:
        """World length of one pixel along x, y[, z]. shape: (D,)"""
        return self.world_from_index[:-1, :-1].norm(dim=0)

    @cached_property
    def extent(self) -> Tensor:
        """World length of the whole grid along x, y[, z]. shape: (D,)"""
        return self.size * self.spacing

    @cached_property
    def index_from_world(self) -> Tensor:
        return torch.linalg.inv(self.world_from_index)

    @cached_property
    def unit_from_index(self) -> Tensor:
        return scale_and_shift(2 / self.size, 1 / self.size - 1)

    @cached_property
    def unit_from_world(self) -> Tensor:
        return self.unit_from_index @ self.index_from_world

    @cached_property
    def centre(self) -> Tensor:
        """World coordinates of the centre of the grid. shape: (D,)"""
        middle = (self.size - 1) / 2
        return self.world_from_index[:-1, :-1] @ middle + self.world_from_index[:-1, -1]

    @cached_property
    def world_from_frame(self) -> Tensor:
        radius = self.extent.max() / 2
        return scale_and_shift(radius.expand(self.ndim), self.centre)

    @cached_property
    def world_from_unit(self) -> Tensor:
        return torch.linalg.inv(self.unit_from_world)

    @cached_property
    def _coarser(self) -> "dict[tuple[int, ...], Grid]":
        """Results of `halved`, by the factors along each axis; all images on this grid need the same."""
        return {}

    def index_points(self) -> Tensor:
        """Index coordinates of every pixel in array order. shape: (prod(shape), D), float64"""
        axes = [torch.arange(n, dtype=torch.float64) for n in self.shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2).flip(-1)

    def world_points(self) -> Tensor:
        """World coordinates of every pixel in array order. shape: (prod(shape), D), float64"""
        return apply(self.world_from_index, self.index_points(), is_affine=True)[0]

    def corners(self) -> Tensor:
        """World coordinates of the outer corners of the grid. shape: (2**D, D)"""
        return self._corners

    @cached_property
    def _corners(self) -> Tensor:
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * self.ndim)
        return apply(self.world_from_unit, signs)[0]

    def along(self, axes: Sequence[int]) -> "Grid":
        """The grid spanned by a subset of the axes (array order), in a world of the same dimension as the subset.

        If these axes are parallel to world axes, origin and direction are kept. A plane that is oblique to the world axes
        gets a regular grid with the same spacing; its origin and direction are dropped.
        """
        if len(axes) == self.ndim:
            return self
        columns = [self.ndim - 1 - axis for axis in reversed(axes)]
        shape = tuple(self.shape[axis] for axis in axes)
        linear = self.world_from_index[:-1, columns]
        rows = (linear.abs() > 1e-6 * linear.abs().max()).any(1).nonzero()[:, 0]
        if len(rows) != len(axes):
            return replace(Grid.regular(shape, self.spacing[columns].flip(0).tolist()), unit=self.unit)
        return replace(self, shape=shape, world_from_index=homogeneous(linear[rows], self.world_from_index[rows, -1]))

    def halved(self, axes: Sequence[int]) -> "Grid":
        """The grid with half as many pixels along `axes` (array order), each centred on the two pixels that it replaces."""
        factors = tuple(2 if axis in axes else 1 for axis in range(self.ndim))
        if factors not in self._coarser:
            self._coarser[factors] = self.grouped([n // factor for n, factor in zip(self.shape, factors, strict=True)], factors)
        return self._coarser[factors]

    def grouped(self, shape: Sequence[int], factors: Sequence[int]) -> "Grid":
        """The grid of pixels each of which replaces `factors` pixels along each axis (array order), from the first one on."""
        factor = torch.tensor(list(reversed(factors)), dtype=torch.float64)
        return self._changed(shape, scale_and_shift(factor, (factor - 1) / 2))

    def level(self, shape: Sequence[int]) -> "Grid":
        """The grid of a coarser level of an image on this grid, of which only the shape (array order) is known.

        Its pixels replace whole groups of pixels where the shape allows it, else its outer edges are those of this grid.
        """
        factors = [max(1, round(n / m)) for n, m in zip(self.shape, shape, strict=True)]
        whole = all(abs(n - m * factor) < factor for n, m, factor in zip(self.shape, shape, factors, strict=True))
        return self.grouped(shape, factors) if whole else self.resized(shape)

    def resized(self, shape: Sequence[int]) -> "Grid":
        """The grid of another number of pixels (array order) between the same outer edges."""
        factor = self.size / torch.tensor(list(reversed(shape)), dtype=torch.float64)
        return self._changed(shape, scale_and_shift(factor, (factor - 1) / 2))

    def cut(self, first: Sequence[int], shape: Sequence[int]) -> "Grid":
        """The grid that begins at the pixel `first` (array order; negative: outside) and has another number of pixels."""
        start = torch.tensor(list(reversed(first)), dtype=torch.float64)
        return self._changed(shape, translation(start))

    def _changed(self, shape: Sequence[int], old_from_new: Tensor) -> "Grid":
        """The grid of another shape, with the matrix from its index coordinates to those of this one."""
        return replace(self, shape=tuple(shape), world_from_index=self.world_from_index @ old_from_new)

    def covers_alike(self, other: "Grid") -> bool:
        """Whether the outer corners of both grids are the same, to a hundredth of a pixel of the coarser one."""
        if self.ndim != other.ndim:
            return False
        away = (self.corners() - other.corners()).norm(dim=1).max()
        return bool(away <= 0.01 * torch.maximum(self.spacing, other.spacing).min())

    def of_same_extent(self, other: "Grid") -> bool:
        """Whether the sides of both grids are as long, to a pixel of the coarser one."""
        if self.ndim != other.ndim:
            return False
        return bool(((self.extent - other.extent).abs() <= torch.maximum(self.spacing, other.spacing)).all())

    def __str__(self) -> str:
        spacing, origin = (
            ", ".join(f"{value:.6g}" for value in part) for part in (self.spacing, self.world_from_index[:-1, -1])
        )
        return f"shape {self.shape}, spacing ({spacing}) and origin ({origin}), x first"


def unravel(flat: Tensor, shape: Sequence[int]) -> Tensor:
    """Convert flat pixel numbers (...) to indices in array order (..., D), int64.

    `torch.unravel_index` is not used: its first call imports a symbolic algebra package, which takes 0.7 s in every process.
    """
    indices = []
    for length in reversed(shape):
        indices.append(flat % length)
        flat = flat // length
    return torch.stack(indices[::-1], -1)


def border(shape: Sequence[int]) -> Tensor:
    """Mask of the outermost pixels. shape: `shape`, bool"""
    edge = torch.ones(*shape, dtype=torch.bool)
    edge[(slice(1, -1),) * len(shape)] = False
    return edge


def linear_part(matrix: Tensor, grid: Grid) -> Tensor:
    """Jacobians of projective maps (..., D+1, D+1) at the centre of `grid`; for affine maps the upper left block. (..., D, D)

    The homogeneous denominator must be positive at the centre, as after `scaled`.
    """
    middle = matrix[..., :-1] @ grid.centre.to(matrix) + matrix[..., -1]  # homogeneous
    place = middle[..., :-1] / middle[..., -1:]
    return (matrix[..., :-1, :-1] - place[..., None] * matrix[..., -1:, :-1]) / middle[..., -1:, None]


def scale_of(matrix: Tensor, fixed: Grid) -> float:
    """Mean scale factor from fixed to moving world lengths at the centre of `fixed`, under a map (D+1, D+1)."""
    return scales_of(matrix[None], fixed)[0]


def scales_of(matrices: Tensor, fixed: Grid) -> list[float]:
    """`scale_of` for several maps (K, D+1, D+1)."""
    return [area ** (1 / fixed.ndim) for area in linear_part(matrices, fixed).det().abs().clamp(min=1e-90).tolist()]


def scaled(matrix: Tensor, grid: Grid) -> Tensor:
    """The same projective map, with scale and sign normalised as `apply` needs for images on `grid`. (..., D+1, D+1)

    The denominator is positive at the centre of the grid (if it is zero there, the matrix returned is all zeros), and the
    last entry is 1 or -1 unless it is 0.
    """
    denominator = matrix[..., -1, :-1] @ grid.centre.to(matrix) + matrix[..., -1, -1]
    last = matrix[..., -1, -1].abs()
    return matrix * (denominator.sign() / torch.where(last > 0, last, 1))[..., None, None]
