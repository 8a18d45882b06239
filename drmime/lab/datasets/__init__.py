"""Datasets of image pairs: one function for each kind; its keyword arguments are its options in a configuration."""

from collections.abc import Callable
from typing import Any

from drmime.lab.datasets.base import Case, Change, Dataset, Pair, checked, digests
from drmime.lab.datasets.synthetic import FILES, synthetic
from drmime.registry import build

__all__ = ["DATASETS", "Case", "Change", "Dataset", "Pair", "dataset", "digests"]

DATASETS: dict[str, Callable[..., Dataset]] = FILES | {"synthetic": synthetic}


def dataset(spec: Any) -> tuple[Pair, ...]:
    """The pairs of the dataset `spec`: {"name": a name in `DATASETS`, option: …}, or a `Dataset` object.

    Raises:
        InputError: an unknown name or option, a missing file, no pairs, or two pairs of one name.
    """
    return checked(build("dataset", DATASETS, spec), "dataset")
