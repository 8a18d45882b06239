"""Runs the tasks of an experiment over any `concurrent.futures.Executor`: threads of this machine, or a Dask cluster.

Each finished task is a row in a file of its own, so that a run that was stopped, however, goes on where it was.
"""

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from drmime.errors import InputError
from drmime.lab.datasets.base import digests
from drmime.lab.experiment import rows
from drmime.lab.experiment.rows import Row
from drmime.lab.experiment.task import Task, in_a_line
from drmime.lab.experiment.worker import Child

IN_FLIGHT = 2  # tasks for each worker, one running and one waiting
CONNECT = 10  # seconds to wait for a scheduler
GONE = "the scheduler is gone; the same command goes on from here"
_own = threading.local()  # of each thread that runs tasks: its child process, which outlives a task to save the imports


def perform(
    tasks: Sequence[Task],
    executor: Executor,
    workers: Callable[[], int],
    timeout: float,
    retry: bool = False,
    hidden: Mapping[str, str] | None = None,
) -> None:
    """Write the row of every task that is not `finished`.

    Args:
        tasks: each writes below the folder of its outputs.
        executor: where they run.
        workers: how many it has now; never more than a few tasks for each are in its hands.
        timeout: seconds after which a task has failed.
        retry: whether rows that hold an error are run again.
        hidden: texts that rows do not show, and what they show instead.

    Raises:
        InputError: a row cannot be written, or the executor is gone; what was finished stays.
        KeyboardInterrupt: likewise.
    """
    left = [task for task in tasks if not finished(task, retry)]
    waiting, done = deque(left), len(tasks) - len(left)
    running: dict[Future[Row], Task] = {}
    with tqdm(total=len(tasks), initial=done, unit="run", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        while waiting or running:
            room = max(1, workers()) * IN_FLIGHT - len(running) if waiting else 0
            for _ in range(min(room, len(waiting))):
                task = waiting.popleft()
                running[_submitted(executor, task, timeout)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                rows.write(_row(task, future), path(task), hidden)
                bar.update()


def path(task: Task) -> Path:
    """Where the row of a task is."""
    return Path(task.outputs.folder) / "rows" / f"{task.name}.json"


def execute(task: Task, timeout: float) -> Row:
    """Run a task in the child process of this thread."""
    if not hasattr(_own, "child"):
        _own.child = Child()
    return _own.child.run(task, timeout)


@contextmanager
def threads(workers: int) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """Workers of this machine: as many threads, each with a process."""
    children: list[Child] = []

    def begin() -> None:
        _own.child = Child()
        children.append(_own.child)

    executor = ThreadPoolExecutor(workers, initializer=begin)
    try:
        yield executor, lambda: workers
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.stop()  # after which no thread waits for an answer
        executor.shutdown()
        for child in children:
            child.close()


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """The workers of a Dask scheduler. They have drmime installed and see the same files as this machine; the tasks of one
    that is lost go to another, and one that joins later gets its share.

    Raises:
        InputError: Dask is not installed, no scheduler answers, or it has no workers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("a scheduler needs Dask: pip install 'drmime[distributed]'") from error
    try:
        client = Client(address, set_as_default=False, timeout=CONNECT)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"scheduler: expected the address of a Dask scheduler, got {address!r} ({error})") from error

    def workers() -> int:
        try:
            return sum(client.nthreads().values())
        except Exception as error:  # of a connection that is closed, or of a client that has closed itself
            raise InputError(GONE) from error

    with client:
        if not workers():
            raise InputError(f"scheduler {address}: it has no workers; start some first, such as 'dask worker {address}'")
        executor = client.get_executor(pure=False)  # a task is not the same as another, though its arguments are
        try:
            yield executor, workers
        finally:
            with suppress(Exception):  # of a client that has closed itself
                executor.shutdown(wait=False)


def finished(task: Task, retry: bool = False) -> bool:
    """Whether a task need not run again: it has a row, of the inputs as they are, with what it is asked to write beside it."""
    try:
        row = rows.read(path(task))
    except InputError:  # half a row, say
        return False
    if row is None or (retry and row.error):
        return False
    files = task.pair.files()
    here = [path for path in files if Path(path).is_file()]
    if row.error or len(here) < len(files):  # images that are no longer here do not undo a result
        return True
    if task.outputs.pictures and not row.pictures:
        return False
    if task.outputs.tensorboard and "peer" not in task.block and not task.curves.is_dir():
        return False
    return len(here) == len(row.inputs) and all(map(_same, here, row.inputs.values()))


def _same(path: str, was: Mapping[str, Any]) -> bool:
    """Whether an input is what it was, to the last bit: times of files say little."""
    now = Path(path).stat()
    return now.st_size == was["size"] and _digest(path, now.st_mtime_ns, now.st_ino) == was


@functools.cache
def _digest(path: str, changed: int, number: int) -> dict[str, Any]:
    """That of a file which was `changed` then, read once: every method and seed asks for it."""
    return digests([path])[path]


def _submitted(executor: Executor, task: Task, timeout: float) -> Future[Row]:
    try:
        return executor.submit(execute, task, timeout)
    except Exception as error:  # each executor raises another when it is closed
        raise InputError(GONE) from error


def _row(task: Task, future: Future[Row]) -> Row:
    """What a future holds, or a row that tells what became of it: whatever kills a worker costs no more than a row.

    Raises:
        InputError: it was cancelled, which says nothing of the task.
    """
    error = CancelledError() if future.cancelled() else future.exception()
    if isinstance(error, CancelledError):
        raise InputError(GONE) from error
    return future.result() if error is None else replace(task.unfinished(), error=in_a_line(error))
