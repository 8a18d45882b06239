"""The loss of CoMIR: patches of one place have representations alike, others have not (InfoNCE).

Pielawski et al. 2020, arXiv 2006.06325; van den Oord, Li and Vinyals 2018, arXiv 1807.03748. Beyond CoMIR, a patch is also
told from the same place shifted by a few pixels, which a registration must do as well.

Shapes: the first patches (N, C, *p), the second (M, C, *P) not smaller; S = P - p + 1 shifts along each axis.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Critic = Callable[[Tensor, Tensor], Tensor]  # (N, C, *p), (M, C, *P) -> (N, M, *S), larger for patches that are more alike

OVERLAY = 1.0  # pixels by which images that overlay may differ: the standard deviation of the shifts that count as right
LEAST = 1e-6  # variance of a pixel below which a patch counts as constant


def mse(first: Tensor, second: Tensor) -> Tensor:
    """Minus the mean squared difference."""
    squares = [_sums(values.square(), first).sum(1, keepdim=True) for values in (first, second)]
    return ((2 * _products(first, second) - squares[0] - squares[1].transpose(0, 1)) / first[0].numel()).to(first)


def l1(first: Tensor, second: Tensor) -> Tensor:
    """Minus the mean absolute difference; for patches of equal size."""
    found = -torch.cdist(first.flatten(1), second.flatten(1), p=1) / first[0].numel()
    return found.view(*found.shape, *[1] * (first.ndim - 2))


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """The cosine of the angle between them."""
    squares = [_sums(values.square(), first).sum(1, keepdim=True) for values in (first, second)]
    squares = [one.clamp(min=1e-6) for one in squares]
    return _products(first, second) / (squares[0] * squares[1].transpose(0, 1)).sqrt().to(first)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Their correlation coefficient: a constant representation is like no other, so training does not end with one."""
    space = tuple(range(2, first.ndim))
    first, second = (values - values.mean(space, keepdim=True) for values in (first, second))
    count = first[0, 0].numel()
    spread = [
        (_sums(values.square(), first) - _sums(values, first).square() / count).sum(1, keepdim=True).clamp(min=0)
        + LEAST * count
        for values in (first, second)
    ]
    return _products(first, second) / (spread[0] * spread[1].transpose(0, 1)).sqrt().to(first)


CRITICS: dict[str, Critic] = {"correlation": correlation, "mse": mse, "l1": l1, "cosine": cosine}


def info_nce(first: Tensor, second: Tensor, temperature: float, critic: Critic, shifts: int = 0) -> Tensor:
    """The mean cross-entropy of finding the patch of the same place among all of the other modality, in both directions.

    `first`, `second`: (N, C, *P) representations, row i of the same place. The inner part of each, without `shifts` pixels on
    every side, is sought at all shifts of all patches of the other modality; 0 compares whole patches, as CoMIR does.
    """
    return (_sought(first, second, temperature, critic, shifts) + _sought(second, first, temperature, critic, shifts)) / 2


def _sought(first: Tensor, second: Tensor, temperature: float, critic: Critic, shifts: int) -> Tensor:
    inside: tuple[Any, ...] = (..., *[slice(shifts, length - shifts) for length in first.shape[2:]])
    alike = critic(first[inside], second) / temperature
    log = F.log_softmax(alike.flatten(1), 1).view_as(alike).diagonal().movedim(-1, 0)  # (N, *S): of the same places
    away = torch.meshgrid([torch.arange(-shifts, shifts + 1).to(log)] * (first.ndim - 2), indexing="ij")
    right = torch.softmax(-0.5 * (torch.stack(away) / OVERLAY).square().sum(0).flatten(), 0)
    return -(log.flatten(1) @ right).mean()


def retrieval(first: Tensor, second: Tensor, critic: Critic) -> float:
    """The share of patches whose nearest in the other modality is that of the same place, mean of both directions."""
    alike = critic(first, second).flatten(1)
    places = torch.arange(len(alike), device=alike.device)
    found = [(alike.argmax(axis) == places).double().mean() for axis in (0, 1)]
    return float(sum(found) / 2)


def _products(first: Tensor, second: Tensor) -> Tensor:
    """Sums of products of each first patch with each window of each second patch. (N, M, *S)"""
    convolve = F.conv2d if first.ndim == 4 else F.conv3d
    return convolve(second, first).transpose(0, 1)


def _sums(values: Tensor, like: Tensor) -> Tensor:
    """Sums over every window of the size of the patches `like`, for each channel. (M, C, *P) -> (M, C, *S), float64"""
    total = values.double()  # differences of sums cancel
    for axis, side in enumerate(like.shape[2:], 2):
        before = F.pad(total.movedim(axis, -1).cumsum(-1), (1, 0))
        total = (before[..., side:] - before[..., :-side]).movedim(-1, axis)
    return total
