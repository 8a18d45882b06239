"""Where to start: each initialiser maps the two images to a first `moving_from_fixed` matrix in world units."""

from collections.abc import Callable

from torch import Tensor

from drmime.image import Image
from drmime.initialise.simple import centre, identity, mass

Initialiser = Callable[[Image, Image], Tensor]  # (fixed, moving) -> (B, D+1, D+1), float64

INITIALISERS: dict[str, Callable[[], Initialiser]] = {
    "identity": lambda: identity,
    "centre": lambda: centre,
    "mass": lambda: mass,
}

__all__ = ["INITIALISERS", "Initialiser", "centre", "identity", "mass"]
