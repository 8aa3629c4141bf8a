"""The federation's own certificate authority, and the one certificate that it issues: the coordinator's.

Hospitals hold the CA's certificate and prove themselves by their own keys. So the server's certificate can be renewed,
and hospitals come and go, without any other hospital noticing.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

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

from roiae.errors import SetupError
from roiae.files import create_private, write_atomically
from roiae.identity.certificates import certificate_key, load_certificate
from roiae.identity.keys import PrivateKey, PublicKey, require_private_mode

CA_KEY, CA_CERTIFICATE, SERVER_KEY, SERVER_CERTIFICATE = "ca.key", "ca.crt", "server.key", "server.crt"
CA_LIFETIME = timedelta(days=3652)
SERVER_LIFETIME = timedelta(days=397)  # what browsers and many TLS libraries accept at most
BACKDATED = timedelta(hours=1)  # hospitals' clocks differ


@dataclass(frozen=True)
class Authority:
    """A CA's key and its certificate."""

    key: PrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, federation: str, now: datetime | None = None) -> "Authority":
        """A new CA for a federation, for ten years."""
        start = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP384R1())
        name = _name(f"{federation} coordinator")
        builder = _builder(name, name, key.public_key(), start, start + CA_LIFETIME)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA384())
        )
        return cls(key, certificate)

    @classmethod
    def load(cls, pki: Path) -> "Authority":
        """The CA in a coordinator's folder.

        Raises:
            SetupError: a file is missing, damaged or readable by others, or key and certificate do not belong together.
        """
        key = _load_key(pki / CA_KEY)
        certificate = load_certificate(_read(pki / CA_CERTIFICATE), pki / CA_CERTIFICATE)
        if certificate_key(certificate, pki / CA_CERTIFICATE) != key.public_key():
            raise SetupError(f"{pki}: {CA_KEY} is not the key of {CA_CERTIFICATE}. Restore both from one backup.")
        return cls(key, certificate)

    @staticmethod
    def load_key(pki: Path) -> PublicKey:
        """The CA's public key, from its certificate alone.

        Raises:
            SetupError: the certificate is missing or damaged.
        """
        path = pki / CA_CERTIFICATE
        return certificate_key(load_certificate(_read(path), path), path)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue_server(self, host: str, key: PublicKey, now: datetime | None = None) -> bytes:
        """The coordinator's certificate as PEM, for 397 days but never beyond the CA's own.

        Args:
            host: DNS name or IP address that hospitals connect to; `localhost` and 127.0.0.1 are added, because the
                gateway and the SuperLink behind it share the certificate.

        Raises:
            SetupError: the CA has expired.
        """
        start = now or datetime.now(UTC)
        last = self.certificate.not_valid_after_utc
        if start >= last:
            raise SetupError(
                f"The federation's CA expired on {last:%Y-%m-%d}, or this machine's clock is wrong. "
                "An expired CA cannot be renewed: begin a new federation with `roiae-server init`."
            )
        names = {_general_name(name): None for name in (host, "localhost", "127.0.0.1")}
        builder = _builder(
            _name("roiae coordinator"), self.certificate.subject, key, start, min(start + SERVER_LIFETIME, last)
        )
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(authority, critical=False)
            .sign(self.key, hashes.SHA384())
        )
        return certificate.public_bytes(Encoding.PEM)


def create_pki(pki: Path, federation: str, host: str) -> None:
    """A new CA and the coordinator's key and certificate, in an empty folder that only its owner can open."""
    authority = Authority.create(federation)
    server_key = ec.generate_private_key(ec.SECP384R1())
    create_private(pki / CA_KEY, _pem(authority.key))
    create_private(pki / SERVER_KEY, _pem(server_key))
    write_atomically(pki / CA_CERTIFICATE, authority.pem)
    write_atomically(pki / SERVER_CERTIFICATE, authority.issue_server(host, server_key.public_key()))


def renew_server(pki: Path, host: str) -> None:
    """Replace the coordinator's certificate by a new one from the same CA, for the same key: one file changes.

    Raises:
        SetupError: the CA or the coordinator's key cannot be used, or the CA has expired.
    """
    server_key = _load_key(pki / SERVER_KEY)
    certificate = Authority.load(pki).issue_server(host, server_key.public_key())
    write_atomically(pki / SERVER_CERTIFICATE, certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "roiae"), x509.NameAttribute(NameOID.COMMON_NAME, common[:64])]
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Both sign: the CA certificates and kits, the server its part of the TLS handshake."""
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key(path: Path) -> PrivateKey:
    content = _read(path)
    require_private_mode(path)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        raise SetupError(f"{path}: is not a private key in PEM format. Restore it from a backup.") from None
    if not isinstance(key, PrivateKey):
        raise SetupError(f"{path}: is not the EC P-384 key that `roiae-server init` made. Restore it from a backup.")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: cannot be read ({error.strerror}). Restore it from a backup.") from error
