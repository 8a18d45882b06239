"""Repeats the operations of a function of tensors as one CUDA graph, so that not every step asks for each of them again."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from drmime.errors import InputError

PLAIN = 2  # calls before the one that is recorded: libraries of CUDA prepare themselves in their first calls


class Repeated:
    """Calls a function of tensors; on a GPU it can record the operations of one call and repeat them in all later ones.

    What is recorded are operations on memory. So shapes must be the same in every call, the function may change no state but
    tensors, in place, and nothing in it may wait for the GPU. The results are those of the function.
    """

    def __init__(self, function: Callable[..., Sequence[Tensor]], device: torch.device | None = None) -> None:
        """`device`: the CUDA device of all tensors; None: do not record, so that every call is one of the function."""
        self.function, self.device, self.plain = function, device, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        # apart from the default stream, which cannot be recorded
        self.stream = None if device is None else torch.cuda.Stream(device)

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        """The function's results; those of a repetition are overwritten by the next call.

        Raises:
            InputError: the function cannot be recorded.
        """
        if self.stream is None:
            return self.function(*inputs)
        if self.plain < PLAIN:
            self.plain += 1
            return self._aside(self.stream, inputs)
        if self.graph is None:
            self.graph = self._recorded(inputs)
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.outputs

    def _aside(self, stream: torch.cuda.Stream, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The function's results, computed on a stream between the work before and after it."""
        current = torch.cuda.current_stream(self.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            outputs = self.function(*inputs)
        current.wait_stream(stream)
        return outputs

    def _recorded(self, inputs: Sequence[Tensor]) -> torch.cuda.CUDAGraph:
        """The graph of a call, which is not made; sets the tensors that the graph reads and writes."""
        self.inputs = [one.clone() for one in inputs]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                self.outputs = self.function(*self.inputs)
        except RuntimeError as error:
            raise InputError(
                f"device graphs: a step of this metric or transform cannot be recorded as a CUDA graph ({error}). "
                "Leave the option `graphs` away."
            ) from error
        return graph
