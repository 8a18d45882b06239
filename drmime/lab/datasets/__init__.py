"""Where pairs come from: one function for each kind of dataset, whose keyword arguments are its options in a config."""

from collections.abc import Callable
from typing import Any

from drmime.lab.datasets.base import Case, Change, Dataset, Pair, checked, digests
from drmime.lab.datasets.synthetic import FILES, synthetic
from drmime.registry import build

__all__ = ["DATASETS", "Case", "Change", "Dataset", "Pair", "dataset", "digests"]

DATASETS: dict[str, Callable[..., Dataset]] = FILES | {"synthetic": synthetic}


def dataset(spec: Any) -> tuple[Pair, ...]:
    """The pairs of the dataset that `spec` describes: {"name": a name of `DATASETS`, option: …}, or one made elsewhere.

    Raises:
        InputError: an unknown name or option; no such files; no pairs, or two of one name.
    """
    return checked(build("dataset", DATASETS, spec), "dataset")
