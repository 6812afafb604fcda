"""Every command of docs/deploy.md, in the order of the guide, with other addresses and folders."""

import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from feddag_flwr.flower.commands import free_ports, read_log
from feddag_flwr.flower.private_home import private_home
from feddag_flwr.flower.processes import child_environment
from feddag_lab.demonstration.example_parts import write_parts
from feddag_lab.demonstration.node import CONNECTED

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "deploy.md"
# Not run here: they install, or have a test of their own.
ELSEWHERE = ("make deploy-demo", "python3 -m venv", "/opt/feddag/bin/pip install", "export ", "cd ")
PATIENCE = 600.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]


def blocks():
    """The fenced blocks of the guide: lists of lines, continued ones joined."""
    for text in re.findall(r"^```\n(.*?)^```$", GUIDE.read_text(), re.M | re.S):
        yield re.sub(r" *\\\n *", " ", text).splitlines()


def files():
    """The blocks that are files, by the first word that tells them apart."""
    marks = {
        "config.toml": r"\[superlink\.",
        "unit": r"# /etc/systemd",
        "node.toml": r"# /etc/feddag/node\.toml",
        "run.toml": r"# run\.toml$",
        "resume": r"# run\.toml, ",
    }
    return {
        name: block for name, mark in marks.items() for block in blocks()
        if re.match(mark, block[0])
    }  # fmt: skip


def commands():
    """All commands of the guide, in their order."""
    texts = list(files().values())
    return [line.partition("  #")[0].strip() for block in blocks() if block not in texts
            for line in block if not line.startswith(ELSEWHERE)]  # fmt: skip


class Guide:
    """Follows the guide on this machine."""

    def __init__(self, home):
        self.home = home
        for name in ("etc", "srv", "data", "cli"):
            (home / name).mkdir()
        fleet, control, runtime, health, first, second = map(str, free_ports(6))
        self.health = f"127.0.0.1:{health}"
        self.node_ports = iter((first, second))
        self.places = {
            "superlink.hospital.example:9092": f"localhost:{fleet}",
            "0.0.0.0:9092": f"127.0.0.1:{fleet}",
            "127.0.0.1:9093": f"127.0.0.1:{control}",
            "127.0.0.1:8000": f"127.0.0.1:{runtime}",
            "--port 8000": f"--port {runtime}",
            "127.0.0.1:9099": self.health,
            "/opt/feddag/bin/": "",
            "/etc/feddag": str(home / "etc"),
            "/srv/feddag": str(home / "srv"),
            "/data/": f"{home / 'data'}/",
            "/path/to/run.toml": str(home / "run.toml"),
        }
        self.left = commands()
        self.started = {}

    def here(self, text):
        for place, other in self.places.items():
            text = text.replace(place, other)
        return text

    def take(self, start, **words):
        """Take the guide's next command that begins so, as words for a process."""
        command = next(each for each in self.left if each.startswith(start))
        self.left.remove(command)
        for word, value in words.items():
            command = command.replace(word, value)
        words = shlex.split(self.here(command))
        if words[0] == "feddag-flwr":
            words = [sys.executable, "-m", "feddag_flwr.launcher", *words[1:]]
        return words

    def run(self, start, folder=None, **words):
        done = subprocess.run(
            self.take(start, **words), cwd=folder or self.home, env=self.environment("cli"),
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def environment(self, name):
        return {**child_environment(self.home / name), "PYTHONPATH": str(ROOT)}

    def begin(self, name, words, home=None):
        (self.home / name).mkdir()
        with (self.home / f"{name}.log").open("w") as log:
            self.started[name] = subprocess.Popen(
                words, cwd=self.home / name, env=self.environment(home or name), stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def log(self, name):
        return read_log(self.home / f"{name}.log")

    def wait(self, what, found):
        deadline = time.monotonic() + PATIENCE
        while not found():
            assert time.monotonic() < deadline, f"{what}: in vain"
            for name, process in self.started.items():
                assert process.poll() is None, f"{name} ended:\n{self.log(name)}"
            time.sleep(0.5)

    def serving(self):
        with grpc.insecure_channel(self.health) as channel:
            try:
                reply = HealthStub(channel).Check(HealthCheckRequest(), timeout=5)
            except grpc.RpcError:
                return False
        return reply.status == HealthCheckResponse.SERVING

    def write(self, name, path, change=lambda text: text):
        path.write_text(change(self.here("\n".join(files()[name]) + "\n")))


@pytest.fixture
def guide():
    with private_home() as home:
        yield Guide(home)


def smaller(text):
    """Make the guide's run one of two nodes and a minute."""
    for key, value in (("num-clients", 2), ("min-clients", 2), ("num-rounds", 2)):
        text, changed = re.subn(rf"^{key} = \d+$", f"{key} = {value}", text, flags=re.M)
        assert changed == 1, key
    return text + "participation = 1.0\nlocal-epochs = 2\nwarmup-epochs = 3\n"


def keys_to_their_hosts(guide):
    keys, etc = guide.home / "keys", guide.home / "etc"
    for name in ("ca.crt", "server.pem", "server.key", "superexec.secret"):
        shutil.copy(keys / name, etc)
    shutil.copy(keys / "nodes/ward-1/key", etc / "node.key")


def start_second_node(guide):
    """The service of the guide's unit, as systemd would run it, on a host of its own."""
    (line,) = [line for line in files()["unit"] if line.startswith("ExecStart=")]
    environment = [line for line in files()["unit"] if line.startswith("Environment=FLWR_DISABLE")]
    assert environment == ["Environment=FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1"]
    other = guide.home / "etc-2"
    other.mkdir()
    shutil.copy(guide.home / "keys/ca.crt", other)
    shutil.copy(guide.home / "keys/nodes/ward-2/key", other / "node.key")
    guide.write("node.toml", other / "node.toml")
    text = guide.here(line.removeprefix("ExecStart=")).replace(str(guide.home / "etc"), str(other))
    words = shlex.split(text)
    assert words[0] == "feddag-flwr"
    port = ["--port", next(guide.node_ports)]
    guide.begin("ward-2", [sys.executable, "-m", "feddag_flwr.launcher", *words[1:], *port])


def set_up(guide):
    """From the keys to two nodes that are connected; their ids."""
    guide.run("feddag-flwr keys")
    assert "server.pem" in guide.run("feddag-flwr keys")  # renewed
    keys_to_their_hosts(guide)
    guide.begin("superlink", guide.take("flower-superlink"))
    guide.wait("SuperLink", guide.serving)
    guide.begin("superexec", guide.take("flower-superexec"))
    guide.write("config.toml", guide.home / "cli/config.toml")
    ids = []
    for _ in range(2):
        told = guide.run("flwr supernode register")
        ids.append(re.search(r"SuperNode (\d+) registered", told)[1])
    assert "registered" in guide.run("flwr supernode list")
    write_parts(guide.home / "data")
    assert "ward-1" in guide.run("feddag-flwr check-data")
    guide.begin("ward-1", [*guide.take("feddag-flwr supernode"), "--port", next(guide.node_ports)])
    start_second_node(guide)
    for name in ("ward-1", "ward-2"):
        guide.wait(name, lambda name=name: CONNECTED.search(guide.log(name)))
    return ids


def resumed(guide, run_folder):
    """Let the finished run go on for more rounds than anybody waits for; the log of `flwr run`."""
    (line,) = [line for line in files()["resume"] if line.startswith("resume")]
    path = guide.home / "run.toml"
    text = path.read_text().replace("num-rounds = 2\n", "num-rounds = 1000\n")
    path.write_text(text + re.sub(r'"[^"]*"', f'"{run_folder}"', line) + "\n")
    words = guide.take("flwr run")
    words[words.index(".")] = str(ROOT)
    guide.begin("again", words, home="cli")
    guide.wait("round 3", lambda: "round    3/1000" in guide.log("again"))
    return guide.log("again")


def run_id_in(printed):
    return re.search(r"(?:Successfully started|feddag-flwr:) run (\d+)", printed)[1]


def test_the_guide_works_as_it_is_written(guide):
    first, _ = set_up(guide)

    guide.write("run.toml", guide.home / "run.toml", smaller)
    printed = guide.run("feddag-flwr submit", ROOT)
    assert "After round 2" in printed
    assert "feddag-flwr: finished:completed after" in printed
    assert "finished:completed" in guide.run("flwr ls")
    assert "round 2/2" in guide.run("flwr log", RUN_ID=run_id_in(printed))
    (run_folder,) = (guide.home / "srv/runs").iterdir()

    printed = resumed(guide, run_folder)
    assert "round    2/1000" not in printed
    guide.run("flwr stop", RUN_ID=run_id_in(printed))
    assert guide.started.pop("again").wait(PATIENCE) is not None

    assert "ward-7" in guide.run("feddag-flwr keys")
    assert "registered" in guide.run("flwr supernode register")
    guide.run("flwr supernode unregister", NODE_ID=first)
    guide.started.pop("ward-1").wait(PATIENCE)  # cut off, it ends

    assert guide.left == []
