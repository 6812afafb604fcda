"""What is known of a client's data before it is read."""

from __future__ import annotations

from typing import NamedTuple

from feddag_flwr.modalities.base import SampleSpec


class Outline(NamedTuple):
    """What is known of a client's data before it is read."""

    name: str
    class_names: tuple[str, ...]
    spec: SampleSpec
    train: int
    test: int
    files_left_out: int = 0
