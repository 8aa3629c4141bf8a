"""What a hospital's `status` and `withdraw` print."""

import time

from rich.console import Console

from roiae.console.terminal import say
from roiae.identity.certificates import days_left
from roiae_client.answering.ledger import LedgerReader, Line
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_client.folder.service_state import ServiceState
from roiae_client.service.connectivity import Coordinator, certificate_days

PATIENCE = 3.0  # seconds for a look at the coordinator's certificate


def show_status(folder: HospitalFolder, console: Console) -> None:
    """
    Raises:
        SetupError: the hospital has not joined.
    """
    kit, state = folder.kit, ServiceState(folder.state)
    reader = LedgerReader(folder.ledger)
    last, sizes = None, []
    for line in reader:  # one at a time: a ledger may be long
        if line.request:
            last = line
            sizes += [] if line.reason else [line.bytes]
    said = [
        f"{kit.site}, {kit.role} of {kit.federation} at {kit.host}:{kit.port}",
        f"connected: {_connection(state)}",
        f"request: {_activity(state, last)}",
        f"left so far: {len(sizes)} answers, {sum(sizes) / 1e6:.1f} MB; `roiae-client ledger {folder.path}` lists them",
        *([f"LEDGER: {reader.claimed.unknown}"] if reader.claimed else []),
        f"certificates: the federation's CA good for {days_left(folder.ca_certificate.read_bytes())} days, "
        f"{_coordinators_certificate(folder)}",
    ]
    for text in said:
        say(text, console)


def left_in_the_model(folder: HospitalFolder) -> str:
    """What withdrawing does, and what it cannot undo."""
    trained = sum(line.kind == "train" and not line.reason for line in LedgerReader(folder.ledger))
    remains = (
        f"{trained} updates of this hospital were sent, and what they taught is part of the weights that other "
        "hospitals have: it cannot be taken out of them. A model without it is a new run; ask the coordinator for one."
        if trained
        else "No update of this hospital was ever sent: nothing of it is in the model."
    )
    return (
        f"{folder.config.name} has withdrawn. Every request from now on is refused.\n{remains}\n"
        "Next: leave the service running until the coordinator's next request: its refusal unregisters this hospital. "
        f"Or tell them to type `roiae-server remove-site DIR {folder.config.name}`.\n"
        f"Then stop the service, and keep {folder.ledger}, which says what left."
    )


def _coordinators_certificate(folder: HospitalFolder) -> str:
    kit = folder.kit
    coordinator = Coordinator(kit.host, kit.port, folder.ca_certificate, folder.config.ca_bundle, PATIENCE)
    days = certificate_days(coordinator)
    return "the coordinator's cannot be seen now" if days is None else f"the coordinator's for {days} days"


def _connection(state: ServiceState) -> str:
    if state.withdrawn:
        return "withdrawn; every request is refused"
    connected = "yes" if state.connected else "no; `roiae-client doctor` says why, and log/node.log what happened"
    return f"{connected}{', paused' if state.paused else ''}"


def _activity(state: ServiceState, last: Line | None) -> str:
    if (activity := state.activity) is None:
        return "none yet"
    seconds = f"{time.time() - activity.time:.0f} s"
    if not activity.done:
        return f"{activity.request}, in hand for {seconds}"
    refused = last.reason if last and last.kind == activity.request else ""
    said = f"refused ({refused}; log/executor.log says why)" if refused else "answered"
    return f"{activity.request}, {said} {seconds} ago"
