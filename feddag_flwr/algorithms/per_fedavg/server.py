"""Per-FedAvg: a common start that every client fits to itself."""

from __future__ import annotations

from feddag_flwr.algorithms.fedavg.server import FedAvg
from feddag_flwr.algorithms.per_fedavg.messages import FomamlTrainRequest
from feddag_flwr.algorithms.per_fedavg.settings import PerFedAvgSettings


class PerFedAvg(FedAvg):
    """Federated first-order MAML.

    Source: Fallah et al. 2020, "Personalized Federated Learning with Theoretical Guarantees: A
    Model-Agnostic Meta-Learning Approach", Algorithm 1 with the first-order approximation, see
    `feddag_flwr.algorithms.per_fedavg.local_training`; alpha = 0.01 as in the paper's experiments
    (``per-fedavg-alpha``). As many gradients as in FedAvg, two to a step. Adapted: the outer rate
    beta is ``learning-rate``, with every algorithm's momentum and weight decay (the paper: 0.001
    and none); a client is judged after one local epoch of the same SGD on the model received (the
    paper: one step at rate alpha); fine-tuning comes on top.
    """

    adapt_epochs = 1

    def train_request(self, server_round: int, name: str) -> FomamlTrainRequest:
        """Ask for training of the start, not of the model itself, at the rate of the inner step."""
        header, model = self.context.header(name, server_round), dict(self.model_of(name))
        rate = self.settings.own(PerFedAvgSettings).alpha
        return FomamlTrainRequest(header, model, self.local_training(name), rate)
