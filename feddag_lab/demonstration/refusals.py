"""Nodes that must get nowhere: what each tries, and what it is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from feddag_flwr.deployment.keys import KeyFolder, make_keys
from feddag_lab.demonstration.federation import Federation
from feddag_lab.demonstration.node import Node

ANSWER_SECONDS = 60.0


class Refusal(NamedTuple):
    """What became of an intruder: what it tried, what it was told, whether it was turned away."""

    tries: str
    answer: str
    refused: bool


class Intruder(NamedTuple):
    """A node that should be turned away.

    Attributes
    ----------
    tries : str
        What it does, for a person.
    told : str
        Regular expression of the reason in its own log.
    node : Node
        The node, not yet started.
    """

    tries: str
    told: str
    node: Node

    def await_refusal(self, timeout: float = ANSWER_SECONDS) -> Refusal:
        """Wait for what it is told, and see whether its process has ended for it."""
        try:
            line = self.node.wait_for(self.told, timeout)
        except TimeoutError as error:  # it may have got in
            return Refusal(self.tries, f"NOT TURNED AWAY: {error}", False)
        found = re.search(self.told, line)
        assert found is not None
        ended = "" if self.node.running else " (and the node ends)"
        return Refusal(self.tries, found[0] + ended, True)


def prepare_intruders(federation: Federation, victim: str, data: Path) -> list[Intruder]:
    """Make the intruders, all on data that would fit.

    Parameters
    ----------
    federation : Federation
        Whom they would join; one without keys knows the last of them only.
    victim : str
        Name of a client that takes part.
    data : Path
        The archive that they say is theirs.

    Returns
    -------
    list[Intruder]
        A node whose key nobody registered, one that trusts another authority, and one with a good
        key and the victim's name.
    """
    makers: list[Callable[[Federation, str, Path], Intruder]] = [_impostor]
    if not federation.insecure:
        makers = [_stranger, _misled, _impostor]
    return [make(federation, victim, data) for make in makers]


def _stranger(federation: Federation, _victim: str, data: Path) -> Intruder:
    config = {"client-name": "stranger", "data-path": str(data)}
    node = federation.add_node("stranger", config, register=False, start=False)
    return Intruder(
        "a node without a registered key connects", "Failed to activate SuperNode", node
    )


def _misled(federation: Federation, _victim: str, data: Path) -> Intruder:
    make_keys(federation.home / "other-authority", [], [])
    other = KeyFolder(federation.home / "other-authority").authority
    config = {"client-name": "misled", "data-path": str(data)}
    node = federation.add_node("misled", config, root_certificates=other, start=False)
    tries = "a node with a registered key, but another authority's certificate, connects"
    return Intruder(tries, r"CERTIFICATE_VERIFY_FAILED: [\w ]+", node)


def _impostor(federation: Federation, victim: str, data: Path) -> Intruder:
    config = {"client-name": victim, "data-path": str(data)}
    node = federation.add_node("impostor", config, start=False)
    tries = f"a node that is in order otherwise says that it is {victim}"
    return Intruder(tries, r"the server leaves this client out: .*", node)
