"""The in-process simulation against the real ``flwr run``."""

from pathlib import Path

import pytest
from memory_grid import QUICK

from feddag_flwr.launcher import run_simulation
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import run_in_process

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.e2e
def test_a_run_in_process_is_the_run_through_flower_to_the_byte(tmp_path):
    config = {**QUICK, "run-dir": str(tmp_path), "join-timeout": 120.0, "round-timeout": 300.0}

    outcome = run_simulation(
        ROOT, {**config, "run-name": "flower"}, num_supernodes=6, cpus=2, timeout=400
    )
    here = run_in_process(Settings.from_run_config({**config, "run-name": "here"}))

    assert outcome.succeeded, outcome.log
    there = tmp_path / "flower"
    last = there / "checkpoints" / "round-000002"
    models = [str(path.relative_to(there)) for path in sorted(last.glob("*/*.safetensors"))]
    assert f"{last.relative_to(there)}/models/cluster-000.safetensors" in models
    for name in ("metrics.jsonl", "checkpoints/round-000002/state.json", *models):
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
