"""A request key is believed for what its federation's CA certified, and nothing else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from roiae.identity.keys import public_line, sign
from roiae.identity.request_key import RequestCertificate
from tests.signing import CA, FEDERATION, SIGNER, new_key

CERTIFICATE = SIGNER.certificate


def test_a_certificate_holds_for_its_ca_federation_number_and_key_alone() -> None:
    ca = CA.public_key()
    other = public_line(new_key().public_key(), "")

    assert CERTIFICATE.issued_by(ca, FEDERATION)
    assert CERTIFICATE.key == SIGNER.key.public_key()
    assert not CERTIFICATE.issued_by(new_key().public_key(), FEDERATION)
    assert not CERTIFICATE.issued_by(ca, "nt-asia")
    assert not CERTIFICATE.model_copy(update={"number": 2}).issued_by(ca, FEDERATION)
    assert not CERTIFICATE.model_copy(update={"public_key": other}).issued_by(ca, FEDERATION)


@given(st.binary(max_size=120) | st.text(max_size=20).map(str.encode))
def test_no_other_signature_holds(signature: bytes) -> None:
    for text in (base64.b64encode(signature).decode(), signature.decode("latin1")):
        assert not CERTIFICATE.model_copy(update={"signature": text}).issued_by(CA.public_key(), FEDERATION)


def test_a_signature_of_the_ca_for_something_else_is_no_certificates() -> None:
    said = f"{FEDERATION}\n1\n{CERTIFICATE.public_key}\n".encode()

    for prefix in (b"", b"roiae kit\n"):
        text = base64.b64encode(sign(CA, prefix + said)).decode()
        assert not CERTIFICATE.model_copy(update={"signature": text}).issued_by(CA.public_key(), FEDERATION)


@pytest.mark.parametrize("change", [{"number": 0}, {"number": True}, {"number": 2**63}, {"public_key": "x" * 401}])
def test_an_odd_certificate_is_none(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RequestCertificate.model_validate(CERTIFICATE.model_dump() | change)
