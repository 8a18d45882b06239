"""Letting the level that knows most about the motion speak loudest, while all levels are optimised jointly.

Every level gives a gradient with sampling noise, and the noise of a fine level is many times that of a coarse one: its
intensities change over single pixels, in any direction. From a start some way off only the coarse levels see which way to
go, and in a plain sum they are not heard. So each level's gradient is weighted by a power of its own running variance: by
1/variance at first, as one averages measurements of unequal noise, and by its fourth root at the end, where the fine levels
decide the last tenths of a pixel. `experiments/README.md` has what this changes on real pairs.
"""

import torch
from torch import Tensor

AVERAGE = 0.05  # rate of the running variance
SILENT = 1e30  # the variance of a level that has not spoken yet


class Balance:
    """The weighted mean of the levels' gradients of the coefficients, each pair by itself."""

    def __init__(self, weights: Tensor) -> None:
        """`weights` (levels,): the user's, which multiply those of the noise."""
        self.weights = weights[:, None, None]
        self.variance: Tensor | None = None  # mean square of a level's own gradient. shape: (levels, B, 1)

    def __call__(self, gradient: Tensor, late: float) -> Tensor:
        """Parts of the mean from parts of the weighted sum, (levels, B, K); `late` runs from 0 to 1 over the steps."""
        own = gradient / self.weights.clamp(min=1e-12)
        square = (own**2).mean(-1, keepdim=True)
        past = square if self.variance is None else torch.where(self.variance > 0, self.variance, square)
        self.variance = torch.where(square > 0, past.lerp(square, AVERAGE), past)  # a level without points is not measured
        noise = torch.where(self.variance > 0, self.variance, SILENT)
        return torch.softmax(self.weights.log() + (0.75 * late - 1) * noise.log(), 0) * own
