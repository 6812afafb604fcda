"""A Flower grid whose nodes live in this process."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from feddag_flwr.client.driver import answer_batch
from feddag_flwr.flower.private import ErrorCode, Run, message_from_proto, message_to_proto
from feddag_flwr.records import REJECTION_ACTION
from feddag_flwr.registries import TRAINERS
from feddag_flwr.settings import Settings
from feddag_flwr.trainers import LocalTrainer

logger = logging.getLogger("flwr")

NodeConfig = Mapping[str, bool | int | float | str]

RUN_ID = 1
SERVER_NODE = 1
FIRST_NODE = 101


class InProcessGrid(Grid):
    """Runs the ClientApp of each node as its message is pushed; the reply is there to be pulled.

    Where the setting ``trainer`` names one that wants batches, messages are collected instead, and
    answered together once replies are pulled; by this project's client, whatever `app` is. Nobody
    is late here, however slow the machine: an exchange starts a message's clock once the push is
    over. Messages are written and read as on the wire, so that server and clients share nothing
    that one of them could change.

    Nodes have ids 101, 102, ..; without `node_configs` they are partitions 0 to ``num-clients`` -
    1. `contexts` has by node what Flower keeps for it from one message to the next.
    """

    def __init__(
        self, app: ClientApp, settings: Settings, node_configs: Sequence[NodeConfig] | None = None
    ) -> None:
        self.app = app
        if node_configs is None:
            node_configs = partitions(settings, settings.run.num_clients)
        self.contexts = {
            FIRST_NODE + index: Context(
                RUN_ID, FIRST_NODE + index, dict(config), RecordDict(), settings.to_run_config()
            )
            for index, config in enumerate(node_configs)
        }
        self._trainer: LocalTrainer = TRAINERS.load(settings.training.trainer)
        self._replies: dict[str, Message] = {}
        self._collected: dict[str, Message] = {}
        self._pushed = 0

    def get_node_ids(self) -> list[int]:
        """Return the ids of all nodes."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let each message's node work, and keep its reply, or collect the message; return ids."""
        ids = []
        for message in messages:
            self._pushed += 1
            message_id = f"message-{self._pushed}"
            message.metadata.__dict__.update(
                _message_id=message_id, _src_node_id=SERVER_NODE, _run_id=RUN_ID
            )
            if self._trainer.batches:
                self._collected[message_id] = message
            else:
                self._keep(message, self.answer(message))
            ids.append(message_id)
        return ids

    def _keep(self, message: Message, reply: Message | None) -> None:
        if reply is not None and message.metadata.message_type != REJECTION_ACTION:
            self._replies[message.metadata.message_id] = reply

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies to these messages, in the order of the ids; each is given once."""
        if self._collected:
            messages, self._collected = list(self._collected.values()), {}
            for message, reply in zip(messages, self.answer_together(messages), strict=True):
                self._keep(message, reply)
        return [self._replies.pop(key) for key in message_ids if key in self._replies]

    def answer(self, message: Message) -> Message | None:
        """Return a node's reply: the app's own, or an error where the app raises, as Flower does.

        None stands for a reply that never comes.
        """
        try:
            return _copied(self.app(_copied(message), self.contexts[message.metadata.dst_node_id]))
        except Exception as error:
            logger.debug("the ClientApp raised", exc_info=True)
            return _error(error, message)

    def answer_together(self, messages: Sequence[Message]) -> list[Message | None]:
        """Return the nodes' replies, as `answer` does, with what is to be trained in batches."""
        contexts = [self.contexts[message.metadata.dst_node_id] for message in messages]
        answers = answer_batch([_copied(message) for message in messages], contexts, self._trainer)
        return [
            _error(reply, message) if isinstance(reply, Exception) else _copied(reply)
            for message, reply in zip(messages, answers, strict=True)
        ]

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


def _copied(message: Message) -> Message:
    """Write a message and read it, as on the wire."""
    return message_from_proto(message_to_proto(message))


def _error(error: Exception, message: Message) -> Message:
    reason = f"{type(error).__name__}: {error}"
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)


def partitions(settings: Settings, count: int) -> list[NodeConfig]:
    """Return the node configs that Flower's simulation gives to `count` nodes."""
    return [
        {"partition-id": index, "num-partitions": settings.run.num_clients}
        for index in range(count)
    ]
