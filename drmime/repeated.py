"""Repeats the operations of a function of tensors as one CUDA graph, so that not every step asks for each of them again."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from drmime.errors import InputError

PLAIN = 2  # calls before the one that is recorded: libraries of CUDA prepare themselves in their first calls
Function = Callable[..., Sequence[Any]]  # of tensors; gives tensors, or None in places


class Repeated:
    """Calls a function of tensors; on a GPU it can record the operations of one call and repeat them in all later ones.

    What is recorded are operations on memory. So shapes must be the same in every call, the function may change no state but
    tensors, in place, and nothing in it may wait for the GPU. The results are those of the function. While it records, no
    other thread of the process may use CUDA.
    """

    def __init__(self, function: Function, device: torch.device | None = None) -> None:
        """`device`: the CUDA device of all tensors; None: do not record, so that every call is one of the function."""
        self.function, self.device, self.plain = function, device, 0
        # apart from the default stream, which cannot be recorded
        self.stream = None if device is None else torch.cuda.Stream(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []  # which the function reads, when recorded and before
        self.outputs: Sequence[Any] = []

    def __call__(self, *inputs: Tensor) -> Sequence[Any]:
        """The function's results; those of a repetition are overwritten by the next call.

        Raises:
            InputError: the function cannot be recorded.
        """
        if self.stream is None:
            return self.function(*inputs)
        if self.inputs:
            for kept, given in zip(self.inputs, inputs, strict=True):
                kept.copy_(given)
        else:
            self.inputs = [one.clone() for one in inputs]
        if self.plain < PLAIN:
            self.plain += 1
            return self._aside(self.stream)
        if self.graph is None:
            self.graph = self._recorded(self.stream)
        self.graph.replay()
        return self.outputs

    def _aside(self, stream: torch.cuda.Stream) -> Sequence[Any]:
        """The function's results, computed on a stream between the work before and after it."""
        current = torch.cuda.current_stream(self.device)
        stream.wait_stream(current)
        try:
            with torch.cuda.stream(stream):
                return self.function(*self.inputs)
        finally:
            current.wait_stream(stream)

    def _recorded(self, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        """The graph of a call, which is not carried out; sets the tensors that it writes."""
        graph = torch.cuda.CUDAGraph()
        try:
            # the outer one returns to the stream and device of before, also after a failure
            with torch.cuda.stream(stream), torch.cuda.graph(graph, stream=stream):
                self.outputs = self.function(*self.inputs)
        except RuntimeError as error:
            cause = error.__context__ or error  # the end of a recording that failed is an error as well
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from None
            raise InputError(
                "device graphs: a step of this metric or transform cannot be recorded as a CUDA graph "
                f"({str(cause).partition(chr(10))[0]}). Omit the option `graphs`."
            ) from error
        return graph
