"""Which way intensities change, as symmetric tensors: what two images of unlike contrast still have in common.

An edge that is bright on dark in one image and dark on bright in the other, or an edge between other intensities
altogether, lies along the same line in both. With n the unit gradient, the tensor n nᵀ holds that line and not its sign;
the inner product of two such tensors is cos² of the angle between the gradients, in any dimension. With the gradient's
length |g| and a noise σ the tensor is g gᵀ / (|g|² + σ²): what is weaker than the noise has no direction. With errors of that
size on the gradients, the mutual information of the two images at a point is -½ log(1 - <A, B>), which is finite where W.
Couwenberg's -½ log sin²α ("Mutual information and fast image registration", 2016) has its singularity.

A tensor's components are those in an orthonormal basis of the symmetric matrices, so that the inner product of two tensors
is that of their components. The last one belongs to the identity: it is the trace by √D, how clear an edge is. The others
have no trace; in two dimensions they are cos 2φ and sin 2φ of the gradient's angle φ, times the trace by √2.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.geometry.matrices import combined
from drmime.image.image import Image

EDGE = 2  # pixels next to a border whose derivatives are the border's (a third of a thinner image); more would leave little
CELLS = 64  # along the longest side, on which local means are taken
NEAR = 0.05  # of the longest side: the width of the Gaussian that says what is nearby
BLURRED = 3  # likewise, next to a mask: as far as the Gaussian of the derivatives reaches
SMALL = 16  # pixels of the shortest side for each pixel that is left out next to a mask: of a small image something must stay
BAND = 2**16  # pixels of an image that are worked on at once


def orientation(image: Image, width: float = 1.0, noise: float = 0.5, out: Tensor | None = None) -> Image:
    """The tensors of `image`, which is normalised, as an image of D(D+1)/2 channels on the same grid, in world axes.

    Channels are added up: a colour edge is an edge. The mask leaves out where the image's own border or that of its mask would
    be taken for an edge.

    Args:
        width: standard deviation of the Gaussian whose derivatives are taken, in pixels.
        noise: σ² as a share of the mean of |g|² over the image.
        out: where to write the tensors.
    """
    ndim = image.grid.ndim
    axes = image.grid.index_from_world[:-1, :-1].to(image.data)
    tensors = image.data.new_empty(len(image.data), components(ndim), *image.grid.shape) if out is None else out
    inner = _inner(image)
    total = image.data.new_zeros(len(image.data))
    bands = list(_bands(image.grid.shape, math.ceil(3 * width) + 1))
    for rows, around, part in bands:  # a few rows after another: temporary tensors stay small
        mask = None if image.mask is None else image.mask[:, :, around]
        tensors[:, :, rows] = _structure(image.data[:, :, around], mask, width, axes)[:, :, part]
        total += math.sqrt(ndim) * (tensors[:, -1:, rows] * inner[:, :, rows]).flatten(1).sum(1)
    mean = total / inner.flatten(1).sum(1).clamp(min=1)
    floor = (noise * mean).clamp(min=1e-12).view(-1, *[1] * (ndim + 1))
    for rows, _, _ in bands:
        strength = math.sqrt(ndim) * tensors[:, -1:, rows]
        tensors[:, :, rows] *= inner[:, :, rows] / (strength + floor)
    if not inner.flatten(1).any(1).all():  # of a sliver nothing is left: zeros, under the mask it had
        some = inner.flatten(1).any(1).view(-1, *[1] * (ndim + 1))
        inner = torch.where(some, inner, torch.ones_like(inner) if image.mask is None else image.mask)
    return Image(tensors, image.grid, inner)


def _structure(data: Tensor, mask: Tensor | None, width: float, axes: Tensor) -> Tensor:
    """Components of the gradients' outer products, summed over channels: (B, C, *shape) -> (B, m, *shape)"""
    ndim = axes.shape[0]
    smooth = gaussian(data if mask is None else data * mask, width)
    if mask is not None:  # what it covers does not leak out
        smooth /= gaussian(mask, width).clamp(min=1e-6)
    along = [_slope(smooth, axis) for axis in range(ndim + 1, 1, -1)]  # x first
    slopes = [sum(axes[k, i] * along[k] for k in range(1, ndim)) + axes[0, i] * along[0] for i in range(ndim)]
    squares = [(slope * slope).sum(1) for slope in slopes]
    crossed = [(one * other).sum(1) for one, other in itertools.combinations(slopes, 2)]
    return torch.stack(_counted(squares, crossed), 1)


def _bands(shape: Sequence[int], reach: int) -> Iterator[tuple[slice, slice, slice]]:
    """Bands along the first axis: their rows, those with `reach` rows on either side, and where the first are in the second."""
    length, count = shape[0], max(1, BAND // math.prod(shape[1:]))
    for start in range(0, length, count):
        stop, first = min(start + count, length), max(0, start - reach)
        yield slice(start, stop), slice(first, min(stop + reach, length)), slice(start - first, stop - first)


def components(ndim: int) -> int:
    """How many components a tensor has."""
    return ndim * (ndim + 1) // 2


def _counted(diagonal: Sequence[Tensor], beside: Sequence[Tensor]) -> list[Tensor]:
    """The components of symmetric matrices by their entries: the diagonal, and those (i, j) with i < j."""
    before = list(itertools.accumulate(diagonal))
    # Helmert's contrasts: each diagonal entry against those before it
    contrasts = [(before[k - 1] - k * entry) / math.sqrt(k * (k + 1)) for k, entry in enumerate(diagonal) if k]
    return [*contrasts, *(math.sqrt(2) * entry for entry in beside), before[-1] / math.sqrt(len(diagonal))]


@functools.cache
@torch.inference_mode(False)  # what is kept must serve where gradients are needed too
def basis(ndim: int) -> Tensor:
    """The symmetric matrices of unit size that the components count, the identity last. shape: (m, D, D), float64"""
    units = torch.eye(ndim**2, dtype=torch.float64).view(ndim, ndim, ndim, ndim)
    entry = (units + units.transpose(0, 1)) / 2  # by row and column: the matrix whose inner product with another is its entry
    beside = [entry[i, j] for i, j in itertools.combinations(range(ndim), 2)]
    return torch.stack(_counted([entry[i, i] for i in range(ndim)], beside))


def turned(tensors: Tensor, jacobian: Tensor) -> Tensor:
    """Tensors (..., N, m) of the moving image as a fixed image would show them; each keeps its size (trace).

    `jacobian` (..., 1 or N, D, D): of the moving point by the fixed point; its scale does not matter. A gradient g
    of the moving image is jacobianᵀ g in the fixed one.
    """
    rows = basis(jacobian.shape[-1]).flatten(1).to(jacobian)
    on_entries = (jacobian[..., :, None, :, None] * jacobian[..., None, :, None, :]).flatten(-4, -3).flatten(-2)
    action = (rows @ on_entries.mT @ rows.mT).to(tensors)
    one = action.shape[-3] == 1  # of all points: a product of matrices
    pulled = combined(tensors, action[..., 0, :, :]) if one else (action * tensors[..., None, :]).sum(-1)
    return pulled * (tensors[..., -1:] / pulled[..., -1:].clamp(min=1e-12))


def gaussian(data: Tensor, width: float) -> Tensor:
    """(B, C, *shape) blurred along every axis by a Gaussian of standard deviation `width` pixels, edges continued."""
    reach = math.ceil(3 * width)
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=data.dtype, device=data.device) / width) ** 2)
    taps: list[float] = (bell / bell.sum()).tolist()
    for axis in range(2, data.ndim):  # sums of shifted copies: conv1d of so many short rows takes twenty times the memory
        length = data.shape[axis]
        ends = data.narrow(axis, 0, 1), data.narrow(axis, length - 1, 1)
        padded = torch.cat([*[ends[0]] * reach, data, *[ends[1]] * reach], axis)
        data = taps[reach] * padded.narrow(axis, reach, length)
        for tap in range(reach):
            other = 2 * reach - tap
            data = data.add_(padded.narrow(axis, tap, length), alpha=taps[tap])
            data = data.add_(padded.narrow(axis, other, length), alpha=taps[other])
    return data


def local_contrast(image: Image, out: Tensor | None = None) -> Tensor:
    """Intensities less their mean nearby, over their deviation nearby: without lighting and shading. (B, C, *shape)

    `out`: where to write them.
    """
    shape, channels = image.grid.shape, image.data.shape[1]
    cells = [max(1, round(length * min(1, CELLS / max(shape)))) for length in shape]
    mask = image.data.new_ones(1, 1, *[1] * len(shape)) if image.mask is None else image.mask
    each = image.data.split(1, 1)  # one at a time in memory
    powers = itertools.chain([mask.expand(len(image.data), 1, *shape)], (x * mask for x in each), (x * x * mask for x in each))
    moments = gaussian(torch.cat([F.interpolate(part, size=cells, mode="area") for part in powers], 1), NEAR * max(cells))
    share, mean, square = moments.split([1, channels, channels], 1)
    mean, square = mean / share.clamp(min=1e-3), square / share.clamp(min=1e-3)
    variance = (square - mean**2).clamp(min=0)
    floor = 0.1 * variance.flatten(2).mean(-1).view(*variance.shape[:2], *[1] * len(shape)) + 1e-6
    way = ("bilinear", "trilinear")[len(shape) - 2]
    coarse = torch.cat([mean, (variance + floor).sqrt()], 1)
    coarse = F.interpolate(coarse, size=(cells[0], *shape[1:]), mode=way)
    local = torch.empty_like(image.data) if out is None else out
    for rows, _, _ in _bands(shape, 0):
        middle, deviation = _rows(coarse, rows, shape[0]).chunk(2, 1)
        local[:, :, rows] = (image.data[:, :, rows] - middle).div_(deviation)
    return local


def _rows(coarse: Tensor, rows: slice, length: int) -> Tensor:
    """Some of the `length` rows that `coarse` is interpolated to along its first axis, as by `F.interpolate`."""
    cells = coarse.shape[2]
    index = torch.arange(rows.start, rows.stop, device=coarse.device, dtype=coarse.dtype)
    place = ((index + 0.5) * (cells / length) - 0.5).clamp(0, cells - 1)
    low = place.long()
    share = (place - low).view(-1, *[1] * (coarse.ndim - 3))
    return torch.lerp(coarse[:, :, low], coarse[:, :, (low + 1).clamp(max=cells - 1)], share)


def _slope(data: Tensor, axis: int) -> Tensor:
    """The derivative along `axis` by index; 0 along a single pixel."""
    return torch.gradient(data, dim=axis)[0] if data.shape[axis] > 1 else torch.zeros_like(data)


def _inner(image: Image) -> Tensor:
    """1 where a derivative sees neither the image's border, nor outside of its mask. shape: (B, 1, *shape)"""
    shape = image.grid.shape
    inner = torch.ones_like(image.data[:, :1]) if image.mask is None else image.mask.clone()
    if image.mask is not None:
        reach = min(BLURRED, max(1, min(shape) // SMALL))
        for rows, around, part in _bands(shape, reach):
            inner[:, :, rows] = -widened(-image.mask[:, :, around], reach)[:, :, part]
    for axis, length in enumerate(shape, 2):
        reach = min(EDGE, max(1, (length - 1) // 3))
        inner.narrow(axis, 0, min(reach, length)).zero_()
        inner.narrow(axis, max(0, length - reach), min(reach, length)).zero_()
    return inner


def widened(region: Tensor, reach: int) -> Tensor:
    """The largest value within `reach` pixels along every axis. (B, C, *shape), the same"""
    for axis in range(2, region.ndim):  # one axis after the other: pooling over boxes takes twenty times as long
        length = region.shape[axis]
        ends = region.narrow(axis, 0, 1), region.narrow(axis, length - 1, 1)
        padded = torch.cat([*[ends[0]] * reach, region, *[ends[1]] * reach], axis)
        region = padded.narrow(axis, 0, length).clone()
        for shift in range(1, 2 * reach + 1):
            torch.maximum(region, padded.narrow(axis, shift, length), out=region)
    return region


def agreement(fixed: Tensor, moving: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """How far tensors (..., N, m) at N points agree, and the variance of that sum if their directions were random. (...) each

    cos² of the angle less its mean over all directions, summed.
    """
    a, b = fixed[..., :-1], moving[..., :-1]
    total = (weight * (a * b).sum(-1)).sum(-1)
    return total, (weight * a.square().sum(-1) * b.square().sum(-1)).sum(-1) / a.shape[-1]
