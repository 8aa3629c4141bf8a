"""The key that signs a federation's requests, and the CA's word that it does.

A kit pins the CA. The CA signs the request key with a number that counts up, every request carries that certificate,
and a hospital takes no number below the highest it has seen: so the key can be exchanged without a new kit for anybody,
and a stolen one is of no use once its successor has been seen.

An X.509 certificate would say the same with an expiry and extensions that nobody asks for, and no number that counts.
"""

import base64
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from roiae.identity.keys import PrivateKey, PublicKey, parse_public, public_line, sign, verify

_SIGNED_FOR = b"roiae request key\n"  # before the signed bytes, so that no other signature of the CA can pass for one

Number = Annotated[int, Field(ge=1, lt=2**63)]


class RequestCertificate(BaseModel):
    """The CA's certificate of a request key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    number: Number
    public_key: str = Field(max_length=400, description="an OpenSSH line")
    signature: str = Field(max_length=200, description="the CA's, base64")

    @classmethod
    def issue(cls, ca_key: PrivateKey, federation: str, number: int, key: PublicKey) -> Self:
        line = public_line(key, "")
        signature = sign(ca_key, _signed_bytes(federation, number, line))
        return cls(number=number, public_key=line, signature=base64.b64encode(signature).decode())

    def issued_by(self, ca: PublicKey, federation: str) -> bool:
        """Whether this CA certified the key for this federation."""
        try:
            signature = base64.b64decode(self.signature, validate=True)
            signed = _signed_bytes(federation, self.number, self.public_key)
        except ValueError:  # no base64, or text that has no bytes
            return False
        return verify(ca, signature, signed)

    @property
    def key(self) -> PublicKey:
        """
        Raises:
            SetupError: there is no EC P-384 key; no CA of ours signs such a certificate.
        """
        return parse_public(self.public_key, "the request key's certificate")


def _signed_bytes(federation: str, number: int, line: str) -> bytes:
    """Neither a federation's name nor an OpenSSH line has a line end: no two certificates give the same bytes."""
    return _SIGNED_FOR + f"{federation}\n{number}\n{line}\n".encode()
