"""Mutual information of two quantised images at every whole-pixel shift at once.

The number of pixels with level a of the fixed image and level b of the moving one is, over all shifts, one correlation of two
indicator images. So bins^2 products of spectra give the exact joint histogram at every shift, and the marginals within the
overlap (Öfverstedt, Lindblad and Sladoje 2022, doi 10.1016/j.patrec.2022.05.022). Any dimension; masks; batches of
fixed images and of moving ones, such as rotated copies of one.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from drmime.errors import number, switch, whole
from drmime.image.image import Image
from drmime.start.propose.poses import good_length

SINGLE = 2**19  # pixels; up to here counts of a float32 FFT are off by less than 0.2 and round to the right integer
CACHE = 16  # MiB processed at once on a CPU; more does not fit its cache and was up to half slower
PALETTE_PIXELS = 2**13  # pixels from which the palette is made: enough for some tens of colours
PALETTE_ROUNDS = 20  # of k-means
DISTANT = 1e3  # of a colour that is nearest to no pixel; values are from 0 to 1


class CrossMaps:
    """Mutual information of quantised images at every shift; fixed images of one shape, moving ones of one shape."""

    _fixed: Tensor  # spectra of the indicators of the levels of B fixed images. shape: (B, levels, *frequencies)
    _mask: Tensor  # spectra of their masks. shape: (B, *frequencies)
    _moving: "Levels"  # of the moving images, not rotated

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
        """Transform the fixed images for rotated copies of the `moving` ones on canvases of `shape`.

        `moving` (B, C, ...), not rotated, define the levels of all copies, so that scores do not depend on the batch.
        """
        moving_shape, self._moving = shape, Levels(moving, self.bins)
        shape = fixed.grid.shape
        self.first = [1 - length for length in moving_shape]
        self._full = tuple(f + m - 1 for f, m in zip(shape, moving_shape, strict=True))
        self._padded = tuple(good_length(n) for n in self._full)  # no shift wraps around
        pixels = math.sqrt(math.prod(shape) * math.prod(moving_shape))
        self._dtype = torch.float32 if pixels <= SINGLE else torch.float64
        levels = Levels(fixed, self.bins).of(fixed)
        # levels that one of the images lacks add nothing to its sums
        present = torch.tensor(_present(levels), dtype=levels.dtype).to(levels.device).view(-1, *[1] * len(shape))
        self._fixed = self._spectra(levels[:, None] == present)
        self._mask = self._spectra(levels >= 0)

    def maps(self, moving: Image, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Score and number of overlapping pixels at every shift. (P, C, *moving_shape) -> (P, *full), (P, *full)

        `full` is fixed + moving - 1 along each axis; at entry i the moving pixel j lies on the fixed pixel
        j + i - (moving - 1). Where nothing overlaps both are 0.
        `rows`: the number of the fixed image of each moving one, (P,); None: one fixed image for all, or one each, in order.
        """
        levels = self._moving.of(moving, rows)
        levels = levels.flip([*range(1, levels.ndim)])  # turns a correlation into a convolution that starts at entry 0
        rotations, together = self._chunks(moving.data.device, rows is not None)
        parts = []
        for start in range(0, len(levels), rotations):
            part = slice(start, start + rotations)
            fixed = rows[part] if rows is not None else part if len(self._mask) > 1 else slice(None)
            parts.append(self._score(self._fixed[fixed], self._mask[fixed], levels[part], together))
        crop = (slice(None), *[slice(n) for n in self._full])
        score, overlap = (torch.cat([part[i][crop] for part in parts]) for i in (0, 1))
        return score.to(moving.data.dtype), overlap.to(moving.data.dtype)

    def _score(self, fixed: Tensor, mask: Tensor, levels: Tensor, together: int) -> tuple[Tensor, Tensor]:
        """Score and overlap, `together` fixed levels at a time. (R, *moving_shape) -> (R, *padded), (R, *padded)

        `fixed` (R or 1, levels, *frequencies) and `mask` (R or 1, *frequencies): spectra of the fixed images.
        """
        overlap = self._counts(mask * self._spectra(levels >= 0)).abs_()  # 0 rather than -0
        total = overlap.clamp(min=1)
        count = fixed.shape[1]
        fixed_shares = overlap.new_zeros(len(levels), count, *self._padded)
        fixed_entropy, moving_entropy, joint_entropy = (torch.zeros_like(overlap) for _ in range(3))
        for level in _present(levels):
            spectra = self._spectra(levels == level)[:, None]
            moving_share = torch.zeros_like(overlap)
            for start in range(0, count, together):
                part = slice(start, start + together)
                shares = self._counts(fixed[:, part] * spectra).div_(total[:, None])
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

    def _chunks(self, device: torch.device, gathered: bool) -> tuple[int, int]:
        """How many moving images, and how many fixed levels, are taken at once to stay within `memory` MiB.

        Each moving image takes bins + 6 maps, and each pair of levels in progress 4. At least one moving image and one pair are
        processed at a time, whatever the limit. The spectra of the fixed images (bins maps each) are counted only if they are
        `gathered`, one for each moving image.
        """
        limit = min(self.memory, CACHE) if device.type == "cpu" else self.memory
        maps = int(limit * 2**20 / (self._dtype.itemsize * math.prod(self._padded)))
        levels = self._fixed.shape[1]
        return max(1, maps // ((6 if gathered else 5) * levels + 6)), min(levels, max(1, (maps - levels - 6) // 4))


class Levels:
    """Levels, 0 to bins - 1, of the values of B images, each of its own, by which their rotated copies are quantised as well.

    One channel: bins of equal width over the robust range of the image. More: the nearest of `bins` colours, by `palette`.
    """

    def __init__(self, image: Image, bins: int) -> None:
        self.bins = bins
        known = image.to("cpu")
        if known.mask is not None:  # an image without valid pixels: any levels will do
            inside = known.mask.flatten(1).any(1).view(-1, *[1] * (known.mask.ndim - 1))
            known = replace(known, mask=torch.where(inside, known.mask, 1))
        low, high = known.limits()
        self._low, self._high = low.to(image.data), high.to(image.data)
        self._colours = None  # shape: (B, K, C); palettes with fewer colours are filled up with distant ones
        if image.data.shape[1] > 1:
            several = [
                self._palette(values, mask) for values, mask in zip(known.between(low, high).data, known.valid, strict=True)
            ]
            padded = torch.nn.utils.rnn.pad_sequence(several, batch_first=True, padding_value=DISTANT)
            self._colours = padded.to(image.data)

    def _palette(self, values: Tensor, mask: Tensor) -> Tensor:
        """The colours of an image (C, *shape) inside its mask (1, *shape). shape: (K, C)"""
        return palette(values.flatten(1)[:, mask.flatten() > 0].T, self.bins)

    def of(self, image: Image, rows: Tensor | None = None) -> Tensor:
        """Level of each pixel, and -1 where the mask is 0. (P, C, *shape) -> (P, *shape), int16

        `rows`: by the levels of which image each is quantised, (P,); None: those of one image for all, or one each, in order.
        """
        low, high = (limit if rows is None else limit[rows] for limit in (self._low, self._high))
        values = image.between(low, high).data
        if self._colours is None:
            levels = (values[:, 0] * self.bins).clamp(max=self.bins - 1)
        else:
            colours = self._colours if rows is None else self._colours[rows]
            pixels = values.flatten(2).mT
            levels = torch.cdist(pixels, colours.expand(len(pixels), -1, -1)).argmin(-1).view(-1, *image.grid.shape)
        levels = levels.short()
        return levels if image.mask is None else torch.where(image.mask[:, 0] > 0, levels, -1)


def _present(levels: Tensor) -> list[int]:
    """The levels that occur in a tensor of levels, without -1, in order."""
    return [level for level in levels.unique().tolist() if level >= 0]


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


def _entropy(share: Tensor) -> Tensor:
    return share.clamp(min=1e-30).log_().mul_(share).neg_()  # half the time of torch.special.entr
