"""A scenario as a table: what each client holds, which group it is in, how its data varies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.class_names import warn_of_similar_names
from feddag_flwr.data.classes import in_classes
from feddag_flwr.data.client import partition_name
from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.plan import make_plan
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.settings import Settings


@dataclass(frozen=True, eq=False)
class ScenarioTable:
    """All N clients of a scenario, in order of partitions."""

    names: tuple[str, ...]
    class_names: tuple[str, ...]  # in the order of the columns
    counts: NDArray[np.int64]  # (N, C) training samples, by the labels that clients see
    groups: tuple[int | None, ...]  # true ones
    variations: tuple[str, ...]  # domain, concept, rotation and corruption in words

    def by_group(self) -> list[int]:
        """Return the clients sorted by true group, then by partition."""
        return sorted(range(len(self.names)), key=lambda client: (self.groups[client] or 0, client))


def tabulate(settings: Settings) -> ScenarioTable:
    """Make the table of the scenario that the settings describe."""
    return _own_table(settings) if settings.data.scenario == "own" else _common_table(settings)


def _common_table(settings: Settings) -> ScenarioTable:
    dataset = load_dataset(settings)
    plan = make_plan(dataset, settings)
    clients = range(settings.run.num_clients)
    variations = []
    for client in clients:
        words = [plan.variation(client).words()]
        if dataset.domain_names:
            stratum = int(plan.counts[client].argmax())
            words.insert(0, dataset.domain_names[stratum // plan.num_classes])
        variations.append(", ".join(word for word in words if word))
    return ScenarioTable(
        names=tuple(partition_name(client, settings.run.num_clients) for client in clients),
        class_names=dataset.class_names,
        counts=plan.label_counts(),
        groups=tuple(plan.true_group(client) for client in clients),
        variations=tuple(variations),
    )


def _own_table(settings: Settings) -> ScenarioTable:
    clients = [
        load_client_data(settings, {"partition-id": index})
        for index in range(settings.run.num_clients)
    ]
    class_names = sorted({name for client in clients for name in client.class_names})
    warn_of_similar_names(class_names)
    counts = [
        np.bincount(in_classes(client, class_names).train.labels, minlength=len(class_names))
        for client in clients
    ]
    return ScenarioTable(
        names=tuple(client.name for client in clients),
        class_names=tuple(class_names),
        counts=np.array(counts),
        groups=(None,) * len(clients),
        variations=("",) * len(clients),
    )
