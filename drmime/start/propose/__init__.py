"""Where to start: each proposer proposes transforms of one pair, the best first.

A proposer is given the fixed and the moving image, B = 1 and normalised, and returns moving_from_fixed matrices in world
units, (K, D+1, D+1) float64; K is 0 where it found nothing. `drmime.start.refine` refines and compares what several of them
propose.
"""

from collections.abc import Callable

from torch import Tensor

from drmime.image.image import Image
from drmime.start.propose.features import Features
from drmime.start.propose.landmarks import Landmarks
from drmime.start.propose.moments import Moments
from drmime.start.propose.phase import FourierMellin, PhaseCorrelation
from drmime.start.propose.search import Search
from drmime.start.propose.sift import SIFT
from drmime.start.propose.simple import centre, identity, mass

Proposer = Callable[[Image, Image], Tensor]

PROPOSERS: dict[str, Callable[..., Proposer]] = {
    "identity": lambda: identity,
    "centre": lambda: centre,
    "mass": lambda: mass,
    "moments": Moments,
    "search": Search,
    "phase": PhaseCorrelation,
    "fourier_mellin": FourierMellin,
    "features": Features,
    "sift": SIFT,
    "landmarks": Landmarks,
}

__all__ = ["PROPOSERS", "Proposer", "centre", "identity", "mass"]
