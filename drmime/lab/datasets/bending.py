"""Known smooth deformations of a moving image, and the places of an image where an error can be seen."""

import math
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import mapped
from drmime.lab.datasets.case import Case, regular_points, within
from drmime.transform.lattice import Lattice
from drmime.transform.lattice_transform import VelocityTransform
from drmime.transform.warp import resample

SPACING = 0.4  # of control points, in units of half the longest side: bends of about a third of the image
WINDOW = 0.05  # of the longest side; the neighbourhood in which an image must vary for an error to be seen


def bent(case: Case, random: np.random.Generator, share: float) -> Case:
    """Deform the moving image of a case with known points; displacements are `share` of the diagonal long on average."""
    shape = case.moving.shape[: case.ndim]
    grid = Grid.regular(shape)
    flow = _random_flow(grid, random, share)
    points = None if case.moving_points is None else flow.inverse()(torch.as_tensor(case.moving_points)).numpy()
    axis = -1 if case.moving.ndim > case.ndim else None
    labels = case.moving_labels
    return replace(
        case,
        moving=resample(case.moving, flow, grid, grid, channel_axis=axis),
        moving_points=points,
        moving_labels=None if labels is None else resample(labels, flow, grid, grid, "nearest", channel_axis=None),
        truth=None,
    )


def seen_points(case: Case) -> np.ndarray:
    """Points of the fixed image at which it varies more than at half of its places, and which its truth maps into the moving
    image: elsewhere a deformation cannot be seen. -> (N, D), pixels"""
    gray = case.fixed if case.fixed.ndim == case.ndim else case.fixed.mean(-1)
    gray = gray.astype(np.float64)
    window = max(3, round(WINDOW * max(gray.shape)))
    means, squares = (ndimage.uniform_filter(values, window) for values in (gray, gray**2))
    spread = squares - means**2
    points = regular_points(gray.shape)
    values = spread[tuple(np.rint(points[:, ::-1]).astype(int).T)]
    points = points[(values >= np.median(spread)) & (values > 1e-6 * gray.var())]
    there = points if case.truth is None else mapped(case.truth, points)
    return points[within(there, case.moving.shape[: case.ndim])]


def _random_flow(grid: Grid, random: np.random.Generator, share: float) -> VelocityTransform:
    """From new pixels to old ones."""
    lattice = Lattice.over(grid, SPACING)
    velocities = torch.as_tensor(random.standard_normal((grid.ndim, *lattice.shape)))
    flow = VelocityTransform(velocities, lattice, grid.world_from_frame)
    points = torch.as_tensor(regular_points(grid.shape))
    wanted = share * math.hypot(*grid.shape)
    for _ in range(4):  # the length of displacements is nearly proportional to that of velocities
        length = float((flow(points) - points).norm(dim=1).mean())
        flow = replace(flow, field=flow.field * wanted / max(length, 1e-9))
    return flow
