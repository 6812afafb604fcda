"""The one exchange with the nodes: requests go out, checked replies come back, bytes are counted.

Here, and nowhere else, a reply is matched with its request, decoded and checked; one that fails is
named and left out. (Updates of odd length, which only all of a round tell: `outliers`.)
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from flwr.app import Message
from flwr.serverapp import Grid

from feddag_flwr.client.registry import as_sent
from feddag_flwr.federation.client_registry import ClientRegistry
from feddag_flwr.federation.left_out import LeftOut
from feddag_flwr.flower.errors import check_passing, one_line
from feddag_flwr.flower.inbox import Inbox, WholeReplies
from feddag_flwr.flower.parcels import BoundedReplies
from feddag_flwr.flower.private import ErrorCode, HTTPStatusError, ObjectPushError, RuntimeObjects
from feddag_flwr.records import Limits, RecordError, Rejection, Request
from feddag_flwr.traffic import Traffic

logger = logging.getLogger("flwr")

# Seconds between two looks for replies: short at first, longer while nothing comes.
POLL_FIRST, POLL_LAST, POLL_GROWTH = 0.02, 0.2, 1.3
# Seconds without a reply after which the log says who is waited for.
HEARTBEAT = 60.0
# Names in that line at most.
MOST_NAMED = 5
# Flower's errors for messages whose time is over, and seconds that its clock may be ahead of ours.
EXPIRED, CLOCKS = frozenset({ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE}), 1
# Letters of an error by which a second line reminds of it.
_LONGEST_REMINDER = 40


class Letter(NamedTuple):
    """A request and the node that it goes to."""

    node_id: int
    request: Request[Any]
    group: str = "0"


class Wait(NamedTuple):
    """How long a reply is waited for, and the setting that says so."""

    seconds: float
    setting: str = "round-timeout"


# What is done about a reply that cannot be used: by default a log line.
Refuse = Callable[[Letter, RecordError], None]


@dataclass(frozen=True)
class _Sent:
    letter: Letter
    message_type: str
    wait: Wait
    made: float
    deadline: float
    least_up: int

    @property
    def node_id(self) -> int:
        return self.letter.node_id

    @property
    def kind(self) -> str:
        return self.letter.request.counted_as


class Exchange:
    """One server's side of the talk with its nodes.

    Attributes
    ----------
    traffic : Traffic
        Bytes of messages sent and of good replies, by kind of message.
    left_out : LeftOut
        Whose replies could not be used.
    """

    def __init__(
        self, grid: Grid, max_in_flight: int, clients: ClientRegistry, limits: Limits
    ) -> None:
        self.max_in_flight = max_in_flight
        self.clients = clients
        self.limits = limits
        self.connect(grid)
        self.traffic = Traffic()
        self.left_out = LeftOut()
        self._repeated: dict[tuple[str, str], list[str]] = {}
        self._nodes: list[int] = []

    def connect(self, grid: Grid) -> None:
        """Talk through a grid from now on."""
        self.grid = grid
        objects = RuntimeObjects.of(grid)
        self.inbox: Inbox = (
            BoundedReplies(objects, self.limits.max_reply_bytes) if objects else WholeReplies(grid)
        )

    def to_client(self, request: Request[Any]) -> Letter:
        """Address a request to the node of the client that its header names."""
        header = request.header
        if header is None:
            raise ValueError(f"{type(request).__name__} names no client")
        return Letter(self.clients.nodes[header.client], request, str(header.server_round))

    def stream(
        self,
        letters: Iterable[Letter],
        wait: Wait,
        follow_ups: deque[Letter] | None = None,
        *,
        patience: Mapping[str, Wait] | None = None,
        refuse: Refuse | None = None,
    ) -> Iterator[tuple[Letter, Any]]:
        """Send requests and yield each with its checked reply, as they come.

        A reply is good when it answers a message of this call, comes from the node that was asked,
        is of the kind asked for, carries no error, and is what the request wants. Everything else
        costs that node its reply, and a log line, or goes to `refuse`; an error that many nodes
        reply is logged once, and at the end who else had it.

        Letters are drawn one by one, so that no more than are under way need memory; `follow_ups`,
        to which the caller may add while it takes replies, go first. No reply to a rejection is
        awaited. Each message may take as long as `wait` says from when it is sent, or its kind's
        `patience`.
        """
        refuse = refuse or self.leave_out
        for sent, message in self._replies(letters, wait, follow_ups, patience):
            try:
                yield sent.letter, sent.letter.request.read_reply(message.content, self.limits)
            except RecordError as error:
                refuse(sent.letter, error)

    def leave_out(self, letter: Letter, reason: RecordError) -> None:
        """Log that a reply cannot be used."""
        self._log(letter.node_id, letter.request.counted_as, str(reason))

    def _replies(
        self,
        letters: Iterable[Letter],
        wait: Wait,
        follow_ups: deque[Letter] | None,
        patience: Mapping[str, Wait] | None,
    ) -> Iterator[tuple[_Sent, Message]]:
        """Send requests and yield the messages that answer them."""
        waiting: dict[str, _Sent] = {}
        self._repeated.clear()
        longest = patience or {}
        source = iter(letters)
        pause, heard = POLL_FIRST, time.monotonic()
        while True:
            while len(waiting) < self.max_in_flight:
                letter = follow_ups.popleft() if follow_ups else next(source, None)
                if letter is None:
                    break
                if isinstance(letter.request, Rejection):
                    self.tell([letter], wait.seconds)
                else:
                    self._push(letter, longest.get(letter.request.counted_as, wait), waiting)
            if not waiting:
                self._tell_repeated()
                return
            replies = self._pull(waiting)
            for reply in replies:
                if sent := self._accept(reply, waiting):
                    yield sent, reply
            self._drop_late(waiting)
            heard = time.monotonic() if replies else self._tell_waiting(waiting, heard)
            pause = POLL_FIRST if replies else min(POLL_LAST, pause * POLL_GROWTH)
            if waiting and not replies:
                time.sleep(pause)

    @contextmanager
    def counting(self, traffic: Traffic) -> Iterator[None]:
        """Count the bytes of a block in `traffic`, apart from all others."""
        usual, self.traffic = self.traffic, traffic
        try:
            yield
        finally:
            self.traffic = usual

    def nodes(self) -> list[int]:
        """Return the ids of the nodes that are there, ascending.

        While the SuperLink cannot say, those that were there last.
        """
        try:
            self._nodes = sorted(self.grid.get_node_ids())
        except HTTPStatusError as error:
            check_passing(error)
            logger.warning("the SuperLink names no nodes now: %s", one_line(str(error)))
        return self._nodes

    def tell(self, letters: Iterable[Letter], timeout: float) -> None:
        """Send messages to which no reply is awaited: who is left out must not hold up others."""
        for letter in letters:
            self._hand_over(_message_of(letter, timeout), letter.request.counted_as)

    def _push(self, letter: Letter, wait: Wait, waiting: dict[str, _Sent]) -> None:
        # The TTL ends with the wait: a node that comes back later must not work on stale messages.
        made = time.monotonic()
        message, request = _message_of(letter, wait.seconds), letter.request
        message_id = self._hand_over(message, request.counted_as)
        if message_id is None:
            return
        kind, deadline = message.metadata.message_type, time.monotonic() + wait.seconds
        waiting[message_id] = _Sent(letter, kind, wait, made, deadline, request.least_up())
        self.traffic.count("down", request.counted_as, message.content, request.least_down())

    def _hand_over(self, message: Message, kind: str) -> str | None:
        """Give Flower a message; return its id, or None where Flower does not take it.

        Flower's SuperLink breaks off an upload that takes more than three minutes, for example.
        """
        reason = ""
        try:
            ids = [message_id for message_id in self.grid.push_messages([message]) if message_id]
        except (ObjectPushError, HTTPStatusError) as error:
            check_passing(error)
            ids, reason = [], f": {one_line(str(error))}"
        if len(ids) == 1:
            return ids[0]
        node_id = message.metadata.dst_node_id
        self._log(node_id, kind, f"the message could not be sent{reason}")
        return None

    def _pull(self, waiting: dict[str, _Sent]) -> list[Message]:
        """Take the replies that are there; name those who sent what cannot be used."""
        taken = self.inbox.take(list(waiting))
        for message_id, reason in taken.refused.items():
            sent = waiting.pop(message_id)
            self._log(sent.node_id, sent.kind, reason)
        return taken.messages

    def _accept(self, reply: Message, waiting: dict[str, _Sent]) -> _Sent | None:
        """Return what a reply answers, if it is one that may be read."""
        sent = waiting.pop(reply.metadata.reply_to_message_id, None)
        if sent is None:
            logger.warning("%s: dropped a reply to no message of this round", kind_of(reply))
            return None
        kind = sent.kind
        if reply.has_error():
            late = time.monotonic() - sent.made >= sent.wait.seconds - CLOCKS
            if reply.error.code in EXPIRED and late:
                self._drop(sent)
                return None
            reason = one_line(reply.error.reason or "")
            self._log_error(sent.node_id, kind, f"error {reply.error.code}: {reason}")
            return None
        if not reply.has_content():
            self._log(sent.node_id, kind, "the reply is empty")
            return None
        if reply.metadata.src_node_id != sent.node_id:
            author = self.clients.name_of(reply.metadata.src_node_id)
            self._log(sent.node_id, kind, f"the reply came from another node, {author}")
            return None
        if reply.metadata.message_type != sent.message_type:
            self._log(sent.node_id, kind, f"the reply is of another kind, {kind_of(reply)}")
            return None
        self.traffic.count("up", sent.kind, reply.content, sent.least_up)
        return sent

    def _drop_late(self, waiting: dict[str, _Sent]) -> None:
        now = time.monotonic()
        for message_id in [key for key, sent in waiting.items() if sent.deadline <= now]:
            self.inbox.drop(message_id)
            self._drop(waiting.pop(message_id))

    def _drop(self, sent: _Sent) -> None:
        """Log that a reply did not come in time."""
        seconds, setting = sent.wait
        self._log(sent.node_id, sent.kind, f"no reply within {seconds:g} s: passed {setting}")

    def _tell_waiting(self, waiting: dict[str, _Sent], heard: float) -> float:
        """Say who is waited for, now and then; return when something was last heard or said."""
        now = time.monotonic()
        if now - heard < HEARTBEAT or not waiting:
            return heard
        last = max(waiting.values(), key=lambda sent: sent.deadline)
        names = sorted(self.clients.name_of(sent.node_id) for sent in waiting.values())
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        logger.info(
            "%s: waiting for %d replies, for %.0f s more at most (%s): %s%s",
            last.kind, len(names), last.deadline - now, last.wait.setting,
            ", ".join(names[:MOST_NAMED]), more,
        )  # fmt: skip
        return now

    def _log_error(self, node_id: int, kind: str, reason: str) -> None:
        """Log a node's error, unless another's of this call was the same."""
        self.left_out.note_client(self.clients.name_of(node_id), kind, reason)
        if (kind, reason) in self._repeated:
            self._repeated[kind, reason].append(self.clients.name_of(node_id))
        else:
            self._repeated[kind, reason] = []
            self._log(node_id, kind, reason)

    def _tell_repeated(self) -> None:
        for (kind, reason), names in self._repeated.items():
            if names:
                logger.warning(
                    "%s: %d more left out for the same error (%s): %s",
                    kind, len(names), reason[:_LONGEST_REMINDER], ", ".join(sorted(names)),
                )  # fmt: skip
        self._repeated.clear()

    def _log(self, node_id: int, kind: str, reason: str) -> None:
        self.left_out.note_client(self.clients.name_of(node_id), kind, reason)
        logger.warning("%s: client %s is left out: %s", kind, self.clients.name_of(node_id), reason)


def _message_of(letter: Letter, timeout: float) -> Message:
    content = letter.request.encode()
    action = as_sent(letter.request.action, content)
    message = Message(content, letter.node_id, action, group_id=letter.group)
    message.metadata.ttl = timeout
    return message


def kind_of(message: Message) -> str:
    """Return the action that a message asks for or answers, as logs have it: train, profile, .."""
    return one_line(message.metadata.message_type.rpartition(".")[2])
