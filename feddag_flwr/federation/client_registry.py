"""Names of nodes, and nodes of names."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field

from feddag_flwr.records import RecordError

logger = logging.getLogger("flwr")


@dataclass
class ClientRegistry:
    """Names of nodes, and nodes of names.

    `nodes` says where a client is, or was last; `names` the same, the other way round. With `bound`
    a name belongs to its first node for good (setting ``identity`` = node).
    """

    nodes: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    bound: bool = False

    def claim(self, name: str, node_id: int, connected: Collection[int]) -> None:
        """Bind a name to a node.

        A `RecordError` says that the name belongs to another node, which is `connected` or has it
        for good, or that the node has had another name.
        """
        holder = self.nodes.get(name, node_id)
        if holder != node_id and (self.bound or holder in connected):
            raise RecordError(f"name {name!r} belongs to another node already")
        if self.names.get(node_id, name) != name:
            raise RecordError(f"calls itself {name!r}, but has been {self.names[node_id]!r}")
        if holder != node_id:
            logger.warning("client %s is on another node now: %d, not %d", name, node_id, holder)
            del self.names[holder]
        self.nodes[name] = node_id
        self.names[node_id] = name

    def name_of(self, node_id: int) -> str:
        """Return the client's name, or the node id while the name is not known."""
        return self.names.get(node_id, f"on node {node_id}")
