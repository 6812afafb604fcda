"""CFL-GP: clusters by gradients that clients compute of common models."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from feddag_flwr.algorithms.algorithm import Algorithm, RoundPlan
from feddag_flwr.algorithms.cfl_gp.messages import GradientRequest
from feddag_flwr.algorithms.cfl_gp.settings import CFLGPSettings
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.clustering.labels import matched_labels
from feddag_flwr.models.flat import get_parts
from feddag_flwr.records import TrainRequest
from feddag_flwr.seeds import derived_seed

logger = logging.getLogger("flwr")

KMEANS_STARTS = 50


class CFLGP(Algorithm):
    """Clustered federated learning via gradient-based partitioning.

    Source: Kim, Kim, de Veciana 2024, "Clustered Federated Learning via Gradient-based
    Partitioning" (ICML); the abstract and the authors' public code
    (Heasung-Kim/clustered-federated-learning-via-gradient-based-partitioning) were at hand, the
    paper's text was not. In every P-th round one of the K models is the criterion: all clients
    compute its gradient. The gradient profile of a client has a block for each model, with the mean
    of its gradients of that model so far. The profiles are projected on their K leading singular
    vectors, K-means groups the clients, and the groups take the numbers that keep most clients
    where they were. In between, FedAvg runs within each cluster.

    Exact: profile, running mean, projection, K-means, matching (the code tries all K! numberings;
    an assignment problem finds the same best one). The code has two protocols: where models are
    averaged, as here, a local update stands for the gradient (``cfl-gp-profile = update``); where
    gradients are averaged, it is the gradient itself (``gradient``; here on all training data, the
    code: one batch). K is ``num-clusters``, which the method must be told. The criterion goes round
    the models as the abstract ("for various models") and the layout of the code's profile have it;
    the code itself stays with model 0.

    Adapted: the code clusters in every second round until the tenth, with all clients training. At
    a participation of 0.2 the models get as far in five times as many rounds, so that P = 10
    (``cfl-gp-period``) and the last clustering comes by round 50 (``cfl-gp-last-round``): as many
    clusterings, of models as far trained. In a clustering round all clients meet the criterion, as
    in the paper, though only a share of them then trains its cluster's model. Clusters are formed
    before a round's training, not after it, and all models start equal, which is where averaging
    the models trained from one start leads in the code's first round. A client without a valid
    reply in a block is left out of the clustering and stays where it is. The code's guess of K
    (silhouette) is not here.

    Bytes: a clustering round sends the criterion to all clients and as much back, counted as
    ``profile``. A client of the criterion's own cluster that is drawn trains it twice alike and is
    counted twice, which a deployed client could spare itself.
    """

    def begin(self) -> None:
        """Start with K equal models, all clients in cluster 0 until round 1 clusters them."""
        names = list(self.state.clients)
        start = get_parts(self.context.initial_model(dual=False))
        models = [dict(start) for _ in range(self.settings.clustering.num_clusters)]
        self.state.set_clusters(names, [0] * len(names), models)
        self._profiles = GradientProfiles()

    def state_dict(self) -> AlgorithmState:
        """Keep the gradient profiles."""
        return self._profiles.state_dict()

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take the gradient profiles back."""
        self._profiles = GradientProfiles.load_state_dict(kept)

    def plan_round(self, server_round: int) -> RoundPlan:
        """Cluster all clients by their gradients in the rounds that are due; then train."""
        sampled = self.sample_clients(server_round)
        connected = self.context.connected(sampled)
        self._cluster_if_due(server_round)
        requests = {name: self.train_request(server_round, name) for name in connected}
        return RoundPlan(sampled, frozenset(sampled), requests)

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
        context, wait = self.context, self.settings.deployment.profile_timeout
        names = context.largest_first(context.connected(sorted(self.state.assignments)))
        headers = (context.header(name, server_round) for name in names)
        if self.settings.own(CFLGPSettings).profile == "gradient":
            objective = self.settings.training.objective
            return context.ask((GradientRequest(each, model, objective) for each in headers), wait)
        config = self.plain_training
        requests = (TrainRequest(each, model, config, counted_as="profile") for each in headers)
        return {
            name: np.concatenate([reply.update_of(part) for part in reply.parts])
            for name, reply in context.ask(requests, wait).items()
        }


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
    def load_state_dict(cls, kept: AlgorithmState) -> GradientProfiles:
        """Make what `memory` returned."""
        found = cls()
        found._means = {int(block): dict(means) for block, means in kept.arrays.items()}
        found._counts = {
            (int(block), name): count
            for block, its in kept.notes.items()
            for name, count in its.items()
        }
        return found

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
    """Project vectors on the leading left singular vectors of the matrix of which they are columns.

    Parameters
    ----------
    products : ndarray, shape (n, n)
        Scalar products of the vectors, G^T G.
    count : int
        Singular vectors.

    Returns
    -------
    ndarray, shape (n, min(count, n))
        Coordinates, a row for each vector: with G = P S Q^T, the rows of Q S. So the long
        singular vectors P are never needed.
    """
    values, vectors = np.linalg.eigh(products)
    kept = slice(None, -count - 1, -1)
    coordinates: NDArray[np.float64] = vectors[:, kept] * np.sqrt(values[kept].clip(min=0.0))
    return coordinates
