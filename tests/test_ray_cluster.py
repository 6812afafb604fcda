"""A simulation as a job of a Ray cluster that runs already: two Ray nodes on this host."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from feddag_flwr.flower.processes import (
    HOME_VARIABLE,
    child_environment,
    end_processes,
    executable,
    find_processes,
)
from feddag_flwr.launcher import main, run_simulation
from feddag_flwr.launcher.ray_cluster import cluster_variables, ship_app

ROOT = Path(__file__).resolve().parent.parent
OBJECT_STORE_BYTES = 80_000_000
# A model builder that notes where the client code that calls it came from.
PROBE = """
import json, os
from pathlib import Path
from feddag_flwr.models.encoders import SmallEncoder

def build(sample_shape):
    import client_app
    note = {"code": client_app.__file__, "cwd": os.getcwd()}
    (Path(__file__).parent / f"seen-{os.getpid()}.json").write_text(json.dumps(note))
    return SmallEncoder(sample_shape)
"""


@pytest.fixture
def listener():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_ray_learns_the_address_and_the_hook(listener, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "10.9.9.9:1")
    monkeypatch.setenv("RAY_TMPDIR", "/somewhere")
    address = f"127.0.0.1:{listener}"

    environment = child_environment(tmp_path, cluster_variables(address))

    assert environment["RAY_ADDRESS"] == address
    assert environment["RAY_RUNTIME_ENV_HOOK"] == "feddag_flwr.launcher.ray_cluster.ship_app"
    assert environment["RAY_TMPDIR"] == "/somewhere"
    assert environment["FLWR_HOME"] == str(tmp_path)
    monkeypatch.delenv("RAY_TMPDIR")
    assert "RAY_TMPDIR" not in child_environment(tmp_path, cluster_variables(address))


def test_auto_is_the_caller_s_address_or_ray_s_own_search(listener, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"localhost:{listener}")
    assert cluster_variables("auto")["RAY_ADDRESS"] == f"localhost:{listener}"
    for nothing in ("", "auto"):
        monkeypatch.setenv("RAY_ADDRESS", nothing)
        assert cluster_variables("auto")["RAY_ADDRESS"] == "auto"
    monkeypatch.delenv("RAY_ADDRESS")
    assert cluster_variables("auto")["RAY_ADDRESS"] == "auto"


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port", "", "ray://head:10001"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="is not host:port"):
        cluster_variables(address)


def test_nobody_there_is_said_at_once():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else's
        port = closed.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"no Ray cluster answers at 127\\.0\\.0\\.1:{port}"):
            cluster_variables(f"127.0.0.1:{port}")
    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1:99999"):
        cluster_variables("127.0.0.1:99999")


def test_command_line_refuses_cpus_beside_a_cluster(capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)

    assert main(["run", str(ROOT), "--ray-address", "localhost:1", "--cpus", "2"]) == 2
    assert "cpus" in capsys.readouterr().err
    assert main(["run", "--in-process", "--ray-address", "localhost:1"]) == 2
    assert "--in-process takes no --ray-address" in capsys.readouterr().err


def test_the_bundle_that_flower_loaded_is_shipped(monkeypatch, tmp_path):
    bundle = tmp_path / "apps" / "publisher.app.0.1.0.abc"
    bundle.mkdir(parents=True)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    asked = {"env_vars": {"PYTHONPATH": "/there"}}

    monkeypatch.setattr(sys, "path", ["", str(tmp_path), str(bundle), "/there"])
    assert ship_app(asked) == {**asked, "working_dir": str(bundle)}
    assert ship_app(None) == {"working_dir": str(bundle)}
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "apps")])
    with pytest.raises(RuntimeError, match="no app of"):
        ship_app(asked)


# --- through real Ray nodes ---


def _start_node(folder, home, *arguments):
    """Start one Ray node of one CPU; its processes bear the mark of `home`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [
        executable("ray"), "start", *arguments, "--num-cpus=1", f"--temp-dir={folder}",
        f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        env={**environment, HOME_VARIABLE: str(home), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout
    return (folder / "ray_current_cluster").read_text().strip()


@pytest.fixture
def cluster():
    """Two Ray nodes with folders of their own, and the address of the first."""
    # Ray's sockets need a short path, which pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as name:
        home = Path(name)
        try:
            # The port of Ray's client server would be fixed: one's own, which nobody uses.
            with socket.socket() as one:
                one.bind(("127.0.0.1", 0))
                client_port = one.getsockname()[1]
            address = _start_node(
                home / "h", home, "--head", "--port=0", "--include-dashboard=false",
                f"--ray-client-server-port={client_port}",
            )  # fmt: skip
            _start_node(home / "w", home, f"--address={address}")
            yield home, address
        finally:
            end_processes(home)
            assert find_processes(home) == set()


def _simulate(tmp_path, name, **options):
    config = {
        "run-dir": str(tmp_path), "run-name": name, "num-clients": 10, "num-rounds": 2,
        "participation": 1.0, "warmup-epochs": 2, "local-epochs": 2, "model": "probe:build",
    }  # fmt: skip
    outcome = run_simulation(ROOT, config, num_supernodes=10, timeout=500, **options)
    assert outcome.succeeded, outcome.log
    return {
        str(path.relative_to(tmp_path / name)): path.read_bytes()
        for path in sorted((tmp_path / name).rglob("*"))
        if path.is_file()
    }


def _title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_two_ray_nodes_give_the_result_of_none(cluster, tmp_path, monkeypatch):
    home, address = cluster
    probes = tmp_path / "probes"
    probes.mkdir()
    (probes / "probe.py").write_text(PROBE)
    paths = [str(probes), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

    joined = _simulate(tmp_path, "joined", ray_address=address)
    seen = [json.loads(path.read_text()) for path in probes.glob("seen-*.json")]
    alone = _simulate(tmp_path, "alone", cpus=1)

    # Both nodes' clients ran, each on the copy of the app that Ray unpacked on its node.
    for node in ("h", "w"):
        assert [note for note in seen if note["code"].startswith(str(home / node))], (node, seen)
        assert [note for note in seen if note["cwd"].startswith(str(home / node))], (node, seen)
    # The cluster outlives the job; nothing of the job outlives it.
    raylets = [p for p in find_processes(home) if p.name() == "raylet"]
    assert len(raylets) == 2
    workers = {child for raylet in raylets for child in raylet.children(recursive=True)}
    actors = {worker for worker in workers if "ClientAppActor" in _title(worker)}
    assert psutil.wait_procs(actors, timeout=60)[1] == []  # Ray ends them soon after their job
    # Byte for byte the same run, but for times, the run's name and the nodes' numbers.
    assert joined.keys() == alone.keys()
    assert "metrics.jsonl" in joined
    assert [name for name in joined if name.endswith(".safetensors")]
    for name in joined:
        path = Path(name)
        if path.name == "notes.json":
            ours, theirs = (json.loads(files[name]) for files in (joined, alone))
            for notes in (ours, theirs):
                assert sorted(notes["run"].pop("nodes")) == [f"client-{i}" for i in range(10)]
            assert ours == theirs, name
        elif path.name not in {
            "seconds.jsonl", "sessions.jsonl", "settings.json", "manifest.json", "report.html"
        }:  # fmt: skip
            assert joined[name] == alone[name], name
