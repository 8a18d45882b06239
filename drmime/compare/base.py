"""What every metric is to the loop."""

import torch
from torch import Tensor, nn

from drmime.errors import InputError
from drmime.image.image import Image


class Similarity(nn.Module):
    """Scores sampled intensities of both images, per level and pair. Values arrive in [0, 1], see `Image.normalised`.

    A metric of channel by channel implements `score`; one that needs to know levels and pairs overrides `forward`.
    If it has parameters, they join the optimiser with the rate `rate`, alone for the first `warmup` steps.
    """

    rate: float = 0.0
    warmup: int = 0
    common_scale: bool = False  # True: both images are normalised by the fixed image's range

    def begin(self, levels: int, batch: int, channels: tuple[int, int], generator: torch.Generator, like: Tensor) -> None:
        """Get ready for a run: parameters and state of `like`'s dtype and device, randomness from `generator` (CPU).

        Raises:
            InputError: channels (fixed, moving) that cannot be compared one by one.
        """
        if channels[0] != channels[1] and 1 not in channels:
            raise InputError(
                f"metric {type(self).__name__} compares channel by channel: expected as many on both sides or one on either, "
                f"got {channels[0]} and {channels[1]}. Metric 'mine' takes any."
            )

    def describe(self, image: Image) -> Image:
        """What is compared on a level: by default the image itself, else channels made from it, on the same grid."""
        return image

    def turn(self, moving: Tensor, jacobian: Tensor) -> Tensor:
        """Values (L, B, N, C) of the moving image with what has a direction turned into the fixed image's axes.

        `jacobian` (L, B, 1 or N, D, D): of the moving point by the fixed point, up to a positive factor.
        """
        return moving

    def forward(self, fixed: Tensor, moving: Tensor, weight: Tensor, levels: slice) -> Tensor:
        """(L, B, N, Cf), (L, B, N, Cm), (L, B, N) of the pyramid's `levels` -> (L, B)"""
        return self.score(fixed.flatten(0, 1), moving.flatten(0, 1), weight.flatten(0, 1)).view(weight.shape[:2])

    def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        """(B, N, Cf), (B, N, Cm), (B, N) -> (B,); a single channel is compared with each of the other image's."""
        raise NotImplementedError


def shares(weight: Tensor) -> Tensor:
    """Weights (..., N) scaled to sum to 1; all zero stays all zero."""
    return weight / weight.sum(-1, keepdim=True).clamp(min=1e-6)
