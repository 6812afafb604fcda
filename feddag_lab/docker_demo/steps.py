"""The steps of the demonstration, each with its row in the table."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

from feddag_lab.docker_demo.engine import Project
from feddag_lab.docker_demo.progress import StepTable, say
from feddag_lab.docker_demo.submission import SubmitService, wait

NODES = [f"ward-{number}" for number in range(1, 7)]
LONG_LIVED = ["superlink", "superexec", *NODES]
VICTIM = "ward-3"
FLEET, CONTROL = 9092, 9093
NODE_DIES_AFTER_ROUND = 1
SUPERLINK_DIES_AFTER_ROUND = 3
# All processes but the container's init, which ends when its only child does.
KILL_ALL = "kill -9 -1"
CLIENT_APP = "flwr-clientapp"
ACTIVATED = "SuperNode ID:"


class ContainerDemo:
    """The steps, each with its row in the table.

    Parameters
    ----------
    project : Project
        The federation in containers.
    table : StepTable
        Where results go.
    deadline : float
        Of the monotonic clock.
    """

    def __init__(self, project: Project, table: StepTable, deadline: float) -> None:
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
        self.project.compose("run", "--rm", "-T", "prepare")
        made = "CA, certificate, secret, keys and data of 6 nodes"
        self.table.add("prepare", made, time.monotonic() - start)
        start = time.monotonic()
        self.project.compose("up", "--detach", "--no-build")
        for service in LONG_LIVED:
            self.wait_healthy(service)
        healthy = f"{len(LONG_LIVED)} containers healthy, {len(NODES)} nodes registered"
        self.table.add("up", healthy, time.monotonic() - start)
        self.check_control()

    def check_control(self) -> None:
        """Knock at the SuperLink from a node: its Fleet API must answer, its Control API must not.

        Raises
        ------
        RuntimeError
            It is otherwise.
        """
        start = time.monotonic()
        knocks = {port: self.answers(VICTIM, "superlink", port) for port in (FLEET, CONTROL)}
        if knocks != {FLEET: True, CONTROL: False}:
            raise RuntimeError(f"from a node, ports of the SuperLink that answer: {knocks}")
        self.table.add(f"{VICTIM} knocks at the Control API", "refused", time.monotonic() - start)

    def answers(self, service: str, host: str, port: int) -> bool:
        """Tell whether a port of a host takes connections from a container."""
        code = f"import socket; socket.create_connection(({host!r}, {port}), 5)"
        try:
            self.project.docker("exec", self.project.container(service), "python", "-c", code)
        except RuntimeError:
            return False
        return True

    def run(self) -> None:
        """Submit a run, and harm the federation while it goes on."""
        started = time.monotonic()
        submission = SubmitService(self.project)
        try:
            submission.wait_round(NODE_DIES_AFTER_ROUND, self.deadline)
            self.kill_node(submission)
            submission.wait_round(SUPERLINK_DIES_AFTER_ROUND, self.deadline)
            self.kill_superlink(submission)
            self.finish(submission, started)
        finally:
            submission.close()

    def kill_node(self, submission: SubmitService) -> None:
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
        over = submission.wait_round(hit, self.deadline)
        self.table.add("", f"round {hit} over, with {self.trained_in(hit)}", over - killed)

    def kill_superlink(self, submission: SubmitService) -> None:
        """Kill the SuperLink while clients work; see it come back and the run go on."""
        superlink = self.project.container("superlink")
        hit = submission.rounds + 1
        self.wait_working(self.project.container(NODES[0]))
        killed, back = self.kill(superlink)
        what = f"SIGKILL the SuperLink in round {hit}"
        self.table.add(what, "container restarted by its policy", back - killed)
        self.wait_healthy("superlink")
        self.table.add("", "healthy", time.monotonic() - killed)
        over = submission.wait_round(hit, self.deadline)
        result = f"the same run goes on: round {hit} over, with {self.trained_in(hit)}"
        self.table.add("", result, over - killed)

    def finish(self, submission: SubmitService, started: float) -> None:
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
        result = (
            f"completed, rounds 1 to {rounds[-1]}, {VICTIM} {'' if back else 'not '}in the last"
        )
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
        with suppress(RuntimeError):  # the shell goes down with the container
            self.project.docker("exec", container, "sh", "-c", KILL_ALL, seconds=60)

        def again() -> bool:
            state = self.inspect(container)["State"]
            return bool(state["StartedAt"] != before and state["Running"])

        wait("the container to be restarted", self.deadline, again)
        return killed, time.monotonic()

    def wait_working(self, container: str) -> None:
        """Wait until a node's client works on a request."""

        def works() -> bool:
            return CLIENT_APP in self.project.docker("top", container, "-eo", "pid,args")

        wait("a client to work", self.deadline, works)

    def wait_healthy(self, service: str) -> None:
        """Wait until a service's container is healthy."""
        container = self.project.container(service)

        def healthy() -> bool:
            return bool(self.inspect(container)["State"]["Health"]["Status"] == "healthy")

        wait(f"{service} to be healthy", self.deadline, healthy)

    def inspect(self, container: str) -> dict[str, Any]:
        """Return what Docker knows of a container."""
        found: list[dict[str, Any]] = json.loads(self.project.docker("inspect", container))
        return found[0]

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
        return sorted(set(line["sampled"]) - set(line["failed"]))

    def trained_in(self, server_round: int) -> str:
        """Say who sent a valid update in a round."""
        names = self.participants(server_round)
        missing = sorted(set(NODES) - set(names))
        return f"{len(names)} of {len(NODES)}" + (
            f", without {', '.join(missing)}" if missing else ""
        )
