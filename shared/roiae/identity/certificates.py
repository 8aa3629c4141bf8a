"""What both sides ask of a certificate: its fingerprint as it is read over the telephone, and how long it lasts."""

import re
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from roiae.errors import SetupError
from roiae.identity.keys import PublicKey

_DIGITS = 64  # of a SHA-256


def load_certificate(pem: bytes, where: object) -> x509.Certificate:
    """The one certificate of a PEM text.

    Args:
        where: what a message calls the text, for example its file.

    Raises:
        SetupError: it is not one certificate.
    """
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise SetupError(f"{where}: is not a certificate in PEM format. Restore it from a backup or a kit.") from None
    return certificate


def certificate_key(certificate: x509.Certificate, where: object) -> PublicKey:
    """
    Raises:
        SetupError: the certificate's key is not an elliptic curve's, so this project did not make it.
    """
    key = certificate.public_key()
    if not isinstance(key, PublicKey):
        raise SetupError(f"{where}: is not a certificate that `roiae-server init` made (its key is not EC P-384).")
    return key


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """Hosts and addresses that it is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def ca_fingerprint(pem: bytes) -> str:
    """SHA-256 of the certificate's DER in groups of four upper-case hex digits: `9F02:41AB:…`."""
    digest = load_certificate(pem, "the CA's certificate").fingerprint(hashes.SHA256()).hex().upper()
    return ":".join(digest[start : start + 4] for start in range(0, _DIGITS, 4))


def same_fingerprint(one: str, other: str) -> bool:
    """Whether two fingerprints are the same whatever their case, colons, hyphens and spaces; a part is never enough."""
    first, second = (re.sub(r"[\s:-]", "", text).upper() for text in (one, other))
    return first == second and re.fullmatch(rf"[0-9A-F]{{{_DIGITS}}}", first) is not None


def days_left(pem: bytes, now: datetime | None = None) -> int:
    """Whole days until the certificate expires; negative afterwards."""
    end = load_certificate(pem, "the certificate").not_valid_after_utc
    return (end - (now or datetime.now(UTC))).days
