"""`Task`, one registration of an experiment, and `batched`, which says which of them are run together."""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from drmime.lab.datasets.base import Pair
from drmime.lab.experiment.rows import Row

PEERS = ("SimpleITK", "itk-elastix", "antspyx", "convexAdam", "opencv-python-headless", "scikit-image")
PACKAGES = ("drmime", "torch", "numpy", *PEERS)


@dataclass(frozen=True)
class Outputs:
    """The outputs of a run besides its rows, and the folder of all outputs."""

    folder: str = "runs"
    pictures: int = 320  # pixels of the long side of each pair's pictures; 0 for none
    tensorboard: bool = False  # curves and overlays of drmime's methods


@dataclass(frozen=True)
class Task:
    """A method, a pair and a seed. Holds text and numbers only, so that it can be sent to a process as JSON."""

    method: str  # the method's name in the configuration
    block: Mapping[str, Any]  # keyword arguments of `register`; or "peer" and its options
    pair: Pair
    seed: int
    outputs: Outputs = field(default_factory=Outputs)
    threads: int = 1  # threads of a peer; `register` has an option for this
    code: bool = False  # whether "module:attribute" in `block` is imported

    @property
    def name(self) -> str:
        """The relative path of the task's files; it depends on method, options, pair and seed, not on the images' folder."""
        return f"{slug(self.method)}/{self.pair_name}-{self.seed}-{_digest([self.method, self.block, self.seed])}"

    @property
    def pair_name(self) -> str:
        """The prefix of the names of files that all methods of a pair share."""
        pair = self.pair.to_dict()
        return f"{slug(self.pair.name)}-{_digest([pair['name'], pair['change']])}"

    @property
    def curves(self) -> Path:
        """The folder of TensorBoard's files."""
        return Path(self.outputs.folder) / "tensorboard" / self.name

    @property
    def alone(self) -> bool:
        """Whether it is run by itself: another program, a method after another, or one whose curves are kept."""
        return "peer" in self.block or "after" in self.block or self.outputs.tensorboard

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Task":
        outputs, pair = Outputs(**state["outputs"]), Pair.from_dict(state["pair"])
        return cls(**dict(state) | {"outputs": outputs, "pair": pair})

    def unfinished(self) -> Row:
        """The row with the values that are known before the task has run."""
        row = Row(self.method, self.pair.name, self.seed, self.pair.domain, landmarks=self.pair.judged)
        return replace(row, settings=dict(self.block), versions=versions())


def batched(tasks: Iterable[Task], size: int) -> list[list[Task]]:
    """The tasks in lists that are run together: one method and seed on at most `size` pairs; those that are `alone` singly.

    The methods take turns on the same pairs, so that a process reads each pair once.
    """
    made: list[list[Task]] = []
    pairs, unfinished = set[str](), dict[tuple[str, int], list[Task]]()
    for task in tasks:
        if task.pair.name not in pairs and len(pairs) == size:
            pairs, unfinished = set(), {}
        pairs.add(task.pair.name)
        together = None if task.alone else unfinished.get((task.method, task.seed))
        if together is None:
            together = unfinished[task.method, task.seed] = []
            made.append(together)
        together.append(task)
    return made


def in_a_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


def slug(name: str) -> str:
    """A name converted to a part of a path that is valid on every file system."""
    return re.sub(r"[^\w.=-]+", "_", name, flags=re.ASCII).strip("._")[:80] or "_"


@functools.cache
def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
