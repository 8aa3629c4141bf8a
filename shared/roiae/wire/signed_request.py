"""A request as it crosses the wire: signed by the federation's request key, over everything that it says.

Nothing of a request is believed before the signature: not the site that it names, nor the ledger head, nor the run.
"""

import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pydantic import ValidationError

from roiae.errors import Reason, RefusalError
from roiae.identity.keys import PrivateKey, sign, verify
from roiae.identity.kit import PROTOCOL
from roiae.identity.request_key import RequestCertificate
from roiae.text import problems
from roiae.wire.contract import Arrays
from roiae.wire.envelope import ROIAE, Ask, Record, arrays_bytes, note_bytes, text_bytes

CLOCK_SECONDS = 300  # by which two clocks may differ, as in Flower's node authentication
MAX_SECONDS = 86_400  # that a request may be good for: the longest `federation.deadline`

_DOMAIN = b"roiae request"  # no other message that is signed begins so
_TASK, _CERTIFICATE, _SIGNATURE = "task", "certificate", "signature"


def new_ask(site: str, run: str, request: str, seconds: float, lines: int, head: str) -> Ask:
    """
    Args:
        seconds: for which the request is good; a day at most.
        lines, head: of the site's ledger, as its latest answer had them.
    """
    now = int(time.time())
    return Ask(
        site=site,
        run=run,
        request=request,
        roiae=ROIAE,
        protocol=PROTOCOL,
        issued=now,
        expires=now + min(MAX_SECONDS, max(1, math.ceil(seconds))),
        nonce=secrets.token_hex(32),
        acknowledged_lines=lines,
        acknowledged_head=head,
    )


class SignedAsk(NamedTuple):
    """What goes with a request, and who is said to have signed the request: none of it is believed yet."""

    ask: Ask
    certificate: RequestCertificate
    signature: bytes

    def to_record(self, task_json: str) -> Record:
        """One record with the task in it, so that no record of a request is ever like another's."""
        return {
            **self.ask.model_dump(),
            _TASK: task_json,
            _CERTIFICATE: self.certificate.model_dump_json(),
            _SIGNATURE: self.signature,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> tuple[Self, str]:
        """What `to_record` made, and the task's JSON.

        Raises:
            RefusalError: `bad-request` for a field that is missing, unknown or odd.
        """
        fields = dict(record)
        task, certificate, signature = (fields.pop(name, None) for name in (_TASK, _CERTIFICATE, _SIGNATURE))
        if not (isinstance(task, str) and isinstance(certificate, str) and isinstance(signature, bytes)):
            raise RefusalError(Reason.BAD_REQUEST, "a request came without its task, certificate or signature")
        try:
            known = RequestCertificate.model_validate_json(certificate)
        except ValidationError as error:
            raise RefusalError(Reason.BAD_REQUEST, f"a request key's certificate is odd: {problems(error)}") from None
        return cls(Ask.from_record(fields), known, signature), task

    def holds(self, content: bytes) -> bool:
        """Whether the certified key signed this content with this ask; the certificate itself was checked before."""
        return verify(self.certificate.key, self.signature, request_bytes(self.ask, content))


@dataclass(frozen=True)
class RequestSigner:
    """The federation's request key, and the CA's certificate of it."""

    key: PrivateKey
    certificate: RequestCertificate

    def sign(self, ask: Ask, content: bytes) -> SignedAsk:
        """
        Args:
            content: of `content_bytes`; the same for every site that is asked the same.
        """
        return SignedAsk(ask, self.certificate, sign(self.key, request_bytes(ask, content)))


def content_bytes(kind: str, task_json: str, arrays: Arrays) -> bytes:
    """What a request asks for, for its signature. The arrays are hashed here, once for all sites.

    Raises:
        RefusalError: `arrays-mismatch` for an array that holds no plain numbers.
    """
    return text_bytes(kind) + text_bytes(task_json) + arrays_bytes(arrays)


def request_bytes(ask: Ask, content: bytes) -> bytes:
    """What the coordinator signs: one byte string for each ask with its content, and no two alike."""
    return note_bytes(_DOMAIN, ask) + content
