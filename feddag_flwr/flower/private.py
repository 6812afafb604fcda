"""All that is taken from inside Flower and its transport: none of it is a public interface.

A new version of Flower may move any of it; then this is the one module to mend.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_to_proto
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.run import Run
from google.protobuf.message import DecodeError
from httpx import HTTPStatusError

__all__ = [
    "DecodeError",
    "ErrorCode",
    "HTTPStatusError",
    "ObjectPushError",
    "Run",
    "flatten_dict",
    "flower_supernode",
    "get_flwr_home",
    "message_from_proto",
    "message_to_proto",
    "recorddict_to_proto",
]


# What only commands need is imported there: each message to a deployed client starts a process.


def flatten_dict(values: dict[str, Any] | None) -> dict[str, Any]:
    """Turn nested tables into keys with dots."""
    from flwr.common import config

    flat: dict[str, Any] = config.flatten_dict(values)
    return flat


def get_flwr_home() -> Path:
    """Return the folder that Flower keeps its apps and its configuration in."""
    from flwr.supercore import utils

    return Path(utils.get_flwr_home())


def flower_supernode() -> None:
    """Run the command ``flower-supernode`` with the options in ``sys.argv``."""
    from flwr.supernode.cli.flower_supernode import flower_supernode as command

    command()
