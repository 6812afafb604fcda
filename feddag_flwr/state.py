"""What the server owns, as one dataclass; `feddag_flwr.checkpoints` writes and reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from feddag_flwr.aggregation import Weights
from feddag_flwr.modalities import Rows, SampleSpec


@dataclass(frozen=True)
class Client:
    """A client as it described itself; every order in this package is the order of names."""

    name: str
    train_samples: int
    test_samples: int


@dataclass(frozen=True)
class Unlabelled:
    """A client without labels: it has a cluster, whose model it can use, but takes no part."""

    samples: int
    cluster: int
    sure: float  # that this is its cluster, from 0 to 1


@dataclass
class ServerState:
    """Clients, clusters and their models as they stand after a round.

    Attributes
    ----------
    sample_scale : tuple of rows
        How samples become the models' inputs, see `feddag_flwr.modalities.Modality.scale`.
    clients : dict of str to Client
        By name, in the order of names.
    teachers : tuple of tuple of int
        The clusters that train each cluster's secondary encoder, whichever rule says so: itself
        (FedDAG-dagger), those it agrees with, all, or its teachers in the complementarity graph
        (Sec. 4). Empty without such an encoder.
    sample_details : str
        What else the modality says of samples (`feddag_flwr.modalities.SampleSpec`).
    """

    class_names: tuple[str, ...]
    sample_shape: tuple[int, ...]
    sample_scale: Rows
    clients: dict[str, Client]
    server_round: int = 0
    assignments: dict[str, int] = field(default_factory=dict)
    models: list[dict[str, Weights]] = field(default_factory=list)
    teachers: tuple[tuple[int, ...], ...] = ()
    sample_details: str = ""

    @property
    def spec(self) -> SampleSpec:
        """What all samples of the federation have in common."""
        return SampleSpec(self.sample_shape, self.sample_details)

    @property
    def num_clusters(self) -> int:
        """Number Z of clusters."""
        return len(self.models)

    def members(self, cluster: int) -> list[Client]:
        """Return the clients of a cluster, in the order of names."""
        return [c for name, c in self.clients.items() if self.assignments.get(name) == cluster]

    def learners(self, source: int) -> list[int]:
        """Return the clusters that learn from `source`, ascending."""
        return [cluster for cluster, teachers in enumerate(self.teachers) if source in teachers]

    def admit(self, client: Client) -> None:
        """Add a client, or take over what it says of itself now."""
        known = client.name in self.clients
        self.clients[client.name] = client
        if not known:
            self.clients = dict(sorted(self.clients.items()))

    def set_clusters(
        self,
        names: Sequence[str],
        labels: Sequence[int],
        models: Sequence[dict[str, Weights]],
        teachers: Sequence[Sequence[int]] = (),
    ) -> None:
        """Take over a clustering: the cluster of each name, and each cluster's model."""
        self.assignments = {name: int(label) for name, label in zip(names, labels, strict=True)}
        self.models = list(models)
        self.teachers = tuple(tuple(row) for row in teachers)
