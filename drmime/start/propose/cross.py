"""Mutual information of two quantised images at every whole-pixel shift at once.

The number of pixels with level a of the fixed image and level b of the moving one is, over all shifts, one correlation of two
indicator images. So bins^2 products of spectra give the exact joint histogram at every shift, and the marginals within the
overlap (Öfverstedt, Lindblad and Sladoje 2022, doi 10.1016/j.patrec.2022.05.022). Any dimension; masks; a batch of
moving images, such as rotated copies of one.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from drmime.errors import number, switch, whole
from drmime.geometry.grid import Grid
from drmime.image.image import Image
from drmime.start.propose.poses import good_length

SINGLE = 2**19  # pixels; up to here counts of a float32 FFT are off by less than 0.2 and round to the right integer
CACHE = 16  # MiB processed at once on a CPU; more does not fit its cache and was up to half slower
PALETTE_PIXELS = 2**13  # pixels from which the palette is made: enough for some tens of colours
PALETTE_ROUNDS = 20  # of k-means


class CrossMaps:
    """Mutual information of quantised images at every shift; one fixed image, any number of moving ones of one shape."""

    _fixed: Tensor  # spectra of the indicators of the fixed image's levels. shape: (levels, *frequencies)
    _mask: Tensor  # spectrum of the fixed image's mask. shape: frequencies

    def __init__(self, bins: int = 16, normalised: bool = False, memory: float = 256) -> None:
        """
        Args:
            bins: levels of each image.
            normalised: Studholme's NMI, from 1 to 2, instead of mutual information in nats.
            memory: MiB, see `_chunks`.

        Raises:
            InputError: an option out of range.
        """
        self.bins = whole("search bins", bins, 2, 2**15)
        self.normalised = switch("search normalised", normalised)
        self.memory = number("search memory", memory, 0)

    def describe(self, image: Image) -> Image:
        return image

    def turn(self, moving: Tensor, jacobian: Tensor) -> Tensor:
        return moving

    def begin(self, fixed: Image, moving: Image, shape: Sequence[int], least_overlap: float = 0.35) -> None:
        """Transform the fixed image, B = 1, for rotated copies of `moving` on canvases of `shape`.

        `moving` (1, C, ...), not rotated, defines the levels of all copies, so that scores do not depend on the batch.
        """
        moving_shape, self._reference = shape, moving
        shape = fixed.grid.shape
        self.first = [1 - length for length in moving_shape]
        self._full = tuple(f + m - 1 for f, m in zip(shape, moving_shape, strict=True))
        self._padded = tuple(good_length(n) for n in self._full)  # no shift wraps around
        pixels = math.sqrt(math.prod(shape) * math.prod(moving_shape))
        self._dtype = torch.float32 if pixels <= SINGLE else torch.float64
        levels = quantise(fixed, self.bins)[0]
        present = levels[levels >= 0].unique().view(-1, *[1] * len(shape))
        self._fixed = self._spectra(levels == present)
        self._mask = self._spectra(levels >= 0)

    def maps(self, moving: Image) -> tuple[Tensor, Tensor]:
        """Score and number of overlapping pixels at every shift. (P, C, *moving_shape) -> (P, *full), (P, *full)

        `full` is fixed + moving - 1 along each axis; at entry i the moving pixel j lies on the fixed pixel
        j + i - (moving - 1). Where nothing overlaps both are 0.
        """
        levels = quantise(moving, self.bins, self._reference)
        levels = levels.flip([*range(1, levels.ndim)])  # turns a correlation into a convolution that starts at entry 0
        rotations, together = self._chunks(moving.data.device)
        parts = [self._score(part, together) for part in levels.split(rotations)]
        crop = (slice(None), *[slice(n) for n in self._full])
        score, overlap = (torch.cat([part[i][crop] for part in parts]) for i in (0, 1))
        return score.to(moving.data.dtype), overlap.to(moving.data.dtype)

    def _score(self, levels: Tensor, together: int) -> tuple[Tensor, Tensor]:
        """Score and overlap, `together` fixed levels at a time. (R, *moving_shape) -> (R, *padded), (R, *padded)"""
        overlap = self._counts(self._mask * self._spectra(levels >= 0)).abs_()  # 0 rather than -0
        total = overlap.clamp(min=1)
        fixed_shares = overlap.new_zeros(len(levels), len(self._fixed), *self._padded)
        fixed_entropy, moving_entropy, joint_entropy = (torch.zeros_like(overlap) for _ in range(3))
        for level in levels[levels >= 0].unique():
            spectra = self._spectra(levels == level)[:, None]
            moving_share = torch.zeros_like(overlap)
            for start in range(0, len(self._fixed), together):
                part = slice(start, start + together)
                shares = self._counts(self._fixed[part] * spectra).div_(total[:, None])
                fixed_shares[:, part] += shares
                moving_share += shares.sum(1)
                joint_entropy += _entropy(shares).sum(1)
            moving_entropy += _entropy(moving_share)
        for shares in fixed_shares.unbind(1):
            fixed_entropy += _entropy(shares)
        if self.normalised:
            # Where one pair of levels fills the overlap the joint entropy is 0 but for rounding; else it is above this.
            score = torch.where(joint_entropy > 1e-6, (fixed_entropy + moving_entropy) / joint_entropy, 1)
        else:
            score = (fixed_entropy + moving_entropy - joint_entropy).clamp(min=0)
        return torch.where(overlap > 0, score, 0), overlap

    def _spectra(self, indicator: Tensor) -> Tensor:
        return torch.fft.rfftn(indicator.to(self._dtype), s=self._padded)

    def _counts(self, spectra: Tensor) -> Tensor:
        return torch.fft.irfftn(spectra, s=self._padded).round_()

    def _chunks(self, device: torch.device) -> tuple[int, int]:
        """How many moving images, and how many fixed levels, are taken at once to stay within `memory` MiB.

        Each moving image takes bins + 6 maps, and each pair of levels in progress 4. At least one moving image and one pair are
        processed at a time, whatever the limit; the spectra of the fixed image (bins maps) are not counted.
        """
        limit = min(self.memory, CACHE) if device.type == "cpu" else self.memory
        maps = int(limit * 2**20 / (self._dtype.itemsize * math.prod(self._padded)))
        levels = len(self._fixed)
        return max(1, maps // (5 * levels + 6)), min(levels, max(1, (maps - levels - 6) // 4))


def quantise(image: Image, bins: int, reference: Image | None = None) -> Tensor:
    """Level of each pixel, 0 to bins - 1, and -1 where the mask is 0. (P, C, *shape) -> (P, *shape), int16

    One channel: bins of equal width over the robust range of `reference`, by default the whole batch. More: the nearest
    of `bins` colours, by `palette`.
    """
    batch, channels, *shape = image.data.shape
    if image.mask is not None and not image.mask.any():
        return torch.full((batch, *shape), -1, dtype=torch.int16, device=image.data.device)
    source = _as_one(reference or image)
    values = _as_one(image).normalised(source).data.view(channels, batch, -1)
    if channels == 1:
        levels = (values[0] * bins).clamp(max=bins - 1)
    else:
        known = source.normalised().data[0].flatten(1)
        colours = palette((known if source.mask is None else known[:, source.mask.flatten() > 0]).T, bins)
        levels = torch.stack([torch.cdist(pixels.T, colours).argmin(1) for pixels in values.unbind(1)])
    levels = levels.view(batch, *shape).short()
    return levels if image.mask is None else torch.where(image.mask[:, 0] > 0, levels, -1)


def palette(pixels: Tensor, count: int) -> Tensor:
    """At most `count` colours that represent `pixels`, by k-means; deterministic. (N, C) -> (K, C)

    Initial groups: the group with the largest scatter is split at its mean along its principal axis, repeatedly (PCA-Part, Su
    and Dy 2007, doi 10.3233/IDA-2007-11402). An initialisation by quantiles along one axis gave a large flat background
    two colours and two smaller regions one colour in common.
    """
    pixels = pixels[:: max(1, len(pixels) // PALETTE_PIXELS)]
    group = torch.zeros(len(pixels), dtype=torch.long, device=pixels.device)
    colours = pixels.mean(0, keepdim=True)
    for new in range(1, count):
        rest = pixels - colours[group]
        scatter = rest.new_zeros(new).index_add(0, group, rest.square().sum(1))
        if scatter.max() < 1e-9 * len(pixels):  # every group is one colour: the remaining scatter is rounding
            break
        widest = group == scatter.argmax()
        axis = torch.linalg.eigh(rest[widest].T @ rest[widest]).eigenvectors[:, -1]
        group = torch.where(widest & (rest @ axis > 0), new, group)
        colours = _means(pixels, group, torch.cat([colours, colours[:1]]))
    for _ in range(PALETTE_ROUNDS):
        colours = _means(pixels, torch.cdist(pixels, colours).argmin(1), colours)
    return colours


def _means(pixels: Tensor, group: Tensor, colours: Tensor) -> Tensor:
    """Mean of each group; an empty group keeps its colour. (N, C), (N,), (K, C) -> (K, C)"""
    member = torch.nn.functional.one_hot(group, len(colours)).to(pixels)
    size = member.sum(0)[:, None]
    return torch.where(size > 0, member.T @ pixels / size.clamp(min=1), colours)


def _as_one(image: Image) -> Image:
    """The batch side by side as one image, to share one range. (P, C, H, ...) -> (1, C, P * H, ...)"""
    data = image.data.transpose(0, 1).flatten(1, 2)[None]
    mask = None if image.mask is None else image.mask.transpose(0, 1).flatten(1, 2)[None]
    return Image(data, Grid.regular(data.shape[2:]), mask)


def _entropy(share: Tensor) -> Tensor:
    return share.clamp(min=1e-30).log_().mul_(share).neg_()  # half the time of torch.special.entr
