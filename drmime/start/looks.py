"""The looks (stages of the search for a start): a quick and a thorough one, and further ones if no start is settled by then."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from drmime.geometry import lie
from drmime.geometry.grid import Grid
from drmime.start.propose.base import Proposer
from drmime.start.propose.features import Features
from drmime.start.propose.search import SCALES, Search
from drmime.start.refine import QUICK_ROUNDS, ROUNDS, Round

NEAR_SCALES = (0.85, 1.0, 1.18)
NO_SCALE = (1.0,)


@dataclass(frozen=True)
class Settings:
    """The numbers of one look; what is None is the default of `Search` for the dimension.

    `python experiments/peak_ratio.py` takes the first look alone; `drmime run configs/pairs.yaml` shows what all of them reach.
    """

    name: str  # shown to observers
    rounds: Sequence[Round] = ROUNDS  # of the refinement
    further: bool = False  # skipped if the best start so far is well supported (`Starts._skips_further`)
    needs: str | None = None  # the block of `lie.GROUPS` that the group must have
    unknown_spacing: bool = False  # taken only for images without spacing
    corners: bool = False  # matched corners are proposed as well; they find starts that a search at low resolution misses
    size: int | None = None  # pixels along the fixed image's longest side
    step: float | None = None  # degrees between rotations
    scales: Sequence[float] = SCALES  # moving by fixed world lengths
    count: int = 10  # most candidates; 6 instead of 10: 91 instead of 96 of 117 pairs
    apart: float = 0.08  # of the diagonal, between candidates; 0.03 keeps several near the right pose, which then confirm it
    least_overlap: float = 0.35  # of the smaller image; the outermost shifts of smaller overlaps win by chance
    largest_rotation: float = 180.0  # degrees
    aspects: Sequence[float] = ()  # of pixel sides

    def search(self, generators: Mapping[str, Tensor], mirrored: bool = False) -> Search:
        """The search with these numbers, limited to the rotations and scales that the group has."""
        return Search(
            size=self.size,
            step=self.step,
            scales=self.scales if spans(generators, "scale") else NO_SCALE,
            rotate=spans(generators, "rotation"),
            mirrored=mirrored,
            largest_rotation=self.largest_rotation,
            aspects=self.aspects,
            least_overlap=self.least_overlap,
            count=self.count,
            apart=self.apart,
        )


LOOKS: dict[int, tuple[Settings, ...]] = {  # by dimension, the quickest first
    2: (
        # poses are dense, so that several come near the right one
        Settings("a quick search", QUICK_ROUNDS, size=64, step=5.0, scales=NEAR_SCALES, apart=0.03),
        Settings("a thorough search", corners=True),
        Settings("a search of small overlaps", further=True, least_overlap=0.1, scales=NEAR_SCALES),
        Settings(
            "a search of all scales",
            further=True,
            needs="scale",
            unknown_spacing=True,
            size=128,
            least_overlap=0.3,
            scales=tuple(1.25**k for k in range(-9, 10)),
        ),
        Settings(
            "a search of unequal pixels",
            further=True,
            needs="stretch",
            unknown_spacing=True,
            size=64,
            step=10.0,
            largest_rotation=30,
            scales=(0.7, 1.0, 1.4),
            aspects=(2.0, 4.0),
            least_overlap=0.2,
        ),
    ),
    3: (  # few scales, since most volumes have a spacing
        Settings("a quick search", QUICK_ROUNDS, scales=NO_SCALE),
        Settings("a thorough search", scales=NEAR_SCALES, step=20.0),
    ),
}


@dataclass(frozen=True)
class Look:
    """One stage of the search: what proposes starts, and how they are refined."""

    name: str  # shown to observers
    proposers: Sequence[tuple[str, Proposer]] = ()
    rounds: Sequence[Round] = ROUNDS
    further: bool = False  # skipped if the best start so far is well supported (`Starts._skips_further`)


def looks(generators: Mapping[str, Tensor], fixed: Grid, moving: Grid) -> list[Look]:
    """The looks of "auto" for a group and images on these grids, the quickest first; none for a group that lacks a shift."""
    if not spans(generators, "translation"):
        return []
    unknown = without_spacing(fixed, moving)
    return [
        Look(settings.name, proposers(settings, generators), settings.rounds, settings.further)
        for settings in LOOKS[fixed.ndim]
        if (unknown or not settings.unknown_spacing) and (settings.needs is None or spans(generators, settings.needs))
    ]


def mirrored_search(generators: Mapping[str, Tensor]) -> list[tuple[str, Proposer]]:
    """A quick search of reflected poses, by name; none for a group that lacks a shift."""
    if not spans(generators, "translation"):
        return []
    ndim = len(next(iter(generators.values()))) - 1
    return [("search", LOOKS[ndim][0].search(generators, mirrored=True))]


def proposers(settings: Settings, generators: Mapping[str, Tensor]) -> list[tuple[str, Proposer]]:
    """The proposers of a look, by name. Matched corners need a group with rotation and scale."""
    found: list[tuple[str, Proposer]] = [("search", settings.search(generators))]
    if settings.corners and spans(generators, "rotation") and spans(generators, "scale"):
        found.append(("features", Features()))
    return found


def without_spacing(fixed: Grid, moving: Grid) -> bool:
    """Whether all spacings are 1, as for images without spacing: their relative scale and pixel shapes are then unknown."""
    return bool((fixed.spacing == 1).all() and (moving.spacing == 1).all())


def spans(generators: Mapping[str, Tensor], block: str) -> bool:
    """Whether the generators of a group span those of a block of `lie.GROUPS`, such as "rotation"."""
    own = torch.stack(list(generators.values())).double().numpy()
    return _spans(own.tobytes(), own.shape[-1], block)


@functools.lru_cache(maxsize=256)
def _spans(own: bytes, side: int, block: str) -> bool:
    """`spans` for the entries of the generators; asked for each pair several times."""
    wanted = torch.stack(list(lie.generators([block], side - 1).values())).flatten(1).numpy()
    rows = np.frombuffer(own).reshape(-1, side * side)
    return bool(np.linalg.matrix_rank(rows) == np.linalg.matrix_rank(np.concatenate([rows, wanted])))
