"""Pairs of another dataset with known motions, which are applied when a pair is loaded."""

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

MOST = 10_000  # largest number of repeats
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
    """Pairs with known alignment, with the moving image under random known motions, each motion `repeats` times.

    A pair is named after its source pair, motion and number: kidney/small-0.

    Args:
        of: the specification of another dataset, {"name": "pairs", "file": …, "where": {"already_aligned": 1}}.
        motions: names of `MOTIONS`: small, medium and large (affine; errors are measured at a regular grid of points if the
            truth is known as a matrix, else at the landmarks), turned (0 to 360 degrees, on a larger canvas), crop (half the
            area, rotated), volume (3-D, any rotation), bent0, bent1, bent2 and bent4 (a smooth deformation by this percentage
            of the diagonal on average; errors are measured where the fixed image varies).
        repeats: the number of pairs for each source pair and motion.
        recoloured: replace the moving image by the fixed image under a non-monotone map of intensities.
        seed: of the random motions.

    Raises:
        InputError: an unknown dataset or motion, source pairs that are changed already, or an error of the source dataset.
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
