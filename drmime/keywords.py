"""The keyword arguments of `register` for type checkers; `register` documents them and their defaults."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch

from drmime.compare.base import Similarity
from drmime.device import Device
from drmime.sampling import Sampler
from drmime.schedule import Schedule
from drmime.transform.base import Family


class Keywords(TypedDict, total=False):
    """Keyword arguments of `register`; `tests/test_keywords.py` compares them with its signature."""

    levels: int
    transform: str | Mapping[str, Any] | Family | Sequence[Any]
    metric: str | Mapping[str, Any] | Similarity
    sampler: str | Mapping[str, Any] | Sampler
    start: Any
    representation: Any
    fixed_mask: Any
    moving_mask: Any
    affine_mask: Any
    landmarks: Any
    fixed_spacing: Sequence[float] | None
    moving_spacing: Sequence[float] | None
    channel_axis: Any
    channel: Any
    nan: str
    schedule: Mapping[str, Any] | Schedule | None
    seed: int
    device: str | torch.device | Mapping[str, Any] | Device | None
    observers: Any
