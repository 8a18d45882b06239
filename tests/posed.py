"""Scenes and their negatives in poses that are known, with starts that are wrong and one that is near."""

import torch
from problems import photograph
from textures import about, busy, corner_error, inverted, turn
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.lie import generators
from drmime.start.inputs import Inputs
from drmime.start.refine import Candidate, refined

SIDES = {2: (90, 104), 3: (32, 34, 36)}
OFF = 0.04  # of the diagonal: where a search leaves a start
REFINED = {2: 0.01, 3: 0.02}


def turn_in(ndim: int, degrees: float) -> Tensor:
    return turn(degrees) if ndim == 2 else turn(degrees, (1, 2, -1))


class Case:
    """A scene and its negative, posed; starts that are wrong, and one that is near."""

    def __init__(self, ndim: int, linear_part: Tensor | None = None) -> None:
        self.grid = Grid.regular(SIDES[ndim])
        moving = Grid.regular([n + 6 for n in SIDES[ndim]], [1.2] * ndim)
        linear_part = 1.1 * turn_in(ndim, 40) if linear_part is None else linear_part
        scene = busy(self.grid, finest=0.2 if ndim == 2 else 0.3)
        self.truth = about(linear_part, self.grid.centre, moving.centre)
        self.fixed = photograph(scene, grid=self.grid, dtype=torch.float32).normalised()
        back = torch.linalg.inv(self.truth)
        self.moving = photograph(inverted(scene), grid=moving, scene_from_world=back, dtype=torch.float32).normalised()
        self.ndim = ndim

    def shifted(self, *share: float, degrees: float = 0) -> Tensor:
        """The truth after a shift by shares of the diagonal and a turn of the fixed image."""
        off = torch.tensor(share or (0.0,) * self.ndim, dtype=torch.float64)[: self.ndim]
        middle = self.grid.centre
        return self.truth @ about(
            turn_in(self.ndim, degrees), middle, middle + off * (self.grid.size * self.grid.spacing).norm()
        )

    def starts(self) -> list[tuple[str, Tensor]]:
        near = self.shifted(0.03, -0.02, 0.01, degrees=2)
        wrong = [self.shifted(degrees=90), self.shifted(0.2, 0.1, 0), self.shifted(-0.15, 0.2, 0.1, degrees=180)]
        return [("wrong", wrong[0]), ("wrong", wrong[1]), ("near", near), ("wrong", wrong[2])]

    def inputs(self, group: str | list[str] = "similarity", seed: int = 0) -> Inputs:
        return Inputs(self.fixed, self.moving, generators(group, self.ndim), seed)

    def refined(self, group: str = "similarity", seed: int = 0) -> tuple[Candidate, ...]:
        return refined([self.inputs(group, seed)], [self.starts()])[0]

    def error(self, candidate: Candidate) -> float:
        return corner_error(candidate.matrix, self.truth, self.fixed)
