"""The pictures of a run: both images, before and after, landmarks in them, and the remaining error."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmime.errors import numbers
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import translation
from drmime.image.io import write_image
from drmime.lab import evaluate
from drmime.lab.datasets.base import Case, Pair
from drmime.lab.experiment.loading import load
from drmime.lab.experiment.task import Outputs, Task, in_a_line
from drmime.pictures import coloured_errors, relative_errors, thumbnail
from drmime.transform.base import Transform
from drmime.transform.warp import resample
from drmime.verdict.evidence import Blocks

PAIRS = 256  # whose pictures are known to be drawn


def centred(case: Case) -> np.ndarray:
    """The matrix, in pixels, of centre on centre in world coordinates, which also aligns the directions of axes: a start."""
    fixed, moving = case.grids
    return (moving.index_from_world @ translation(moving.centre - fixed.centre) @ fixed.world_from_index).numpy()


def of_matrix(moving_from_fixed: np.ndarray, case: Case) -> Transform:
    return evaluate.as_transform("matrix", moving_from_fixed, Grid.regular(case.fixed.shape[: case.ndim]))


def pictures(
    task: Task, case: Case, start: np.ndarray, transform: Transform, blocks: Blocks | None
) -> tuple[dict[str, Any], list[str]]:
    """Small pictures of the fixed image and of the moving image under both transforms, and the landmarks in them; on an error
    a note instead, since the registration itself is valid."""
    after = f"pictures/{task.name}.jpg"
    try:
        names = {**_shared_pictures(task.pair, f"pictures/{task.pair_name}", task.outputs), "after": after}
        _draw(_warped(case, transform), case, after, task.outputs)
        if blocks is not None:
            names["error"] = f"pictures/{task.name}-error.jpg"
            _draw_errors(blocks, case, names["error"], task.outputs)
        return {"pictures": names, "points": _points(case, of_matrix(start, case), transform)}, []
    except Exception as error:
        return {}, [f"No pictures: {in_a_line(error)}"]


@functools.lru_cache(maxsize=PAIRS)  # all methods of a pair share these
def _shared_pictures(pair: Pair, name: str, outputs: Outputs) -> dict[str, str]:
    case, _ = load(pair)
    start = centred(case)
    for role, image in {"fixed": case.with_channels(case.fixed), "before": _warped(case, of_matrix(start, case))}.items():
        _draw(image, case, f"{name}-{role}.jpg", outputs)
    return {role: f"{name}-{role}.jpg" for role in ("fixed", "before")}


def _draw(image: np.ndarray, case: Case, name: str, outputs: Outputs) -> None:
    write_image(Path(outputs.folder) / name, thumbnail(image, outputs.pictures, -1, case.fixed_spacing))


def _draw_errors(blocks: Blocks, case: Case, name: str, outputs: Outputs) -> None:
    """The remaining error in colours over the fixed image."""
    gray = thumbnail(case.with_channels(case.fixed), outputs.pictures, -1, case.fixed_spacing).mean(-1)
    picture = coloured_errors(gray, relative_errors(blocks, *case.grids), case.fixed_spacing, outputs.pictures)
    write_image(Path(outputs.folder) / name, picture)


def _warped(case: Case, transform: Transform) -> np.ndarray:
    moving = case.with_channels(case.moving)
    grids = Grid.regular(case.moving.shape[: case.ndim]), Grid.regular(case.fixed.shape[: case.ndim])
    return resample(moving, transform, *grids, fill=moving.min().item(), channel_axis=-1)


def _points(case: Case, start: Transform, found: Transform) -> dict[str, list[list[float]]]:
    """Landmarks of 2-D images in shares of the fixed picture's sides; moving landmarks are mapped by each inverse transform."""
    if case.ndim != 2 or case.fixed_points is None or case.moving_points is None:
        return {}
    sides = np.array(case.fixed.shape[1::-1])
    moving = torch.as_tensor(numbers("moving_points", case.moving_points))
    back = {"before": start.inverse(), "after": found.inverse()}
    places = {"fixed": case.fixed_points} | {name: mapping(moving).numpy() for name, mapping in back.items()}
    return {name: np.round((points + 0.5) / sides, 5).tolist() for name, points in places.items()}
