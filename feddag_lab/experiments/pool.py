"""Worker processes side by side: whatever happens to one costs the job it was doing, no other.

A job is a line of JSON, ``{"function": "package.module:name", "arguments": {..}, "log": ".."}``;
its reply is described at `feddag_lab.experiments.worker.run_job`.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from feddag_lab.experiments.worker import GRACE_SECONDS

TICK_SECONDS = 1.0
# More than the worker gives its job, so that what a job has started is ended by the job.
KILL_SECONDS = GRACE_SECONDS + 5.0


@dataclass(frozen=True)
class Job:
    """A call in another process.

    Attributes
    ----------
    key : str
        The caller's name for it.
    function : str
        ``package.module:name``.
    arguments : mapping
        Keywords of the call; JSON values.
    log : Path
        File to which what the job prints is appended.
    """

    key: str
    function: str
    arguments: Mapping[str, Any]
    log: Path


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Attributes
    ----------
    failure : str or None
        What went wrong, in one line.
    seconds : float
        Wall time.
    cpu_seconds, peak_memory : float or None
        CPU time in seconds, and memory of the worker in MiB; None where it did not live to tell.
    """

    failure: str | None
    seconds: float
    cpu_seconds: float | None = None
    peak_memory: float | None = None


@dataclass(frozen=True)
class Event:
    """A job starts now (no ending) or has ended; without a job, a second or less has passed."""

    job: Job | None = None
    ending: Ending | None = None


class _Worker:
    """The runner's end of one worker process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        # A session of its own: ^C at a terminal reaches the runner alone, which then ends workers.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "feddag_lab.experiments.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self.job: Job | None = None
        self._since = 0.0
        self._received = b""

    def start(self, job: Job) -> None:
        """Hand over a job; a worker that is dead already is found when its reply is read."""
        self.job, self._since = job, time.monotonic()
        command = {"function": job.function, "arguments": job.arguments, "log": str(job.log)}
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()

    def read(self) -> Ending | None:
        """Return how the job ended, once the whole reply or the worker's death is there."""
        assert self.process.stdout is not None
        received = os.read(self.process.stdout.fileno(), 65536)
        if not received:
            return Ending(self._death(), time.monotonic() - self._since)
        self._received += received
        if not self._received.endswith(b"\n"):
            return None
        reply, self._received = json.loads(self._received), b""
        return Ending(
            reply["failure"], reply["seconds"], reply["cpu-seconds"], reply["peak-memory-mib"]
        )

    def _death(self) -> str:
        status = self.process.wait()
        if status >= 0:
            return f"its process ended with status {status}"
        name = signal.Signals(-status).name
        memory = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{memory}"

    def ask_to_stop(self) -> None:
        """End the input, and the job under way."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        if self.job is not None and self.process.poll() is None:
            self.process.terminate()

    def stop(self, deadline: float) -> None:
        """Wait for the end until `deadline`, then force it."""
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Pool:
    """Runs jobs in worker processes, each of which does many, one after another.

    Parameters
    ----------
    most : int
        Workers at most.
    has_room : callable
        From the pids of the workers and the largest peak of a worker so far (MiB, None at first)
        to whether another worker fits into the machine's memory; the first one always may.
    environment_of : callable
        From a worker's number (0, 1, ..) to environment variables of its own.
    """

    def __init__(
        self,
        most: int,
        has_room: Callable[[Sequence[int], float | None], bool],
        environment_of: Callable[[int], Mapping[str, str]],
    ) -> None:
        self.most = most
        self._has_room = has_room
        self._environment_of = environment_of
        self._workers: dict[int, _Worker] = {}
        self._selector = selectors.DefaultSelector()
        self._peak: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers, whatever they do."""
        for worker in self._workers.values():
            worker.ask_to_stop()
        deadline = time.monotonic() + KILL_SECONDS
        for worker in self._workers.values():
            worker.stop(deadline)
        self._workers.clear()
        self._selector.close()

    def work(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """Do the jobs, starting them in order, and yield what happens."""
        waiting = deque(jobs)
        while waiting or any(worker.job for worker in self._workers.values()):
            while waiting and (worker := self._free_worker()) is not None:
                job = waiting.popleft()
                yield Event(job)
                worker.start(job)
            for key, _ in self._selector.select(TICK_SECONDS):
                yield from self._read(key.data)
            yield Event()

    def _read(self, number: int) -> Iterator[Event]:
        worker = self._workers[number]
        ending = worker.read()
        if ending is None:
            return
        job, worker.job = worker.job, None
        if ending.peak_memory is None:
            self._selector.unregister(worker.process.stdout)  # type: ignore[arg-type]
            del self._workers[number]
            worker.ask_to_stop()
            worker.stop(time.monotonic())
        else:
            self._peak = max(self._peak or 0.0, ending.peak_memory)
        if job is not None:
            yield Event(job, ending)

    def _free_worker(self) -> _Worker | None:
        for worker in self._workers.values():
            if worker.job is None and worker.process.poll() is None:
                return worker
        pids = [worker.process.pid for worker in self._workers.values()]
        if len(pids) >= self.most or (pids and not self._has_room(pids, self._peak)):
            return None
        number = min(set(range(self.most)) - set(self._workers))
        worker = self._workers[number] = _Worker(self._environment_of(number))
        assert worker.process.stdout is not None
        self._selector.register(worker.process.stdout, selectors.EVENT_READ, number)
        return worker
