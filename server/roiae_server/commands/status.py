"""What `status` and `report` print, from files alone: they work beside a running service, and without one."""

import json
import shlex
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from roiae.console.terminal import say
from roiae.errors import ServiceError
from roiae.identity.certificates import days_left
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.report.tables import quality_table, shift_table, weights_line
from roiae_server.report.tensorboard import require_tensorboard, write_events
from roiae_server.report.write import write_real_report
from roiae_server.run.records import PARTICIPATION, Participation, read_participation
from roiae_server.run.run_folder import SHIFT, RunFolder
from roiae_server.service.live_status import STATUS
from roiae_server.service.processes import PID
from roiae_server.service.site_registry import LastContact, read_last_contacts

FIRST = "first"  # the run's name where none is given
STALE_SECONDS = 15.0  # after which a status that is written every second is of a service that is gone


def read_status(folder: CoordinatorFolder) -> dict[str, Any] | None:
    """What the working process last wrote; None before the first start."""
    path = folder.path / STATUS
    return dict(json.loads(path.read_bytes())) if path.exists() else None


def start_again(folder: CoordinatorFolder) -> str:
    """What to type so that the run which was last at work goes on, and no other."""
    run = (read_status(folder) or {}).get("run", FIRST)
    return f"roiae-server start {shlex.quote(str(folder.path))}" + (f" --run {run}" if run != FIRST else "")


def require_served(folder: CoordinatorFolder) -> None:
    """
    Raises:
        ServiceError: no process serves the folder, or it does not get on.
    """
    said = read_status(folder)
    running = (folder.superlink / PID).exists()
    if not running or said is None or time.time() - said["updated"] > STALE_SECONDS:
        raise ServiceError(
            f"{folder.path}: is not served. Start it with `roiae-server start`; log/ says what happened."
        )


def show_status(folder: CoordinatorFolder, console: Console) -> None:
    """The service, the run, and a row a hospital."""
    said = read_status(folder)
    served = said is not None and time.time() - said["updated"] <= STALE_SECONDS
    say(f"service: {'up' if served else 'not running'}, {_address(folder)}", console)
    if said:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(said["since"]))
        doing = f"{said['state']} {said['step']}".strip()
        say(f"run {said['run']}: {doing}, since {since}", console)
    console.print(_sites_table(folder, said or {"sites": {}}, served))


def show_report(folder: CoordinatorFolder, name: str, console: Console, tensorboard: bool) -> None:
    """
    Args:
        tensorboard: write event files too.

    Raises:
        EngineError: for these, the extra `tensorboard` is not installed.
        RunFolderError: there is no such run, or it is not finished.
    """
    if tensorboard:
        require_tensorboard()
    run = RunFolder.open_finished(
        folder.runs / name, f"`roiae-server start --run {name}` begins it or goes on with it."
    )
    try:
        shift = run.read_json(SHIFT)
        console.print(quality_table(run.state.quality, run.state.sites))
        console.print(shift_table(shift))
        console.print(_participation_table(read_participation(run.path)))
        report = write_real_report(run)
        for text in (weights_line(run), f"report: {report}"):
            say(text, console)
        if tensorboard:
            say(f"tensorboard --logdir {write_events(run)}", console)
    finally:
        run.close()


def _address(folder: CoordinatorFolder) -> str:
    days = days_left(folder.server_certificate.read_bytes())
    return f"{folder.config.host}:{folder.config.port}, certificate good for {days} days"


def _sites_table(folder: CoordinatorFolder, said: dict[str, Any], served: bool) -> Table:
    """Enrolled hospitals, and those of the run that are enrolled no more."""
    table = Table(box=None)
    for heading in ("hospital", "role", "connected", "last request", "asked", "counted", "version", "ledger"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("hospital", "last request"))
    heard, enrolled = read_last_contacts(folder.path), folder.sites
    run = folder.runs / said.get("run", "")
    parts = read_participation(run) if (run / PARTICIPATION).is_file() else {}
    for site in sorted({*enrolled, *said["sites"]}):
        now, part, last = said["sites"].get(site, {}), parts.get(site), heard.get(site, LastContact())
        table.add_row(
            site,
            str(enrolled[site].role) if site in enrolled else "removed",
            "yes" if served and now.get("online") else "no",
            now.get("last", ""),
            str(part.asked) if part else "",
            _counted(part) if part else "",
            last.roiae,
            f"{last.ledger_lines} lines, {last.ledger_head[:12]}" if last.ledger_lines else "",
        )
    return table


def _participation_table(parts: Mapping[str, Participation]) -> Table:
    table = Table("hospital", "role", "asked", "replied", "counted", "not counted, and why", title="Who took part")
    for site, part in parts.items():
        table.add_row(site, part.role, *map(str, (part.asked, part.replied, part.aggregated)), _reasons(part))
    return table


def _counted(part: Participation) -> str:
    return f"{part.aggregated} ({_reasons(part)})" if part.not_counted else f"{part.aggregated}"


def _reasons(part: Participation) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in part.not_counted.items())
