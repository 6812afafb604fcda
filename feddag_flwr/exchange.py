"""Sends messages to nodes in waves, matches the replies, and counts bytes."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from google.protobuf.message import DecodeError
from httpx import HTTPStatusError

from feddag_flwr.records import REJECTION_ACTION
from feddag_flwr.records.sizes import least_weights_up
from feddag_flwr.traffic import Traffic

logger = logging.getLogger("flwr")

# Seconds between two looks for replies: short at first, longer while nothing comes.
POLL_FIRST, POLL_LAST, POLL_GROWTH = 0.02, 0.2, 1.3
# Letters that are read of a client's reason for an error, and of each of its lines.
LONGEST_REASON, LONGEST_LINE = 20_000, 500
# Letters of an error by which a second line reminds of it.
_LONGEST_REMINDER = 40
# What Flower raises over bytes that are no message; not what it raises when the SuperLink is gone.
UNREADABLE = (
    ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError, DecodeError,
)  # fmt: skip


@dataclass(frozen=True)
class _Sent:
    node_id: int
    kind: str
    counted_as: str
    seconds: float
    deadline: float
    least_weights: int


class Exchange:
    """One server's side of the talk with its nodes.

    Parameters
    ----------
    grid : Grid
        Flower's connection to the nodes.
    wave_size : int
        Messages under way at once.
    name_of : callable
        From a node id to what logs should call it.

    Attributes
    ----------
    traffic : Traffic
        Bytes of messages sent and of good replies, by kind of message.
    """

    def __init__(self, grid: Grid, wave_size: int, name_of: Callable[[int], str]) -> None:
        self.grid = grid
        self.wave_size = wave_size
        self.name_of = name_of
        self.traffic = Traffic()
        self._one_by_one = False
        self._repeated: dict[tuple[str, str], list[str]] = {}
        self._nodes: list[int] = []

    def send(
        self,
        messages: Iterable[Message],
        timeout: float,
        follow_ups: deque[Message] | None = None,
        *,
        counted_as: str = "",
        patience: Mapping[str, float] | None = None,
    ) -> Iterator[Message]:
        """Send messages and yield the good replies as they come.

        A reply is good when it answers a message of this call, comes from the node that was
        asked, is of the kind asked for, and carries no error. Everything else costs that node its
        reply, and a log line; an error that many nodes reply is logged once, and at the end who
        else had it.

        Parameters
        ----------
        messages : iterable of Message
            Drawn one by one, so that a generator never holds more than a wave in memory.
        timeout : float
            Seconds that each message may take from when it is sent.
        follow_ups : deque of Message, optional
            Further messages, to which the caller may add while it takes replies; sent before
            those of `messages` that are still to be drawn. No reply to a notice is awaited.
        counted_as : str, optional
            Under which the bytes are counted; by default the messages' own kind.
        patience : mapping of str to float, optional
            Seconds for messages of some kinds, in place of `timeout`.
        """
        waiting: dict[str, _Sent] = {}
        self._repeated.clear()
        longest = patience or {}
        source = iter(messages)
        pause = POLL_FIRST
        while True:
            while len(waiting) < self.wave_size:
                message = follow_ups.popleft() if follow_ups else next(source, None)
                if message is None:
                    break
                if message.metadata.message_type == REJECTION_ACTION:
                    self.tell([message], timeout)
                else:
                    seconds = longest.get(kind_of(message), timeout)
                    self._push(message, seconds, waiting, counted_as)
            if not waiting:
                self._tell_repeated()
                return
            replies = self._pull(waiting)
            for reply in replies:
                if self._accept(reply, waiting):
                    yield reply
            self._drop_late(waiting)
            pause = POLL_FIRST if replies else min(POLL_LAST, pause * POLL_GROWTH)
            if waiting and not replies:
                time.sleep(pause)

    def nodes(self) -> list[int]:
        """Return the ids of the nodes that are there, ascending.

        While the SuperLink cannot say, those that were there last.
        """
        try:
            self._nodes = sorted(self.grid.get_node_ids())
        except HTTPStatusError as error:
            _check_passing(error)
            logger.warning("the SuperLink names no nodes now: %s", one_line(str(error)))
        return self._nodes

    def tell(self, messages: Iterable[Message], timeout: float) -> None:
        """Send messages to which no reply is awaited: who is left out must not hold up others."""
        for message in messages:
            message.metadata.ttl = timeout
            self._hand_over(message)

    def _push(
        self, message: Message, timeout: float, waiting: dict[str, _Sent], counted_as: str
    ) -> None:
        # The TTL ends with the wait: a node that comes back later must not work on stale messages.
        message.metadata.ttl = timeout
        message_id = self._hand_over(message)
        if message_id is None:
            return
        node_id, kind = message.metadata.dst_node_id, kind_of(message)
        waiting[message_id] = _Sent(
            node_id,
            kind,
            counted_as or kind,
            timeout,
            time.monotonic() + timeout,
            least_weights_up(message.content, kind),
        )
        self.traffic.count_request(message.content, counted_as or kind)

    def _hand_over(self, message: Message) -> str | None:
        """Give Flower a message; return its id, or None where Flower does not take it.

        Flower's SuperLink breaks off an upload that takes more than three minutes, for example.
        """
        reason = ""
        try:
            ids = [each for each in self.grid.push_messages([message]) if each]
        except (ObjectPushError, HTTPStatusError) as error:
            _check_passing(error)
            ids, reason = [], f": {one_line(str(error))}"
        if len(ids) == 1:
            return ids[0]
        node_id = message.metadata.dst_node_id
        self._log(node_id, kind_of(message), f"the message could not be sent{reason}")
        return None

    def _pull(self, waiting: dict[str, _Sent]) -> list[Message]:
        """Take the replies that are there.

        Flower reads them as it hands them over, and one that it cannot read takes all others of the
        same call with it. From then on each is taken by itself, so that it costs its sender alone.
        """
        if not self._one_by_one:
            try:
                return self._ask(list(waiting))
            except UNREADABLE as error:
                self._one_by_one = True
                logger.error(
                    "a reply cannot be read (%s) and takes others with it; replies are taken one "
                    "by one from now on", one_line(f"{type(error).__name__}: {error}"),
                )  # fmt: skip
        replies: list[Message] = []
        for message_id in list(waiting):
            try:
                replies += self._ask([message_id])
            except UNREADABLE as error:
                sent = waiting.pop(message_id)
                reason = one_line(f"{type(error).__name__}: {error}")
                self._log(sent.node_id, sent.kind, f"the reply cannot be read: {reason}")
        return replies

    def _ask(self, message_ids: list[str]) -> list[Message]:
        """Ask Flower for replies; it has none while the SuperLink's database is locked."""
        try:
            return list(self.grid.pull_messages(message_ids))
        except HTTPStatusError as error:
            _check_passing(error)
            logger.warning("the SuperLink hands over no replies now: %s", one_line(str(error)))
            return []

    def _accept(self, reply: Message, waiting: dict[str, _Sent]) -> bool:
        sent = waiting.pop(reply.metadata.reply_to_message_id, None)
        if sent is None:
            logger.warning("%s: dropped a reply to no message of this round", kind_of(reply))
            return False
        kind = sent.kind
        if reply.has_error():
            reason = one_line(reply.error.reason or "")
            self._log_error(sent.node_id, kind, f"error {reply.error.code}: {reason}")
            return False
        if not reply.has_content():
            self._log(sent.node_id, kind, "the reply is empty")
            return False
        if reply.metadata.src_node_id != sent.node_id:
            author = self.name_of(reply.metadata.src_node_id)
            self._log(sent.node_id, kind, f"the reply came from another node, {author}")
            return False
        if kind_of(reply) != kind:
            self._log(sent.node_id, kind, f"the reply is of another kind, {kind_of(reply)}")
            return False
        self.traffic.count_reply(reply.content, sent.counted_as, sent.least_weights)
        return True

    def _drop_late(self, waiting: dict[str, _Sent]) -> None:
        now = time.monotonic()
        for message_id in [key for key, sent in waiting.items() if sent.deadline <= now]:
            sent = waiting.pop(message_id)
            self._log(sent.node_id, sent.kind, f"no reply within {sent.seconds:g} s")

    def _log_error(self, node_id: int, kind: str, reason: str) -> None:
        """Log a node's error, unless another's of this call was the same."""
        if (kind, reason) in self._repeated:
            self._repeated[kind, reason].append(self.name_of(node_id))
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
        logger.warning("%s: client %s is left out: %s", kind, self.name_of(node_id), reason)


def _check_passing(error: Exception) -> None:
    """Raise an error again that says that the run, not the SuperLink, is at fault."""
    if isinstance(error, HTTPStatusError) and not error.response.is_server_error:
        raise error


def kind_of(message: Message) -> str:
    """Return the action that a message asks for or answers: train, evaluate, profile, .."""
    return one_line(message.metadata.message_type.rpartition(".")[2])


def one_line(reason: str) -> str:
    """Shorten an error's reason to one printable line: the last that names an error, or the first.

    A traceback names its error in its last lines, which may be followed by advice.
    """
    lines = [line.strip()[:LONGEST_LINE] for line in reason[-LONGEST_REASON:].splitlines()]
    named = [line for line in lines if re.search(r"(Error|Exception)\b", line)]
    line = (named[-1:] or [line for line in lines if line][:1] or ["no reason given"])[0]
    return "".join(char if char.isprintable() else " " for char in line)
