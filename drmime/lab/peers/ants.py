"""ANTs by ANTsPy: its linear registrations in one stage, and TRSAA in five stages."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drmime.errors import number, whole
from drmime.lab.peers.base import Problem, Run, counts, package, probed
from drmime.registry import known

METRICS = {"mattes": "mattes", "mse": "meansquares", "ncc": "GC"}
ITERATIONS = {  # ANTsPy's defaults for one stage; for TRSAA others, since its defaults hardly move the affine stages
    "Translation": (2100, 1200, 1200, 10),
    "Rigid": (2100, 1200, 1200, 10),
    "Similarity": (2100, 1200, 1200, 10),
    "Affine": (2100, 1200, 1200, 10),
    "TRSAA": (1000, 500, 250, 100),
}
THREADS = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"
SEED = "ANTS_RANDOM_SEED"


def ants(
    problem: Problem,
    transform: str = "Affine",
    metric: str = "mattes",
    sampling: float = 0.2,
    bins: int = 32,
    iterations: Sequence[int] | None = None,
) -> Run:
    """antsRegistration on gray images, 2-D or 3-D, from the start of the problem.

    ANTs (Avants et al. 2011, DOI 10.1016/j.neuroimage.2010.09.025) by ANTsPy (Tustison et al. 2021, DOI
    10.1038/s41598-021-87564-6). The time includes the two images that it always resamples at the end. The number of threads
    is that of the first use in a process, since ITK reads it once. With several threads, runs with the same seed differ by
    about 0.01 pixels.

    Args:
        transform: "Translation", "Rigid", "Similarity", "Affine", or "TRSAA": these four in turn, then affine again.
        metric: "mattes", "mse" or "ncc" (global correlation).
        sampling: share of the pixels that is used, on a regular grid with random perturbation.
        bins: bins of the histogram of "mattes".
        iterations: the largest numbers for four levels, coarse first; by default ANTsPy's, for TRSAA 1000, 500, 250, 100.
            For TRSAA, ANTsPy uses the last two only in the affine stages, and 2000 on the other levels of the stages before.

    Raises:
        InputError: an unknown or invalid option, or ANTsPy is not installed.
    """
    known("transform of ants", transform, ITERATIONS)
    known("metric of ants", metric, METRICS)
    steps = tuple(counts("iterations", ITERATIONS[transform] if iterations is None else iterations, 4, 0))
    options = {
        "type_of_transform": transform,
        "aff_metric": METRICS[metric],
        "aff_random_sampling_rate": number("sampling", sampling, 0, 1 + 1e-9),
        "aff_sampling": whole("bins", bins, 5),
        "reg_iterations" if transform == "TRSAA" else "aff_iterations": steps,
    }
    os.environ[THREADS] = str(problem.threads)
    module = package("ants")
    images, start = inputs(module, problem)

    def run(seed: int) -> np.ndarray:
        os.environ[SEED] = str(seed + 1)  # with 0 ANTs takes the clock as seed
        with tempfile.TemporaryDirectory() as folder:
            return problem.in_pixels(_registered(module, images, start, Path(folder), options))

    return run


def inputs(module: Any, problem: Problem) -> tuple[list[Any], Any]:
    """The two images, and the start of the problem, as objects of ANTsPy."""
    images = [
        module.from_numpy(np.ascontiguousarray(pixels.T), spacing=tuple(sides.tolist()))
        for pixels, sides in zip(problem.grays(), problem.pixel_sides, strict=True)
    ]
    world = problem.world_start
    start = module.create_ants_transform(
        transform_type="AffineTransform", dimension=problem.ndim, matrix=world[:-1, :-1], translation=world[:-1, -1].tolist()
    )
    return images, start


def _registered(module: Any, images: list[Any], start: Any, folder: Path, options: dict[str, Any]) -> np.ndarray:
    """Run ANTs. -> moving_from_fixed in world units (D+1, D+1), from the file in which ANTs combines start and stages"""
    first = str(folder / "start.mat")
    module.write_transform(start, first)
    outcome = module.registration(*images, initial_transform=first, outprefix=str(folder / "found"), **options)
    (file,) = outcome["fwdtransforms"]
    return probed(module.read_transform(file).apply_to_point, images[0].dimension)
