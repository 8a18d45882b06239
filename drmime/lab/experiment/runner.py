"""Run the tasks of an experiment on a `concurrent.futures.Executor`: threads of this machine, or a Dask cluster.

Each finished task is saved at once as a row in its own file, so that an interrupted run continues where it stopped.
"""

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from drmime.cluster import GONE
from drmime.errors import InputError
from drmime.lab.datasets.base import Pair, digests
from drmime.lab.experiment import rows
from drmime.lab.experiment.rows import Row
from drmime.lab.experiment.task import Task, batched, in_a_line
from drmime.lab.experiment.worker import Child

IN_FLIGHT = 2  # submitted batches per worker: one running and one waiting
_thread_local = threading.local()  # the child process of each thread that runs tasks; it is reused, since imports take long


def perform(
    tasks: Sequence[Task],
    executor: Executor,
    workers: Callable[[], int],
    timeout: float,
    retry: bool = False,
    hidden: Mapping[str, str] | None = None,
    batch: int = 1,
) -> None:
    """Run every task that is not `finished` and write its row.

    A worker that runs a batch of several tasks reads the pairs of its next one meanwhile: the one that follows after as many as
    there are workers. If another worker takes that, the pairs are read again.

    Args:
        tasks: each writes below the folder of its outputs.
        executor: where tasks run.
        workers: returns the current number of workers; at most `IN_FLIGHT` batches per worker are submitted at a time.
        timeout: seconds after which a task counts as failed.
        retry: whether to run tasks again whose row holds an error.
        hidden: texts that rows must not show, and their replacements.
        batch: the largest number of pairs that a method registers together, see `batched`.

    Raises:
        InputError: a row cannot be written, or the executor is closed; rows that are written stay.
        KeyboardInterrupt: likewise.
    """
    left = [task for task in tasks if not finished(task, retry)]
    batches = batched(left, batch)
    waiting, done = deque(range(len(batches))), len(tasks) - len(left)
    running: dict[Future[list[Row]], list[Task]] = {}
    with tqdm(total=len(tasks), initial=done, unit="run", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        while waiting or running:
            count = max(1, workers()) if waiting else 0
            for _ in range(min(count * IN_FLIGHT - len(running), len(waiting))):
                number = waiting.popleft()
                together, following = batches[number], batches[number + count : number + count + 1]
                soon = [task.pair for task in following[0]] if following and len(together) > 1 else []
                running[_submitted(executor, together, timeout, soon)] = together
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                together = running.pop(future)
                for task, row in zip(together, _rows(together, future), strict=True):
                    rows.write(row, path(task), hidden)
                    bar.update()


def path(task: Task) -> Path:
    """The path of the row of a task."""
    return Path(task.outputs.folder) / "rows" / f"{task.name}.json"


def execute(tasks: Sequence[Task], timeout: float, soon: Sequence[Pair] = ()) -> list[Row]:
    """Run tasks together in the child process of this thread, which reads the pairs `soon` meanwhile."""
    if not hasattr(_thread_local, "child"):
        _thread_local.child = Child()
    return _thread_local.child.run(tasks, timeout, soon)


@contextmanager
def threads(workers: int) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """An executor of `workers` threads, each with one child process, and a function that returns their number."""
    children: list[Child] = []

    def begin() -> None:
        _thread_local.child = Child()
        children.append(_thread_local.child)

    executor = ThreadPoolExecutor(workers, initializer=begin)
    try:
        yield executor, lambda: workers
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.stop()  # so that no thread waits for an answer any more
        executor.shutdown()
        for child in children:
            child.close()


def finished(task: Task, retry: bool = False) -> bool:
    """Whether a task need not run: its row exists, its inputs have not changed, and the outputs it asks for exist."""
    try:
        row = rows.read(path(task))
    except InputError:  # for example an incomplete row
        return False
    if row is None or (retry and row.error):
        return False
    files = task.pair.files()
    here = [path for path in files if Path(path).is_file()]
    if row.error or len(here) < len(files):  # a result stays valid if its images were removed
        return True
    if task.outputs.pictures and not row.pictures:
        return False
    if task.outputs.tensorboard and "peer" not in task.block and not task.curves.is_dir():
        return False
    return len(here) == len(row.inputs) and all(map(_same, here, row.inputs.values()))


def _same(path: str, was: Mapping[str, Any]) -> bool:
    """Whether an input file has not changed, by its size and digest; file times are not reliable."""
    now = Path(path).stat()
    return now.st_size == was["size"] and _digest(path, now.st_mtime_ns, now.st_ino) == was


@functools.cache
def _digest(path: str, changed: int, number: int) -> dict[str, Any]:
    """The digest of a file, cached by its time of change and inode number: every method and seed needs it."""
    return digests([path])[path]


def _submitted(executor: Executor, tasks: list[Task], timeout: float, soon: list[Pair]) -> Future[list[Row]]:
    try:
        return executor.submit(execute, tasks, timeout, soon)
    except Exception as error:  # closed executors raise different errors
        raise InputError(GONE) from error


def _rows(tasks: Sequence[Task], future: Future[list[Row]]) -> list[Row]:
    """The rows of a future, or rows with the error; an error in a worker affects only the tasks that it ran together.

    Raises:
        InputError: the future was cancelled, which does not mean that the task failed.
    """
    error = CancelledError() if future.cancelled() else future.exception()
    if isinstance(error, CancelledError):
        raise InputError(GONE) from error
    if error is None:
        return future.result()
    return [replace(task.unfinished(), error=in_a_line(error)) for task in tasks]
