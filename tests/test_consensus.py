"""Maps of many images from links: exact where links are exact, unharmed by wrong ones, which are named."""

import math
from dataclasses import replace

import pytest
import torch
from problems import oblique
from tolerances import EXACT
from torch import Tensor

from drmime.geometry import lie
from drmime.geometry.grid import Grid
from drmime.stack.consensus import Consensus, Link, consensus, ways

COUNT = 12


def grid(ndim: int) -> Grid:
    return oblique((40, 50, 30)[:ndim], offset=100.0)


def members(group: str, ndim: int, count: int = COUNT, spread: float = 0.3) -> Tensor:
    """Maps from the first image to each; the first is the identity. shape: (count, D+1, D+1)"""
    basis = torch.stack(list(lie.generators(group, ndim).values()))
    frame = grid(ndim).world_from_frame
    found = frame @ lie.exp(spread * torch.randn(count, len(basis), dtype=torch.float64), basis) @ torch.linalg.inv(frame)
    return found @ torch.linalg.inv(found[0])


def links(maps: Tensor, reach: int = 2, noise: float = 0.0, error: float = 0.1) -> list[Link]:
    found = []
    for first in range(len(maps)):
        for second in range(first + 1, min(first + reach + 1, len(maps))):
            matrix = maps[second] @ torch.linalg.inv(maps[first])
            matrix[:-1, -1] += noise * torch.randn(len(matrix) - 1, dtype=torch.float64)
            found.append(Link(first, second, matrix, error))
    return found


def solved(given: list[Link], group: str, ndim: int, root: int = 0) -> Consensus:
    return consensus(given, [grid(ndim)] * COUNT, root, lie.generators(group, ndim))


def distances(found: Tensor, true: Tensor, ndim: int) -> Tensor:
    """The largest distance of mapped corners, of each image."""
    places = torch.nn.functional.pad(grid(ndim).corners(), (0, 1), value=1.0)
    return ((found - true) @ places.mT).norm(dim=1).amax(-1)


@pytest.mark.parametrize("group", ["translation", "rigid", "similarity", "affine"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_exact_links_give_the_maps_exactly(group: str, ndim: int) -> None:
    maps = members(group, ndim)
    found = solved(links(maps), group, ndim)
    assert distances(found.matrices, maps, ndim).max() < 1e6 * EXACT
    assert found.agrees.all()
    assert found.misfits.max() < 1e6 * EXACT


@pytest.mark.parametrize("ndim", [2, 3])
def test_another_reference_gives_the_same_maps_between_images(ndim: int) -> None:
    maps = members("rigid", ndim)
    given = links(maps)
    one, other = solved(given, "rigid", ndim), solved(given, "rigid", ndim, root=7)
    assert torch.allclose(other.matrices @ one.matrices[7], one.matrices, rtol=0, atol=1e6 * EXACT)


@pytest.mark.parametrize("group", ["rigid", "affine"])
@pytest.mark.parametrize(("reach", "wrong"), [(2, (4,)), (2, (3, 10)), (3, (4, 15, 16, 22))], ids=str)
def test_wrong_links_are_named_and_do_no_harm(group: str, reach: int, wrong: tuple[int, ...]) -> None:
    maps = members(group, 2, spread=0.1)
    given = links(maps, reach, noise=0.05)
    for number in wrong:
        link = given[number]
        given[number] = replace(link, matrix=link.matrix @ members(group, 2, spread=0.1)[1])
    found = solved(given, group, 2)
    assert (~found.agrees).nonzero()[:, 0].tolist() == list(wrong)
    assert distances(found.matrices, maps, 2).max() < 1.0


def test_more_links_are_nearer_to_the_truth() -> None:
    maps = members("rigid", 2)
    off = [
        torch.stack([distances(solved(links(maps, reach, noise=0.1), "rigid", 2).matrices, maps, 2) for _ in range(8)]).mean()
        for reach in (1, 2, 6)
    ]
    assert off[2] < off[1] < off[0]


def test_errors_that_were_expected_too_small_contradict_nothing() -> None:
    found = solved(links(members("rigid", 2), noise=0.1, error=1e-3), "rigid", 2)
    assert found.agrees.double().mean() > 0.9


def test_an_image_without_a_way_to_the_reference_has_no_map() -> None:
    maps = members("rigid", 2)
    given = [link for link in links(maps) if link.second < 6 or link.first >= 6]
    found = solved(given, "rigid", 2)
    assert found.matrices[:6].isfinite().all()
    assert found.matrices[6:].isnan().all()
    for link, weight, misfit in zip(given, found.weights, found.misfits, strict=True):
        assert (weight > 0.9, misfit.isnan()) == (link.first < 6, link.first >= 6)


def test_the_best_way_is_that_of_the_least_variance() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    total, before = ways([Link(0, 1, eye, 3), Link(1, 2, eye, 4), Link(0, 2, eye, 6), Link(3, 4, eye, 1)], 5, 0)
    assert total.tolist() == [0, 3, 5, math.inf, math.inf]
    assert before.tolist()[:3] == [-9999, 0, 1]
