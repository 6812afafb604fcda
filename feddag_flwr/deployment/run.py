"""One run of an app in a federation: its log as it comes, and its true end."""

import re
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO

from feddag_flwr.flower.commands import Echo, pause, read_log, tail
from feddag_flwr.flower.run_status import COMPLETED, FINISHED, TIMED_OUT, RunOutcome, parse_status

FlowerCommand = Callable[[list[str]], "subprocess.Popen[str]"]
STATUS_POLL_SECONDS = 1.0


class Run:
    """A run that was submitted.

    Its log comes through ``flwr log --stream``. That ends when the SuperLink dies, so it is begun
    anew, and the part that is known already is passed over, until Flower calls the run finished.
    `flower` starts ``flwr`` with arguments and the federation's connection, its output a pipe. The
    log is kept at `log_path`, and passed on to `stream` line by line.
    """

    def __init__(
        self, run_id: int, flower: FlowerCommand, log_path: Path, stream: IO[str] | None = None
    ) -> None:
        self.run_id = run_id
        self.log_path = log_path
        self._flower = flower
        self._started = time.monotonic()
        self._end: tuple[str, str] | None = None
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._listening: subprocess.Popen[str] | None = None
        self._follower = threading.Thread(
            target=self._follow, args=(Echo(log_path, stream),), daemon=True
        )
        self._follower.start()

    def log(self) -> str:
        """Return what the server app has logged so far, without colours."""
        return read_log(self.log_path)

    def wait_for(self, pattern: str, timeout: float) -> str:
        """Wait for a line of the log; errors as for `wait_for_line`."""
        return wait_for_line(
            self.log, pattern, timeout, f"run {self.run_id}", over=lambda: self._end is not None
        )

    def status(self) -> tuple[str, str]:
        """Ask Flower for status and details.

        `ConnectionError` where the SuperLink does not answer, or does not know the run, or the run
        has been given up.
        """
        process = self._start(["ls", "--run-id", str(self.run_id), "--format", "json"])
        status = parse_status(process.communicate()[0])
        if status is None:
            raise ConnectionError(f"Flower does not know run {self.run_id}")
        return status

    def wait(self, timeout: float) -> RunOutcome:
        """Wait until the run is finished and its log complete; one still going is ``timed-out``."""
        self._follower.join(timeout)
        status, details = self._end or (TIMED_OUT, f"still going after {timeout:g} s")
        seconds = time.monotonic() - self._started
        return RunOutcome(status == COMPLETED, status, details, seconds, self.log())

    def close(self) -> None:
        """Give up following the run: nobody may be there to ask.

        No ``flwr`` is started from here on, and the one that listens is ended, so that none
        outlives those who end the others.
        """
        with self._starting:
            self._closed.set()
        if self._listening is not None and self._listening.poll() is None:
            self._listening.terminate()

    def _start(self, arguments: list[str]) -> subprocess.Popen[str]:
        with self._starting:
            if self._closed.is_set():
                raise ConnectionAbortedError(f"run {self.run_id} has been given up")
            return self._flower(arguments)

    def _follow(self, log: Echo) -> None:
        known = 0
        with closing(log):
            while not self._closed.is_set():
                try:
                    self._listening = process = self._start(["log", str(self.run_id), "--stream"])
                except ConnectionAbortedError:
                    return
                assert process.stdout is not None
                for number, line in enumerate(process.stdout):
                    if number >= known:
                        log.write(line)
                        known += 1
                process.wait()
                try:
                    status = self.status()
                except ConnectionError:
                    status = ("", "")  # the SuperLink is down; it may come back
                if status[0].startswith(FINISHED):
                    self._end = status
                    return
                self._closed.wait(STATUS_POLL_SECONDS)


def wait_for_line(
    text: Callable[[], str],
    pattern: str,
    timeout: float,
    source: str,
    over: Callable[[], bool] = lambda: False,
) -> str:
    """Wait until a growing text has a line that a regular expression is found in; return the line.

    `text` gives all of it, `over` says whether it is complete. `TimeoutError` where there is no
    such line in time, `RuntimeError` where the text is complete and has none; both tell of
    `source`.
    """
    deadline = time.monotonic() + timeout
    expression = re.compile(pattern)
    while True:
        complete = over()
        for line in text().splitlines():
            if expression.search(line):
                return line
        if complete:
            raise RuntimeError(f"{source} ended without {pattern!r}:\n{tail(text())}")
        try:
            pause(deadline, 0.2)
        except TimeoutError:
            raise TimeoutError(
                f"{source} has no line with {pattern!r} after {timeout:g} s:\n{tail(text())}"
            ) from None
