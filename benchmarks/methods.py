"""The methods that `peers.py` compares, and how each was set; README.md says how the settings were found.

A method takes the two images, the start and the threads, makes everything ready and gives what is timed: a
function from a seed to the map it found. The peers are those of `drmime.lab.peers`, with their options here.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from drmime import register
from drmime.image.door import as_image
from drmime.lab import peers
from drmime.lab.peers.base import luminance
from drmime.parts import PROPOSERS

Mapper = Callable[[np.ndarray], np.ndarray]  # fixed pixels to moving pixels, (N, 2) -> (N, 2), x first
Run = Callable[[int], Mapper]  # of a seed
Method = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Run]  # fixed, moving, start (3, 3) in pixels, threads
PIXELS = (1.0, 1.0)  # spacing


def gray(pixels: np.ndarray) -> np.ndarray:
    return luminance(pixels, 2)


def peer(fixed: np.ndarray, moving: np.ndarray, start: np.ndarray, threads: int, name: str, **options: Any) -> Run:
    problem = peers.Problem.of(fixed, moving, PIXELS, PIXELS, start=start, threads=threads)
    run = peers.ready(problem, name, options)

    def mapper(seed: int) -> Mapper:
        matrix = run(seed)
        return lambda points: points @ matrix[:2, :2].T + matrix[:2, 2]

    return mapper


def searched(fixed: np.ndarray, moving: np.ndarray, start: np.ndarray, threads: int) -> Run:
    """Exhaustive mutual information by FFT at one scale (as globalign, doi 10.1016/j.patrec.2022.05.022), then elastix.

    Timed with it is how elastix gets its images, some hundredths of a second, since the start is known only then.
    """
    torch.set_num_threads(threads)
    search = PROPOSERS["search"](score={"name": "cross", "bins": 8}, scales=[1.0])
    images = [as_image(gray(pixels), role="fixed") for pixels in (fixed, moving)]

    def run(seed: int) -> Mapper:
        found = search(*images).numpy()
        if not len(found):
            raise RuntimeError("search: no start found")
        return peer(fixed, moving, found[0], threads, "elastix", settings="far")(seed)

    return run


def ours(
    fixed: np.ndarray,
    moving: np.ndarray,
    matrix: np.ndarray,
    threads: int,
    start: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """`start`: options beside the given matrix."""

    def run(seed: int) -> Mapper:
        settings: dict[str, Any] = {"start": {"given": matrix} | dict(start or {}), **options}
        settings["device"] = {"name": "cpu", "threads": threads}
        result = register(fixed, moving, seed=seed, **settings)
        if not result.success:
            raise RuntimeError(result.stop.value)
        return result.to_moving

    return run


PAPER = yaml.safe_load((Path(__file__).parents[1] / "configs" / "paper.yaml").read_text(encoding="utf-8"))
METHODS: dict[str, Method] = {
    "elastix": functools.partial(peer, name="elastix", settings="tuned"),  # the reference: tuned on the kidney pair
    "elastix-fast": functools.partial(peer, name="elastix", settings="fast"),  # the fastest found on the kidney pair
    "elastix-far": functools.partial(peer, name="elastix", settings="far"),  # on kidney and lesions, which start further off
    "elastix-default": functools.partial(peer, name="elastix"),
    "search-elastix": searched,  # from any start, as drmime
    "simpleitk": functools.partial(peer, name="simpleitk"),
    "drmime": ours,  # as it comes: searches from any start
    "drmime-given": functools.partial(ours, start={"propose": None}),  # from the given start, as the peers
    "drmime-mine": functools.partial(ours, start={"refine": False}),  # the last stage alone
    "drmime-plain": functools.partial(
        ours, start={"refine": False}, metric={"name": "mine", "orientation": False, "local": False}
    ),
    "drmime-mattes": functools.partial(ours, start={"refine": False}, metric="mattes"),
    "drmime-nmi": functools.partial(ours, start={"refine": False}, metric="nmi"),
    "drmime-ncc": functools.partial(ours, start={"refine": False}, metric="ncc"),
    "drmime-paper": functools.partial(ours, **PAPER),  # minutes; DRMIME as published, arXiv 2001.09865
}
