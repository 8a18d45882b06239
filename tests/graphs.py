"""What stands for CUDA graphs on the device of `elsewhere`: records the operations on its tensors, and repeats them.

As with CUDA, what is recorded is not carried out; a repetition reads and writes the same memory; and to record an operation
that waits for the device, or copies from the memory of the CPU, is an error. It cannot show memory that is freed while a graph
reads it, since what is recorded keeps all tensors.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import elsewhere as device
import pytest
import torch
from elsewhere import DEVICE
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves


class Graph:
    """As `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, dict[str, Any], list[Tensor]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []  # tensors that are changed in place, and their values

    def add(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Called before each operation on tensors of the device."""
        for place, argument in enumerate(operation._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                changed = args[place] if place < len(args) else kwargs[argument.name]
                self.before += [(one, one.clone()) for one in tree_leaves(changed) if isinstance(one, Tensor)]

    def done(self, operation: Any, args: Any, kwargs: dict[str, Any], found: Any) -> None:
        self.operations.append((operation, args, kwargs, [one for one in tree_leaves(found) if isinstance(one, Tensor)]))

    def undo(self) -> None:
        """After recording: as if nothing had been carried out; new tensors hold no numbers yet."""
        with _disable_current_modes():
            for operation, *_, found in self.operations:
                for one in found:
                    if one.is_floating_point() and not any(part.alias_info for part in operation._schema.returns):
                        one.fill_(torch.nan)
            for changed, values in reversed(self.before):
                changed.copy_(values)

    def replay(self) -> None:
        """One call: nothing counts or watches the operations."""
        with _disable_current_modes():
            self._repeat()

    def _repeat(self) -> None:
        for operation, args, kwargs, found in self.operations:
            returned = operation._schema.returns
            if any(one.alias_info is not None and not one.alias_info.is_write for one in returned):
                continue  # a view of memory
            again = operation(*args, **kwargs)
            for kept, new in zip(found, (one for one in tree_leaves(again) if isinstance(one, Tensor)), strict=True):
                if kept is not new:
                    kept.copy_(new)


class Stream:
    """As `torch.cuda.Stream`."""

    def __init__(self, place: Any = None) -> None:
        assert torch.device(place) == DEVICE

    def wait_stream(self, other: "Stream") -> None: ...


DEFAULT = Stream(DEVICE)
current = [DEFAULT]  # streams, the current one last


@contextlib.contextmanager
def on(stream: Stream) -> Iterator[None]:
    """As `torch.cuda.stream`."""
    before = current[:]
    current.append(stream)
    try:
        yield
    finally:
        current[:] = before


@contextlib.contextmanager
def recording(graph: Graph, stream: Stream) -> Iterator[None]:
    """As `torch.cuda.graph`. If an operation is not permitted, ending the recording fails as well, on the stream of it."""
    device.recorded = graph
    current.append(stream)
    try:
        yield
    except RuntimeError:
        raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904  # as CUDA's
    finally:
        device.recorded = None
    current.pop()
    graph.undo()


@pytest.fixture
def graphs(elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA graphs are those of the simulated device."""
    for name, stand_in in {
        "CUDAGraph": Graph,
        "graph": recording,
        "Stream": Stream,
        "stream": on,
        "current_stream": lambda place: current[-1],
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
