"""How alike two images are at given points; larger is better, always."""

from collections.abc import Callable

from drmime.compare.angle import GradientAngle
from drmime.compare.base import Similarity
from drmime.compare.histogram import JointHistogramMI, MattesMI, NormalisedMI
from drmime.compare.mine import BOUNDS, MINE
from drmime.compare.moments import MSE, NCC

METRICS: dict[str, Callable[..., Similarity]] = {
    "mine": MINE,
    "mattes": MattesMI,
    "nmi": NormalisedMI,
    "jhmi": JointHistogramMI,
    "ncc": NCC,
    "mse": MSE,
    "angle": GradientAngle,
}

__all__ = [
    "BOUNDS",
    "METRICS",
    "MINE",
    "MSE",
    "NCC",
    "GradientAngle",
    "JointHistogramMI",
    "MattesMI",
    "NormalisedMI",
    "Similarity",
]
