"""Sets torch's modes and defaults as this library needs them, whatever the caller's are.

It needs gradients, no autocast (which would round coordinates), and new tensors in float32 on the CPU unless stated otherwise.
The default dtype belongs to the whole process: if the caller has set another, other threads see float32 in the meantime.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch

Given = ParamSpec("Given")
Result = TypeVar("Result")


@contextmanager
def own_modes() -> Iterator[None]:
    """Inside, gradients are recorded, autocast is off, and torch's defaults are float32 and the CPU."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        _own_defaults(),
    ):
        yield


@contextmanager
def _own_defaults() -> Iterator[None]:
    """Set torch's defaults to float32 and the CPU, only if they differ: a default device slows down every call."""
    with ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield


def own_defaults(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """A function or method that runs with torch's defaults float32 and CPU."""

    @functools.wraps(function)
    def wrapped(*args: Given.args, **options: Given.kwargs) -> Result:
        with _own_defaults():
            return function(*args, **options)

    return wrapped
