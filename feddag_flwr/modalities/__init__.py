"""Kinds of data: what a sample is, how it becomes a model's input, and what phase 1 sees of it."""

from __future__ import annotations

from feddag_flwr.modalities.base import Modality, ModalityError, Rows, SampleSpec
from feddag_flwr.modalities.registry import MODALITIES, load_modality

__all__ = ["MODALITIES", "Modality", "ModalityError", "Rows", "SampleSpec", "load_modality"]
