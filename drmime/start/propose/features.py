"""A start from matched corners, for images that share places but not intensities; 2-D only.

Rotation and scale are tried one after another rather than guessed from each corner, which is what fails between modalities.
In each, mutual nearest neighbours are fitted a similarity, then an affine map (`drmime.start.propose.matches`). Nothing here is
random.
"""

import math

import torch
from torch import Tensor

from drmime.errors import switch
from drmime.image.image import Image
from drmime.start.propose.base import working_spacing
from drmime.start.propose.corners import SECTORS, SMALLEST, Level, levels
from drmime.start.propose.matches import Hypothesis, Matched, hypothesis, mutual

UNLIKE = 2.0  # images whose lengths differ by more than this factor may be in other units


class Features(Matched):
    """Similarities and affine maps on which many matched corners agree, best first; none where too few do.

    Args:
        multimodal: describe corners so that reversed contrast makes no difference. False is for images of one kind: from
            few keypoints it finds somewhat more.
        count: how many candidates to return at most.
        least: matches that must agree, each counted less the farther it is off. Pairs that share nothing reached 4 to 12; for
            98 of 100 pairs that do, the right map reached 8.
        side: pixels of the longest side to work at.
        keypoints: corners of each image and level.

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
    """Working pixels of the two images: of one world length, and where one image is far longer, also of their own."""
    shared = working_spacing(fixed, moving, side)
    own = [working_spacing(image, image, side) for image in (fixed, moving)]
    return [(shared, shared)] if max(own) < UNLIKE * min(own) else [(shared, shared), (own[0], own[1])]


def _hypotheses(near: Level, far: Level, tolerance: float) -> list[Hypothesis]:
    """The best similarity of each rotation, near the scale at which pixels of both have one length."""
    if min(len(near.places), len(far.places)) < 2:
        return []
    described = near.descriptors(0)
    found = []
    for turn in range(SECTORS):
        here, there = mutual(described @ far.descriptors(turn).T)
        tried = torch.polar(torch.tensor(far.spacing / near.spacing), torch.tensor(turn * 2 * math.pi / SECTORS))
        found.append(hypothesis(near.places[here], far.places[there], tried, tolerance))
    return [one for one in found if one]
