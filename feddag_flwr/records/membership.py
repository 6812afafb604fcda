"""How a client introduces itself, and how it is told that it is not wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from feddag_flwr.records.values import (
    RecordError,
    class_names_of,
    info_of,
    is_name,
    number_list,
    sample_shape_of,
    shown,
    value_of,
)

DESCRIBE_ACTION = "query.describe"
REJECTION_ACTION = "query.rejection"


@dataclass(frozen=True)
class DescribeRequest:
    """Asks a node who it is.

    Attributes
    ----------
    server_round : int
        The round under way; 0 before the first.
    """

    server_round: int

    def encode(self) -> RecordDict:
        """Write the request."""
        return RecordDict({"info": ConfigRecord({"round": self.server_round})})

    @classmethod
    def decode(cls, content: RecordDict) -> DescribeRequest:
        """Read and check the request."""
        return cls(value_of(info_of(content), "round", int))


@dataclass(frozen=True)
class Rejection:
    """Tells a client's owner why the server leaves it out.

    Attributes
    ----------
    text : str
        The reason, for the client's log.
    """

    text: str

    def encode(self) -> RecordDict:
        """Write the message; the reply is an empty one."""
        return RecordDict({"info": ConfigRecord({"rejection": self.text})})

    @classmethod
    def decode(cls, content: RecordDict) -> Rejection:
        """Read and check the message."""
        text: str = value_of(info_of(content), "rejection", str)
        return cls("".join(char if char.isprintable() else " " for char in text))


def _sample_moments(info: Mapping[str, Any], channels: int) -> tuple[tuple[float, float], ...]:
    means = number_list(info, "pixel-means", channels)
    squares = number_list(info, "pixel-squares", channels)
    moments = tuple(zip(means, squares, strict=True))
    # Of pixels in [0, 1]: square of the mean <= mean square <= mean; rounding gets a little room.
    if not all(0 <= m <= 1 and m * m - 1e-6 <= square <= m + 1e-6 for m, square in moments):
        raise RecordError(f"pixel-means, pixel-squares {shown(moments)} are of no pixels in [0, 1]")
    return moments


@dataclass(frozen=True)
class Description:
    """A client introduces itself (reply to ``query.describe``).

    Attributes
    ----------
    client : str
        Its stable name.
    class_names : tuple of str
        The classes that its data may hold.
    sample_shape : tuple of int
        (channels, height, width).
    train_samples, test_samples : int
        Sizes of its two parts.
    sample_moments : tuple of (float, float)
        A channel: mean and mean square of the training pixels, which lie in [0, 1].
    joins_in : int
        Round from which the client takes part; 0: from now on.
    true_group : int or None
        Group that a made-up scenario put the client in, where there is one. For the adjusted Rand
        index and the algorithm ``oracle``, and for nothing else.
    """

    client: str
    class_names: tuple[str, ...]
    sample_shape: tuple[int, int, int]
    train_samples: int
    test_samples: int
    sample_moments: tuple[tuple[float, float], ...]
    true_group: int | None = None
    joins_in: int = 0

    def encode(self) -> RecordDict:
        """Write the reply."""
        info: dict[str, Any] = {
            "client": self.client,
            "class-names": list(self.class_names),
            "sample-shape": list(self.sample_shape),
            "train-samples": self.train_samples,
            "test-samples": self.test_samples,
            "pixel-means": [mean for mean, _ in self.sample_moments],
            "pixel-squares": [square for _, square in self.sample_moments],
            "joins-in": self.joins_in,
        }
        if self.true_group is not None:
            info["true-group"] = self.true_group
        return RecordDict({"info": ConfigRecord(info)})

    @classmethod
    def decode(cls, content: RecordDict, limit: int) -> Description:
        """Read and check the reply; counts must lie in 1..limit (train), 0..limit (test)."""
        info = info_of(content)
        client = value_of(info, "client", str)
        if not is_name(client):
            raise RecordError(f"client = {shown(client)} is no name")
        train, test = value_of(info, "train-samples", int), value_of(info, "test-samples", int)
        if not 1 <= train <= limit:
            raise RecordError(f"train-samples = {train} is outside 1..{limit}")
        if not 0 <= test <= limit:
            raise RecordError(f"test-samples = {test} is outside 0..{limit}")
        shape = sample_shape_of(info)
        moments = _sample_moments(info, channels=shape[0])
        group = value_of(info, "true-group", int) if "true-group" in info else None
        names, joins_in = class_names_of(info), value_of(info, "joins-in", int)
        return cls(client, names, shape, train, test, moments, group, joins_in)
