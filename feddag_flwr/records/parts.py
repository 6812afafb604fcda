"""Weights of models in a message: written in a number format, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.records.arrays import array_of
from feddag_flwr.records.transport import EXACT, MAX_EXPONENT, TRANSPORTS, Packed, wire_dtype
from feddag_flwr.records.values import RecordError, name_list, shown, value_of

Model = dict[str, Weights]
Candidates = tuple[Model, ...]


def message_of(
    info: Mapping[str, Any],
    parts: Mapping[str, Weights],
    others: Mapping[str, NDArray[Any]] | None = None,
) -> RecordDict:
    """Make a message of values, weights in the format that ``info`` names, and other arrays.

    A `RecordError` names client, part and format where the format cannot carry the weights.
    """
    arrays, values = ArrayRecord(), dict(info)
    exponents = []
    for name, weights in parts.items():
        try:
            packed = Packed.of(weights.floats, info["transport"])
        except ValueError as error:
            raise RecordError(f"client {info['client']!r}, {name}: {error}") from error
        arrays[f"{name}.floats"] = Array(packed.values)
        if weights.buffers.size:
            arrays[f"{name}.buffers"] = Array(weights.buffers)
        if weights.integers.size:
            arrays[f"{name}.integers"] = Array(weights.integers)
        exponents.append(packed.exponent)
    if parts:
        values["parts"] = list(parts)
        if info["transport"] != EXACT:
            values["exponents"] = exponents
    for name, array in (others or {}).items():
        arrays[name] = Array(array)
    return RecordDict({"info": ConfigRecord(values), "arrays": arrays})


def packed_parts(
    content: RecordDict, info: Mapping[str, Any], expected: Mapping[str, Weights] | None = None
) -> dict[str, tuple[Packed, Weights]]:
    """Read all parts that a message has, as they travelled and as weights.

    `expected` are the parts that must be there, in the order of the result, as weights of the sizes
    that they must have; by default the message says.
    """
    transport = transport_of(info)
    names = name_list(info, "parts")
    if expected is not None and set(names) != set(expected):
        raise RecordError(f"holds parts {shown(sorted(names))}, must hold {sorted(expected)}")
    exponents = dict(zip(names, _exponents(info, transport, len(names)), strict=True))
    return {
        name: _part(content, name, transport, exponents[name], like)
        for name, like in (expected or dict.fromkeys(names)).items()
    }


def parts_of(
    content: RecordDict, info: Mapping[str, Any], expected: Mapping[str, Weights] | None = None
) -> Model:
    """Read the weights of all parts that a message has, see `packed_parts`."""
    return {name: weights for name, (_, weights) in packed_parts(content, info, expected).items()}


def transport_of(info: Mapping[str, Any]) -> str:
    """Return the number format that a message says it is in."""
    transport: str = value_of(info, "transport", str)
    if transport not in TRANSPORTS:
        raise RecordError(f"transport = {shown(transport)} must be among {TRANSPORTS}")
    return transport


def _exponents(info: Mapping[str, Any], transport: str, count: int) -> list[int]:
    if transport == EXACT:
        return [0] * count
    exponents: list[int] = value_of(info, "exponents", list)
    if len(exponents) != count or not all(
        type(exponent) is int and abs(exponent) <= MAX_EXPONENT for exponent in exponents
    ):
        raise RecordError(
            f"exponents must be {count} integers of {MAX_EXPONENT} at most, got {shown(exponents)}"
        )
    return exponents


def _part(
    content: RecordDict, name: str, transport: str, exponent: int, like: Weights | None
) -> tuple[Packed, Weights]:
    sizes = (None, None, None) if like is None else like.sizes
    values = array_of(content, f"{name}.floats", wire_dtype(transport), (sizes[0],))
    packed = Packed(values, exponent, transport)
    floats = packed.numbers()
    if transport != EXACT and not np.isfinite(floats).all():
        raise RecordError(f"{name} ({transport}) holds NaN or infinite values")
    empty = Weights(floats)
    buffers, integers = empty.buffers, empty.integers
    if f"{name}.buffers" in content["arrays"] or sizes[1]:
        buffers = array_of(content, f"{name}.buffers", np.float32, (sizes[1],))
    if f"{name}.integers" in content["arrays"] or sizes[2]:
        integers = array_of(content, f"{name}.integers", np.int64, (sizes[2],))
    return packed, Weights(floats, buffers, integers)


def flat(candidates: Sequence[Mapping[str, Weights]]) -> Model:
    """Name the parts of candidate models ``0/primary``, ``0/classifier``, ``1/primary``, .."""
    return {
        f"{index}/{part}": weights
        for index, model in enumerate(candidates)
        for part, weights in model.items()
    }


def nested(parts: Mapping[str, Weights]) -> tuple[Model, Candidates]:
    """Tell plain parts from those of candidate models."""
    plain: Model = {}
    models: dict[str, Model] = {}
    for name, weights in parts.items():
        index, slash, part = name.partition("/")
        if slash:
            models.setdefault(index, {})[part] = weights
        else:
            plain[name] = weights
    if list(models) != [str(index) for index in range(len(models))]:
        raise RecordError(f"candidate models are numbered {list(models)}")
    return plain, tuple(models.values())
