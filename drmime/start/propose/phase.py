"""Starts found in the frequency domain: a shift by phase correlation; rotation and scale by Fourier-Mellin.

Phase correlation (Kuglin and Hines 1975) uses only the phase of the cross spectrum, so that every frequency has the same weight
and the right shift is a sharp peak. Rotation and scale of an image rotate and scale the magnitude of its spectrum, which a
shift does not change; in log-polar coordinates they are shifts (Reddy and Chatterji 1996, doi 10.1109/83.506761). Two
modalities have more edges than intensities in common, so edges are correlated by default.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from drmime.errors import InputError, switch, whole
from drmime.geometry.matrices import translation
from drmime.image.image import Image
from drmime.start.propose.base import directions, on_axes, peaks, stacked, working_image, working_spacing
from drmime.start.propose.poses import good_length

SIDES = {2: 256, 3: 96}  # working pixels of the longest side
SOFT = 1 / 16  # of the longest side: half the width of the window's edge
LEAST_OVERLAP = 0.1  # of the smaller image: shifts with less overlap are ignored
APART = 1 / 16  # of the longest side: nearer peaks are one peak
SMOOTH = 2.0  # pixels: standard deviation of the Gaussian that a peak is smoothed to
ANGLES, RADII, LOWEST = 360, 256, 4  # log-polar samples of half a turn, and of the radii from 4 to the highest frequency
LARGEST_SCALE = 3.0
TURNS = 3  # rotations and scales tried by Fourier-Mellin for every candidate asked for


class PhaseCorrelation:
    """The shifts at which the phases of both spectra agree most, for images without relative rotation and scale.

    Args:
        count: most distinct shifts returned.
        side: working pixels along the longest side; 256 in 2-D and 96 in 3-D by default.
        edges: correlate gradient strength rather than intensities.

    Raises:
        InputError: an option out of range.
    """

    def __init__(self, count: int = 4, side: int | None = None, edges: bool = True) -> None:
        self.count = whole("phase correlation: count", count, 1, 10_000)
        self.side = None if side is None else whole("phase correlation: side", side, 16, 2**13)
        self.edges = switch("phase correlation: edges", edges)

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        """moving_from_fixed, world units, best first. shape: (K, D+1, D+1), 1 <= K <= count"""
        spacing = working_spacing(fixed, moving, self.side or SIDES[fixed.grid.ndim])
        axes = directions(fixed.grid)
        first, second = working_image(fixed, spacing, axes), working_image(moving, spacing, axes)
        apart = second.grid.world_from_index[:-1, -1] - first.grid.world_from_index[:-1, -1]
        found = shifts(windowed(first, self.edges), windowed(second, self.edges), self.count, self.edges)
        return stacked([translation(apart + spacing * (axes @ shift)) for shift, _ in found], len(axes))


def windowed(image: Image, edges: bool) -> Tensor:
    """Pixels, or square roots of their gradients' lengths, less the mean and faded out at every border. -> (*shape)"""
    data = image.data[0, 0]
    window = torch.ones_like(data) if image.mask is None else image.mask[0, 0]
    reach = max(1, round(SOFT * max(data.shape)))
    for axis in [axis for axis, n in enumerate(data.shape) if n > 2]:
        reaches = min(reach, (data.shape[axis] - 1) // 2)
        total = F.pad(window.movedim(axis, -1), (reaches + 1, reaches)).double().cumsum(-1)
        window = ((total[..., 2 * reaches + 1 :] - total[..., : -2 * reaches - 1]) / (2 * reaches + 1)).movedim(-1, axis)
    window = (2 * window.float() - 1).clamp(min=0)  # the mean of a mask over a cube is 1/2 on a straight border
    if edges:
        slopes = [torch.gradient(data, dim=axis)[0].square() for axis, n in enumerate(data.shape) if n > 2]
        data = sum(slopes, torch.zeros_like(data)).sqrt().sqrt()
    return (data - (data * window).sum() / window.sum().clamp(min=1e-6)) * window


def shifts(fixed: Tensor, moving: Tensor, count: int, edges: bool) -> list[tuple[Tensor, float]]:
    """Shifts (D,) in pixels, x first, with moving(i + shift) like fixed(i), and the heights of their peaks, best first.

    Both images are windowed, (*shape), of any two shapes. Heights are in root mean squares of the surface, so they can be
    compared. If not `edges`, negative peaks count by their absolute value, for reversed contrast.
    """
    surface = phase_surface(fixed, moving)
    height = (surface if edges else surface.abs()) / surface.square().mean().sqrt().clamp(min=1e-30)
    share = torch.ones(1)
    for f, m in zip(fixed.shape, moving.shape, strict=True):
        shift = torch.arange(f + m - 1) - (f - 1)
        overlap = (m - shift).clamp(max=f) - (-shift).clamp(min=0)
        share = share[..., None] * overlap / min(f, m)
    height = torch.where(share[0] >= LEAST_OVERLAP, height, -1)
    origin = torch.tensor(fixed.shape) - 1
    apart = max(2, round(APART * max(fixed.shape)))
    _, places, tops = peaks(height[None], count, apart)
    return [((place - origin).flip(0).double(), top) for place, top in zip(places, tops.tolist(), strict=True)]


def phase_surface(fixed: Tensor, moving: Tensor, periodic: int | None = None) -> Tensor:
    """Phase correlation at every shift: entry i is the shift i - (fixed - 1). -> (fixed + moving - 1 along each axis)

    Along the axis `periodic`, of one length in both, shifts wrap around: there entry i is the shift i - fixed // 2.
    """
    full = [f if axis == periodic else f + m - 1 for axis, (f, m) in enumerate(zip(fixed.shape, moving.shape, strict=True))]
    padded = [n if axis == periodic else good_length(n) for axis, n in enumerate(full)]
    cross = torch.fft.rfftn(fixed, padded).conj() * torch.fft.rfftn(moving, padded)
    size = cross.abs()
    cross = cross / (size + 1e-3 * size.mean().clamp(min=1e-30))
    for axis, n in enumerate(padded):
        frequency = torch.fft.rfftfreq(n) if axis == fixed.ndim - 1 else torch.fft.fftfreq(n)
        damped = torch.exp(-0.5 * (2 * math.pi * SMOOTH * frequency).square())
        cross = cross * damped.view(-1, *[1] * (fixed.ndim - axis - 1))
    surface = torch.fft.irfftn(cross, padded)
    middle = [f // 2 if axis == periodic else f - 1 for axis, f in enumerate(fixed.shape)]
    surface = surface.roll(middle, list(range(fixed.ndim)))
    return surface[tuple(slice(n) for n in full)]


class FourierMellin:
    """Rotation and scale by phase correlation of log-polar spectra, then the shift by phase correlation. 2-D only.

    The magnitude of a spectrum does not change under a rotation by 180 degrees, so both rotations are tried. Candidates are
    ordered by the peak of the shift. Scales between 1/3 and 3 are searched.

    Args:
        count: most candidates returned.
        side: working pixels along the longest side.
        edges: correlate gradient strength rather than intensities.

    Raises:
        InputError: an option out of range, or, when called, images that are not 2-D.
    """

    def __init__(self, count: int = 4, side: int = 256, edges: bool = True) -> None:
        self.count = whole("Fourier-Mellin: count", count, 1, 10_000)
        self.side = whole("Fourier-Mellin: side", side, 32, 2**13)
        self.edges = switch("Fourier-Mellin: edges", edges)

    def __call__(self, fixed: Image, moving: Image) -> Tensor:
        """moving_from_fixed, world units, best first. shape: (K, 3, 3), 1 <= K <= count"""
        if fixed.grid.ndim != 2:
            raise InputError(
                "Fourier-Mellin finds rotations of 2-D images only, got 3-D. Take phase correlation (shifts), the moments of "
                "mass (any rotation) or landmarks."
            )
        spacing = working_spacing(fixed, moving, self.side)
        axes = directions(fixed.grid)
        first, second = working_image(fixed, spacing, axes), working_image(moving, spacing, axes)
        target = windowed(first, self.edges)
        found = []
        for scale, angle in rotations_and_scales(first, second, TURNS * self.count, self.edges):
            for turn in (angle, angle + math.pi):
                c, s = math.cos(turn), math.sin(turn)
                rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
                back = on_axes(second, axes @ rotation, scale * spacing)  # in the fixed image's rotation and scale
                for shift, height in shifts(target, windowed(back, self.edges), 1, self.edges):
                    back_from_first = translation(shift)
                    found.append((height, back.grid.world_from_index @ back_from_first @ first.grid.index_from_world))
        found.sort(key=lambda pair: -pair[0])
        return stacked([matrix for _, matrix in found[: self.count]], 2)


def rotations_and_scales(fixed: Image, moving: Image, count: int, edges: bool) -> list[tuple[float, float]]:
    """Scales and angles (radians, within half a turn) of moving from fixed in pixels of one spacing, best first."""
    side = good_length(max(*fixed.grid.shape, *moving.grid.shape))
    first, second = (_log_polar_spectrum(windowed(image, edges), side) for image in (fixed, moving))
    height = phase_surface(first, second, periodic=0)
    step = math.log(side / 2 / LOWEST) / (RADII - 1)
    far = (torch.arange(height.shape[1]) - (RADII - 1)).abs() * step > math.log(LARGEST_SCALE)
    height[:, far] = -1
    _, places, _ = peaks(height[None], count, 6)
    return [(math.exp(step * (RADII - 1 - j)), math.pi / ANGLES * (i - ANGLES // 2)) for i, j in places.tolist()]


def _log_polar_spectrum(pixels: Tensor, side: int) -> Tensor:
    """High-pass log magnitude of the spectrum over half a turn and the logarithm of the radius. shape: (ANGLES, RADII)"""
    magnitude = torch.fft.fftshift(torch.fft.fft2(pixels, (side, side)).abs())
    frequency = torch.fft.fftshift(torch.fft.fftfreq(side))
    flat = torch.cos(math.pi * frequency)
    low = flat[:, None] * flat
    spectrum = torch.log1p(magnitude / magnitude.mean()) * (1 - low) * (2 - low)  # high-pass of Reddy and Chatterji
    angles = torch.arange(ANGLES) * (math.pi / ANGLES)
    radii = torch.logspace(math.log10(LOWEST), math.log10(side / 2), RADII)
    places = radii[None, :, None] * torch.stack([angles.cos(), angles.sin()], -1)[:, None]
    unit = (2 * (places + side // 2) + 1) / side - 1
    polar = F.grid_sample(spectrum[None, None], unit[None], align_corners=False, padding_mode="border")[0, 0]
    return (polar - polar.mean(0)) * torch.hann_window(RADII, periodic=False)
