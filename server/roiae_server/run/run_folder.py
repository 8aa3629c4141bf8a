"""The folder of a run: what has been decided and done, on disk, so that a run killed anywhere goes on where it was.

`state.json` is the one point of commitment. Whatever else a step writes (a checkpoint under a new name, lines at the
end of `rounds.jsonl`) is written and synced before it, and means nothing until the state that names it has replaced the
old one. What a killed step left behind is cut off or deleted by the next start.
"""

import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from roiae.config import Role, RunConfig, build_config, read_settings
from roiae.errors import RoiaeError, RunFolderError, ServiceError
from roiae.files import write_atomically, write_json
from roiae.wire.contract import Arrays
from roiae_server.run.records import Line

CONFIG, STATE, ROUNDS, LOCK, CHECKPOINTS = "config.yaml", "state.json", "rounds.jsonl", ".lock", "checkpoints"
QUALITY = "quality.json"
SHIFT = "shift.json"
AGGREGATOR = "aggregator/"  # before the names of the aggregator's own arrays in a checkpoint


PACKAGES = ("roiae", "flwr", "torch", "numpy")  # whose versions a run records


def installed_versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


@dataclass(frozen=True)
class RunState:
    """How far a run has come; everything else that the next step needs is in the checkpoint it names."""

    sites: dict[str, Role]
    fingerprints: dict[str, str]  # of each site's data, where the run can see them
    versions: dict[str, str]
    id: str = field(
        default_factory=lambda: uuid.uuid4().hex
    )  # names this run to hospitals, whatever its folder is called
    status: Literal["running", "failed", "incomplete", "done"] = "running"  # incomplete: a source never contributed
    reason: str | None = None
    completed: int = 0  # steps of the plan
    step: str = ""  # the last completed one
    round: int = 0
    contributed: dict[str, int] = field(default_factory=dict)  # rounds of training in which a source's update counted
    weights: dict[str, float] = field(default_factory=dict)  # of phase 2, once calibrated
    quality: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)  # by arm and site, as scored so far
    checkpoint: str = ""  # in checkpoints/
    rounds_bytes: int = 0  # committed length of rounds.jsonl


class RunFolder:
    """A run's files, held by one process at a time."""

    def __init__(self, path: Path, config: RunConfig, state: RunState, lock: FileLock) -> None:
        self.path, self.config, self.state, self._lock = path, config, state, lock

    @classmethod
    def create(cls, path: Path, config: RunConfig, state: RunState) -> "RunFolder":
        """Start a run in a folder that is absent, or holds nothing but what a killed start left.

        Raises:
            RunFolderError: the folder cannot be written.
            ServiceError: another process is working on the run.
        """
        try:
            (path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
            lock = _hold(path)
            run = cls(path, config, state, lock)
            write_atomically(path / CONFIG, config.to_yaml().encode())
            run._write_state(state)
        except OSError as error:
            raise RunFolderError(
                f"{path}: cannot be written ({error.strerror}). Give --out a folder that you may write to."
            ) from error
        return run

    @classmethod
    def open(cls, path: Path, wait: float = 0) -> "RunFolder | None":
        """The run in a folder, cut back to its last completed step; None where no run has begun.

        Args:
            wait: seconds that another process has to be done with it.

        Raises:
            RunFolderError: the folder holds something else, or is damaged.
            ServiceError: another process is working on the run.
        """
        if not (path / STATE).exists():
            _refuse_foreign(path)
            return None
        lock = _hold(path, wait)
        try:
            state = TypeAdapter(RunState).validate_json((path / STATE).read_bytes())
            config = build_config(read_settings(path / CONFIG))
        except (ValidationError, RoiaeError) as error:
            lock.release()
            raise RunFolderError(
                f"{path}: {STATE} or {CONFIG} is not what this version writes ({type(error).__name__}). "
                "Resume it with the version that began it, or start a new run in another folder."
            ) from error
        run = cls(path, config, state, lock)
        run._cut_back()
        return run

    @classmethod
    def open_finished(cls, path: Path, otherwise: str, incomplete: bool = True) -> "RunFolder":
        """
        Args:
            otherwise: what to do where there is none.
            incomplete: whether one to which a source never contributed counts.

        Raises:
            RunFolderError: there is no run in the folder, or it is not finished; or as `open`.
            ServiceError: as `open`.
        """
        run = cls.open(path) if (path / STATE).exists() else None
        if run is None:
            raise RunFolderError(f"{path}: no such run. {otherwise}")
        if run.state.status == "done" or (incomplete and run.state.status == "incomplete"):
            return run
        run.close()
        raise RunFolderError(f"{path}: is not finished, {run.state.completed} steps are done. {otherwise}")

    @property
    def sources(self) -> list[str]:
        return sorted(site for site, role in self.state.sites.items() if role is Role.SOURCE)

    @property
    def quorum(self) -> int:
        """Sources that a step needs: all but one unless it is set, and never fewer than two."""
        return self.config.federation.quorum or max(2, len(self.sources) - 1)

    @property
    def weights(self) -> dict[str, float]:
        """Of phase 2's terms: set by hand, or calibrated; empty before that."""
        return self.config.phase2.weights or self.state.weights

    def commit(self, state: RunState, lines: Iterable[Line], arrays: Arrays | None, aggregator: Arrays) -> None:
        """Make a step's result the run's state: its lines, its checkpoint, then the state that names them.

        Args:
            state: after the step; where its checkpoint and lines lie is filled in here.
            arrays: the weights after the step; None keeps the last checkpoint.
            aggregator: the aggregator's own state, to go with the weights.
        """
        checkpoint = self.state.checkpoint
        if arrays is not None:
            checkpoint = f"step-{state.completed:05d}.safetensors"
            self.save_arrays(checkpoint, arrays | {f"{AGGREGATOR}{name}": own for name, own in aggregator.items()})
        size = self._append_rounds(lines)
        self._write_state(replace(state, checkpoint=checkpoint, rounds_bytes=size))
        self._drop_old_checkpoints()

    def load_checkpoint(self) -> tuple[Arrays, Arrays]:
        """The weights after the last completed step, and the aggregator's own state."""
        arrays = self.load_arrays(self.state.checkpoint)
        own = {k.removeprefix(AGGREGATOR): v for k, v in arrays.items() if k.startswith(AGGREGATOR)}
        return {k: v for k, v in arrays.items() if not k.startswith(AGGREGATOR)}, own

    def save_arrays(self, name: str, arrays: Arrays) -> None:
        write_atomically(self.path / CHECKPOINTS / name, save(arrays))

    def load_arrays(self, name: str) -> Arrays:
        """
        Raises:
            RunFolderError: the checkpoint is missing or damaged.
        """
        path = self.path / CHECKPOINTS / name
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise RunFolderError(
                f"{path}: cannot be read as a checkpoint. Restore it from a backup, or start a new run."
            ) from error

    def write_json(self, name: str, content: Any) -> None:
        write_json(self.path / name, content)

    def read_json(self, name: str) -> Any:
        """
        Raises:
            RunFolderError: the file is missing or damaged.
        """
        try:
            return json.loads((self.path / name).read_bytes())
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.path / name}: cannot be read. Restore it from a backup.") from error

    def rounds(self, start: int = 0) -> list[Line]:
        """The lines of `rounds.jsonl`, from the byte `start` on, where one begins.

        Raises:
            RunFolderError: the file is missing or damaged.
        """
        try:
            with (self.path / ROUNDS).open("rb") as file:
                file.seek(start)
                return [Line.model_validate_json(line) for line in file]
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.path / ROUNDS}: cannot be read. Restore it from a backup.") from error

    def close(self) -> None:
        self._lock.release()

    def _write_state(self, state: RunState) -> None:
        write_atomically(self.path / STATE, TypeAdapter(RunState).dump_json(state, indent=2) + b"\n")
        self.state = state

    def _append_rounds(self, lines: Iterable[Line]) -> int:
        with (self.path / ROUNDS).open("ab") as file:
            file.writelines(line.to_bytes() for line in lines)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def _cut_back(self) -> None:
        rounds = self.path / ROUNDS
        if rounds.exists():
            os.truncate(rounds, self.state.rounds_bytes)
        for leftover in [*self.path.glob("*.tmp"), *(self.path / CHECKPOINTS).glob("*.tmp")]:
            leftover.unlink()
        self._drop_old_checkpoints()

    def _drop_old_checkpoints(self) -> None:
        for path in (self.path / CHECKPOINTS).glob("step-*.safetensors"):
            if path.name != self.state.checkpoint:
                path.unlink()


def _hold(path: Path, wait: float = 0) -> FileLock:
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise ServiceError(
            f"{path}: another process is working on this run. Wait for it, or stop it, then resume."
        ) from None
    return lock


def _refuse_foreign(path: Path) -> None:
    """A folder with files that no run writes is somebody's own."""
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path}: is a file. Give --out the path of a folder.")
    ours = {CONFIG, f"{CONFIG}.tmp", f"{STATE}.tmp", LOCK, CHECKPOINTS}
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in ours) if path.exists() else []
    if foreign:
        raise RunFolderError(
            f"{path}: holds {foreign[0]} but no {STATE}, so it is not a run. Give --out another folder."
        )
