"""A process of its own for registrations: other programs' code may crash it, and only the row that it was at is lost.

`Child` is its owner's side. The process, `python -m drmime.experiment.worker`, reads a task a line and answers with a row
a line, both JSON; when its owner is gone, however it went, it ends as well.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import IO, cast

from drmime.experiment.rows import Row
from drmime.experiment.task import Task, run

LAST_WORDS = 300  # characters of what a process said before it died


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
        if self._stopped:
            raise CancelledError
        process = self._process = self._process or _Process()
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        answer = process.ask(json.dumps(task.to_dict()))
        in_time = timer.is_alive()
        timer.cancel()
        if answer.endswith("\n"):
            return Row.from_json(answer)
        self._process = None
        end = process.end()
        return replace(task.unfinished(), error=end if in_time else f"took more than {timeout:g} seconds")

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
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, closed in `end`
        command = [sys.executable, "-m", "drmime.experiment.worker"]
        pipe = subprocess.PIPE
        # a session of its own: Ctrl-C is its owner's to handle
        self._popen = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._said, encoding="utf-8", start_new_session=True
        )
        self._to, self._from = cast(IO[str], self._popen.stdin), cast(IO[str], self._popen.stdout)
        self.kill = self._popen.kill

    def ask(self, question: str) -> str:
        """The answer, a line; less than a line where the process ended."""
        try:
            self._to.write(question + "\n")
            self._to.flush()
            return self._from.readline()
        except BrokenPipeError:
            return ""

    def end(self) -> str:
        """Wait for its end, and tell how it came."""
        with self._popen:  # closes its pipes
            status = self._popen.wait()
        with self._said as file:
            file.seek(0)
            words = " ".join(file.read().decode(errors="replace").split())[-LAST_WORDS:]
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"the process {how}" + (f"; it had said: {words}" if words else "")


def main() -> None:
    """Answer tasks until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not an answer
    tasks: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    while True:
        row = run(Task.from_dict(json.loads(tasks.get())))
        answers.write(row.to_json() + "\n")
        answers.flush()


def _listen(tasks: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)  # the owner is gone: nobody waits for what the main thread may be at


if __name__ == "__main__":
    main()
