"""`roiae-client start` and `status` where something is wrong that only a person can mend."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from roiae.config import Role
from roiae.errors import LedgerError
from roiae.identity.certificates import ca_fingerprint
from roiae.identity.keys import read_public
from roiae_client.answering.ledger import Head, Ledger
from roiae_client.cli import main
from roiae_client.commands import status
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_client.folder.service_state import ServiceState
from roiae_client.service import processes as service
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from tests.client.conftest import write


@pytest.fixture
def joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HospitalFolder:
    """A hospital whose three replies were acknowledged; nothing that it starts is started."""

    def nothing(*of: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(service, "Supervisor", nothing)
    site = HospitalFolder.create(tmp_path / "site", "hospital-a", None)
    coordinator = CoordinatorFolder.create(tmp_path / "coordinator", "127.0.0.1", 1, "nt-europe")
    kit = coordinator.add_site("hospital-a", Role.SOURCE, read_public(site.public_keys)[0])
    site.join(kit, ca_fingerprint(coordinator.ca_certificate.read_bytes()))
    ledger = Ledger(site.ledger)
    for n in range(3):
        head = write(ledger, f"r{n}")
    assert ledger.acknowledge(head)
    ledger.close()
    return site


def start(site: HospitalFolder, run_main: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    return run_main(main, ["roiae-client", "start", str(site.path)]), capfd.readouterr().err


def test_a_ledger_whose_end_was_cut_ends_the_start_before_anything_runs(
    joined: HospitalFolder, run_main: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    joined.ledger.write_bytes(b"".join(joined.ledger.read_bytes().splitlines(keepends=True)[:2]))

    code, said = start(joined, run_main, capfd)

    assert (code, "line 3: the coordinator has seen this line" in said, "Traceback" in said) == (11, True, False)
    with pytest.raises(LedgerError, match="line 3"):
        status.show_status(joined, Console())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("request_key", None, "names no request key"),
        ("federation", "nt-asia", "not certified by this federation's CA"),
        ("protocol", 1, "is a kit of protocol 1"),
    ],
)
def test_a_kit_without_the_federations_request_key_is_one_message(
    joined: HospitalFolder,
    run_main: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: object,
    message: str,
) -> None:
    path = joined.path / "kit.json"
    kit = json.loads(path.read_text()) | {name: value}
    path.write_text(json.dumps({key: value for key, value in kit.items() if value is not None}))

    code, said = start(joined, run_main, capfd)

    assert (code, message in said, "Traceback" in said) == (9, True, False)


def test_status_says_that_the_coordinator_has_seen_a_line_that_is_not_here(
    joined: HospitalFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "certificate_days", lambda coordinator: None)
    ledger = Ledger(joined.ledger)
    said: dict[str, Any] = {"run": "run", "request": "r9", "kind": "train", "reason": "bad-request"}
    ledger.append(**said, arrays={}, metrics=(), claimed=Head(50, "c" * 64))
    ledger.close()

    status.show_status(joined, Console())
    assert "LEDGER: the coordinator says that it has seen line 50 with hash ccc" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reason", "said"),
    [("", "request: train, answered "), ("not-allowed", "request: train, refused (not-allowed; log/executor.log")],
)
def test_status_tells_a_refusal_from_an_answer(
    joined: HospitalFolder, capsys: pytest.CaptureFixture[str], reason: str, said: str
) -> None:
    ledger = Ledger(joined.ledger)
    write(ledger, "r3", reason=reason)
    ledger.close()
    ServiceState(joined.state).note("train", done=True)
    status.show_status(joined, Console())
    assert said in capsys.readouterr().out
