"""Replies that come in parts: bounded in size, and none holds up another.

A node hands its reply to the SuperLink as a tree of objects: first a list of them, then their
contents one by one. Flower's own grid waits for the last of them, two hours at most, and reads on
whatever comes. So a node that sends slowly holds up a whole federation, and one that sends a
gigabyte fills the server's memory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from flwr.app import Message

from feddag_flwr.flower.errors import UNREADABLE, check_passing, one_line
from feddag_flwr.flower.inbox import Taken
from feddag_flwr.flower.private import HTTPStatusError, ReplyHead, RuntimeObjects

logger = logging.getLogger("flwr")

# Parts of a reply at most; Flower cuts arrays into parts of five megabytes.
MOST_PARTS: Final = 4096
# Parts that are asked for at once.
AT_ONCE: Final = 8
# Seconds until the next look for parts that are not there yet: short at first.
FIRST_PAUSE, LAST_PAUSE = 0.05, 2.0


class _RefusedError(Exception):
    """A reply is none that may be read; the message says why."""


@dataclass(eq=False)
class _Parcel:
    """A reply that has begun to come."""

    head: ReplyHead
    missing: list[str]
    parts: dict[str, bytes] = field(default_factory=dict)
    size: int = 0
    pause: float = FIRST_PAUSE
    next_look: float = 0.0


class BoundedReplies:
    """Replies of a deployment, part by part.

    Parameters
    ----------
    objects : RuntimeObjects
        Where their parts are.
    most_bytes : int
        Size of a reply at most; a larger one is refused as soon as so much of it has come, and what
        the SuperLink holds of it is deleted.
    """

    def __init__(self, objects: RuntimeObjects, most_bytes: int) -> None:
        self._objects = objects
        self._most_bytes = most_bytes
        self._parcels: dict[str, _Parcel] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="replies")

    def take(self, message_ids: Collection[str]) -> Taken:
        """Take the replies that are whole; those that are not stay, and grow with each call."""
        messages: list[Message] = []
        refused: dict[str, str] = {}
        try:
            self._open([each for each in message_ids if each not in self._parcels])
            for message_id, parcel in list(self._parcels.items()):
                try:
                    if self._has_come(parcel):
                        messages.append(self._unpack(parcel))
                        self.drop(message_id)
                except (_RefusedError, *UNREADABLE) as error:
                    refused[message_id] = _reason(error)
                    self.drop(message_id)
        except HTTPStatusError as error:
            check_passing(error)
            logger.warning("the SuperLink hands over no replies now: %s", one_line(str(error)))
        return Taken(messages, refused)

    def drop(self, message_id: str) -> None:
        """Forget a reply, whole or not, and delete what the SuperLink holds of it.

        One of very many parts stays there until the run ends: Flower deletes each part by a search
        through all, in one go, and its database is locked for minutes meanwhile.
        """
        parcel = self._parcels.pop(message_id, None)
        if parcel is None or len(parcel.head.parts) > MOST_PARTS:
            return
        try:
            self._objects.delete(parcel.head)
        except HTTPStatusError as error:
            check_passing(error)
            logger.warning("the SuperLink keeps a reply: %s", one_line(str(error)))

    def _open(self, message_ids: list[str]) -> None:
        """Ask for replies that have begun to come since; the SuperLink names each once."""
        if not message_ids:
            return
        for head in self._objects.heads(message_ids):
            self._parcels[head.answers] = _Parcel(head, list(head.parts))

    def _has_come(self, parcel: _Parcel) -> bool:
        """Fetch what is there of a reply; tell whether it is whole."""
        if len(parcel.head.parts) > MOST_PARTS:
            raise _RefusedError(
                f"the reply has {len(parcel.head.parts):,} parts, {MOST_PARTS:,} at most are read"
            )
        if time.monotonic() < parcel.next_look:
            return False
        while parcel.missing:
            asked = parcel.missing[:AT_ONCE]
            come = dict(zip(asked, self._pool.map(self._objects.content, asked), strict=True))
            parcel.parts |= {part: content for part, content in come.items() if content}
            parcel.missing = [part for part in parcel.missing if part not in parcel.parts]
            parcel.size += sum(map(len, come.values()))
            if parcel.size > self._most_bytes:
                raise _RefusedError(
                    f"the reply has more than {self._most_bytes:,} bytes (max-reply-size)"
                )
            if not any(come.values()):
                parcel.next_look = time.monotonic() + parcel.pause
                parcel.pause = min(LAST_PAUSE, 2 * parcel.pause)
                return False
        return True

    def _unpack(self, parcel: _Parcel) -> Message:
        message = self._objects.message(parcel.head, parcel.parts)
        # The SuperLink vouches for what it says of a reply; what the reply says of itself is not to
        # be believed.
        head, own = parcel.head, message.metadata
        if (own.reply_to_message_id, own.src_node_id) != (head.answers, head.sender):
            raise _RefusedError("the reply claims another sender, or to answer another message")
        return message


def _reason(error: Exception) -> str:
    if isinstance(error, _RefusedError):
        return str(error)
    return f"the reply cannot be read: {one_line(f'{type(error).__name__}: {error}')}"
