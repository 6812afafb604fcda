"""Samples memory, file handles and threads of a run's processes, one by one, once a second."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil

# Roles by what is in a command line; the first that fits counts. Flower's simulation has its server
# app and its engine in one process.
ROLES = (
    ("Ray actors", ("ray::ClientAppActor",)),
    ("server app", ("flwr-simulation", "flwr-serverapp")),
    ("client apps", ("flwr-clientapp",)),
    ("SuperLink", ("flower-superlink",)),
    ("SuperNodes", ("deployment.supernode", "flower-supernode")),
    ("SuperExecs", ("flower-superexec",)),
    ("Ray itself", ("ray::", "/ray/")),
)
OTHER = "other"
# Processes that have ended and whose parent has not asked how: they keep their place in the table.
ENDED = "ended, not collected"
OWN = "this process"
MEGABYTE = 1e6


class Sample(NamedTuple):
    """One process at one moment.

    Parameters
    ----------
    seconds : float
        Since the sampler started.
    round : int
        Rounds that were over, the profile being one; so number of the round under way, from 1.
        0: the federation still meets and is profiled.
    role, pid : str, int
        What the process is, and its id.
    rss_mb, private_mb : float
        Resident memory, and that part of it which is no file and not shared, in MB (1e6 bytes).
    handles, threads : int
        Open file descriptors, and threads.
    """

    seconds: float
    round: int
    role: str
    pid: int
    rss_mb: float
    private_mb: float
    handles: int
    threads: int


class Sampler:
    """Samples processes in a thread of its own, for as long as the ``with`` block lasts.

    Parameters
    ----------
    find : callable
        Returns the processes that belong to the run, anew before each sample.
    lines : Path
        A file with one line a finished round; it may come late.
    period : float
        Seconds from sample to sample.

    Attributes
    ----------
    samples : list of Sample
        What was seen, in the order of time.
    """

    def __init__(
        self, find: Callable[[], Iterable[psutil.Process]], lines: Path, period: float
    ) -> None:
        self.samples: list[Sample] = []
        self._find = find
        self._lines = lines
        self._period = period
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)

    def __enter__(self) -> Sampler:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the last sample."""
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        start = time.monotonic()
        while not self._over.wait(self._period):
            done, moment = count_lines(self._lines), round(time.monotonic() - start, 2)
            samples = (take(process, moment, done) for process in self._find())
            self.samples += [sample for sample in samples if sample is not None]


def take(process: psutil.Process, seconds: float, done: int) -> Sample | None:
    """Sample one process; None where it has gone, or is about to."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return Sample(seconds, done, ENDED, process.pid, 0.0, 0.0, 0, 0)
        with process.oneshot():
            memory = process.memory_info()
            rss, private = memory.rss / MEGABYTE, (memory.rss - memory.shared) / MEGABYTE
            counts = process.num_fds(), process.num_threads()
            return Sample(seconds, done, role_of(process), process.pid, rss, private, *counts)
    except (psutil.Error, OSError):
        return None


def role_of(process: psutil.Process) -> str:
    """Return what a process is in a run, by its command line."""
    if process.pid == os.getpid():
        return OWN
    command = " ".join(process.cmdline())
    return next((role for role, marks in ROLES if any(mark in command for mark in marks)), OTHER)


def descendants() -> list[psutil.Process]:
    """Return all processes that this one started, and those that they started."""
    return psutil.Process().children(recursive=True)


def this_process() -> list[psutil.Process]:
    """Return this process alone."""
    return [psutil.Process()]


def count_lines(path: Path) -> int:
    """Count the whole lines of a file; 0 where there is none."""
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def write_samples(samples: Iterable[Sample], path: Path) -> None:
    """Write samples as CSV, a line each."""
    pd.DataFrame(samples, columns=Sample._fields).round(2).to_csv(path, index=False)
