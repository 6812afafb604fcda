"""What a section of the settings is made of; the sections stand beside what they configure.

`feddag_flwr.settings` composes them. Nothing here knows of any setting.
"""

from feddag_flwr.sections.errors import SettingsError
from feddag_flwr.sections.field import (
    FROM_PRESET,
    Above,
    Effect,
    Facts,
    Place,
    Preset,
    advanced,
    setting,
)
from feddag_flwr.sections.section import Section, SettingValue, prefixed

__all__ = [
    "FROM_PRESET",
    "Above",
    "Effect",
    "Facts",
    "Place",
    "Preset",
    "Section",
    "SettingValue",
    "SettingsError",
    "advanced",
    "prefixed",
    "setting",
]
