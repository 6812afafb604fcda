"""What every request of a round says, and what every reply must repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.metrics import DEFAULT_METRICS
from feddag_flwr.modalities import Rows, SampleSpec
from feddag_flwr.records.parts import message_of, transport_of
from feddag_flwr.records.transport import EXACT
from feddag_flwr.records.values import (
    RecordError,
    class_names_of,
    info_of,
    name_list,
    put_rows,
    rows_of,
    shown,
    spec_of,
    value_of,
)


@dataclass(frozen=True)
class RequestHeader:
    """What every request after the description says: who, when, and for which model.

    Attributes
    ----------
    client : str
        The name that the server knows this node by; a client of another name refuses.
    class_names : tuple of str
        All classes of the federation, in the order of the classifier's outputs.
    sample_scale : tuple of rows
        How samples become inputs of a model, see `Modality.scale`.
    transport : str
        Number format of weights in this request and its reply (setting ``transport``).
    reference : tuple of int
        Samples of each class that the client had when it was profiled, for it to tell whether its
        data has drifted; empty: it is not asked.
    looks : tuple of float
        How its classes looked then (`similarity.looks`), for the same; empty: it is not asked.
    """

    client: str
    server_round: int
    class_names: tuple[str, ...]
    sample_shape: tuple[int, ...]
    sample_scale: Rows
    transport: str = EXACT
    reference: tuple[int, ...] = ()
    metrics: tuple[str, ...] = DEFAULT_METRICS
    modality: str = "image"
    sample_details: str = ""
    looks: tuple[float, ...] = ()

    @property
    def spec(self) -> SampleSpec:
        """What all samples have in common."""
        return SampleSpec(self.sample_shape, self.sample_details)

    def info(self) -> dict[str, Any]:
        """Return the values for the record ``info``."""
        return {
            "client": self.client,
            "round": self.server_round,
            "class-names": list(self.class_names),
            "modality": self.modality,
            "sample-shape": list(self.sample_shape),
            "sample-details": self.sample_details,
            **put_rows("scale", self.sample_scale),
            "transport": self.transport,
            "reference": list(self.reference),
            "metrics": list(self.metrics),
            **({"reference-looks": list(self.looks)} if self.looks else {}),
        }

    def signature(self) -> dict[str, Any]:
        """Return what every reply says in its record ``info``."""
        return {"client": self.client, "round": self.server_round, "transport": self.transport}

    def encode(self) -> RecordDict:
        """Write a request that says no more than this."""
        return RecordDict({"info": ConfigRecord(self.info())})

    def reply(
        self,
        parts: Mapping[str, Weights] | None = None,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        **values: Any,  # noqa: ANN401
    ) -> RecordDict:
        """Write a reply: weights, other arrays, and values for the record ``info``."""
        return message_of(self.signature() | values, parts or {}, arrays)

    @classmethod
    def decode(cls, content: RecordDict) -> RequestHeader:
        """Read and check the common part of a request; spec and scale are for the modality."""
        info = info_of(content)
        spec = spec_of(info)
        names = class_names_of(info)
        return cls(
            value_of(info, "client", str),
            value_of(info, "round", int),
            names,
            spec.shape,
            rows_of(info, "scale"),
            transport_of(info),
            _reference(info, len(names)),
            name_list(info, "metrics"),
            value_of(info, "modality", str),
            spec.details,
            _looks(info),
        )


def _reference(info: Mapping[str, Any], classes: int) -> tuple[int, ...]:
    counts = value_of(info, "reference", list)
    whole = all(isinstance(count, int) and count >= 0 for count in counts)
    if counts and (len(counts) != classes or not whole):
        raise RecordError(f"reference must be {classes} counts, got {shown(counts)}")
    return tuple(counts)


def _looks(info: Mapping[str, Any]) -> tuple[float, ...]:
    if "reference-looks" not in info:
        return ()
    numbers = value_of(info, "reference-looks", list)
    if not all(isinstance(number, float) and isfinite(number) for number in numbers):
        raise RecordError(f"reference-looks must be finite numbers, got {shown(numbers)}")
    return tuple(numbers)


@dataclass(frozen=True)
class Drift:
    """What has changed of a client's data since it was profiled."""

    classes: bool = False  # which there are, or how many samples of each (A.9)
    looks: bool = False  # what the samples of a class look like

    def __bool__(self) -> bool:
        return self.classes or self.looks

    def values(self, header: RequestHeader) -> dict[str, Any]:
        """Return the values for the record ``info``, of a reply to a request of this header."""
        return {"drifted": self.classes} | ({"looks-changed": self.looks} if header.looks else {})


NO_DRIFT = Drift()


def drift_of(info: Mapping[str, Any], header: RequestHeader) -> Drift:
    """Read what has changed of a client's data, as far as the header asked for it."""
    classes = bool(header.reference) and value_of(info, "drifted", bool)
    return Drift(classes, bool(header.looks) and value_of(info, "looks-changed", bool))


def check_author(info: Mapping[str, Any], header: RequestHeader) -> None:
    """Refuse a reply that is not of the client, the round and the format that were asked for."""
    client, server_round = value_of(info, "client", str), value_of(info, "round", int)
    if client != header.client:
        raise RecordError(f"signed {shown(client)}, but this node is {header.client!r}")
    if server_round != header.server_round:
        raise RecordError(f"is of round {server_round}, not {header.server_round}")
    if (transport := transport_of(info)) != header.transport:
        raise RecordError(f"travels as {transport}, not {header.transport}")
