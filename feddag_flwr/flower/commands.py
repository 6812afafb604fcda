"""Flower's commands: started where no other project shadows the app, waited for, listened to."""

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
    """Start a command of Flower's, for example ``flwr``, as the leader of a session of its own.

    Errors go by default where the output goes; `environment` is all of it, see
    `processes.child_environment`.
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
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [int(opened.getsockname()[1]) for opened in sockets]


def wait_listening(process: subprocess.Popen[str], ports: set[int], deadline: float) -> bool:
    """Wait until a process, and no other, serves all the ports; False when it ended before.

    `TimeoutError` when the deadline, of the monotonic clock, is over.
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
    """Sleep for a moment; `TimeoutError` when the deadline, of the monotonic clock, is over."""
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
    """Writes lines to a file, begun anew, without colours, and to a stream that may go away.

    The stream gets colours if it is a terminal.
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
