"""CFL-GP's own messages: what a client makes of the criterion, its gradient or an update of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.records import ClientRequest, Limits, Model, TrainRequest
from feddag_flwr.records.parts import parts_of
from feddag_flwr.records.values import info_of


@dataclass(frozen=True)
class GradientRequest(ClientRequest[NDArray[np.float32]]):
    """A model and an objective whose gradient on the training data is wanted; nothing is trained.

    The reply has the gradient of each part's parameters, as the floats of `Weights`.
    """

    action: ClassVar[str] = "query.gradient"
    counted_as: ClassVar[str] = "profile"

    parts: Model
    objective: str = LocalTrainingConfig.objective

    def read(self, content: RecordDict, limits: Limits) -> NDArray[np.float32]:
        """Read the gradient of all parameters, shape (d,), in the order of the parts."""
        del limits
        expected = {name: Weights(weights.floats) for name, weights in self.parts.items()}
        gradient = parts_of(content, info_of(content), expected)
        return np.concatenate([weights.floats for weights in gradient.values()])

    def least_up(self) -> int:
        """Bytes of as much as goes down."""
        return self.least_down()


@dataclass(frozen=True)
class CriterionTrainRequest(TrainRequest):
    """A model to train for what its update says of the client, not for the model."""

    counted_as: ClassVar[str] = "profile"
