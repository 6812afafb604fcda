"""Who takes part: from anonymous nodes to clients with names (the roll call)."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Message

from feddag_flwr.class_names import in_other_writing, unknown_classes, warn_of_similar_names
from feddag_flwr.exchange import Exchange
from feddag_flwr.records import (
    DESCRIBE_ACTION,
    MAX_NAMES,
    REJECTION_ACTION,
    DescribeRequest,
    Description,
    RecordError,
    Rejection,
)
from feddag_flwr.settings import Settings, class_list
from feddag_flwr.state import Client

logger = logging.getLogger("flwr")

# Seconds between two looks at which nodes are there.
JOIN_POLL = 0.5
MIN_CLIENTS = 2
# A deviation below this is that of a constant channel, rounded.
MIN_DEVIATION = 1e-4
# Weight of a client in the pixel scale, in medians of the clients' sample counts.
MOST_WEIGHT = 10


class FederationError(RuntimeError):
    """The federation cannot go on: too few clients, or none that agree."""


@dataclass
class ClientRegistry:
    """Names of nodes, and nodes of names.

    Attributes
    ----------
    nodes : dict of str to int
        Node that a client is, or was last.
    names : dict of int to str
        The same, the other way round.
    bound : bool
        Whether a name belongs to its first node for good (setting ``identity`` = node).
    """

    nodes: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    bound: bool = False

    def claim(self, name: str, node_id: int, connected: Collection[int]) -> None:
        """Bind a name to a node.

        Parameters
        ----------
        name : str
            What the node calls itself.
        node_id : int
            The node.
        connected : collection of int
            Nodes that are there now.

        Raises
        ------
        RecordError
            The name belongs to another node, or the node has had another name.
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


def wait_for_nodes(exchange: Exchange, settings: Settings) -> list[int]:
    """Wait for the nodes of a new run: ``num-clients``, or ``min-clients`` after a while."""
    enough = settings.min_clients or settings.num_clients
    return await_nodes(exchange, settings, settings.num_clients, enough=enough)


def await_nodes(exchange: Exchange, settings: Settings, expected: int, *, enough: int) -> list[int]:
    """Wait until so many nodes are there, ``join-timeout`` seconds at most.

    Parameters
    ----------
    exchange, settings : Exchange, Settings
        Whom to ask, and how long.
    expected : int
        How many to wait for.
    enough : int
        How many are enough once the time is over.

    Returns
    -------
    list of int
        Node ids, ascending.

    Raises
    ------
    FederationError
        Says how many came, how many were expected, and which settings decide.
    """
    deadline = time.monotonic() + settings.join_timeout
    while True:
        nodes = exchange.nodes()
        if len(nodes) >= expected:
            return nodes
        if time.monotonic() < deadline:
            time.sleep(JOIN_POLL)
        elif len(nodes) >= enough:
            logger.warning("%d of %d nodes came: begin", len(nodes), expected)
            return nodes
        else:
            raise FederationError(
                f"{len(nodes)} of {expected} nodes came within "
                f"{settings.join_timeout:g} s (settings num-clients, min-clients and join-timeout)"
            )


def register_clients(
    exchange: Exchange, settings: Settings, registry: ClientRegistry
) -> list[Description]:
    """Ask every node who it is, and keep the clients that agree on classes and images.

    A client that is not kept is told why. One that joins later is not kept either.

    Returns
    -------
    list of Description
        In the order of client names; `registry` holds the same clients.

    Raises
    ------
    FederationError
        Fewer than two clients are left.
    """
    nodes = wait_for_nodes(exchange, settings)
    found: dict[int, Description] = {}
    notices: deque[Message] = deque()
    messages = (describe_message(node, 0) for node in nodes)
    for reply in exchange.send(messages, settings.round_timeout, notices):
        node_id = reply.metadata.src_node_id
        try:
            if reply.metadata.message_type == DESCRIBE_ACTION:
                found[node_id] = Description.decode(reply.content, settings.max_client_samples)
        except RecordError as error:
            notices.append(refusal(f"on node {node_id}", node_id, error))
    shape = most_common_shape(found.values())
    allowed = class_list(settings.class_names) or believable_classes(found.values())
    descriptions = []
    refused = []
    for node_id in sorted(found, key=lambda node: (found[node].client, node)):
        each = found[node_id]
        if each.joins_in:
            continue
        try:
            check_fit(each, allowed, shape)
            registry.claim(each.client, node_id, nodes)
        except RecordError as error:
            refused.append(refusal(each.client, node_id, error))
            continue
        descriptions.append(each)
    exchange.tell(refused, settings.round_timeout)
    if len(descriptions) < MIN_CLIENTS:
        raise FederationError(
            f"{len(descriptions)} usable clients of {len(nodes)} nodes, "
            f"{MIN_CLIENTS} are needed at least; the log names the reasons"
        )
    return descriptions


def describe_message(node_id: int, server_round: int) -> Message:
    """Make the question who a node is."""
    content = DescribeRequest(server_round).encode()
    return Message(content, node_id, DESCRIBE_ACTION, group_id=str(server_round))


def refusal(name: str, node_id: int, reason: Exception) -> Message:
    """Log why a client is left out, and make the message that tells its owner."""
    logger.warning("describe: client %s is left out: %s", name, reason)
    return Message(Rejection(str(reason)).encode(), node_id, REJECTION_ACTION, group_id="rejection")


def check_fit(
    description: Description,
    class_names: Collection[str],
    sample_shape: tuple[int, int, int] | None,
) -> None:
    """Refuse a client with other images than the federation has, or a class that it has not.

    Parameters
    ----------
    description : Description
        What the client says of itself.
    class_names : collection of str
        The federation's classes; none: any.
    sample_shape : tuple of int
        (channels, height, width) of the federation's images.

    Raises
    ------
    RecordError
        With the client's and the federation's.
    """
    if description.sample_shape != sample_shape:
        raise RecordError(
            f"images are {description.sample_shape} (channels, height, width), those of the "
            f"federation {sample_shape}"
        )
    unknown = unknown_classes(description.class_names, class_names)
    if class_names and unknown:
        raise RecordError(
            f"class {unknown[0]!r} is unknown here; the federation has {', '.join(class_names)}"
            + in_other_writing(unknown, class_names)
        )


def client_of(description: Description) -> Client:
    """Return what the server keeps of a description."""
    return Client(description.client, description.train_samples, description.test_samples)


def most_common_shape(descriptions: Iterable[Description]) -> tuple[int, int, int] | None:
    """Return the image shape that most clients have, of equally common ones the smallest."""
    tally = Counter(description.sample_shape for description in descriptions)
    return min(tally, key=lambda each: (-tally[each], each), default=None)


def believable_classes(descriptions: Iterable[Description]) -> tuple[str, ...]:
    """Return all classes that clients name; the most common ones where they are too many.

    One client that names hundreds of its own must not make a federation of them.
    """
    tally = Counter(name for each in descriptions for name in each.class_names)
    ranked = sorted(tally, key=lambda name: (-tally[name], name))
    return tuple(ranked[:MAX_NAMES])


def sample_scale(
    descriptions: list[Description], *, standardise: bool
) -> tuple[tuple[float, float], ...]:
    """Return mean and deviation of the federation's training pixels, a channel.

    Each client counts by its samples, but by ten times the median at most, so that nobody sets the
    scale by claiming to have more; `descriptions` are in the order of names. A channel without any
    variance, or `standardise` false, leaves pixels as they are: mean 0, deviation 1.
    """
    counts = np.array([description.train_samples for description in descriptions], dtype=float)
    counts = np.minimum(counts, MOST_WEIGHT * np.median(counts))
    moments = np.array([description.sample_moments for description in descriptions])
    means, squares = np.einsum("i,icm->mc", counts / counts.sum(), moments)
    deviations = np.sqrt(np.maximum(squares - means**2, 0.0))
    return tuple(
        (float(mean), float(deviation)) if standardise and deviation > MIN_DEVIATION else (0.0, 1.0)
        for mean, deviation in zip(means, deviations, strict=True)
    )


def merge_class_names(
    descriptions: list[Description], given: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return the classes of the federation, matched by name.

    Those of the setting ``class-names`` where they are `given`, in that order. Else the common
    order where all clients have the same list, else all names sorted (as numbers where
    all are numbers). A warning names those that differ in writing only.
    """
    names = _merged(descriptions, given)
    warn_of_similar_names(names)
    return names


def _merged(descriptions: list[Description], given: tuple[str, ...]) -> tuple[str, ...]:
    if given:
        return given
    lists = {description.class_names for description in descriptions}
    if len(lists) == 1:
        return lists.pop()
    logger.info("clients name different classes: %d lists, matched by name", len(lists))
    names = {name for each in lists for name in each}
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
