"""The run under way: its log on the screen, and which round is over."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from feddag_lab.docker_demo.engine import Project

ROUND = re.compile(r"round +(\d+)/(\d+) \|")
POLL = 1.0


def wait(what: str, deadline: float, found: Callable[[], bool]) -> None:
    """Wait until something is found.

    Raises
    ------
    TimeoutError
        The deadline, of the monotonic clock, is over; names what was waited for.
    """
    while not found():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(POLL)


class SubmitService:
    """The service ``submit``: shows its log, and knows which round is over.

    Parameters
    ----------
    project : Project
        Where it runs.

    Attributes
    ----------
    rounds : int
        Rounds that are over.
    over_at : dict of int to float
        When each of them was, by the monotonic clock.
    """

    def __init__(self, project: Project) -> None:
        self.rounds = 0
        self.over_at: dict[int, float] = {}
        self._process = project.start("run", "--rm", "-T", "submit")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"  {line}", end="", flush=True)
            if found := ROUND.search(line):
                self.over_at[int(found[1])] = time.monotonic()
                self.rounds = int(found[1])

    def wait_round(self, number: int, deadline: float) -> float:
        """Wait until a round is over; return when that was, by the monotonic clock.

        Raises
        ------
        RuntimeError
            The run ended before.
        """

        def reached() -> bool:
            ended = self._process.poll() is not None
            if ended:
                self._reader.join()
            if self.rounds < number and ended:
                raise RuntimeError(f"the run ended after round {self.rounds}")
            return self.rounds >= number

        wait(f"the end of round {number}", deadline, reached)
        return self.over_at[number]

    def wait_end(self, deadline: float) -> int:
        """Wait for the end; return the exit status, which says whether the run completed."""
        wait("the end of the run", deadline, lambda: self._process.poll() is not None)
        self._reader.join()
        return self._process.wait()

    def close(self) -> None:
        """Give it up."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
