"""What is told of the settings at the start of a run: what the preset set, and what does nothing.

A setting does nothing where the run's algorithm does not read it, or where other settings leave it
without effect; each field says so itself (`feddag_flwr.sections.Facts`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.federation.context import listed
from feddag_flwr.settings import CATALOGUE, Settings, SettingValue
from feddag_flwr.settings.presets import values_of

logger = logging.getLogger("flwr")


def tell_of_settings(settings: Settings) -> None:
    """Log what the preset governs, and name settings that were given where they do nothing."""
    values = settings.to_run_config()
    usual = {key: each.default for key, each in CATALOGUE.items()}
    usual |= values_of(settings.run.preset)
    given = [key for key, value in values.items() if value != usual.get(key, value)]
    if settings.run.algorithm == "feddag":
        _tell_of_preset(settings.run.preset, values)
        _tell_of_idle_phase(settings)
    idle: dict[str, list[str]] = {}
    for key, where in _idle(settings.run.algorithm, values):
        if key in given:
            idle.setdefault(where, []).append(key)
    for where, names in idle.items():
        logger.warning("%s: no effect on training here, only where %s", listed(names), where)


def _tell_of_preset(preset: str, values: Mapping[str, SettingValue]) -> None:
    """Say what the settings are that the preset governs, and which of them were given otherwise."""
    pairs = [
        f"{key} = {values[key]!r}" + ("" if values[key] == value else f" (given, not {value!r})")
        for key, value in values_of(preset).items()
    ]
    logger.info("preset = %r: %s", preset, ", ".join(pairs))


def _tell_of_idle_phase(settings: Settings) -> None:
    """Say that the secondary encoder is never trained, where so."""
    period, rounds = settings.sharing.secondary_period, settings.run.num_rounds
    if 0 < rounds < period:
        logger.warning(
            "schedule = %r: no round of num-rounds = %d trains the secondary encoder, the first "
            "would be round %d",
            settings.sharing.schedule,
            rounds,
            period,
        )


def _idle(algorithm: str, values: Mapping[str, SettingValue]) -> Iterator[tuple[str, str]]:
    """Yield settings that have no effect under these values, and where they would have one."""
    for key, each in CATALOGUE.items():
        # Who wrote an algorithm of their own knows what it reads.
        if each.readers and algorithm in ALGORITHMS and algorithm not in each.readers:
            one = len(each.readers) == 1
            named = ", ".join(each.readers)
            yield key, f"algorithm = {named!r}" if one else f"algorithm is one of {named}"
        elif not each.has_effect(values):
            yield key, each.condition
