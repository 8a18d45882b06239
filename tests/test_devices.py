"""Search, optimisation and verdict keep tensors of a device apart from those of the CPU; on a device that the CPU simulates."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from elsewhere import Watch, mixed, waits
from posed import Case, turn_in
from torch import Tensor

from drmime import checks, precision, register
from drmime.device import Device
from drmime.geometry.matrices import translation
from drmime.image.image import Image, batch
from drmime.part import Part
from drmime.registration import DEFAULTS
from drmime.sampling import Overlap
from drmime.stages import Problem, solved
from drmime.start.inputs import Inputs
from drmime.start.plan import Plan
from drmime.start.propose.search import Search
from drmime.start.ranking import ranking
from drmime.start.refine import Candidate, polished
from drmime.transform.base import NO_HINTS
from drmime.transform.linear import LieTransform, MatrixTransform
from drmime.verdict.evidence import evidence


def pairs(ndim: int, masked: bool) -> list[tuple[Image, Image]]:
    """Two pairs on the same grids."""
    found = []
    for degrees in (40, 100):
        case = Case(ndim, turn_in(ndim, degrees))
        mask = torch.ones_like(case.fixed.data)
        mask[..., : degrees // 10] = 0
        found.append((Image(case.fixed.data, case.grid, mask if masked else None), case.moving))
    return found


def test_a_mix_of_devices_is_seen(elsewhere: Callable[[Tensor], Tensor]) -> None:
    there = elsewhere(torch.ones(3))
    with Watch():
        there + 1
        there + torch.ones(3).to(there.device)
        assert not mixed
        there + torch.ones(3)
    assert mixed.total() == 1


ALIKE = 1e-3  # pixels, in float64


@pytest.mark.parametrize(
    ("ndim", "masked", "options"),
    [(2, True, {"size": 48}), (2, False, {"score": "cross", "size": 48}), (3, True, {"size": 20, "step": 120})],
)
def test_search_refinement_and_verdict_mix_no_devices(
    ndim: int, masked: bool, options: dict[str, Any], elsewhere: Callable[[Tensor], Tensor]
) -> None:
    generators = Case(ndim).inputs("rigid").generators
    plan = Plan([("search", Search(**{"step": 60, "scales": (1.0,)} | options))], search=False)
    with Watch():
        inputs = [Inputs(*(_put(image, elsewhere) for image in two), generators, 0) for two in pairs(ndim, masked)]
        given = [torch.eye(ndim + 1, dtype=torch.float64)] * 2
        found = ranking(inputs, given, plan)
        seen = evidence(inputs, [MatrixTransform(one.candidates[0].matrix) for one in found], [(), ()], [1.0, 1.0])
    assert not mixed
    assert all(one.figures["blocks"] > 0 for one in seen)


def _put(image: Image, elsewhere: Callable[[Tensor], Tensor]) -> Image:
    return Image(elsewhere(image.data), image.grid, None if image.mask is None else elsewhere(image.mask))


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "nmi", "transform": "projective"},
        {"metric": "angle", "transform": "rigid"},
        {"metric": "mine", "sampler": "edges", "transform": "affine"},
        {"metric": {"name": "mine", "precision": "bfloat16"}, "transform": "rigid"},
    ],
    ids=str,
)
def test_optimisation_and_precision_mix_no_devices(options: dict[str, Any], elsewhere: Callable[[Tensor], Tensor]) -> None:
    asked = checks.options({**DEFAULTS, "schedule": {"steps": 12}, **options})
    two = pairs(2, masked=True)
    with Watch():
        fixed, moving = (_put(batch([pair[at] for pair in two]), elsewhere) for at in (0, 1))
        problem = Problem(fixed, moving, {}, 2, Overlap(fixed, moving), NO_HINTS, None, Part((0, 1), 0, 2))
        start = translation(moving.grid.centre - fixed.grid.centre)
        found = solved(problem, torch.stack([start, start]), asked)
    assert not mixed
    assert [stop.success for stop in found.stops] == [True, True]
    assert all(isinstance(one, LieTransform) and one.modes is not None for one in found.transforms)


def test_a_polished_start_mixes_no_devices(elsewhere: Callable[[Tensor], Tensor]) -> None:
    case = Case(2)
    with Watch():
        inputs = Inputs(_put(case.fixed, elsewhere), _put(case.moving, elsewhere), case.inputs("rigid").generators, 0)
        polished([inputs], [Candidate("near", case.shifted(0.01, 0.01), 1.0)])
    assert not mixed


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "mine"},
        {"metric": "nmi", "sampler": "jittered"},
        {"metric": "ncc", "transform": {"name": "velocity", "rate": 0.002, "smoothness": 2.0}},
    ],
    ids=str,
)
def test_a_loop_waits_for_the_device_once_in_ten_steps(
    options: dict[str, Any], elsewhere: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "MOST", 0)
    counts = []
    for steps in (20, 60):
        waits.clear()
        some = {name: {**one, "steps": steps} if name == "transform" else one for name, one in options.items()}
        asked = checks.options({**DEFAULTS, "schedule": {"steps": steps, "tolerance": 1e-9}, "levels": 2, **some})
        with Watch():
            fixed, moving = (_put(image, elsewhere) for image in pairs(2, masked=True)[0])
            problem = Problem(fixed, moving, {}, 2, Overlap(fixed, moving), NO_HINTS, None, Part())
            solved(problem, translation(moving.grid.centre - fixed.grid.centre)[None], asked)
        counts.append(waits.copy())
    assert 3 <= (counts[1] - counts[0]).total() <= 4, counts[1] - counts[0]


@pytest.mark.slow
@pytest.mark.usefixtures("graphs", "put_elsewhere")
@pytest.mark.parametrize(
    "options",
    [
        {"device": {"graphs": True}},
        {},
        # by correlation: over the many steps of a deformation the network of MINE makes much of rounding
        {"transform": "rigid+velocity", "metric": "ncc", "levels": 2, "device": {"graphs": True}},
    ],
    ids=str,
)
def test_a_registration_on_a_device_is_that_on_the_cpu(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of two pairs that are alike, from the search to the verdict."""
    rows = pairs(2, masked=False)
    images = [[one[at].data[0, 0].numpy() for one in rows] for at in (0, 1)]
    options = {"transform": "rigid", **options, "schedule": {"steps": 40}}
    with Watch():
        found = register(*images, **options | {"device": {**options.get("device", {}), "dtype": "float64"}})
    assert not mixed
    monkeypatch.setattr(Device, "place", torch.device("cpu"))
    known = register(*images, **options | {"device": {"dtype": "float64"}})
    for one, other in zip(found, known, strict=True):
        assert one.verdict.status is other.verdict.status
        points = one.fixed_grid.index_points()[::50].numpy()
        assert np.allclose(one.to_moving(points), other.to_moving(points), atol=ALIKE)
