"""What a registration asks of torch: operations, and waits for the device in the optimisation loop. Counted, not timed."""

import sys
from collections import Counter
from typing import Any

import numpy as np
import torch
from textures import busy, inverted
from torch.utils._python_dispatch import TorchDispatchMode

from drmime import register
from drmime.geometry.grid import Grid

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal"}  # operations that wait for a GPU
SIDE = 128
MOST = 90_000  # operations for a pair of which the first look is clear


class Counting(TorchDispatchMode):
    """Counts operations by name, in all and inside a function of the package."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self.function, self.every, self.inside = function, Counter[str](), Counter[str]()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.__name__.split(".")[0]
        self.every[name] += 1
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_name == self.function and "drmime" in frame.f_code.co_filename:
                self.inside[name] += 1
                break
            frame = frame.f_back  # type: ignore[assignment]
        return operation(*args, **(kwargs or {}))


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene, and the same shifted and in other intensities."""
    grid, scene = Grid.regular((SIDE, SIDE)), busy(Grid.regular((SIDE, SIDE)), seed=seed)
    points = grid.index_points()
    first, second = scene(points), inverted(scene)(points + torch.tensor([5.0, -3.0]))
    return first.view(SIDE, SIDE).numpy(), second.view(SIDE, SIDE).numpy()


def counted(count: int, **options: Any) -> Counting:
    images = [list(some) for some in zip(*(pair(seed) for seed in range(count)), strict=True)]
    with Counting("maximise") as counts:
        results = register(*images, device="cpu", **options)
    assert all(result.verdict.status.value == "aligned" for result in results)
    return counts


def test_one_pair_takes_at_most_so_many_operations() -> None:
    assert sum(counted(1).every.values()) < MOST


def test_the_loop_waits_for_the_device_once_in_ten_steps() -> None:
    right = np.array([[1.0, 0, -5], [0, 1, 3], [0, 0, 1]])
    start = {"given": right, "propose": None, "refine": False}
    few, many = (counted(1, start=start, schedule={"steps": steps, "tolerance": 1e-9}) for steps in (30, 70))
    assert sum(many.inside[name] - few.inside[name] for name in WAITS) <= 4
