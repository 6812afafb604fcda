"""FedRC: a mixture of models that is blind to which labels a client has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.algorithms.algorithm import Algorithm, RoundReplies
from feddag_flwr.algorithms.fedrc.messages import (
    MixtureReply,
    MixtureTrainRequest,
    ResponsibilitiesRequest,
)
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.records.train import TRAINED

logger = logging.getLogger("flwr")

# Least weight that a logarithm is taken of, as in the public code.
FLOOR = 1e-8


class FedRC(Algorithm):
    """EM over K models, with losses corrected by how often each model answers for the label.

    Source: Guo et al. 2024, "FedRC: Tackling Diverse Distribution Shifts Challenge in Federated
    Learning by Robust Clustering" (ICML), equations checked against the authors' public code
    (LINs-lab/FedRC, class FedRC). For sample j with label y of client i and model k:

    - gamma_{ij;k} is proportional to omega_ik exp(-f_k(x_j, y)) / C_{y;k}, adds up to 1 over k;
    - omega_ik is the mean of gamma_{ij;k} over the client's samples, 1/K before the first round;
    - C_{y;k} = sum_{ij: y_ij = y} gamma_{ij;k} / sum_{ij} gamma_{ij;k}, over the last gammas of all
      clients; the same for all models before the first round;
    - every participant trains all K models, sample j of model k weighted by gamma_{ij;k}, under
      gammas that it computes once a round; theta_k becomes the data-weighted mean.

    K is ``num-clusters``. Exact: all of that, with the code's floor of 1e-8. Adapted: a client is
    judged by its model of largest omega (the code's option ``hard_cluster``; its default is the
    mean of all predictions); before an evaluation every client computes omega anew, one unseen in
    training from omega = 1/K; a model that answers for less than a millionth of a client is not
    trained there; the floor holds for omega too.

    Cost: K times the training and the traffic of FedAvg, and K models to each client before an
    evaluation. The server keeps omega, where a deployed client would keep its own.
    """

    def begin(self) -> None:
        """Draw K different models, of which every client has an equal share."""
        count = self.settings.clustering.num_clusters
        self.start_together([self.random_start(k) for k in range(count)])
        self.responsibilities: dict[str, NDArray[np.float64]] = {}
        classes = len(self.state.class_names)
        self.label_shares = np.full((count, classes), 1 / classes)

    def state_dict(self) -> AlgorithmState:
        """Keep the clients' responsibilities, and those of the labels."""
        return AlgorithmState(
            {
                "responsibilities": dict(self.responsibilities),
                "labels": {"responsibilities": self.label_shares},
            }
        )

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take the responsibilities back."""
        self.responsibilities = dict(kept.arrays["responsibilities"])
        self.label_shares = kept.arrays["labels"]["responsibilities"]

    def train_request(self, server_round: int, name: str) -> MixtureTrainRequest:
        """Send all models, to be trained each by its part in the client's samples."""
        header, models = self.context.header(name, server_round), self.state.models
        candidates, config = tuple(dict(model) for model in models), self.local_training(name)
        return MixtureTrainRequest(header, candidates, self.prior_of(name), config)

    def prior_of(self, name: str) -> NDArray[np.float64]:
        """Return log omega_ik - log C_{y;k}, shape (K, C)."""
        omega = np.full(self.state.num_clusters, 1 / self.state.num_clusters)
        if name in self.responsibilities:
            omega = self.responsibilities[name].sum(axis=1) / self.responsibilities[name].sum()
        prior: NDArray[np.float64] = np.log(np.maximum(omega, FLOOR))[:, None] - np.log(
            self.label_shares
        )
        return prior

    def update(self, round_replies: RoundReplies) -> None:
        """Average every model over all participants, and keep their responsibilities."""
        replies = cast(Mapping[str, MixtureReply], round_replies.replies)
        for name, reply in replies.items():
            self.responsibilities[name] = reply.responsibilities
            self.state.assignments[name] = int(self.responsibilities[name].sum(axis=1).argmax())
        if not replies:
            return
        self.label_shares = class_shares(
            np.sum([self.responsibilities[name] for name in sorted(self.responsibilities)], axis=0)
        )
        samples = [reply.samples for reply in replies.values()]
        for cluster in range(self.state.num_clusters):
            for part in TRAINED:
                members = [reply.parts[f"{cluster}/{part}"] for reply in replies.values()]
                received = self.state.models[cluster][part]
                joined = self.context.aggregator.aggregate(members, samples, received)
                self.context.replace_part(cluster, part, joined)

    def prepare_evaluation(self, server_round: int, names: list[str]) -> None:
        """Find the model of largest omega of every client; one that does not answer keeps its."""
        self.state.assignments |= self.place_held_out(server_round, names)

    def place_held_out(self, server_round: int, names: list[str]) -> dict[str, int]:
        """Model of largest omega of each client with a valid reply."""
        models, objective = tuple(self.state.models), self.settings.training.objective
        header = self.context.header
        replies = self.context.ask(
            ResponsibilitiesRequest(
                header(name, server_round), models, self.prior_of(name), objective
            )
            for name in names
        )
        return {name: int(sums.sum(axis=1).argmax()) for name, sums in replies.items()}


def class_shares(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """C_{y;k}, shape (K, C): share of each class in what a model answers for; at least about 1e-8.

    `sums` (K, C) are the responsibilities of each model, summed over the samples of each class.
    """
    least = np.maximum(sums, FLOOR)
    responsibilities: NDArray[np.float64] = least / least.sum(axis=1, keepdims=True)
    return responsibilities
