"""Run a `Job` by threads of this machine or by the workers of a Dask scheduler, within a limit of memory."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from drmime.cluster import GONE, cluster
from drmime.errors import InputError, number, whole
from drmime.tiled.draft import JOB, Draft, folder_of
from drmime.tiled.job import Job

MEMORY = 2.0  # GiB for tiles that are computed at once
MOST_WORKERS = 1024
IN_FLIGHT = 2  # submitted tiles for each worker: one computed and one waiting


def warp_tiles(
    job: Job, path: Path, *, workers: int | None = None, memory: float = MEMORY, scheduler: str = "", progress: bool = False
) -> None:
    """Write the result of a job to `path`: OME-Zarr (.zarr) or pyramidal OME-TIFF (.tif, .tiff).

    Args:
        workers: tiles computed at once; by default one for each core. Fewer if they would exceed `memory`.
        memory: GiB for the tiles that are computed at once.
        scheduler: the address of a Dask scheduler, whose workers compute the tiles; they need the same files at the same paths.
        progress: show a bar on stderr, where that is a terminal.

    Raises:
        InputError: an option that cannot be used, a damaged source, a place that cannot be written.
    """
    most = whole("workers", _cores() if workers is None else workers, 1, MOST_WORKERS)
    fitting = max(1, int(number("memory", memory, 0) * 2**30 / job.largest))
    draft = Draft(path, job)
    hidden = not (progress and sys.stderr.isatty())
    with draft.begun():
        missing = [draft.missing(level) for level in range(len(job.levels))]
        with (
            tqdm(total=sum(map(len, missing)), desc="tiles", disable=hidden, leave=False) as bar,
            cluster(scheduler) if scheduler else _threads(min(most, fitting)) as (executor, count),
        ):
            task = functools.partial(_remote, str(draft.path)) if scheduler else draft.make
            for level, numbers in enumerate(missing):  # each is made of the one before
                _each(executor, count, functools.partial(task, level), numbers, bar)
        draft.finish()


@contextmanager
def _threads(count: int) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """Threads: reading, decoding and interpolation leave Python's lock to the others. After an error nothing more begins."""
    executor = ThreadPoolExecutor(count)
    try:
        yield executor, lambda: count
    finally:
        executor.shutdown(cancel_futures=True)


def _each(executor: Executor, workers: Callable[[], int], task: Callable[[int], None], numbers: list[int], bar: Any) -> None:
    """Run a task for each number, few at a time."""
    waiting, running = iter(numbers), set[Future[None]]()
    while True:
        for one in waiting:
            running.add(executor.submit(task, one))
            if len(running) >= IN_FLIGHT * workers():
                break
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                future.result()
            except InputError:
                raise
            except Exception as error:
                if type(error).__module__.partition(".")[0] == "distributed":
                    raise InputError(GONE) from error
                raise
            bar.update()


def _remote(path: str, level: int, number: int) -> None:
    """Make one tile in another process, from the job in the draft."""
    _draft(path).make(level, number)


@functools.lru_cache(maxsize=1)
def _draft(path: str) -> Draft:
    place = Path(path)
    return Draft(place, Job.load(folder_of(place) / JOB))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
