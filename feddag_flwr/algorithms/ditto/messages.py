"""Ditto's own message: train the global model, and the client's own beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from feddag_flwr.records import Model, TrainRequest
from feddag_flwr.records.train import TRAINED

# What the names of a personal model's parts begin with.
PERSONAL = "personal-"


def personal_parts(parts: Model) -> Model:
    """Return the parts of the personal model among those of a message, as a model has them."""
    return {part: parts[PERSONAL + part] for part in TRAINED}


@dataclass(frozen=True)
class DittoTrainRequest(TrainRequest):
    """One round for one client: parts of the global model w and, as ``personal-..``, of v_k.

    Attributes
    ----------
    pull : float
        lambda, the weight of the pull of v_k to w.
    """

    action: ClassVar[str] = "train.ditto"

    pull: float = 1.0

    def starts(self) -> Model:
        """Return the parts that come back, as training starts from them: all."""
        return {part: self.parts[part] for part in (*TRAINED, *(PERSONAL + p for p in TRAINED))}
