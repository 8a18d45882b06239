"""`Pair` and `Dataset`: pairs of images by name and path, which are read only when a pair is loaded."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from drmime.errors import InputError, existing_file, switch, whole
from drmime.image.headers import companion
from drmime.lab.datasets.case import Case, Change
from drmime.lab.datasets.changes import changed
from drmime.lab.datasets.reading import IDENTITY, read_case
from drmime.registry import known

__all__ = ["IDENTITY", "Case", "Change", "Dataset", "Pair", "checked", "digests", "spread"]

PATHS = ("fixed", "moving", "fixed_landmarks", "moving_landmarks", "fixed_labels", "moving_labels", "truth")


@dataclass(frozen=True)
class Pair:
    """Two images to align and their ground truth, as paths. Holds text only, so that it can be sent to a process as JSON."""

    name: str  # unique in its dataset; may have folders: "histology/kidney"
    fixed: str  # a path
    moving: str
    domain: str = ""
    fixed_landmarks: str = ""  # a path, or "" for none
    moving_landmarks: str = ""  # if equal to fixed_landmarks and not .csv: a text file with the columns of both, fixed first
    fixed_labels: str = ""
    moving_labels: str = ""
    truth: str = ""  # a text file with moving_from_fixed (D+1, D+1) in pixels, an ITK .tfm, a registration .json, or "identity"
    change: Change | None = None

    def files(self) -> tuple[str, ...]:
        """The paths of all files that `load` reads, without duplicates."""
        paths = [path for name in PATHS if (path := getattr(self, name)) and path != IDENTITY]
        return tuple(dict.fromkeys(path for one in paths for path in (one, *_companions(one))))

    @property
    def judged(self) -> bool:
        """Whether errors can be measured: the pair names landmarks or a truth, or its change defines one."""
        return bool(self.fixed_landmarks or self.truth or (self.change and self.change.recoloured))

    def load(self) -> Case:
        """Read all files, and apply the change if there is one.

        The points of the case are the landmarks; without landmarks but with a truth, they are those points of a regular grid
        over the fixed image that the truth maps into the moving image.

        Raises:
            InputError: a file is missing or damaged, landmarks do not match or lie outside their image, labels or a truth do
                not fit the images, or the change cannot be applied; the message names the pair and the file.
        """
        try:
            case = read_case(**{name: getattr(self, name) for name in PATHS})
            return case if self.change is None else changed(case, self.change, self.name)
        except InputError as error:
            raise InputError(f"pair {self.name!r}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The pair as values for JSON; the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Pair":
        """The pair from the values of `to_dict`.

        Raises:
            InputError: an unknown or missing key, or a value of the wrong type.
        """
        texts = _known_keys("pair", values, cls, ("name", "fixed", "moving"))
        change = texts.pop("change", None)
        for key, value in texts.items():
            if not isinstance(value, str):
                raise InputError(f"pair: expected text for {key!r}, got {value!r}")
        return cls(**texts, change=None if change is None else _change(change))


def _companions(path: str) -> Iterator[str]:
    """The second file of an image that is stored as header and pixels in two files."""
    with suppress(InputError, OSError, ValueError):
        if other := companion(Path(path)):
            yield str(other)


def _change(values: Any) -> Change:
    given = _known_keys("change", values, Change, ("motion",))
    if not isinstance(given["motion"], str):
        raise InputError(f"change: expected the name of a motion, got {given['motion']!r}")
    seed, recoloured = given.get("seed", 0), given.get("recoloured", False)
    return Change(given["motion"], whole("change: seed", seed, 0), switch("change: recoloured", recoloured))


def _known_keys(kind: str, values: Any, of: type[Any], required: Iterable[str]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(f"{kind}: expected keys and values, got {values!r}")
    for key in values:
        known(f"key of a {kind}", key, [field.name for field in fields(of)])
    missing = [key for key in required if key not in values]
    if missing:
        raise InputError(f"{kind}: expected the keys {', '.join(missing)} as well, got {', '.join(values) or 'none'}")
    return dict(values)


class Dataset(Protocol):
    """An iterable of pairs in a fixed order, which reads no image."""

    def __iter__(self) -> Iterator[Pair]: ...


def checked(pairs: Iterable[Any], what: str) -> tuple[Pair, ...]:
    """The pairs of a dataset as a tuple, checked; `what` names the source in error messages.

    Raises:
        InputError: there are no pairs, an item is not a `Pair`, or a name is duplicate or not a relative path.
    """
    try:
        found = tuple(pairs)
    except TypeError as error:
        raise InputError(f"{what}: expected a dataset, which gives pairs, got {pairs!r}") from error
    for pair in found:
        if not isinstance(pair, Pair):
            raise InputError(f"{what}: expected pairs (drmime.lab.datasets.base.Pair), got {pair!r}")
        parts = pair.name.split("/")
        if PurePosixPath(pair.name).is_absolute() or {"", ".", ".."} & {*parts} or not pair.name.isprintable():
            raise InputError(f"{what}: expected pair names like 'kidney' or 'histology/kidney', got {pair.name!r}")
    twice = [name for name, count in Counter(pair.name for pair in found).items() if count > 1]
    if twice:
        more = f" and {len(twice) - 5} more" if len(twice) > 5 else ""
        raise InputError(f"{what}: expected each pair name once, got several of {', '.join(map(repr, twice[:5]))}{more}")
    if not found:
        raise InputError(f"{what}: no pairs")
    return found


def spread(pairs: tuple[Pair, ...], limit: int | None) -> tuple[Pair, ...]:
    """At most `limit` pairs, evenly spaced, with the first and the last (if `limit` > 1); all pairs if it is None."""
    if limit is None:
        return pairs
    count = min(whole("limit", limit, 1), len(pairs))
    return tuple(pairs[int(at)] for at in np.linspace(0, len(pairs) - 1, count))


def digests(paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of each file, to detect changes: {path: {"size", "sha256"}}.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        try:
            with existing_file(path, "a file").open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                found[path] = {"size": file.tell(), "sha256": digest}
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return found
