"""The setting ``preset``: what settings are whose value is ``"preset"``."""

from __future__ import annotations

from collections.abc import Mapping

from feddag_flwr.sections import FROM_PRESET, SettingValue
from feddag_flwr.settings.catalogue import CATALOGUE


def values_of(preset: str) -> dict[str, SettingValue]:
    """Return what a preset makes of each setting that it decides."""
    return {
        key: each.facts.preset.paper if preset == "paper" else each.facts.preset.own
        for key, each in CATALOGUE.items()
        if each.facts.preset is not None
    }


def filled(config: Mapping[str, SettingValue]) -> dict[str, SettingValue]:
    """Return a run config in which the preset has filled in what was not given."""
    values = values_of(str(config.get("preset", CATALOGUE["preset"].default)))
    given = {
        key: value for key, value in config.items() if not (key in values and value == FROM_PRESET)
    }
    return values | given
