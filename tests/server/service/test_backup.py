import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roiae.config import Role, RunConfig
from roiae.errors import SetupError
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.run.records import Line
from roiae_server.run.run_folder import RunFolder, RunState
from roiae_server.service import backup as module
from roiae_server.service.backup import backup
from roiae_server.service.site_registry import read_last_contacts
from tests.signing import new_keys

STATE = RunState({"a": Role.SOURCE, "b": Role.SOURCE}, {}, {"roiae": "1"})


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    folder = CoordinatorFolder.create(tmp_path / "coordinator", "fl.example.org", 8443, "nt-europe")
    folder.add_site("hospital-a", Role.SOURCE, new_keys())
    return folder


def restore(archive: Path, to: Path) -> CoordinatorFolder:
    """As docs/COORDINATOR.md has it: into a new folder, modes kept."""
    to.mkdir(mode=0o700)
    with tarfile.open(archive) as packed:
        packed.extractall(to, filter="tar")
    return CoordinatorFolder.open(to)


def complete_step(run: RunFolder, step: int) -> None:
    """What tells the steps apart is in the state, in the weights and in the number of lines."""
    state = replace(run.state, completed=step)
    line = Line(
        step="phase1", round=step, site="a", status="missing", reason=None, metrics={}, seconds=None,
        bytes_out=0, bytes_in=0,
    )  # fmt: skip
    run.commit(state, [line], {"w": np.full(1000, step, np.float32)}, {})


def test_a_restored_folder_has_the_same_sites_and_ca(folder: CoordinatorFolder, tmp_path: Path) -> None:
    backup(folder, tmp_path / "b.tar.gz")

    restored = restore(tmp_path / "b.tar.gz", tmp_path / "restored")

    assert restored.sites == folder.sites
    assert restored.config == folder.config
    for ours, theirs in ((folder.ca_key, restored.ca_key), (folder.server_certificate, restored.server_certificate)):
        assert ours.read_bytes() == theirs.read_bytes()
    assert restored.kit_path("hospital-a").read_bytes() == folder.kit_path("hospital-a").read_bytes()
    assert restored.load_signer().certificate == folder.load_signer().certificate
    restored.add_site("hospital-b", Role.SOURCE, new_keys())


def test_the_ledger_heads_that_hospitals_told_are_kept(folder: CoordinatorFolder, tmp_path: Path) -> None:
    (folder.path / "last_contact.json").write_text('{"hospital-a": {"ledger_lines": 7}}')
    backup(folder, tmp_path / "b.tar.gz")

    assert (
        read_last_contacts(restore(tmp_path / "b.tar.gz", tmp_path / "restored").path)["hospital-a"].ledger_lines == 7
    )


def test_nobody_else_can_read_a_backup(folder: CoordinatorFolder, tmp_path: Path) -> None:
    backup(folder, tmp_path / "b.tar.gz")

    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600


def test_what_is_made_again_is_left_out(folder: CoordinatorFolder, tmp_path: Path) -> None:
    (folder.superlink / "state.db").write_bytes(b"large")
    (folder.log / "gateway.log").write_bytes(b"long")
    (folder.path / "sites.json.tmp").write_bytes(b"{")

    backup(folder, tmp_path / "b.tar.gz")

    restored = restore(tmp_path / "b.tar.gz", tmp_path / "restored")
    assert [*restored.superlink.iterdir(), *restored.log.iterdir(), *restored.path.glob("*.tmp")] == []


def test_a_backup_during_a_run_restores_one_of_its_steps(
    folder: CoordinatorFolder, tmp_path: Path, config: RunConfig
) -> None:
    run = RunFolder.create(folder.runs / "first", config, STATE)
    run.write_json("quality.json", {"phase1": 1})
    complete_step(run, 1)
    over = threading.Event()

    def go_on() -> None:
        step = 1
        while not over.is_set():
            step += 1
            complete_step(run, step)

    running = threading.Thread(target=go_on)
    running.start()
    try:
        for number in range(8):
            backup(folder, tmp_path / f"{number}.tar.gz")
    finally:
        over.set()
        running.join()
        run.close()

    for number in range(8):
        restored = restore(tmp_path / f"{number}.tar.gz", tmp_path / f"restored-{number}")
        earlier = RunFolder.open(restored.runs / "first")
        assert earlier is not None
        weights, _ = earlier.load_checkpoint()
        lines = (earlier.path / "rounds.jsonl").read_text().splitlines()
        assert len(lines) == earlier.state.completed == weights["w"][0] >= 1
        assert earlier.read_json("quality.json") == {"phase1": 1}
        earlier.close()


def test_a_checkpoint_that_is_dropped_meanwhile_is_not_missed(
    folder: CoordinatorFolder, tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.create(folder.runs / "first", config, STATE)
    complete_step(run, 1)
    read_state = Path.read_bytes

    def and_then_completes_the_next_step(path: Path) -> bytes:
        content = read_state(path)
        if path.name == "state.json" and run.state.completed == 1:
            complete_step(run, 2)
        return content

    monkeypatch.setattr(Path, "read_bytes", and_then_completes_the_next_step)
    backup(folder, tmp_path / "b.tar.gz")
    run.close()

    earlier = RunFolder.open(restore(tmp_path / "b.tar.gz", tmp_path / "restored").runs / "first")
    assert earlier is not None
    assert (earlier.state.completed, earlier.load_checkpoint()[0]["w"][0]) == (2, 2)
    earlier.close()


def test_a_run_whose_checkpoint_is_lost_stops_the_backup(
    folder: CoordinatorFolder, tmp_path: Path, config: RunConfig
) -> None:
    run = RunFolder.create(folder.runs / "first", config, STATE)
    complete_step(run, 1)
    run.close()
    (run.path / "checkpoints" / run.state.checkpoint).unlink()

    with pytest.raises(SetupError, match=r"first: state\.json"):
        backup(folder, tmp_path / "b.tar.gz")
    assert list(tmp_path.glob("b.tar.gz*")) == []


def test_a_backup_is_never_written_over(folder: CoordinatorFolder, tmp_path: Path) -> None:
    (tmp_path / "b.tar.gz").write_text("the last one")

    with pytest.raises(SetupError, match="never written over"):
        backup(folder, tmp_path / "b.tar.gz")
    assert (tmp_path / "b.tar.gz").read_text() == "the last one"


@pytest.mark.parametrize("inside", ["b.tar.gz", "runs/b.tar.gz"])
def test_a_backup_does_not_hold_itself(folder: CoordinatorFolder, inside: str) -> None:
    with pytest.raises(SetupError, match="lies inside the folder"):
        backup(folder, folder.path / inside)


def test_a_missing_place_is_one_message(folder: CoordinatorFolder, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        backup(folder, tmp_path / "nowhere" / "b.tar.gz")


def test_a_disk_without_room_leaves_no_backup(
    folder: CoordinatorFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(archive: tarfile.TarFile, folder: CoordinatorFolder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_add_all", full)

    with pytest.raises(SetupError, match="No space left"):
        backup(folder, tmp_path / "b.tar.gz")
    assert list(tmp_path.glob("b.tar.gz*")) == []
