"""Enrolment as a running coordinator sees it."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from roiae.config import Role
from roiae.envelope import NO_LINES, ROIAE, Envelope
from roiae.kit import PROTOCOL
from roiae_server.coordinator_folder import CoordinatorFolder
from roiae_server.directory import SiteDirectory
from roiae_server.flower.superlink import Node


class FakeControl:
    """Registers and lets go as a SuperLink does; every registered node is connected."""

    def __init__(self) -> None:
        self.registered: dict[bytes, str] = {}

    def reconcile(self, sites: dict[str, bytes]) -> None:
        self.registered = {key: name for name, key in sites.items()}

    def nodes(self) -> list[Node]:
        return [Node(number, key, True, "") for number, key in enumerate(self.registered)]


def new_key() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP384R1()).public_key()


def said(lines: int, reason: str = "") -> Envelope:
    return Envelope(
        site="alpha", run="r", request="f" * 32, kind="train", reason=reason, roiae=ROIAE, protocol=PROTOCOL,
        ledger_lines=lines, ledger_head=f"{lines:064x}",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    folder = CoordinatorFolder.create(tmp_path / "c", "localhost", 8443, "test")
    folder.add_site("alpha", Role.SOURCE, new_key())
    folder.add_site("beta", Role.SOURCE, new_key())
    return folder


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def directory(folder: CoordinatorFolder, control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> SiteDirectory:
    monkeypatch.setattr("roiae_server.directory.NODES_SECONDS", -1.0)
    return SiteDirectory(folder, control, "r")  # type: ignore[arg-type]


def test_every_enrolled_site_is_registered_and_known_by_its_key(directory: SiteDirectory) -> None:
    assert set(directory.nodes()) == {"alpha", "beta"}


def test_a_removed_site_is_let_go_and_a_new_one_registered_without_a_restart(
    directory: SiteDirectory, folder: CoordinatorFolder, control: FakeControl
) -> None:
    folder.remove_site("alpha")
    folder.add_site("gamma", Role.SOURCE, new_key())
    directory.refresh()

    assert set(control.registered.values()) == {"beta", "gamma"}
    assert directory.key("alpha") is None
    assert set(directory.nodes()) == {"beta", "gamma"}


def test_a_site_is_told_the_longest_ledger_that_was_seen_of_it(
    directory: SiteDirectory, folder: CoordinatorFolder, control: FakeControl
) -> None:
    assert directory.ask("alpha", "1").acknowledged_head == NO_LINES

    directory.heard("alpha", said(5))
    directory.heard("alpha", said(3))  # a tail was cut: it must go on showing

    for later in (directory, SiteDirectory(folder, control, "r")):  # type: ignore[arg-type]
        ask = later.ask("alpha", "2")
        assert (ask.acknowledged_lines, ask.acknowledged_head) == (5, f"{5:064x}")


def test_a_site_with_a_new_key_starts_its_ledger_afresh(directory: SiteDirectory, folder: CoordinatorFolder) -> None:
    directory.heard("alpha", said(5))
    folder.replace_key("alpha", Role.SOURCE, new_key())
    directory.refresh()

    assert directory.ask("alpha", "2").acknowledged_lines == 0


def test_a_site_that_says_it_has_withdrawn_is_removed(
    directory: SiteDirectory, folder: CoordinatorFolder, control: FakeControl
) -> None:
    directory.heard("alpha", said(5, "withdrawn"))

    assert list(folder.sites) == ["beta"]
    assert list(control.registered.values()) == ["beta"]
