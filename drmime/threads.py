"""How many threads torch takes, for as long as a registration lasts.

What is computed in a step is so small that threads spend their time waiting for each other, the more the busier the machine
is. Torch has a number of threads for each thread of Python, and new ones begin with the number that was set last: a
registration that begins beside another one restores what there was before both.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_running = 0  # registrations at this moment
_before_all = 1  # threads before the first of them
_here = threading.local()  # depth: of registrations in this thread of Python


@contextmanager
def threads(count: int) -> Iterator[None]:
    """`count` threads inside, what the caller had after it."""
    global _running, _before_all
    depth = getattr(_here, "depth", 0)
    with _lock:
        now = torch.get_num_threads()
        _before_all = now if _running == 0 else _before_all
        before = now if depth else _before_all
        _running += 1
    _here.depth = depth + 1
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _here.depth = depth
        with _lock:
            _running -= 1
