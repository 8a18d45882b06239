"""The workers of a Dask scheduler, as an executor."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress

from drmime.errors import InputError

CONNECT = 10  # seconds to wait for a connection to the scheduler
GONE = "the scheduler is gone; the same command goes on from here"


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """The workers of a Dask scheduler, as an executor and a function that returns their number.

    Workers need drmime and the same files as this machine. Tasks of a lost worker go to another; workers may join later.

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
        except Exception as error:  # raised by a closed connection or a closed client
            raise InputError(GONE) from error

    with client:
        if not workers():
            raise InputError(f"scheduler {address}: it has no workers; start some first, such as 'dask worker {address}'")
        executor = client.get_executor(pure=False)  # tasks with equal arguments are run again, not taken from a cache
        try:
            yield executor, workers
        finally:
            with suppress(Exception):  # raised by a closed client
                executor.shutdown(wait=False)
