"""A start from matched corners, for images whose corners correspond but whose intensities do not; 2-D only.

Rotations and scales are tried one after the other rather than estimated from each corner, since that estimate fails between
modalities. For each, a similarity and then an affine map are fitted to mutual nearest neighbours
(`drmime.start.propose.matches`). Nothing is random.
"""

import math

import torch
from torch import Tensor

from drmime.errors import switch
from drmime.image.image import Image
from drmime.start.propose.base import working_spacing
from drmime.start.propose.corners import SECTORS, SMALLEST, Level, levels
from drmime.start.propose.matches import Hypothesis, Matched, hypothesis, mutual

UNLIKE = 2.0  # ratio of two images' lengths above which their units may differ


class Features(Matched):
    """Similarities and affine maps on which many matched corners agree, best first; none if too few agree.

    Args:
        multimodal: use descriptors that do not change when contrast is reversed. False is for images of one modality; it finds
            somewhat more if there are few keypoints.
        count: most candidates returned.
        least: least support, a count of matches that agree, weighted from 1 to 0 by their distance. Pairs without common
            content reached 4 to 12; for 98 of 100 pairs with common content the right map reached 8.
        side: working pixels along the longest side.
        keypoints: most corners of each image and level.

    Raises:
        InputError: an option out of range, or, when called, images that are not 2-D.
    """

    what = "features are"

    def __init__(self, multimodal: bool = True, count: int = 4, least: int = 7, side: int = 400, keypoints: int = 600) -> None:
        self.harmonics = (2, 4) if switch("features: multimodal", multimodal) else (1, 2, 3)
        super().__init__("features", count, least, side, 2 * SMALLEST, keypoints)

    def hypotheses(self, fixed: Image, moving: Image, axes: Tensor, tolerance: float) -> list[Hypothesis]:
        found = []
        for units in _units(fixed, moving, self.side):
            first, second = (
                levels(image, unit, axes, self.harmonics, self.keypoints)
                for image, unit in zip((fixed, moving), units, strict=True)
            )
            for i, near in enumerate(first):
                for far in second if i == 0 else second[:1]:
                    found += _hypotheses(near, far, tolerance)
        return found


def _units(fixed: Image, moving: Image, side: int) -> list[tuple[float, float]]:
    """Working pixel lengths of the two images: one in common, and if one image is far longer, also one for each."""
    shared = working_spacing(fixed, moving, side)
    own = [working_spacing(image, image, side) for image in (fixed, moving)]
    return [(shared, shared)] if max(own) < UNLIKE * min(own) else [(shared, shared), (own[0], own[1])]


def _hypotheses(near: Level, far: Level, tolerance: float) -> list[Hypothesis]:
    """The similarity of most support for each rotation, near the scale that maps pixels of one level to those of the other."""
    if min(len(near.places), len(far.places)) < 2:
        return []
    described = near.descriptors(0)
    found = []
    for turn in range(SECTORS):
        here, there = mutual(described @ far.descriptors(turn).T)
        tried = torch.polar(torch.tensor(far.spacing / near.spacing), torch.tensor(turn * 2 * math.pi / SECTORS))
        found.append(hypothesis(near.places[here], far.places[there], tried, tolerance))
    return [one for one in found if one]
