"""Orientation tensors: the direction of intensity gradients without sign, comparable between images of different contrast.

An edge has the same direction in both images even if it is bright on dark in one and dark on bright in the other, or if it
separates different intensities. With n the unit gradient, the tensor n nᵀ has this direction and no sign; the inner product
of two such tensors is cos² of the angle between the gradients, in any dimension. With the gradient's length |g| and noise σ
the tensor is g gᵀ / (|g|² + σ²), which goes to 0 for gradients weaker than the noise. With errors of that size on the
gradients, the mutual information of the two images at a point is -½ log(1 - <A, B>). It is finite where W. Couwenberg's
-½ log sin²α ("Mutual information and fast image registration", 2016) has a singularity.

Components are given in an orthonormal basis of the symmetric matrices, so that the inner product of two tensors is that of
their components. The last component, of the identity, is trace / √D and measures the strength of the edge. The others are
trace-free; in 2-D they are cos 2φ and sin 2φ of the gradient's angle φ, times trace / √2.
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

EDGE = 2  # pixels; width of the border where derivatives are invalid (at most a third of a side)
LOCAL_CELLS = 64  # cells along the longest side of the coarse grid on which local moments are computed
NEAR = 0.05  # standard deviation of the Gaussian of local moments, as a share of the longest side
BLURRED = 3  # pixels; the same along a mask: the reach of the Gaussian whose derivatives are taken
SIDE_PER_ERODED = 16  # pixels of the shortest side per pixel removed along a mask, so that small images keep valid pixels
BAND_PIXELS = 2**17  # pixels of an image that are processed at once; 2**16 to 2**18 take the same time within a fifth


def orientation(image: Image, width: float = 1.0, noise: float = 0.5, out: Tensor | None = None) -> Image:
    """Orientation tensors of a normalised image: an image of D(D+1)/2 channels on the same grid, in world axes.

    Tensors are summed over channels, so that an edge in colour alone counts. The mask of the result excludes pixels near the
    border of the image or of its mask, where these borders would be taken for edges.

    Args:
        width: standard deviation, in pixels, of the Gaussian whose derivatives are taken.
        noise: σ² as a share of the mean of |g|² over the image.
        out: tensor to write the result to, if not None.
    """
    ndim = image.grid.ndim
    axes = image.grid.index_from_world[:-1, :-1].to(image.data)
    tensors = image.data.new_empty(len(image.data), components(ndim), *image.grid.shape) if out is None else out
    inner = _valid_mask(image)
    total = image.data.new_zeros(len(image.data))
    bands = list(_bands(image.grid.shape, math.ceil(3 * width) + 1))
    for rows, around, part in bands:  # a few rows at a time, to keep temporary tensors small
        mask = None if image.mask is None else image.mask[:, :, around]
        tensors[:, :, rows] = _outer_products(image.data[:, :, around], mask, width, axes)[:, :, part]
        total += math.sqrt(ndim) * (tensors[:, -1:, rows] * inner[:, :, rows]).flatten(1).sum(1)
    mean = total / inner.flatten(1).sum(1).clamp(min=1)
    floor = (noise * mean).clamp(min=1e-12).view(-1, *[1] * (ndim + 1))
    for rows, _, _ in bands:
        strength = math.sqrt(ndim) * tensors[:, -1:, rows]
        tensors[:, :, rows] *= inner[:, :, rows] / (strength + floor)
    if not inner.flatten(1).any(1).all():  # no valid pixel in a very thin image: zeros, with the original mask
        some = inner.flatten(1).any(1).view(-1, *[1] * (ndim + 1))
        inner = torch.where(some, inner, torch.ones_like(inner) if image.mask is None else image.mask)
    return Image(tensors, image.grid, inner)


def _outer_products(data: Tensor, mask: Tensor | None, width: float, axes: Tensor) -> Tensor:
    """Components of the gradients' outer products, summed over channels. (B, C, *shape) -> (B, m, *shape)"""
    ndim = axes.shape[0]
    smooth = gaussian(data if mask is None else data * mask, width)
    if mask is not None:  # normalised convolution: values outside the mask have no effect
        smooth /= gaussian(mask, width).clamp(min=1e-6)
    along = [_derivative(smooth, axis) for axis in range(ndim + 1, 1, -1)]  # x first
    slopes = [sum(axes[k, i] * along[k] for k in range(1, ndim)) + axes[0, i] * along[0] for i in range(ndim)]
    squares = [(slope * slope).sum(1) for slope in slopes]
    crossed = [(one * other).sum(1) for one, other in itertools.combinations(slopes, 2)]
    return torch.stack(_basis_components(squares, crossed), 1)


def _bands(shape: Sequence[int], reach: int) -> Iterator[tuple[slice, slice, slice]]:
    """Bands along the first axis: their rows, these rows and `reach` more on either side, and where the first are in these."""
    length, count = shape[0], max(1, BAND_PIXELS // math.prod(shape[1:]))
    for start in range(0, length, count):
        stop, first = min(start + count, length), max(0, start - reach)
        yield slice(start, stop), slice(first, min(stop + reach, length)), slice(start - first, stop - first)


def components(ndim: int) -> int:
    """The number of components of a tensor in `ndim` dimensions."""
    return ndim * (ndim + 1) // 2


def _basis_components(diagonal: Sequence[Tensor], beside: Sequence[Tensor]) -> list[Tensor]:
    """The components of symmetric matrices from their entries: the diagonal, and the entries (i, j) with i < j."""
    before = list(itertools.accumulate(diagonal))
    # Helmert contrasts: each diagonal entry against the mean of those before it
    contrasts = [(before[k - 1] - k * entry) / math.sqrt(k * (k + 1)) for k, entry in enumerate(diagonal) if k]
    return [*contrasts, *(math.sqrt(2) * entry for entry in beside), before[-1] / math.sqrt(len(diagonal))]


@functools.cache
@torch.inference_mode(False)  # the cached tensor must also be usable where gradients are computed
def basis(ndim: int) -> Tensor:
    """The orthonormal basis of the symmetric matrices that components refer to, the identity last. shape: (m, D, D), float64"""
    units = torch.eye(ndim**2, dtype=torch.float64).view(ndim, ndim, ndim, ndim)
    entry = (units + units.transpose(0, 1)) / 2  # entry[i, j]: its inner product with a symmetric matrix is element (i, j)
    beside = [entry[i, j] for i, j in itertools.combinations(range(ndim), 2)]
    return torch.stack(_basis_components([entry[i, i] for i in range(ndim)], beside))


def turned(tensors: Tensor, jacobian: Tensor) -> Tensor:
    """Transform tensors (..., N, m) of the moving image into the fixed image's axes; each keeps its trace.

    `jacobian` (..., 1 or N, D, D): derivative of the moving point by the fixed point; its scale does not matter. A gradient
    g of the moving image becomes jacobianᵀ g in the fixed image.
    """
    count = tensors.shape[-1]
    entries = jacobian.flatten(-2)
    products = (entries[..., :, None] * entries[..., None, :]).flatten(-2)
    coefficients = _actions(jacobian.shape[-1], jacobian.dtype, jacobian.device)
    action = (products @ coefficients).unflatten(-1, (count, count)).to(tensors)
    one = action.shape[-3] == 1  # one Jacobian for all points: a matrix product
    pulled = combined(tensors, action[..., 0, :, :]) if one else (action * tensors[..., None, :]).sum(-1)
    return pulled * (tensors[..., -1:] / pulled[..., -1:].clamp(min=1e-12))


@functools.cache
@torch.inference_mode(False)
def _actions(ndim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """How the components of Jᵀ A J follow from those of A: their coefficients, for each product of two entries of J.

    shape: (D⁴, m²); kept on the device, since every step needs them
    """
    parts = torch.einsum("apq,bij->ipjqab", basis(ndim), basis(ndim))  # J[i, p] * A[i, j] * J[j, q]
    return parts.flatten(0, 3).flatten(1).to(device, dtype)


def gaussian(data: Tensor, width: float) -> Tensor:
    """Blur (B, C, *shape) along every axis by a Gaussian of standard deviation `width` pixels, edge pixels replicated."""
    reach = math.ceil(3 * width)
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=data.dtype) / width) ** 2)
    taps: list[float] = (bell / bell.sum()).tolist()
    for axis in range(2, data.ndim):  # sums of shifted copies: conv1d on many short rows takes twenty times the memory
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
    """Intensities minus the local mean, divided by the local standard deviation: removes shading. (B, C, *shape)

    `out`: tensor to write the result to, if not None.
    """
    shape, channels = image.grid.shape, image.data.shape[1]
    cells = [max(1, round(length * min(1, LOCAL_CELLS / max(shape)))) for length in shape]
    mask = image.data.new_ones(1, 1, *[1] * len(shape)) if image.mask is None else image.mask
    each = image.data.split(1, 1)  # one channel at a time in memory
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
    """The `rows` of `coarse` interpolated linearly to `length` rows along its first axis, as by `F.interpolate`."""
    cells = coarse.shape[2]
    index = torch.arange(rows.start, rows.stop, device=coarse.device, dtype=coarse.dtype)
    place = ((index + 0.5) * (cells / length) - 0.5).clamp(0, cells - 1)
    low = place.long()
    share = (place - low).view(-1, *[1] * (coarse.ndim - 3))
    return torch.lerp(coarse[:, :, low], coarse[:, :, (low + 1).clamp(max=cells - 1)], share)


def _derivative(data: Tensor, axis: int) -> Tensor:
    """The derivative along `axis` per pixel; 0 if the axis has a single pixel."""
    return torch.gradient(data, dim=axis)[0] if data.shape[axis] > 1 else torch.zeros_like(data)


def _valid_mask(image: Image) -> Tensor:
    """1 where derivatives depend neither on the image's border nor on pixels outside its mask. shape: (B, 1, *shape)"""
    shape = image.grid.shape
    inner = torch.ones_like(image.data[:, :1]) if image.mask is None else image.mask.clone()
    if image.mask is not None:
        reach = min(BLURRED, max(1, min(shape) // SIDE_PER_ERODED))
        for rows, around, part in _bands(shape, reach):
            inner[:, :, rows] = -widened(-image.mask[:, :, around], reach)[:, :, part]
    for axis, length in enumerate(shape, 2):
        reach = min(EDGE, max(1, (length - 1) // 3))
        inner.narrow(axis, 0, min(reach, length)).zero_()
        inner.narrow(axis, max(0, length - reach), min(reach, length)).zero_()
    return inner


def widened(region: Tensor, reach: int) -> Tensor:
    """The largest value within `reach` pixels along every axis (dilation by a box). (B, C, *shape), the same"""
    for axis in range(2, region.ndim):  # one axis after the other: max pooling over boxes takes twenty times as long
        length = region.shape[axis]
        ends = region.narrow(axis, 0, 1), region.narrow(axis, length - 1, 1)
        padded = torch.cat([*[ends[0]] * reach, region, *[ends[1]] * reach], axis)
        region = padded.narrow(axis, 0, length).clone()
        for shift in range(1, 2 * reach + 1):
            torch.maximum(region, padded.narrow(axis, shift, length), out=region)
    return region


def agreement(fixed: Tensor, moving: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Agreement of tensors (..., N, m) at N points, and its variance if directions were random. (...) each

    The agreement is the weighted sum over points of cos² of the angle, minus its mean over all directions.
    """
    a, b = fixed[..., :-1], moving[..., :-1]
    total = (weight * (a * b).sum(-1)).sum(-1)
    return total, (weight * a.square().sum(-1) * b.square().sum(-1)).sum(-1) / a.shape[-1]
