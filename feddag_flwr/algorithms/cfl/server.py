"""CFL: clusters are cut in two where their members pull apart."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from feddag_flwr.algorithms.algorithm import RoundReplies
from feddag_flwr.algorithms.cfl.settings import CFLSettings
from feddag_flwr.algorithms.fedavg.server import FedAvg
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.clustering.labels import canonical_labels

logger = logging.getLogger("flwr")

UPDATE = "update-"  # what the name of a client's group of memory begins with
MIN_SPLIT = 3  # members with an update: the public code asks for more than two


class CFL(FedAvg):
    """Clustered Federated Learning by recursive bipartition.

    Source: Sattler, Mueller, Samek 2020, "Clustered Federated Learning: Model-Agnostic Distributed
    Multitask Optimization Under Privacy Constraints" (IEEE TNNLS; arXiv 1910.01991), and its public
    code (felisat/clustered-federated-learning). All clients start in one cluster. When the norm of
    its data-weighted mean update is below eps1, but its longest update above eps2, a cluster is cut
    in two by the cosine similarities of the updates, if gamma_max < sqrt((1 - a) / 2) with `a` the
    largest similarity across the cut. Both halves go on from the cluster's model.

    Exact: the conditions and the cut. ``cfl-bipartition`` is that of the public code (complete
    linkage) or the paper's, which minimises the largest similarity across. eps1 = 0.4, eps2 = 1.6,
    no cut before round 21, none of a cluster of two and gamma_max = 0 are the public code's.

    Adapted: on digits the longest update of a cluster is 0.2 to 0.6 long, so that eps2 = 1.6 is
    never passed and CFL is FedAvg. So by default (``cfl-thresholds = relative``) eps1 and eps2
    count in the longest mean update that any cluster has had, the paper's yardstick, too (quoted
    from memory); ``absolute`` takes them as they are. The paper lets everybody train in every
    round. Here a cluster is judged by each member's latest update since the cluster was formed,
    once each has been drawn in that time; some are a few rounds old. A member that was drawn and
    never answered holds nobody up and follows the larger half. The server keeps one update a
    client; nothing but FedAvg's messages travels.
    """

    def begin(self) -> None:
        """Put every client into one cluster, and forget all updates."""
        super().begin()
        self._updates: dict[str, NDArray[np.float32]] = {}
        self._drawn: set[str] = set()
        self._longest_mean = 0.0

    def state_dict(self) -> AlgorithmState:
        """Keep the updates, a file each: few of them change in a round."""
        return AlgorithmState(
            {f"{UPDATE}{name}": {"update": update} for name, update in self._updates.items()},
            {"drawn": sorted(self._drawn), "longest-mean": self._longest_mean},
        )

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take the updates back."""
        self._updates = {
            group.removeprefix(UPDATE): arrays["update"] for group, arrays in kept.arrays.items()
        }
        self._drawn = set(kept.notes["drawn"])
        self._longest_mean = kept.notes["longest-mean"]

    def update(self, round_replies: RoundReplies) -> None:
        """Cut the clusters that are due, then average within the clusters as they are now."""
        self._drawn |= round_replies.plan.asked
        self._updates |= {n: reply.update() for n, reply in round_replies.replies.items()}
        for cluster in range(self.state.num_clusters):
            self._split_if_due(round_replies.server_round, cluster)
        self.average_clusters(round_replies)

    def _split_if_due(self, server_round: int, cluster: int) -> None:
        members = [member.name for member in self.state.members(cluster)]
        names = [name for name in members if name in self._updates]
        waited_for = [name for name in members if name not in self.context.absent]
        if len(names) < MIN_SPLIT or not self._drawn.issuperset(waited_for):
            return
        updates = np.array([self._updates[name] for name in names])
        weights = np.array([self.state.clients[name].train_samples for name in names])
        norms = update_norms(updates, weights)
        self._longest_mean = max(norms.mean, self._longest_mean)
        unit = (
            self._longest_mean if self.settings.own(CFLSettings).thresholds == "relative" else 1.0
        )
        if (
            server_round <= self.settings.own(CFLSettings).quiet_rounds
            or norms.mean >= self.settings.own(CFLSettings).eps1 * unit
            or norms.longest <= self.settings.own(CFLSettings).eps2 * unit
        ):
            return
        optimal = self.settings.own(CFLSettings).bipartition == "optimal"
        cut = bipartition(cosine_similarities(updates), optimal=optimal)
        if self.settings.own(CFLSettings).gamma_max < cut.separation:
            self._split(cluster, members, dict(zip(names, cut.sides.tolist(), strict=True)))

    def _split(self, cluster: int, members: list[str], sides: dict[str, int]) -> None:
        """Give side 1 a cluster of its own with a copy of the model; both start to collect anew."""
        larger = int(2 * sum(sides.values()) > len(sides))
        born = self.split_off(cluster, [name for name in members if sides.get(name, larger)])
        for name in members:
            self._updates.pop(name, None)
        self._drawn.difference_update(members)
        logger.info(
            "cluster %d is cut: %d clients stay, %d form cluster %d",
            cluster, len(self.state.members(cluster)), len(self.state.members(born)), born,
        )  # fmt: skip


class Norms(NamedTuple):
    """Norm of the data-weighted mean update of a cluster, and of its longest update."""

    mean: float
    longest: float


class Bipartition(NamedTuple):
    """A cut of a cluster in two.

    `sides`, shape (n,), are 0 or 1; the first client is on side 0. `separation`, in [0, 1], is
    sqrt((1 - a) / 2) with `a` the largest similarity across the cut.
    """

    sides: NDArray[np.intp]
    separation: float


def update_norms(updates: NDArray[np.float32], weights: NDArray[np.int64]) -> Norms:
    """Norms of updates, shape (n, d), of clients with so many samples, shape (n,)."""
    mean = np.average(updates, axis=0, weights=weights)
    lengths = np.sqrt(np.einsum("ij,ij->i", updates, updates, dtype=np.float64))
    return Norms(float(np.linalg.norm(mean)), float(lengths.max()))


def cosine_similarities(updates: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of any two updates, shape (n, n); 0 where one of them is zero, 1 on the diagonal."""
    products = updates.astype(np.float64) @ updates.T.astype(np.float64)
    lengths = np.sqrt(np.diag(products))
    scale = np.outer(lengths, lengths)
    cosines = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    np.fill_diagonal(cosines, 1.0)
    clipped: NDArray[np.float64] = np.clip(cosines, -1.0, 1.0)
    return clipped


def bipartition(similarities: NDArray[np.float64], *, optimal: bool) -> Bipartition:
    """Cut clients in two by their similarities.

    Parameters
    ----------
    similarities : ndarray, shape (n, n), n >= 2
        Symmetric, in [-1, 1].
    optimal : bool
        Minimise the largest similarity across the cut (Sattler et al., Algorithm 1): the last
        merge of single linkage, which joins the two sides at just that similarity. Otherwise the
        last merge of complete linkage, as the public code does.
    """
    distances = (1.0 - similarities).clip(min=0.0)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), "single" if optimal else "complete")
    # By rank of merge, not by height: ties in height must not leave one cluster.
    tree[:, 2] = np.arange(len(tree))
    sides = canonical_labels(fcluster(tree, len(tree) - 1.5, criterion="distance"))
    across = similarities[np.ix_(sides == 0, sides == 1)].max()
    return Bipartition(sides, float(np.sqrt((1.0 - across) / 2.0)))
