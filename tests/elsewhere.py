"""A device that computes on the CPU and says when tensors of the CPU are mixed with its own, which CUDA refuses.

A tensor of class `Elsewhere` says that it is on the device "meta", and holds a tensor of the CPU with which it computes.
Within `Watch`, `mixed` names the operations that had full tensors of both devices, with the places in the program, and `waits`
counts what would wait for the device: numbers that Python asks for, and copies that block. `operations` counts all of them.
"""

import collections
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

from drmime.device import Device

DEVICE = torch.device("meta")
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "linalg_matrix_exp", "_linalg_check_errors", "_linalg_eigh")
WAITING += ("_linalg_svd", "bincount", "_unique2", "unique_consecutive", "repeat_interleave.Tensor")
BY_INDEX = ("aten.index.Tensor", "aten.index_put", "aten._index_put_impl_")  # CUDA takes indices of the CPU
mixed: collections.Counter[str] = collections.Counter()
waits: collections.Counter[str] = collections.Counter()
operations: collections.Counter[str] = collections.Counter()  # all of them, by name
recorded: Any = None  # what records operations (`graphs.Graph`), while it does


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tensor], Tensor]:
    """Puts a tensor elsewhere; and `torch.tensor` does if it is asked to."""
    plain = torch.tensor

    def tensor(data: Any, *args: Any, device: Any = None, **options: Any) -> Tensor:
        made = plain(data, *args, **options)
        return sent(made) if device is not None and torch.device(device) == DEVICE else made

    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(Tensor, "pin_memory", lambda one: one.clone().as_subclass(Pinned))
    mixed.clear()
    waits.clear()
    return Elsewhere


@pytest.fixture
def put_elsewhere(elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device of every registration is elsewhere."""
    monkeypatch.setattr(Device, "place", property(lambda device: DEVICE))


def sent(made: Tensor) -> Tensor:
    """A new tensor of the CPU as one elsewhere."""
    _wait("a tensor of numbers of Python")
    return Elsewhere(made)


def _wait(what: str) -> None:
    """Something waits for the device; while operations are recorded this is an error, as with CUDA."""
    if recorded is not None:
        raise RuntimeError(f"operation not permitted when stream is capturing: {what}")
    waits[f"{what}: {_places()}"] += 1


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
        _wait("tolist")
        return self.inner.tolist()

    def new_tensor(self, data: Any, *args: Any, **options: Any) -> Tensor:
        return sent(torch.as_tensor(data, dtype=options.get("dtype", self.dtype)))

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(operation, args, kwargs or {})


class Pinned(Tensor):
    """A tensor of the CPU in memory from which the device copies by itself."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class Watch(TorchDispatchMode):
    """While it is entered, operations of which no tensor is elsewhere can make one that is."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(operation, args, kwargs or {})


def _done(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, given = str(operation), [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    operations[name] += 1
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
    source = given[-1] if copies and given else None
    crosses = source is not None and isinstance(source, Elsewhere) != goes
    asked = bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2] is True))
    in_time = goes and recorded is None and asked and isinstance(source, Pinned)
    by_values = by_index and any(one.dtype is torch.bool or not isinstance(one, Elsewhere) for one in given[1:])
    if (there and name.removeprefix("aten.").startswith(WAITING)) or by_values or (crosses and not in_time):
        _wait(name)
    if recorded is not None and (there or goes):
        recorded.add(operation, plain_args, plain_kwargs)
    found = operation(*plain_args, **plain_kwargs)
    if recorded is not None and (there or goes):
        recorded.done(operation, plain_args, plain_kwargs, found)
    found = tree_map(lambda one: one.resolve_conj() if isinstance(one, Tensor) and one.is_conj() else one, found)
    if not goes:
        return found
    found = tree_map(lambda one: Elsewhere(one) if isinstance(one, Tensor) else one, found)
    return return_and_correct_aliasing(operation, args, kwargs, found) if there else found


def _places() -> str:
    frames = [frame for frame in traceback.extract_stack() if "/drmime/" in frame.filename]
    return " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames[::-1][:3])
