"""The setting ``preset``: what settings are whose value is ``"preset"``."""

from __future__ import annotations

from collections.abc import Mapping

from feddag_flwr.sections import FROM_PRESET, SettingValue
from feddag_flwr.settings.catalogue import CATALOGUE, Setting


def values_of(preset: str, catalogue: Mapping[str, Setting] = CATALOGUE) -> dict[str, SettingValue]:
    """Return what a preset makes of each setting that it decides."""
    return {
        key: each.facts.preset.paper if preset == "paper" else each.facts.preset.own
        for key, each in catalogue.items()
        if each.facts.preset is not None
    }


def filled(
    config: Mapping[str, SettingValue], catalogue: Mapping[str, Setting] = CATALOGUE
) -> dict[str, SettingValue]:
    """Return a run config in which the preset has filled in what was not given."""
    values = values_of(str(config.get("preset", catalogue["preset"].default)), catalogue)
    given = {
        key: value for key, value in config.items() if not (key in values and value == FROM_PRESET)
    }
    return values | given
