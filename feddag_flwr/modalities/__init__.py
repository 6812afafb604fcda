"""Kinds of data: what a sample is, how it becomes a model's input, and what phase 1 sees of it."""

from __future__ import annotations

from functools import lru_cache

from feddag_flwr.modalities.base import Modality, ModalityError, Rows, SampleSpec
from feddag_flwr.registries import MODALITIES

__all__ = ["Modality", "ModalityError", "Rows", "SampleSpec", "load_modality"]


@lru_cache(maxsize=8)
def load_modality(name: str) -> Modality:
    """Make the modality of a name, once a process; `RegistryError` if there is none."""
    modality: Modality = MODALITIES.make(name)
    return modality
