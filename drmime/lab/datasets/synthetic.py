"""Pairs of another dataset under motions of which the answer is known. The motions are made when a pair is loaded."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from drmime.errors import InputError, switch, whole
from drmime.lab.datasets.base import Change, Dataset, Pair, checked
from drmime.lab.datasets.changes import MOTIONS
from drmime.lab.datasets.folders import fire, folder, stack
from drmime.lab.datasets.tables import anhir, birl, pairs
from drmime.registry import build, known

__all__ = ["FILES", "MOTIONS", "synthetic"]

MOST = 10_000  # repeats
FILES: dict[str, Callable[..., Dataset]] = {
    "pairs": pairs,
    "birl": birl,
    "anhir": anhir,
    "fire": fire,
    "folder": folder,
    "stack": stack,
}


def synthetic(
    of: Any,
    *,
    motions: str | list[str] | tuple[str, ...] = ("small", "medium", "large"),
    repeats: int = 10,
    recoloured: bool = False,
    seed: int = 0,
) -> tuple[Pair, ...]:
    """Pairs whose images overlay, or of which something else is known, with the moving image moved; each motion several times.

    A pair is called after the one it is made of, its motion and number: kidney/small-0.

    Args:
        of: the specification of another dataset, {"name": "pairs", "file": …, "where": {"already_aligned": 1}}.
        motions: names of `MOTIONS`: small, medium and large (affine; errors at a regular grid of points where the truth is
            known as a matrix, else at the landmarks), turned (0 to 360 degrees, on a grown canvas), crop (half the area,
            turned), volume (3-D, any rotation).
        repeats: how often each.
        recoloured: put the fixed image, its intensities through a map that is not monotone, in the moving one's place.
        seed: of the motions.

    Raises:
        InputError: an unknown dataset or motion, or what the inner dataset raises.
    """
    inner = checked(build("dataset", FILES, of), "of")
    names = [motions] if isinstance(motions, str) else motions
    if not isinstance(names, (list, tuple)) or not names:
        raise InputError(f"motions: expected a list of {', '.join(MOTIONS)}, got {motions!r}")
    for name in names:
        known("motion", name, MOTIONS)
    already = next((pair.name for pair in inner if pair.change is not None), None)
    if already is not None:
        raise InputError(f"of: expected pairs as they come, got {already!r}, which is changed already")
    count, seed, recoloured = whole("repeats", repeats, 1, MOST), whole("seed", seed, 0), switch("recoloured", recoloured)
    made = (
        replace(pair, name=f"{pair.name}/{name}-{number}", change=Change(name, seed, recoloured))
        for pair in inner
        for name in names
        for number in range(count)
    )
    return checked(made, "motions")
