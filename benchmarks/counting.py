"""Counts operations that torch dispatches, by stage of a registration, and the times that it would wait for a GPU."""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# stages of `register` by a function in which they run; of several that enclose an operation, the first here names it
STAGES = {
    "_verdicts": "verdict",
    "with_precision": "precision",
    "refined": "refinement of starts",
    "polished": "refinement of starts",
    "searches": "search",
    "_proposed": "search",
    "rankings": "choice of starts",
    "maximise": "optimisation",
    "read_images": "images",
}
OTHER = "other"
WAITS = ("cpu", "numpy", "tolist", "item", "nonzero", "__bool__", "__float__", "__int__", "__index__")  # methods of tensors
ON_CPU = "_shifted"  # a function whose tensors are on the CPU in any case
WAITING = ("nonzero", "masked_select")  # operations; and reading and writing by flags


class Counting(TorchDispatchMode):
    """While it is entered: the operations of each stage, and how often it would wait for a GPU that holds the tensors.

    A wait is a call that needs values of a tensor, or its copy on the CPU, in Python.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.waits = Counter[str](), Counter[str]()
        self._within = 0  # waits that one wait calls are not counted
        self._kept = {name: getattr(Tensor, name) for name in WAITS}

    def __enter__(self) -> "Counting":
        for name, method in self._kept.items():
            setattr(Tensor, name, self._waiting(method))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for name, method in self._kept.items():
            setattr(Tensor, name, method)

    def _waiting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(tensor: Tensor, *args: Any, **options: Any) -> Any:
            self.waits[_stage()] += self._within == 0 and sys._getframe(1).f_code.co_name != ON_CPU
            self._within += 1
            try:
                return method(tensor, *args, **options)
            finally:
                self._within -= 1

        return counted

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        stage, name = _stage(), operation.__name__.split(".")[0]
        self.operations[stage] += 1
        by_flags = name in ("index", "index_put", "index_put_") and any(
            isinstance(one, Tensor) and one.dtype is torch.bool for one in args[1]
        )
        self.waits[stage] += self._within == 0 and (name in WAITING or by_flags)
        return operation(*args, **(kwargs or {}))


def _stage() -> str:
    within = set()
    frame = sys._getframe(2)
    while frame is not None:
        if "drmime" in frame.f_code.co_filename:
            within.add(frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return next((stage for function, stage in STAGES.items() if function in within), OTHER)
