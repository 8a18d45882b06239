"""Symmetric average minimal distance between fuzzy sets (α-AMD): a metric that combines intensities and distances.

An image is a fuzzy set: the intensity h(p) in [0, 1] of a pixel is its membership. The α-cut of the set S is the ordinary set
{x : h(x) ≥ α}. The distance of a point p of height h to S is the mean over the heights of the distances to its cuts:

    d(p, h, S) = ∫₀ʰ d(p, {h_S ≥ α}) dα + ∫₀¹⁻ʰ d(p, {1 - h_S ≥ α}) dα

The second term is that of the complements ("bidirectional"). It is 0 where S has the height h at p, and else grows with the
distance to where S has it: also far from the optimum it has a gradient towards it. The distance of two images is the weighted
mean over the points of the one of their distances to the other, averaged over both directions.

Lindblad and Sladoje 2014, doi 10.1109/TPAMI.2013.2291214; in registration: Öfverstedt, Lindblad, Sladoje 2019, doi
10.1109/TIP.2019.2899947.
"""

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from drmime.compare.base import Similarity, shares
from drmime.errors import number, switch, whole
from drmime.image.image import Image

ROUNDING = 1e-5  # of intensities; far above the rounding of blurred float32 values, far below one of 256 gray levels


class AlphaAMD(Similarity):
    """Minus the symmetric average minimal distance of α-cuts, mean over the channels; at most 0, for images of one modality.

    Each weighted point contributes half of d(fixed height, moving set) at the mapped point plus half of d(moving height there,
    fixed set) at the fixed point (see the module). Binary images, label images whose labels are in the same order, and gray
    images with comparable intensities can be compared. Both images are normalised by the fixed image's range.

    Units: a distance to a cut of an image is measured in the world of that image and divided by half its longest side (the
    radius of its frame), so that the score does not depend on the number of pixels; the integral over heights adds no unit.
    Hence a transform that changes the scale changes the first direction, measured in the moving image, in proportion, but not
    the second, measured in the fixed image: shrinking alone cannot bring the score to 0.

    The integral is a sum over `cuts` equal intervals of height. In each the cut is that of the lower end: {h > k / cuts}. The
    sum is piecewise linear in the height, exact if the intensities of the set are multiples of 1 / cuts (of binary images
    always), and 0 at every pixel of an image compared with itself. Gradients pass through the distances and the heights.

    Masks: a pixel outside the mask belongs to no cut and to no complement. Its own distance is that to the nearest valid pixel
    of the cut, as elsewhere; it is not used, since points outside a mask have no weight.

    Cost: a described image has C (1 + 2 cuts) channels for C channels of intensity (1 + cuts without `inverse`), and 2 C cuts
    distance transforms are computed on the CPU, once per level: for 512 x 512 gray pixels, four levels and 7 cuts 0.5 s of one
    core and 21 MB per image; for 96 x 96 x 96 voxels 1.5 s and 53 MB on the finest level alone.
    """

    common_scale = True

    def __init__(self, cuts: int = 7, limit: float = 0.5, inverse: bool = True) -> None:
        """
        Args:
            cuts: number of α-cuts, 1 to 256. 4 to 15 give the same counts within 3 of 16 (`experiments/README.md`).
            limit: distances are truncated here, and the distance to an empty cut is this; in units of half the longest side of
                the image. 0.15 to 2 give the same counts within 1 of 20.
            inverse: the complements count too (bidirectional distance). Without, the background of the one image may have any
                height in the other for the points of the one, and only the other direction penalises it.

        Raises:
            InputError: a number out of its range.
        """
        super().__init__()
        self.cuts = whole("metric cuts", cuts, 1, 256)
        self.limit = number("metric limit", limit, 0)
        self.inverse = switch("metric inverse", inverse)

    @property
    def width(self) -> int:
        """Channels described for each channel of intensity: the height, then the distances to cuts and to complements."""
        return 1 + self.cuts * (2 if self.inverse else 1)

    def begin(self, levels: int, batch: int, channels: tuple[int, int], generator: torch.Generator, like: Tensor) -> None:
        super().begin(levels, batch, (channels[0] // self.width, channels[1] // self.width), generator, like)

    def describe(self, image: Image) -> Image:
        """Heights, distances to the cuts and to those of the complements, for each channel. -> (B, C * width, *shape)"""
        batch, channels, *shape = image.data.shape
        heights = image.data.detach().cpu().numpy()
        valid = None if image.mask is None else image.mask[:, 0].cpu().numpy() > 0
        described = np.empty((batch, channels, self.width, *shape), heights.dtype)
        for pair, channel in np.ndindex(batch, channels):
            one, maps = heights[pair, channel], described[pair, channel]
            inside = None if valid is None else valid[pair]
            maps[0] = one
            self._distances(one, inside, image, maps[1 : 1 + self.cuts])
            if self.inverse:
                self._distances(1 - one, inside, image, maps[1 + self.cuts :])
        data = torch.from_numpy(described).flatten(1, 2).to(image.data.device)
        return Image(data, image.grid, image.mask)

    def _distances(self, heights: np.ndarray, inside: np.ndarray | None, image: Image, out: np.ndarray) -> None:
        """Fill `out` (cuts, *shape) with the truncated distances of each pixel to the nearest one of each cut."""
        radius = float(image.grid.extent.max()) / 2
        spacing = (image.grid.spacing.flip(0) / radius).tolist()
        last = None
        for index, distances in enumerate(out):
            cut = heights > index / self.cuts + ROUNDING
            if inside is not None:
                cut &= inside
            if last is not None and np.array_equal(cut, last):  # all cuts of a binary image
                distances[:] = out[index - 1]
            elif cut.any():
                distances[:] = np.minimum(distance_transform_edt(~cut, sampling=spacing), self.limit)
            else:
                distances[:] = self.limit
            last = cut

    def score(self, fixed: Tensor, moving: Tensor, weight: Tensor) -> Tensor:
        fixed, moving = (values.unflatten(-1, (-1, self.width)) for values in (fixed, moving))
        both = self._distance(fixed[..., 0], moving[..., 1:]) + self._distance(moving[..., 0], fixed[..., 1:])
        return -(shares(weight)[..., None] * both).sum(1).mean(-1) / 2

    def _distance(self, heights: Tensor, distances: Tensor) -> Tensor:
        """Integral of the distances to cuts (B, N, C, width - 1) of points of these heights (B, N, C). -> (B, N, C)"""
        first = torch.arange(self.cuts, device=heights.device, dtype=heights.dtype)
        sides = (heights, 1 - heights) if self.inverse else (heights,)
        covered = torch.cat([(side[..., None] * self.cuts - first).clamp(0, 1) for side in sides], -1)  # share of each interval
        return (covered * distances).sum(-1) / self.cuts
