"""From the setting ``algorithm`` to a strategy: a new one adds its line, and its name there."""

from __future__ import annotations

from feddag_flwr.run_folder import RunFolder
from feddag_flwr.settings import Settings
from feddag_flwr.strategies.clustered import ClusteredStrategy
from feddag_flwr.strategies.fedavg import FedAvg
from feddag_flwr.strategies.feddag import FedDAG

STRATEGIES: dict[str, type[ClusteredStrategy]] = {"feddag": FedDAG, "fedavg": FedAvg}


def build_strategy(settings: Settings, folder: RunFolder) -> ClusteredStrategy:
    """Make the strategy that the settings name."""
    return STRATEGIES[settings.algorithm](settings, folder)
