"""The caller's number of threads is what it was, whatever happened."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from drmime import register
from drmime.threads import threads


@pytest.fixture(autouse=True)
def _three() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_inside_there_are_as_many_as_asked_for_and_afterwards_as_before() -> None:
    with threads(1):
        assert torch.get_num_threads() == 1
        with threads(2):
            assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3
    with pytest.raises(ZeroDivisionError), threads(1):
        _ = 1 / 0
    assert torch.get_num_threads() == 3


def test_registrations_that_overlap_in_time_leave_what_was_before_both() -> None:
    inside, leave = threading.Event(), threading.Event()
    seen: list[int] = []

    def other() -> None:
        with threads(1):
            inside.set()
            leave.wait(10)
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=other)
    with threads(2):
        thread.start()
        inside.wait(10)
    leave.set()
    thread.join()
    new = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    new.start()
    new.join()
    assert [torch.get_num_threads(), *seen] == [3, 3, 3]


def test_register_takes_one_and_gives_the_caller_s_back(rng: np.random.Generator) -> None:
    seen: list[int] = []
    image = np.kron(rng.random((8, 8)), np.ones((4, 4)))
    for count in (1, 2):
        options = {} if count == 1 else {"device": {"threads": count}}
        register(image, image, schedule={"steps": 1}, observers=[lambda step: seen.append(torch.get_num_threads())], **options)
        assert {*seen} == {count}
        seen.clear()
        assert torch.get_num_threads() == 3


FORKED = """
import multiprocessing, numpy as np, torch, drmime
torch.set_num_threads(2)
images = np.random.default_rng(0).random((2, 300, 300))
found = drmime.register(*images, start=None, schedule={"steps": 3}, device={"threads": 2, "name": "cpu"})

def work(_):
    again = drmime.register(*images, start=None, schedule={"steps": 3}, device={"threads": 2, "name": "cpu"})
    return again.matrix, found.warp(images[1]).shape, torch.get_num_threads()

with multiprocessing.get_context("fork").Pool(2) as pool:
    for matrix, shape, threads in pool.map_async(work, range(2)).get(60):
        # on noise, the order of sums (one thread, two threads) shifts the result by thousandths of a pixel
        assert np.allclose(matrix, found.matrix, rtol=0, atol=0.01), (matrix, found.matrix)
        assert shape == (300, 300) and threads == 1
print("done", torch.get_num_threads())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_forked_workers_do_not_wait_for_threads_that_are_gone() -> None:
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, encoding="utf-8", timeout=120)
    assert ended.stdout.split() == ["done", "2"], ended.stderr
