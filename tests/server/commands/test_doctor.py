import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from roiae.console.doctor import Finding, Level
from roiae.identity.keys import PrivateKey, create_key
from roiae.identity.request_key import RequestCertificate
from roiae.process.service import free_port
from roiae_client.folder.site_config import Limits
from roiae_server.cli import main
from roiae_server.commands.doctor import check_certificate, check_host, check_port, check_sites, examine
from roiae_server.gateway.tls_server import bind
from tests.scripted_server import serving

NOW = datetime.now(UTC)
SITES = {"alpha": {"role": "source"}, "beta": {"role": "source"}, "gamma": {"role": "held-out"}}


def write_pki(pki: Path, ca: trustme.CA, leaf: trustme.LeafCert) -> None:
    pki.mkdir(mode=0o700, exist_ok=True)
    ca.cert_pem.write_to_path(pki / "ca.crt")
    leaf.cert_chain_pems[0].write_to_path(pki / "server.crt")
    leaf.private_key_pem.write_to_path(pki / "server.key")
    (pki / "server.key").chmod(0o600)
    authority = load_pem_private_key(ca.private_key_pem.bytes(), None)
    assert isinstance(authority, PrivateKey)
    (pki / "federation.key").unlink(missing_ok=True)
    key = create_key(pki / "federation.key").public_key()
    certificate = RequestCertificate.issue(authority, "nt", 3, key)
    (pki / "federation.json").write_text(certificate.model_dump_json())


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(ca: trustme.CA, tmp_path: Path) -> Path:
    """A coordinator's folder in order."""
    tmp_path.chmod(0o700)
    (tmp_path / "coordinator.yaml").write_text(f"federation: nt\nhost: localhost\nport: {free_port()}\n")
    (tmp_path / "sites.json").write_text(json.dumps(SITES))
    write_pki(tmp_path / "pki", ca, ca.issue_cert("localhost", not_after=NOW + timedelta(365)))
    return tmp_path


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {finding.what: finding.level for finding in findings}


def test_a_coordinator_in_order_has_no_failure(
    folder: Path, run_main: Callable[[Callable[[], None], list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_main(main, ["roiae-server", "doctor", str(folder)])

    said = capsys.readouterr().out
    assert code == 0, said
    assert "certificate: for localhost" in said
    assert "sources alpha, beta" in said
    assert "request key: number 3, certified by the CA" in said
    assert "forecast" in said


def test_a_folder_without_coordinator_yaml_ends_with_13(
    tmp_path: Path, run_main: Callable[[Callable[[], None], list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, ["roiae-server", "doctor", str(tmp_path)]) == 13
    assert "coordinator.yaml" in capsys.readouterr().out


def test_a_certificate_for_another_host_fails(ca: trustme.CA, tmp_path: Path) -> None:
    write_pki(tmp_path / "pki", ca, ca.issue_cert("fl.example.com"))

    findings = levels(list(check_certificate(tmp_path / "pki", "fl.example.org")))

    assert findings["certificate: for fl.example.com, not for fl.example.org"] is Level.FAIL


def test_a_certificate_of_another_ca_fails(ca: trustme.CA, tmp_path: Path) -> None:
    write_pki(tmp_path / "pki", ca, trustme.CA().issue_cert("fl.example.org"))

    failed = [
        finding.what for finding in check_certificate(tmp_path / "pki", "fl.example.org") if finding.level == "FAIL"
    ]

    assert len(failed) == 1
    assert "is not from the CA" in failed[0]


def test_a_key_of_another_certificate_fails(ca: trustme.CA, tmp_path: Path) -> None:
    write_pki(tmp_path / "pki", ca, ca.issue_cert("fl.example.org"))
    ca.issue_cert("fl.example.org").private_key_pem.write_to_path(tmp_path / "pki" / "server.key")

    findings = list(check_certificate(tmp_path / "pki", "fl.example.org"))

    assert any("is not the certificate's key" in finding.what for finding in findings)


def test_an_expired_certificate_fails_and_one_near_its_end_warns(ca: trustme.CA, tmp_path: Path) -> None:
    for end, level in ((NOW - timedelta(1), Level.FAIL), (NOW + timedelta(20), Level.WARN)):
        write_pki(tmp_path / "pki", ca, ca.issue_cert("a.example.org", not_before=NOW - timedelta(9), not_after=end))
        findings = list(check_certificate(tmp_path / "pki", "a.example.org"))
        assert [finding.level for finding in findings if "the server's certificate" in finding.what] == [level]


def test_a_key_that_others_can_read_fails(folder: Path) -> None:
    (folder / "pki" / "server.key").chmod(0o644)

    assert any("private key" in finding.what and finding.level is Level.FAIL for finding in examine(folder))


def test_a_port_that_another_program_has_fails(ca: trustme.CA, folder: Path) -> None:
    port = free_port()
    with bind("127.0.0.1", port):
        assert check_port(port, folder / "pki" / "server.crt").level is Level.FAIL
    with serving(certificate=ca.issue_cert("localhost")) as other:
        assert check_port(other, folder / "pki" / "server.crt").level is Level.FAIL


def test_a_port_that_this_coordinator_serves_passes(ca: trustme.CA, tmp_path: Path) -> None:
    leaf = ca.issue_cert("localhost")
    write_pki(tmp_path / "pki", ca, leaf)
    with serving(certificate=leaf) as port:
        assert check_port(port, tmp_path / "pki" / "server.crt").what.endswith("served by this coordinator")


@pytest.mark.parametrize(("host", "level"), [("coordinator.invalid", Level.FAIL), ("localhost", Level.WARN)])
def test_a_host_without_an_outside_address_is_told(host: str, level: Level) -> None:
    assert check_host(host).level is level


def test_one_source_is_too_few_and_no_held_out_site_is_a_warning() -> None:
    findings = list(check_sites({"alpha": {"role": "source"}}))

    assert [finding.level for finding in findings] == [Level.FAIL, Level.WARN]


def test_what_a_hospital_would_refuse_of_the_run_fails_before_the_first_round(folder: Path) -> None:
    limits = Limits().as_numbers()
    (folder / "last_contact.json").write_text(json.dumps({"alpha": {"limits": limits}, "gone": {"limits": {}}}))
    within = [found for found in examine(folder) if found.what.startswith("limits:")]
    assert [found.level for found in within] == [Level.PASS]

    (folder / "federation.yaml").write_text("train: {learning_rate: 0.01}\n")
    (found,) = [found for found in examine(folder) if found.what.startswith("limits:")]
    assert found.level is Level.FAIL
    assert "alpha would refuse" in found.what and "limits.max_learning_rate" in found.what
