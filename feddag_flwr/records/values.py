"""Single values of a message, read and checked."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from flwr.app import ConfigRecord, RecordDict

from feddag_flwr.class_names import class_name
from feddag_flwr.modalities import Rows, SampleSpec

# Most names in a list of classes or parts, and letters of a name.
MAX_NAMES = 1000
MAX_NAME = 200
# Most axes of a sample, its length along each, and letters that a modality may add.
MAX_AXES = 8
MAX_SIDE = 65_536
MAX_DETAILS = 1_000_000


class RecordError(ValueError):
    """A message does not carry what it should."""


class _Short(reprlib.Repr):
    """Representations of a line at most, whatever a sender made of a value."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlist = self.maxtuple = 6

    def repr_bytes(self, value: bytes, level: int) -> str:
        """Cut bytes before they are written out."""
        del level
        return repr(value[:20]) + ("..." if len(value) > 20 else "")


shown = _Short().repr


def info_of(content: RecordDict) -> Mapping[str, Any]:
    """Return the record ``info`` of a message."""
    record = content.get("info")
    if not isinstance(record, ConfigRecord):
        raise RecordError("no record 'info'")
    return cast(Mapping[str, Any], record)


def value_of(info: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:  # noqa: ANN401
    """Return one value of the record ``info``, of the type that it must have."""
    if key not in info:
        raise RecordError(f"no {key!r} in record 'info'")
    value = info[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise RecordError(f"{key} = {shown(value)} is of type {type(value).__name__}")
    return value


def name_list(info: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return a list of 1 to `MAX_NAMES` different names."""
    names = value_of(info, key, list)
    if not names or len(names) > MAX_NAMES:
        raise RecordError(f"{key} must be a list of 1 to {MAX_NAMES} names, got {len(names)}")
    for name in names:
        if not is_name(name):
            raise RecordError(f"{key}: {shown(name)} is no name")
    if len(set(names)) < len(names):
        raise RecordError(f"{key} names something twice: {shown(names)}")
    return tuple(names)


def class_names_of(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the list ``class-names``, its names in Unicode's form NFC and different still."""
    names = tuple(class_name(name) for name in name_list(info, "class-names"))
    if len(set(names)) < len(names):
        raise RecordError(f"class-names names something twice: {shown(list(names))}")
    return names


def is_name(value: object) -> bool:
    """Whether a value is a text of 1 to `MAX_NAME` letters that can be printed."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _can_be_written(text: str) -> bool:
    """Tell whether a text has no halves of letters, which no file and no log takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def spec_of(info: Mapping[str, Any]) -> SampleSpec:
    """Return what the record ``info`` says of samples; the modality has to check it."""
    shape, details = value_of(info, "sample-shape", list), value_of(info, "sample-details", str)
    right = all(type(side) is int and 0 < side <= MAX_SIDE for side in shape)
    if not right or not 1 <= len(shape) <= MAX_AXES:
        raise RecordError(f"sample-shape must be positive integers, got {shown(shape)}")
    if len(details) > MAX_DETAILS:
        raise RecordError(f"sample-details has {len(details)} letters, more than {MAX_DETAILS}")
    if not _can_be_written(details):
        raise RecordError(f"sample-details = {shown(details)} is no text")
    return SampleSpec(tuple(shape), details)


def rows_of(info: Mapping[str, Any], key: str) -> Rows:
    """Return rows of one length of finite numbers, as `put_rows` wrote them."""
    values, width = value_of(info, key, list), value_of(info, f"{key}-width", int)
    if not all(isinstance(value, float) and np.isfinite(value) for value in values):
        raise RecordError(f"{key} must be finite numbers, got {shown(values)}")
    if not 1 <= width <= max(1, len(values)) or len(values) % width:
        raise RecordError(f"{key}: {len(values)} numbers make no rows of {shown(width)}")
    return tuple(tuple(values[start : start + width]) for start in range(0, len(values), width))


def put_rows(key: str, rows: Rows) -> dict[str, Any]:
    """Write rows as values of the record ``info``."""
    flat = [value for row in rows for value in row]
    return {key: flat, f"{key}-width": len(rows[0]) if flat else 1}
