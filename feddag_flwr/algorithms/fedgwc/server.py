"""FedGWC: clusters by how clients' losses lie among those of a round."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import SpectralClustering
from sklearn.manifold import SpectralEmbedding
from sklearn.metrics import davies_bouldin_score

from feddag_flwr.algorithms.algorithm import RoundReplies
from feddag_flwr.algorithms.fedavg.server import FedAvg
from feddag_flwr.algorithms.fedgwc.settings import FedGWCSettings
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.clustering.labels import canonical_labels
from feddag_flwr.records import LocalTrainingConfig, TrainReply
from feddag_flwr.seeds import derived_seed

logger = logging.getLogger("flwr")

MIN_PARTICIPANTS = 3  # two clients of one size lie equally far from their mean: equal rewards
MAX_PARTS = 4  # the most clusters that one split makes, as in the public code
MAX_SCORE = 1.0  # a split must have a Davies-Bouldin score below this, as in the public code
TINY = 1e-16  # keeps the variance above zero, as in the public code


@dataclass
class Stillness:
    """How near a cluster is to standing still: mean squared change of P, rounds below epsilon."""

    change: float = 1.0
    patience: int = 0


class FedGWC(FedAvg):
    """Federated Gaussian weighting clustering.

    Source: Licciardi, Leo, Fani, Caputo, Ciccone 2025, "Interaction-Aware Gaussian Weighting for
    Clustered Federated Learning" (ICML; arXiv 2502.03340); the abstract and the authors' public
    code (davedleo/FedGWC) were at hand, the paper's equations were not: the code is followed. All
    clients start in one cluster. A participant's reward is the mean over its local training of a
    Gaussian of its loss around the participants' mean (`gaussian_rewards`); the interactions P_ij
    of participants move towards i's share of the rewards (`moved_interactions`). When a cluster's P
    has stood still for as many rounds as it takes on average to draw everybody once, its columns
    give an RBF affinity (`affinity`), by which spectral clustering splits it into 2, 3 or 4 parts,
    whichever has the lowest Davies-Bouldin score; a score of 1 or more leaves it whole. Parts go on
    from the cluster's model and are split again while they have more members than a round draws,
    into so many parts at most that each has as many on average.

    Exact: all that, with the code's defaults: kernel 0.1 (``fedgwc-rbf``), weight of a new reward =
    share of the cluster that took part, P_ij = 1/N^2 and a mean squared change of 1 at first.
    epsilon is 1e-5 for 100 clients there; it counts in 1/N^2 here: 0.1 (``fedgwc-epsilon``).

    Adapted: losses are those of local epochs, not of SGD steps. A round draws ``participation`` of
    all clients whatever the clusters (the code: as many from each), and a cluster with fewer than
    three participants keeps its P for that round.

    The code runs 10,000 rounds. No split can come before round ln(epsilon / N^2) / ln(1 - R) + 1/R
    with a share R taking part, about 57 for N = 100 and R = 0.2, when two clients have met in about
    two rounds. With made-up losses of two groups five deviations apart, 100 clients and 10 a round,
    the groups are found after 3,000 rounds and not after 1,000; with 40 clients and 8 a round after
    1,000 and not after 300. On digits (20 and 40 clients, R = 0.2, up to 300 rounds) nothing was
    split: in 100 rounds expect FedAvg.

    Bytes: FedAvg's, and one loss (8 bytes) for each local epoch.
    """

    # P and its perceptions are of the clients that were there at first.
    admits_newcomers = False

    def begin(self) -> None:
        """Put every client into one cluster, all interactions equal."""
        super().begin()
        names = sorted(self.state.clients)
        self._row = {name: row for row, name in enumerate(names)}
        self._interactions = np.full((len(names), len(names)), len(names) ** -2.0)
        self._drawn = max(1, round(self.settings.run.participation * len(names)))
        self._progress = {0: Stillness()}

    def state_dict(self) -> AlgorithmState:
        """Keep the interactions, and how near each cluster is to standing still."""
        return AlgorithmState(
            {"interactions": {"interactions": self._interactions}},
            {
                "names": list(self._row),
                "drawn": self._drawn,
                "progress": {str(c): asdict(progress) for c, progress in self._progress.items()},
            },
        )

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take the interactions back."""
        self._interactions = kept.arrays["interactions"]["interactions"].copy()
        self._row = {name: row for row, name in enumerate(kept.notes["names"])}
        self._drawn = kept.notes["drawn"]
        self._progress = {
            int(cluster): Stillness(**kept_of)
            for cluster, kept_of in kept.notes["progress"].items()
        }

    def local_training(self, name: str) -> LocalTrainingConfig:
        """Ask for the loss of each local epoch."""
        del name
        return replace(self.plain_training, report_losses=True)

    def update(self, round_replies: RoundReplies) -> None:
        """Average within the clusters, learn from the losses, and split what stands still."""
        self.average_clusters(round_replies)
        for cluster in range(self.state.num_clusters):
            members = [member.name for member in self.state.members(cluster)]
            if len(members) > self._drawn:
                self._learn(cluster, members, round_replies.replies)
                if self._progress[cluster].patience >= round(len(members) / self._drawn):
                    self._split(round_replies.server_round, cluster, members)

    def _learn(self, cluster: int, members: list[str], replies: Mapping[str, TrainReply]) -> None:
        present = [name for name in members if name in replies]
        if len(present) < MIN_PARTICIPANTS:
            return
        rewards = gaussian_rewards(
            np.array([replies[name].losses for name in present]),
            np.array([replies[name].samples for name in present]),
        )
        rows = [self._row[name] for name in present]
        block = np.ix_(rows, rows)
        weight = len(present) / len(members)
        moved = moved_interactions(self._interactions[block], rewards, weight)
        change = float(np.mean((moved - self._interactions[block]) ** 2))
        self._interactions[block] = moved
        progress = self._progress[cluster]
        progress.change = (1.0 - weight) * progress.change + weight * change
        still = progress.change < self.settings.own(FedGWCSettings).epsilon / len(self._row) ** 2
        progress.patience = progress.patience + 1 if still else 0

    def _split(self, server_round: int, cluster: int, members: list[str]) -> None:
        """Split a cluster if that is good; either way it has to stand still anew."""
        self._progress[cluster] = Stillness()
        rows = [self._row[name] for name in members]
        labels = best_partition(
            affinity(self._interactions[np.ix_(rows, rows)], self.settings.own(FedGWCSettings).rbf),
            min(len(members) // self._drawn, MAX_PARTS),
            seed=derived_seed(self.settings.run.seed, "fedgwc", server_round=server_round) % 2**32,
        )
        for label in range(1, int(labels.max()) + 1):
            part = [name for name, mine in zip(members, labels, strict=True) if mine == label]
            self._progress[self.split_off(cluster, part)] = Stillness()
        logger.info("cluster %d stands still: %d parts", cluster, int(labels.max()) + 1)


def gaussian_rewards(
    losses: NDArray[np.float64], samples: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean over local training of exp(-(loss - mean)^2 / (2 variance)), shape (m,), in (0, 1].

    Of the losses (m, E) of each participant in each epoch, in nats; the participants' samples (m,)
    are their weights in mean and variance.
    """
    mean = np.average(losses, axis=0, weights=samples)
    squares = (losses - mean) ** 2
    variance = np.average(squares, axis=0, weights=samples) + TINY
    rewards: NDArray[np.float64] = np.exp(-0.5 * squares / variance).mean(axis=1)
    return rewards


def moved_interactions(
    interactions: NDArray[np.float64], rewards: NDArray[np.float64], weight: float
) -> NDArray[np.float64]:
    """Move the interactions of a round's participants, shape (m, m), towards their rewards.

    P_ij becomes (1 - weight) P_ij + weight r_i / sum(r).
    """
    shares = rewards / rewards.sum()
    moved: NDArray[np.float64] = (1.0 - weight) * interactions + weight * shares[:, None]
    return moved


def affinity(interactions: NDArray[np.float64], rbf: float) -> NDArray[np.float64]:
    """RBF kernel of unbiased perception vectors, shape (n, n): symmetric, in (0, 1], diagonal 0.

    exp(-rbf |x - y|^2), x and y being columns i and j of P, scaled to [0, 1], without entries i, j.
    """
    low, high = interactions.min(), interactions.max()
    columns = (interactions.T - low) / max(high - low, 1e-8)
    lengths = (columns**2).sum(axis=1)
    distances = lengths[:, None] + lengths[None, :] - 2.0 * columns @ columns.T
    own = (np.diag(columns)[:, None] - columns.T) ** 2  # what entry i adds for pair (i, j)
    distances -= own + own.T
    kernel: NDArray[np.float64] = np.exp(-rbf * distances.clip(min=0.0))
    np.fill_diagonal(kernel, 0.0)
    return kernel


def best_partition(
    affinities: NDArray[np.float64], most_parts: int, *, seed: int
) -> NDArray[np.intp]:
    """Split by spectral clustering into 2 to `most_parts`, whichever has the lowest score.

    Of symmetric affinities (n, n), 0 or more. Labels (n,) from 0; all 0 where no split scores below
    `MAX_SCORE`.
    """
    best_score, best = MAX_SCORE, np.zeros(len(affinities), dtype=np.intp)
    for parts in range(2, min(most_parts, len(affinities) - 2) + 1):
        embedded = SpectralEmbedding(
            parts, affinity="precomputed", random_state=seed
        ).fit_transform(affinities)
        labels = canonical_labels(
            SpectralClustering(
                parts,
                n_components=parts,
                affinity="precomputed",
                assign_labels="cluster_qr",
                random_state=seed,
            ).fit_predict(affinities)
        )
        if 1 <= labels.max() < len(labels) - 1:
            score = davies_bouldin_score(embedded, labels)
            if score < best_score:
                best_score, best = score, labels
    return best
