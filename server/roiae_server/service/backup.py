"""A copy of what a coordinator cannot make again: its keys, the sites and their ledger heads, and the runs.

It can be taken while a run goes on.

A run's state.json names the checkpoint and the length of rounds.jsonl that it stands for. So the state is taken first,
then what it names; whatever was written later is cut off when the run is opened, as after a crash.
"""

import io
import os
import tarfile
import time
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from roiae.errors import SetupError
from roiae_server.enrolment.coordinator_folder import (
    COORDINATOR,
    FEDERATION,
    KITS,
    LAST_CONTACT,
    LOG,
    PKI,
    RUNS,
    SITES,
    SUPERLINK,
    CoordinatorFolder,
)
from roiae_server.run.run_folder import CHECKPOINTS, LOCK, ROUNDS, STATE, RunState

_ATTEMPTS = 100  # to read the checkpoint of a state before the run drops it


def backup(folder: CoordinatorFolder, to: Path) -> None:
    """Write a tar.gz that only its owner can read; superlink/ and log/ are left out, because both are made again.

    Raises:
        SetupError: the file exists, lies inside the folder or cannot be written, or a run's state cannot be read.
        ServiceError: another command holds the folder.
    """
    if to.exists():
        raise SetupError(
            f"{to}: exists, and a backup is never written over. Give --to another name, say with the date."
        )
    if folder.path.resolve() in to.resolve().parents:
        raise SetupError(f"{to}: lies inside the folder that is backed up. Give --to a place on another disk.")
    temporary = to.with_name(to.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
                    _add_all(archive, folder)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(to)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SetupError(
            f"{to}: was not written ({error}). See that you may use the file named here, and that its disk has room."
        ) from error


def _add_all(archive: tarfile.TarFile, folder: CoordinatorFolder) -> None:
    with folder.locked():
        for name in (COORDINATOR, FEDERATION, SITES):
            archive.add(folder.path / name, arcname=name)
        if (folder.path / LAST_CONTACT).exists():  # else nobody was heard from yet
            content = (folder.path / LAST_CONTACT).read_bytes()  # a run may replace it meanwhile
            _add_bytes(archive, LAST_CONTACT, content)
        for name in (PKI, KITS):
            archive.add(folder.path / name, arcname=name, filter=_finished)
    for name in (RUNS, SUPERLINK, LOG):
        archive.add(folder.path / name, arcname=name, recursive=False)
    for run in sorted(folder.runs.iterdir()):
        if (run / STATE).is_file():
            _add_run(archive, run, f"{RUNS}/{run.name}")


def _add_run(archive: tarfile.TarFile, run: Path, arcname: str) -> None:
    state_json, state, checkpoint = _read_state(run)
    archive.add(run, arcname=arcname, recursive=False)
    for path in sorted(run.rglob("*")):
        name = f"{arcname}/{path.relative_to(run)}"
        passing = path.parent.name == CHECKPOINTS and path.name.startswith("step-")
        if path.is_dir():
            archive.add(path, arcname=name, recursive=False)
        elif path.name == ROUNDS:
            with path.open("rb") as file:
                _add_bytes(archive, name, file.read(state.rounds_bytes))
        elif not passing and path.name not in (STATE, LOCK) and path.suffix != ".tmp":
            _add_bytes(archive, name, path.read_bytes())
    if state.checkpoint:
        _add_bytes(archive, f"{arcname}/{CHECKPOINTS}/{state.checkpoint}", checkpoint)
    _add_bytes(archive, f"{arcname}/{STATE}", state_json)


def _read_state(run: Path) -> tuple[bytes, RunState, bytes]:
    """A run's state and the checkpoint that it names, of one and the same step."""
    for _ in range(_ATTEMPTS):
        state_json = (run / STATE).read_bytes()
        try:
            state = TypeAdapter(RunState).validate_json(state_json)
        except ValidationError:
            break
        try:
            return state_json, state, (run / CHECKPOINTS / state.checkpoint).read_bytes() if state.checkpoint else b""
        except FileNotFoundError:
            continue  # the run has completed its next step meanwhile, and dropped this checkpoint
    raise SetupError(
        f"{run}: {STATE} is not what this version writes, or the checkpoint that it names is missing. "
        "Move this run elsewhere, or restore it, then back up again."
    )


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(content))


def _finished(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.endswith(".tmp") else entry
