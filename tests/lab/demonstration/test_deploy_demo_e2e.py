"""The demonstration itself: real processes, TLS, keys; what it says is checked once more here."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from feddag_flwr.flower.processes import find_processes
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import run_in_process
from feddag_lab.demonstration.example_parts import write_parts

ROOT = Path(__file__).resolve().parents[3]
WARDS = ["ward-1", "ward-2", "ward-3", "ward-4"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]


def demo(run_dir, *options):
    command = [sys.executable, "-m", "feddag_lab", "deploy-demo", str(ROOT)]
    return subprocess.Popen(
        [*command, "--run-dir", str(run_dir), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=run_dir.parent,
        # A shell's background job ignores Ctrl-C, and so do its children, unless told otherwise.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def home_of(log):
    """The private folder of the processes, which the server app's own log names."""
    return Path(re.search(r"installed \S+ to (\S+)/superexec/apps/", log)[1])


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """One demonstration: what it printed, its run folder, and the logs of its processes."""
    folder = tmp_path_factory.mktemp("demo")
    process = demo(folder / "runs", "--timeout", "1800", "--keep-logs", str(folder / "logs"))
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    logs = {path.stem: path.read_text() for path in (folder / "logs").glob("*.log")}
    (run_folder,) = (folder / "runs").iterdir()
    return printed, run_folder, logs


@pytest.fixture(scope="module")
def simulated(shown, tmp_path_factory):
    """The run folder of a simulation of the same parts and settings, made by this test."""
    folder = tmp_path_factory.mktemp("simulation")
    write_parts(folder)
    settings = json.loads((shown[1] / "settings.json").read_text())
    own = {"data-dir": str(folder), "run-dir": str(folder / "runs")}
    return run_in_process(Settings.from_run_config({**settings, **own}))


def test_it_runs_to_the_closing_table_and_finds_the_two_groups(shown):
    printed, run_folder, _ = shown
    assert "the run is finished:completed" in printed
    assert "round 4/4 | 2 clusters" in printed
    assert "After round 4" in printed
    summary = json.loads((run_folder / "summary.json").read_text())
    members = sorted(cluster["members"] for cluster in summary["clusters"])
    assert members == [["ward-1", "ward-2"], ["ward-3", "ward-4"]]
    rounds = [json.loads(line) for line in (run_folder / "metrics.jsonl").open()]
    assert [line["round"] for line in rounds[-4:]] == [1, 2, 3, 4]


def test_its_models_are_the_simulation_s_to_the_bit(shown, simulated):
    printed, run_folder, _ = shown
    assert "final models of deployment and simulation: equal to the bit" in printed
    last = "checkpoints/round-000004/models"
    names = sorted(path.name for path in (run_folder / last).iterdir())
    assert names == ["cluster-000.safetensors", "cluster-001.safetensors"]
    for name in names:
        ours, theirs = (load_file(each / last / name) for each in (run_folder, simulated))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours), name
    ours, theirs = (
        json.loads((each / "summary.json").read_text()) for each in (run_folder, simulated)
    )
    for summary in (ours, theirs):  # the demonstration's strangers were asked who they are, too
        assert summary.pop("bytes-sent-per-client") > 0
        assert summary.pop("overhead") > 1
    (impostor,) = ours.pop("left-out")["clients"]
    assert impostor["at"] == "describe"
    assert "name 'ward-1' belongs to another node already" in impostor["reason"]
    assert ours == theirs
    name = "clustering.json"
    assert (run_folder / name).read_bytes() == (simulated / name).read_bytes()


def test_traffic_is_encrypted_and_nodes_authenticate_themselves(shown):
    printed, _, logs = shown
    assert "TLS, node authentication" in printed
    for ward in WARDS:
        assert re.search(r"SuperNode ID: \d+", logs[ward])
        assert "insecure" not in logs[ward]
    assert "SuperNode authentication is disabled" not in logs["superlink"]
    assert "unencrypted" not in logs["superlink"]


@pytest.mark.parametrize(
    ("node", "reason"),
    [("stranger", "Failed to activate SuperNode"), ("misled", "CERTIFICATE_VERIFY_FAILED")],
)
def test_a_node_without_a_registered_key_or_with_a_wrong_authority_gets_nowhere(
    shown, node, reason
):
    printed, run_folder, logs = shown
    assert reason in logs[node]
    assert reason in printed
    assert "SuperNode ID" not in logs[node]
    assert "Receiving" not in logs[node]
    assert node not in (run_folder / "metrics.jsonl").read_text()


def test_a_node_with_another_s_name_is_told_so_and_never_trains(shown):
    _, run_folder, logs = shown
    reason = "client 'ward-1': name 'ward-1' belongs to another node already"
    assert f"the server leaves this client out: {reason}" in logs["impostor"]
    assert f"left out: {reason}" in logs["run-1"]
    asked = set(re.findall(r"Receiving: (\S+) message", logs["impostor"]))
    assert asked == {"query.describe", "query.rejection"}
    state = json.loads((run_folder / "checkpoints/round-000004/state.json").read_text())
    assert [client["name"] for client in state["clients"]] == WARDS


def test_it_leaves_the_run_folder_and_nothing_else(shown):
    printed, run_folder, _ = shown
    home = home_of(printed)
    assert not home.exists()
    assert find_processes(home) == set()
    assert sorted(path.name for path in run_folder.parent.parent.iterdir()) == ["logs", "runs"]


def test_ctrl_c_ends_every_process_of_an_insecure_one(tmp_path):
    # Far more rounds than it takes for the line to come through the log.
    process = demo(tmp_path / "runs", "--insecure", "--rounds", "200")
    printed, home = "", None
    try:
        for line in process.stdout:
            printed += line
            # Once: Flower's stream of the log may begin anew and say it again.
            if home is None and "clusters at threshold" in line:
                home = home_of(printed)
                # SuperLink, SuperExec, server app, nodes.
                assert len(find_processes(home)) > 6, printed
                process.send_signal(signal.SIGINT)
        process.wait()
    finally:
        process.terminate()
        process.communicate()
    assert process.returncode == 128 + signal.SIGINT, printed
    assert "insecure: no TLS, no keys" in printed
    assert not home.exists(), printed
    assert find_processes(home) == set(), printed
