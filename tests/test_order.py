"""The order of sections: what is nearer is more alike."""

import itertools

import numpy as np
import pytest

from drmime.stack.order import order_of


def similarities(places: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    """Of images at these places along a line, with noise."""
    found = 2 * np.exp(-np.abs(places[:, None] - places) / 6) + noise * random.standard_normal((len(places),) * 2)
    return (found + found.T) / 2


def steps(order: tuple[int, ...], places: np.ndarray) -> list[int]:
    return np.abs(np.diff(places[list(order)])).tolist()


@pytest.mark.parametrize("count", [2, 3, 9, 20])
@pytest.mark.parametrize("seed", range(5))
def test_shuffled_images_are_put_in_order(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    places = random.permutation(count)
    order = order_of(similarities(places, 0.05, random))
    assert steps(order, places) == [1] * (count - 1)
    assert order.index(0) <= (count - 1) / 2


def test_an_order_does_not_depend_on_how_images_are_numbered() -> None:
    random = np.random.default_rng(0)
    found = similarities(np.arange(8), 0.05, random)
    again = random.permutation(8)
    order = order_of(found[np.ix_(again, again)])
    assert sorted([tuple(again[list(order)]), tuple(again[list(order)][::-1])])[0] == order_of(found)


def test_unknown_pairs_and_images_without_any() -> None:
    places = np.array([0, 1, 2, 9, 3, 4, 5])
    found = similarities(places, 0.0, np.random.default_rng(0))
    found[3] = found[:, 3] = np.nan  # ruined
    found[0, 1] = found[1, 0] = np.nan  # neighbours that failed
    order = order_of(found)
    assert order[-1] == 3
    assert steps(order[:-1], places) == [2, 1, 2, 1, 1] or steps(order[:-1], places) == [1] * 5
    assert order_of(np.full((3, 3), np.nan)) == (0, 1, 2)
    alike = np.array([[np.nan, 1, np.nan], [1, np.nan, 1], [np.nan, 1, np.nan]])
    for again in itertools.permutations(range(3)):
        order = order_of(alike[np.ix_(again, again)])
        assert again[order[1]] == 1  # the one that is registered with both others
