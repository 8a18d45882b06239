"""What a proposer gives is checked before it is used."""

from typing import Any

import numpy as np
import pytest
import torch

import drmime
from drmime.errors import InputError
from drmime.start.choose import starts_of

IMAGES = np.random.default_rng(0).random((2, 40, 44))
WRONG = [
    (None, "got None"),
    (np.eye(3)[None], "got array"),
    (torch.eye(3), r"got shape \(3, 3\)"),
    (torch.eye(4)[None], r"got shape \(1, 4, 4\)"),
    (torch.eye(3, dtype=torch.complex64)[None], "got shape"),
    (torch.full((2, 3, 3), torch.nan), "NaN or infinity"),
    (torch.zeros(1, 3, 3), "singular"),
    (torch.tensor([[[1.0, 1, 0], [1, 1, 0], [0, 0, 1]]]), "singular"),
]


@pytest.mark.parametrize(("found", "words"), WRONG, ids=lambda value: str(value)[:20])
def test_what_is_no_start_is_refused(found: Any, words: str) -> None:
    with pytest.raises(InputError, match=rf"^start <lambda>: expected a tensor of matrices of shape \(K, 3, 3\).*{words}"):
        drmime.register(*IMAGES, start=lambda fixed, moving: found, schedule={"steps": 2}, device="cpu")
    with pytest.raises(InputError, match=rf"^start given: expected .*{words}"):
        drmime.register(
            *IMAGES, start={"given": lambda fixed, moving: found, "refine": False}, schedule={"steps": 2}, device="cpu"
        )


def test_starts_become_float64_whatever_their_size() -> None:
    far = torch.tensor([[[1e-9, 0, 1e9], [0, 1e-9, -1e9], [0, 0, 1]]])
    assert starts_of("search", far, 2).dtype == torch.float64
    assert starts_of("search", torch.zeros(0, 3, 3), 2).shape == (0, 3, 3)


@pytest.mark.parametrize("length", [1e-9, *(pytest.param(length, marks=pytest.mark.slow) for length in (1e-5, 1e6, 1e9))])
@pytest.mark.parametrize("both", [False, True])
def test_units_of_length_do_not_matter(length: float, both: bool) -> None:
    """Nanometres against pixels, kilometres against kilometres."""
    smooth = sum(np.roll(IMAGES[0], (i, j), (0, 1)) for i in range(4) for j in range(4))
    spacings = {"fixed_spacing": (length, length) if both else None, "moving_spacing": (length, length)}
    found = drmime.register(smooth, 3 - np.roll(smooth, (2, -3), (0, 1)), device="cpu", transform="similarity", **spacings)
    assert np.allclose(found.pixel_matrix, [[1, 0, -3], [0, 1, 2], [0, 0, 1]], atol=0.3)
