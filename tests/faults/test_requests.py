"""A SuperLink in wrong hands, before an honest hospital: nothing that it sends runs, and no request counts twice."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomli_w
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.supercore.fab import Fab

from roiae_client.answering.ledger import LedgerReader
from roiae_server.flower.superlink import Control
from tests.faults.bare import bare_superlink, handshake, run_of, signed_handshake
from tests.faults.processes import RealFederation
from tests.signing import new_signer

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # Flower's, as it builds a bundle
]


class WrongHands(Control):
    """Starts a run whose bundle holds code."""

    code = ""

    def start_run(self) -> int:
        components = {"serverapp": "evil:app", "clientapp": "evil:app"}
        project = {"name": "evil", "version": "1.0.0", "description": "evil", "license": "Apache-2.0"}
        tool = {"flwr": {"app": {"publisher": "evil", "components": components}}}
        files = {"pyproject.toml": tomli_w.dumps({"project": project, "tool": tool}).encode()}
        for name in ("evil.py", "roiae_client/__init__.py", "sitecustomize.py"):
            files[name] = self.code.encode()
        fab, _ = build_fab_from_files(files)
        assert b"evil.py" in fab
        request = StartRunRequest(fab=fab_to_proto(Fab(hashlib.sha256(fab).hexdigest(), fab, {})))
        return int(self._client.StartRun(request).run_id)


@pytest.fixture
def bare(fault_data: Path, tmp_path: Path) -> Iterator[tuple[RealFederation, Path]]:
    federation = RealFederation(tmp_path, fault_data)
    with bare_superlink(federation) as socket:
        yield federation, socket


def test_nothing_of_a_bundle_with_code_runs_at_a_hospital(
    bare: tuple[RealFederation, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Callable[..., None]
) -> None:
    marker = tmp_path / "it-ran"
    monkeypatch.setattr(WrongHands, "code", f"open({str(marker)!r}, 'w').close()\napp = None\n")

    with run_of(*bare, ["alpha"], WrongHands) as (grid, nodes):
        envelope = handshake(grid, nodes["alpha"], signed_handshake(bare[0].folder.load_signer(), "alpha"))

    assert (envelope["site"], envelope["reason"]) == ("alpha", "")  # it had the bundle, and answered by its own code
    assert not marker.exists()
    assert not list((tmp_path / "alpha").rglob("*evil*"))
    subprocess.run([sys.executable, "-c", WrongHands.code], check=True)
    assert marker.exists()  # the code would have worked
    record("a bundle with code in it", outcome="nothing of it runs", recovery=[], rounds_lost=0, stall=0.0)


def test_a_request_that_is_sent_again_is_answered_once(
    bare: tuple[RealFederation, Path], record: Callable[..., None]
) -> None:
    request = signed_handshake(bare[0].folder.load_signer(), "alpha", expires=int(time.time()) + 3600)

    with run_of(*bare, ["alpha"]) as (grid, nodes):
        reasons = [handshake(grid, nodes["alpha"], request)["reason"] for _ in range(2)]
    bare[0].hospitals["alpha"].end()
    with run_of(*bare, ["alpha"]) as (grid, nodes):  # it is in the ledger, so a restart changes nothing
        reasons.append(handshake(grid, nodes["alpha"], request)["reason"])

    assert reasons == ["", "already-answered", "already-answered"]
    record("a replayed request", outcome="refused: already-answered", recovery=[], rounds_lost=0, stall=0.0)


def test_a_forged_request_and_forged_heads_are_refused_and_the_next_honest_one_is_answered(
    bare: tuple[RealFederation, Path], record: Callable[..., None]
) -> None:
    signer, stranger = bare[0].folder.load_signer(), new_signer(99)
    head = {"acknowledged_lines": 40, "acknowledged_head": "d" * 64}
    requests = [
        signed_handshake(stranger, "alpha", **head),  # by nobody's key
        signed_handshake(signer, "beta"),  # for another hospital
        signed_handshake(signer, "alpha", **head),  # by the coordinator's own key, with a ledger head that never was
        signed_handshake(signer, "alpha"),
    ]

    with run_of(*bare, ["alpha"]) as (grid, nodes):
        reasons = [handshake(grid, nodes["alpha"], request)["reason"] for request in requests]

    assert reasons == ["bad-signature", "bad-signature", "bad-request", ""]
    reader = LedgerReader(bare[0].root / "alpha" / "ledger.jsonl")
    lines = [(line.reason, line.request, line.turned_away, line.claimed) for line in reader]
    assert lines == [
        ("bad-signature", "", 0, None),
        ("bad-request", requests[2].ask.request, 1, (40, "d" * 64)),
        ("", requests[3].ask.request, 0, None),
    ]
    record("a forged request, a forged ledger head", outcome="refused by name, and the next request is answered",
           recovery=[], rounds_lost=0, stall=0.0)  # fmt: skip
