"""Corners of an image at several scales, and descriptors of the gradients around them; 2-D only.

A corner is described by the strength and orientation of the gradients around it, in Gaussian-weighted samples on rings
(DAISY: Tola, Lepetit and Fua 2010, doi 10.1109/TPAMI.2009.77). Orientations enter as harmonics of their angle. The even
harmonics do not change when contrast is reversed, so descriptors of two modalities are similar where their edges coincide. A
rotation by one sector shifts the samples of a ring by one and changes the phases, so the descriptors of a rotated image need
no new image.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.geometry.matrices import apply
from drmime.image.image import Image
from drmime.image.orientation import gaussian, widened
from drmime.start.propose.base import working_image

SECTORS = 16  # samples on a ring
RINGS = (6, 14, 24, 36)  # pixels
LEVELS = 3  # each smaller than the one before by 1 / sqrt 2
SMALLEST = 24  # pixels: levels with a shorter side are not used
NEIGHBOURHOOD = 8.0  # pixels: the width over which gradient strength is normalised
MARGIN = 4  # pixels from the image's border in which no corner is taken


class Level(NamedTuple):
    """Corners of one image at one scale."""

    spacing: float  # world length of a pixel
    places: Tensor  # shape: (N,), complex: world units from the image's centre, along the axes given to `levels`
    strengths: Tensor  # shape: (N, rings, sectors)
    phases: Tensor  # shape: (N, harmonics, rings, sectors), complex
    harmonics: tuple[int, ...]

    def descriptors(self, turn: int) -> Tensor:
        """Unit vectors that describe the corners of the image rotated back by `turn` sectors. shape: (N, F)"""
        angle = turn * 2 * math.pi / SECTORS
        back = torch.tensor([complex(math.cos(h * angle), -math.sin(h * angle)) for h in self.harmonics])
        phases = torch.view_as_real(self.phases.roll(-turn, -1) * back.view(-1, 1, 1))
        return F.normalize(torch.cat([self.strengths.roll(-turn, -1).flatten(1), phases.flatten(1)], 1), dim=1)


def levels(image: Image, unit: float, axes: Tensor, harmonics: tuple[int, ...], count: int) -> list[Level]:
    """Up to `count` corners on each level; the finest has pixels of world length `unit`; `axes` as in `working_image`."""
    found = []
    finest = working_image(image, unit, axes)
    for spacing in (unit * 2 ** (number / 2) for number in range(LEVELS)):
        level = finest if spacing == unit else working_image(finest, spacing)
        if min(level.grid.shape) >= SMALLEST:
            strength, angle = _gradients(level)
            points = _corners(strength, angle, count)
            places = (apply(level.grid.world_from_index, points.double())[0] - image.grid.centre) @ axes
            places = torch.view_as_complex(places.float().contiguous())
            found.append(Level(spacing, places, *_describe(strength, angle, points, harmonics), harmonics))
    return found


def _gradients(image: Image) -> tuple[Tensor, Tensor]:
    """Gradient strength relative to its neighbourhood, 0 near the mask's edge, and angle in radians. (1, 1, H, W) each"""
    mask = torch.ones_like(image.data) if image.mask is None else image.mask
    solid = -widened(-mask, 3)
    smooth = gaussian(image.data, 1.0)
    dx = F.pad(smooth[..., 2:] - smooth[..., :-2], (1, 1, 0, 0))
    dy = F.pad(smooth[..., 2:, :] - smooth[..., :-2, :], (0, 0, 1, 1))
    strength = torch.hypot(dx, dy) * solid
    usual = gaussian(strength, NEIGHBOURHOOD) / gaussian(solid, NEIGHBOURHOOD).clamp(min=0.05)
    overall = strength.sum() / solid.sum().clamp(min=1)
    return (strength / (usual + overall / 4 + 1e-6)).clamp(max=3).sqrt(), torch.atan2(dy, dx)


def _corners(strength: Tensor, angle: Tensor, count: int) -> Tensor:
    """Pixels (x, y) with gradients in two directions (Shi and Tomasi 1994), spread over the image. shape: (N, 2)"""
    dx, dy = strength * angle.cos(), strength * angle.sin()
    xx, xy, yy = gaussian(torch.cat([dx * dx, dx * dy, dy * dy], 1), 2.0)[0]
    weaker = (xx + yy) / 2 - torch.hypot((xx - yy) / 2, xy)
    weaker = torch.where(strength[0, 0] > 0, weaker, 0)
    peak = weaker == widened(weaker[None, None], 2)[0, 0]
    inner = F.pad(torch.ones_like(weaker[MARGIN:-MARGIN, MARGIN:-MARGIN]), [MARGIN] * 4)
    y, x = torch.nonzero((peak & (weaker > 1e-4)) * inner, as_tuple=True)
    y, x = torch.stack([y, x])[:, weaker[y, x].argsort(descending=True, stable=True)]
    side = max(16, round(math.sqrt(6 * weaker.numel() / count)))  # of the cells in which corners are ranked
    cells = (y // side) * weaker.shape[1] + x // side
    order = cells.argsort(stable=True)
    ranks = torch.empty_like(order)  # the best corner of every cell is taken before any second best one
    ranks[order] = torch.arange(len(order)) - torch.searchsorted(cells[order], cells[order])
    chosen = ranks.argsort(stable=True)[:count]
    return torch.stack([x[chosen], y[chosen]], 1).float()


def _describe(strength: Tensor, angle: Tensor, points: Tensor, harmonics: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Blurred strengths and phases on rings around the points, as in `Level`."""
    waves = [wave for h in harmonics for wave in (torch.cos(h * angle), torch.sin(h * angle))]
    maps = strength * torch.cat([torch.ones_like(strength), *waves], 1)
    turns = torch.arange(SECTORS) * (2 * math.pi / SECTORS)
    circle = torch.stack([turns.cos(), turns.sin()], 1)
    size = torch.tensor([maps.shape[-1], maps.shape[-2]])
    rings = []
    for radius in RINGS:
        unit = (2 * (points[:, None] + radius * circle) + 1) / size - 1
        rings.append(F.grid_sample(gaussian(maps, 0.35 * radius), unit[None], align_corners=False)[0])
    samples = torch.stack(rings, 2).transpose(0, 1)  # shape: (N, 1 + 2 harmonics, rings, sectors)
    return samples[:, 0], torch.complex(samples[:, 1::2].contiguous(), samples[:, 2::2].contiguous())
