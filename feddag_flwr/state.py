"""What the server owns, as one serialisable dataclass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from feddag_flwr.aggregation import Weights

STATE_FILE = "state.json"
MODELS_FOLDER = "models"


@dataclass(frozen=True)
class Client:
    """A client as it described itself.

    Attributes
    ----------
    name : str
        Stable name; every order in this package is the order of names.
    train_samples, test_samples : int
        Sizes of its two parts.
    """

    name: str
    train_samples: int
    test_samples: int


@dataclass
class ServerState:
    """Clients, clusters and models as they stand after a round.

    Attributes
    ----------
    class_names : tuple of str
        Classes of the federation, in the order of the classifiers' outputs.
    image_shape : tuple of int
        (channels, height, width).
    pixel_scale : tuple of (float, float)
        Mean and deviation of a channel by which the models' inputs are standardised.
    clients : dict of str to Client
        By name, in the order of names.
    server_round : int
        Last finished round.
    assignments : dict of str to int
        Cluster of each client that has one.
    models : list of dict of str to Weights
        The parts of each cluster's model.
    sources : tuple of tuple of int
        Complementarity graph: the clusters that each cluster learns from (Sec. 4).
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    pixel_scale: tuple[tuple[float, float], ...]
    clients: dict[str, Client]
    server_round: int = 0
    assignments: dict[str, int] = field(default_factory=dict)
    models: list[dict[str, Weights]] = field(default_factory=list)
    sources: tuple[tuple[int, ...], ...] = ()

    @property
    def num_clusters(self) -> int:
        """Number Z of clusters."""
        return len(self.models)

    def members(self, cluster: int) -> list[Client]:
        """Return the clients of a cluster, in the order of names."""
        return [c for name, c in self.clients.items() if self.assignments.get(name) == cluster]

    def learners(self, source: int) -> list[int]:
        """Return the clusters that learn from `source`, ascending."""
        return [cluster for cluster, its in enumerate(self.sources) if source in its]

    def admit(self, client: Client) -> None:
        """Add a client, or take over what it says of itself now."""
        self.clients = dict(sorted((self.clients | {client.name: client}).items()))

    def set_clusters(
        self,
        names: Sequence[str],
        labels: Sequence[int],
        models: Sequence[dict[str, Weights]],
        sources: Sequence[Sequence[int]] = (),
    ) -> None:
        """Take over a clustering: the cluster of each name, and each cluster's model."""
        self.assignments = {name: int(label) for name, label in zip(names, labels, strict=True)}
        self.models = list(models)
        self.sources = tuple(tuple(row) for row in sources)

    def save(self, folder: Path) -> None:
        """Write ``state.json`` and ``models/cluster-<z>.safetensors`` below `folder`.

        Each file appears whole or not at all.
        """
        (folder / MODELS_FOLDER).mkdir(parents=True, exist_ok=True)
        for cluster, parts in enumerate(self.models):
            tensors = {
                f"{name}.{kind}": np.ascontiguousarray(getattr(weights, kind))
                for name, weights in parts.items()
                for kind in ("floats", "buffers", "integers")
            }
            path = model_file(folder, cluster)
            partial = path.with_suffix(".partial")
            save_file(tensors, partial)
            partial.replace(path)
        text = {
            "class-names": list(self.class_names),
            "image-shape": list(self.image_shape),
            "pixel-scale": [list(pair) for pair in self.pixel_scale],
            "round": self.server_round,
            "clients": [asdict(client) for client in self.clients.values()],
            "assignments": self.assignments,
            "clusters": [list(parts) for parts in self.models],
            "sources": [list(row) for row in self.sources],
        }
        partial = folder / f"{STATE_FILE}.partial"
        partial.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / STATE_FILE)

    @classmethod
    def load(cls, folder: Path) -> ServerState:
        """Read what `save` wrote.

        Raises
        ------
        OSError, KeyError, ValueError
            A file is missing or does not hold what it should.
        """
        text = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        channels, height, width = text["image-shape"]
        models = []
        for cluster, parts in enumerate(text["clusters"]):
            tensors = load_file(model_file(folder, cluster))
            models.append(
                {
                    name: Weights(
                        tensors[f"{name}.floats"],
                        tensors[f"{name}.buffers"],
                        tensors[f"{name}.integers"],
                    )
                    for name in parts
                }
            )
        return cls(
            class_names=tuple(text["class-names"]),
            image_shape=(channels, height, width),
            pixel_scale=tuple((mean, deviation) for mean, deviation in text["pixel-scale"]),
            clients={each["name"]: Client(**each) for each in text["clients"]},
            server_round=text["round"],
            assignments=text["assignments"],
            models=models,
            sources=tuple(tuple(row) for row in text["sources"]),
        )


def model_file(folder: Path, cluster: int) -> Path:
    """Path of one cluster's model below a run's folder."""
    return folder / MODELS_FOLDER / f"cluster-{cluster:03d}.safetensors"
