"""The loss of CoMIR: patches of one place have representations alike, others have not (InfoNCE).

Pielawski et al. 2020, arXiv 2006.06325; van den Oord, Li and Vinyals 2018, arXiv 1807.03748.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Critic = Callable[[Tensor, Tensor], Tensor]  # (N, K), (M, K) -> (N, M), larger for patches that are more alike


def mse(first: Tensor, second: Tensor) -> Tensor:
    """Minus the mean squared difference."""
    squares = first.square().mean(1)[:, None] + second.square().mean(1) - 2 * first @ second.mT / first.shape[1]
    return -squares


def l1(first: Tensor, second: Tensor) -> Tensor:
    """Minus the mean absolute difference."""
    return -torch.cdist(first, second, p=1) / first.shape[1]


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """The cosine of the angle between them."""
    return F.normalize(first, dim=1) @ F.normalize(second, dim=1).mT


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Their correlation coefficient: a constant representation is like no other, so training does not end with one."""
    return cosine(*(part - part.mean(1, keepdim=True) for part in (first, second)))


CRITICS: dict[str, Critic] = {"correlation": correlation, "mse": mse, "l1": l1, "cosine": cosine}


def info_nce(first: Tensor, second: Tensor, temperature: float, critic: Critic) -> Tensor:
    """The mean cross-entropy of finding the patch of the same place among all of the other modality, in both directions.

    `first`, `second`: (N, ...) representations, row i of the same place.
    """
    alike = critic(first.flatten(1), second.flatten(1)) / temperature
    places = torch.arange(len(alike), device=alike.device)
    return (F.cross_entropy(alike, places) + F.cross_entropy(alike.mT, places)) / 2


def retrieval(first: Tensor, second: Tensor, critic: Critic) -> float:
    """The share of patches whose nearest in the other modality is that of the same place, mean of both directions."""
    alike = critic(first.flatten(1), second.flatten(1))
    places = torch.arange(len(alike), device=alike.device)
    found = [(alike.argmax(axis) == places).double().mean() for axis in (0, 1)]
    return float(sum(found) / 2)
