import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from roiae.config import Role, RunConfig
from roiae.errors import RunFolderError, ServiceError
from roiae.files import write_atomically
from roiae_server.run.run_folder import RunFolder, RunState
from tests.server.conftest import ScriptedTransport


@pytest.fixture
def state() -> RunState:
    return RunState({"a": Role.SOURCE, "b": Role.SOURCE}, {"a": "f"}, {"roiae": "1"})


def test_what_was_created_opens_as_it_was(tmp_path: Path, config: RunConfig, state: RunState) -> None:
    RunFolder.create(tmp_path / "run", config, state).close()

    run = RunFolder.open(tmp_path / "run")

    assert run is not None
    assert (run.config, run.state) == (config, state)
    run.close()


def test_an_absent_or_barely_begun_run_is_none(tmp_path: Path, config: RunConfig) -> None:
    begun = tmp_path / "begun"
    (begun / "checkpoints").mkdir(parents=True)
    (begun / "config.yaml").write_text(config.to_yaml())

    assert RunFolder.open(tmp_path / "absent") is None
    assert RunFolder.open(begun) is None


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(RunFolderError, match=r"thesis\.tex"):
        RunFolder.open(tmp_path)

    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_killed_step_left_behind_is_cut_off(federate: Callable[..., Path]) -> None:
    run = federate(ScriptedTransport())
    committed = (run / "rounds.jsonl").read_bytes()
    (run / "rounds.jsonl").write_bytes(committed + b'{"step": "phase2", "rou')
    (run / "checkpoints" / "step-00099.safetensors").write_bytes(b"half")
    (run / "state.json.tmp").write_bytes(b"{")

    opened = RunFolder.open(run)

    assert opened is not None
    opened.close()
    assert (run / "rounds.jsonl").read_bytes() == committed
    assert not (run / "checkpoints" / "step-00099.safetensors").exists()
    assert not (run / "state.json.tmp").exists()


def test_two_processes_cannot_work_on_one_run(tmp_path: Path, config: RunConfig, state: RunState) -> None:
    run = RunFolder.create(tmp_path / "run", config, state)

    with pytest.raises(ServiceError, match="another process"):
        RunFolder.open(tmp_path / "run")

    run.close()


@pytest.mark.parametrize("damage", ["{", "{}", '{"sites": {"a": "king"}}'])
def test_a_damaged_state_is_an_error_that_names_it(
    tmp_path: Path, config: RunConfig, state: RunState, damage: str
) -> None:
    RunFolder.create(tmp_path / "run", config, state).close()
    (tmp_path / "run" / "state.json").write_text(damage)

    with pytest.raises(RunFolderError, match=r"state\.json"):
        RunFolder.open(tmp_path / "run")


def test_a_damaged_checkpoint_is_an_error_that_names_it(federate: Callable[..., Path]) -> None:
    run = federate(ScriptedTransport())
    (run / "checkpoints" / "phase2.safetensors").write_bytes(b"nothing")

    opened = RunFolder.open(run)
    assert opened is not None
    with pytest.raises(RunFolderError, match=r"phase2\.safetensors"):
        opened.load_arrays("phase2.safetensors")
    opened.close()


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, json.dumps({"step": 1}).encode())
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError("disk full")))

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, json.dumps({"step": 2}).encode())

    assert json.loads(path.read_text()) == {"step": 1}
