"""Deformable registration of other programs from the start of the problem: elastix' B-splines, ANTs' SyN, ConvexAdam."""

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from drmime.errors import number, whole
from drmime.geometry.grid import Grid
from drmime.lab.peers.ants import SEED, THREADS, inputs
from drmime.lab.peers.base import Problem, Run, counts, only, package, tolerant
from drmime.lab.peers.elastix import METRICS as ELASTIX_METRICS
from drmime.lab.peers.elastix import execute, images
from drmime.registry import known
from drmime.transform.base import Transform
from drmime.transform.field import FieldTransform
from drmime.transform.formats.elastix import parameters
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample

SYN_METRICS = {"mattes": "mattes", "cc": "CC"}
PROBES = {2: 129, 3: 33}  # points along each axis at which a program is asked for its map


@tolerant()
def elastix_bspline(problem: Problem, metric: str = "mattes", spacing: float = 0.06) -> Run:
    """elastix' default parameter map for B-splines (Klein et al. 2010, DOI 10.1109/TMI.2009.2035616), 4 resolutions,
    Mattes MI and its penalty of bending, on one thread.

    Args:
        metric: "mattes" or "nmi".
        spacing: distance of the control points of the finest level, as a share of the fixed image's longest side.

    Raises:
        InputError: an unknown or invalid option, or itk-elastix is not installed.
    """
    known("metric of elastix", metric, ELASTIX_METRICS)
    share = number("spacing", spacing, 0, 1)
    itk = package("itk", "ElastixRegistrationMethod", "ParameterObject", "AffineTransform", "MultiThreaderBase")
    itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(1)  # with several threads its penalty crashes (itk-elastix 0.25.4)
    length = share * float((problem.sides[0] * problem.pixel_sides[0]).max())
    values = dict(itk.ParameterObject.New().GetDefaultParameterMap("bspline", 4, length))
    values |= {"Metric": [ELASTIX_METRICS[metric], *values["Metric"][1:]], "WriteResultImage": ["false"]}  # and its penalty
    both = images(itk, problem)
    grid = Grid.regular(problem.fixed.shape[: problem.ndim], problem.pixel_sides[0][::-1].tolist())
    # as a file, since the penalty does not know ITK's own transforms
    start = parameters(MatrixTransform(torch.as_tensor(problem.world_start)), grid)

    @tolerant()
    def run(seed: int) -> Transform:
        maps = itk.ParameterObject.New()
        maps.AddParameterMap(values | {"RandomSeed": [str(seed)]})
        method = itk.ElastixRegistrationMethod.New(*both)
        method.SetParameterObject(maps)
        method.SetNumberOfThreads(1)
        with tempfile.TemporaryDirectory() as folder:
            first = Path(folder) / "start.txt"
            first.write_text(start, encoding="utf-8")
            method.SetInitialTransformParameterFileName(str(first))
            execute(method)
        mapped = method.GetCombinationTransform().TransformPoint
        return _probed(problem, lambda points: np.array([mapped(point) for point in points.tolist()]))

    return run


def ants_syn(problem: Problem, metric: str = "mattes", iterations: Sequence[int] = (100, 70, 50, 20)) -> Run:
    """ANTs' symmetric normalisation (Avants et al. 2008, DOI 10.1016/j.media.2007.06.004) by ANTsPy, SyN alone.

    Args:
        metric: "mattes", or "cc" for local correlation.
        iterations: the largest numbers for four levels, coarse first; ANTsPy's own, (40, 20, 0), hardly move images.

    Raises:
        InputError: an unknown or invalid option, or ANTsPy is not installed.
    """
    options = {
        "syn_metric": SYN_METRICS[known("metric of SyN", metric, SYN_METRICS)],
        "syn_sampling": 32 if metric == "mattes" else 4,  # bins, or the radius of neighbourhoods
        "reg_iterations": tuple(counts("iterations", iterations, 4, 0)),
    }
    os.environ[THREADS] = str(problem.threads)
    module, tables = package("ants"), package("pandas")
    pictures, start = inputs(module, problem)

    def run(seed: int) -> Transform:
        os.environ[SEED] = str(seed + 1)  # with 0 ANTs takes the clock as seed
        with tempfile.TemporaryDirectory() as folder:
            first = str(Path(folder) / "start.mat")
            module.write_transform(start, first)
            outcome = module.registration(*pictures, "SyNOnly", initial_transform=first, outprefix=f"{folder}/found", **options)

            def mapped(points: np.ndarray) -> np.ndarray:
                names = list("xyz"[: problem.ndim])
                table = tables.DataFrame(points, columns=names)
                found = module.apply_transforms_to_points(problem.ndim, table, outcome["fwdtransforms"])
                return np.asarray(found[names].to_numpy(), float)

            return _probed(problem, mapped)

    return run


def convexadam(problem: Problem, weight: float = 1.25, steps: int = 80) -> Run:
    """ConvexAdam (Siebert et al. 2024, arXiv 2408.03645): discrete search and Adam on MIND features, volumes alone, on the CPU.

    Args:
        weight: of the smoothness of displacements.
        steps: of Adam.

    Raises:
        InputError: images in 2-D, an invalid option, or convexAdam is not installed.
    """
    only("convexadam", problem, 3)
    options = {"lambda_weight": number("weight", weight, 0), "selected_niter": whole("steps", steps, 1)}
    module = package("convexAdam.convex_adam_MIND")
    fixed, moving = problem.grays()
    grids = [Grid.regular(one.shape) for one in (fixed, moving)]
    start = MatrixTransform(torch.as_tensor(problem.start))
    begun = resample(moving, start, grids[1], grids[0], channel_axis=None, fill=float(moving.min()))

    def run(seed: int) -> Transform:
        torch.manual_seed(seed)
        torch.set_num_threads(problem.threads)
        with warnings.catch_warnings(action="ignore"):
            found = module.convex_adam_pt(fixed, begun, device=torch.device("cpu"), dtype=torch.float32, **options)
        displacements = torch.as_tensor(np.asarray(found, float)).flip(-1).movedim(-1, 0).contiguous()
        return start @ FieldTransform(displacements, grids[0])

    return run


def _probed(problem: Problem, mapped: Callable[[np.ndarray], np.ndarray]) -> FieldTransform:
    """The map between pixels, from that between worlds at points over the fixed image, between which it is interpolated."""
    shape = problem.fixed.shape[: problem.ndim]
    grid = Grid.regular(shape)
    few = [min(length, PROBES[problem.ndim]) for length in shape]
    steps = torch.tensor([(length - 1) / max(1, count - 1) for length, count in zip(shape, few, strict=True)]).flip(0)
    world = torch.diag(torch.tensor([*steps.tolist(), 1.0], dtype=torch.float64))  # from the first pixel to the last
    lattice = Grid(tuple(few), grid.world_from_index @ world)
    pixels = (lattice.index_points() * steps).numpy()
    fixed, moving = problem.pixel_sides
    there = mapped(pixels * fixed) / moving
    displacements = torch.as_tensor(there - pixels).mT.reshape(problem.ndim, *few).contiguous()
    return FieldTransform(displacements, lattice)
