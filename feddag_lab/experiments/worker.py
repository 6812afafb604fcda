"""A process that does one job after another: ``python -m feddag_lab.experiments.worker``.

A job comes as one line of JSON on the standard input, and its reply leaves as one line on the
standard output; see `feddag_lab.experiments.pool` for both. What a job itself prints goes to the
log that it names. When the input ends, because the runner is done or is gone, so does the worker.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

# Seconds that a job gets to clean up when it is asked to stop.
GRACE_SECONDS = 20.0
EXIT_STOPPED = 3


class Stopped(BaseException):
    """The worker must stop now; no job may take this for an error of its own."""


def main() -> None:
    """Do the jobs that come, until there are no more."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):  # logs are UTF-8, wherever the runner is at work
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    jobs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    commands = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    _point(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    _point(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    busy = threading.Event()
    threading.Thread(target=_listen, args=(commands, jobs, busy), daemon=True).start()
    try:
        while (job := jobs.get()) is not None:
            reply = run_job(job)
            busy.clear()
            replies.write(json.dumps(reply) + "\n")
            replies.flush()
    except (Stopped, BrokenPipeError):
        os._exit(EXIT_STOPPED)


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Call a job's function.

    Parameters
    ----------
    job : dict
        ``function`` (``package.module:name``), ``arguments`` (keywords for it) and ``log`` (file
        to which what it prints is appended).

    Returns
    -------
    dict
        ``failure`` (None, or what went wrong in one line), ``seconds``, ``cpu-seconds`` (of this
        process and its ended children) and ``peak-memory-mib`` (of this process, so far).
    """
    import resource  # not on Windows

    start, cpu = time.perf_counter(), sum(os.times()[:4])
    failure = None
    try:
        with _output_to(Path(job["log"])):
            _call(job)
    except (Exception, SystemExit) as error:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        failure = f"{type(error).__name__}: {first}"
    return {
        "failure": failure,
        "seconds": round(time.perf_counter() - start, 3),
        "cpu-seconds": round(sum(os.times()[:4]) - cpu, 3),
        "peak-memory-mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _call(job: dict[str, Any]) -> None:
    """Call a job's function; an error is printed, to the log, before it is passed on."""
    try:
        module, _, name = job["function"].partition(":")
        getattr(importlib.import_module(module), name)(**job["arguments"])
    except (Exception, SystemExit):
        traceback.print_exc()
        raise


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send what this process and its children print to a file, that of C code included."""
    log.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    outputs = (sys.stdout, sys.stderr)
    before = [os.dup(stream.fileno()) for stream in outputs]
    for stream in outputs:
        stream.flush()
        os.dup2(target, stream.fileno())
    os.close(target)
    try:
        yield
    finally:
        for stream, descriptor in zip(outputs, before, strict=True):
            stream.flush()
            _point(descriptor, stream.fileno())


def _point(source: int, target: int) -> None:
    os.dup2(source, target)
    os.close(source)


def _listen(
    commands: Any,  # noqa: ANN401 - a binary stream
    jobs: queue.SimpleQueue[dict[str, Any] | None],
    busy: threading.Event,
) -> None:
    """Queue the jobs; when the input ends amid one, end that too, and the process in any case."""
    for line in commands:
        busy.set()
        jobs.put(json.loads(line))
    jobs.put(None)
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        with suppress(OSError):
            os._exit(EXIT_STOPPED)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    main()
