"""Training of a single-encoder model as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.trainers import TrainJob
from feddag_flwr.trainers.descent import descend


@dataclass(frozen=True)
class WholeModel:
    """Train encoder and classifier of a single-encoder model together; `ValueError` for others."""

    def __call__(self, job: TrainJob, /) -> NDArray[np.float64]:
        """Train the job's model; return the mean loss of each epoch."""

        def loss(index: Tensor) -> Tensor:
            return job.loss(job.model(job.inputs(index)), index)

        return descend(job, single_encoder(job.model), loss)


def single_encoder(model: ClusterModel) -> nn.ModuleList:
    """Return encoder and classifier of a model that has no other encoder."""
    if model.secondary is not None:
        raise ValueError("a model with a secondary encoder is not trained as a whole")
    return nn.ModuleList([model.primary, model.classifier])
