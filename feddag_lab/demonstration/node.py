"""One SuperNode: a client's computer, with its own key and data."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from feddag_flwr.flower.commands import free_ports, pause, tail
from feddag_flwr.flower.run_config import Value, write_overrides
from feddag_lab.demonstration.daemon import Daemon

CONNECTED = re.compile(r"SuperNode ID: \d+")
CONNECT_SECONDS = 180.0
RESTART_SECONDS = 1.0


class Node(Daemon):
    """A SuperNode.

    Parameters
    ----------
    name : str
        Of its folder and log.
    home : Path
        The federation's folder.
    superlink : str
        Address of the Fleet API.
    config : Mapping[str, Value]
        Its ``--node-config``, for example ``client-name`` and ``data-path``.
    root_certificates : Path | None
        What it trusts; None for a federation without TLS.
    key : Path | None
        Its private key; None for a node that does not authenticate itself.
    through : Sequence[str]
        Words before its command, for example ``ip netns exec NAME``.

    Attributes
    ----------
    node_id : int | None
        What Flower calls it, where it was registered.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        superlink: str,
        config: Mapping[str, Value],
        *,
        root_certificates: Path | None,
        key: Path | None,
        through: Sequence[str] = (),
    ) -> None:
        self.node_id: int | None = None
        trust = ["--insecure"]
        if root_certificates is not None:
            trust = ["--root-certificates", str(root_certificates)]
        if key is not None:
            trust += ["--auth-supernode-private-key", str(key)]
        config_path = home / f"{name}.toml"
        arguments = ["--superlink", superlink, *trust, "--node-config", str(config_path)]
        # Not flower-supernode itself, which lives on when it has failed.
        supernode = [*through, sys.executable, "-m", "feddag_flwr.deployment.supernode"]
        super().__init__(name, home, [*supernode, *arguments])
        home.mkdir(parents=True, exist_ok=True)
        write_overrides(config, config_path)  # a file keeps quotes and spaces whole
        self._arguments = list(self.command)

    def connect(self, timeout: float = CONNECT_SECONDS) -> None:
        """Start it, again and again while it ends, until the SuperLink has taken it.

        As a service manager would: after a node was killed, the SuperLink takes it to be still
        there for a minute, and refuses its key.

        Raises
        ------
        TimeoutError
            It was not taken in time; the message has the end of its log.
        """
        deadline = time.monotonic() + timeout
        known = len(self.log())
        while not CONNECTED.search(self.log()[known:]):
            if not self.running:
                self.kill()  # what its leading process has left behind
                self.start()
            try:
                pause(deadline, RESTART_SECONDS)
            except TimeoutError:
                raise TimeoutError(
                    f"{self.name} is not connected after {timeout:g} s:\n{tail(self.log())}"
                ) from None

    def start(self) -> None:
        """Start it, with its Runtime API on a free port; it need not be connected yet."""
        (port,) = free_ports(1)
        self.command = [*self._arguments, "--port", str(port)]
        self.ports = {port}
        super().start()
