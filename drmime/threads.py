"""How many threads torch takes, for as long as a registration lasts.

What is computed in a step is so small that threads spend their time waiting for each other, the more the busier the machine
is. Torch has a number of threads for each thread of Python, and new ones begin with the number that was set last: a
registration that begins beside another one restores what there was before both.

Threads do not survive a fork: a process that is forked after a registration, as `multiprocessing` does on Linux, would wait
for them for ever. It has one thread from then on.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_running = 0  # registrations at this moment
_before_all = 1  # threads before the first of them
_here = threading.local()  # depth: of registrations in this thread of Python
_used = False  # whether there has been a registration in this process
_forked = False  # whether there had been one when this process was forked


def _after_fork() -> None:
    global _lock, _forked, _running
    _lock, _running = threading.Lock(), 0  # whoever held it is not here
    if _used:
        _forked = True
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """`count` threads inside (one where others were lost in a fork), what the caller had after it."""
    global _running, _before_all, _used
    depth = getattr(_here, "depth", 0)
    with _lock:
        now = torch.get_num_threads()
        _before_all = now if _running == 0 else _before_all
        before = now if depth else _before_all
        _running += 1
        _used = True
    _here.depth = depth + 1
    torch.set_num_threads(1 if _forked else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _here.depth = depth
        with _lock:
            _running -= 1
