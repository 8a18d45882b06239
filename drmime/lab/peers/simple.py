"""What every method has to beat: a transform that nobody searched for. No time, no options, any dimension."""

import numpy as np

from drmime.lab.peers.base import Problem, Run, centre_on_centre


def centre(problem: Problem) -> Run:
    """The middle of one image onto the middle of the other in physical units: where everyone starts by default."""
    ndim = problem.ndim
    shapes = problem.fixed.shape[:ndim], problem.moving.shape[:ndim]
    found = centre_on_centre(*shapes, problem.fixed_spacing, problem.moving_spacing)
    return lambda seed: found


def identity(problem: Problem) -> Run:
    """First pixel on first pixel, in physical units: how the images overlay as they come."""
    ratio = np.array(problem.fixed_spacing[::-1]) / np.array(problem.moving_spacing[::-1])
    return lambda seed: np.diag([*ratio, 1.0])


def start(problem: Problem) -> Run:
    """The start that the problem gives, by default that of `centre`."""
    return lambda seed: problem.start
