"""Per-FedAvg's own message: train a start that one more step fits to the client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from flwr.app import RecordDict

from feddag_flwr.records.config import number_at_least_0
from feddag_flwr.records.train import TrainRequest
from feddag_flwr.records.values import info_of


@dataclass(frozen=True)
class FomamlTrainRequest(TrainRequest):
    """One round of first-order MAML for one client.

    Attributes
    ----------
    inner_rate : float
        Rate alpha of the inner step.
    """

    action: ClassVar[str] = "train.fomaml"

    inner_rate: float = 0.01

    def encode(self) -> RecordDict:
        """Write the request."""
        content = super().encode()
        content.config_records["info"]["inner-rate"] = self.inner_rate
        return content

    @classmethod
    def decode(cls, content: RecordDict) -> Self:
        """Read and check the request."""
        plain = TrainRequest.decode(content)
        rate = number_at_least_0(info_of(content), "inner-rate")
        return cls(plain.header, plain.parts, plain.config, inner_rate=rate)
