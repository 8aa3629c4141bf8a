"""Enrolment as a running coordinator sees it."""

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from roiae.config import Role
from roiae.identity.kit import PROTOCOL
from roiae.wire.envelope import NO_LINES, ROIAE, Envelope
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.flower.superlink import Node
from roiae_server.service.site_registry import MAX_LIMITS, SiteRegistry, read_last_contacts
from tests.signing import new_keys


class FakeControl:
    """Registers and lets go as a SuperLink does; every registered node is connected."""

    def __init__(self) -> None:
        self.registered: dict[bytes, str] = {}

    def reconcile(self, sites: dict[str, bytes]) -> None:
        self.registered = {key: name for name, key in sites.items()}

    def nodes(self) -> list[Node]:
        return [Node(number, key, True, "") for number, key in enumerate(self.registered)]


def said(lines: int, reason: str = "") -> Envelope:
    return Envelope(
        site="alpha", run="r", request="f" * 32, kind="train", reason=reason, roiae=ROIAE, protocol=PROTOCOL,
        ledger_lines=lines, ledger_head=f"{lines:064x}",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    folder = CoordinatorFolder.create(tmp_path / "c", "localhost", 8443, "test")
    folder.add_site("alpha", Role.SOURCE, new_keys())
    folder.add_site("beta", Role.SOURCE, new_keys())
    return folder


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def registry(folder: CoordinatorFolder, control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> SiteRegistry:
    monkeypatch.setattr("roiae_server.service.site_registry.NODES_SECONDS", -1.0)
    return SiteRegistry(folder, control, "r")  # type: ignore[arg-type]


def test_every_enrolled_site_is_registered_and_known_by_its_key(registry: SiteRegistry) -> None:
    assert set(registry.nodes()) == {"alpha", "beta"}


def test_a_removed_site_is_let_go_and_a_new_one_registered_without_a_restart(
    registry: SiteRegistry, folder: CoordinatorFolder, control: FakeControl
) -> None:
    folder.remove_site("alpha")
    folder.add_site("gamma", Role.SOURCE, new_keys())
    registry.refresh()

    assert set(control.registered.values()) == {"beta", "gamma"}
    assert registry.key("alpha") is None
    assert set(registry.nodes()) == {"beta", "gamma"}


def test_a_site_is_told_the_longest_ledger_that_was_seen_of_it(
    registry: SiteRegistry, folder: CoordinatorFolder, control: FakeControl
) -> None:
    assert registry.ask("alpha", "1", 60).acknowledged_head == NO_LINES

    registry.heard("alpha", said(5))
    registry.heard("alpha", said(3))  # a tail was cut: it must go on showing

    for later in (registry, SiteRegistry(folder, control, "r")):  # type: ignore[arg-type]
        ask = later.ask("alpha", "2", 60)
        assert (ask.acknowledged_lines, ask.acknowledged_head) == (5, f"{5:064x}")


def test_a_refusal_moves_no_ledger_head(registry: SiteRegistry) -> None:
    registry.heard("alpha", said(5))
    registry.heard("alpha", said(9, "bad-request"))  # else a ledger that was cut would grow past what is missing

    assert registry.ask("alpha", "2", 60).acknowledged_lines == 5


def test_a_request_is_to_one_site_for_as_long_as_it_is_waited_for_and_a_day_at_most(registry: SiteRegistry) -> None:
    asks = [registry.ask("alpha", str(n), seconds) for n, seconds in enumerate((0.2, 90.5, 1e9))]

    assert [ask.expires - ask.issued for ask in asks] == [1, 91, 86_400]
    assert {ask.site for ask in asks} == {"alpha"}
    assert len({ask.nonce for ask in asks}) == 3
    assert abs(asks[0].issued - time.time()) < 5


def test_replies_are_checked_with_one_key_and_nodes_let_in_with_the_other(
    registry: SiteRegistry, folder: CoordinatorFolder, control: FakeControl
) -> None:
    keys = folder.sites["alpha"].keys

    assert registry.key("alpha") == keys.reply
    registered = [load_pem_public_key(pem) for pem, name in control.registered.items() if name == "alpha"]
    assert [key == keys.node for key in registered] == [True]


def test_a_site_with_new_keys_starts_its_ledger_afresh(registry: SiteRegistry, folder: CoordinatorFolder) -> None:
    registry.heard("alpha", said(5))
    folder.replace_keys("alpha", Role.SOURCE, new_keys())
    registry.refresh()

    assert registry.ask("alpha", "2", 60).acknowledged_lines == 0


def test_a_site_that_says_it_has_withdrawn_is_removed(
    registry: SiteRegistry, folder: CoordinatorFolder, control: FakeControl
) -> None:
    registry.heard("alpha", said(5, "withdrawn"))

    assert list(folder.sites) == ["beta"]
    assert list(control.registered.values()) == ["beta"]


def test_limits_that_a_site_tells_are_kept_and_nothing_else_that_it_says(
    registry: SiteRegistry, folder: CoordinatorFolder
) -> None:
    registry.heard("alpha", said(5))
    hostile = {"\x1b[2J": 1.0, "limits." + "x" * 1000: 1.0, "limits.max_runs": float("nan"), "loss": 1.0}
    registry.greeted(
        "alpha", {"limits.max_passes": 400.0, **hostile, **{f"limits.{'a' * n}": 1.0 for n in range(1, 60)}}
    )

    kept = read_last_contacts(folder.path)["alpha"]
    assert kept.ledger_lines == 5
    assert kept.limits["limits.max_passes"] == 400.0
    assert len(kept.limits) <= MAX_LIMITS and not kept.limits.keys() & hostile.keys()
