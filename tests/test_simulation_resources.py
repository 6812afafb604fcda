"""What a simulation asks Ray for: no more than clients need, and nothing that is not there."""

import subprocess

import pytest

from feddag_flwr.flower import machine
from feddag_flwr.launcher import main, run_simulation, simulation

pytestmark = pytest.mark.integration

APP = '[project]\nname = "x"\n[tool.flwr.app.config]\nnum-clients = 3\n'


class StartedError(Exception):
    """The simulation would start now."""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Return what Flower would be told to give Ray, on a machine of 8 cores and GPUs."""
    (tmp_path / "pyproject.toml").write_text(APP)
    told = {}

    def submit(_home, _app_dir, federation, *_):
        told.update(federation)
        raise StartedError

    monkeypatch.setattr(simulation, "usable_cores", lambda: 8)
    monkeypatch.setattr(simulation, "_start_superlink", lambda *_: None)
    monkeypatch.setattr(simulation, "_stream_run", submit)

    def ask(gpus=0, **options):
        monkeypatch.setattr(simulation, "count_gpus", lambda: gpus)
        with pytest.raises(StartedError):
            run_simulation(tmp_path, {}, **options)
        return told

    return ask


@pytest.mark.parametrize(
    ("options", "cpus"),
    [
        ({"num_supernodes": 3}, 3),
        ({"num_supernodes": 20}, 8),
        ({"num_supernodes": 3, "cpus_per_client": 2}, 6),
        ({"num_supernodes": 20, "cpus_per_client": 10}, 10),
        ({"num_supernodes": 3, "cpus": 8}, 3),
        ({"num_supernodes": 20, "cpus": 12}, 12),
    ],
)
def test_no_more_actors_than_clients_and_cores(asked, options, cpus):
    assert asked(**options)["init-args-num-cpus"] == cpus


def test_a_share_of_a_gpu_that_is_there_is_passed_on(asked):
    told = asked(gpus=1, num_supernodes=3, gpus_per_client=0.25)
    assert told["client-resources-num-gpus"] == 0.25
    assert asked(gpus=2, num_supernodes=3, gpus_per_client=2)["client-resources-num-gpus"] == 2


@pytest.mark.parametrize(
    ("share", "gpus", "reason"),
    [
        ("0.5", 0, "gpus_per_client is 0.5; PyTorch finds no GPU here"),
        ("2", 1, "gpus_per_client is 2; PyTorch finds 1 GPU here"),
        ("1.5", 2, "gpus_per_client is 1.5; above 1 it must be whole"),
    ],
)
def test_a_share_that_nobody_can_have_is_refused_before_anything_starts(
    share, gpus, reason, tmp_path, monkeypatch, capsys
):
    (tmp_path / "pyproject.toml").write_text(APP)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(simulation, "count_gpus", lambda: gpus)
    monkeypatch.setattr(simulation, "private_home", None)  # nothing gets so far
    assert main(["run", str(tmp_path), "--gpus-per-client", share]) == 2
    assert capsys.readouterr().err == f"feddag-flwr: {reason}\n"


def test_gpus_are_those_that_pytorch_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.count_gpus() == 0
    answers = [subprocess.CompletedProcess([], 0, "2\n"), subprocess.CompletedProcess([], 1, "")]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answers.pop(0))
    assert machine.count_gpus() == 2
    assert machine.count_gpus() == 0  # no PyTorch
