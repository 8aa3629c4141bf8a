"""Who is not enrolled, or not any more, gets nowhere; and a coordinator that cannot start says why."""

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from roiae.config import Role
from roiae.files import write_atomically
from roiae.identity.certificates import ca_fingerprint, certificate_key, load_certificate
from roiae.identity.keys import read_public
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_server.enrolment.authority import SERVER_LIFETIME, Authority
from tests.faults.processes import Member, RealFederation, ask, await_that, command, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SETUP, SERVICE = 9, 12  # exit codes
CONTROL = ["start-run", "stop-run", "list-runs", "list-nodes", "register-node", "unregister-node", "stream-logs"]
RUNTIME = ["acquire-task", "pull-task-input", "push-messages", "pull-messages", "get-nodes"]
OUTSIDE = [
    *(f"/v1/control/{call}" for call in CONTROL),
    *(f"/v1/runtime/{call}" for call in RUNTIME),
    *("/v1/fleet/register-node", "/v1/fleet/unregister-node", "/health", "/docs", "/openapi.json", "/"),
]


@pytest.fixture
def alone(fault_data: Path, tmp_path: Path) -> Iterator[RealFederation]:
    """A federation of which nothing has been started."""
    federation = RealFederation(tmp_path, fault_data)
    yield federation
    federation.stop()


def test_a_hospital_that_was_never_enrolled_is_not_let_in(
    fault_data: Path, tmp_path: Path, unfaulted: dict[str, bytes], record: Callable[..., None]
) -> None:
    federation = RealFederation(tmp_path, fault_data)
    stranger = HospitalFolder.create(tmp_path / "stranger", "stranger", fault_data / "gamma")
    kit = federation.folder.add_site("stranger", Role.SOURCE, read_public(stranger.public_keys)[0])
    stranger.join(kit, ca_fingerprint(federation.folder.ca_certificate.read_bytes()))
    federation.folder.remove_site("stranger")
    federation.hospitals["stranger"] = Member(stranger.path, command("roiae-client", "start", str(stranger.path)))

    with running(federation):
        assert federation.finish() == 0

        assert ask("roiae-client", "status", str(stranger.path), "--healthy").returncode == SERVICE
    assert federation.weights() == unfaulted
    assert not stranger.ledger.exists() or not stranger.ledger.read_bytes()
    stall = federation.watch.longest_stall
    record("key never enrolled", outcome="not let in; the same bytes", recovery=[], rounds_lost=0, stall=stall)


def test_a_hospital_that_is_removed_in_a_round_is_let_go_at_once(
    federation: RealFederation, record: Callable[..., None]
) -> None:
    await_that(lambda: federation.state["completed"] == 1 and federation.at_work("gamma"), 540, "gamma works")
    began = time.monotonic()
    assert ask("roiae-server", "remove-site", str(federation.folder.path), "gamma").returncode == 0
    federation.await_completed(2, 60)
    waited = time.monotonic() - began
    answered = len((federation.root / "gamma" / "ledger.jsonl").read_bytes().splitlines())

    assert federation.finish() == 0
    assert federation.reasons("gamma") == {"offline"}
    assert federation.rounds_lost(excluded="gamma") == 0
    assert len((federation.root / "gamma" / "ledger.jsonl").read_bytes().splitlines()) == answered
    part = json.loads((federation.run / "participation.json").read_bytes())["gamma"]
    assert part["aggregated"] == 1
    stall = federation.watch.longest_stall
    outcome = "let go at once; the run ends without it"
    record("key removed in a round", outcome=outcome, recovery=[waited], rounds_lost=0, stall=stall)


def test_an_expired_certificate_is_said_and_renewed(alone: RealFederation, record: Callable[..., None]) -> None:
    pki, path = alone.folder.pki, str(alone.folder.path)
    current = load_certificate(alone.folder.server_certificate.read_bytes(), "the coordinator's")
    last_year = datetime.now(UTC) - SERVER_LIFETIME - timedelta(hours=1)
    expired = Authority.load(pki).issue_server("localhost", certificate_key(current, "its"), last_year)
    write_atomically(alone.folder.server_certificate, expired)

    said = ask("roiae-server", "start", path)

    assert said.returncode == SETUP
    assert "has expired" in said.stderr and "renew" in said.stderr
    assert ask("roiae-server", "renew", path).returncode == 0
    began = time.monotonic()
    alone.start()
    await_that(lambda: alone.online("alpha"), 180, "alpha is connected")
    outcome = "refused at the start with the remedy; `renew` mends it"
    record("certificate expired", outcome=outcome, recovery=[time.monotonic() - began], rounds_lost=0, stall=0.0)


def test_only_the_fleet_calls_are_there_for_the_outside(alone: RealFederation, record: Callable[..., None]) -> None:
    alone.coordinator.start()
    trust = ssl.create_default_context(cafile=alone.folder.ca_certificate)
    with httpx.Client(base_url=f"https://localhost:{alone.port}", verify=trust) as client:
        await_that(lambda: _answers(client), 180, "the gateway is up")

        for path in OUTSIDE:
            assert client.post(path).status_code == 404, path
            assert client.get(path).status_code == 404, path
    record("calls from outside", outcome=f"404 to all {len(OUTSIDE)}", recovery=[], rounds_lost=0, stall=0.0)


def test_a_port_that_is_taken_is_said(alone: RealFederation, record: Callable[..., None]) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", alone.port))
        other.listen()

        said = ask("roiae-server", "start", str(alone.folder.path))

    assert said.returncode == SERVICE
    assert f"port {alone.port}" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1
    assert not alone.run.exists()
    record("coordinator's port taken", outcome="one message, exit code 12", recovery=[], rounds_lost=0, stall=0.0)


def test_a_second_start_leaves_the_first_alone(alone: RealFederation, record: Callable[..., None]) -> None:
    alone.start()
    await_that(lambda: alone.online("alpha"), 180, "alpha is connected")

    for name, member in (("roiae-server", alone.coordinator), ("roiae-client", alone.hospitals["alpha"])):
        said = ask(name, "start", str(member.folder))
        assert said.returncode == SERVICE
        assert len(said.stderr.strip().splitlines()) == 1
        assert member.process and member.process.poll() is None
    assert alone.online("alpha")
    record(
        "a second `start`",
        outcome="one message, exit code 12; the first goes on",
        recovery=[],
        rounds_lost=0,
        stall=0.0,
    )


def _answers(client: httpx.Client) -> bool:
    try:
        return client.post("/v1/fleet/pull-messages").status_code != 503
    except httpx.HTTPError:
        return False
