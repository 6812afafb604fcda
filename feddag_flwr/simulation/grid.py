"""A Flower grid whose nodes live in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from feddag_flwr.records import REJECTION_ACTION
from feddag_flwr.settings import Settings

logger = logging.getLogger("flwr")

NodeConfig = Mapping[str, bool | int | float | str]

RUN_ID = 1
SERVER_NODE = 1
FIRST_NODE = 101


class InProcessGrid(Grid):
    """Runs the ClientApp of each node as its message is pushed; the reply is there to be pulled.

    Nobody is late here, however slow the machine: an exchange starts a message's clock once the
    push is over. Messages are written and read as on the wire, so that server and clients share
    nothing that one of them could change.

    Parameters
    ----------
    app : ClientApp
        What every node runs.
    settings : Settings
        The run config of every node.
    node_configs : sequence of mapping, optional
        One node each, with ids 101, 102, ..; by default partitions 0 to ``num-clients`` - 1.

    Attributes
    ----------
    contexts : dict of int to Context
        By node id: what Flower keeps for a node from one message to the next.
    """

    def __init__(
        self,
        app: ClientApp,
        settings: Settings,
        node_configs: Sequence[NodeConfig] | None = None,
    ) -> None:
        self.app = app
        if node_configs is None:
            node_configs = partitions(settings, settings.num_clients)
        self.contexts = {
            FIRST_NODE + index: Context(
                RUN_ID, FIRST_NODE + index, dict(config), RecordDict(), settings.to_run_config()
            )
            for index, config in enumerate(node_configs)
        }
        self._replies: dict[str, Message] = {}
        self._pushed = 0

    def get_node_ids(self) -> list[int]:
        """Return the ids of all nodes."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let each message's node work, and keep the replies.

        Returns
        -------
        list of str
            A message id for each message.
        """
        ids = []
        for message in messages:
            self._pushed += 1
            message_id = f"message-{self._pushed}"
            message.metadata.__dict__.update(
                _message_id=message_id, _src_node_id=SERVER_NODE, _run_id=RUN_ID
            )
            reply = self.answer(message)
            if reply is not None and message.metadata.message_type != REJECTION_ACTION:
                self._replies[message_id] = reply
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies to these messages, in the order of the ids; each is given once."""
        return [self._replies.pop(each) for each in message_ids if each in self._replies]

    def answer(self, message: Message) -> Message | None:
        """Return a node's reply: the app's own, or an error where the app raises, as Flower does.

        None stands for a reply that never comes.
        """
        try:
            received = message_from_proto(message_to_proto(message))
            reply = self.app(received, self.contexts[message.metadata.dst_node_id])
            return message_from_proto(message_to_proto(reply))
        except Exception as error:
            logger.debug("the ClientApp raised", exc_info=True)
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    # -- the rest of Flower's interface, which the exchange does not use ---------------------------

    def set_run(self, run: Run) -> None:
        """Refuse: there is no SuperLink that runs could belong to."""
        raise NotImplementedError("an in-process grid belongs to no run of a SuperLink")

    @property
    def run(self) -> Run:
        """Refuse: there is no SuperLink that runs could belong to."""
        raise NotImplementedError("an in-process grid belongs to no run of a SuperLink")

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Refuse: deprecated in Flower; make a ``Message``."""
        raise NotImplementedError("make a flwr.app.Message")

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Push messages and pull their replies; nothing is ever late."""
        del timeout
        return self.pull_messages(self.push_messages(messages))


def partitions(settings: Settings, count: int) -> list[NodeConfig]:
    """Return the node configs that Flower's simulation gives to `count` nodes."""
    return [
        {"partition-id": index, "num-partitions": settings.num_clients} for index in range(count)
    ]
