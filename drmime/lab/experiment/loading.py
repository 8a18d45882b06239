"""The pairs that a process holds in memory; a thread can read the next ones during a computation."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from drmime.lab.datasets.base import Case, Pair, digests

Loaded = tuple[Case, dict[str, dict[str, Any]]]  # a pair, and the digests of its files


class Loader:
    """Reads pairs once as long as they are held. Use it in one thread."""

    def __init__(self) -> None:
        self._held: dict[Pair, Future[Loaded]] = {}
        self._reader = ThreadPoolExecutor(1, "reads pairs")  # its thread begins with the first pair that is read ahead

    def __call__(self, pair: Pair) -> Loaded:
        """A pair; it is read now unless it is held or being read.

        Raises:
            InputError: a file that cannot be used.
        """
        if pair not in self._held:
            self._held[pair] = Future()
            try:
                self._held[pair].set_result(_read(pair))
            except Exception as error:
                self._held[pair].set_exception(error)
        return self._held[pair].result()

    def hold(self, pairs: Iterable[Pair]) -> None:
        """Forget all pairs but these."""
        kept = {*pairs}
        for pair in self._held.keys() - kept:
            self._held.pop(pair).cancel()

    def ahead(self, pairs: Iterable[Pair]) -> None:
        """Read pairs in a thread."""
        for pair in pairs:
            if pair not in self._held:
                self._held[pair] = self._reader.submit(_read, pair)


def _read(pair: Pair) -> Loaded:
    return pair.load(), digests(file for file in pair.files() if Path(file).is_file())


load = Loader()  # of this process
