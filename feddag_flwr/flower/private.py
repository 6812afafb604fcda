"""All that is taken from inside Flower and its transport: none of it is a public interface.

A new version of Flower may move any of it; then this is the one module to mend.
"""

from pathlib import Path
from typing import Any

from flwr.common.constant import ErrorCode as ErrorCode
from flwr.common.serde import message_from_proto as message_from_proto
from flwr.common.serde import message_to_proto as message_to_proto
from flwr.common.serde import recorddict_to_proto as recorddict_to_proto
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError as ObjectPushError
from flwr.supercore.run import Run as Run
from google.protobuf.message import DecodeError as DecodeError
from httpx import HTTPStatusError as HTTPStatusError

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
