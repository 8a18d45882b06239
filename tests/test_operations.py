"""What a registration asks of torch: operations, and waits for the device in the optimisation loop. Counted, not timed."""

from typing import Any

import elsewhere
import numpy as np
import pytest
import torch
from counting import Counting
from elsewhere import Watch
from textures import busy, inverted

from drmime import register
from drmime.geometry.grid import Grid
from drmime.start import inputs
from drmime.start.propose import search

SIDE = 128
MOST = 77_000  # operations for a pair of which the first look is clear, on a CPU
SIXTEEN = 7_500  # for each of sixteen such pairs, where as many are computed at once as on a GPU
RECORDED = {1: 40_000, 16: 4_000}  # for each of so many, with CUDA graphs, where the operations of a step are one


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene, and the same shifted and in other intensities."""
    grid, scene = Grid.regular((SIDE, SIDE)), busy(Grid.regular((SIDE, SIDE)), seed=seed)
    points = grid.index_points()
    first, second = scene(points), inverted(scene)(points + torch.tensor([5.0, -3.0]))
    return first.view(SIDE, SIDE).numpy(), second.view(SIDE, SIDE).numpy()


def several(count: int) -> list[list[np.ndarray]]:
    """Fixed and moving images of so many pairs."""
    return [list(some) for some in zip(*(pair(seed) for seed in range(count)), strict=True)]


def counted(count: int, **options: Any) -> Counting:
    with Counting() as counts:
        results = register(*several(count), device="cpu", **options)
    assert all(result.verdict.status.value == "aligned" for result in results)
    return counts


def test_one_pair_takes_at_most_so_many_operations() -> None:
    assert counted(1).operations.total() < MOST


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of what is computed at once that are for other devices than a CPU."""
    monkeypatch.setattr(inputs, "AT_ONCE", {})
    monkeypatch.setattr(search, "TOGETHER", search.TOGETHER_ELSEWHERE)


@pytest.mark.slow
def test_each_of_sixteen_pairs_takes_at_most_so_many_operations(as_on_a_gpu: None) -> None:
    assert counted(16).operations.total() < 16 * SIXTEEN


@pytest.mark.usefixtures("graphs", "put_elsewhere")
@pytest.mark.parametrize("count", [1, pytest.param(16, marks=pytest.mark.slow)])
def test_each_pair_takes_at_most_so_many_operations_with_graphs(count: int) -> None:
    elsewhere.operations.clear()
    with Watch():
        results = register(*several(count), device={"name": "cpu", "graphs": True})
    assert all(result.verdict.status.value == "aligned" for result in results)
    assert elsewhere.operations.total() < count * RECORDED[count]


def test_the_loop_waits_for_the_device_once_in_ten_steps() -> None:
    right = np.array([[1.0, 0, -5], [0, 1, 3], [0, 0, 1]])
    start = {"given": right, "propose": None, "refine": False}
    few, many = (counted(1, start=start, schedule={"steps": steps, "tolerance": 1e-9}) for steps in (30, 70))
    assert 0 < many.waits["optimisation"] - few.waits["optimisation"] <= 4


def test_waits_are_seen() -> None:
    flags = torch.tensor([True, False])
    with Counting() as counts:
        flags.tolist()
        flags.cpu()
        bool(flags.any())
        flags[flags]
        flags + flags
    assert counts.waits.total() == 4
