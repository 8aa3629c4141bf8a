"""`roiae-server start`, `status`, `report` and `stop`: a run between real hospitals."""

import re
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from roiae.console.terminal import say
from roiae.errors import ConfigError
from roiae.identity.kit import NAME_PATTERN

Folder = Annotated[Path, typer.Argument(help="The coordinator's folder, made by `init`.")]
RunName = Annotated[str, typer.Option("--run", help="Which run: a name of its own in runs/.")]
FIRST = "first"


def register(app: typer.Typer) -> None:
    for command in (start, status, report, stop):
        app.command()(command)


def start(
    folder: Folder,
    run: RunName = FIRST,
    serve: Annotated[bool, typer.Option("--serve", help="Stay up when the run is done; for a service.")] = False,
) -> None:
    """Wait for the hospitals, train with them, and score; goes on where an earlier start of the run ended."""
    from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
    from roiae_server.service.processes import start as serve_run

    coordinator = CoordinatorFolder.open(folder)
    if not re.fullmatch(NAME_PATTERN, run):
        raise ConfigError(f"--run {run}: small letters, digits and hyphens make a name.")
    code = serve_run(coordinator, run, serve)
    if code == 0:
        say(f"Done. Next: roiae-server report {shlex.quote(str(folder))} --run {run}")
    raise typer.Exit(code)


def status(
    folder: Folder,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")] = False,
    healthy: Annotated[bool, typer.Option("--healthy", help="Say nothing; exit code 12 unless it is served.")] = False,
) -> None:
    """What the run is doing, which hospitals are connected, and what became of what they sent."""
    from roiae_server.commands.status import require_served, show_status
    from roiae_server.enrolment.coordinator_folder import CoordinatorFolder

    coordinator, console = CoordinatorFolder.open(folder), Console()
    if healthy:
        require_served(coordinator)
        return
    while True:
        if watch:
            console.clear()
        show_status(coordinator, console)
        if not watch:
            return
        time.sleep(2)


def report(
    folder: Folder,
    run: RunName = FIRST,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write event files too.")] = False,
) -> None:
    """The quality and the domain-shift scores of a finished run, and who took part."""
    from roiae_server.commands.status import show_report
    from roiae_server.enrolment.coordinator_folder import CoordinatorFolder

    show_report(CoordinatorFolder.open(folder), run, Console(), tensorboard)


def stop(folder: Folder) -> None:
    """End a `start` that is going on; the run keeps its last completed step."""
    from roiae_server.commands.status import start_again
    from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
    from roiae_server.service.processes import stop as end

    coordinator = CoordinatorFolder.open(folder)
    stopped = end(coordinator)
    text = f"Stopped. `{start_again(coordinator)}` goes on." if stopped else "Nothing is running here."
    say(text)
