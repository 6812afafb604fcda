"""Where replies come in, and what of them cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

from flwr.app import Message
from flwr.serverapp import Grid

from feddag_flwr.flower.errors import UNREADABLE, check_passing, one_line
from feddag_flwr.flower.private import HTTPStatusError

logger = logging.getLogger("flwr")


class Taken(NamedTuple):
    """What has come in.

    Attributes
    ----------
    messages : list of Message
        Replies, whole.
    refused : mapping of str to str
        Messages sent whose replies cannot be used, and why.
    """

    messages: list[Message]
    refused: Mapping[str, str]


class Inbox(Protocol):
    """The replies to messages sent."""

    def take(self, message_ids: Collection[str]) -> Taken:
        """Take the replies to some messages that are there, without waiting for others."""

    def drop(self, message_id: str) -> None:
        """Forget a message whose reply is awaited no longer."""


class WholeReplies:
    """Replies as Flower's grid hands them over: it waits for all parts of those that have begun."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._one_by_one = False

    def take(self, message_ids: Collection[str]) -> Taken:
        """Take the replies that are there.

        Flower reads them as it hands them over, and one that it cannot read takes all others of the
        same call with it. From then on each is taken by itself, so that it costs its sender alone.
        """
        if not self._one_by_one:
            try:
                return Taken(self._ask(list(message_ids)), {})
            except UNREADABLE as error:
                self._one_by_one = True
                logger.error(
                    "a reply cannot be read (%s) and takes others with it; replies are taken one "
                    "by one from now on", one_line(f"{type(error).__name__}: {error}"),
                )  # fmt: skip
        messages: list[Message] = []
        refused = {}
        for message_id in message_ids:
            try:
                messages += self._ask([message_id])
            except UNREADABLE as error:
                reason = one_line(f"{type(error).__name__}: {error}")
                refused[message_id] = f"the reply cannot be read: {reason}"
        return Taken(messages, refused)

    def drop(self, message_id: str) -> None:
        """Forget nothing: Flower keeps what has begun to come."""

    def _ask(self, message_ids: list[str]) -> list[Message]:
        """Ask Flower for replies; it has none while the SuperLink's database is locked."""
        try:
            return list(self._grid.pull_messages(message_ids))
        except HTTPStatusError as error:
            check_passing(error)
            logger.warning("the SuperLink hands over no replies now: %s", one_line(str(error)))
            return []
