"""A private certificate authority, and the server certificate it signs.

The profile is that of RFC 5280: what Python's and gRPC's TLS check, strict mode included.
"""

import datetime
import ipaddress
import re
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
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


def host_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """Return the names a server certificate must hold, localhost and 127.0.0.1 first.

    Hosts are DNS names (also ``*.domain``) and IP addresses, without scheme and port; a
    `ValueError` names one that is neither.
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
    """Return when a certificate of so many days from `now` ends, by 9999 as X.509 does."""
    latest = (datetime.datetime.max.replace(tzinfo=now.tzinfo) - now).days
    if days > latest:
        raise ValueError(f"days is {days}; it must be {latest} at most, for years end with 9999")
    return now + datetime.timedelta(days=days)


def make_authority(
    key: ec.EllipticCurvePrivateKey, days: int, now: datetime.datetime
) -> x509.Certificate:
    """Make the self-signed certificate of an authority that may sign servers, and nothing below.

    `now` has a time zone; a `ValueError` as for `end_of`.
    """
    name = _name("feddag-flwr private CA")
    return _signed(name, key, name, key, days, now, names=None)


def make_server(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    days: int,
    now: datetime.datetime,
) -> x509.Certificate:
    """Make a server certificate with the names of `host_names`, signed by the authority.

    `ValueError` where it would outlive the authority, for no node would take it after that, or as
    for `end_of`.
    """
    end = end_of(now, days)
    if end > authority.not_valid_after_utc:
        raise ValueError(
            f"a certificate of {days} days would outlive the authority, "
            f"which ends {authority.not_valid_after_utc:%Y-%m-%d}: take fewer"
        )
    subject = _name("feddag-flwr SuperLink")
    return _signed(subject, key, authority.subject, authority_key, days, now, names=names)


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Return the names a server certificate holds; none where it has no such extension."""
    values = [extension.value for extension in certificate.extensions]
    return [n for value in values if isinstance(value, x509.SubjectAlternativeName) for n in value]


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: int,
    now: datetime.datetime,
    *,
    names: list[x509.GeneralName] | None,
) -> x509.Certificate:
    """Sign the certificate of a server with these names, or of an authority, which has none."""
    public_key, authority = key.public_key(), names is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end_of(now, days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.BasicConstraints(authority, 0 if authority else None), critical=True)
        .add_extension(_usage(sign_certificates=authority), critical=True)
    )
    if names is not None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(usage, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return builder.add_extension(signer, critical=False).sign(issuer_key, hashes.SHA384())


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
