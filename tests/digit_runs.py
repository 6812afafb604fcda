"""Short runs of the digits, and what their first client holds."""

import json
from pathlib import Path
from typing import NamedTuple

from memory_grid import quick_settings

from feddag_flwr.checkpoints import Checkpoint, newest_checkpoint
from feddag_flwr.data.client import ClientData
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.simulation import run_in_process

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
        run_dir=str(folder),
        run_name=changes.get("algorithm", "feddag"),
        num_rounds=3,
        batch_size=16,
        learning_rate=0.05,
        **changes,
    )
    path = run_in_process(settings)
    data = load_client_data(
        settings, {"partition-id": 0, "num-partitions": settings.run.num_clients}
    )
    assert data.name == CLIENT
    return Run(path, newest_checkpoint(path), data)
