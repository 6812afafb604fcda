"""A private certificate authority, and the server certificate it signs.

The profile is that of RFC 5280: what Python's and gRPC's TLS check, strict mode included.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Of every certificate: this command may be run on a machine whose clock goes ahead of others.
CLOCK_SKEW = datetime.timedelta(hours=1)
ALWAYS = ("localhost", "127.0.0.1")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
LONGEST_HOST_NAME = 253


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new private key on the curve P-384, which Flower's node authentication takes."""
    return ec.generate_private_key(ec.SECP384R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as unencrypted PKCS #8 in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_private_pem(content: bytes) -> ec.EllipticCurvePrivateKey:
    """Read what `private_pem` wrote.

    Raises
    ------
    ValueError
        If it is no unencrypted private key on an elliptic curve.
    """
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError as error:  # an encrypted one
        raise ValueError(str(error)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("no private key on an elliptic curve")
    return key


def host_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """Return the names a server certificate must hold.

    Parameters
    ----------
    hosts : Iterable[str]
        DNS names (also ``*.domain``) and IP addresses, without scheme and port.

    Returns
    -------
    list[x509.GeneralName]
        Each once, with localhost and 127.0.0.1 first.

    Raises
    ------
    ValueError
        If one is neither; it is named.
    """
    return list(dict.fromkeys(_general_name(host) for host in (*ALWAYS, *hosts)))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        ascii_name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    digits_only = re.fullmatch(r"[\d.]+", ascii_name)  # a mistyped address is no name
    if digits_only or len(ascii_name) > LONGEST_HOST_NAME or not _HOST_NAME.fullmatch(ascii_name):
        raise ValueError(f"host {host!r} is neither a DNS name nor an IP address (no port, no //)")
    return x509.DNSName(ascii_name.lower())


def end_of(now: datetime.datetime, days: int) -> datetime.datetime:
    """Return when a certificate of so many days from `now` ends.

    Raises
    ------
    ValueError
        If that is no date: after the year 9999, where X.509 ends too.
    """
    latest = (datetime.datetime.max.replace(tzinfo=now.tzinfo) - now).days
    if days > latest:
        raise ValueError(f"days is {days}; it must be {latest} at most, for years end with 9999")
    return now + datetime.timedelta(days=days)


def make_authority(
    key: ec.EllipticCurvePrivateKey, days: int, now: datetime.datetime
) -> x509.Certificate:
    """Make the self-signed certificate of an authority that may sign servers, and nothing below.

    Parameters
    ----------
    key : ec.EllipticCurvePrivateKey
        The authority's own.
    days : int
        How long it is valid.
    now : datetime.datetime
        The present time, with a time zone.

    Returns
    -------
    x509.Certificate
        The certificate every node trusts.

    Raises
    ------
    ValueError
        As for `end_of`.
    """
    name = _name("feddag-flwr private CA")
    return (
        _builder(name, name, key.public_key(), days, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(_authority_identifier(key), critical=False)
        .sign(key, hashes.SHA384())
    )


def make_server(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    days: int,
    now: datetime.datetime,
) -> x509.Certificate:
    """Make a server certificate, signed by the authority.

    Parameters
    ----------
    authority, authority_key : x509.Certificate, ec.EllipticCurvePrivateKey
        Who signs.
    key : ec.EllipticCurvePrivateKey
        The server's own.
    names : list[x509.GeneralName]
        From `host_names`.
    days : int
        How long it is valid.
    now : datetime.datetime
        The present time, with a time zone.

    Returns
    -------
    x509.Certificate
        The certificate.

    Raises
    ------
    ValueError
        If it would outlive the authority: no node would take it after that. Also as for `end_of`.
    """
    end = end_of(now, days)
    if end > authority.not_valid_after_utc:
        raise ValueError(
            f"a certificate of {days} days would outlive the authority, "
            f"which ends {authority.not_valid_after_utc:%Y-%m-%d}: take fewer"
        )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        _builder(_name("feddag-flwr SuperLink"), authority.subject, key.public_key(), days, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(_authority_identifier(authority_key), critical=False)
        .sign(authority_key, hashes.SHA384())
    )


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Return the names a server certificate holds; an empty list where it has no such extension."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(extension.value)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    days: int,
    now: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end_of(now, days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority_identifier(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
