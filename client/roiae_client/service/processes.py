"""`roiae-client start`: keeps a hospital's two processes up, Flower's node that connects outwards and our executor."""

import sys
from collections import deque
from pathlib import Path

from roiae.files import write_atomically
from roiae.process.service import new_secret, only_one, socket_folder
from roiae.process.supervisor import Service, Supervisor
from roiae_client.answering.ledger import LedgerReader
from roiae_client.flower.command import NOT_LET_IN, supernode_command
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_client.folder.service_state import ServiceState

LOCK = "service.lock"  # in state/


def start(folder: HospitalFolder) -> None:
    """Serve until the process is ended.

    Raises:
        SetupError: the hospital has not joined, or its keys were rotated since.
        LedgerError: the ledger is not what was written, so that nothing would be answered.
        ServiceError: it is served already.
    """
    kit, state = folder.kit, ServiceState(folder.state)
    taken = f"{folder.path}: is served by another process already. Stop that one first."
    with only_one(folder.state / LOCK, taken), socket_folder() as sockets:
        deque(LedgerReader(folder.ledger), maxlen=0)
        new_secret(state.secret)
        state.forget()
        said: tuple[bool, bool] | None = None

        def tick() -> bool:
            nonlocal said
            if (now := (state.connected, state.paused)) != said:
                said = now
                print(_describe(folder, *now), flush=True)
            return True

        def services() -> list[Service]:
            return _services(folder, f"{kit.host}:{kit.port}", state, sockets / "supernode")

        # Together: neither can go on with a request that the other has lost.
        with Supervisor(services(), folder.log, together=services) as supervisor:
            supervisor.run(tick)


def _services(folder: HospitalFolder, superlink: str, state: ServiceState, socket: Path) -> list[Service]:
    bundle = folder.config.ca_bundle.read_bytes() if folder.config.ca_bundle else b""
    roots = folder.state / "roots.pem"
    write_atomically(roots, folder.ca_certificate.read_bytes() + bundle)
    node = supernode_command(superlink, folder.node_key, roots, state.secret, socket, state.heard)
    home = {"FLWR_HOME": str((folder.state / "flwr").resolve())}
    executor = (sys.executable, "-m", "roiae_client.flower.executor", str(folder.path), str(socket))
    quiet = {**home, "FLWR_LOG_LEVEL": "ERROR"}  # the executor's log has our own lines
    return [
        Service("node", node, home, idle=lambda code: code == NOT_LET_IN, meaning=_meaning),
        Service("executor", executor, quiet),
    ]


def _meaning(code: int) -> str:
    if code == NOT_LET_IN:
        return "the coordinator did not let it in: it is busy or just starting, or these keys are not enrolled there"
    return ""


def _describe(folder: HospitalFolder, connected: bool, paused: bool) -> str:
    if paused:
        return f"paused: nothing more is answered until `roiae-client pause {folder.path} --off`"
    return "connected to the coordinator" if connected else "not connected to the coordinator; trying"
