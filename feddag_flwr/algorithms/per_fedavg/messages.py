"""Per-FedAvg's own message: train a start that one more step fits to the client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from feddag_flwr.records import TrainRequest


@dataclass(frozen=True)
class FomamlTrainRequest(TrainRequest):
    """One round of first-order MAML for one client; `inner_rate` is alpha of the inner step."""

    action: ClassVar[str] = "train.fomaml"

    inner_rate: float = 0.01
