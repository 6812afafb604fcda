"""How to train locally, in the record ``info`` of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.records.values import RecordError, is_name, shown, value_of

# Values of which 0 has no meaning.
_POSITIVE = frozenset({"epochs", "batch_size"})


def config_info(config: LocalTrainingConfig) -> dict[str, Any]:
    """Return the values for the record ``info``."""
    return {_key(name): value for name, value in asdict(config).items()}


def config_of(info: Mapping[str, Any]) -> LocalTrainingConfig:
    """Read and check the values.

    Raises
    ------
    RecordError
        With the key and the value.
    """
    values = {}
    for each in fields(LocalTrainingConfig):
        key = _key(each.name)
        value = value_of(info, key, type(each.default))
        if isinstance(value, str):
            if not is_name(value):
                raise RecordError(f"{key} = {shown(value)} is no name")
        elif not 0 <= value < np.inf:
            raise RecordError(f"{key} = {value} must be 0 or more, and finite")
        elif each.name in _POSITIVE and not value:
            raise RecordError(f"{key} = {value} must be 1 or more")
        values[each.name] = value
    return LocalTrainingConfig(**values)


def number_at_least_0(info: Mapping[str, Any], key: str) -> float:
    """Return one finite number of 0 or more.

    Raises
    ------
    RecordError
        With the key and the value.
    """
    value: float = value_of(info, key, float)
    if not 0 <= value < np.inf:
        raise RecordError(f"{key} = {value} must be 0 or more, and finite")
    return value


def _key(name: str) -> str:
    return f"training-{name.replace('_', '-')}"
