"""From the setting ``modality`` to a modality."""

from __future__ import annotations

from functools import lru_cache

from feddag_flwr.modalities.base import Modality
from feddag_flwr.registry import Registry

MODALITIES: Registry[type[Modality]] = Registry(
    "modality", {"image": "feddag_flwr.modalities.image:Image"}
)


@lru_cache(maxsize=8)
def load_modality(name: str) -> Modality:
    """Make the modality of a name, once a process.

    Raises
    ------
    RegistryError
        There is none.
    """
    return MODALITIES.load(name)()
