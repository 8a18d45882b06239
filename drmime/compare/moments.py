"""Metrics from means, variances and covariances, for images of one modality."""

from torch import Tensor

from drmime.compare.base import Similarity, shares


class NCC(Similarity):
    """Normalised cross-correlation in [-1, 1], mean over the channels; invariant to brightness and contrast."""

    def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        share = shares(weight)[..., None]
        fixed = fixed - (share * fixed).sum(1, keepdim=True)
        moving = moving - (share * moving).sum(1, keepdim=True)
        covariance = (share * fixed * moving).sum(1)
        variances = (share * fixed**2).sum(1) * (share * moving**2).sum(1)
        return (covariance / (variances + 1e-12).sqrt()).mean(-1)


class MSE(Similarity):
    """Negative mean squared difference, mean over the channels; only for images with equal intensities.

    Both images are normalised by the fixed image's range.
    """

    common_scale = True

    def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        return -(shares(weight)[..., None] * (fixed - moving) ** 2).sum(1).mean(-1)
