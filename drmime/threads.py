"""How many threads torch takes, for as long as a registration lasts.

What is computed in a step is so small that threads spend their time waiting for each other, the more the busier the machine is:
one thread is as fast as two on an idle machine and several times as fast on a busy one (`benchmarks/README.md`). Torch has
one number of threads for the whole process; registrations that overlap in time share it, and the last to end restores it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_running = 0
_before = 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """`count` threads inside, what the caller had after it."""
    global _running, _before
    with _lock:
        if _running == 0:
            _before = torch.get_num_threads()
        _running += 1
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                torch.set_num_threads(_before)
