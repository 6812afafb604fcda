"""A Docker engine and its compose command, found or borrowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LENDER = Path(__file__).resolve().parents[3] / "shared" / "tools" / "docker-engine.sh"
LENDER_VARIABLE = "FEDDAG_DOCKER_ENGINE"
BORROWED_VARIABLE = "FEDDAG_DOCKER_BORROWED"
ANSWER_SECONDS = 30.0


class NoEngineError(Exception):
    """There is no Docker engine to be had; the message says why."""


def _succeeds(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    try:
        done = subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def find_engine(command: Sequence[str]) -> None:
    """Return if a Docker engine answers; else run a command of this machine's that lends one.

    Such a command is given in the environment variable FEDDAG_DOCKER_ENGINE, or lies where this
    project's own machines have it; it takes another command and runs it with an engine.

    Parameters
    ----------
    command : Sequence[str]
        What to run once there is an engine: this process's own. The function does not return then.

    Raises
    ------
    NoEngineError
        If no engine answers and nobody lends one.
    """
    if _succeeds("docker", "info"):
        return
    lender = Path(os.environ.get(LENDER_VARIABLE) or LENDER)
    if os.environ.get(BORROWED_VARIABLE) or not os.access(lender, os.X_OK):
        raise NoEngineError("no Docker engine answers (`docker info` fails)")
    print(f"no Docker engine answers; borrowing one from {lender.name}", flush=True)
    os.environ[BORROWED_VARIABLE] = "1"
    sys.stdout.flush()
    # The operator names the lender in the environment.
    os.execv(lender, [str(lender), *command])  # noqa: S606


def find_compose() -> list[str]:
    """Return the compose command.

    Raises
    ------
    NoEngineError
        If there is neither ``docker compose`` nor ``docker-compose``.
    """
    for command in (["docker", "compose"], ["docker-compose"]):
        if _succeeds(*command, "version"):
            return command
    raise NoEngineError("there is neither `docker compose` nor `docker-compose`")


class Project:
    """A compose file brought to life under a name of its own.

    Parameters
    ----------
    name : str
        Of the project: a prefix of its containers, volumes and network.
    file : Path
        The compose file.
    environment : Mapping[str, str]
        What the file's variables are taken from, beside this process's environment.
    deadline : float
        Of the monotonic clock; no command lasts longer.
    """

    def __init__(
        self, name: str, file: Path, environment: Mapping[str, str], deadline: float
    ) -> None:
        self.name = name
        self.deadline = deadline
        self._prefix = [*find_compose(), "--project-name", name, "--file", str(file)]
        self._environment = {**os.environ, **environment}
        if not _succeeds("docker", "buildx", "version"):
            self._environment["DOCKER_BUILDKIT"] = "0"

    def compose(self, *arguments: str, seconds: float | None = None) -> str:
        """Run a compose command to its end.

        Parameters
        ----------
        *arguments : str
            The command and its options.
        seconds : float or None
            How long it may take; by default until the deadline.

        Returns
        -------
        str
            What it printed.

        Raises
        ------
        RuntimeError
            If it failed; with the end of what it printed.
        TimeoutError
            If it took too long.
        """
        return _finish([*self._prefix, *arguments], self._environment, self._left(seconds))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a compose command whose output the caller reads."""
        return subprocess.Popen(
            [*self._prefix, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def docker(self, *arguments: str, seconds: float | None = None) -> str:
        """Run a ``docker`` command to its end; as `compose`."""
        return _finish(["docker", *arguments], self._environment, self._left(seconds))

    def container(self, service: str) -> str:
        """Return the id of a service's container.

        Raises
        ------
        RuntimeError
            If it has none.
        """
        found = self.compose("ps", "--quiet", service).split()
        if not found:
            raise RuntimeError(f"service {service!r} has no container")
        return found[-1]

    def left_behind(self) -> list[str]:
        """Return the project's containers, volumes and networks, running or not."""
        mine = f"label=com.docker.compose.project={self.name}"
        found = []
        for kind, options in (("container", ["--all"]), ("volume", []), ("network", [])):
            listed = self.docker(kind, "ls", "--quiet", *options, "--filter", mine, seconds=60)
            found += [f"{kind} {name}" for name in listed.split()]
        return found

    def _left(self, seconds: float | None) -> float:
        if seconds is not None:
            return seconds
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for all of it is over")
        return left


def _finish(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> str:
    words = " ".join(command)
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"`{words}` was not over after {seconds:.0f} s") from None
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-30:])
        raise RuntimeError(f"`{words}` exited with {done.returncode}:\n{end}")
    return done.stdout
