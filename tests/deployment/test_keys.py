"""Keys and certificates: what TLS and Flower itself say of them, and what a second run leaves."""

import datetime
import ipaddress
import os
import socket
import ssl
import stat
import threading
from pathlib import Path

import click
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_ssh_private_key,
    load_ssh_public_key,
)
from flwr.cli.supernode.register import try_load_public_key
from hypothesis import given
from hypothesis import strategies as st

from feddag_flwr.deployment.certificates import (
    end_of,
    host_names,
    make_authority,
    make_server,
    new_key,
)
from feddag_flwr.deployment.keys import KeyFolder, check_node_name, make_keys, write_new
from feddag_flwr.launcher import main


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def handshake(folder, host, *, trusted=None):
    """Let a client that trusts an authority shake hands, for a host name, with the server."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder.server, folder.server_key)
    client = ssl.create_default_context(cafile=trusted or folder.authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve():
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=host) as tls:
            return tls.version()
    finally:
        ours.close()
        thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("keys")
    make_keys(root, ["superlink.hospital.org", "10.0.0.7", "fd00::7"], ["ward-1", "ward-2"])
    return KeyFolder(root)


@pytest.mark.parametrize(
    "host", ["superlink.hospital.org", "10.0.0.7", "fd00::7", "localhost", "127.0.0.1"]
)
def test_tls_takes_the_server_under_every_name_given(folder, host):
    assert handshake(folder, host) == "TLSv1.3"


@pytest.mark.parametrize("host", ["other.hospital.org", "10.0.0.8"])
def test_tls_refuses_the_server_under_another_name(folder, host):
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        handshake(folder, host)


def test_tls_refuses_another_authority(folder, tmp_path):
    make_keys(tmp_path, [], [])
    with pytest.raises(ssl.SSLCertVerificationError, match=r"signature|self.signed|issuer"):
        handshake(folder, "localhost", trusted=KeyFolder(tmp_path).authority)


def test_the_server_may_sign_nobody_and_the_authority_servers_alone(folder):
    authority = x509.load_pem_x509_certificate(folder.authority.read_bytes())
    server = x509.load_pem_x509_certificate(folder.server.read_bytes())
    basic = {c: c.extensions.get_extension_for_class(x509.BasicConstraints) for c in
             (authority, server)}  # fmt: skip
    assert basic[authority].critical
    assert basic[authority].value == x509.BasicConstraints(ca=True, path_length=0)
    assert not basic[server].value.ca
    days = server.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(824) < days <= datetime.timedelta(825)


def test_flower_reads_the_node_keys(folder):
    private = load_ssh_private_key(folder.node_key("ward-1").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    public = load_ssh_public_key(folder.node_public_key("ward-1").read_bytes())
    assert private.public_key() == public
    assert folder.node_public_key("ward-1").read_text().endswith(" ward-1\n")
    assert try_load_public_key(folder.node_public_key("ward-1"))
    with pytest.raises(click.ClickException):
        try_load_public_key(folder.root / "absent")
    other = folder.node_public_key("ward-2").read_bytes()
    assert load_ssh_public_key(other) != public


def test_private_files_are_for_the_owner_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        make_keys(tmp_path, [], ["a"])
    finally:
        os.umask(before)
    modes = {path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
             for path in contents(tmp_path)}  # fmt: skip
    assert modes == {
        "ca.crt": 0o644, "ca.key": 0o600, "server.pem": 0o644, "server.key": 0o600,
        "superexec.secret": 0o600, "nodes/a/key": 0o600, "nodes/a/key.pub": 0o644,
    }  # fmt: skip


def test_a_second_run_adds_nodes_and_touches_nothing(tmp_path):
    make_keys(tmp_path, ["superlink"], ["a"])
    before = contents(tmp_path)
    (tmp_path / "ca.key").rename(tmp_path / "elsewhere")  # kept offline: nodes need it not
    written = make_keys(tmp_path, ["superlink"], ["b", "a", "b"])
    (tmp_path / "elsewhere").rename(tmp_path / "ca.key")
    after = contents(tmp_path)
    folder = KeyFolder(tmp_path)
    assert written == [folder.node_key("b"), folder.node_public_key("b")]
    assert after.keys() - before.keys() == set(written)
    assert {path: after[path] for path in before} == before
    assert make_keys(tmp_path, [], ["a"]) == []


def test_a_lost_public_key_is_made_again_from_the_private_one(tmp_path):
    make_keys(tmp_path, [], ["a"])
    path = KeyFolder(tmp_path).node_public_key("a")
    before = path.read_bytes()
    path.unlink()
    assert make_keys(tmp_path, [], ["a"]) == [path]
    assert path.read_bytes() == before


def test_another_host_is_refused_until_the_server_is_renewed(tmp_path):
    make_keys(tmp_path, [], ["a"])
    folder = KeyFolder(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"is not for new\.org: use --renew-server"):
        make_keys(tmp_path, ["new.org"], ["b"])
    assert contents(tmp_path) == before
    assert make_keys(tmp_path, ["new.org"], [], renew_server=True) == [
        folder.server, folder.server_key
    ]  # fmt: skip
    assert handshake(folder, "new.org") == "TLSv1.3"
    kept = {path: before[path] for path in before if path.name not in ("server.pem", "server.key")}
    assert {path: contents(tmp_path)[path] for path in kept} == kept


def fault_no_authority_key(folder):
    folder.authority_key.unlink()
    folder.server.unlink()
    return "a new server certificate needs .*ca.key"


def fault_no_authority(folder):
    folder.authority.unlink()
    folder.server.unlink()
    return "ca.key has no ca.crt"


def fault_other_authority_key(folder):
    folder.authority_key.write_bytes(folder.server_key.read_bytes())
    folder.server.unlink()
    return "is not the key of"


def fault_other_server_key(folder):
    folder.server_key.write_bytes(folder.authority_key.read_bytes())
    return "is not the certificate of server.key: use --renew-server"


def fault_garbage_certificate(folder):
    folder.server.write_text("garbage")
    return "server.pem cannot be read"


def fault_garbage_key(folder):
    folder.node_key("a").write_text("garbage")
    return "nodes/a/key cannot be read"


def fault_no_private_key(folder):
    folder.node_key("a").unlink()
    return "key.pub has no private key"


def fault_ended(folder):
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    authority_key, key = new_key(), new_key()
    authority = make_authority(authority_key, 30, past)
    server = make_server(authority, authority_key, key, host_names([]), 20, past)
    folder.server.write_bytes(server.public_bytes(Encoding.PEM))
    return "ended on 2020-01-21"


FAULTS = [value for name, value in list(globals().items()) if name.startswith("fault_")]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_folder_is_refused_and_stays_as_it_is(tmp_path, fault):
    make_keys(tmp_path, [], ["a"])
    message = fault(KeyFolder(tmp_path))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message):
        make_keys(tmp_path, [], ["a", "b"])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-a", ".a", "a b", "a\n", "ü",
                                  "a" * 101, 'a"', "a\\b", "a\0"])  # fmt: skip
def test_names_that_are_no_file_names_are_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ValueError, match="is no file name"):
        make_keys(tmp_path, [], ["fine", name])
    assert contents(tmp_path) == {}


@given(st.text(max_size=8))
def test_a_name_taken_is_one_part_of_a_path(name):
    try:
        check_node_name(name)
    except ValueError:
        return
    assert (Path("folder") / name).resolve() == Path("folder").resolve() / name
    assert Path(name).name == name


@pytest.mark.parametrize("host", ["", "https://a.org", "a.org:9092", "a b", "300.1.1.1", "a..b",
                                  "-a.org", "a.org/", "1.2.3", "x" * 64, "10.0.0.0/8"])  # fmt: skip
def test_hosts_that_are_none_are_refused(tmp_path, host):
    with pytest.raises(ValueError, match="neither a DNS name nor an IP address"):
        make_keys(tmp_path, [host], [])
    assert contents(tmp_path) == {}


def test_host_names_are_told_apart_from_addresses_and_each_held_once():
    names = host_names(["Node.ORG", "node.org", "::1", "127.0.0.1", "bücher.example", "*.lan"])
    assert [name.value for name in names] == [
        "localhost", ipaddress.ip_address("127.0.0.1"), "node.org", ipaddress.ip_address("::1"),
        "xn--bcher-kva.example", "*.lan",
    ]  # fmt: skip


@pytest.mark.parametrize("days", [0, -3])
def test_a_validity_that_cannot_be_is_refused(tmp_path, days):
    with pytest.raises(ValueError, match="at least 1"):
        make_keys(tmp_path, [], [], days=days)


def test_a_renewed_server_may_not_outlive_its_authority(tmp_path):
    make_keys(tmp_path, [], [], days=10)
    with pytest.raises(ValueError, match="would outlive the authority"):
        make_keys(tmp_path, [], [], days=4000, renew_server=True)
    long = tmp_path / "long"
    make_keys(long, [], [], days=4000)
    authority = x509.load_pem_x509_certificate(KeyFolder(long).authority.read_bytes())
    server = x509.load_pem_x509_certificate(KeyFolder(long).server.read_bytes())
    assert server.not_valid_after_utc <= authority.not_valid_after_utc


def test_half_a_file_is_no_file(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_new(tmp_path / "key", b"secret", 0o600)
    assert contents(tmp_path) == {}


def test_the_command_says_what_it_wrote_and_what_is_wrong(tmp_path, capsys):
    command = ["keys", "--output", str(tmp_path), "--host", "a.org", "--node", "n1", "--days", "9"]
    assert main(command) == 0
    printed = capsys.readouterr().out.split()
    assert sorted(printed) == sorted(str(path) for path in contents(tmp_path))
    assert main(command) == 0
    assert "already" in capsys.readouterr().out
    assert main([*command, "--node", "../n2"]) == 2
    assert "'../n2' is no file name" in capsys.readouterr().err


@pytest.mark.parametrize("days", [99_999_999, 10**20])
def test_days_beyond_the_calendar_are_refused_in_one_line(tmp_path, capsys, days):
    assert main(["keys", "--output", str(tmp_path / "keys"), "--days", str(days)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"days is {days}; it must be " in told
    assert not (tmp_path / "keys").exists()


def test_the_last_day_there_is_can_be_chosen():
    now = datetime.datetime(9999, 12, 30, 12, tzinfo=datetime.UTC)
    assert end_of(now, 1) == datetime.datetime(9999, 12, 31, 12, tzinfo=datetime.UTC)
    with pytest.raises(ValueError, match="days is 2; it must be 1 at most"):
        end_of(now, 2)
    with pytest.raises(ValueError, match="days is 2; it must be 1 at most"):
        make_authority(new_key(), 2, now)
