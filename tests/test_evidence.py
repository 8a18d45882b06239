"""The figures of the evidence tell a right transform from wrong ones, whatever the images' world is."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from counting import Counting
from posed import Case
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import translation
from drmime.image.image import Image
from drmime.start.inputs import Inputs
from drmime.start.score import Reduced
from drmime.transform.base import Chain, Transform
from drmime.transform.linear import MatrixTransform
from drmime.verdict.calibration import calibration
from drmime.verdict.evidence import Evidence, evidence, information
from drmime.verdict.judge import UNLIKELY


def of_one(inputs: Inputs, transform: Transform, rivals: Sequence[float] = (), overlap: float = 0.9) -> Evidence:
    """The evidence on one pair."""
    (found,) = evidence([inputs], [transform], [rivals], [overlap])
    return found


def of(case: Case, matrix: Tensor, **inputs: object) -> Evidence:
    return of_one(case.inputs(**inputs), MatrixTransform(matrix))


def test_every_figure_is_better_at_the_truth_than_where_a_wrong_transform_leads(ndim: int) -> None:
    case = Case(ndim)
    right, wrong = of(case, case.truth).figures, of(case, case.shifted(0.2, 0.1, 0, degrees=90)).figures
    for name in ("in_place", "in_place_coarse", "residual", "displaced", "peak_ratio", "information"):
        larger = calibration().scales[name].larger
        assert (right[name] > wrong[name]) == larger, name
    assert right["in_place"] > 0.3
    assert right["displaced"] < 0.01
    assert wrong["in_place"] < 0.1
    assert wrong["peak_ratio"] < 1.2
    near = of(case, case.shifted(0.03, 0, 0)).figures
    probabilities = [calibration().aligned(figures) for figures in (right, near, wrong)]
    assert probabilities[0] > 0.8
    assert max(probabilities[1:]) < UNLIKELY


def test_errors_of_blocks_are_those_of_the_transform(ndim: int) -> None:
    """In the moving image's world: where a block belongs, less where the transform takes it."""
    case = Case(ndim)
    off = torch.tensor([2.5, -1.5, 1.0][:ndim], dtype=torch.float64)
    found = of(case, translation(off) @ case.truth)
    expected = float(off.norm() / case.moving.grid.extent.norm())
    assert found.figures["residual"] == pytest.approx(expected, rel=0.5)
    clear = found.blocks.weights > 0.2
    assert np.median(found.blocks.errors[clear], axis=0) == pytest.approx(-off.numpy(), abs=0.7)


def test_a_chain_of_transforms_has_the_evidence_of_their_product(ndim: int) -> None:
    case = Case(ndim)
    parts = case.shifted(0.01, 0, 0), torch.linalg.inv(case.truth) @ case.truth
    product = of_one(case.inputs(), MatrixTransform(parts[0] @ parts[1]))
    chained = of_one(case.inputs(), Chain([MatrixTransform(part) for part in parts]))
    for name, value in product.figures.items():
        assert chained.figures[name] == pytest.approx(value, rel=0.02, abs=1e-3), name


def test_figures_do_not_depend_on_the_units(ndim: int) -> None:
    case, unit = Case(ndim), 1e-6
    scale = torch.diag(torch.tensor([unit] * ndim + [1.0], dtype=torch.float64))
    small = [
        Image(image.data, Grid(image.grid.shape, scale @ image.grid.world_from_index)) for image in (case.fixed, case.moving)
    ]
    inputs = Inputs(*small, case.inputs().generators, 0)
    matrix = case.shifted(0.01, 0, 0)
    plain = of(case, matrix).figures
    other = of_one(inputs, MatrixTransform(scale @ matrix @ torch.linalg.inv(scale))).figures
    for name, value in plain.items():
        assert other[name] == pytest.approx(value, rel=0.02, abs=2e-3), name


def test_without_overlap_the_figures_are_those_of_nothing_seen(ndim: int) -> None:
    case = Case(ndim)
    found = of(case, translation(torch.full((ndim,), 1e4, dtype=torch.float64)) @ case.truth)
    assert len(found.blocks.points) == 0
    assert found.figures["in_place"] == found.figures["blocks"] == 0
    assert math.isnan(found.figures["residual"])
    assert found.figures["peak_ratio"] == 0 or math.isnan(found.figures["peak_ratio"])
    assert calibration().aligned(found.figures) < 0.15


def test_a_flat_image_gives_figures_that_can_be_used() -> None:
    grid = Grid.regular((40, 50))
    flat = Image(torch.zeros(1, 1, 40, 50), grid)
    inputs = Inputs(flat, flat, Case(2).inputs().generators, 0)
    figures = of_one(inputs, MatrixTransform(torch.eye(3)), (0.3,), 1.0).figures
    assert figures["rival"] == 0.3
    assert calibration().aligned(figures) < 0.5


def several(ndim: int, count: int, masked: bool) -> tuple[list[Reduced], list[MatrixTransform]]:
    """Reduced pairs on equal grids, of other intensities and masks each, and a transform of each."""
    case = Case(ndim)
    pairs, transforms = [], []
    for number in range(count):
        images = []
        for image in (case.fixed, case.moving):
            mask = torch.ones_like(image.data)
            mask[:, :, : 4 + 3 * number] = 0
            images.append(Image((image.data * (1 + number)).sin(), image.grid, mask if masked else None))
        pairs.append(Inputs(*images, case.inputs().generators, 0).reduced(case.truth))
        transforms.append(MatrixTransform(case.shifted(0.01 * number, 0, 0)))
    return pairs, transforms


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_information_of_a_pair_is_the_same_among_others(ndim: int, masked: bool) -> None:
    pairs, transforms = several(ndim, 3, masked)
    together = information(Reduced.joined(pairs), transforms)
    alone = [information(*one)[0] for one in zip(pairs, [[transform] for transform in transforms], strict=True)]
    assert together == pytest.approx(alone, rel=1e-4)
    assert information(Reduced.joined(pairs[::-1]), transforms[::-1])[::-1] == pytest.approx(together, rel=1e-4)


def test_information_of_many_pairs_takes_few_more_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drmime.start.propose.cross.CACHE", math.inf)
    pairs, transforms = several(2, 16, masked=False)
    counts = []
    for count in (1, 16):
        small = Reduced.joined(pairs[:count])
        with Counting() as counting:
            information(small, transforms[:count])
        counts.append(counting.operations.total())
    assert counts[1] - counts[0] < 15 * 120  # each canvas is read on its own
