"""Through the real `flwr run`, in simulation."""

import json
from pathlib import Path

import pytest

from feddag_flwr.launcher import run_simulation

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = 20

pytestmark = pytest.mark.e2e


def simulate(tmp_path, name, *, cpus=2, num_supernodes=CLIENTS, **changes):
    config = {"run-dir": str(tmp_path), "run-name": name, "num-rounds": 3, "warmup-epochs": 5}
    config |= {key.replace("_", "-"): value for key, value in changes.items()}
    return run_simulation(ROOT, config, num_supernodes=num_supernodes, cpus=cpus, timeout=400)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the default job with one seed: two Ray actors, and one."""
    folder = tmp_path_factory.mktemp("runs")
    outcomes = {
        name: simulate(folder, name, cpus=cpus, evaluate_every=2)
        for name, cpus in (("two-actors", 2), ("one-actor", 1))
    }
    return folder, outcomes


def test_the_default_job_completes_and_finds_the_groups(runs):
    folder, outcomes = runs
    outcome = outcomes["two-actors"]
    assert outcome.succeeded, outcome.log
    assert "adjusted Rand index against the true groups: 1.000" in outcome.log
    summary = json.loads((folder / "two-actors" / "summary.json").read_text())
    assert summary["num-clusters"] == 5
    assert summary["overall"]["clients"] == CLIENTS
    assert "round 3/3 | 5 clusters" in outcome.log


def test_one_seed_gives_one_result_whatever_the_number_of_actors(runs):
    folder, outcomes = runs
    assert all(outcome.succeeded for outcome in outcomes.values())
    one, two = folder / "one-actor", folder / "two-actors"
    last = "checkpoints/round-000003"
    models = sorted(path.name for path in (one / last / "models").iterdir())
    assert len(models) == 5
    for name in (
        "metrics.jsonl", "clustering.json", "summary.json", f"{last}/state.json",
        *(f"{last}/models/{model}" for model in models),
    ):  # fmt: skip
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_fedavg_runs_on_the_same_base(tmp_path):
    outcome = simulate(tmp_path, "fedavg", algorithm="fedavg", num_rounds=2)
    assert outcome.succeeded, outcome.log
    summary = json.loads((tmp_path / "fedavg" / "summary.json").read_text())
    assert summary["num-clusters"] == 1


def test_a_bad_setting_fails_the_run_and_is_named(tmp_path):
    outcome = simulate(tmp_path, "bad", momentum=1.5)
    assert not outcome.succeeded
    assert "setting momentum = 1.5: input should be less than 1" in outcome.details + outcome.log
    assert not (tmp_path / "bad").exists()


def test_fewer_nodes_than_expected_fail_the_run_in_bounded_time(tmp_path):
    outcome = simulate(tmp_path, "few", num_supernodes=3, join_timeout=2.0)
    assert not outcome.succeeded
    assert "3 of 20 nodes came within 2 s" in outcome.details + outcome.log


def test_missing_data_fails_the_run_and_is_named(tmp_path):
    outcome = simulate(
        tmp_path, "missing", dataset="fashion-mnist", data_dir=str(tmp_path / "nowhere")
    )
    assert not outcome.succeeded
    assert "0 usable clients of 20 nodes" in outcome.details + outcome.log
    assert "nowhere" in outcome.log
