"""What every request says, and how a client introduces itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from feddag_flwr.records.parts import transport_of
from feddag_flwr.records.transport import EXACT
from feddag_flwr.records.values import (
    RecordError,
    image_shape_of,
    info_of,
    is_name,
    name_list,
    number_list,
    shown,
    value_of,
)

DESCRIBE_ACTION = "query.describe"


def _pixel_moments(info: Mapping[str, Any], channels: int) -> tuple[tuple[float, float], ...]:
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
    image_shape : tuple of int
        (channels, height, width).
    train_samples, test_samples : int
        Sizes of its two parts.
    pixel_moments : tuple of (float, float)
        A channel: mean and mean square of the training pixels, which lie in [0, 1].
    true_group : int or None
        Group that a made-up scenario put the client in, where there is one. For the adjusted Rand
        index and the algorithm ``oracle``, and for nothing else.
    """

    client: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_samples: int
    test_samples: int
    pixel_moments: tuple[tuple[float, float], ...]
    true_group: int | None = None

    def encode(self) -> RecordDict:
        """Write the reply."""
        info: dict[str, Any] = {
            "client": self.client,
            "class-names": list(self.class_names),
            "image-shape": list(self.image_shape),
            "train-samples": self.train_samples,
            "test-samples": self.test_samples,
            "pixel-means": [mean for mean, _ in self.pixel_moments],
            "pixel-squares": [square for _, square in self.pixel_moments],
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
        shape = image_shape_of(info)
        moments = _pixel_moments(info, channels=shape[0])
        group = value_of(info, "true-group", int) if "true-group" in info else None
        return cls(client, name_list(info, "class-names"), shape, train, test, moments, group)


@dataclass(frozen=True)
class Task:
    """What every request after the description says: who, when, and for which model.

    Attributes
    ----------
    client : str
        The name that the server knows this node by; a client of another name refuses.
    server_round : int
        0 for the profile.
    class_names : tuple of str
        All classes of the federation, in the order of the classifier's outputs.
    image_shape : tuple of int
        (channels, height, width) of the federation's images.
    pixel_scale : tuple of (float, float)
        A channel: mean and deviation by which pixels in [0, 1] are standardised for training.
    transport : str
        Number format of weights in this request and its reply (setting ``transport``).
    """

    client: str
    server_round: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    pixel_scale: tuple[tuple[float, float], ...]
    transport: str = EXACT

    def info(self) -> dict[str, Any]:
        """Return the values for the record ``info``."""
        return {
            "client": self.client,
            "round": self.server_round,
            "class-names": list(self.class_names),
            "image-shape": list(self.image_shape),
            "pixel-means": [mean for mean, _ in self.pixel_scale],
            "pixel-deviations": [deviation for _, deviation in self.pixel_scale],
            "transport": self.transport,
        }

    def signature(self) -> dict[str, Any]:
        """Return what every reply says in its record ``info``."""
        return {"client": self.client, "round": self.server_round, "transport": self.transport}

    def encode(self) -> RecordDict:
        """Write a request that says no more than this."""
        return RecordDict({"info": ConfigRecord(self.info())})

    @classmethod
    def decode(cls, content: RecordDict) -> Task:
        """Read and check the common part of a request."""
        info = info_of(content)
        shape = image_shape_of(info)
        means = number_list(info, "pixel-means", shape[0])
        deviations = number_list(info, "pixel-deviations", shape[0])
        if min(deviations) <= 0:
            raise RecordError(f"pixel-deviations must be positive, got {deviations}")
        return cls(
            value_of(info, "client", str),
            value_of(info, "round", int),
            name_list(info, "class-names"),
            shape,
            tuple(zip(means, deviations, strict=True)),
            transport_of(info),
        )


def check_author(info: Mapping[str, Any], task: Task) -> None:
    """Refuse a reply that is not of the client, the round and the format that were asked for."""
    client, server_round = value_of(info, "client", str), value_of(info, "round", int)
    if client != task.client:
        raise RecordError(f"signed {shown(client)}, but this node is {task.client!r}")
    if server_round != task.server_round:
        raise RecordError(f"is of round {server_round}, not {task.server_round}")
    if (transport := transport_of(info)) != task.transport:
        raise RecordError(f"travels as {transport}, not {task.transport}")
