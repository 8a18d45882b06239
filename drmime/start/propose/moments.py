"""A start from the moments of mass: centre on centre, principal axes on principal axes, spread on spread.

An axis has no sign, so there are several candidates: two in 2-D, four in 3-D, and as many mirrored ones. Suited to one
specimen on a uniform background that both images show as a whole, at any rotation; mass is that of proposer `mass`. Principal
axes: Alpert, Bradshaw, Kennedy and Correia 1990 (J. Nucl. Med. 31:1717). Candidates are ordered by the correlation of the two
masses.
"""

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from drmime.errors import switch
from drmime.geometry.matrices import apply, homogeneous
from drmime.image.image import Image
from drmime.start.propose.base import mass_of, working_image, working_spacing

SIDE = 48  # working pixels of the longest side when candidates are compared


class Moments:
    """Centre of mass onto centre of mass and principal axes onto principal axes, for all signs of the axes.

    Args:
        scale: also scale by the ratio of the root mean square distances from the centre.
        mirrored: also return the reflections, after all others.

    Raises:
        InputError: an option that is not True or False.
    """

    def __init__(self, scale: bool = False, mirrored: bool = False) -> None:
        self.scale = switch("moments: scale", scale)
        self.mirrored = switch("moments: mirrored", mirrored)

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        """moving_from_fixed, world units, best first. shape: (K, D+1, D+1), K = 2 in 2-D and 4 in 3-D, or twice that"""
        ndim = fixed.grid.ndim
        masses = [replace(image, data=mass_of(image), mask=None) for image in (fixed, moving)]
        (origin, first), (to, second) = (_moments(mass) for mass in masses)
        values, axes = torch.linalg.eigh(torch.stack([first, second]))
        size = (values[1].sum() / values[0].sum()).sqrt() if self.scale and values.sum(1).min() > 0 else 1.0
        candidates = []
        for signs in itertools.product((1.0, -1.0), repeat=ndim):
            linear = size * axes[1] @ torch.diag(torch.tensor(signs, dtype=torch.float64)) @ axes[0].T
            candidates.append(homogeneous(linear, to - linear @ origin))
        matrices = torch.stack(candidates)
        proper = torch.linalg.det(matrices) > 0
        agreement = _agreement(matrices, *masses)
        groups = [proper, ~proper] if self.mirrored else [proper]
        return torch.cat([matrices[group][agreement[group].argsort(descending=True, stable=True)] for group in groups])


def _moments(mass: Image) -> tuple[Tensor, Tensor]:
    """World coordinates of the centre of mass (D,), and the covariance of the mass about it (D, D)."""
    ndim = mass.grid.ndim
    weights = mass.data[0, 0].to(torch.float64).cpu()
    weights = weights / weights.sum().clamp(min=1e-30)
    places = [torch.arange(n, dtype=torch.float64) for n in mass.grid.shape[::-1]]  # x first
    profiles = [weights.sum([a for a in range(ndim) if a != ndim - 1 - i]) for i in range(ndim)]
    middle = torch.stack([profile @ place for profile, place in zip(profiles, places, strict=True)])
    second = torch.zeros(ndim, ndim, dtype=torch.float64)
    for i, j in itertools.combinations_with_replacement(range(ndim), 2):
        off = [places[i] - middle[i], places[j] - middle[j]]
        if i == j:
            second[i, i] = profiles[i] @ off[0].square()
        else:  # the plane of axes i and j, whose array order is j, i
            others = [a for a in range(ndim) if a not in (ndim - 1 - i, ndim - 1 - j)]
            plane = weights.sum(others) if others else weights
            second[i, j] = second[j, i] = off[1] @ plane @ off[0]
    axes = mass.grid.world_from_index[:-1, :-1]
    return apply(mass.grid.world_from_index, middle[None])[0][0], axes @ second @ axes.T


def _agreement(matrices: Tensor, fixed: Image, moving: Image) -> Tensor:
    """Correlation of the fixed mass with the moving mass pulled through each of the matrices, zero outside. -> (K,)"""
    spacing = working_spacing(fixed, moving, SIDE)
    first, second = working_image(fixed, spacing), working_image(moving, spacing)
    points = first.grid.index_points()[None].float().expand(len(matrices), -1, -1)
    everywhere = replace(second, mask=None)
    values, inside = everywhere.copies(len(matrices)).at(points, matrices @ first.grid.world_from_index)
    return torch.nn.functional.cosine_similarity((values[..., 0] * inside).double(), first.data.flatten()[None].double())
