"""Mutual information from a joint histogram that is smooth in the moving intensities.

Each sample spreads over bins by a B-spline, so that the histogram, and with it the mutual information, has a gradient
(Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 2003,
doi 10.1109/TMI.2003.809072). Entropies are in nats, and every value is the mean over the channels.
"""

import torch
from torch import Tensor

from drmime.compare.base import Similarity, shares
from drmime.errors import number, whole


class Histogram(Similarity):
    """Base of the histogram metrics: the joint histogram, with B-spline kernels of order 0, 1 or 3."""

    fixed_order = 0
    moving_order = 3

    def __init__(self, bins: int = 32) -> None:
        """`bins`: number along each intensity axis, from 5 to 1024; the outermost hold only the tails of the kernels."""
        super().__init__()
        self.bins = whole("metric bins", bins, 5, 1024)

    def joint(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        """Joint probabilities of each channel pair. (B, N, Cf), (B, N, Cm), (B, N) -> (B, C, bins, bins)"""
        parzen_fixed = bspline(self._position(fixed), self.bins, self.fixed_order)
        parzen_moving = bspline(self._position(moving), self.bins, self.moving_order)
        weighted = shares(weight)[:, None, :, None] * parzen_fixed
        return weighted.transpose(-1, -2) @ parzen_moving

    def _position(self, values: Tensor) -> Tensor:
        """Bin coordinates of values in [0, 1], with one bin left free at either end. (B, N, C) -> (B, C, N)"""
        return values.clamp(0, 1).transpose(1, 2) * (self.bins - 3) + 1


class MattesMI(Histogram):
    """Mattes mutual information in nats: cubic B-spline Parzen window on the moving intensities, boxes on the fixed."""

    def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        fixed_entropy, moving_entropy, joint_entropy = entropies(self.joint(fixed, moving, weight))
        return (fixed_entropy + moving_entropy - joint_entropy).mean(-1)


class NormalisedMI(Histogram):
    """(H(fixed) + H(moving)) / H(fixed, moving), from 1 to 2; prefers small overlaps less than MI does.

    Studholme, Hill and Hawkes 1999, doi 10.1016/S0031-3203(98)00091-0.
    """

    def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        fixed_entropy, moving_entropy, joint_entropy = entropies(self.joint(fixed, moving, weight))
        return ((fixed_entropy + moving_entropy) / joint_entropy.clamp(min=1e-6)).mean(-1)


class JointHistogramMI(MattesMI):
    """Mutual information of a joint histogram smoothed by a Gaussian (Thevenaz and Unser 2000, doi 10.1109/83.887976)."""

    fixed_order = 1
    moving_order = 1

    def __init__(self, bins: int = 32, smoothing: float = 1.0) -> None:
        """`smoothing`: standard deviation of the Gaussian, in bins."""
        super().__init__(bins)
        self.smoothing = number("metric smoothing", smoothing, 0)

    def joint(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        places = torch.arange(self.bins, device=fixed.device, dtype=fixed.dtype)
        blur = torch.softmax(-0.5 * ((places[:, None] - places) / self.smoothing) ** 2, dim=0)  # columns sum to 1
        return blur @ super().joint(fixed, moving, weight) @ blur.T


def bspline(position: Tensor, bins: int, order: int) -> Tensor:
    """Weights of every bin for each position: cardinal B-spline of order 0, 1 or 3. (...) -> (..., bins)"""
    distance = (position[..., None] - torch.arange(bins, device=position.device, dtype=position.dtype)).abs()
    if order == 0:
        return torch.nn.functional.one_hot(distance.argmin(-1), bins).to(position)
    if order == 1:
        return (1 - distance).clamp(min=0)
    return ((2 - distance).clamp(min=0) ** 3 - 4 * (1 - distance).clamp(min=0) ** 3) / 6


def entropies(joint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Entropies in nats of the rows' marginal, the columns' marginal and the table. (..., R, C) -> (...)"""
    return _entropy(joint.sum(-1)).sum(-1), _entropy(joint.sum(-2)).sum(-1), _entropy(joint).sum((-2, -1))


def _entropy(p: Tensor) -> Tensor:
    return -p * p.clamp(min=1e-12).log()  # unlike torch.special.entr, its gradient is finite at an empty bin
