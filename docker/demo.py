"""Show the containers at work: build, run, kill a node and then the SuperLink, clean up.

Needs Python 3.11 and a Docker engine, nothing else. Exits with 0 if all went as promised, 1 if not, and
77, with a line that says why, where no Docker engine can be had.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from engine import NoEngineError, Project, find_engine

EXIT_SKIPPED = 77
COMPOSE_FILE = Path(__file__).with_name("compose.yaml")
ROUND = re.compile(r"round +(\d+)/(\d+) \|")
POLL = 1.0
DOWN_SECONDS = 120.0
# The image's own user; a person who is not root uses their own number instead.
IMAGE_USER = 10001
NODES = [f"ward-{number}" for number in range(1, 7)]
LONG_LIVED = ["superlink", "superexec", *NODES]
VICTIM = "ward-3"
NODE_DIES_AFTER_ROUND = 1
SUPERLINK_DIES_AFTER_ROUND = 3
KILL_ALL = "kill -9 -1"
CLIENT_APP, SERVER_APP = "flwr-clientapp", "flwr-serverapp"
ACTIVATED = "SuperNode ID:"


class Table:
    """What was done, what came of it, and how long it took."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float]] = []

    def add(self, what: str, result: str, seconds: float) -> None:
        """Add a row, and say it at once."""
        self.rows.append((what, result, seconds))
        say(f"{what}: {result} ({seconds:.1f} s)")

    def text(self) -> str:
        """Return the table."""
        head = ("what was done", "what happened", "seconds")
        rows = [head, *((what, result, f"{seconds:.1f}") for what, result, seconds in self.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"{what:<{widths[0]}}  {result:<{widths[1]}}  {seconds:>{widths[2]}}"
            for what, result, seconds in rows
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def say(text: str) -> None:
    """Print a line of the demonstration's own."""
    print(f"docker-demo: {text}", flush=True)


def wait(what: str, deadline: float, found: Callable[[], Any]) -> Any:  # noqa: ANN401 - as found
    """Return the first true value that `found` returns.

    Raises
    ------
    TimeoutError
        The deadline, of the monotonic clock, is over; names what was waited for.
    """
    while not (value := found()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(POLL)
    return value


class Submission:
    """The service ``submit``: shows its log, and knows which round is over.

    Parameters
    ----------
    project : Project
        Where it runs.
    """

    def __init__(self, project: Project) -> None:
        self.rounds = 0
        self._process = project.start("run", "--rm", "-T", "submit")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"  {line}", end="", flush=True)
            if found := ROUND.search(line):
                self.rounds = int(found[1])

    def wait_round(self, number: int, deadline: float) -> None:
        """Wait until a round is over.

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

    def wait_end(self, deadline: float) -> int:
        """Wait for the end; return the exit status, which says whether the run completed."""
        status = wait("the end of the run", deadline, lambda: [self._process.poll()] if
                      self._process.poll() is not None else None)  # fmt: skip
        self._reader.join()
        return int(status[0])

    def close(self) -> None:
        """Give it up."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Demonstration:
    """The steps, each with its row in the table.

    Parameters
    ----------
    project : Project
        The federation in containers.
    table : Table
        Where results go.
    deadline : float
        Of the monotonic clock.
    """

    def __init__(self, project: Project, table: Table, deadline: float) -> None:
        self.project = project
        self.table = table
        self.deadline = deadline

    def build(self, image: str) -> None:
        """Build the image."""
        say("building the image; the first time this takes minutes")
        start = time.monotonic()
        self.project.compose("build", "superlink")
        seconds = time.monotonic() - start
        size = int(self.project.docker("image", "inspect", "--format", "{{.Size}}", image))
        self.table.add("build the image", f"{image}, {size / 1e9:.2f} GB", seconds)

    def start(self) -> None:
        """Make keys and data, start all, wait until everything is healthy."""
        start = time.monotonic()
        print(self.project.compose("run", "--rm", "-T", "prepare"), end="", flush=True)
        made = "CA, certificate, secret, keys and data of 6 nodes"
        self.table.add("prepare", made, time.monotonic() - start)
        start = time.monotonic()
        self.project.compose("up", "--detach", "--no-build")
        for service in LONG_LIVED:
            container = self.project.container(service)
            wait(f"{service} to be healthy", self.deadline, lambda: self.health(container))  # noqa: B023
        print(self.project.compose("logs", "--no-color", "register"), end="", flush=True)
        healthy = f"{len(LONG_LIVED)} containers healthy, {len(NODES)} nodes registered"
        self.table.add("up", healthy, time.monotonic() - start)

    def kill_node(self, submission: Submission) -> None:
        """Kill a node while its client works; see it come back and take part again."""
        victim = self.project.container(VICTIM)
        hit = submission.rounds + 1
        self.wait_working(victim)
        activations = self.logged(victim, ACTIVATED)
        killed, back = self.kill(victim)
        what = f"SIGKILL {VICTIM} in round {hit}"
        self.table.add(what, "container restarted by its policy", back - killed)
        wait(
            f"{VICTIM} to be taken back",
            self.deadline,
            lambda: self.logged(victim, ACTIVATED) > activations,
        )
        starts = self.inspect(victim)["RestartCount"]
        result = f"same key taken back by the SuperLink, at start {starts}"
        self.table.add("", result, time.monotonic() - killed)
        submission.wait_round(hit, self.deadline)
        others = f"round {hit} over, with {self.trained_in(hit)}"
        self.table.add("", others, time.monotonic() - killed)

    def kill_superlink(self, submission: Submission) -> None:
        """Kill the SuperLink while clients work; see it come back and the run go on."""
        superlink = self.project.container("superlink")
        hit = submission.rounds + 1
        self.wait_working(self.project.container(NODES[0]))
        killed, back = self.kill(superlink)
        what = f"SIGKILL superlink in round {hit}"
        self.table.add(what, "container restarted by its policy", back - killed)
        wait("the SuperLink to be healthy", self.deadline, lambda: self.health(superlink))
        self.table.add("", "healthy", time.monotonic() - killed)
        submission.wait_round(hit, self.deadline)
        self.table.add("", f"round {hit} over, with {self.trained_in(hit)}", time.monotonic() - killed)

    def finish(self, submission: Submission, started: float) -> None:
        """Wait for the end of the run; check what it left.

        Raises
        ------
        RuntimeError
            The run did not complete, or lacks a round.
        """
        status = submission.wait_end(self.deadline)
        if status:
            raise RuntimeError(f"the run did not complete: submit exited with {status}")
        rounds = [line["round"] for line in self.metrics() if line["round"] > 0]
        if rounds != list(range(1, submission.rounds + 1)):
            raise RuntimeError(f"metrics.jsonl has the rounds {rounds}")
        back = VICTIM in self.participants(rounds[-1])
        result = f"completed, rounds 1 to {rounds[-1]}, {VICTIM} {'' if back else 'not '}in the last"
        self.table.add("the run", result, time.monotonic() - started)
        if not back:
            raise RuntimeError(f"{VICTIM} did not take part again")

    def kill(self, container: str) -> tuple[float, float]:
        """Kill every process of a container, and wait until its policy has restarted it.

        ``docker kill`` would not do: Docker takes that for a wish, and leaves the container down.

        Returns
        -------
        tuple of float
            Monotonic times: when it was killed, and when it ran again.
        """
        before = self.inspect(container)["State"]["StartedAt"]
        killed = time.monotonic()
        try:
            self.project.docker("exec", container, "sh", "-c", KILL_ALL, seconds=60)
        except RuntimeError:
            pass  # the shell goes down with the container

        def again() -> bool:
            state = self.inspect(container)["State"]
            return state["StartedAt"] != before and state["Running"]

        wait("the container to be restarted", self.deadline, again)
        return killed, time.monotonic()

    def wait_working(self, container: str) -> None:
        """Wait until a node's client works on a request."""

        def works() -> bool:
            return CLIENT_APP in self.project.docker("top", container, "-eo", "pid,args")

        wait("a client to work", self.deadline, works)

    def inspect(self, container: str) -> dict[str, Any]:
        """Return what Docker knows of a container."""
        found: list[dict[str, Any]] = json.loads(self.project.docker("inspect", container))
        return found[0]

    def health(self, container: str) -> bool:
        """Return whether a container is healthy."""
        return bool(self.inspect(container)["State"]["Health"]["Status"] == "healthy")

    def logged(self, container: str, text: str) -> int:
        """Return how often a text is in a container's log."""
        return self.project.docker("logs", container).count(text)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of the run's ``metrics.jsonl``."""
        show = "cat /var/lib/feddag/runs/*/metrics.jsonl"
        text = self.project.docker("exec", self.project.container("superexec"), "sh", "-c", show)
        return [json.loads(line) for line in text.splitlines()]

    def participants(self, server_round: int) -> list[str]:
        """Return who sent a valid update in a round."""
        (line,) = (line for line in self.metrics() if line["round"] == server_round)
        return sorted(line["trained"])

    def trained_in(self, server_round: int) -> str:
        """Say who sent a valid update in a round."""
        names = self.participants(server_round)
        missing = sorted(set(NODES) - set(names))
        return f"{len(names)} of {len(NODES)}" + (f", without {', '.join(missing)}" if missing else "")


@contextmanager
def federation_folder() -> Iterator[tuple[Path, str]]:
    """Give a folder for keys and data that the containers' user owns, and that user; remove it after."""
    folder = Path(tempfile.mkdtemp(prefix="feddag-docker-"))
    try:
        user, group = os.getuid(), os.getgid()
        if user == 0:
            user = group = IMAGE_USER
            os.chown(folder, user, group)
        yield folder, f"{user}:{group}"
    finally:
        shutil.rmtree(folder)


def demonstrate(device: str, minutes: float) -> int:
    """Run the demonstration; return the exit status."""
    deadline = time.monotonic() + 60 * minutes
    table = Table()
    with federation_folder() as (folder, user):
        environment = {
            "FEDDAG_DEVICE": device,
            "FEDDAG_FEDERATION": str(folder),
            "FEDDAG_USER": user,
        }
        project = Project(f"feddag-demo-{os.getpid()}", COMPOSE_FILE, environment, deadline)
        demonstration = Demonstration(project, table, deadline)
        failure = ""
        try:
            demonstration.build(f"feddag-flwr:{device}")
            demonstration.start()
            started = time.monotonic()
            submission = Submission(project)
            try:
                submission.wait_round(NODE_DIES_AFTER_ROUND, deadline)
                demonstration.kill_node(submission)
                submission.wait_round(SUPERLINK_DIES_AFTER_ROUND, deadline)
                demonstration.kill_superlink(submission)
                demonstration.finish(submission, started)
            finally:
                submission.close()
        except (RuntimeError, TimeoutError) as error:
            failure = str(error)
            print_logs(project)
        failure = clean_up(project, table) or failure
    print(f"\n{table.text()}\n", flush=True)
    say(f"FAILED: {failure}" if failure else "all went as promised")
    return 1 if failure else 0


def print_logs(project: Project) -> None:
    """Show the end of every container's log."""
    try:
        print(project.compose("logs", "--no-color", "--tail", "40", seconds=60), flush=True)
    except (RuntimeError, TimeoutError) as error:
        say(f"no logs: {error}")


def clean_up(project: Project, table: Table) -> str:
    """Remove containers, volumes and network; return what is wrong, else an empty text."""
    start = time.monotonic()
    try:
        project.compose("down", "--volumes", "--remove-orphans", "--timeout", "10", seconds=DOWN_SECONDS)
        left = project.left_behind()
    except (RuntimeError, TimeoutError) as error:
        return str(error)
    table.add("down", f"left behind: {', '.join(left) or 'nothing'}", time.monotonic() - start)
    return f"left behind: {', '.join(left)}" if left else ""


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Read the command line, find an engine, run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="default: cpu")
    parser.add_argument("--minutes", type=float, default=30.0, help="for all of it; default: 30")
    options = parser.parse_args()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _exit_on_signal)
    try:
        find_engine([sys.executable, *sys.argv])
        return demonstrate(options.device, options.minutes)
    except NoEngineError as error:
        print(f"SKIP: {error}", flush=True)
        return EXIT_SKIPPED


if __name__ == "__main__":
    sys.exit(main())
