"""Finds the trials that ran with other settings than their fellows: no mean is over both."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from typing import Any, TypeVar

from feddag_lab.experiments.product import FROM_PRESET, Settings, keys, under_new_names

# Where things lie, not what is computed: a trial stays valid when its folder is moved.
PLACES = frozenset(keys(lambda facts: facts.place != ""))
# What a machine offers, not what is computed: a trial may have run with others than the suite's.
MACHINE_SETTINGS = frozenset(keys(lambda facts: facts.machine))
# What decides which client holds which images: alike in all trials of a scenario, whatever trains.
DATA_SETTINGS = frozenset(keys(lambda facts: facts.shapes_data))

# What a run did before there was a setting for it, where that is not today's default.
BEFORE_THE_SETTING = {
    "teacher-clusters": "graph", "combine-teachers": "sum", "classifier-training": "joint",
    "secondary-start": "random",
}  # fmt: skip

Key = TypeVar("Key", bound=Hashable)


def in_full(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a run's settings by what it did where one was not there yet when it ran."""
    return Settings().to_run_config() | BEFORE_THE_SETTING | under_new_names(settings)


def deviation(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Say in what a run deviates from what its suite sets; None where it does not."""
    had, wanted = in_full(settings), under_new_names(wanted)
    for key in sorted(set(wanted) - MACHINE_SETTINGS):
        if wanted[key] != FROM_PRESET and had.get(key) != wanted[key]:
            return f"{key} is {had.get(key)!r}, the suite says {wanted[key]!r}"
    return None


def odd_ones(
    settings: Mapping[Key, Mapping[str, Any]], *, only: Collection[str] | None = None
) -> dict[Key, str]:
    """Find the runs whose settings are not those of most of their fellows.

    Parameters
    ----------
    settings : mapping of a run's key to its settings
        Runs that ought to agree. Where no value is the most frequent, today's default is right,
        or else the first run's value.
    only : collection of str, optional
        The settings to compare; by default all but the seed and `MACHINE_SETTINGS`.

    Returns
    -------
    dict of a run's key to str
        Of each odd run, the first setting by name in which it is odd.
    """
    full = {key: in_full(each) for key, each in settings.items()}
    names = {name for each in full.values() for name in each}
    compared = names - MACHINE_SETTINGS - {"seed"} if only is None else names & set(only)
    defaults = Settings().to_run_config()
    odd: dict[Key, str] = {}
    for name in sorted(compared):
        # As JSON, so that 1 and true, or lists, are told apart and can be counted.
        had = {key: json.dumps(each[name]) for key, each in full.items() if name in each}
        right = _most_frequent(had.values(), json.dumps(defaults.get(name)))
        for key, value in had.items():
            if value != right and key not in odd:
                odd[key] = f"{name} is {value}, in the trials that it is held against {right}"
    return odd


def _most_frequent(values: Collection[str], default: str) -> str:
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], value == default))
