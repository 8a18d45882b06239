"""The places of tiles that agree best with the links between them, in one world."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply, translation
from drmime.mosaic.layout import Layout
from drmime.stack.consensus import USUAL, Link, consensus, part_labels, ways

EVEN = 0.9  # quantile of the expected errors: at first no link counts as more exact


@dataclass(frozen=True)
class Places:
    """Where the tiles lie."""

    matrices: Tensor  # tile_from_mosaic, world. shape: (N, D+1, D+1), float64; NaN without a place
    weights: np.ndarray  # of each link: 0 (contradicted) to 1. (links,)
    misfits: np.ndarray  # distance of each link from these places, world units. (links,)
    parts: tuple[tuple[int, ...], ...]  # tiles that links connect, the largest part first; one tile alone is no part


def placed(
    links: Sequence[Link], grids: Mapping[int, Grid], count: int, layout: Layout | None, generators: Mapping[str, Tensor]
) -> Places:
    """The places of `count` tiles.

    Each connected part is solved by itself (`drmime.stack.consensus`). With a layout every part is moved as a whole to where
    its tiles are expected, at the median over them, and a tile without links is put where it is expected, moved as its
    neighbours are at the mean. Without one, the largest part alone has places.
    """
    weights, misfits = np.zeros(len(links)), np.full(len(links), math.nan)
    matrices = torch.full((count, *[next(iter(grids.values())).ndim + 1] * 2), math.nan, dtype=torch.float64)
    used = np.ones(len(links), bool)
    parts: list[tuple[int, ...]] = []
    for _ in range(count):  # a part that only contradicted links held together is divided, and solved anew
        parts = _parts(list(itertools.compress(links, used)), count)
        before = used.copy()
        matrices[:] = math.nan
        for part in parts:
            inner = np.array([used[at] and link.first in part for at, link in enumerate(links)])
            solved, misfits[inner], weights[inner] = _solved(list(itertools.compress(links, inner)), grids, part, generators)
            matrices[list(part)] = solved
        used &= weights > 0.5
        if _parts(list(itertools.compress(links, used)), count) == parts:
            break
        weights[~used & before] = 0
    return Places(_moved(matrices, grids, parts, layout), weights, misfits, tuple(parts))


def _parts(links: Sequence[Link], count: int) -> list[tuple[int, ...]]:
    """Tiles that links connect, the largest part first."""
    labels = part_labels(links, count)
    groups = [tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]
    return sorted((group for group in groups if len(group) > 1), key=lambda group: (-len(group), group))


def _solved(
    links: Sequence[Link], grids: Mapping[int, Grid], part: Sequence[int], generators: Mapping[str, Tensor]
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Of one part: tile_from_root of each tile, and the misfit and the weight of each link.

    Which links are contradicted is decided as if nearly all were equally exact: a wrong link may have a small expected error.
    The expected errors of the others are scaled up to what their misfits show, allowing for the unknowns that were fitted: an
    uneven stage or optics make links less exact than their pixels say. Tiles that only contradicted links connect get NaN.
    """
    at = {number: place for place, number in enumerate(part)}
    inner = [replace(link, first=at[link.first], second=at[link.second]) for link in links]
    own = [grids[number] for number in part]
    root = int(ways(inner, len(part), np.arange(len(part)))[0].sum(1).argmin())
    even = float(np.quantile([link.error for link in inner], EVEN))
    first = consensus([replace(link, error=max(link.error, even)) for link in inner], own, root, generators)
    right = first.agrees.numpy()
    misfits, weights = first.misfits.numpy().copy(), np.where(right, 1.0, first.weights.numpy())
    kept = list(itertools.compress(inner, right))
    if not kept:
        return torch.full_like(first.matrices, math.nan), misfits, np.zeros(len(inner))
    free = len(kept) / max(len(kept) - len(part) + 1, 1)
    errors = np.array([link.error for link in kept])
    scale = max(1.0, float(np.median(misfits[right] / errors)) * math.sqrt(free) / USUAL) if len(kept) >= len(part) else 1.0
    found = consensus([replace(link, error=link.error * scale) for link in kept], own, root, generators)
    misfits[right] = np.where(found.misfits.isfinite().numpy(), found.misfits.numpy(), misfits[right])
    weights[right] = found.weights.numpy()
    return found.matrices, misfits, weights


def first_pixels(matrices: Tensor, grids: Mapping[int, Grid]) -> np.ndarray:
    """Where the maps tile_from_mosaic (N, D+1, D+1) put the first pixel of each tile. shape: (N, D)"""
    count, side = matrices.shape[:2]
    places = np.full((count, side - 1), math.nan)
    for number, grid in grids.items():
        if matrices[number].isfinite().all():
            there = torch.linalg.inv(matrices[number]) @ grid.world_from_index
            places[number] = there[:-1, -1].numpy()
    return places


def _moved(matrices: Tensor, grids: Mapping[int, Grid], parts: Sequence[Sequence[int]], layout: Layout | None) -> Tensor:
    """tile_from_mosaic of all tiles, of maps tile_from_root of each part."""
    places = first_pixels(matrices, grids)
    found = torch.full_like(matrices, math.nan)
    if layout is None:
        for part in parts[:1]:
            corners = torch.cat([apply(torch.linalg.inv(matrices[one]), grids[one].corners())[0] for one in part])
            low = corners.amin(0) + grids[part[0]].spacing / 2  # the mosaic's first pixel is at the origin
            found[list(part)] = matrices[list(part)] @ translation(low)
        return found
    for part in parts:
        away = np.median(layout.positions[list(part)] - places[list(part)], 0)
        found[list(part)] = matrices[list(part)] @ translation(-torch.as_tensor(away))
    moved = first_pixels(found, grids) - layout.positions
    near = layout.pairs(grids)
    for number, grid in grids.items():
        if not found[number].isfinite().all():
            beside = [one + other - number for one, other in near if number in (one, other)]
            known = [moved[one] for one in beside if np.isfinite(moved[one]).all()]
            place = layout.positions[number] + (np.mean(known, 0) if known else 0)
            found[number] = translation(grid.world_from_index[:-1, -1] - torch.as_tensor(place))
    return found
