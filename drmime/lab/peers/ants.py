"""ANTs by ANTsPy: its affine registrations in one stage, and TRSAA in five."""

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
ITERATIONS = {  # ANTsPy's own for one stage; for TRSAA it asks for others than its own, which hardly move the affine stages
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
    """antsRegistration on gray, 2-D or 3-D, from the start as it is.

    ANTs (Avants et al. 2011, DOI 10.1016/j.neuroimage.2010.09.025) by ANTsPy (Tustison et al. 2021, DOI
    10.1038/s41598-021-87564-6). Its seconds include the two images that it always resamples at its end. The threads
    are those of the first use in a process: ITK reads them once. With more than one a seed repeats to about 0.01 pixels only.

    Args:
        transform: "Translation", "Rigid", "Similarity", "Affine", or "TRSAA": these four in turn and affine again.
        metric: "mattes", "mse" or "ncc" (global correlation).
        sampling: share of the pixels, on a regular grid, each moved at random.
        bins: of the histogram of "mattes".
        iterations: at most, of four levels, coarse first; by default ANTsPy's, for TRSAA 1000, 500, 250 and 100. ANTsPy
            gives the last two of TRSAA's levels to the affine stages alone, and 2000 on others to the stages before.

    Raises:
        InputError: an unknown option or one that cannot be used, or ANTsPy is not installed.
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
    images = [
        module.from_numpy(np.ascontiguousarray(pixels.T), spacing=tuple(sides.tolist()))
        for pixels, sides in zip(problem.grays(), problem.pixel_sides, strict=True)
    ]
    world = problem.world_start
    start = module.create_ants_transform(
        transform_type="AffineTransform", dimension=problem.ndim, matrix=world[:-1, :-1], translation=world[:-1, -1].tolist()
    )

    def run(seed: int) -> np.ndarray:
        os.environ[SEED] = str(seed + 1)  # 0 would be the clock
        with tempfile.TemporaryDirectory() as folder:
            return problem.in_pixels(_registered(module, images, start, Path(folder), options))

    return run


def _registered(module: Any, images: list[Any], start: Any, folder: Path, options: dict[str, Any]) -> np.ndarray:
    """moving_from_fixed in world units, from the one file that ANTs writes of start and stages together. (D+1, D+1)"""
    first = str(folder / "start.mat")
    module.write_transform(start, first)
    outcome = module.registration(*images, initial_transform=first, outprefix=str(folder / "found"), **options)
    (file,) = outcome["fwdtransforms"]
    return probed(module.read_transform(file).apply_to_point, images[0].dimension)
