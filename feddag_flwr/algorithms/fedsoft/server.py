"""FedSoft: every client is a mixture of clusters, with a model of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import weighted_mean
from feddag_flwr.algorithms.algorithm import Algorithm, RoundReplies
from feddag_flwr.algorithms.fedsoft.settings import FedSoftSettings
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.records import Model
from feddag_flwr.records.train import TRAINED
from feddag_flwr.seeds import generator


class FedSoft(Algorithm):
    """Soft clusters: personal models w_k held near the centres c_s, centres their means.

    Source: Ruan & Joe-Wong 2022, "FedSoft: Soft Clustered Federated Learning with Proximal Local
    Updating" (AAAI), Algorithm 1, details from the authors' public code (ycruan/FedSoft). Every tau
    rounds all clients receive the S centres and count the samples that each fits best; u_ks is the
    share of s, at least sigma. For each centre clients are drawn without replacement with
    probability v_sk, proportional to u_ks n_k. A drawn client minimises
    f_k(w) + lambda/2 sum_s u_ks |w - c_s|^2, and c_s becomes the plain mean of w_k over the clients
    drawn for s. S is ``num-clusters``; lambda = 0.1 as in that code for MNIST (0.01 for CIFAR-10),
    tau = 2, sigma = 1e-4 (``fedsoft-lambda``, ``-interval``, ``-floor``).

    Exact: the weights, the draw, the objective, the mean. The S pulls are one pull of weight
    lambda sum_s u_ks towards the mixture sum_s u_ks c_s / sum_s u_ks, the one model that a client
    is sent. A client is judged by its personal model w_k; one that has none yet by the centre of
    largest weight, one unseen in training by that of lowest loss.
    Adapted: local training starts from the mixture (the code: from the last w_k, which at a
    participation of 0.2 is many rounds old and was less accurate on digits); the participants, as
    many as in other algorithms, are dealt evenly to the centres, one each at least, and a client
    drawn for two trains once. A client that does not answer keeps its last weights.

    Bytes: S models down to each client every tau rounds, one model down and one up for a
    participant (the paper sends S down). The server keeps w_k for the simulation, where a deployed
    client would keep its own.
    """

    def begin(self) -> None:
        """Draw S different centres; every client weighs them evenly until it has been asked."""
        count = self.settings.clustering.num_clusters
        self.start_together([self.random_start(s) for s in range(count)])
        self.importance = {name: np.full(count, 1 / count) for name in self.state.clients}
        self.personal: dict[str, Model] = {}
        self._drawn: list[list[str]] = []

    def state_dict(self) -> AlgorithmState:
        """Keep the importance weights, and the personal models where their users find them."""
        return AlgorithmState({"importance": dict(self.importance)}, models=dict(self.personal))

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take importance weights and personal models back."""
        self.importance = dict(kept.arrays["importance"])
        self.personal = dict(kept.models)
        self._drawn = []

    def place_newcomers(
        self, server_round: int, names: list[str], replies: Mapping[str, Any]
    ) -> dict[str, int]:
        """Give newcomers equal importance weights, until they are estimated."""
        placed = super().place_newcomers(server_round, names, replies)
        count = self.state.num_clusters
        self.importance |= {name: np.full(count, 1 / count) for name in placed}
        return placed

    def sample_clients(self, server_round: int) -> list[str]:
        """Estimate the importance weights where they are due, and draw clients for each centre.

        Of all clients that are there.
        """
        names = self.context.connected(sorted(self.state.assignments))
        if not names:
            self._drawn = []
            return []
        if (server_round - 1) % self.settings.own(FedSoftSettings).interval == 0:
            self._weigh(server_round, names)
        total = max(1, round(self.settings.run.participation * len(names)))
        sizes = draw_sizes(total, self.state.num_clusters)
        chances = draw_chances(
            np.array([self.importance[name] for name in names]),
            np.array([self.state.clients[name].train_samples for name in names]),
        )
        rng = generator(self.settings.run.seed, "sample-clients", server_round=server_round)
        self._drawn = [
            sorted(names[i] for i in rng.choice(len(names), size, replace=False, p=chance))
            for size, chance in zip(sizes, chances.T, strict=True)
        ]
        return sorted({name for drawn in self._drawn for name in drawn})

    def local_training(self, name: str) -> LocalTrainingConfig:
        """Pull towards the mixture, from which training starts."""
        proximal = self.settings.own(FedSoftSettings).lambda_ * float(self.importance[name].sum())
        return replace(self.plain_training, proximal=proximal)

    def model_of(self, name: str) -> Model:
        """Send the client's mixture of the centres."""
        shares = self.importance[name].tolist()
        return {
            part: weighted_mean([centre[part] for centre in self.state.models], shares)
            for part in TRAINED
        }

    def judged_model_of(self, name: str) -> Model:
        """Judge a client by its personal model, if it has one."""
        return self.personal.get(name) or super().model_of(name)

    def update(self, round_replies: RoundReplies) -> None:
        """Keep the personal models, and average them for the centres that they were drawn for."""
        replies = round_replies.replies
        self.personal |= {name: reply.parts for name, reply in replies.items()}
        for cluster, drawn in enumerate(self._drawn):
            members = [replies[name] for name in drawn if name in replies]
            for part in TRAINED:
                self.aggregate_part(cluster, part, members, even=True)

    def _weigh(self, server_round: int, names: list[str]) -> None:
        losses = self.candidate_losses(server_round, names)
        for name, compared in losses.items():
            weights = importance_of(compared.lowest, self.settings.own(FedSoftSettings).floor)
            self.importance[name] = weights
            self.state.assignments[name] = int(weights.argmax())


def importance_of(lowest: NDArray[np.int64], floor: float) -> NDArray[np.float64]:
    """u_ks, shape (S,): share of a client's samples that each centre fits best, at least sigma."""
    least: NDArray[np.float64] = np.maximum(lowest / lowest.sum(), floor)
    return least


def draw_chances(
    importance: NDArray[np.float64], samples: NDArray[np.int64]
) -> NDArray[np.float64]:
    """v_sk, shape (N, S): u_ks n_k of all clients k, (N, S) and (N,), over its sum over them."""
    counts = importance * samples[:, None]
    chances: NDArray[np.float64] = counts / counts.sum(axis=0)
    return chances


def draw_sizes(total: int, clusters: int) -> list[int]:
    """Deal `total` participants evenly to the clusters, the first ones first; 1 each at least."""
    return [max(1, total // clusters + (s < total % clusters)) for s in range(clusters)]
