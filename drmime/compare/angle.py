"""Whether edges lie along the same lines: a score that does not care what the intensities are."""

import torch
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.errors import number
from drmime.image.image import Image
from drmime.image.orientation import agreement, orientation, turned


class GradientAngle(Similarity):
    """Agreement of gradient directions beyond chance, in standard deviations of chance by the square root of the points.

    For random directions it is 0 give or take 1/√N. Its numerator is the first term of Couwenberg's expansion (see
    `drmime.image.orientation` and `drmime.start.propose.angle`); the division by its spread under chance makes few points
    that agree worth less than many, so that small overlaps are not preferred.
    """

    def __init__(self, width: float = 1.0, noise: float = 0.5) -> None:
        """
        Args:
            width: of the derivatives, in pixels of each level.
            noise: of the gradients, as a share of their mean square.

        Raises:
            InputError: a number out of its range.
        """
        super().__init__()
        self.width, self.noise = number("metric width", width, 0), number("metric noise", noise, 0)

    def begin(self, levels: int, batch: int, channels: tuple[int, int], generator: torch.Generator, like: Tensor) -> None:
        """Any channels can be compared: their edges are added up."""

    def describe(self, image: Image) -> Image:
        return orientation(image, self.width, self.noise)

    def turn(self, moving: Tensor, jacobian: Tensor) -> Tensor:
        return turned(moving, jacobian)

    def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        total, variance = agreement(fixed, moving, weight)
        return total / (weight.shape[-1] * (variance + 1e-6)).sqrt()
