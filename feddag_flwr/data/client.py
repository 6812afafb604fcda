"""What a client has: its name and its data; and how its node says which client it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.modalities.base import Modality, SampleSpec
from feddag_flwr.settings import Settings

NodeConfig = Mapping[str, bool | int | float | str]


@dataclass(frozen=True, eq=False)
class ClientData:
    """The data of one client.

    Attributes
    ----------
    spec : SampleSpec or None
        What the samples have in common, where they do not tell it themselves.
    files_left_out : int
        As in `Parts`.
    test_drawn : bool
        Whether the test part was drawn by seed from all samples, for the client's data has none.
    """

    name: str  # the same in every round
    train: LabelledSamples  # neither part is empty, but the test part of a client without labels
    test: LabelledSamples
    class_names: tuple[str, ...]  # of the whole dataset, or of the client's own data (scenario own)
    true_group: int | None  # that the scenario put it in; for evaluation only, never for training
    validation: LabelledSamples | None = None  # held back from training; None: nothing is
    spec: SampleSpec | None = None
    files_left_out: int = 0
    test_drawn: bool = False

    def spec_by(self, modality: Modality) -> SampleSpec:
        """Return what the samples have in common."""
        return modality.spec(self.train.samples) if self.spec is None else self.spec

    @property
    def labelled(self) -> bool:
        """Whether its samples have labels; without any, there are no class names either."""
        return bool(self.class_names)

    def check_parts_given(self, wanted_by: str) -> None:
        """Refuse data of which one sample more would change what all others are used for.

        By a privacy setting, `wanted_by`, one sample must be all that differs; a `DataError` says
        so.
        """
        if self.test_drawn:
            raise DataError(
                f"client {self.name!r} has no test part, and one sample more would change the one "
                f"that is drawn: {wanted_by} needs data with a test part of its own"
            )

    def without_labels(self) -> ClientData:
        """Return the same client, of whose training samples nobody knows what they show."""
        train = LabelledSamples.without_labels(self.train.samples)
        test = LabelledSamples.without_labels(self.test.samples[:0])
        return replace(self, train=train, test=test, class_names=())


def partition_name(partition_id: int, num_clients: int) -> str:
    """Return the name of a client of a common dataset; names sort as partitions do."""
    width = len(str(num_clients - 1))
    return f"client-{partition_id:0{width}d}"


def read_partition_id(settings: Settings, node_config: NodeConfig) -> int:
    """Return the partition that the node config names.

    `DataError` where there is none, it is out of range, or the federation has another number of
    nodes.
    """
    partition_id = node_config.get("partition-id")
    if not isinstance(partition_id, int) or isinstance(partition_id, bool):
        raise DataError(
            f"node config partition-id = {partition_id!r}: expected an integer from 0 to "
            f"{settings.run.num_clients - 1}"
            + (" (or data-path for scenario = 'own')" if settings.data.scenario == "own" else "")
        )
    num_partitions = node_config.get("num-partitions", settings.run.num_clients)
    if num_partitions != settings.run.num_clients:
        raise DataError(
            f"the federation has {num_partitions} nodes (num-partitions), but num-clients = "
            f"{settings.run.num_clients}; set both to the same number"
        )
    if not 0 <= partition_id < settings.run.num_clients:
        raise DataError(
            f"node config partition-id = {partition_id}: expected 0 to "
            f"{settings.run.num_clients - 1} (num-clients = {settings.run.num_clients})"
        )
    return partition_id


def read_text(node_config: NodeConfig, key: str) -> str | None:
    """Return a string of the node config, None where it has none; refuse any other value."""
    value = node_config.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise DataError(f"node config {key} = {value!r}: expected a string that is not empty")
    return value
