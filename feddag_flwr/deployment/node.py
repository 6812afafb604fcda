"""One SuperNode: a client's computer, with its own key and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from feddag_flwr.deployment.daemon import Daemon
from feddag_flwr.flower.commands import free_ports
from feddag_flwr.flower.run_config import Value, write_overrides


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
    ) -> None:
        self.node_id: int | None = None
        trust = ["--insecure"]
        if root_certificates is not None:
            trust = ["--root-certificates", str(root_certificates)]
        if key is not None:
            trust += ["--auth-supernode-private-key", str(key)]
        config_path = home / f"{name}.toml"
        arguments = ["--superlink", superlink, *trust, "--node-config", str(config_path)]
        super().__init__(name, home, ["flower-supernode", *arguments])
        home.mkdir(parents=True, exist_ok=True)
        write_overrides(config, config_path)  # a file keeps quotes and spaces whole
        self._arguments = list(self.command)

    def start(self) -> None:
        """Start it, with its Runtime API on a free port; it need not be connected yet."""
        (port,) = free_ports(1)
        self.command = [*self._arguments, "--port", str(port)]
        self.ports = {port}
        super().start()
