"""A start from kornia's SIFT (Lowe 2004, doi 10.1023/B:VISI.0000029664.99615.94), for images of similar modalities; 2-D only.

Each keypoint has a scale and a direction, so each match gives an estimate of rotation and scale; the map on which most matches
agree is found as for corners (`drmime.start.propose.matches`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.errors import switch
from drmime.image.image import Image
from drmime.start.propose.base import working_image, working_spacing
from drmime.start.propose.matches import Hypothesis, Matched, hypothesis, mutual

ANGLES, CELLS = 8, 4  # of a descriptor: directions of gradients, in squares of 4 by 4
SMALLEST = 32  # pixels: of images with a shorter side kornia has no scale space


class SIFT(Matched):
    """Similarities and affine maps on which many SIFT matches agree, best first; none if too few agree.

    Args:
        multimodal: treat a gradient and its opposite as equal, and also match keypoints whose direction is reversed, as it is
            under reversed contrast. False is for images of one modality.
        count: most candidates returned.
        least: least support, a count of matches that agree, weighted from 1 to 0 by their distance.
        side: working pixels along the longest side.
        keypoints: most keypoints of each image.

    Raises:
        InputError: an option out of range, or, when called, images that are not 2-D.
    """

    what = "sift is"

    def __init__(self, multimodal: bool = True, count: int = 4, least: int = 7, side: int = 512, keypoints: int = 1000) -> None:
        self.multimodal = switch("sift: multimodal", multimodal)
        super().__init__("sift", count, least, side, SMALLEST, keypoints)

    def hypotheses(self, fixed: Image, moving: Image, axes: Tensor, tolerance: float) -> list[Hypothesis]:
        (a, size, known), (b, other, seen) = (self._keypoints(image, axes) for image in (fixed, moving))
        found = []
        for upside_down in (False, True) if self.multimodal else (False,):
            likeness = _vectors(known, self.multimodal) @ _vectors(seen, self.multimodal, upside_down).T
            if likeness.numel():
                here, there = mutual(likeness)
                turn = -1 if upside_down else 1
                found.append(hypothesis(a[here], b[there], turn * other[there] / size[here], tolerance))
        return [one for one in found if one]

    def _keypoints(self, image: Image, axes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keypoints of an image: places, sizes with directions, and descriptors.

        Places from the image's centre and sizes: (N,) complex, in world units along `axes`. Descriptors:
        (N, angles, cells, cells), squared, so that they are shares of the gradients.
        """
        from kornia.feature import SIFTFeature  # on demand: its import takes a while and few runs need it

        spacing = working_spacing(image, image, self.side)
        level = working_image(image, spacing, axes)
        if min(level.grid.shape) < SMALLEST:
            nothing = torch.zeros(0, dtype=torch.complex64)
            return nothing, nothing, torch.zeros(0, ANGLES, CELLS, CELLS)
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):  # kornia draws from torch's own random numbers
            frames, _, descriptors = SIFTFeature(self.keypoints)(level.data, level.mask)
        frames = frames[0].clone()  # shape: (N, 2, 3): the keypoint's axes, and its place
        middle = torch.tensor(level.grid.shape[::-1]) / 2 - 0.5
        places = torch.view_as_complex(((frames[..., 2] - middle) * spacing).contiguous())
        sizes = torch.view_as_complex((frames[..., 0] * spacing).contiguous())
        return places, sizes, descriptors[0].clone().view(-1, ANGLES, CELLS, CELLS).square()


def _vectors(shares: Tensor, blind: bool, upside_down: bool = False) -> Tensor:
    """Unit vectors (N, F) of descriptors.

    `blind`: opposite gradients count as equal. `upside_down`: as for a keypoint whose direction is reversed: the cells are
    rotated by 180 degrees, the gradients in them are not.
    """
    if upside_down:
        shares = shares.flip(2, 3)
    if blind:
        shares = shares[:, : ANGLES // 2] + shares[:, ANGLES // 2 :]
    return F.normalize(shares.flatten(1).sqrt(), dim=1)
