"""Which way intensities change, as symmetric tensors: what two images of unlike contrast still have in common.

An edge that is bright on dark in one image and dark on bright in the other, or an edge between other intensities
altogether, lies along the same line in both. With n the unit gradient, the tensor n nᵀ holds that line and not its sign;
the inner product of two such tensors is cos² of the angle between the gradients, in any dimension. With the gradient's
length |g| and a noise σ the tensor is g gᵀ / (|g|² + σ²): what is weaker than the noise has no direction. With errors of that
size on the gradients, the mutual information of the two images at a point is -½ log(1 - <A, B>), which is finite where W.
Couwenberg's -½ log sin²α ("Mutual information and fast image registration", 2016) has its singularity.

A tensor's components are its diagonal and √2 times what is beside it (Mandel's notation), so that the inner product of two
tensors is that of their components.
"""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_propagation
from torch import Tensor

from drmime.grid import border, combined
from drmime.image import Image

EDGE = 2  # pixels next to a border whose derivatives are the border's; more would leave little of a coarse level
CELLS = 64  # along the longest side, on which local means are taken
NEAR = 0.05  # of the longest side: the width of the Gaussian that says what is nearby
FRAME = 160  # cells along the longest side on which frames are looked for
FLAT = 0.02  # of the intensity range: a frame varies less
LARGEST_FRAME = 0.9  # share of the image; a specimen on empty ground that fills less is not a specimen in a frame


def orientation(image: Image, width: float = 1.0, noise: float = 0.5) -> Image:
    """The tensors of `image`, which is normalised, as an image of D(D+1)/2 channels on the same grid, in world axes.

    Channels are added up: a colour edge is an edge. The mask leaves out where the image's own border, its mask or the outline
    of a flat frame (black corners of a turned image, the disc of a fundus camera) would be taken for an edge, and the frame:
    zeros there would agree best where frame lies on frame, which is the place the images came in.

    Args:
        width: standard deviation of the Gaussian whose derivatives are taken, in pixels.
        noise: σ² as a share of the mean of |g|² over the image.
    """
    ndim = image.grid.ndim
    axes = image.grid.index_from_world[:-1, :-1].to(image.data)
    share = None if image.mask is None else gaussian(image.mask, width).clamp(min=1e-6)
    tensors = image.data.new_zeros(len(image.data), len(components(ndim)), *image.grid.shape)
    for channel in image.data.split(1, 1):  # one at a time, since slopes take D times the memory of what they are of
        # What the mask covers does not leak out.
        smooth = gaussian(channel, width) if share is None else gaussian(channel * image.mask, width) / share
        slopes = torch.stack([_slope(smooth[:, 0], axis) for axis in range(ndim, 0, -1)], -1) @ axes  # x first
        for number, (i, j) in enumerate(components(ndim)):
            tensors[:, number] += slopes[..., i] * slopes[..., j]
        del smooth, slopes
    energy = tensors[:, :ndim].sum(1, keepdim=True)
    inner = _inner(image)
    mean = (energy * inner).flatten(1).sum(1) / inner.flatten(1).sum(1).clamp(min=1)
    tensors[:, ndim:] *= math.sqrt(2)
    floor = (noise * mean).clamp(min=1e-12).view(-1, *[1] * (ndim + 1))
    some = inner.flatten(1).any(1).view(-1, *[1] * (ndim + 1))  # of a sliver nothing is left: zeros, under the mask it had
    mask = torch.where(some, inner, torch.ones_like(inner) if image.mask is None else image.mask)
    return Image(tensors.div_(energy.add_(floor)).mul_(inner), image.grid, mask)


def components(ndim: int) -> list[tuple[int, int]]:
    """Rows and columns of the components: the diagonal first."""
    return [(i, i) for i in range(ndim)] + list(itertools.combinations(range(ndim), 2))


def turned(tensors: Tensor, jacobian: Tensor) -> Tensor:
    """Tensors (..., N, m) of the moving image as a fixed image would show them; each keeps its size (trace).

    `jacobian` (..., 1 or N, D, D): of the moving point by the fixed point; its scale does not matter. A gradient g
    of the moving image is jacobianᵀ g in the fixed one.
    """
    ndim = jacobian.shape[-1]
    basis = _basis(ndim).to(jacobian)  # shape: (m, D, D)
    action = torch.einsum("aij,...ki,...lj,bkl->...ab", basis, jacobian, jacobian, basis).to(tensors)
    one = action.shape[-3] == 1  # of all points: a product of matrices
    pulled = combined(tensors, action[..., 0, :, :]) if one else (action * tensors[..., None, :]).sum(-1)
    before, after = tensors[..., :ndim].sum(-1, keepdim=True), pulled[..., :ndim].sum(-1, keepdim=True)
    return pulled * (before / after.clamp(min=1e-12))


def deviator(tensors: Tensor, ndim: int) -> Tensor:
    """Tensors (..., m) less their trace, which has no direction: (..., m - 1) components of the same inner product.

    In two dimensions these are cos 2φ and sin 2φ of the gradient's angle φ, times w/√2.
    """
    parts = []
    for axis in range(1, ndim):  # Helmert's contrasts: each diagonal entry against the mean of those before it
        before = tensors[..., :axis].sum(-1)
        parts.append((before - axis * tensors[..., axis]) / math.sqrt(axis * (axis + 1)))
    return torch.cat([torch.stack(parts, -1), tensors[..., ndim:]], -1)


def _basis(ndim: int) -> Tensor:
    """The symmetric matrices of unit size that the components count. shape: (m, D, D)"""
    basis = torch.zeros(len(components(ndim)), ndim, ndim, dtype=torch.float64)
    for number, (i, j) in enumerate(components(ndim)):
        basis[number, i, j] = basis[number, j, i] = 1 if i == j else math.sqrt(0.5)
    return basis


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


def local_contrast(image: Image) -> Tensor:
    """Intensities less their mean nearby, over their deviation nearby: without lighting and shading. (B, C, *shape)"""
    shape, channels = image.grid.shape, image.data.shape[1]
    cells = [max(1, round(length * min(1, CELLS / max(shape)))) for length in shape]
    mask = torch.ones_like(image.data[:, :1]) if image.mask is None else image.mask
    powers = (mask if power == 0 else mask * image.data**power for power in range(3))  # one at a time in memory
    moments = gaussian(torch.cat([F.interpolate(part, size=cells, mode="area") for part in powers], 1), NEAR * max(cells))
    share, mean, square = moments.split([1, channels, channels], 1)
    mean, square = mean / share.clamp(min=1e-3), square / share.clamp(min=1e-3)
    variance = (square - mean**2).clamp(min=0)
    floor = 0.1 * variance.flatten(2).mean(-1).view(*variance.shape[:2], *[1] * len(shape)) + 1e-6
    way = ("bilinear", "trilinear")[len(shape) - 2]
    local = image.data - F.interpolate(mean, size=shape, mode=way)
    return local.div_(F.interpolate((variance + floor).sqrt(), size=shape, mode=way))


def _slope(data: Tensor, axis: int) -> Tensor:
    """The derivative along `axis` by index; 0 along a single pixel."""
    return torch.gradient(data, dim=axis)[0] if data.shape[axis] > 1 else torch.zeros_like(data)


def _inner(image: Image) -> Tensor:
    """1 where a derivative sees neither the image's border, nor outside of its mask, nor a frame. shape: (B, 1, *shape)"""
    inside = torch.ones_like(image.data[:, :1]) if image.mask is None else image.mask
    inside = inside * (1 - _frame(image))
    return -_widened(-F.pad(inside, [EDGE] * 2 * image.grid.ndim), EDGE, padded=True)


def _frame(image: Image) -> Tensor:
    """1 in flat regions that touch the image's border and are as dark as it gets or as the border mostly is. (B, 1, *shape)"""
    shape = image.grid.shape
    cells = [max(1, round(length * min(1, FRAME / max(shape)))) for length in shape]
    coarse = F.interpolate(image.data, size=cells, mode="area")
    outer = border(cells).to(coarse.device)
    edge = coarse[:, :, outer]
    frame = torch.zeros_like(coarse[:, :1])
    for value in (coarse.flatten(2).amin(-1), edge.median(-1).values):
        away = (coarse - value.view(*value.shape, *[1] * len(shape))).abs().amax(1, keepdim=True)
        frame = torch.maximum(frame, _reached((away < FLAT).to(coarse), outer))
    frame = _widened(-_widened(-frame, 1), 1)  # specks and thin lines are content
    share = frame.flatten(1).mean(1).view(-1, *[1] * (len(shape) + 1))
    frame = torch.where((share > FLAT) & (share < LARGEST_FRAME), _widened(frame, 1), 0)
    return F.interpolate(frame, size=shape, mode="nearest")


def _reached(flat: Tensor, outer: Tensor) -> Tensor:
    """What of `flat` hangs together with its part on the border `outer`."""
    neighbours = np.ones((1, 1, *[3] * (flat.ndim - 2)))
    region = binary_propagation((flat * outer).cpu().numpy(), neighbours, flat.cpu().numpy())
    return torch.as_tensor(region).to(flat)


def _widened(region: Tensor, reach: int, padded: bool = False) -> Tensor:
    pool = F.max_pool2d if region.ndim == 4 else F.max_pool3d
    return pool(region, 2 * reach + 1, stride=1, padding=0 if padded else reach)


def agreement(fixed: Tensor, moving: Tensor, weight: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
    """How far tensors (..., N, m) at N points agree, and the variance of that sum if their directions were random. (...) each

    cos² of the angle less its mean over all directions, summed.
    """
    a, b = deviator(fixed, ndim), deviator(moving, ndim)
    total = (weight * (a * b).sum(-1)).sum(-1)
    return total, (weight * a.square().sum(-1) * b.square().sum(-1)).sum(-1) / a.shape[-1]


def dimension(channels: int) -> int:
    """The D of which D(D+1)/2 is `channels`."""
    return next(ndim for ndim in (2, 3) if len(components(ndim)) == channels)
