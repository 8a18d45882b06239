"""The order of sections, from the similarity of pairs of them that were registered: neighbours have most in common."""

import numpy as np
from scipy.sparse.csgraph import laplacian

UNKNOWN = 2.0  # how far below the largest similarity a pair without a registration counts, by that and by the known range
LEAST = 1e-6  # of these


def order_of(similarity: np.ndarray) -> tuple[int, ...]:
    """The order in which the sum of the similarities of neighbours is largest, as far as changes of one part can tell.

    It begins at the order of the Fiedler vector (Atkins, Boman and Hendrickson 1998, doi 10.1137/S0097539795285771), of which
    parts are reversed or moved as long as the sum grows. An order and its reverse are alike: image 0 is in the first half.

    Args:
        similarity: of the registrations of pairs, symmetric; NaN where there is none. shape: (N, N)

    Returns:
        numbers of the images; those without any registration come last.

    Example:
        >>> order_of(np.array([[np.nan, 1, 3], [1, np.nan, 2], [3, 2, np.nan]]))
        (0, 2, 1)
    """
    known = np.isfinite(similarity) & ~np.eye(len(similarity), dtype=bool)
    linked = np.flatnonzero(known.any(0))
    rest = tuple(np.flatnonzero(~known.any(0)).tolist())
    if not len(linked):
        return rest
    costs = similarity[known].max() - similarity
    worst = max(costs[known].max(), abs(similarity[known].max()), LEAST)
    costs = np.where(known, costs, UNKNOWN * worst)[np.ix_(linked, linked)]
    found = linked[_improved(_spectral(costs), costs)].tolist()
    backwards = 0 in found and found.index(0) > (len(found) - 1) / 2
    return (*(found[::-1] if backwards else found), *rest)


def _spectral(costs: np.ndarray) -> list[int]:
    """The order of the second eigenvector of the Laplacian of a likeness that falls with the costs."""
    likeness = 1 / (costs + max(float(np.median(costs)), 1e-9)) ** 2
    np.fill_diagonal(likeness, 0)
    return [int(number) for number in np.argsort(np.linalg.eigh(laplacian(likeness))[1][:, 1], kind="stable")]


def _improved(path: list[int], costs: np.ndarray) -> list[int]:
    """The path after the best change of one part, as long as one makes it shorter."""
    best = _length(path, costs)
    while True:
        changed = _changed(path)
        lengths = [_length(other, costs) for other in changed]
        least = int(np.argmin(lengths))
        if not lengths[least] < best - 1e-9 * (1 + best):
            return path
        path, best = changed[least], lengths[least]


def _changed(path: list[int]) -> list[list[int]]:
    """Every path in which a part of this one is reversed, or taken out and put elsewhere."""
    found = []
    for first in range(len(path)):
        for last in range(first + 1, len(path) + 1):
            part, rest = path[first:last], path[:first] + path[last:]
            found.append(rest[:first] + part[::-1] + rest[first:])
            found += [rest[:at] + part + rest[at:] for at in range(first + 1, len(rest) + 1)]
    return found


def _length(path: list[int], costs: np.ndarray) -> float:
    return float(costs[path[:-1], path[1:]].sum())
