"""Gradient-angle mutual information at every shift at once (after W. Couwenberg, 2016; see `drmime.image.orientation`).

With α the angle between the gradients of two images at a point, their mutual information is the integral of

    -½ log sin²α = log 2 + Σ cos(2kα)/k,  k = 1, 2, …

`coefficients` replaces the series by a non-negative polynomial. In two dimensions cos(2kα) is the inner product of the 2k-th
powers of the unit gradients as complex numbers, so that correlations by FFT give the sum over all points for every
shift. In three dimensions the first term is the inner product of two trace-free tensors of five components.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from drmime.errors import InputError, number, whole
from drmime.image.image import Image
from drmime.image.orientation import components, orientation, turned
from drmime.start.propose.poses import good_length

LEAST_VARIANCE = 1e-3  # of a map's largest variance: with less, too little structure overlaps for a score
NODES = 2**16  # of the midpoint rule for integrals over the angle


class AngleMaps:
    """Agreement of gradient directions beyond chance at every shift, in standard deviations under chance."""

    def __init__(self, degree: int = 1, width: float = 1.0, noise: float = 0.1) -> None:
        """
        Args:
            degree: degree of the polynomial; above 1 in two dimensions only.
            width: width of the derivatives, in pixels of the search.
            noise: noise of the gradients, as a share of their mean square.

        Raises:
            InputError: a number out of its range.
        """
        self.degree = whole("degree", degree, 1, 8)
        self.width, self.noise = number("width", width, 0), number("noise", noise, 0)
        self.weights = [float(c) for c in coefficients(self.degree)]

    def describe(self, image: Image) -> Image:
        return orientation(image, self.width, self.noise)

    def turn(self, moving: Tensor, jacobian: Tensor) -> Tensor:
        return turned(moving, jacobian)

    def begin(self, fixed: Image, moving: Image, shape: Sequence[int], least_overlap: float = 0.35) -> None:
        """Transform the fixed images for later calls of `maps` with moving images on canvases of `shape`.

        Shifts with less overlap than `least_overlap` (of the smaller image) may alias: the FFT is long enough for half the
        moving canvas beside the fixed image, for the part of it that this overlap leaves outside, and for the whole canvas.
        """
        if self.degree > 1 and fixed.grid.ndim != 2:
            raise InputError(f"degree: expected 1 in three dimensions, got {self.degree}")
        room = [f + m - math.floor(2 * least_overlap * min(f, m)) for f, m in zip(fixed.grid.shape, shape, strict=True)]
        least = [max(m, f + (m + 1) // 2) for f, m in zip(fixed.grid.shape, shape, strict=True)]
        self.lengths = [good_length(max(lengths)) for lengths in zip(room, least, strict=True)]
        self.first = [(f - m - n + 1) // 2 for f, m, n in zip(fixed.grid.shape, shape, self.lengths, strict=True)]
        parts = self._parts(fixed)
        weights = parts.new_tensor(self.weights).repeat_interleave(self._components(fixed))
        parts[:, :-2] *= weights.view(-1, *[1] * fixed.grid.ndim)
        axes = tuple(range(2, parts.ndim))
        padded = parts.new_zeros(*parts.shape[:2], *self.lengths)
        padded[tuple(map(slice, parts.shape))] = parts
        self.spectra = torch.fft.rfftn(
            padded.roll([-first for first in self.first], axes), dim=axes
        )  # so maps start at `first`

    def maps(self, moving: Image, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rotated moving images (P, m, *shape) -> score and overlap in pixels at shifts from `first` on, (P, *lengths) each.

        `rows`: the number of the fixed image of each moving one, (P,); None: one fixed image for all, or one each, in order.
        """
        axes = tuple(range(2, moving.grid.ndim + 2))
        spectra = self.spectra if rows is None else self.spectra[rows]
        product = torch.fft.rfftn(self._parts(moving), self.lengths, axes).conj_physical_().mul_(spectra)
        product[:, -3] += product[:, :-3].sum(1)
        total, variance, overlap = torch.fft.irfftn(product[:, -3:], self.lengths, axes).unbind(1)
        variance *= sum(c * c for c in self.weights) / self._components(moving)
        least = LEAST_VARIANCE * variance.flatten(1).amax(1).clamp(min=1).view(-1, *[1] * moving.grid.ndim)
        score = total.mul_(variance.clamp(min=least).rsqrt_()).masked_fill_(variance < least, 0)
        return score, overlap.round_()

    def _components(self, image: Image) -> int:
        """The number of components of a trace-free tensor."""
        return components(image.grid.ndim) - 1

    def _parts(self, image: Image) -> Tensor:
        """The trace-free components for each multiple of the angle, their squared norm, and the mask. (P, parts + 2, *shape)"""
        parts = image.data[:, :-1]
        size = parts.square().sum(1, keepdim=True)
        mask = torch.ones_like(size) if image.mask is None else image.mask
        return torch.cat([*powers(parts, self.degree), size, mask], 1)


def powers(parts: Tensor, degree: int) -> list[Tensor]:
    """Fields (P, 2, …): the first is `parts`, the k-th has k times its angle and the same norm."""
    made = [parts]
    if degree > 1:
        field = torch.complex(parts[:, 0], parts[:, 1])
        unit = field / field.abs().clamp(min=1e-12)
        for _ in range(degree - 1):
            field = field * unit
            made.append(torch.stack([field.real, field.imag], 1))
    return made


def coefficients(degree: int) -> np.ndarray:
    """c_1 … c_degree of the polynomial log 2 + Σ c_k cos(2kα) nearest to f(α) = -½ log sin²α. shape: (degree,)

    Nearest: no other non-negative polynomial of this degree and of f's integral has a smaller Kullback-Leibler divergence
    from f, that is, a larger integral of f log p. That integral is concave in the c_k, and Newton's method with
    halved steps finds its maximum: where the integrals of f cos(2kα)/p all vanish or, for odd degrees, where p touches 0 at
    the right angle, where f is 0 too.
    """
    if degree == 1:
        return np.array([math.log(2)])  # largest value with p non-negative; Newton's steps approach it slowly
    angle = (np.arange(NODES) + 0.5) * (2 * np.pi / NODES)  # 2α
    f = -np.log(np.sin(angle / 2))
    waves = np.cos(np.arange(1, degree + 1)[:, None] * angle)
    c = np.zeros(degree)

    def gain(c: np.ndarray) -> float:
        p = math.log(2) + c @ waves
        return float((f * np.log(p)).mean()) if p.min() > 0 else -math.inf

    for _ in range(100):
        p = math.log(2) + c @ waves
        slope = (waves * (f / p)).mean(1)
        bend = (waves * (f / p**2)) @ waves.T / NODES
        step = np.linalg.solve(bend, slope)
        size = 1.0
        while gain(c + size * step) < gain(c) - 1e-15:
            size /= 2
        c = c + size * step
        if np.abs(step).max() < 1e-12:
            break
    return c
