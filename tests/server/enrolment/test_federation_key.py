"""The federation's request key in a coordinator's folder, and what a renewal that is killed leaves."""

from pathlib import Path

import pytest

from roiae.errors import SetupError
from roiae.wire.signed_request import RequestSigner
from roiae_server.enrolment import federation_key
from roiae_server.enrolment.authority import create_pki
from roiae_server.enrolment.federation_key import load_signer, read_certificate, renew_request_key

NAME = "nt-europe"


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    create_pki(tmp_path, NAME, "fl.example.org")
    assert renew_request_key(tmp_path, NAME) == 1
    return tmp_path


def test_the_first_key_has_number_1_and_each_renewal_the_next(pki: Path) -> None:
    first = load_signer(pki, NAME)

    assert [renew_request_key(pki, NAME) for _ in range(3)] == [2, 3, 4]
    last = load_signer(pki, NAME)
    assert isinstance(last, RequestSigner)
    assert (first.certificate.number, last.certificate.number) == (1, 4)
    assert last.key.public_key() != first.key.public_key()
    assert (pki / "federation.key").stat().st_mode & 0o777 == 0o600
    assert not list(pki.glob("*.new"))


@pytest.mark.parametrize("step", ["create_key", "replace", "write_atomically"])
def test_a_renewal_that_is_killed_is_told_or_changed_nothing_and_can_be_repeated(
    pki: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def killed(*of: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path if step == "replace" else federation_key, step, killed)
        renew_request_key(pki, NAME)

    if step == "write_atomically":
        with pytest.raises(SetupError, match="`roiae-server renew DIR --request-key`; no hospital needs a new kit"):
            load_signer(pki, NAME)
    else:
        assert load_signer(pki, NAME).certificate.number == 1
    assert renew_request_key(pki, NAME) == 2
    assert load_signer(pki, NAME).certificate.number == 2


def test_a_certificate_of_another_federation_or_ca_is_told(pki: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    create_pki(tmp_path / "other", NAME, "fl.example.org")
    with pytest.raises(SetupError, match="is not this CA's certificate"):
        load_signer(pki, "nt-asia")

    (pki / "ca.crt").write_bytes((tmp_path / "other" / "ca.crt").read_bytes())
    with pytest.raises(SetupError, match="is not this CA's certificate"):
        load_signer(pki, NAME)


@pytest.mark.parametrize("content", [b"", b"{}", b"[", b'{"number": 1}'])
def test_a_damaged_certificate_is_one_message(pki: Path, content: bytes) -> None:
    (pki / "federation.json").write_bytes(content)

    with pytest.raises(SetupError, match="is no request key's certificate"):
        read_certificate(pki)
