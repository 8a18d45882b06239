"""Run registrations in a child process: if code of another program crashes it, only the current rows are lost.

`Child` is the parent's side. The process reads tasks that are run together, one line of JSON, and answers with a row for each,
one line each. It reads the pairs of the next tasks meanwhile. When its parent ends, it ends too: on Linux it is killed,
elsewhere it exits when its input ends and its interpreter is not blocked.
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
from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from typing import IO, cast

from drmime.errors import InputError
from drmime.lab.datasets.base import Pair
from drmime.lab.experiment.rows import Row
from drmime.lab.experiment.task import Task
from drmime.lab.experiment.trial import run

# printed text must not be read as an answer, even if printed during imports: stdout is redirected to stderr first
START = (
    "import os, sys; answers = os.dup(1); os.dup2(2, 1); from drmime.owner import end_with; end_with(int(sys.argv[1])); "
    "from drmime.lab.experiment.worker import main; main(answers)"
)
OUTPUT_LENGTH = 300  # characters of the last output of a process that are kept in an error
OUTPUT_BYTES = 4096  # bytes of this output that are read


class Child:
    """Runs tasks one after the other in a child process, which is replaced if it ends."""

    def __init__(self) -> None:
        self._process: _Process | None = None
        self._stopped = False

    def run(self, tasks: Sequence[Task], timeout: float, soon: Sequence[Pair] = ()) -> list[Row]:
        """The rows of tasks that are run together.

        If the process ends, or takes more than `timeout` seconds for each task, those that have no row are run one by one; a
        task alone then has a row with this error. `soon`: the pairs of the next call, which the process reads meanwhile.

        Raises:
            CancelledError: `stop` was called.
        """
        process = self._ready()
        began, limit = time.monotonic(), timeout * len(tasks)
        timer = threading.Timer(limit, process.kill)
        timer.start()
        question = {"tasks": [task.to_dict() for task in tasks], "soon": [pair.to_dict() for pair in soon]}
        lines = process.ask(json.dumps(question), len(tasks))
        rows = [_row(line, task) for line, task in zip(lines, tasks, strict=True)]
        timer.cancel()
        timer.join()  # from here on the timer has either fired or never will
        late = time.monotonic() - began >= limit
        if not late and None not in rows:
            return [row for row in rows if row is not None]
        self._process = None
        end = process.end()
        if len(tasks) == 1:
            return [replace(tasks[0].unfinished(), error=f"took more than {timeout:g} seconds" if late else end)]
        return [self.run([task], timeout)[0] if row is None else row for row, task in zip(rows, tasks, strict=True)]

    def _ready(self) -> "_Process":
        """A process that waits for a task: the current one, or a new one if that has ended."""
        if self._process is not None and self._process.ended():
            self._process.end()
            self._process = None
        process = self._process = self._process or _Process()
        if self._stopped:  # tested after the process is assigned, since `stop` kills only an assigned process
            process.kill()
            raise CancelledError
        return process

    def stop(self) -> None:
        """Kill the process, even during a task. Any thread may call this."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """Release the process. Call this when no thread runs a task."""
        if self._process is not None:
            self._process.end()


class _Process:
    def __init__(self) -> None:
        self._output = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, closed in `end`
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(os.getpid())],  # -P: do not import files of the working folder
            stdin=pipe,
            stdout=pipe,
            stderr=self._output,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            start_new_session=True,  # Ctrl-C reaches only the parent, and `kill` ends all descendants
        )
        self._to, self._from = cast(IO[str], self._popen.stdin), cast(IO[str], self._popen.stdout)

    def ended(self) -> bool:
        return self._popen.poll() is not None

    def kill(self) -> None:
        """Kill the process, and on POSIX all processes that it has started."""
        with suppress(OSError):  # it has ended already
            if hasattr(os, "killpg"):
                os.killpg(self._popen.pid, signal.SIGKILL)
            else:
                self._popen.kill()

    def ask(self, question: str, count: int) -> list[str]:
        """Send a question and return the answer, `count` lines; they lack the line end if the process ended."""
        lines: list[str] = []
        self._output.seek(0)  # both processes share the position in this file
        self._output.truncate()
        try:
            self._to.write(question + "\n")
            self._to.flush()
            for _ in range(count):
                lines.append(self._from.readline())
        except (OSError, UnicodeDecodeError):
            pass
        return lines + [""] * (count - len(lines))

    def end(self) -> str:
        """Kill the process, release its files and return how it ended, a sentence."""
        self.kill()  # no effect on a process that has ended, but on the processes that it started
        for stream in (self._to, self._from):
            with suppress(OSError):
                stream.close()
        status = self._popen.wait()
        with self._output as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - OUTPUT_BYTES))
            words = " ".join(file.read().decode(errors="replace").split())[-OUTPUT_LENGTH:]
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"the process {how}" + (f"; it had said: {words}" if words else "")


def _row(answer: str, task: Task) -> Row | None:
    """The row of `task` in an answer; None if the answer is anything else."""
    with suppress(InputError):
        row = Row.from_json(answer)
        if answer.endswith("\n") and (row.method, row.pair, row.seed) == (task.method, task.pair.name, task.seed):
            return row
    return None


def main(answers: int) -> None:
    """The loop of the child process: read tasks from stdin and write rows to the file descriptor `answers`."""
    asked = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # so that libraries cannot read tasks from stdin
    tasks: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(asked, tasks), daemon=True).start()
    file = os.fdopen(answers, "w", encoding="utf-8", closefd=False)  # it stays open until the process ends
    while True:
        question = json.loads(tasks.get())
        soon = [Pair.from_dict(pair) for pair in question["soon"]]
        for row in run([Task.from_dict(task) for task in question["tasks"]], soon):
            file.write(row.to_json() + "\n")
        file.flush()


def _listen(asked: IO[str], tasks: "queue.Queue[str]") -> None:
    for line in asked:
        tasks.put(line)
    os._exit(0)  # the parent has ended: the current task is abandoned
