"""Training of a personal model, pulled to the global one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.trainers import TrainJob
from feddag_flwr.trainers.descent import ProximalTerm, descend
from feddag_flwr.trainers.whole_model import single_encoder


@dataclass(frozen=True, eq=False)
class PulledTraining:
    """Minimise F_k(v) + lambda/2 |v - w|^2; the term has lambda and w. `ValueError` if S is there.

    Each step is v <- v - eta (grad F_k(v) + lambda (v - w)), eta being the optimiser's (Li et al.
    2021, Algorithm 1).
    """

    pull: ProximalTerm

    @classmethod
    def to_present(cls, weight: float, model: ClusterModel) -> PulledTraining:
        """Pull to the weights that a model has now."""
        parameters = list(single_encoder(model).parameters())
        return cls(ProximalTerm.to_present(weight, parameters))

    def __call__(self, job: TrainJob, /) -> NDArray[np.float64]:
        """Train the job's model; return the mean loss of each epoch, without the pull."""

        def loss(index: Tensor) -> Tensor:
            return job.loss(job.model(job.inputs(index)), index)

        return descend(job, single_encoder(job.model), loss, self.pull)
