"""`Coefficients`: what the optimisation changes, and the field between control points that follows from it."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from drmime.transform.lattice import Lattice

LIMITS = (0, 1, 2, 4, 8, 16)  # waves along the longest side above which smoother versions of a field have little
SHARES = (0.0, 0.25, 0.5, 0.75)  # of a deformation, in weaker versions of it


class Coefficients(nn.Module, ABC):
    """Parameters of the fields of B pairs, the pairs along the first axis; no deformation at zero parameters."""

    @abstractmethod
    def forward(self) -> Tensor:
        """The fields at the control points, frame units, x first. shape: (B, D, *lattice.shape)"""

    @abstractmethod
    def smoother(self) -> "list[Coefficients]":
        """Smoother or weaker versions, the first without deformation."""


class Waves(Coefficients):
    """Weights of waves (cosines) over the lattice, from one along the image to one over two control points.

    Finer waves are reached more slowly: the weight of a wave is multiplied by (1 + w²)^-smoothness, where w is its number
    along the longest side. So the optimisation goes from coarse to fine, and where the images show nothing the field is
    smooth.
    """

    squares: Tensor
    damping: Tensor

    def __init__(self, batch: int, lattice: Lattice, smoothness: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(batch, len(lattice.shape), *lattice.shape, dtype=torch.float64))
        counts = [torch.arange(length, dtype=torch.float64) / (length * lattice.spacing) for length in lattice.shape]
        squares = torch.stack(torch.meshgrid(*counts, indexing="ij")).square().sum(0)
        self.register_buffer("squares", squares)
        self.register_buffer("damping", (1 + squares) ** -smoothness)
        for axis, length in enumerate(lattice.shape):
            self.register_buffer(f"cosines{axis}", _cosines(length))

    def forward(self) -> Tensor:
        found = self.weights * self.damping
        for axis in range(self.weights.shape[1]):
            found = torch.tensordot(found, getattr(self, f"cosines{axis}"), dims=([2], [0]))  # the new axis is the last
        return found

    def smoother(self) -> list[Coefficients]:
        return [weaker(self, 1 / (1 + (self.squares / limit**2) ** 2) if limit else 0.0) for limit in LIMITS]


class Regions(Coefficients):
    """Velocities of a linear map for each of several regions, blended by Gaussian weights about the regions' centres.

    Log-Euclidean polyaffine transforms: Arsigny et al. 2009, doi 10.1007/s10851-008-0135-9.
    """

    basis: Tensor
    blend: Tensor
    places: Tensor

    def __init__(self, batch: int, lattice: Lattice, centres: Tensor, width: float, generators: Mapping[str, Tensor]) -> None:
        """
        Args:
            centres: of the regions, in frame units, x first. shape: (R, D), float64
            width: standard deviation of the weights, in frame units.
            generators: (D+1, D+1) each, of linear maps about a region's centre.
        """
        super().__init__()
        places = lattice.places()
        self.shape = lattice.shape
        self.weights = nn.Parameter(torch.zeros(batch, len(centres), len(generators), dtype=torch.float64))
        basis = torch.stack(list(generators.values()))[:, :-1]  # shape: (K, D, D+1)
        moved = basis[:, :, -1] - torch.einsum("kij,rj->rki", basis[..., :-1], centres)
        about = torch.cat([basis[..., :-1].expand(len(centres), -1, -1, -1), moved[..., None]], -1)
        self.register_buffer("basis", about)  # shape: (R, K, D, D+1), about the centre of each region
        self.register_buffer("blend", (-(torch.cdist(places, centres) ** 2) / (2 * width**2)).softmax(1))  # (N, R)
        self.register_buffer("places", torch.cat([places, torch.ones(len(places), 1, dtype=torch.float64)], 1))

    def forward(self) -> Tensor:
        velocities = torch.einsum("brk,rkij->brij", self.weights, self.basis)  # as matrices
        there = torch.einsum("nr,brij->bnij", self.blend, velocities)
        return torch.einsum("bnij,nj->bin", there, self.places).unflatten(-1, self.shape)

    def smoother(self) -> list[Coefficients]:
        return [weaker(self, share) for share in SHARES]


def weaker(coefficients: Coefficients, factor: Tensor | float) -> Coefficients:
    """A copy with all parameters times `factor`."""
    made = copy.deepcopy(coefficients)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(factor)
    return made


def _cosines(length: int) -> Tensor:
    """Waves (rows) at control points (columns), of mean square 1: the discrete cosine transform. shape: (length, length)"""
    order = torch.arange(length, dtype=torch.float64)
    waves = torch.cos(math.pi / length * order[:, None] * (order + 0.5))
    return waves * torch.where(order > 0, math.sqrt(2), 1)[:, None]
