"""The keywords of `register` for type checkers; `register` itself says what they mean and what their defaults are."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor

from drmime.compare import Similarity
from drmime.optimise import Observer, Step
from drmime.sampling import Sampler


class Keywords(TypedDict, total=False):
    """`tests/test_keywords.py` holds these against the signature."""

    levels: int
    group: str | Sequence[str] | Mapping[str, Tensor]
    metric: str | Mapping[str, Any] | Similarity
    sampler: str | Mapping[str, Any] | Sampler
    initialiser: Any
    initial_transform: Any
    fixed_mask: Any
    moving_mask: Any
    fixed_spacing: Sequence[float] | None
    moving_spacing: Sequence[float] | None
    channel_axis: Any
    channel: Any
    nan: str
    steps: int
    rate: float
    level_weights: Sequence[float] | Sequence[Sequence[float]] | None
    parametrisation: str
    finest_vector: bool
    tolerance: float
    least_overlap: float
    seed: int
    device: str | torch.device | None
    dtype: str
    threads: int
    progress: bool
    observers: Sequence[Observer | Callable[[Step], None]]
