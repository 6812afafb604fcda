"""Per-FedAvg on the clustered base: a common start that every client fits to itself."""

from __future__ import annotations

from feddag_flwr.records import LocalTrainingConfig
from feddag_flwr.strategies.fedavg import FedAvg


class PerFedAvg(FedAvg):
    """Federated first-order MAML.

    Source: Fallah et al. 2020, "Personalized Federated Learning with Theoretical Guarantees: A
    Model-Agnostic Meta-Learning Approach", Algorithm 1 with the first-order approximation, see
    `feddag_flwr.training.local.train_fomaml`; alpha = 0.01 as in the paper's experiments
    (``per-fedavg-alpha``). As many gradients as in FedAvg, two to a step, so half the steps.
    Adapted: the outer rate beta is ``learning-rate``, with the momentum and weight decay of every
    algorithm here (the paper: 0.001 and none); a client is judged after one local epoch of the same
    SGD on the model received (the paper: one step at rate alpha), which is part of the algorithm
    and not what reports call fine-tuning: that comes on top.
    """

    adapt_epochs = 1

    def phases_for(self, server_round: int, name: str) -> tuple[str, ...]:
        """Train for the start, not for the model itself."""
        del server_round, name
        return ("fomaml",)

    def local_training_for(self, server_round: int, name: str) -> LocalTrainingConfig:
        """Send the rate of the inner step."""
        del server_round, name
        return LocalTrainingConfig(inner_rate=self.settings.per_fedavg_alpha)
