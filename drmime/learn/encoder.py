"""`Encoder`: a small U-Net from the channels of one modality to a representation, in two or three dimensions.

Ronneberger, Fischer and Brox 2015, arXiv 1505.04597. There is no normalisation over space, so that a tile of an image is
encoded as it is within the whole image (`encode`).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmime.errors import switch, whole

SLOPE = 0.1  # of leaky rectifiers for negative values
TILE = {2: 1024, 3: 96}  # pixels along a side that are encoded at once, by dimension


class Encoder(nn.Module):
    """A U-Net with skip connections; the representation has the size of the image.

    Args:
        ndim: 2 or 3.
        inputs: channels of the modality.
        outputs: channels of the representation.
        width: channels of the finest level; they double at each coarser one.
        depth: how many times the image is halved.
        dense: each convolution of a block sees all that came before it in the block (Huang et al. 2017, arXiv 1608.06993).

    Raises:
        InputError: an option out of its range.
    """

    def __init__(self, ndim: int, inputs: int, outputs: int = 1, width: int = 16, depth: int = 3, dense: bool = False) -> None:
        super().__init__()
        self.ndim, self.depth = whole("ndim", ndim, 2, 3), whole("depth", depth, 0, 6)
        self.inputs, self.outputs = whole("inputs", inputs, 1, 4096), whole("outputs", outputs, 1, 256)
        self.width, self.dense = whole("width", width, 1, 512), switch("dense", dense)
        widths = [width * 2**level for level in range(depth + 1)]
        before = [inputs, *widths[:-1]]
        self.down = nn.ModuleList(_Block(ndim, old, new, dense) for old, new in zip(before, widths, strict=True))
        self.up = nn.ModuleList(
            _Block(ndim, coarse + fine, fine, dense) for fine, coarse in reversed(list(itertools.pairwise(widths)))
        )
        self.last = _conv(ndim, widths[0], outputs, 1)

    @property
    def margin(self) -> int:
        """Pixels around a tile on which its representation depends, a multiple of 2**depth."""
        step = 2**self.depth
        blocks = 2 * (2 * step - 1) + 2 * (step - 1)  # two kernels of 3 pixels in each block, on the way down and up
        interpolated = 2 * (step - 1)  # one coarser pixel at each level on the way up
        return math.ceil((blocks + interpolated + step) / step) * step

    def forward(self, pixels: Tensor) -> Tensor:
        """Representations (B, outputs, *shape) of images (B, inputs, *shape), whose sides are multiples of 2**depth."""
        mode = "bilinear" if self.ndim == 2 else "trilinear"
        pool = F.avg_pool2d if self.ndim == 2 else F.avg_pool3d
        kept = []
        for level, block in enumerate(self.down):
            pixels = block(pool(pixels, 2) if level else pixels)
            kept.append(pixels)
        pixels = kept.pop()
        for block in self.up:
            skipped = kept.pop()
            coarse = F.interpolate(pixels, scale_factor=2, mode=mode, align_corners=False)
            pixels = block(torch.cat([coarse, skipped], 1))
        return self.last(pixels)


class _Block(nn.Module):
    """Two convolutions of 3 pixels a side, each followed by a leaky rectifier."""

    def __init__(self, ndim: int, inputs: int, outputs: int, dense: bool) -> None:
        super().__init__()
        self.dense = dense
        self.first = _conv(ndim, inputs, outputs, 3)
        self.second = _conv(ndim, inputs + outputs if dense else outputs, outputs, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        found = F.leaky_relu(self.first(pixels), SLOPE)
        return F.leaky_relu(self.second(torch.cat([pixels, found], 1) if self.dense else found), SLOPE)


def _conv(ndim: int, inputs: int, outputs: int, kernel: int) -> nn.Module:
    kind = nn.Conv2d if ndim == 2 else nn.Conv3d
    made = kind(inputs, outputs, kernel, padding=kernel // 2, padding_mode="replicate")
    nn.init.kaiming_normal_(made.weight, SLOPE)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


def encode(encoder: Encoder, pixels: Tensor, tile: int | None = None) -> Tensor:
    """The representation of images of any size, tile by tile, so that memory does not grow with the image.

    Tiles overlap by the margin of the encoder: the result does not depend on their size. (B, C, *shape) -> (B, outputs, *shape)
    """
    ndim, step, margin = encoder.ndim, 2**encoder.depth, encoder.margin
    side = max(step, (tile or TILE[ndim]) // step * step)
    shape = pixels.shape[2:]
    out = pixels.new_empty(len(pixels), encoder.outputs, *shape)
    with torch.inference_mode():
        for corner in itertools.product(*[range(0, length, side) for length in shape]):
            ends = [min(start + side, length) for start, length in zip(corner, shape, strict=True)]
            part, inner = _with_margin(pixels, corner, ends, margin, step)
            target: tuple[Any, ...] = (..., *(slice(start, end) for start, end in zip(corner, ends, strict=True)))
            inside: tuple[Any, ...] = (..., *inner)
            out[target] = encoder(part)[inside]
    return out


def _with_margin(
    pixels: Tensor, corner: Sequence[int], ends: Sequence[int], margin: int, step: int
) -> tuple[Tensor, list[slice]]:
    """The part of an image around a tile, with repeated edge pixels up to a multiple of `step`; and where the tile is in it."""
    slices, inner, padding = [], [], list[int]()
    for start, end, length in zip(corner, ends, pixels.shape[2:], strict=True):
        first, last = max(0, start - margin), min(length, end + margin)
        missing = -(last - first) % step
        slices.append(slice(first, last))
        inner.append(slice(start - first, end - first))
        padding = [0, missing, *padding]
    around: tuple[Any, ...] = (..., *slices)
    return F.pad(pixels[around], padding, mode="replicate"), inner
