"""A federation's keys for tests, and requests that they sign."""

import secrets
import time
import uuid
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from roiae.identity.keys import PrivateKey, SiteKeys
from roiae.identity.kit import PROTOCOL
from roiae.identity.request_key import RequestCertificate
from roiae.wire.contract import Arrays
from roiae.wire.envelope import NO_LINES, ROIAE, Ask
from roiae.wire.signed_request import RequestSigner, SignedAsk, content_bytes
from roiae_client.answering.gate import Trusted

FEDERATION = "nt-europe"


def new_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def new_keys() -> SiteKeys:
    """Of a site, the public halves."""
    return SiteKeys(new_key().public_key(), new_key().public_key())


def new_signer(number: int = 1, ca: PrivateKey | None = None, federation: str = FEDERATION) -> RequestSigner:
    key = new_key()
    return RequestSigner(key, RequestCertificate.issue(ca or CA, federation, number, key.public_key()))


CA = new_key()
SIGNER = new_signer()
TRUSTED = Trusted(FEDERATION, CA.public_key(), SIGNER.certificate)


def new_ask(**changes: Any) -> Ask:
    """To alpha, good for a minute."""
    now = int(time.time())
    fields = {
        "site": "alpha", "run": "run", "request": uuid.uuid4().hex, "roiae": ROIAE, "protocol": PROTOCOL, "issued": now,
        "expires": now + 60, "nonce": secrets.token_hex(32), "acknowledged_lines": 0, "acknowledged_head": NO_LINES,
    }  # fmt: skip
    return Ask.model_validate(fields | changes)


def signed(kind: str, task_json: str, arrays: Arrays, signer: RequestSigner = SIGNER, **changes: Any) -> SignedAsk:
    """A request as the coordinator would sign it, but for these fields of its ask."""
    return signer.sign(new_ask(**changes), content_bytes(kind, task_json, arrays))
