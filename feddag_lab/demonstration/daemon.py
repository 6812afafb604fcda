"""One long-lived command of Flower's that can be started, harmed, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from feddag_flwr.deployment.run import wait_for_line
from feddag_flwr.flower.commands import read_log, spawn, tail, wait_listening
from feddag_flwr.flower.processes import child_environment

START_SECONDS = 120.0
TERMINATE_SECONDS = 15.0
KILL_SECONDS = 15.0


class Daemon:
    """A command that leads a process group of its own, with its own folder and log.

    Parameters
    ----------
    name : str
        What messages, its folder and its log are called.
    home : Path
        The federation's folder; the daemon's own, ``home/name``, is its working directory and its
        ``FLWR_HOME``, as if it were alone on a host.
    command : Sequence[str]
        Name and arguments.
    ports : Iterable[int]
        What it listens on once it is ready.

    Attributes
    ----------
    name, folder, log_path : str, Path, Path
        As described above.
    """

    def __init__(
        self, name: str, home: Path, command: Sequence[str], ports: Iterable[int] = ()
    ) -> None:
        self.name = name
        self.folder = home / name
        self.log_path = home / f"{name}.log"
        self.command = list(command)
        self.ports = set(ports)
        self._process: subprocess.Popen[str] | None = None

    @property
    def running(self) -> bool:
        """Whether its leading process lives (a frozen one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> subprocess.Popen[str]:
        """Its leading process.

        Raises
        ------
        RuntimeError
            It was never started.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process

    def start(self) -> None:
        """Start it; it need not be ready when this returns. Its log goes on where there is one.

        Raises
        ------
        RuntimeError
            It runs already.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("a", encoding="utf-8") as log:
            self._process = spawn(
                self.command[0],
                self.command[1:],
                log,
                folder=self.folder,
                environment=child_environment(self.folder),
            )

    def wait_ready(self, timeout: float = START_SECONDS) -> None:
        """Wait until it listens on its ports.

        Raises
        ------
        RuntimeError
            It ended instead; the message has the end of its log.
        TimeoutError
            It took longer.
        """
        try:
            listens = wait_listening(self.process, self.ports, time.monotonic() + timeout)
        except TimeoutError:
            raise TimeoutError(
                f"{self.name} is not ready after {timeout:g} s:\n{tail(self.log())}"
            ) from None
        if not listens:
            raise RuntimeError(f"{self.name} ended at its start:\n{tail(self.log())}")

    def log(self) -> str:
        """Return what it has written so far, over all its starts, without colours."""
        return read_log(self.log_path)

    def wait_for(self, pattern: str, timeout: float, after: int = 0) -> str:
        """Wait until its log has a line that a regular expression is found in.

        Parameters
        ----------
        pattern : str
            The regular expression.
        timeout : float
            In seconds.
        after : int
            Characters of the log to skip, for example ``len(daemon.log())`` from before.

        Returns
        -------
        str
            The line.

        Raises
        ------
        TimeoutError
            There is none in time; the message has the end of the log.
        """
        return wait_for_line(lambda: self.log()[after:], pattern, timeout, self.name)

    def members(self) -> list[psutil.Process]:
        """Return the living processes of its group, whoever leads it by now."""
        group = self._process.pid if self._process is not None else None
        members = []
        for process in psutil.process_iter():
            try:
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and os.getpgid(process.pid) == os.getsid(process.pid) == group:
                    members.append(process)
            except (psutil.Error, OSError):
                continue
        return members

    def terminate(self, timeout: float = TERMINATE_SECONDS) -> None:
        """Ask it to end (SIGTERM to the leading process, as a service manager does), and wait.

        What has not ended after `timeout` seconds is killed.
        """
        if self.running:
            self.ask_to_end()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
        self.kill()

    def ask_to_end(self) -> None:
        """Send SIGTERM to the leading process, where it lives, and do not wait."""
        if self.running:
            self.process.send_signal(signal.SIGTERM)
            self.thaw()  # a frozen process gets its signals when it goes on

    def kill(self) -> None:
        """Kill the whole group (SIGKILL), as when a host loses power; return when it is gone."""
        deadline = time.monotonic() + KILL_SECONDS
        while self._process is not None and (self.running or self.members()):
            if time.monotonic() >= deadline:
                raise RuntimeError(f"{self.name} cannot be killed: {self.members()}")
            self._signal(signal.SIGKILL)
            try:
                self._process.wait(0.5)
            except subprocess.TimeoutExpired:
                continue
            psutil.wait_procs(self.members(), timeout=0.5)

    def freeze(self) -> None:
        """Stop the whole group where it is (SIGSTOP): alive, connected, and silent."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the whole group go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return
