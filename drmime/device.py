"""`Device`: the device, the number type and the number of threads of a registration."""

from dataclasses import dataclass

import torch
from torch import Tensor

from drmime.errors import InputError, switch, whole
from drmime.registry import known

KINDS = ("cpu", "cuda")  # other kinds lack float64, which matrices need
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Device:
    """Where a registration runs.

    Args:
        name: "cpu", "cuda", "cuda:1"; None for a GPU if torch finds one, else the CPU.
        dtype: "float32" or "float64", of images and metric; matrices are always float64.
        threads: number of torch threads during the registration; afterwards the caller's number is restored. A second one
            gains a quarter of the time, more of them little.
        graphs: repeat the operations of a step as a CUDA graph, which saves the time of asking for each of them; on CUDA only.

    Raises:
        InputError: another kind of device or dtype, threads that are not a whole number from 1 to 1024, or `graphs` that are
            not true or false.

    Example:
        >>> Device("cpu", threads=2).place
        device(type='cpu')
    """

    name: str | None = None
    dtype: str = "float32"
    threads: int = 1
    graphs: bool = False

    def __post_init__(self) -> None:
        if self.name is not None and str(self.name).partition(":")[0] not in KINDS:
            raise self._absent()
        known("dtype", self.dtype, DTYPES)
        object.__setattr__(self, "threads", whole("device threads", self.threads, 1, 1024))
        switch("device graphs", self.graphs)

    @property
    def place(self) -> torch.device:
        """The `torch.device`.

        Raises:
            InputError: it is not available, or cannot record `graphs`.
        """
        place = torch.device("cuda" if torch.cuda.is_available() else "cpu") if self.name is None else self._present()
        if self.graphs and place.type != "cuda":
            raise InputError(f"device graphs: expected a CUDA device, got {str(place)!r}. Omit the option.")
        return place

    def _present(self) -> torch.device:
        try:
            place = torch.device(self.name)  # type: ignore[arg-type]
            torch.empty(0, device=place)
            return place
        except (RuntimeError, AssertionError, TypeError, ImportError) as error:
            raise self._absent() from error

    def _absent(self) -> InputError:
        present = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return InputError(f"device: expected one that is here ({', '.join(present)}), got {str(self.name)!r}")


def sent(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor of the CPU with the dtype of another, on its device; without waiting for work on that device."""
    tensor = tensor.to(like.dtype)  # before it is pinned: a copy that converts would make memory that is not
    return tensor if like.device.type == "cpu" else tensor.pin_memory().to(like.device, non_blocking=True)
