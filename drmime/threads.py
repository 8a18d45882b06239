"""Sets the number of torch threads for the duration of a registration.

The computations of a step are so small that threads mostly wait for each other, more so on a busy machine. Torch keeps a number
of threads for each Python thread, and new Python threads begin with the number that was set last. A registration that begins
while another one runs therefore restores the number from before both.

Threads do not survive a fork: a process that is forked after a registration, as `multiprocessing` does on Linux, would wait
for them forever. Such a process uses one thread from then on.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_running = 0  # number of running registrations
_before_all = 1  # torch threads before the first of them
_here = threading.local()  # depth: nested registrations in this Python thread
_used = False  # whether there has been a registration in this process
_forked = False  # whether there had been one when this process was forked


def _after_fork() -> None:
    global _lock, _forked, _running
    _lock, _running = threading.Lock(), 0  # the thread that held the lock is not in this process
    if _used:
        _forked = True
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, torch has `count` threads (one in a process forked after a registration); then the caller's number again."""
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
