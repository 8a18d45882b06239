"""Search, optimisation and verdict keep tensors of a device apart from those of the CPU; on a device that the CPU simulates."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from elsewhere import DEVICE, Elsewhere, Watch, mixed
from posed import Case, turn_in
from torch import Tensor

from drmime import checks, precision
from drmime.compare.mine import MINE
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


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tensor], Tensor]:
    """Puts a tensor elsewhere; and `torch.tensor` does if it is asked to."""
    plain = torch.tensor

    def tensor(data: Any, *args: Any, device: Any = None, **options: Any) -> Tensor:
        made = plain(data, *args, **options)
        return Elsewhere(made) if device is not None and torch.device(device) == DEVICE else made

    monkeypatch.setattr(torch, "tensor", tensor)
    mixed.clear()
    return Elsewhere


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
def test_optimisation_and_precision_mix_no_devices(
    options: dict[str, Any], elsewhere: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = checks.options({**DEFAULTS, "schedule": {"steps": 12}, **options})
    learns = isinstance(asked.metric, MINE)
    if learns:  # `Similarity.repeated` sets the data of parameters, which a simulated tensor cannot
        monkeypatch.setattr(precision, "MOST", 0)
    two = pairs(2, masked=True)
    with Watch():
        fixed, moving = (_put(batch([pair[at] for pair in two]), elsewhere) for at in (0, 1))
        problem = Problem(fixed, moving, {}, 2, Overlap(fixed, moving), NO_HINTS, None, Part((0, 1), 0, 2))
        start = translation(moving.grid.centre - fixed.grid.centre)
        found = solved(problem, torch.stack([start, start]), asked)
    assert not mixed
    assert [stop.success for stop in found.stops] == [True, True]
    assert learns or all(isinstance(one, LieTransform) and one.modes is not None for one in found.transforms)


def test_a_polished_start_mixes_no_devices(elsewhere: Callable[[Tensor], Tensor]) -> None:
    case = Case(2)
    with Watch():
        inputs = Inputs(_put(case.fixed, elsewhere), _put(case.moving, elsewhere), case.inputs("rigid").generators, 0)
        polished([inputs], [Candidate("near", case.shifted(0.01, 0.01), 1.0)])
    assert not mixed
