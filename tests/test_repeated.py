"""Operations that are recorded once and repeated, on a device that the CPU simulates."""

import graphs
import pytest
import torch
from elsewhere import Elsewhere, Watch
from torch import Tensor

from drmime.errors import InputError
from drmime.repeated import PLAIN, Repeated


@pytest.mark.usefixtures("graphs")
def test_a_function_is_called_a_few_times_and_then_repeated() -> None:
    calls, last = 0, Elsewhere(torch.zeros(3))

    def function(values: Tensor, factor: Tensor) -> list[Tensor]:
        nonlocal calls
        calls += 1
        product = (values * factor).sin()
        last.mul_(0.5).add_(product)
        return [product, last + 1]

    with Watch():
        repeated = Repeated(function, Elsewhere(torch.zeros(1)).device)
        expected = torch.zeros(3)
        for step in range(PLAIN + 4):
            values, factor = torch.arange(3.0) + step, torch.tensor([step + 1.0])
            product, state = repeated(Elsewhere(values), Elsewhere(factor))
            expected = expected * 0.5 + (values * factor).sin()
            assert torch.equal(product.inner, (values * factor).sin())
            assert torch.equal(state.inner, expected + 1)
    assert calls == PLAIN + 1


def test_without_a_device_every_call_is_one_of_the_function() -> None:
    repeated = Repeated(lambda values: [values + 1])
    assert [float(repeated(torch.tensor(float(n)))[0]) for n in range(6)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("graphs")
def test_a_function_that_waits_for_the_device_is_an_error() -> None:
    with Watch():
        repeated = Repeated(lambda values: [values * float(values.sum())], Elsewhere(torch.zeros(1)).device)
        for _ in range(PLAIN):
            repeated(Elsewhere(torch.ones(2)))
        with pytest.raises(InputError, match=r"device graphs: .*capturing: aten._local_scalar_dense\.default\)\. Omit"):
            repeated(Elsewhere(torch.ones(2)))
    assert graphs.current == [graphs.DEFAULT]


@pytest.mark.usefixtures("graphs")
def test_memory_that_is_not_enough_is_told_as_such() -> None:
    """So that a batch is halved."""
    calls = iter(range(PLAIN + 1))

    def function(values: Tensor) -> list[Tensor]:
        if next(calls) == PLAIN:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [values]

    with Watch():
        repeated = Repeated(function, Elsewhere(torch.zeros(1)).device)
        for _ in range(PLAIN):
            repeated(Elsewhere(torch.ones(2)))
        with pytest.raises(torch.OutOfMemoryError):
            repeated(Elsewhere(torch.ones(2)))


@pytest.mark.usefixtures("graphs")
def test_what_is_not_repeated_is_seen() -> None:
    """The simulation repeats operations on memory alone, so a number of Python stays as it was."""
    steps = iter(range(PLAIN + 3))
    with Watch():
        repeated = Repeated(lambda values: [values + next(steps)], Elsewhere(torch.zeros(1)).device)
        found = [float(repeated(Elsewhere(torch.zeros(1)))[0].inner) for _ in range(PLAIN + 3)]
    assert found == [*range(PLAIN + 1), PLAIN, PLAIN]
