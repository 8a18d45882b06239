"""Patches to learn from: images that overlay, cut at random places, turned, bent, and changed in intensity.

Both modalities of a pair are cut at the same places; intensities and noise change independently, so that the encoders rely
on content alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.image.image import Image

TRIES = 20  # places drawn for a patch until enough of it is inside both images
INSIDE = 0.9  # share of a patch that is inside both images at least
SCALES = (0.8, 1.25)  # of the content of a patch
BEND = 0.03  # standard deviation of displacements of the corners of a coarse grid, as a share of the patch
GAMMA, NOISE, OFFSET = 0.3, 0.03, 0.1  # standard deviations: logarithm of gamma, noise, and brightness of intensities in [0, 1]
CONTRAST = 0.2  # standard deviation of the logarithm of the contrast


@dataclass(frozen=True, eq=False)
class Overlaid:
    """Images of one scene by several modalities on one grid (B = 1 each), intensities in [0, 1]."""

    images: Sequence[Image]
    modalities: Sequence[str]  # of the images; two of one modality are encoded alike
    name: str = ""

    @property
    def valid(self) -> Tensor:
        """1 where all images have valid pixels. shape: (1, 1, *shape)"""
        return torch.stack([image.valid for image in self.images]).amin(0)


def draw(scenes: Sequence[Overlaid], count: int, side: int, generator: torch.Generator, plain: bool = False) -> list[Tensor]:
    """Patches of random places in random scenes of equal modalities: for each image (count, C, *[side] * D).

    `plain`: upright and unchanged, as for validation.
    """
    cut: list[list[Tensor]] = []
    for _ in range(count):
        scene = scenes[int(torch.randint(len(scenes), (1,), generator=generator))]
        cut.append(_patch(scene, side, generator, plain))
    return [torch.cat([one[modality] for one in cut]) for modality in range(len(cut[0]))]


def _patch(scene: Overlaid, side: int, generator: torch.Generator, plain: bool) -> list[Tensor]:
    """One patch of each modality at the same place. (1, C, *[side] * D) each"""
    shape = scene.images[0].grid.shape
    valid, best, most = scene.valid, _places(shape, side, generator, plain), -1.0
    for _ in range(TRIES):
        unit = _places(shape, side, generator, plain)
        share = float((F.grid_sample(valid, unit, padding_mode="zeros", align_corners=False) > 0.5).float().mean())
        best, most = (unit, share) if share > most else (best, most)
        if most >= INSIDE:
            break
    cut = [F.grid_sample(image.data, best, padding_mode="border", align_corners=False) for image in scene.images]
    return cut if plain else [_recoloured(part, generator) for part in cut]


def _places(shape: Sequence[int], side: int, generator: torch.Generator, plain: bool) -> Tensor:
    """Unit coordinates of the pixels of a patch in an image of `shape`. (1, *[side] * D, D)"""
    ndim = len(shape)
    size = torch.tensor(list(reversed(shape)), dtype=torch.float32)
    along = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    pixels = torch.stack(torch.meshgrid(*[along] * ndim, indexing="ij"), -1).flip(-1)  # x first
    if not plain:
        pixels = pixels + _bend(side, ndim, generator)
        low, high = map(math.log, SCALES)
        scale = math.exp(low + (high - low) * float(torch.rand(1, generator=generator)))
        pixels = pixels @ (scale * _rotation(ndim, generator)).mT
    room = (size - side).clamp(min=0)
    centre = (size - 1) / 2 + (torch.rand(ndim, generator=generator) - 0.5) * room
    return ((pixels + centre) * 2 + 1)[None] / size - 1


def _bend(side: int, ndim: int, generator: torch.Generator) -> Tensor:
    """A smooth random displacement in pixels. (*[side] * D, D)"""
    coarse = torch.randn(1, ndim, *[4] * ndim, generator=generator) * BEND * side
    mode = "bicubic" if ndim == 2 else "trilinear"
    return F.interpolate(coarse, size=[side] * ndim, mode=mode, align_corners=True)[0].movedim(0, -1)


def _rotation(ndim: int, generator: torch.Generator) -> Tensor:
    """A random rotation, mirrored in half of the cases. (D, D)"""
    return torch.linalg.qr(torch.randn(ndim, ndim, generator=generator))[0]


def _recoloured(patch: Tensor, generator: torch.Generator) -> Tensor:
    """Intensities under a random gamma, contrast and brightness, with noise."""

    def normal(scale: float) -> float:
        return scale * float(torch.randn(1, generator=generator))

    values = patch.clamp(0, 1) ** math.exp(normal(GAMMA))
    values = (values - 0.5) * math.exp(normal(CONTRAST)) + 0.5 + normal(OFFSET)
    return values + abs(normal(NOISE)) * torch.randn(patch.shape, generator=generator)


def quarter_turns(ndim: int) -> list[tuple[int, tuple[int, int]]]:
    """Turns by a quarter about each axis: how many, and the axes of a (B, C, *shape) tensor that they turn."""
    planes = [(-1, -2)] if ndim == 2 else [(-1, -2), (-1, -3), (-2, -3)]
    return [(0, planes[0]), *((count, plane) for plane in planes for count in (1, 2, 3))]
