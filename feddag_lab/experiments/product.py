"""All that the experiments use of the product, in one place."""

from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.run_folder import PROXIMITY
from feddag_flwr.seeds import generator
from feddag_flwr.settings import (
    FROM_PRESET,
    Settings,
    SettingsError,
    SettingValue,
    keys,
    under_new_names,
)

__all__ = [
    "FROM_PRESET",
    "PROXIMITY",
    "SettingValue",
    "Settings",
    "SettingsError",
    "adjusted_rand_index",
    "generator",
    "keys",
    "under_new_names",
]
