"""Procedures that run side by side: what they ask for is computed at once, the cheap first; errors and Ctrl-C."""

from collections.abc import Sequence
from typing import Any

import pytest

from drmime.start.together import Ask, in_groups, together

CALLS: list[tuple[str, list[int]]] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def doubled(numbers: Sequence[int]) -> list[int]:
    CALLS.append(("doubled", list(numbers)))
    return [2 * number for number in numbers]


def squared(numbers: Sequence[int]) -> list[int]:
    CALLS.append(("squared", list(numbers)))
    return [number**2 for number in numbers]


def interrupted(numbers: Sequence[int]) -> list[int]:
    raise KeyboardInterrupt


def failed(numbers: Sequence[int]) -> list[int]:
    raise ArithmeticError("wrong")


ORDER = (doubled, squared, interrupted, failed)


def all_of(*procedures: Any) -> list[Any]:
    return together(procedures, ORDER, lambda number: f"so far {number}")


async def both(number: int, doublings: int = 1) -> int:
    for _ in range(doublings):
        number = await Ask(doubled, number)
    return await Ask(squared, number)


async def nothing(number: int) -> int:
    return number


def test_what_several_ask_for_is_computed_at_once() -> None:
    assert all_of(both(1), both(2), both(3)) == [4, 16, 36]
    assert CALLS == [("doubled", [1, 2, 3]), ("squared", [2, 4, 6])]


def test_one_that_needs_more_of_the_cheap_does_not_leave_the_others() -> None:
    assert all_of(both(1, 3), both(2), nothing(5), both(3, 0)) == [64, 16, 5, 9]
    assert CALLS == [("doubled", [1, 2]), ("doubled", [2]), ("doubled", [4]), ("squared", [8, 4, 3])]


def test_one_alone_is_the_same() -> None:
    together_, alone = all_of(both(1, 2), both(4)), [all_of(both(1, 2)), all_of(both(4))]
    assert together_ == [one for (one,) in alone]
    assert all_of() == []


def test_ctrl_c_ends_all_that_have_not_ended() -> None:
    async def waits() -> int:
        return await Ask(interrupted, 1)

    assert all_of(both(1), waits(), nothing(3), waits()) == [4, "so far 1", 3, "so far 3"]


def test_ctrl_c_within_a_procedure_ends_the_others_too() -> None:
    async def raises(number: int) -> int:
        await Ask(doubled, number)
        raise KeyboardInterrupt

    assert all_of(nothing(1), raises(2), both(3)) == [1, "so far 1", "so far 2"]


def test_ctrl_c_after_all_have_ended_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: Any) -> dict[int, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr("drmime.start.together._answers", late)
    with pytest.raises(KeyboardInterrupt):
        all_of(nothing(1), nothing(2))


def test_an_error_is_raised_and_the_others_are_closed() -> None:
    ended: list[str] = []

    async def waits() -> int:
        try:
            return await Ask(failed, 1)
        finally:
            ended.append("closed")

    with pytest.raises(ArithmeticError, match="wrong"):
        all_of(waits(), waits())
    assert ended == ["closed", "closed"]


def test_items_of_one_key_are_computed_at_once_and_answers_keep_their_order() -> None:
    assert in_groups([1, 2, 3, 4, 5], lambda number: number % 2, doubled) == [2, 4, 6, 8, 10]
    assert CALLS == [("doubled", [1, 3, 5]), ("doubled", [2, 4])]
    assert in_groups([], lambda number: 0, doubled) == []
