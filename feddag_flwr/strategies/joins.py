"""Who comes in while a federation trains: new nodes, nodes that return, clients that drifted."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flwr.app import Message

from feddag_flwr.exchange import kind_of
from feddag_flwr.profile import Profile
from feddag_flwr.records import Description, RecordError
from feddag_flwr.strategies.algorithm import Algorithm
from feddag_flwr.strategies.client_registry import check_fit, client_of, describe_message, refusal
from feddag_flwr.strategies.profiling import Profiler, without_encoder

logger = logging.getLogger("flwr")

# Most rounds between two attempts of a node that could not come in.
LONGEST_PAUSE = 32


@dataclass(frozen=True)
class _Delay:
    """When a node is asked again, and how often it has failed."""

    next_round: int
    failures: int = 0


class Joins:
    """Lets clients in within the ordinary exchange of a round.

    A node that nobody knows is asked who it is; a client that has no cluster, or whose data has
    drifted, sends a profile where the algorithm wants one, and is placed when the round is over
    (A.8, A.9, Algorithm 4). Nobody else moves, and the others train meanwhile. A client that does
    not fit is told why. Whoever fails is asked again after 1, 2, 4, .. rounds, up to
    `LONGEST_PAUSE`: a node can be mended without the server's help.

    Parameters
    ----------
    algorithm : Algorithm
        Its state, registry and exchange; decides where newcomers belong.

    Attributes
    ----------
    follow_ups : deque of Message
        Messages that answers give rise to; to be sent in the same exchange.
    placed : dict of str to int
        Cluster of each client that came in this round.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.follow_ups: deque[Message] = deque()
        self.placed: dict[str, int] = {}
        self._round = 0
        self._there: set[int] = set()
        self._delays: dict[int, _Delay] = {}
        self._pending: set[int] = set()
        self._came: set[str] = set()
        self._profiles: dict[str, Profile] = {}

    def questions(self, server_round: int, *, pauses: bool = True) -> Iterator[Message]:
        """Ask who they are all nodes that are not known, or must be placed (anew).

        Those that pause are passed over, unless `pauses` is false.
        """
        self._round = server_round
        self._there = set(self.algorithm.exchange.nodes())
        self._forget_delays()
        self._came, self._profiles, self.placed = set(), {}, {}
        self._pending = {node for node in self._outsiders() if self._is_due(node) or not pauses}
        for node in sorted(self._pending):
            yield describe_message(node, server_round)

    def take(self, replies: Iterable[Message]) -> Iterator[Message]:
        """Deal with the replies that are about coming in, and pass on all others."""
        handlers = {"describe": self._introduce, "profile": self._keep_profile}
        for reply in replies:
            kind = kind_of(reply)
            if kind in handlers:
                handlers[kind](reply)
            else:
                yield reply

    def settle(self) -> None:
        """Place those who came in, once the round's replies are there."""
        for node in sorted(self._pending):
            self._postpone(node)
        names = sorted(self._came | self._profiles.keys())
        if not names:
            return
        algorithm, state = self.algorithm, self.algorithm.state
        self.placed = algorithm.place_newcomers(self._round, names, self._profiles)
        for name in names:
            if name not in self.placed:
                self._postpone(algorithm.registry.nodes[name])
        algorithm.drifted -= self.placed.keys()
        state.assignments = dict(sorted((state.assignments | self.placed).items()))

    def delays(self) -> list[dict[str, Any]]:
        """Return for a checkpoint when which node is asked again."""
        names = self.algorithm.registry.names
        return [
            {
                "node": node,
                "client": names.get(node, ""),
                "next-round": delay.next_round,
                "failures": delay.failures,
            }
            for node, delay in sorted(self._delays.items())
        ]

    def meet(self, server_round: int, delays: Collection[Mapping[str, Any]]) -> None:
        """Learn on which nodes the clients of a resumed run are, in an exchange of its own.

        What a client had to say of itself when the run was stopped still holds, and so does when it
        is asked again (`delays`): else the run would not be the one that nobody stopped.
        """
        exchange, registry = self.algorithm.exchange, self.algorithm.registry
        held = {each["node"]: _Delay(each["next-round"], each["failures"]) for each in delays}
        client_on = {each["node"]: each["client"] for each in delays}
        self._round = server_round
        self._there = set(exchange.nodes())
        self._pending = self._there - registry.names.keys() - held.keys()
        questions = (describe_message(node, server_round) for node in sorted(self._pending))
        for reply in exchange.send(questions, self.algorithm.wait, self.follow_ups):
            if kind_of(reply) == "describe":
                self._introduce(reply, resuming=True)
        for node, delay in held.items():  # a client may be on another node by now
            self._delays[registry.nodes.get(client_on[node], node)] = delay

    @cached_property
    def _profiler(self) -> Profiler:
        return Profiler(self.algorithm)

    def _outsiders(self) -> Iterator[int]:
        algorithm = self.algorithm
        for node in self._there:
            name = algorithm.registry.names.get(node)
            if name is None or (
                name not in algorithm.held_out
                and (name in algorithm.drifted or name not in algorithm.state.assignments)
            ):
                yield node

    def _forget_delays(self) -> None:
        """Forget nodes that are gone, once their time has come: each start may draw a new id."""
        self._delays = {
            node: delay
            for node, delay in self._delays.items()
            if node in self._there or (delay.failures and delay.next_round > self._round)
        }

    def _is_due(self, node: int) -> bool:
        delay = self._delays.get(node)
        return delay is None or delay.next_round <= self._round

    def _postpone(self, node: int) -> None:
        failures = self._delays[node].failures + 1 if node in self._delays else 1
        pause = min(2 ** (failures - 1), LONGEST_PAUSE)
        self._delays[node] = _Delay(self._round + pause, failures)

    def _through(self, node: int) -> None:
        """Note that a node has done all it was asked for."""
        self._pending.discard(node)
        self._delays.pop(node, None)

    def _introduce(self, reply: Message, *, resuming: bool = False) -> None:
        node = reply.metadata.src_node_id
        if node not in self._pending:
            logger.warning("describe: node %d was not asked", node)
            return
        algorithm = self.algorithm
        try:
            described = Description.decode(reply.content, algorithm.settings.max_client_samples)
            if described.joins_in > self._round:
                self._through(node)
                if self._round or not resuming:  # before round 1 nobody has been asked
                    self._delays[node] = _Delay(described.joins_in)
            else:
                self._let_in(node, described, resuming=resuming)
        except RecordError as error:
            name = algorithm.registry.name_of(node)
            self.follow_ups.append(refusal(name, node, error))

    def _let_in(self, node: int, described: Description, *, resuming: bool) -> None:
        """Let a client in whose node has described it, and ask for its profile where it is due."""
        algorithm, state, name = self.algorithm, self.algorithm.state, described.client
        known = name in state.clients or name in algorithm.held_out
        try:
            check_fit(described, state.class_names, state.sample_shape)
            if not known and not algorithm.admits_newcomers:
                raise RecordError(f"{type(algorithm).__name__} takes no newcomers")
            algorithm.registry.claim(name, node, self._there)
        except RecordError as error:
            raise RecordError(f"client {name!r}: {error}") from error
        if resuming:
            self._through(node)
            return
        if described.true_group is not None:
            algorithm.true_groups[name] = described.true_group
        if name not in algorithm.held_out:
            state.admit(client_of(described))
            if name not in state.assignments or name in algorithm.drifted:
                if algorithm.profiles_newcomers:
                    self.follow_ups.append(self._profiler.message(name, self._round))
                    return  # the node is through once its profile is there
                self._came.add(name)
        self._through(node)

    def _keep_profile(self, reply: Message) -> None:
        node = reply.metadata.src_node_id
        name = self.algorithm.registry.name_of(node)
        try:
            profile = self._profiler.read(reply, name, self._round)
            self._profiles[name] = without_encoder(profile)
            self._through(node)
        except RecordError as error:
            self.follow_ups.append(refusal(name, node, error))
