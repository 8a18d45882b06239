"""Torch's modes and defaults as this library needs them, whatever the caller's are.

It needs gradients, all digits of coordinates, and new tensors in float32 on the CPU unless it says otherwise. The default
dtype is one for the whole process: where a caller has set another, threads beside this one see float32 meanwhile.
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
    """Inside, gradients are recorded and nothing is cast; torch's defaults are its own."""
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
    """Only where they differ: a default device costs time with every call."""
    with ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield


def own_defaults(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """A function or method inside which torch's defaults are its own."""

    @functools.wraps(function)
    def wrapped(*args: Given.args, **options: Given.kwargs) -> Result:
        with _own_defaults():
            return function(*args, **options)

    return wrapped
