"""Short runs of the digits, and what their first client holds."""

import json
from pathlib import Path
from typing import NamedTuple

from memory_grid import quick_settings

from feddag_flwr.checkpoints import CHECKPOINTS, Checkpoint, CheckpointFolder, newest_checkpoint
from feddag_flwr.data.client import ClientData
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.simulation import InProcessGrid, load_client_app
from feddag_flwr.strategies.registry import build_strategy

CLIENT = "client-0"


class Run(NamedTuple):
    """A finished run: its folder, its last checkpoint, and client 0's test data."""

    path: Path
    checkpoint: Checkpoint
    data: ClientData

    @property
    def evaluated(self):
        """What the run itself says of client 0 after the last round."""
        line = json.loads((self.path / "metrics.jsonl").read_text().splitlines()[-1])
        return line["all"]["by-client"][CLIENT]


def run_of(folder, **changes):
    settings = quick_settings(
        run_dir=str(folder), run_name=changes.get("algorithm", "feddag"), num_rounds=3, **changes
    )
    strategy = build_strategy(settings, RunFolder(settings))
    strategy.start(InProcessGrid(load_client_app(), settings))
    path = strategy.folder.path
    CheckpointFolder(path / CHECKPOINTS, keep=2).write(
        Checkpoint(3, settings.to_run_config(), strategy.state)
    )
    data = load_client_data(settings, {"partition-id": 0, "num-partitions": settings.num_clients})
    assert data.name == CLIENT
    return Run(path, newest_checkpoint(path), data)
