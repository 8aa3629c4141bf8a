"""`roiae-server start`: keeps the SuperLink, the gateway before it and the working process up until the run is done."""

import os
import signal
import socket
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from roiae.errors import ServiceError, SetupError
from roiae.files import write_atomically, write_json
from roiae.identity.certificates import days_left
from roiae.process.service import new_secret, only_one, socket_folder
from roiae.process.supervisor import STOP_SECONDS, Service, Supervisor
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.flower.command import superlink_command
from roiae_server.service.begin_or_resume import open_run

LOCK, PID = "service.lock", "service.pid"  # in the coordinator's superlink/
RETRYABLE = frozenset({12, 130, 143})  # exit codes of the working process after which it is started again


def start(folder: CoordinatorFolder, run: str, serve: bool) -> int:
    """Work on a run until it is done, or for as long as the process lives.

    Args:
        run: its name.
        serve: stay up when it is done, so that hospitals stay connected.

    Returns:
        The exit code of the run's working process.

    Raises:
        ServiceError: the folder is served already, or the public port is taken.
        SetupError: the coordinator's certificate has expired.
        ConfigError: the run cannot begin with the hospitals that are enrolled, or its settings are impossible.
        RunFolderError: the run was begun with another configuration.
    """
    pid = folder.superlink / PID
    taken = f"{folder.path}: is served already. Look at it with `status`, or `stop` it first."
    with only_one(folder.superlink / LOCK, taken):
        _require_free(folder.config.port)
        _require_valid(folder)
        open_run(folder, run).close()  # what is wrong with it is said before anything is started
        write_atomically(pid, f"{os.getpid()}\n".encode())
        try:
            with (
                socket_folder() as sockets,
                Supervisor(_services(folder, run, serve, sockets / "superlink"), folder.log) as supervisor,
            ):
                code = supervisor.run()
                assert code is not None, "it ends by a service's end alone"
                return code
        finally:
            pid.unlink()


def stop(folder: CoordinatorFolder) -> bool:
    """End the process that serves a folder; False where none does.

    Raises:
        ServiceError: it does not end.
    """
    lock = FileLock(folder.superlink / LOCK)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        os.kill(int((folder.superlink / PID).read_text()), signal.SIGTERM)
    patience = 3 * STOP_SECONDS + 5
    try:
        with lock.acquire(timeout=patience):
            return True
    except Timeout:
        raise ServiceError(f"{folder.path}: its service has not ended after {patience:.0f} s.") from None


def _services(folder: CoordinatorFolder, run: str, serve: bool, socket: Path) -> list[Service]:
    new_secret(folder.superlink / "secret")
    settings = folder.superlink / "gateway.json"
    door = {
        "host": "0.0.0.0",
        "port": folder.config.port,
        "folder": str(folder.path.resolve()),
        "upstream": str(socket),
    }
    write_json(settings, door)
    environment = {
        "FLWR_HOME": str((folder.superlink / "flwr").resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
    python = sys.executable
    work = (
        python,
        "-m",
        "roiae_server.service.worker",
        str(folder.path),
        run,
        str(socket),
        *(["serve"] if serve else []),
    )
    return [
        Service("superlink", superlink_command(folder.superlink, socket), environment),
        Service("gateway", (python, "-m", "roiae_server.gateway.app", str(settings)), environment, echo=True),
        Service(
            "run",
            work,
            {**environment, "FLWR_LOG_LEVEL": "ERROR"},
            final=lambda code: code not in RETRYABLE and code >= 0,
            echo=True,
        ),
    ]


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            raise ServiceError(
                f"port {port}: cannot be had ({error.strerror}). Stop what listens there, or give another port in "
                "coordinator.yaml, and hospitals new kits."
            ) from error


def _require_valid(folder: CoordinatorFolder) -> None:
    if days_left(folder.server_certificate.read_bytes()) < 0:
        raise SetupError(
            f"{folder.server_certificate}: has expired, so no hospital would connect. "
            f"`roiae-server renew {folder.path}` issues a new one."
        )
