"""The services that run once, and the health check."""

import socket
import stat

import healthcheck
import numpy as np
import prepare
import pytest
import register
from connection import connect
from flwr.cli.flower_config import read_superlink_connection
from flwr.supercore.grpc_health import run_health_server_grpc_no_tls
from sklearn.datasets import load_digits

from feddag_flwr.data.files import read_npz
from feddag_flwr.modalities.image import Image

NODES = ["ward-1", "ward-2", "ward-3"]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def test_prepare_makes_what_is_missing_and_nothing_anew(tmp_path, monkeypatch):
    command = ["prepare", str(tmp_path), "--host=superlink", f"--nodes={','.join(NODES)}"]
    monkeypatch.setattr("sys.argv", command)
    assert prepare.main() == 0
    made = files(tmp_path)
    secret = tmp_path / "keys" / "superexec.secret"
    for private in (secret, tmp_path / "keys" / "server.key", tmp_path / "keys/nodes/ward-1/key"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    (tmp_path / "keys" / "nodes" / "ward-2" / "key.pub").unlink()
    (tmp_path / "data" / "ward-3" / "part.npz").unlink()  # an owner may put something else there
    assert prepare.main() == 0
    again = files(tmp_path)
    assert {name for name in made if made[name] != again.get(name)} == {
        (tmp_path / "data" / "ward-3" / "part.npz").relative_to(tmp_path)
    }
    part = read_npz(tmp_path / "data" / "ward-1" / "part.npz", Image())
    assert part.train.samples.shape[1:] == (1, 8, 8)
    assert part.class_names == tuple("0123456789")


def test_every_digit_goes_to_one_node_and_neighbours_share_classes():
    digits = load_digits()
    numbers = np.arange(len(digits.target))
    images = np.zeros((len(numbers), 8, 8))
    for place in range(3):  # each image bears its number, to the base of 16
        images[:, 0, place] = numbers // 16**place % 16
    parts = prepare.parts(images, digits.target, 6)
    pixels = np.concatenate([part[0] for part in parts]).astype(float)
    assert {part[0].dtype.name for part in parts} == {"uint8"}
    read = sum(np.rint(pixels[:, 0, place] * 16 / 255) * 16**place for place in range(3))
    np.testing.assert_array_equal(np.sort(read), numbers)
    np.testing.assert_array_equal(
        digits.target[read.astype(int)], np.concatenate([part[1] for part in parts])
    )
    held = [tuple(np.unique(labels)) for _, labels in parts]
    assert held == [held[0], held[0], held[2], held[2], held[4], held[4]]
    assert sorted(held[0] + held[2] + held[4]) == list(range(10))


class Refusing:
    """A SuperLink that answers every question with the same words."""

    def __init__(self, words):
        self.words = words

    def ask(self, arguments):
        assert arguments[:2] == ["supernode", "register"]
        raise RuntimeError(self.words)


def test_a_node_known_already_is_no_fault(tmp_path):
    known = Refusing("flwr supernode register: Public key already in use. (code 2001)")
    assert register.register(known, tmp_path / "ward-1.pub") == "registered already"
    with pytest.raises(RuntimeError, match="no such key"):
        register.register(Refusing("no such key"), tmp_path / "ward-1.pub")


def test_no_key_is_a_fault(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["register", str(tmp_path)])
    assert register.main() == 1
    assert "no node to register" in capsys.readouterr().err


def test_flower_reads_the_connection(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    (tmp_path / "ca.crt").write_text("certificate")
    connect("superlink:9093", tmp_path / "ca.crt")
    read = read_superlink_connection()
    assert (read.address, read.root_certificates) == ("superlink:9093", str(tmp_path / "ca.crt"))
    assert not read.insecure


def test_the_health_check_asks_flowers_health_service():
    server = run_health_server_grpc_no_tls("127.0.0.1:0")
    try:
        assert healthcheck.answers(server.bound_address)
    finally:
        server.stop(0).wait()
    assert not healthcheck.answers(server.bound_address)


def test_the_health_check_sees_an_established_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not healthcheck.connected(port, healthcheck.TABLES[0].read_text())
        with socket.create_connection(("127.0.0.1", port)):
            assert healthcheck.connected(port, healthcheck.TABLES[0].read_text())


def test_a_connection_being_made_or_from_outside_does_not_count():
    line = "0: 0100007F:2384 0100007F:{remote} {state} 00000000:00000000 00:00000000 00000000"
    assert healthcheck.connected(9092, line.format(remote="2384", state="01"))
    assert not healthcheck.connected(9092, line.format(remote="2384", state="02"))  # SYN_SENT
    assert not healthcheck.connected(9092, line.format(remote="ABCD", state="01"))
