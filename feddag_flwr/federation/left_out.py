"""What a run does without, and why: for the closing table and ``summary.json``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypedDict

# Kinds of messages that a client takes part after; what went wrong with them before is no matter.
_COMING_IN = frozenset({"describe", "prepare", "profile"})


class Kept(TypedDict):
    """What a checkpoint keeps of it."""

    clients: list[list[str]]
    files: dict[str, int]
    columns: dict[str, list[str]]


class LeftOut:
    """Clients whose replies could not be used, files that clients pass over, columns of tables.

    Of a client and a kind of message the last reason counts.
    """

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], str] = {}
        self._files: dict[str, Any] = {}
        self._columns: dict[str, Any] = {}

    def note_client(self, client: str, kind: str, reason: str) -> None:
        """Note that a client's reply to a kind of message could not be used."""
        self._clients[client, kind] = reason

    def note_data(self, client: str, files: int, columns: Collection[str]) -> None:
        """Note how many files a client passes over, and columns that the federation has not."""
        for noted, new in ((self._files, files), (self._columns, list(columns))):
            noted.pop(client, None)
            if new:
                noted[client] = new

    def summary(
        self,
        members: Collection[str],
        nodes: Collection[int],
        sit_out: Mapping[str, str],
        classes: Collection[str],
    ) -> dict[str, Any]:
        """Return what was left out at the end of a run; empty where that is nothing.

        Parameters
        ----------
        members : collection of str
            Clients that take part: what kept them from it before is no matter.
        nodes : collection of int
            Nodes whose clients have names by now.
        sit_out : mapping of str to str
            Clients that took part and do not any more, and why.
        classes : collection of str
            Classes of which nobody has a test sample.
        """
        named = {f"on node {node}" for node in nodes}
        noted = [
            {"client": client, "at": kind, "reason": reason}
            for (client, kind), reason in sorted(self._clients.items())
            if client not in named and not (client in members and kind in _COMING_IN)
        ]
        noted += [
            {"client": client, "at": "the end", "reason": reason}
            for client, reason in sorted(sit_out.items())
        ]
        found = {
            "clients": noted,
            "files": dict(sorted(self._files.items())),
            "columns": dict(sorted(self._columns.items())),
            "classes": list(classes),
        }
        return {what: which for what, which in found.items() if which}

    def state_dict(self) -> Kept:
        """Return what a checkpoint keeps."""
        clients = [[*key, reason] for key, reason in sorted(self._clients.items())]
        files, columns = (dict(sorted(each.items())) for each in (self._files, self._columns))
        return {"clients": clients, "files": files, "columns": columns}

    def load_state_dict(self, kept: Kept) -> None:
        """Take over what `state_dict` returned."""
        self._clients = {(client, kind): reason for client, kind, reason in kept["clients"]}
        self._files, self._columns = dict(kept["files"]), dict(kept["columns"])

    @property
    def anything(self) -> bool:
        """Whether there is anything that a checkpoint has to keep."""
        return bool(self._clients or self._files or self._columns)
