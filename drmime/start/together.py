"""Runs the same procedure for several pairs side by side; what several of them ask for is computed at once.

A procedure is a coroutine: where it needs figures of its images it waits for `Ask(compute, subject)`. One call for several
pairs takes fewer and larger operations of torch than one call for each, as suits a GPU.
"""

from collections.abc import Callable, Coroutine, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value", bound=Hashable)
Result = TypeVar("Result")
Compute = Callable[[Sequence[Any]], Sequence[Any]]  # subjects of several pairs to one answer each
Procedure = Coroutine["Ask", Any, Result]


@dataclass(frozen=True, eq=False)
class Ask:
    """What a procedure waits for: the answer of `compute` on a subject; `answer = await Ask(compute, subject)`."""

    compute: Compute
    subject: Any

    def __await__(self) -> Generator["Ask", Any, Any]:
        return (yield self)


def together(
    procedures: Sequence[Procedure[Result]], order: Sequence[Compute], so_far: Callable[[int], Result]
) -> list[Result]:
    """The results of procedures, all of which ask only for the functions in `order`.

    Of the functions that are asked for, the first in `order` is called next, with all its subjects. With the costly ones last,
    a pair that needs some more of the cheap ones does not leave the others before the next costly one.

    After Ctrl-C the procedures that have not ended are closed; `so_far` gives the results of these, by their numbers.

    Raises:
        KeyboardInterrupt: Ctrl-C after all have ended.
        Exception: what a function or a procedure raises.
    """
    waiting: dict[int, Ask] = {}
    results: dict[int, Result] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(procedures)))
    try:
        while answers:
            for number, answer in answers.items():
                try:
                    waiting[number] = procedures[number].send(answer)
                except StopIteration as ended:
                    waiting.pop(number, None)
                    results[number] = ended.value
            answers = _answers(waiting, order)
    except KeyboardInterrupt:
        if len(results) == len(procedures):  # none can say that it was interrupted
            raise
    finally:
        for procedure in procedures:
            procedure.close()
    return [results[number] if number in results else so_far(number) for number in range(len(procedures))]


def in_groups(
    items: Sequence[Item], key: Callable[[Item], Hashable], compute: Callable[[Sequence[Item]], Sequence[Result]]
) -> list[Result]:
    """The answers of `compute` on each item; it is called once for all items with one `key`."""
    found: dict[int, Result] = {}
    for places in places_of([key(item) for item in items]).values():
        found |= zip(places, compute([items[place] for place in places]), strict=True)
    return [found[place] for place in range(len(items))]


def places_of(values: Sequence[Value]) -> dict[Value, list[int]]:
    """The places of each value, in the order of their first ones."""
    places: dict[Value, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(value, []).append(place)
    return places


def _answers(waiting: Mapping[int, Ask], order: Sequence[Compute]) -> dict[int, Any]:
    """The answers of the function that comes next, by the numbers of the procedures that wait for it; none if none waits."""
    if not waiting:
        return {}
    compute = min((one.compute for one in waiting.values()), key=order.index)
    numbers = [number for number, one in waiting.items() if one.compute is compute]
    return dict(zip(numbers, compute([waiting[number].subject for number in numbers]), strict=True))
