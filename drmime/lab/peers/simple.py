"""Baselines that do not search: fixed transforms, without options, for any dimension."""

import numpy as np

from drmime.lab.peers.base import Problem, Run, centre_on_centre


def centre(problem: Problem) -> Run:
    """Centre on centre in physical units, which is the default start of all methods."""
    ndim = problem.ndim
    shapes = problem.fixed.shape[:ndim], problem.moving.shape[:ndim]
    found = centre_on_centre(*shapes, problem.fixed_spacing, problem.moving_spacing)
    return lambda seed: found


def identity(problem: Problem) -> Run:
    """First pixel on first pixel, in physical units."""
    ratio = np.array(problem.fixed_spacing[::-1]) / np.array(problem.moving_spacing[::-1])
    return lambda seed: np.diag([*ratio, 1.0])


def start(problem: Problem) -> Run:
    """The start of the problem, by default that of `centre`."""
    return lambda seed: problem.start
