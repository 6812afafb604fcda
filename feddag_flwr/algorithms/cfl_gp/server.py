"""CFL-GP: clusters by gradients that clients compute of common models."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from feddag_flwr.algorithms.algorithm import Algorithm
from feddag_flwr.algorithms.cfl_gp.messages import CriterionTrainRequest, GradientRequest
from feddag_flwr.algorithms.cfl_gp.settings import CFLGPSettings
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.clustering.labels import matched_labels
from feddag_flwr.seeds import derived_seed

logger = logging.getLogger("flwr")

KMEANS_STARTS = 50


class CFLGP(Algorithm):
    """Clustered federated learning via gradient-based partitioning.

    Source: Kim, Kim, de Veciana 2024, "Clustered Federated Learning via Gradient-based
    Partitioning" (ICML); the abstract and the authors' public code
    (Heasung-Kim/clustered-federated-learning-via-gradient-based-partitioning) were at hand, the
    paper's text was not. In every P-th round one of the K models is the criterion: all clients
    compute its gradient. A client's gradient profile has a block for each model, the mean of its
    gradients of that model so far. The profiles are projected on their K leading singular vectors,
    K-means groups the clients, and the groups take the numbers that keep most clients where they
    were. In between, FedAvg runs within each cluster.

    Exact: profile, running mean, projection, K-means, matching (the code tries all K! numberings;
    an assignment problem finds the same best one). As in the code's two protocols, the profile is
    made of local updates (``cfl-gp-profile = update``) or of gradients (``gradient``; here on all
    training data, the code: one batch). K is ``num-clusters``, which the method must be told. The
    criterion goes round the models, as the abstract has it; the code stays with model 0.

    Adapted: the code clusters in every second round until the tenth, with all clients training. At
    a participation of 0.2 the models get as far in five times as many rounds: so P = 10
    (``cfl-gp-period``), until round 50 (``cfl-gp-last-round``). Clusters are formed before a
    round's training, not after it, and all models start equal. A client without a valid reply in a
    block stays where it is. The code's guess of K (silhouette) is not here.

    Bytes: a clustering round sends the criterion to all clients and as much back, counted as
    ``profile``; a client of the criterion's own cluster that is drawn trains it twice alike.
    """

    def begin(self) -> None:
        """Start with K equal models, all clients in cluster 0 until round 1 clusters them."""
        start = self.random_start()
        self.start_together([dict(start) for _ in range(self.settings.clustering.num_clusters)])
        self._profiles = GradientProfiles()

    def state_dict(self) -> AlgorithmState:
        """Keep the gradient profiles."""
        return self._profiles.state_dict()

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take the gradient profiles back."""
        self._profiles = GradientProfiles.from_state_dict(kept)

    def sample_clients(self, server_round: int) -> list[str]:
        """Draw the round's clients, then cluster all by their gradients where that is due."""
        sampled = super().sample_clients(server_round)
        self._cluster_if_due(server_round)
        return sampled

    def _cluster_if_due(self, server_round: int) -> None:
        """Collect gradients from all clients and cluster them."""
        step, rest = divmod(server_round - 1, self.settings.own(CFLGPSettings).period)
        if rest or server_round > self.settings.own(CFLGPSettings).last_round:
            return
        criterion = step % self.state.num_clusters
        for name, gradient in self._collect(server_round, criterion).items():
            self._profiles.add(criterion, name, gradient)
        if len(complete := self._profiles.complete()) > 1:
            self._cluster(server_round, complete)

    def _cluster(self, server_round: int, names: list[str]) -> None:
        count = self.state.num_clusters
        points = leading_coordinates(self._profiles.products(names), count)
        kmeans = KMeans(
            min(count, len(names)),
            n_init=KMEANS_STARTS,
            random_state=derived_seed(self.settings.run.seed, "cfl-gp", server_round=server_round)
            % 2**32,
        )
        previous = [self.state.assignments[name] for name in names]
        labels = matched_labels(previous, kmeans.fit_predict(points), count)
        self.state.assignments |= dict(zip(names, labels.tolist(), strict=True))

    def _collect(self, server_round: int, criterion: int) -> dict[str, NDArray[np.float32]]:
        """Ask all clients what the criterion makes of their data; valid replies, by name."""
        model = self.state.models[criterion]
        context, wait = self.context, self.context.profile_wait
        names = context.largest_first(context.connected(sorted(self.state.assignments)))
        headers = (context.header(name, server_round) for name in names)
        if self.settings.own(CFLGPSettings).profile == "gradient":
            objective = self.settings.training.objective
            return context.ask(
                (GradientRequest(header, model, objective) for header in headers), wait
            )
        requests = (CriterionTrainRequest(header, model, self.plain_training) for header in headers)
        return {name: reply.update() for name, reply in context.ask(requests, wait).items()}


class GradientProfiles:
    """The gradient profile matrix: a block of rows for each model, a column for each client."""

    def __init__(self) -> None:
        self._means: dict[int, dict[str, NDArray[np.float32]]] = {}
        self._counts: dict[tuple[int, str], int] = {}

    def add(self, block: int, name: str, gradient: NDArray[np.float32]) -> None:
        """Take a gradient, shape (d,), into the running mean of a client's block."""
        count = self._counts.get((block, name), 0) + 1
        means = self._means.setdefault(block, {})
        old = means.get(name, gradient)
        means[name] = old + (gradient - old) / np.float32(count)
        self._counts[block, name] = count

    def state_dict(self) -> AlgorithmState:
        """Return all of it for a checkpoint, a group for each block: one changes at a time."""
        counts: dict[str, dict[str, int]] = {str(block): {} for block in self._means}
        for (block, name), count in self._counts.items():
            counts[str(block)][name] = count
        return AlgorithmState(
            {str(block): dict(means) for block, means in self._means.items()}, counts
        )

    @classmethod
    def from_state_dict(cls, kept: AlgorithmState) -> GradientProfiles:
        """Make them of what `state_dict` returned."""
        profiles = cls()
        profiles._means = {int(block): dict(means) for block, means in kept.arrays.items()}
        profiles._counts = {
            (int(block), name): count
            for block, counts in kept.notes.items()
            for name, count in counts.items()
        }
        return profiles

    def complete(self) -> list[str]:
        """Return the clients that have a gradient in every block with one, in order of names."""
        columns = [set(means) for means in self._means.values()]
        return sorted(set.intersection(*columns)) if columns else []

    def products(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Scalar products of the clients' columns, shape (n, n)."""
        total = np.zeros((len(names), len(names)))
        for means in self._means.values():
            rows = np.array([means[name] for name in names], dtype=np.float64)
            total += rows @ rows.T
        return total


def leading_coordinates(products: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Project vectors on the `count` leading left singular vectors of the matrix of these columns.

    From their scalar products G^T G, shape (n, n): with G = P S Q^T, the rows of Q S, shape
    (n, min(count, n)). So the long singular vectors P are never needed.
    """
    values, vectors = np.linalg.eigh(products)
    kept = slice(None, -count - 1, -1)
    coordinates: NDArray[np.float64] = vectors[:, kept] * np.sqrt(values[kept].clip(min=0.0))
    return coordinates
