"""Whatever torch's defaults are, results are the same, and the defaults are as they were."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import drmime

NOISE = np.random.default_rng(0).random((2, 48, 52))  # of which no start is clear, so that every look is taken
PARTS: list[Any] = [
    pytest.param({}, marks=pytest.mark.slow),
    {"start": ["features", "moments", "phase", "fourier_mellin"]},
    {"start": "sift"},
    {"start": {"name": "search", "score": "cross", "size": 24, "step": 60}, "metric": "mattes", "sampler": "edges"},
    {
        "start": None,
        "metric": "nmi",
        "sampler": "jittered",
        "transform": {"name": "affine", "parametrisation": "direct", "finest_vector": True},
    },
    {"start": None, "metric": {"name": "mine", "bound": "smile"}, "sampler": "all", "transform": "projective"},
]


@pytest.fixture
def defaults() -> Iterator[tuple[torch.dtype, torch.device]]:
    yield torch.float64, torch.device("meta")
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("options", PARTS, ids=lambda options: str(options.get("start", "auto"))[:20])
def test_results_do_not_depend_on_defaults(options: dict, defaults: Any, tmp_path: Path) -> None:
    def results() -> list[Any]:
        found = drmime.register(*NOISE, schedule={"steps": 4}, device="cpu", **options)
        found.save(tmp_path / "a.json")
        again = drmime.Registration.load(tmp_path / "a.json")
        pictures = again.warp(NOISE[1]), again.warp_labels(NOISE[1] > 0.5), again.overlay(*NOISE)
        points = again.to_moving([[1, 2]]), again.to_fixed([[3, 4]]), again.inverse().pixel_matrix
        return [found.matrix, found.history, str(found), again.describe(), *pictures, *points]

    before = results()
    dtype, device = defaults
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    after = results()
    assert torch.get_default_dtype() == dtype
    assert torch.get_default_device() == device
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one, other)


def test_torchs_own_random_numbers_are_left_alone() -> None:
    for start in ("sift", "features", None):
        torch.manual_seed(3)
        drmime.register(*NOISE, schedule={"steps": 2}, device="cpu", start=start)
        after = torch.rand(3)
        torch.manual_seed(3)
        assert torch.equal(after, torch.rand(3)), start
