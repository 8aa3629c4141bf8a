"""The federation's request key in a coordinator's pki/: made, exchanged, and loaded by the run's working process alone.

Its certificate lies beside it, and is no secret: kits and requests carry it.
"""

from pathlib import Path

from pydantic import ValidationError

from roiae.errors import SetupError
from roiae.files import write_atomically
from roiae.identity.keys import create_key, load_private
from roiae.identity.request_key import RequestCertificate
from roiae.wire.signed_request import RequestSigner
from roiae_server.enrolment.authority import Authority

REQUEST_KEY, REQUEST_CERTIFICATE = "federation.key", "federation.json"
RENEW = "roiae-server renew DIR --request-key"


def renew_request_key(pki: Path, federation: str) -> int:
    """Make a request key, the first or the next, and have the CA certify it.

    Between the two files' changes they do not belong together, and `load_signer` says so: then it is renewed again.

    Returns:
        Its number.

    Raises:
        SetupError: the CA or the present certificate cannot be used.
    """
    authority, path = Authority.load(pki), pki / REQUEST_CERTIFICATE
    number = read_certificate(pki).number + 1 if path.exists() else 1
    coming = pki / f"{REQUEST_KEY}.new"
    coming.unlink(missing_ok=True)  # of a renewal that was killed: never in use
    key = create_key(coming)
    certificate = RequestCertificate.issue(authority.key, federation, number, key.public_key())
    coming.replace(pki / REQUEST_KEY)
    write_atomically(path, certificate.model_dump_json(indent=2).encode() + b"\n")
    return number


def read_certificate(pki: Path) -> RequestCertificate:
    """
    Raises:
        SetupError: the certificate is missing or damaged.
    """
    path = pki / REQUEST_CERTIFICATE
    try:
        return RequestCertificate.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SetupError(f"{path}: cannot be read ({error.strerror}). Restore it from a backup.") from error
    except ValidationError:
        raise SetupError(f"{path}: is no request key's certificate. Restore it from a backup.") from None


def load_signer(pki: Path, federation: str) -> RequestSigner:
    """The request key with its certificate, for the process that signs, and for `doctor`.

    Raises:
        SetupError: a file is missing, damaged or readable by others, or key, certificate and CA do not belong together.
    """
    key, certificate = load_private(pki / REQUEST_KEY), read_certificate(pki)
    if not certificate.issued_by(Authority.load_key(pki), federation) or certificate.key != key.public_key():
        raise SetupError(
            f"{pki}: {REQUEST_CERTIFICATE} is not this CA's certificate of {REQUEST_KEY} for {federation}. Restore "
            f"both from one backup, or type `{RENEW}`; no hospital needs a new kit for it."
        )
    return RequestSigner(key, certificate)
