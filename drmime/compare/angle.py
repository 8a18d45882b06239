"""Agreement of gradient directions: a metric that does not depend on the intensities themselves."""

import torch
from torch import Tensor

from drmime.compare.base import Similarity
from drmime.errors import number
from drmime.image.image import Image
from drmime.image.orientation import agreement, orientation, turned


class GradientAngle(Similarity):
    """Agreement of gradient directions beyond chance, in standard deviations under chance divided by √N for N points.

    For random directions it is 0 with standard deviation 1/√N. The numerator is the first term of Couwenberg's expansion (see
    `drmime.image.orientation` and `drmime.start.propose.angle`). It is divided by its standard deviation under chance, so that
    few points that agree count less than many, and small overlaps are not preferred.
    """

    def __init__(self, width: float = 1.0, noise: float = 0.5) -> None:
        """
        Args:
            width: width of the derivatives, in pixels of each level.
            noise: noise of the gradients, as a share of their mean square.

        Raises:
            InputError: a number out of its range.
        """
        super().__init__()
        self.width, self.noise = number("metric width", width, 0), number("metric noise", noise, 0)

    def begin(self, levels: int, batch: int, channels: tuple[int, int], generator: torch.Generator, like: Tensor) -> None:
        """Nothing to prepare; any numbers of channels can be compared, since their orientation tensors are summed."""

    def describe(self, image: Image) -> Image:
        return orientation(image, self.width, self.noise)

    def turn(self, moving: Tensor, jacobian: Tensor) -> Tensor:
        return turned(moving, jacobian)

    def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        total, variance = agreement(fixed, moving, weight)
        return total / (weight.shape[-1] * (variance + 1e-6)).sqrt()
