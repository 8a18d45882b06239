"""Maps of many images that agree with the maps between pairs of them: robust least squares on the Lie algebra.

Each pair (a link) says how one image maps to another, and how far off it may be. The maps from the reference to all images are
those that miss the links least. A wrong link does no harm while more right ones contradict it: the sum of the misfits is made
least first, and then that of a loss which hardly grows beyond a few expected errors (Chatterjee and Govindu 2013, doi
10.1109/ICCV.2013.70).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import spsolve
from torch import Tensor

from drmime.geometry import lie
from drmime.geometry.grid import Grid

FAR = 4.0  # expected errors beyond which a link counts as contradicted
ROUNDS = 20  # Gauss-Newton steps with weights of each kind
LEAST = 0.1  # expected errors; links that are missed by less weigh alike
USUAL = 0.6745  # median of the absolute value of a standard normal variable
AGREES = 0.5  # weight from which a link is said to agree
DAMPING = 1e-9  # of the normal equations, keeps the images without any link where they are


@dataclass(frozen=True)
class Link:
    """The map between two images of a set, as their registration found it."""

    first: int
    second: int
    matrix: Tensor  # second_from_first, world, affine. shape: (D+1, D+1), float64
    error: float  # expected, world units of the second image
    # of the first image, where the map is known to this error, world. shape: (2**D + 1, D); its corners and centre if None
    places: Tensor | None = None


@dataclass(frozen=True)
class Consensus:
    """Maps from a reference to every image, and how well each link agrees with them."""

    matrices: Tensor  # image_from_reference, world. shape: (images, D+1, D+1), float64; NaN for images without a way to it
    misfits: Tensor  # root mean square distance between a link and these maps, world units of its second image. (links,)
    weights: Tensor  # 0 (contradicted) to 1. (links,)

    @property
    def agrees(self) -> Tensor:
        """Which links agree. shape: (links,), bool"""
        return self.weights > AGREES


def ways(links: Sequence[Link], count: int, root: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The errors expected along the best way from `root` to each of `count` images, and the image before the last on it.

    Errors add up as variances. shapes: (count,), infinite without a way; (count,), negative for the root and without a way; of
    several roots (roots, count) each
    """
    costs = sparse.lil_matrix((count, count))
    for link in sorted(links, key=lambda link: -link.error):  # of two links of a pair the better one stays
        costs[link.first, link.second] = max(link.error**2, 1e-12)
    total, before = csgraph.dijkstra(costs.tocsr(), directed=False, indices=root, return_predecessors=True)
    return np.sqrt(total), before


def part_labels(links: Sequence[Link], count: int) -> np.ndarray:
    """The number of the connected part of each of `count` images. shape: (count,)"""
    ends = np.array([(link.first, link.second) for link in links], int).reshape(-1, 2)
    return csgraph.connected_components(sparse.coo_matrix((np.ones(len(ends)), ends.T), (count, count)), directed=False)[1]


def consensus(links: Sequence[Link], grids: Sequence[Grid], root: int, generators: Mapping[str, Tensor]) -> Consensus:
    """The maps from the image `root` to all images that agree best with most links.

    Args:
        grids: of the images.
        generators: (D+1, D+1) each, affine, of the maps that are allowed, in the frame of the root's grid.
    """
    matrices = _along_ways(links, grids, root)
    reached = matrices.isfinite().flatten(1).all(1)
    kept = [bool(reached[link.first]) for link in links]  # a link is between images that are reached, or that are not
    inner = list(itertools.compress(links, kept))
    weights, misfits = torch.zeros(len(links), dtype=torch.float64), torch.full((len(links),), math.nan, dtype=torch.float64)
    if inner:
        solver = _Solver(inner, grids, root, torch.stack(list(generators.values())))
        matrices, misfits[kept], weights[kept] = solver.solved(matrices)
    return Consensus(matrices, misfits, weights)


def _along_ways(links: Sequence[Link], grids: Sequence[Grid], root: int) -> Tensor:
    """The maps from the root to each image along the best way. shape: (images, D+1, D+1)"""
    count, side = len(grids), grids[root].ndim + 1
    steps = {(link.first, link.second): link.matrix for link in sorted(links, key=lambda link: -link.error)}
    steps |= {(second, first): torch.linalg.inv(matrix) for (first, second), matrix in steps.items()}
    total, before = ways(links, count, root)
    matrices = torch.full((count, side, side), math.nan, dtype=torch.float64)
    matrices[root] = torch.eye(side, dtype=torch.float64)
    for image in np.argsort(total):
        if image != root and np.isfinite(total[image]):
            matrices[image] = steps[int(before[image]), int(image)] @ matrices[before[image]]
    return matrices


class _Solver:
    """Gauss-Newton steps on the maps of all images at once; the root's map stays the identity."""

    def __init__(self, links: Sequence[Link], grids: Sequence[Grid], root: int, basis: Tensor) -> None:
        self.first = torch.tensor([link.first for link in links])
        self.second = torch.tensor([link.second for link in links])
        self.between = torch.stack([link.matrix for link in links])
        self.basis, self.world = basis, grids[root].world_from_frame
        self.frame = torch.linalg.inv(self.world)
        self.moves = self.world @ basis @ self.frame  # of the root's world. shape: (K, D+1, D+1)
        whole = [torch.cat([grid.corners(), grid.centre[None]]) for grid in grids]
        places = torch.stack([whole[link.first] if link.places is None else link.places for link in links])
        self.places = F.pad(places, (0, 1), value=1.0).mT  # of each link's first image. shape: (links, D+1, P)
        errors = torch.tensor([max(link.error, 1e-6) for link in links], dtype=torch.float64)
        self.errors = errors * max(1.0, self._closure(errors) / USUAL)
        self.free = np.delete(np.arange(len(grids) * len(basis)), root * len(basis) + np.arange(len(basis)))
        self.entries = self._entries()

    def solved(self, matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The maps, the misfits of the links and their weights."""
        misfits = torch.zeros_like(self.errors)
        for _ in range(ROUNDS):  # towards the least sum of misfits, which is nearly convex, so the start does not matter
            matrices = self._step(matrices, 1 / (misfits / self.errors).clamp(min=LEAST))
            misfits = self._misfits(matrices)
        for _ in range(ROUNDS):
            matrices = self._step(matrices, self._weights(misfits))
            misfits = self._misfits(matrices)
        return matrices, misfits, self._weights(misfits)

    def _weights(self, misfits: Tensor) -> Tensor:
        """Of each link; one that is missed by `FAR` expected errors has the weight 1/4."""
        return 1 / (1 + (misfits / (FAR * self.errors)).square()).square()

    def _closure(self, errors: Tensor) -> float:
        """How far triangles of links are from closing, in expected errors, at the median; 0 without any."""
        numbers: dict[tuple[int, int], int] = {}
        maps: dict[tuple[int, int], Tensor] = {}
        near: dict[int, set[int]] = {}
        for number, (one, two) in enumerate(zip(self.first.tolist(), self.second.tolist(), strict=True)):
            numbers[one, two] = numbers[two, one] = number
            maps[one, two], maps[two, one] = self.between[number], torch.linalg.inv(self.between[number])
            near.setdefault(one, set()).add(two)
            near.setdefault(two, set()).add(one)
        found = []
        for one, three in maps:
            for two in near[one] & near[three]:
                if one < two < three:
                    corners = self.places[numbers[one, three]]
                    off = (maps[two, three] @ maps[one, two] - maps[one, three]) @ corners
                    expected = errors[[numbers[one, two], numbers[two, three], numbers[one, three]]].norm()
                    found.append(float(off[:-1].square().sum(0).mean().sqrt() / expected))
        return float(np.median(found)) if found else 0.0

    def _residuals(self, matrices: Tensor) -> Tensor:
        """From where the maps take places of the first image to where the link does. shape: (links, D, P)"""
        by_maps = matrices[self.second] @ torch.linalg.inv(matrices[self.first])
        return ((self.between - by_maps) @ self.places)[:, :-1]

    def _misfits(self, matrices: Tensor) -> Tensor:
        return self._residuals(matrices).square().sum(1).mean(1).sqrt()

    def _step(self, matrices: Tensor, weights: Tensor) -> Tensor:
        """One Gauss-Newton step with these weights of the links."""
        count, number = len(matrices), len(self.basis)
        scale = (weights.sqrt() / self.errors)[:, None]
        there = torch.linalg.inv(matrices[self.first]) @ self.places  # in the root's world
        moved = (matrices[self.second, None] @ self.moves @ there[:, None])[:, :, :-1]  # shape: (links, K, D, P)
        block = scale[..., None] * moved.flatten(2).mT  # shape: (links, D * P, K)
        offsets = scale * self._residuals(matrices).flatten(1)
        values = torch.cat([block.flatten(), -block.flatten()]).numpy()
        jacobian = sparse.csr_matrix((values, self.entries), (offsets.numel(), count * number))[:, self.free]
        normal = jacobian.T @ jacobian
        normal = normal + DAMPING * (normal.diagonal().max() + 1) * sparse.identity(len(self.free))
        steps = np.zeros(count * number)
        steps[self.free] = spsolve(normal.tocsc(), -(jacobian.T @ offsets.numpy().ravel()))
        turned = lie.exp(torch.as_tensor(steps).view(count, number), self.basis)
        return matrices @ self.world @ turned @ self.frame

    def _entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the values of the Jacobian: those of the links' first images, then those of their second ones."""
        links, side, places = self.places.shape
        rows, number = (side - 1) * places, len(self.basis)
        columns = [
            (which[:, None] * number + torch.arange(number)).repeat_interleave(rows, 0) for which in (self.first, self.second)
        ]
        return np.tile(np.arange(links * rows).repeat(number), 2), torch.cat(columns).flatten().numpy()
