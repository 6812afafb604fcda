"""A whole federation of real processes on this machine, for demonstrations and tests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from feddag_flwr.deployment.keys import KeyFolder, make_keys
from feddag_flwr.deployment.run import Run
from feddag_flwr.deployment.superlink import SuperLink
from feddag_flwr.flower.commands import free_ports
from feddag_flwr.flower.private_home import private_home
from feddag_flwr.flower.run_config import (
    Value,
    complete_overrides,
    read_defaults,
    write_overrides,
)
from feddag_lab.demonstration.daemon import Daemon
from feddag_lab.demonstration.node import Node

HOST = "127.0.0.1"
CONNECTION = "federation"
START_ATTEMPTS = 3
CLOSE_SECONDS = 10.0
SERVER_APP = "flwr-serverapp"


class Federation:
    """A SuperLink, its SuperExec, and SuperNodes, all of them processes of this machine.

    The server app runs under a SuperExec of its own (process isolation) and the SuperLink keeps
    its state in SQLite, so that a run outlives the SuperLink. Traffic is encrypted and nodes
    authenticate themselves with keys, unless `insecure` is asked for by name.

    Parameters
    ----------
    home : Path
        An empty folder for everything; see `federation` for one that is cleared away.
    insecure : bool
        Neither TLS nor keys.
    host : str
        The address of this machine under which nodes and users reach the SuperLink.

    Attributes
    ----------
    home, insecure, host : Path, bool, str
        As described above.
    keys : KeyFolder
        Certificates and keys, where there are any.
    superlink, superexec : Daemon
        Each can be killed and started again.
    nodes : dict[str, Node]
        By name, in the order in which they were added.
    """

    def __init__(self, home: Path, *, insecure: bool = False, host: str = HOST) -> None:
        self.home = home
        self.insecure = insecure
        self.host = host
        self.keys = KeyFolder(home / "keys")
        self.nodes: dict[str, Node] = {}
        self._user = SuperLink(home, CONNECTION)
        self._runs: list[Run] = []
        self._assign_ports()

    def start(self) -> None:
        """Make the keys, and start SuperLink and SuperExec; return when they serve.

        Raises
        ------
        RuntimeError
            One of them ended instead.
        TimeoutError
            One of them does not get ready.
        """
        if not self.insecure:
            make_keys(self.keys.root, [self.host], [])
        for attempt in range(1, START_ATTEMPTS + 1):
            self.superlink.start()
            try:
                self.superlink.wait_ready()
                break
            except RuntimeError:  # somebody else may have taken a port
                if attempt == START_ATTEMPTS:
                    raise
                self._assign_ports()
        self._write_connection()
        self.superexec.start()

    def add_node(
        self,
        name: str,
        config: Mapping[str, Value],
        *,
        register: bool = True,
        key: Path | None = None,
        root_certificates: Path | None = None,
        through: Sequence[str] = (),
        start: bool = True,
    ) -> Node:
        """Add a SuperNode; it connects by itself, also to a run under way.

        Parameters
        ----------
        name : str
            Its name here, and that of its key.
        config : Mapping[str, Value]
            Its ``--node-config``.
        register : bool
            Whether the SuperLink is told its public key.
        key, root_certificates : Path | None
            Others than its own key and the federation's authority.
        through : Sequence[str]
            Words before its command, for example ``ip netns exec NAME``.
        start : bool
            Whether it is started.

        Returns
        -------
        Node
            The node, not yet connected.
        """
        if name in self.nodes:
            raise ValueError(f"there is a node {name!r} already")
        if not self.insecure:
            if key is None:
                make_keys(self.keys.root, [], [name])
                key = self.keys.node_key(name)
            root_certificates = root_certificates or self.keys.authority
        node = Node(
            name, self.home / "nodes", self.fleet_address, config,
            root_certificates=root_certificates, key=key, through=through,
        )  # fmt: skip
        if register and not self.insecure:
            node.node_id = self.register(key.with_suffix(".pub")) if key else None
        self.nodes[name] = node
        if start:
            node.start()
        return node

    def register(self, public_key: Path) -> int:
        """Tell the SuperLink a node's public key.

        Returns
        -------
        int
            The node's id.

        Raises
        ------
        RuntimeError
            Flower refuses the key.
        """
        answer = self._user.ask(["supernode", "register", str(public_key)])
        return int(answer["node-id"])

    def unregister(self, name: str) -> None:
        """Take a node's key from the SuperLink: it is cut off."""
        node_id = self.nodes[name].node_id
        self._user.ask(["supernode", "unregister", str(node_id)])

    def node_status(self) -> dict[int, str]:
        """Return what Flower says of the nodes it knows, by node id: ``online``, ``offline``, .."""
        listed = self._user.ask(["supernode", "list"])["nodes"]
        return {int(node["node-id"]): str(node["status"]) for node in listed}

    def submit(
        self, app_dir: Path, run_config: Mapping[str, Value], stream: IO[str] | None = None
    ) -> Run:
        """Submit an app (``flwr run``).

        Parameters
        ----------
        app_dir : Path
            The folder of the app's ``pyproject.toml``.
        run_config : Mapping[str, Value]
            Settings that differ from the app's own.
        stream : IO[str] | None
            Where the log goes, line by line.

        Returns
        -------
        Run
            The run, not yet started.

        Raises
        ------
        ValueError
            The folder holds no Flower app, or the app lacks a setting.
        RuntimeError
            Flower refuses the app.
        """
        overrides = complete_overrides(run_config, read_defaults(app_dir), Path.cwd())
        arguments = ["run", str(app_dir.resolve())]
        options = []
        if overrides:
            path = self.home / f"run-{len(self._runs) + 1}.toml"
            write_overrides(overrides, path)
            options = ["--run-config", str(path)]
        run_id = int(self._user.ask(arguments, options)["run-id"])
        run = Run(run_id, self._user.flower, self.home / f"run-{len(self._runs) + 1}.log", stream)
        self._runs.append(run)
        return run

    def server_app(self) -> psutil.Process | None:
        """Return the process of the server app that runs now, if one does."""
        for process in self.superexec.members():
            try:
                if any(Path(word).name == SERVER_APP for word in process.cmdline()):
                    return process
            except psutil.Error:
                continue
        return None

    def restart_superlink(self) -> None:
        """Kill the SuperLink, and start it again with the same addresses and database."""
        self.superlink.kill()
        self.superlink.start()
        self.superlink.wait_ready()

    def close(self) -> None:
        """End every process: nodes first, so that they take their leave, whatever goes wrong."""
        for run in self._runs:
            run.close()
        daemons = [*self.nodes.values(), self.superexec, self.superlink]
        for daemon in daemons:
            daemon.ask_to_end()
        deadline = time.monotonic() + CLOSE_SECONDS
        for daemon in daemons:
            daemon.terminate(max(0.0, deadline - time.monotonic()))

    def _assign_ports(self) -> None:
        fleet, control, runtime = free_ports(3)
        self.fleet_address = f"{self.host}:{fleet}"
        self.control_address = f"{self.host}:{control}"
        trust = ["--insecure"]
        if not self.insecure:
            trust = [
                "--ssl-ca-certfile", str(self.keys.authority),
                "--ssl-certfile", str(self.keys.server),
                "--ssl-keyfile", str(self.keys.server_key),
                "--enable-supernode-auth",
            ]  # fmt: skip
        superlink = [
            "flower-superlink", *trust, "--isolation", "process",
            "--fleet-api-address", self.fleet_address,
            "--control-api-address", self.control_address,
            "--host", HOST, "--port", str(runtime),
            "--database", str(self.home / "superlink.db"),
        ]  # fmt: skip
        # What goes between the two stays on this machine: no TLS, but not everybody may ask.
        superexec = [
            "flower-superexec", "--insecure", "--plugin-type", "serverapp",
            "--runtime-api-address", f"{HOST}:{runtime}",
        ]  # fmt: skip
        if not self.insecure:
            secret = ["--superexec-auth-secret-file", str(self.keys.superexec_secret)]
            superlink += secret
            superexec += secret
        self.superlink = Daemon("superlink", self.home, superlink, [fleet, control, runtime])
        self.superexec = Daemon("superexec", self.home, superexec)

    def _write_connection(self) -> None:
        trust = "insecure = true"
        if not self.insecure:
            trust = f"root-certificates = {json.dumps(str(self.keys.authority))}"
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n\n'
            f'[superlink.{CONNECTION}]\naddress = "{self.control_address}"\n{trust}\n',
            encoding="utf-8",
        )


@contextmanager
def federation(*, insecure: bool = False, host: str = HOST) -> Iterator[Federation]:
    """Start a federation without nodes; on leaving, end every process and clear all files away.

    Parameters
    ----------
    insecure : bool
        Neither TLS nor keys.
    host : str
        The address of this machine under which nodes and users reach the SuperLink.

    Yields
    ------
    Federation
        Ready for nodes and runs.
    """
    with private_home() as home:
        made = Federation(home, insecure=insecure, host=host)
        try:
            made.start()
            yield made
        finally:
            made.close()
