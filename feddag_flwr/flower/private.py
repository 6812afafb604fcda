"""All that is taken from inside Flower and its transport: none of it is a public interface.

A new version of Flower may move any of it; then this is the one module to mend.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from flwr.app import Message
from flwr.common.constant import ErrorCode as ErrorCode
from flwr.common.serde import message_from_proto as message_from_proto
from flwr.common.serde import message_to_proto as message_to_proto
from flwr.common.serde import recorddict_to_proto as recorddict_to_proto
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError as ObjectPushError
from flwr.supercore.run import Run as Run
from google.protobuf.message import DecodeError as DecodeError
from httpx import HTTPStatusError as HTTPStatusError


class ReplyHead(NamedTuple):
    """What the SuperLink says of a reply.

    Attributes
    ----------
    message_id, answers : str
        Of the reply, and of the message that it answers.
    sender : int
        Node that it comes from.
    parts : tuple of str
        Ids of its objects, each once.
    """

    message_id: str
    answers: str
    sender: int
    parts: tuple[str, ...]


class RuntimeObjects:
    """The objects of replies at the SuperLink, through the client of a server app's grid."""

    def __init__(self, grid: Grid) -> None:
        self._grid = cast(Any, grid)

    @classmethod
    def of(cls, grid: Grid) -> "RuntimeObjects | None":
        """Return those of a deployment's grid; None of one in the same process."""
        return cls(grid) if hasattr(type(grid), "_runtime_client") else None

    def heads(self, message_ids: Sequence[str]) -> Iterator[ReplyHead]:
        """Yield what the SuperLink says of replies that have begun to come, of each once."""
        from flwr.proto.runtime_pb2 import PullAppMessagesRequest
        from flwr.supercore.inflatable.inflatable_object import iterate_object_tree

        client = self._grid._runtime_client
        found = client.PullMessages(PullAppMessagesRequest(message_ids=message_ids))
        for message, tree in zip(found.messages_list, found.message_object_trees, strict=True):
            told = message.metadata
            parts = tuple(dict.fromkeys(each.object_id for each in iterate_object_tree(tree)))
            yield ReplyHead(told.message_id, told.reply_to_message_id, int(told.src_node_id), parts)

    def content(self, part: str) -> bytes:
        """Return an object; nothing if it has not come yet. A `LookupError` if it never will."""
        from flwr.proto.message_pb2 import PullObjectRequest

        grid = self._grid
        request = PullObjectRequest(node=grid.node, run_id=grid.run.run_id, object_id=part)
        found = grid._runtime_client.PullObject(request)
        if not found.object_found:
            raise LookupError("a part of it is missing for good")
        return bytes(found.object_content) if found.object_available else b""

    def delete(self, head: ReplyHead) -> None:
        """Delete all that the SuperLink holds of a reply."""
        from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest

        grid = self._grid
        grid._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=grid.node, run_id=grid.run.run_id, message_object_id=head.message_id
            )
        )

    @staticmethod
    def message(head: ReplyHead, parts: dict[str, bytes]) -> Message:
        """Put a reply together from its objects, which are used up."""
        from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

        message = cast(Message, inflate_object_from_contents(head.message_id, parts))
        message.metadata.__dict__["_message_id"] = head.message_id
        return message


# What only commands need is imported there: each message to a deployed client starts a process.


def flatten_dict(values: dict[str, Any] | None) -> dict[str, Any]:
    """Turn nested tables into keys with dots."""
    from flwr.common import config

    return config.flatten_dict(values)


def get_flwr_home() -> Path:
    """Return the folder that Flower keeps its apps and its configuration in."""
    from flwr.supercore import utils

    return Path(utils.get_flwr_home())


def flower_supernode() -> None:
    """Run the command ``flower-supernode`` with the options in ``sys.argv``."""
    from flwr.supernode.cli.flower_supernode import flower_supernode as command

    command()
