"""Steps whose operations are recorded and repeated give what plain ones give, for every part; on a simulated device."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from elsewhere import Elsewhere, Watch
from posed import Case

from drmime import checks, evaluation, register
from drmime.compare.mine import BOUNDS
from drmime.geometry.matrices import apply
from drmime.image.image import Image, batch
from drmime.optimise import Outcome
from drmime.part import Part
from drmime.parts import METRICS, SAMPLERS, TRANSFORMS
from drmime.registration import DEFAULTS
from drmime.repeated import Repeated
from drmime.sampling import Overlap
from drmime.soft import SoftLandmarks
from drmime.stages import Problem, solved
from drmime.start.inputs import Inputs
from drmime.start.refine import ROUNDS, polished, refined
from drmime.transform.base import Hints

FEW = {"steps": 5, "tolerance": 1e-9}
OWN: dict[str, Any] = {"lie": {"generators": ["translation", "scale"], "finest_vector": True}}
TRANSFORM: list[dict[str, Any]] = [{"transform": {"name": name, **OWN.get(name, {})}} for name in TRANSFORMS]
BENDING = ("velocity", "bspline", "polyaffine")
CASES: list[Any] = [
    *(({"metric": name}, 2) for name in METRICS),
    *(({"metric": {"name": "mine", "bound": bound}}, 2) for bound in BOUNDS),
    ({"metric": {"name": "mine", "precision": "bfloat16", "orientation": False, "local": False}}, 2),
    *((options, 2) for options in TRANSFORM if options["transform"]["name"] not in BENDING),
    *(pytest.param(options, 2, marks=pytest.mark.slow) for options in TRANSFORM if options["transform"]["name"] in BENDING),
    *(pytest.param(options, 3, marks=pytest.mark.slow) for options in TRANSFORM),
    ({"transform": {"name": "affine", "parametrisation": "direct"}, "schedule": {"level_weights": [[0, 1], [1, 0]]}}, 3),
    *(({"sampler": name}, 2) for name in SAMPLERS),
    ({"sampler": {"name": "uniform", "points": 0.1}}, 3),
]


def transform_of(options: dict[str, Any]) -> Any:
    """Of a deformation, few steps after a linear stage."""
    transform = options.get("transform", "affine")
    linear = isinstance(transform, str) or TRANSFORMS[transform["name"]]().linear  # type: ignore[operator]
    return transform if linear else ["rigid", {"steps": 5, **transform}]


def outcome(options: dict[str, Any], ndim: int, recorded: bool) -> Outcome:
    """Of two pairs, one of them with a mask."""
    case = Case(ndim)
    schedule = {**FEW, **options.get("schedule", {})}
    asked = checks.options({**DEFAULTS, **options, "transform": transform_of(options), "levels": 2, "schedule": schedule})
    asked = replace(asked, device=replace(asked.device, graphs=recorded))
    asked.metric.warmup = min(asked.metric.warmup, 4)
    mask = torch.ones_like(case.fixed.data)
    mask[..., :9] = 0
    images = [batch([case.fixed, Image(case.fixed.data, case.grid, mask)]), batch([case.moving, case.moving])]
    fixed, moving = (
        Image(Elsewhere(image.data), image.grid, None if image.mask is None else Elsewhere(image.mask)) for image in images
    )
    places = torch.tensor([[0.2, 0.3, 0.4], [0.7, 0.2, 0.5], [0.4, 0.8, 0.3], [0.5, 0.5, 0.8]], dtype=torch.float64)
    points = case.grid.size * places[:, :ndim]
    there = apply(case.truth, points, is_affine=True)[0]
    hints = Hints((points, there + 1))
    located = SoftLandmarks(points.numpy(), (there / 1.2).numpy()).on(case.grid, case.moving.grid)
    problem = Problem(fixed, moving, {}, 2, Overlap(fixed, moving), hints, located, Part((0, 1), 0, 2))
    return solved(problem, torch.stack([case.shifted(0.01, 0.02, 0), case.shifted(0.02, 0, 0)]), asked)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Repeated]:
    """Everything that is repeated."""
    found: list[Repeated] = []

    def kept(*arguments: Any) -> Repeated:
        found.append(Repeated(*arguments))
        return found[-1]

    monkeypatch.setattr(evaluation, "Repeated", kept)
    return found


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(("options", "ndim"), CASES, ids=str)
def test_repeated_steps_give_what_plain_ones_give(options: dict[str, Any], ndim: int, made: list[Repeated]) -> None:
    with Watch():
        plain, repeated = (outcome(options, ndim, recorded) for recorded in (False, True))
    assert any(one.graph is not None for one in made)
    assert all(torch.equal(*two) for two in zip(plain.history, repeated.history, strict=True))
    points = Case(ndim).grid.index_points()[::7]
    for two in zip(plain.transforms, repeated.transforms, strict=True):
        assert torch.equal(*(transform(points) for transform in two))


@pytest.mark.slow
@pytest.mark.usefixtures("graphs")
def test_starts_are_refined_by_repeated_steps(made: list[Repeated]) -> None:
    """Of several starts, which share their images."""
    case = Case(2)
    found = []
    with Watch():
        images = [Image(Elsewhere(image.data), image.grid) for image in (case.fixed, case.moving)]
        for recorded in (False, True):
            inputs = Inputs(*images, case.inputs().generators, 0, recorded)
            best = refined([inputs], [case.starts()], ROUNDS)[0]
            found.append([*best, *polished([inputs], best[:1])])
    assert sum(one.graph is not None for one in made) >= 3  # two rounds, and the polish
    assert all(torch.equal(one.matrix, other.matrix) for one, other in zip(*found, strict=True))


def test_nothing_of_a_run_is_kept() -> None:
    """What a GPU holds is freed at once, not when Python looks for cycles of references."""
    models = []
    gc.disable()
    try:
        case = Case(2)
        options = {"start": case.truth, "schedule": FEW, "transform": "rigid", "metric": "ncc"}
        register(case.fixed, case.moving, **options, observers=lambda step: models.append(weakref.ref(step.model)))
        assert models[0]() is None
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize(("options", "ndim"), CASES, ids=str)
def test_cuda_graphs_give_what_plain_steps_give(options: dict[str, Any], ndim: int, made: list[Repeated]) -> None:
    case = Case(ndim)
    corners = case.grid.corners()
    there = apply(case.moving.grid.index_from_world @ case.truth, corners)[0]
    options = {**options, "transform": transform_of(options), "landmarks": {"fixed": corners.numpy(), "moving": there.numpy()}}
    options |= {"start": case.truth, "schedule": {**FEW, **options.get("schedule", {})}, "levels": 2}
    plain, repeated = (
        register(case.fixed, case.moving, **options, device={"name": "cuda", "dtype": "float64", "graphs": graphs})
        for graphs in (False, True)
    )
    assert any(one.graph is not None for one in made)
    # sums of some operations have no fixed order on a GPU; one step in bfloat16 is 1/256
    near = 1e-2 if isinstance(options.get("metric"), dict) and "precision" in options["metric"] else 1e-5
    assert np.allclose(plain.history, repeated.history, atol=near)
    points = case.grid.index_points()[::50].numpy()
    assert np.allclose(plain.to_moving(points), repeated.to_moving(points), atol=near)
