"""A device that computes on the CPU and says when tensors of the CPU are mixed with its own, which CUDA refuses.

A tensor of class `Elsewhere` says that it is on the device "meta", and holds a tensor of the CPU with which it computes.
Within `Watch`, `mixed` names the operations that had full tensors of both devices, with the places in the program.
"""

import collections
import traceback
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
BY_INDEX = ("aten.index.Tensor", "aten.index_put", "aten._index_put_impl_")  # CUDA takes indices of the CPU
mixed: collections.Counter[str] = collections.Counter()


class Elsewhere(Tensor):
    """A tensor that is said to be on `DEVICE`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Elsewhere":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = Tensor._make_wrapper_subclass(cls, inner.shape, **layout, device=DEVICE, requires_grad=inner.requires_grad)
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.inner.tolist()

    def new_tensor(self, data: Any, *args: Any, **options: Any) -> Tensor:
        return Elsewhere(torch.as_tensor(data, dtype=options.get("dtype", self.dtype)))

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(operation, args, kwargs or {})


class Watch(TorchDispatchMode):
    """While it is entered, operations of which no tensor is elsewhere can make one that is."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(operation, args, kwargs or {})


def _done(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, given = str(operation), [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    there = [one for one in given if isinstance(one, Elsewhere)]
    here = [one for one in given if not isinstance(one, Elsewhere) and one.ndim]
    copies = "copy_" in name
    by_index = name.startswith(BY_INDEX) and isinstance(args[0], Elsewhere)
    if there and here and not copies and not by_index:
        mixed[f"{name}: {_places()}"] += 1
    plain_args, plain_kwargs = tree_map(lambda one: one.inner if isinstance(one, Elsewhere) else one, (args, kwargs))
    target = kwargs.get("device")
    if target is not None:
        plain_kwargs["device"] = torch.device("cpu")
        goes = torch.device(target) == DEVICE
    else:
        goes = isinstance(args[0], Elsewhere) if copies and "_to_copy" not in name else bool(there)
    found = operation(*plain_args, **plain_kwargs)
    found = tree_map(lambda one: one.resolve_conj() if isinstance(one, Tensor) and one.is_conj() else one, found)
    if not goes:
        return found
    found = tree_map(lambda one: Elsewhere(one) if isinstance(one, Tensor) else one, found)
    return return_and_correct_aliasing(operation, args, kwargs, found) if there else found


def _places() -> str:
    frames = [frame for frame in traceback.extract_stack() if "/drmime/" in frame.filename]
    return " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames[::-1][:3])
