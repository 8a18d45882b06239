"""Grids and transforms of tests of formats, and what other programs map points to."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from problems import oblique

from drmime.geometry.grid import Grid
from drmime.geometry.lie import generators
from drmime.transform.base import Transform
from drmime.transform.linear import LieModel


def grids(ndim: int) -> tuple[Grid, Grid]:
    """Two images with unequal spacings, turned against the world's axes and far from its origin."""
    return oblique((40, 50, 60)[-ndim:], (2.0, 0.5, 0.8)[-ndim:], offset=70.0), Grid.regular(
        (30, 35, 20)[-ndim:], (1.5, 0.7, 2.0)[-ndim:]
    )


def transform(ndim: int, group: str = "affine") -> Transform:
    fixed, moving = grids(ndim)
    model = LieModel(generators(group, ndim), torch.eye(ndim + 1, dtype=torch.float64)[None], fixed, moving)
    with torch.no_grad():
        model.coefficients += 0.2 * torch.randn(model.coefficients.shape, dtype=torch.float64)
    return model.result()[0]


def points(grid: Grid) -> torch.Tensor:
    return torch.cat([grid.corners(), grid.centre[None]])


def same(one: Transform, other: Transform, grid: Grid) -> None:
    off = (one(points(grid)) - other(points(grid))).norm(dim=-1).max()
    assert float(off) < 1e-6 * float(grid.extent.norm())


def theirs(code: str, places: torch.Tensor, folder: Path) -> np.ndarray:
    """What another program maps points to."""
    code = f"POINTS = {places.tolist()!r}\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return np.array(ast.literal_eval(done.stdout.splitlines()[-1]))
