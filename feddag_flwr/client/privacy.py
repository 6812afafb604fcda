"""What a client does not answer, and what not anew, where its profile is private."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context
from numpy.typing import NDArray

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.records import RecordError, RequestHeader

Arrays = Mapping[str, NDArray[Any]]

# Under which Flower keeps for a node what it told of itself, from one message to the next.
_KEPT_ARRAYS, _KEPT_DIGEST = "private-profile", "private-profile-of"


def check_header(header: RequestHeader) -> None:
    """Refuse questions about drift, which no epsilon covers."""
    if header.reference or header.looks:
        raise RecordError("the request asks about drift, which profile-epsilon does not cover")


def said_once(
    context: Context, data: LabelledSamples, asked: str, make: Callable[[], Arrays]
) -> Arrays:
    """Return the arrays that this node told before in this run, or make them now.

    New noise on the same samples would tell more of them, and so would the same on others. `asked`
    says what the arrays depend on besides the samples.

    Raises
    ------
    RecordError
        The samples, or what is asked, are others than they were.
    """
    state, now = context.state, _digest(data, asked)
    if _KEPT_ARRAYS not in state:
        made = make()
        state[_KEPT_ARRAYS] = ArrayRecord({key: Array(values) for key, values in made.items()})
        state[_KEPT_DIGEST] = ConfigRecord({"sha256": now})
        return made
    if state.config_records[_KEPT_DIGEST]["sha256"] != now:
        raise RecordError(
            "its data is not what its private profile was made of, and a second profile would "
            "cost more than profile-epsilon"
        )
    return {key: array.numpy() for key, array in state.array_records[_KEPT_ARRAYS].items()}


def _digest(data: LabelledSamples, asked: str) -> str:
    digest = hashlib.sha256(asked.encode())
    for sample in data.samples:
        digest.update(sample.tobytes())
    digest.update(data.labels.tobytes())
    return digest.hexdigest()
