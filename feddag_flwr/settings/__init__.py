"""Every setting of a run, composed of the sections that stand beside what they configure.

The ``[tool.flwr.app.config]`` table of ``pyproject.toml`` mirrors the defaults, and
``docs/settings.md`` is made from the fields; tests hold the three together.
"""

from feddag_flwr.sections import FROM_PRESET, SettingsError, SettingValue
from feddag_flwr.settings.catalogue import CATALOGUE, OWN, defaults, keys
from feddag_flwr.settings.composition import Settings
from feddag_flwr.settings.renamed import refuse_old_names, under_new_names

__all__ = [
    "CATALOGUE",
    "FROM_PRESET",
    "OWN",
    "SettingValue",
    "Settings",
    "SettingsError",
    "defaults",
    "keys",
    "refuse_old_names",
    "under_new_names",
]
