"""The folder of keys of one federation: authority, server, SuperExec, and a key for each node."""

import datetime
import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from feddag_flwr.deployment.certificates import (
    end_of,
    host_names,
    make_authority,
    make_server,
    names_of,
    new_key,
    private_pem,
)

AUTHORITY_DAYS = 3650
SERVER_DAYS = 825
SECRET_BYTES = 32
PRIVATE = 0o600
PUBLIC = 0o644
# Portable file names: they become folders here, file names in container mounts, words in a shell.
_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class KeyFolder:
    """Where each file lies, in the folder given as ``--output``."""

    def __init__(self, root: Path) -> None:
        self.authority = root / "ca.crt"  # every node and every user of ``flwr`` needs it
        self.authority_key = root / "ca.key"  # needed for a new server certificate alone
        self.server = root / "server.pem"
        self.server_key = root / "server.key"
        # What a SuperExec shows its SuperLink: without it, whoever reaches that could run apps.
        self.superexec_secret = root / "superexec.secret"
        self.root = root

    def node_key(self, name: str) -> Path:
        """Return the path of a node's private key, in OpenSSH's format."""
        return self.root / "nodes" / check_node_name(name) / "key"

    def node_public_key(self, name: str) -> Path:
        """Return the path of a node's public key, for ``flwr supernode register``."""
        return self.node_key(name).with_suffix(".pub")


def check_node_name(name: str) -> str:
    """Return a node's name if it can be a file's name everywhere; else a `ValueError` names it."""
    if not _NODE_NAME.fullmatch(name):
        raise ValueError(
            f"node name {name!r} is no file name: letters, digits, '.', '_' and '-', "
            "the first a letter or digit, 100 at most"
        )
    return name


def make_keys(
    root: Path,
    hosts: Iterable[str],
    nodes: Iterable[str],
    *,
    days: int = SERVER_DAYS,
    renew_server: bool = False,
) -> list[Path]:
    """Make whatever a federation still lacks, and return the files written; what is there stays.

    Parameters
    ----------
    root : Path
        The folder, made where it is missing.
    hosts : Iterable[str]
        DNS names and IP addresses under which nodes and users reach the SuperLink, besides
        localhost and 127.0.0.1.
    nodes : Iterable[str]
        Names of nodes; each gets a key pair.
    days : int
        How long a new server certificate is valid. A new authority is valid for 3650 days, or as
        long as the server if that is longer.
    renew_server : bool
        Whether a new server certificate and key take the place of those there.

    Raises
    ------
    ValueError
        Names, hosts, days or files there are not as they must be. Nothing is written then.
    """
    if days < 1:
        raise ValueError(f"days is {days}; it must be at least 1")
    folder = KeyFolder(root)
    names = host_names(hosts)
    unique_nodes = [check_node_name(node) for node in dict.fromkeys(nodes)]
    readable = {node: _read_node_key(folder, node) for node in unique_nodes}
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)  # certificates know none
    end_of(now, days)
    written: list[Path] = []
    if renew_server or not (folder.server.exists() and folder.server_key.exists()):
        written += _make_server(folder, names, days, now)
    else:
        _check_server(folder, names, now)
    if not folder.superexec_secret.exists():
        write_new(folder.superexec_secret, secrets.token_bytes(SECRET_BYTES), PRIVATE)
        written.append(folder.superexec_secret)
    for node, key in readable.items():
        written += _make_node(folder, node, key)
    return written


def _make_server(
    folder: KeyFolder, names: list[x509.GeneralName], days: int, now: datetime.datetime
) -> list[Path]:
    """Sign a server certificate, with a new authority where there is none."""
    written: list[Path] = []
    if folder.authority.exists():
        authority = _read_certificate(folder.authority)
        authority_key = _read_authority_key(folder, authority)
    else:
        if folder.authority_key.exists():
            raise ValueError(f"{folder.authority_key} has no {folder.authority.name} beside it")
        authority_key = new_key()
        authority = make_authority(authority_key, max(AUTHORITY_DAYS, days), now)
    key = new_key()
    server = make_server(authority, authority_key, key, names, days, now)
    if not folder.authority.exists():
        # The certificate first: a key without one is refused above, not overwritten.
        write_new(folder.authority, authority.public_bytes(Encoding.PEM), PUBLIC)
        write_new(folder.authority_key, private_pem(authority_key), PRIVATE)
        written += [folder.authority, folder.authority_key]
    replace(folder.server_key, private_pem(key), PRIVATE)
    replace(folder.server, server.public_bytes(Encoding.PEM), PUBLIC)
    return [*written, folder.server, folder.server_key]


def _make_node(
    folder: KeyFolder, name: str, present: ec.EllipticCurvePrivateKey | None
) -> list[Path]:
    written: list[Path] = []
    key = present or new_key()
    if present is None:
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        write_new(folder.node_key(name), private, PRIVATE)
        written.append(folder.node_key(name))
    if not folder.node_public_key(name).exists():
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        write_new(folder.node_public_key(name), public + f" {name}\n".encode(), PUBLIC)
        written.append(folder.node_public_key(name))
    return written


def _read_node_key(folder: KeyFolder, name: str) -> ec.EllipticCurvePrivateKey | None:
    path = folder.node_key(name)
    if not path.exists():
        if folder.node_public_key(name).exists():
            raise ValueError(f"{folder.node_public_key(name)} has no private key beside it")
        return None
    return _read_private_key(path, load_ssh_private_key)


def _check_server(folder: KeyFolder, names: list[x509.GeneralName], now: datetime.datetime) -> None:
    """Refuse a server certificate that the SuperLink could not serve these hosts with."""
    certificate = _read_certificate(folder.server)
    faults = [f"is not for {name.value}" for name in names if name not in names_of(certificate)]
    if certificate.not_valid_after_utc <= now:
        faults.append(f"ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if _read_private_key(folder.server_key).public_key() != certificate.public_key():
        faults.append(f"is not the certificate of {folder.server_key.name}")
    if faults:
        raise ValueError(f"{folder.server} {', '.join(faults)}: use --renew-server")


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _read_authority_key(
    folder: KeyFolder, authority: x509.Certificate
) -> ec.EllipticCurvePrivateKey:
    path = folder.authority_key
    if not path.exists():
        raise ValueError(f"a new server certificate needs {path}, which is not there")
    key = _read_private_key(path)
    if key.public_key() != authority.public_key():
        raise ValueError(f"{path} is not the key of {folder.authority}")
    return key


def _read_private_key(
    path: Path, load: Callable[..., PrivateKeyTypes] = load_pem_private_key
) -> ec.EllipticCurvePrivateKey:
    try:
        key = load(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: encrypted
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} is no key on an elliptic curve")
    return key


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist yet; its folder is made where it is missing.

    Its permissions `mode` are in force before the first byte is in it, whatever the umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    binary = getattr(os, "O_BINARY", 0)  # Windows
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | binary, PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if hasattr(os, "fchmod"):  # not on Windows, where folders hand down who may read
                os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()  # half a key must not look like a key when the command is run again
        raise


def replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file in the place of another of that name, which is whole until the new one is."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    write_new(beside, content, mode)
    beside.replace(path)
