"""Where to start: each initialiser proposes transforms of one pair, the best first.

An initialiser is given the fixed and the moving image, B = 1 and normalised, and returns moving_from_fixed matrices in world
units, (K, D+1, D+1) float64; K is 0 where it found nothing. `drmime.ladder` refines and compares what several of them
propose.
"""

from collections.abc import Callable

from torch import Tensor

from drmime.image import Image
from drmime.initialise.features import Features
from drmime.initialise.landmarks import Landmarks
from drmime.initialise.moments import Moments
from drmime.initialise.phase import FourierMellin, PhaseCorrelation
from drmime.initialise.search import Search
from drmime.initialise.sift import SIFT
from drmime.initialise.simple import centre, identity, mass, nothing

Initialiser = Callable[[Image, Image], Tensor]

INITIALISERS: dict[str, Callable[..., Initialiser]] = {
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

__all__ = ["INITIALISERS", "Initialiser", "centre", "identity", "mass", "nothing"]
