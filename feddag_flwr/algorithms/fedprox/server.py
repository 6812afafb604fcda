"""FedProx: FedAvg with a proximal term."""

from __future__ import annotations

from dataclasses import replace

from feddag_flwr.algorithms.fedavg.server import FedAvg
from feddag_flwr.algorithms.fedprox.settings import FedProxSettings
from feddag_flwr.local_training import LocalTrainingConfig


class FedProx(FedAvg):
    """FedAvg whose clients are held near the model that they received.

    Source: Li et al. 2020, "Federated Optimization in Heterogeneous Networks", Algorithm 2: local
    training minimises F_k(w) + mu/2 |w - w_t|^2. Default mu = 0.01 (``fedprox-mu``), the smallest
    but one of the values {0.001, 0.01, 0.1, 1} that the paper's Section 5.3 tries. Adapted: clients
    are drawn evenly and averaged by samples, as in FedAvg here; all run the same number of epochs.
    """

    def local_training(self, name: str) -> LocalTrainingConfig:
        """Add the proximal term."""
        del name
        return replace(self.plain_training, proximal=self.settings.own(FedProxSettings).mu)
