"""What goes with every request and every reply, so that each is known to be whose it is, and to what it belongs.

The fields of `Greeting` are the same in every protocol: that is how versions that cannot work together still say so to
each other. `signed_request.py` has how a request is signed.
"""

import hashlib
import struct
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from roiae.errors import Reason, RefusalError
from roiae.identity.keys import sign, verify
from roiae.text import problems

if TYPE_CHECKING:
    from roiae.wire.contract import Reply

ROIAE = version("roiae")
IDENTIFY = "query.identify"  # the handshake: who are you, and which version; the reply has the site's limits as numbers
NO_LINES = "0" * 64  # head of a ledger that has no line yet

Record = dict[str, str | int | bytes]  # flat, as Flower's ConfigRecord takes it

_DOMAIN = b"roiae reply"  # no other message that is signed begins so
_SIGNATURE = "signature"
_NUMBERS = "biuf"  # kinds of dtype that a reply's arrays have


def _known_reason(reason: str) -> str:
    if reason not in ("", *Reason):
        raise ValueError("no reason of the contract")
    return reason


ID_PATTERN = r"^[0-9A-Za-z_.:-]{1,64}$"
Id = Annotated[str, Field(pattern=ID_PATTERN)]
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z.+!_-]{1,64}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Note(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    run: Id
    request: Id = Field(description="never used twice: uuid4, hexadecimal")
    roiae: Version = Field(description="the package's version of whoever wrote this")
    protocol: Count


_Kind = TypeVar("_Kind", bound=_Note)


class Greeting(_Note):
    """What a request and a reply say in every protocol, whatever else they carry."""

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def from_record(cls, record: Mapping[str, Any], reason: Reason = Reason.BAD_REQUEST) -> Self:
        """
        Raises:
            RefusalError: with this reason, for a field that is missing or odd.
        """
        return _validated(cls, record, reason)


class Ask(_Note):
    """Goes with a request: to whom, which one it is, for how long, and how much of the site's ledger has been seen."""

    site: Id
    issued: Count = Field(description="whole seconds since 1970, by the coordinator's clock")
    expires: Count = Field(description="likewise")
    nonce: Digest = Field(description="random: makes every part of the request unlike anything that was sent before")
    acknowledged_lines: Count = Field(description="of the ledger head that came with this site's latest answer")
    acknowledged_head: Digest = Field(description="`NO_LINES` before the first answer")

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """
        Raises:
            RefusalError: `bad-request` for a field that is missing, unknown or odd.
        """
        return _validated(cls, record, Reason.BAD_REQUEST)


class Envelope(_Note):
    """Goes with a reply, and with a refusal: who answers what, and where its ledger stands with this line in it."""

    site: Id
    kind: str = Field(description="as it was asked")
    reason: Annotated[str, AfterValidator(_known_reason)] = Field(description="a `Reason`; empty with an answer")
    ledger_lines: Count
    ledger_head: Digest

    def to_record(self, signature: bytes) -> Record:
        return {**self.model_dump(), _SIGNATURE: signature}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> tuple[Self, bytes]:
        """The envelope and its signature, neither of them checked yet.

        Raises:
            RefusalError: `bad-signature` for a field that is missing, unknown or odd.
        """
        fields = dict(record)
        signature = fields.pop(_SIGNATURE, None)
        envelope = _validated(cls, fields, Reason.BAD_SIGNATURE)
        if not isinstance(signature, bytes):
            raise RefusalError(Reason.BAD_SIGNATURE, "a reply came without a signature")
        return envelope, signature


def signed_bytes(envelope: Envelope, reply: "Reply | None") -> bytes:
    """What a site signs: one byte string for each envelope with its reply, and no two alike.

    Every part has its length or its count before it, big-endian in 8 bytes. Metrics and arrays are sorted by name. A
    metric is its name and its IEEE-754 double; an array its name, dtype, shape and the SHA-256 of its bytes in C order.

    Raises:
        RefusalError: `arrays-mismatch` for an array that holds no plain numbers, `bad-metrics` for a metric that is no
            double.
    """
    parts = [note_bytes(_DOMAIN, envelope), _count(0 if reply is None else 1)]
    if reply is not None:
        parts += [_double(reply.seconds), _count(len(reply.metrics))]
        for name, number in sorted(reply.metrics.items()):
            parts += [_part(name.encode()), _double(number)]
        parts.append(arrays_bytes(reply.arrays))
    return b"".join(parts)


def seal(private: ec.EllipticCurvePrivateKey, envelope: Envelope, reply: "Reply | None") -> bytes:
    """The site's signature of an envelope and its reply."""
    return sign(private, signed_bytes(envelope, reply))


def check(
    public: ec.EllipticCurvePublicKey,
    asked: Ask,
    kind: str,
    site: str,
    envelope: Envelope,
    signature: bytes,
    reply: "Reply | None",
) -> None:
    """Believe a reply, or a refusal, only if this site signed it in answer to this request.

    Args:
        public: the site's enrolled key.
        asked: what went with the request that is thought to be answered, of this kind, to this site.

    Raises:
        RefusalError: `wrong-version` where the site speaks another protocol, else `bad-signature`.
    """
    check_protocol(envelope, asked, site)
    expected = {"site": site, "run": asked.run, "request": asked.request, "kind": kind}
    others = [name for name, value in expected.items() if getattr(envelope, name) != value]
    if others:
        raise RefusalError(Reason.BAD_SIGNATURE, f"{site}: the reply is for another {' and '.join(others)}")
    if (reply is None) == (envelope.reason == ""):
        raise RefusalError(Reason.BAD_SIGNATURE, f"{site}: expected an answer or a reason for none, and not both")
    if not verify(public, signature, signed_bytes(envelope, reply)):
        raise RefusalError(Reason.BAD_SIGNATURE, f"{site}: its enrolled key has not signed this reply")


def check_protocol(said: _Note, asked: Ask, site: str) -> None:
    """Looked at before the signature, and before fields of another protocol are taken for odd ones of ours.

    Raises:
        RefusalError: `wrong-version` where the site speaks another protocol.
    """
    if said.protocol != asked.protocol:
        raise RefusalError(
            Reason.WRONG_VERSION,
            f"{site} runs roiae {said.roiae} with protocol {said.protocol}, this machine roiae {asked.roiae} "
            f"with protocol {asked.protocol}. Install the same version on both.",
        )


def note_bytes(domain: bytes, note: BaseModel) -> bytes:
    """A domain and every field of a note with its type, for a signature: no two of them are alike."""
    parts = [_part(domain)]
    for name, value in note.model_dump().items():
        parts += [_part(name.encode()), _part(f"{type(value).__name__} {value}".encode())]
    return b"".join(parts)


def text_bytes(text: str) -> bytes:
    """A text with its length, for a signature."""
    return _part(text.encode())


def arrays_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays by name, dtype, shape and SHA-256, for a signature.

    Raises:
        RefusalError: `arrays-mismatch` for an array that holds no plain numbers.
    """
    parts = [_count(len(arrays))]
    for name, array in sorted(arrays.items()):
        parts += [_part(name.encode()), *_array(array)]
    return b"".join(parts)


def _array(array: NDArray[Any]) -> list[bytes]:
    if array.dtype.kind not in _NUMBERS:
        raise RefusalError(Reason.ARRAYS_MISMATCH, f"an array of {array.dtype} does not hold plain numbers")
    shape = [_count(side) for side in array.shape]
    content = hashlib.sha256(np.ascontiguousarray(array).data).digest()
    return [_part(array.dtype.str.encode()), _count(len(shape)), *shape, content]


def _double(number: object) -> bytes:
    if not isinstance(number, float):
        raise RefusalError(Reason.BAD_METRICS, f"a metric of {type(number).__name__} is no double")
    return struct.pack(">d", number)


def _part(content: bytes) -> bytes:
    return _count(len(content)) + content


def _count(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _validated(kind: type[_Kind], record: Mapping[str, Any], reason: Reason) -> _Kind:
    try:
        return kind.model_validate(dict(record))
    except ValidationError as error:
        raise RefusalError(reason, f"{kind.__name__}: fields are odd: {problems(error)}") from None
