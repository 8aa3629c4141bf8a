"""`roiae-client start`, `status`, `pause` and `withdraw`: a hospital's part in a run."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from roiae.console.terminal import say
from roiae.errors import ServiceError

Folder = Annotated[Path, typer.Argument(help="The hospital's folder, made by `init`.")]


def register(app: typer.Typer) -> None:
    for command in (start, status, pause, withdraw):
        app.command()(command)


def start(
    folder: Folder,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Answer every allowed request here, print what would leave, and end.")
    ] = False,
) -> None:
    """Connect to the coordinator, and answer what `site.yaml` allows, until the command is ended."""
    from roiae_client.folder.hospital_folder import HospitalFolder

    hospital = HospitalFolder.open(folder)
    if dry_run:
        from roiae_client.answering.from_folder import open_site
        from roiae_client.commands.dry_run import dry_run as answer_all

        answer_all(hospital.config, lambda side, config: open_site(hospital, side, config), Console())
        return
    from roiae_client.service.processes import start as serve

    serve(hospital)


def status(
    folder: Folder,
    healthy: Annotated[
        bool, typer.Option("--healthy", help="Say nothing; exit code 12 unless connected to the coordinator.")
    ] = False,
) -> None:
    """Whether this hospital is connected, what it is doing, and what has left so far."""
    from roiae_client.commands.status import show_status
    from roiae_client.folder.hospital_folder import HospitalFolder
    from roiae_client.folder.service_state import ServiceState

    hospital = HospitalFolder.open(folder)
    if healthy:
        if not ServiceState(hospital.state).connected:
            raise ServiceError(
                f"{folder}: is not connected to the coordinator; `roiae-client doctor {folder}` says why."
            )
        return
    show_status(hospital, Console())


def pause(
    folder: Folder,
    off: Annotated[bool, typer.Option("--off", help="Answer again.")] = False,
) -> None:
    """Let the request in hand end, and answer nothing more until `--off`."""
    from roiae_client.folder.hospital_folder import HospitalFolder
    from roiae_client.folder.service_state import ServiceState

    state = ServiceState(HospitalFolder.open(folder).state)
    state.pause(not off)
    text = (
        f"Requests are answered again; `roiae-client status {folder}` shows them."
        if off
        else f"Paused. A request in hand is still answered; after it nothing leaves until "
        f"`roiae-client pause {folder} --off`."
    )
    say(text)


def withdraw(
    folder: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
) -> None:
    """Leave the federation for good: every request from now on is refused with the word `withdrawn`."""
    from roiae_client.commands.status import left_in_the_model
    from roiae_client.folder.hospital_folder import HospitalFolder
    from roiae_client.folder.service_state import ServiceState

    hospital = HospitalFolder.open(folder)
    if not yes:
        typer.confirm(f"Take {hospital.config.name} out of the federation for good?", abort=True)
    ServiceState(hospital.state).withdraw()
    say(left_in_the_model(hospital))
