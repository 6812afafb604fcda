"""Flower's commands: started where no other project shadows the app, waited for, listened to."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import psutil

from feddag_flwr.flower.processes import executable

POLL_SECONDS = 0.1
ANSI_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def spawn(
    name: str,
    arguments: Iterable[str],
    output: int | IO[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    errors: int | IO[str] = subprocess.STDOUT,
) -> subprocess.Popen[str]:
    """Start a command of Flower's, in a session of its own.

    Parameters
    ----------
    name : str
        For example ``"flwr"``.
    arguments : Iterable[str]
        What follows the name.
    output, errors : int | IO[str]
        Where they go; errors by default where the output goes.
    folder : Path
        The working directory.
    environment : Mapping[str, str]
        All of it, see `processes.child_environment`.

    Returns
    -------
    subprocess.Popen[str]
        The process; it leads a process group.
    """
    return subprocess.Popen(
        [executable(name), *arguments],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def wait_listening(process: subprocess.Popen[str], ports: set[int], deadline: float) -> bool:
    """Wait until a process, and no other, serves the ports.

    Parameters
    ----------
    process : subprocess.Popen[str]
        Who should.
    ports : set[int]
        All of them.
    deadline : float
        Of the monotonic clock.

    Returns
    -------
    bool
        False when it ended before.

    Raises
    ------
    TimeoutError
        The deadline is over.
    """
    while process.poll() is None:
        try:
            connections = psutil.Process(process.pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        if ports <= {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}:
            return True
        pause(deadline)
    return False


def pause(deadline: float, seconds: float = POLL_SECONDS) -> None:
    """Sleep for a moment.

    Raises
    ------
    TimeoutError
        The deadline, of the monotonic clock, is over.
    """
    if time.monotonic() >= deadline:
        raise TimeoutError
    time.sleep(seconds)


def read_log(path: Path) -> str:
    """Return a log file's text, without colours; empty where there is none yet."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return ANSI_STYLE.sub("", text)


def tail(text: str, lines: int = 20) -> str:
    """Return the last lines of a text."""
    return "\n".join(text.splitlines()[-lines:])


class Echo:
    """Writes lines to a file, without colours, and to a stream that may go away.

    Parameters
    ----------
    path : Path
        The file; it is begun anew.
    stream : IO[str] | None
        Gets colours if it is a terminal.
    """

    def __init__(self, path: Path, stream: IO[str] | None) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._stream = stream
        self._coloured = stream is not None and stream.isatty()

    def write(self, line: str) -> None:
        """Write one line, its end included."""
        plain = ANSI_STYLE.sub("", line)
        self._file.write(plain)
        self._file.flush()
        if self._stream is None:
            return
        try:
            self._stream.write(line if self._coloured else plain)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
