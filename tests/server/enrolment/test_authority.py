import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from roiae.errors import SetupError
from roiae.identity.certificates import ca_fingerprint, days_left, load_certificate, same_fingerprint
from roiae_server.enrolment.authority import CA_LIFETIME, Authority, create_pki, renew_server

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
HOST = "fl.example.org"


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    create_pki(tmp_path, "nt-europe", HOST)
    return tmp_path


def openssl(*arguments: str | Path) -> str:
    ended = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr


def handshake(pki: Path, server_hostname: str) -> None:
    """A TLS handshake with the coordinator's certificate, the CA alone trusted."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pki / "server.crt", pki / "server.key")
    client = ssl.create_default_context(cafile=pki / "ca.crt")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def answer() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):  # the client has refused: it is the one that the test asks
            theirs.close()

    answering = threading.Thread(target=answer)
    answering.start()
    try:
        client.wrap_socket(ours, server_hostname=server_hostname).close()
    finally:
        ours.close()
        answering.join(timeout=10)


@pytest.mark.parametrize("name", [HOST, "localhost", "127.0.0.1"])
def test_tls_accepts_the_coordinator_under_each_of_its_names(pki: Path, name: str) -> None:
    handshake(pki, name)


def test_tls_refuses_another_name(pki: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(pki, "fl.example.com")


def test_an_address_may_stand_for_a_name(tmp_path: Path) -> None:
    create_pki(tmp_path, "nt-europe", "192.0.2.7")

    names = load_certificate((tmp_path / "server.crt").read_bytes(), "").extensions
    alternatives = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ipaddress.ip_address("192.0.2.7") in alternatives.get_values_for_type(x509.IPAddress)
    handshake(tmp_path, "192.0.2.7")


@needs_openssl
def test_openssl_accepts_the_chain_by_its_strict_rules(pki: Path) -> None:
    verified = openssl(
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        HOST,
        "-CAfile",
        pki / "ca.crt",
        pki / "server.crt",
    )

    assert verified.strip() == f"{pki / 'server.crt'}: OK"


@needs_openssl
def test_the_fingerprint_is_openssls_in_groups(pki: Path) -> None:
    printed = openssl("x509", "-in", pki / "ca.crt", "-noout", "-fingerprint", "-sha256").split("=")[1].strip()
    ours = ca_fingerprint((pki / "ca.crt").read_bytes())

    assert ours.replace(":", "") == printed.replace(":", "")
    assert [len(group) for group in ours.split(":")] == [4] * 16
    assert same_fingerprint(ours, printed)


def test_a_fingerprint_is_compared_whatever_its_spelling(pki: Path) -> None:
    ours = ca_fingerprint((pki / "ca.crt").read_bytes())

    assert same_fingerprint(ours, f" {ours.lower().replace(':', ' ')} ")
    assert same_fingerprint(ours, ours.replace(":", "-"))
    assert not same_fingerprint(ours, ours[:-1] + ("0" if ours[-1] != "0" else "1"))
    assert not same_fingerprint(ours[:9], ours[:9])
    assert not same_fingerprint("", "")


def test_private_keys_are_their_owners_alone(pki: Path) -> None:
    assert {(pki / name).stat().st_mode & 0o777 for name in ("ca.key", "server.key")} == {0o600}


def test_the_lifetimes_are_ten_years_and_397_days(pki: Path) -> None:
    assert days_left((pki / "ca.crt").read_bytes()) in (3651, 3652)
    assert days_left((pki / "server.crt").read_bytes()) in (396, 397)


def test_days_left_are_negative_after_the_end() -> None:
    begun = datetime.now(UTC) - CA_LIFETIME - timedelta(days=2)

    assert days_left(Authority.create("nt-europe", now=begun).pem) < 0


def test_a_renewed_certificate_comes_from_the_same_ca_for_the_same_key(pki: Path) -> None:
    before = {path.name: path.read_bytes() for path in pki.iterdir()}

    renew_server(pki, "new.example.org")

    after = {path.name: path.read_bytes() for path in pki.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"server.crt"}
    handshake(pki, "new.example.org")


def test_the_server_never_outlives_its_ca() -> None:
    authority = Authority.create("nt-europe", now=datetime.now(UTC) - CA_LIFETIME + timedelta(days=30))
    issued = load_certificate(authority.issue_server(HOST, authority.key.public_key()), "")

    assert issued.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_an_expired_ca_issues_nothing() -> None:
    authority = Authority.create("nt-europe", now=datetime.now(UTC) - CA_LIFETIME - timedelta(days=1))

    with pytest.raises(SetupError, match="CA expired on"):
        authority.issue_server(HOST, authority.key.public_key())


def test_a_ca_key_of_another_ca_is_refused(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    create_pki(other, "other", HOST)
    (pki / "ca.key").write_bytes((other / "ca.key").read_bytes())

    with pytest.raises(SetupError, match=r"ca\.key is not the key of ca\.crt"):
        Authority.load(pki)


@pytest.mark.parametrize("file", ["ca.key", "ca.crt"])
def test_a_damaged_ca_is_refused(pki: Path, file: str) -> None:
    (pki / file).write_text("nonsense")

    with pytest.raises(SetupError, match="Restore it from a backup"):
        Authority.load(pki)


def test_a_ca_key_that_others_can_open_is_refused(pki: Path) -> None:
    (pki / "ca.key").chmod(0o640)

    with pytest.raises(SetupError, match="chmod 600"):
        renew_server(pki, HOST)
