"""A process of its own for registrations: other programs' code may crash it, and only the row that it was at is lost.

`Child` is its owner's side. The process reads a task a line and answers with a row a line, both JSON. When its owner is gone,
however it went, it ends as well: Linux kills it, elsewhere it ends once its input has ended and its interpreter is not held.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from typing import IO, cast

from drmime.errors import InputError
from drmime.lab.experiment.rows import Row
from drmime.lab.experiment.task import Task, run

# what is printed is not an answer, not even what is printed while modules are imported
START = (
    "import os, sys; answers = os.dup(1); os.dup2(2, 1); from drmime.owner import end_with; end_with(int(sys.argv[1])); "
    "from drmime.lab.experiment.worker import main; main(answers)"
)
LAST_WORDS = 300  # characters of what a process said before it died
TAIL = 4096  # bytes of it that are read


class Child:
    """Runs one task after the other in a process of its own, which is replaced when it dies."""

    def __init__(self) -> None:
        self._process: _Process | None = None
        self._stopped = False

    def run(self, task: Task, timeout: float) -> Row:
        """The row of `task`; a process that dies, or takes more than `timeout` seconds, gives a row that says so.

        Raises:
            CancelledError: `stop` was called.
        """
        process = self._ready()
        began = time.monotonic()
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        row = _row(process.ask(json.dumps(task.to_dict())), task)
        timer.cancel()
        timer.join()  # from here on it has fired or never will
        late = time.monotonic() - began >= timeout
        if row is not None and not late:
            return row
        self._process = None
        end = process.end()
        return replace(task.unfinished(), error=f"took more than {timeout:g} seconds" if late else end)

    def _ready(self) -> "_Process":
        """A process that waits for a task: the last one, if it has not died meanwhile."""
        if self._process is not None and self._process.ended():
            self._process.end()
            self._process = None
        process = self._process = self._process or _Process()
        if self._stopped:  # asked for only now, since `stop` kills what it sees
            process.kill()
            raise CancelledError
        return process

    def stop(self) -> None:
        """End the process, whatever it is at; any thread may call this."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """Clear away what is left, once no thread runs a task."""
        if self._process is not None:
            self._process.end()


class _Process:
    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, closed in `end`
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(os.getpid())],  # -P: a file of the working folder is no module
            stdin=pipe,
            stdout=pipe,
            stderr=self._said,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            start_new_session=True,  # Ctrl-C is its owner's to handle; and `kill` ends all that it has started
        )
        self._to, self._from = cast(IO[str], self._popen.stdin), cast(IO[str], self._popen.stdout)

    def ended(self) -> bool:
        return self._popen.poll() is not None

    def kill(self) -> None:
        """It, and on POSIX all that it has started."""
        with suppress(OSError):  # gone already
            if hasattr(os, "killpg"):
                os.killpg(self._popen.pid, signal.SIGKILL)
            else:
                self._popen.kill()

    def ask(self, question: str) -> str:
        """The answer, a line; less than a line where the process ended."""
        self._said.seek(0)  # of both processes, which share the place
        self._said.truncate()
        try:
            self._to.write(question + "\n")
            self._to.flush()
            return self._from.readline()
        except (OSError, UnicodeDecodeError):
            return ""

    def end(self) -> str:
        """Have it end, and tell how it came."""
        self.kill()  # which does nothing to one that is ending, but to what it has left
        for stream in (self._to, self._from):
            with suppress(OSError):
                stream.close()
        status = self._popen.wait()
        with self._said as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            words = " ".join(file.read().decode(errors="replace").split())[-LAST_WORDS:]
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"the process {how}" + (f"; it had said: {words}" if words else "")


def _row(answer: str, task: Task) -> Row | None:
    """The row of `task` in an answer; None where it is something else."""
    with suppress(InputError):
        row = Row.from_json(answer)
        if answer.endswith("\n") and (row.method, row.pair, row.seed) == (task.method, task.pair.name, task.seed):
            return row
    return None


def main(answers: int) -> None:
    """Answer tasks, in the file `answers`, until the input ends."""
    asked = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what libraries read is not a task
    tasks: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(asked, tasks), daemon=True).start()
    file = os.fdopen(answers, "w", encoding="utf-8", closefd=False)  # its end is the end of the process, and not before
    while True:
        file.write(run(Task.from_dict(json.loads(tasks.get()))).to_json() + "\n")
        file.flush()


def _listen(asked: IO[str], tasks: "queue.Queue[str]") -> None:
    for line in asked:
        tasks.put(line)
    os._exit(0)  # the owner is gone: nobody waits for what the main thread may be at
