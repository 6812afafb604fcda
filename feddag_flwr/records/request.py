"""What every request is, and how one is declared: by fields whose types say what travels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    NamedTuple,
    Protocol,
    Self,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.records.arrays import number_of
from feddag_flwr.records.header import RequestHeader, check_author
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.parts import Candidates, Model, flat, message_of, nested, parts_of
from feddag_flwr.records.sizes import weights_nbytes
from feddag_flwr.records.values import RecordError, info_of, is_name, name_list, shown, value_of

Reply = TypeVar("Reply")
Reply_co = TypeVar("Reply_co", covariant=True)
# A number for each candidate model and class, shape (K, C).
Table = NDArray[np.float64]


class Request(Protocol[Reply_co]):
    """One question to one client; a frozen value."""

    @property
    def action(self) -> str:
        """Who answers it: ``train``, ``evaluate``, these or ``query`` with a name after a dot."""

    @property
    def counted_as(self) -> str:
        """Under which its bytes are counted and logs speak of it: train, profile, .."""

    @property
    def header(self) -> RequestHeader | None:
        """Whom it is for; None where that is not known yet."""

    def encode(self) -> RecordDict:
        """Write the request."""

    def read_reply(self, content: RecordDict, limits: Limits) -> Reply_co:
        """Read and check the reply; a `RecordError` says what is wrong with it."""

    def least_down(self) -> int:
        """Bytes of the values that the request has to carry, without headers: each part once."""

    def least_up(self) -> int:
        """Bytes of the weights that the reply has to carry; its other arrays come on top."""


class Must(NamedTuple):
    """What a value has to be, in words and as a test; second argument of an ``Annotated`` field."""

    be: str
    holds: Callable[[Any], bool]


AT_LEAST_1 = Must("1 or more", lambda value: value >= 1)
_TRAINING = {
    "epochs": AT_LEAST_1,
    "batch_size": AT_LEAST_1,
    "class_weights": Must("none or balanced", lambda value: value in ("none", "balanced")),
    "label_smoothing": Must("below 1", lambda value: value < 1),
}


@dataclass(frozen=True)
class ClientRequest(ABC, Generic[Reply]):
    """A request to one client, declared by its fields: a subclass is a frozen dataclass.

    Fields travel by their types: a `Model` or `Candidates` (which share a message with nothing else
    of that kind) as weights, `LocalTrainingConfig`, numbers, names and tuples of names in the
    record ``info``, a `Table` among the arrays. Numbers must be finite and 0 or more; ``Annotated``
    with a `Must` asks for more.

    Attributes
    ----------
    header : RequestHeader
        Whom it is for.
    """

    action: ClassVar[str]
    counted_as: ClassVar[str] = "train"

    header: RequestHeader

    def encode(self) -> RecordDict:
        """Write the request."""
        info, parts, arrays = self.header.info(), self._weights(), {}
        for name, (kind, _) in _declared(type(self)).items():
            value, key = getattr(self, name), name.replace("_", "-")
            if kind == Table:
                arrays[f"number.{key}"] = value
            elif kind is LocalTrainingConfig:
                info |= {_training_key(field): setting for field, setting in asdict(value).items()}
            elif kind not in (Model, Candidates):
                info[key] = list(value) if isinstance(value, tuple) else value
        return message_of(info, parts, arrays)

    @classmethod
    def decode(cls, content: RecordDict) -> Self:
        """Read and check the request; a `RecordError` names the key and the value."""
        info = info_of(content)
        values: dict[str, Any] = {}
        for name, (kind, must) in _declared(cls).items():
            key = name.replace("_", "-")
            if kind == Model:
                values[name] = nested(parts_of(content, info))[0]
            elif kind == Candidates:
                values[name] = nested(parts_of(content, info))[1]
                if not values[name]:
                    raise RecordError("holds no candidate models")
            elif kind == Table:
                values[name] = number_of(content, key, (None, None))
            elif kind is LocalTrainingConfig:
                values[name] = _training_of(info)
            else:
                values[name] = _checked(info, key, kind, must)
        return cls(RequestHeader.decode(content), **values)

    def read_reply(self, content: RecordDict, limits: Limits) -> Reply:
        """Read and check the reply of the client that was asked; see `Request`."""
        check_author(info_of(content), self.header)
        return self.read(content, limits)

    @abstractmethod
    def read(self, content: RecordDict, limits: Limits) -> Reply:
        """Read and check what the reply says beside who wrote it."""

    def starts(self) -> Model:
        """Return the parts that come back, as training starts from them; by default none."""
        return {}

    def least_down(self) -> int:
        """Bytes of all weights and tables."""
        kinds = _declared(type(self)).items()
        tables = sum(int(getattr(self, name).nbytes) for name, (kind, _) in kinds if kind == Table)
        return weights_nbytes(self._weights().values(), self.header.transport) + tables

    def least_up(self) -> int:
        """Bytes of the parts that come back."""
        return weights_nbytes(self.starts().values(), self.header.transport)

    def _weights(self) -> Model:
        weights: Model = {}
        for name, (kind, _) in _declared(type(self)).items():
            if kind in (Model, Candidates):
                value = getattr(self, name)
                weights |= flat(value) if kind == Candidates else value
        return weights


@lru_cache
def _declared(request: type[ClientRequest[Any]]) -> dict[str, tuple[Any, Must | None]]:
    """Return type and `Must` of each field but the header."""
    declared: dict[str, tuple[Any, Must | None]] = {}
    hints = get_type_hints(request, include_extras=True)
    for name in (field.name for field in fields(request) if field.name != "header"):
        kind, must = hints[name], None
        if get_origin(kind) is Annotated:
            kind, must = get_args(kind)
        declared[name] = kind, must
    return declared


def _checked(info: Mapping[str, Any], key: str, kind: Any, must: Must | None) -> Any:  # noqa: ANN401
    """Return one value of the record ``info``, of its type and within its bounds."""
    if kind == tuple[str, ...]:
        value: Any = name_list(info, key)
    else:
        value = value_of(info, key, kind)
    if kind is str and not is_name(value):
        raise RecordError(f"{key} = {shown(value)} is no name")
    if kind in (int, float) and not 0 <= value < np.inf:
        raise RecordError(f"{key} = {value} must be 0 or more, and finite")
    if must is not None and not must.holds(value):
        raise RecordError(f"{key} = {shown(value)} must be {must.be}")
    return value


def _training_key(name: str) -> str:
    return f"training-{name.replace('_', '-')}"


def _training_of(info: Mapping[str, Any]) -> LocalTrainingConfig:
    values = {}
    for field in fields(LocalTrainingConfig):
        must = _TRAINING.get(field.name)
        key = _training_key(field.name)
        values[field.name] = _checked(info, key, type(field.default), must)
    return LocalTrainingConfig(**values)
