"""Says what is wrong with a run config: the key, the value it had, and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from feddag_flwr.sections import FROM_PRESET, Section, SettingValue
from feddag_flwr.settings.catalogue import OWN, Setting

_WORDS = {"≥": "at least", ">": "above", "≤": "at most", "<": "below"}


def unknown_keys(config: Mapping[str, SettingValue], catalogue: Iterable[str]) -> list[str]:
    """Say of each key that is none which one may have been meant.

    Keys of the user's own algorithms stand in the app's run config whichever algorithm runs.
    """
    faults, known = [], set(catalogue)
    for key in config:
        if key not in known and not key.startswith(OWN):
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; docs/settings.md lists all"
            faults.append(f"unknown setting {key!r} = {config[key]!r}{hint}")
    return faults


def section_faults(
    kind: type[Section], config: Mapping[str, SettingValue], catalogue: Mapping[str, Setting]
) -> list[str]:
    """Say what is wrong with the values of one section."""
    try:
        kind.model_validate(dict(config))
    except ValidationError as error:
        return [_explain(dict(fault), catalogue) for fault in error.errors()]
    return []


def _explain(fault: dict[str, Any], catalogue: Mapping[str, Setting]) -> str:
    """Turn one pydantic fault into 'setting KEY = VALUE: what is allowed'."""
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:  # a fault between settings names its keys itself
        return f"setting {message}"
    key = str(fault["loc"][0])
    # What validators of our own say, and pydantic of choices, is all that is allowed.
    if key in catalogue and fault["type"] not in {"value_error", "literal_error"}:
        message += f"; allowed: {_allowed(catalogue[key])}"
    by_preset = key in catalogue and catalogue[key].facts.preset is not None
    more = f", or {FROM_PRESET!r}" if by_preset else ""
    return f"setting {key} = {fault['input']!r}: {message[0].lower()}{message[1:]}{more}"


def _allowed(each: Setting) -> str:
    """Say what a setting may be that is no choice of texts."""
    if each.field.annotation is str:
        return "a text in quotes"
    if each.choices:
        return f"{', '.join(each.choices[:-1])} or {each.choices[-1]}"
    kind = "a whole number" if each.field.annotation is int else "a number"
    return ", ".join([kind, *(f"{_WORDS[sign]} {bound}" for sign, bound in each.bounds.items())])
