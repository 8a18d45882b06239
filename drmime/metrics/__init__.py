"""How alike two images are at given points; larger is better, always."""

from collections.abc import Callable

from drmime.metrics.angle import GradientAngle
from drmime.metrics.base import Similarity
from drmime.metrics.histogram import JointHistogramMI, MattesMI, NormalisedMI
from drmime.metrics.mine import BOUNDS, MINE
from drmime.metrics.moments import MSE, NCC

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
