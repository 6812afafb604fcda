"""Who comes in while a federation trains: new nodes, nodes that return, clients that drifted."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from feddag_flwr.algorithms.algorithm import Algorithm
from feddag_flwr.engine.registration import (
    check_fit,
    client_of,
    describe,
    describe_letter,
    note_data,
    refuse_node,
    rejection,
)
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.federation.exchange import Letter, Wait
from feddag_flwr.modalities import load_modality
from feddag_flwr.records import DescribeRequest, Description, RecordError
from feddag_flwr.state import Unlabelled

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
    `LONGEST_PAUSE`: a node can be mended without the server's help. `follow_ups` are requests that
    answers give rise to, in the same exchange; `placed` has the clusters of those who came in.
    A client that was placed anew for drift waits as long before it is once more, by how often that
    was in the last `LONGEST_PAUSE` rounds: `replaced` has the rounds, by name.
    A client without labels says where its samples lie, and is placed by that. It is asked again
    after the same pauses: it may have labels by then.
    """

    def __init__(self, context: FederationContext, algorithm: Algorithm) -> None:
        self.context = context
        self.algorithm = algorithm
        self.follow_ups: deque[Letter] = deque()
        self.placed: dict[str, int] = {}
        self.replaced: dict[str, list[int]] = {}
        self._round = 0
        self._there: set[int] = set()
        self._delays: dict[int, _Delay] = {}
        self._pending: set[int] = set()
        self._came: set[str] = set()
        self._asked: dict[str, Any] = {}
        self._unlabelled: dict[str, int] = {}
        self._replies: dict[str, Any] = {}

    def questions(self, server_round: int, *, pauses: bool = True) -> Iterator[Letter]:
        """Ask who they are all nodes that are not known, or must be placed (anew).

        Those that pause are passed over, unless `pauses` is false.
        """
        self._round = server_round
        self._there = set(self.context.exchange.nodes())
        self._forget_delays()
        self._came, self._asked, self._replies, self.placed = set(), {}, {}, {}
        self._unlabelled = {}
        self._pending = {node for node in self._outsiders() if self._is_due(node) or not pauses}
        for node in sorted(self._pending):
            yield describe_letter(node, server_round)

    def stream(self, letters: Iterable[Letter]) -> Iterator[tuple[Letter, Any]]:
        """Exchange letters, and let clients in meanwhile; yield the replies about other things."""
        context, settings = self.context, self.context.settings
        wait = Wait(context.round_timeout)
        joining = Wait(settings.deployment.join_timeout, "join-timeout")
        patience = {"describe": min(wait, joining), "profile": context.profile_wait}
        for letter, reply in context.exchange.stream(
            letters, wait, self.follow_ups, patience=patience, refuse=self._refuse
        ):
            if not self._is_mine(letter):
                yield letter, reply
            elif isinstance(letter.request, DescribeRequest):
                self._introduce(letter.node_id, reply)
            else:
                name = context.clients.name_of(letter.node_id)
                self._replies[name] = reply
                if name not in self._unlabelled:
                    self._through(letter.node_id)

    def _is_mine(self, letter: Letter) -> bool:
        """Tell whether a letter is about coming in."""
        asked = self._asked.get(self.context.clients.name_of(letter.node_id))
        return isinstance(letter.request, DescribeRequest) or asked is letter.request

    def _refuse(self, letter: Letter, reason: RecordError) -> None:
        """Leave a reply out; tell a client if what it sent to come in cannot be used."""
        if self._is_mine(letter):
            refuse_node(self.follow_ups, self.context.exchange, letter, reason)
        else:
            self.context.exchange.leave_out(letter, reason)

    def place(self) -> dict[str, int]:
        """Place those who came in, once the round's replies are there; return their clusters."""
        for node in sorted(self._pending):
            self._postpone(node)
        replies = {n: r for n, r in self._replies.items() if n not in self._unlabelled}
        names = sorted(self._came | replies.keys())
        if names:
            context, state = self.context, self.context.state
            self.placed = self.algorithm.place_newcomers(self._round, names, replies)
            for name in names:
                if name not in self.placed:
                    self._postpone(context.clients.nodes[name])
            for name in sorted(context.drifted & self.placed.keys()):
                self.replaced[name] = [*self._lately_replaced(name), self._round]
            context.drifted -= self.placed.keys()
            state.assignments = dict(sorted((state.assignments | self.placed).items()))
        self._place_unlabelled()
        return self.placed

    def _place_unlabelled(self) -> None:
        """Place those who have no labels; who is asked in vain stays where it was."""
        replies = {name: self._replies[name] for name in self._unlabelled if name in self._replies}
        if not replies:
            return
        context = self.context
        placed = self.algorithm.place_unlabelled(self._round, self._unlabelled, replies)
        for name, (cluster, sure) in sorted(placed.items()):
            context.unlabelled[name] = Unlabelled(self._unlabelled[name], cluster, sure)
            logger.info("%s, unlabelled: cluster %d, %.0f %% sure", name, cluster, 100 * sure)
        context.unlabelled = dict(sorted(context.unlabelled.items()))

    def delays(self) -> list[dict[str, Any]]:
        """Return for a checkpoint when which node is asked again."""
        names = self.context.clients.names
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
        exchange, clients = self.context.exchange, self.context.clients
        held = {delay["node"]: _Delay(delay["next-round"], delay["failures"]) for delay in delays}
        client_on = {delay["node"]: delay["client"] for delay in delays}
        self._round = server_round
        self._there = set(exchange.nodes())
        self._pending = self._there - clients.names.keys() - held.keys()
        wait = Wait(self.context.settings.deployment.join_timeout, "join-timeout")
        nodes = sorted(self._pending)
        for node, described in describe(exchange, nodes, server_round, wait, self.follow_ups):
            self._introduce(node, described, resuming=True)
        for node, delay in held.items():  # a client may be on another node by now
            self._delays[clients.nodes.get(client_on[node], node)] = delay

    def _outsiders(self) -> Iterator[int]:
        context = self.context
        for node in self._there:
            name = context.clients.names.get(node)
            if name is None or (
                name not in context.held_out
                and (name in context.drifted or name not in context.state.assignments)
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
        delay, rounds = self._delays.get(node), self._lately_replaced(self._name_of(node))
        if rounds and self._round < rounds[-1] + 2 ** (len(rounds) - 1):
            return False
        return delay is None or delay.next_round <= self._round

    def _name_of(self, node: int) -> str:
        return self.context.clients.names.get(node, "")

    def _lately_replaced(self, name: str) -> list[int]:
        """Return the last rounds in which a client was placed anew for drift."""
        return [r for r in self.replaced.get(name, ()) if r > self._round - LONGEST_PAUSE]

    def _postpone(self, node: int) -> None:
        failures = self._delays[node].failures + 1 if node in self._delays else 1
        pause = min(2 ** (failures - 1), LONGEST_PAUSE)
        self._delays[node] = _Delay(self._round + pause, failures)

    def _through(self, node: int) -> None:
        """Note that a node has done all it was asked for."""
        self._pending.discard(node)
        self._delays.pop(node, None)

    def _introduce(self, node: int, described: Description, *, resuming: bool = False) -> None:
        if described.joins_in > self._round:
            self._through(node)
            if self._round or not resuming:  # before round 1 nobody has been asked
                self._delays[node] = _Delay(described.joins_in)
            return
        try:
            if described.labelled:
                self._let_in(node, described, resuming=resuming)
            else:
                self._let_in_unlabelled(node, described, resuming=resuming)
        except RecordError as error:
            exchange = self.context.exchange
            name = exchange.clients.name_of(node)
            self.follow_ups.append(rejection(exchange, name, node, error))

    def _let_in(self, node: int, described: Description, *, resuming: bool) -> None:
        """Let a client in whose node has described it, and ask what the algorithm wants of it."""
        context, state, name = self.context, self.context.state, described.client
        known = name in state.clients or name in context.held_out
        modality = load_modality(context.settings.data.modality)
        try:
            check_fit(described, state.class_names, state.spec, modality, may_become=True)
            if not known and not self.algorithm.admits_newcomers:
                raise RecordError(f"{type(self.algorithm).__name__} takes no newcomers")
            context.clients.claim(name, node, self._there)
        except RecordError as error:
            raise RecordError(f"client {name!r}: {error}") from error
        if resuming:
            self._through(node)
            return
        context.unlabelled.pop(name, None)  # it has labels now
        if described.true_group is not None:
            context.true_groups[name] = described.true_group
        if name in context.held_out:
            self._through(node)
            return
        note_data(context.exchange, described, state.spec, modality)
        state.admit(client_of(described))
        if name not in state.assignments or name in context.drifted:
            request = self.algorithm.newcomer_request(self._round, name)
            if request is not None:
                self._asked[name] = request
                self.follow_ups.append(context.exchange.to_client(request))
                return  # the node is through once its reply is there
            self._came.add(name)
        self._through(node)

    def _let_in_unlabelled(self, node: int, described: Description, *, resuming: bool) -> None:
        """Ask a client without labels where its samples lie, if the algorithm places such."""
        context, name = self.context, described.client
        modality = load_modality(context.settings.data.modality)
        request = self.algorithm.directions_request(self._round, name)
        try:
            check_fit(
                described, context.state.class_names, context.state.spec, modality, may_become=True
            )
            if request is None:
                raise RecordError("it has no labels, and such are not placed (setting unlabelled)")
            if name in context.state.clients or name in context.held_out:
                raise RecordError("it had labels, and has none now")
            context.clients.claim(name, node, self._there)
        except RecordError as error:
            raise RecordError(f"client {name!r}: {error}") from error
        if resuming:
            self._through(node)
            return
        if described.true_group is not None:
            context.true_groups[name] = described.true_group
        self._unlabelled[name] = described.train_samples
        self._asked[name] = request
        self.follow_ups.append(context.exchange.to_client(request))
