"""Counts operations that torch dispatches, by stage of a registration, and those that wait for a GPU."""

import sys
from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

# stages of `register` by a function in which they run; of several that enclose an operation, the first here names it
STAGES = {
    "_verdicts": "verdict",
    "with_precision": "precision",
    "refined": "refinement of starts",
    "polished": "refinement of starts",
    "_proposed": "search",
    "_starts": "choice of starts",
    "maximise": "optimisation",
    "read_images": "images",
}
OTHER = "other"
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal")  # operations that wait for a GPU


class Counting(TorchDispatchMode):
    """While it is entered: the operations of each stage, and among them those of `WAITS`."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.waits = Counter[str](), Counter[str]()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        stage = _stage()
        self.operations[stage] += 1
        self.waits[stage] += operation.__name__.split(".")[0] in WAITS
        return operation(*args, **(kwargs or {}))


def _stage() -> str:
    within = set()
    frame = sys._getframe(2)
    while frame is not None:
        if "drmime" in frame.f_code.co_filename:
            within.add(frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return next((stage for function, stage in STAGES.items() if function in within), OTHER)
