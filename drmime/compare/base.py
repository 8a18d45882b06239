"""`Similarity`: the interface between a metric and the optimisation loop."""

import copy
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from drmime.errors import InputError
from drmime.image.image import Image


class Similarity(nn.Module):
    """Scores sampled values of both images, for each level and pair. Intensities are in [0, 1], see `Image.normalised`.

    A metric that compares channel by channel implements `score`; one that depends on levels and pairs overrides `forward`.
    Parameters of the metric are optimised too; for the first `warmup` steps only they are.
    """

    rate: float = 0.0  # learning rate of the metric's parameters
    warmup: int = 0  # steps before the transform is optimised
    common_scale: bool = False  # True: both images are normalised by the fixed image's range

    def begin(self, levels: int, batch: int, channels: tuple[int, int], generator: torch.Generator, like: Tensor) -> None:
        """Prepare for a run: create parameters and state with dtype and device of `like`, random ones from `generator` (CPU).

        Parameters and buffers have the pairs along their first axis (`repeated`).

        Raises:
            InputError: channels (fixed, moving) that cannot be compared one by one.
        """
        if channels[0] != channels[1] and 1 not in channels:
            raise InputError(
                f"metric {type(self).__name__} compares channel by channel: expected as many on both sides or one on either, "
                f"got {channels[0]} and {channels[1]}. Metric 'mine' takes any."
            )

    def draw(self, counts: Mapping[int, int]) -> None:
        """Draw the random numbers of the next step, apart from `forward`, whose operations may be repeated as they are.

        `counts`: the numbers of points N of the calls of `forward` in that step, by the first of their levels.
        """

    def describe(self, image: Image) -> Image:
        """The image compared on a level: by default `image` itself, else channels computed from it, on the same grid."""
        return image

    def turn(self, moving: Tensor, jacobian: Tensor) -> Tensor:
        """Values (L, B, N, C) of the moving image, with directional channels rotated to the axes of the fixed image.

        `jacobian` (L, B, 1 or N, D, D): derivative of the moving point by the fixed point, up to a positive factor.
        """
        return moving

    def forward(self, fixed: Tensor, moving: Tensor, weight: Tensor, levels: slice) -> Tensor:
        """Scores on the pyramid's `levels`: fixed (L, B, N, Cf), moving (L, B, N, Cm), weight (L, B, N) -> (L, B)

        `draw` has been called for this step. Nothing here may depend on what changes between steps, but for tensors that are
        changed in place, if the option `graphs` of `drmime.Device` is to be used.
        """
        return self.score(fixed.flatten(0, 1), moving.flatten(0, 1), weight.flatten(0, 1)).view(weight.shape[:2])

    def repeated(self, copies: int) -> Self:
        """A metric in the state of this one, which is not changed, for a batch of so many consecutive copies of each pair.

        Parameters and buffers are repeated along their first axis. A metric with other state of each pair overrides this.
        """
        made = copy.deepcopy(self)
        for module in made.modules():
            for name, one in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                many = one.detach().repeat_interleave(copies, 0)
                setattr(module, name, nn.Parameter(many, one.requires_grad) if isinstance(one, nn.Parameter) else many)
        return made

    def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        """Scores of pairs: fixed (B, N, Cf), moving (B, N, Cm), weight (B, N) -> (B,)

        A single channel is compared with each channel of the other image.
        """
        raise NotImplementedError


def shares(weight: Tensor) -> Tensor:
    """Weights (..., N) scaled to sum to 1; all zero stays all zero."""
    return weight / weight.sum(-1, keepdim=True).clamp(min=1e-6)
