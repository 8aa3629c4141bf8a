"""The coordinator's working process: drives one run over the SuperLink, from the step it was in, until it is done.

`service.py` keeps it and the SuperLink running. Whatever ends it, the next one goes on, as a new Flower run.
"""

import logging
import sys
import threading
import time
from pathlib import Path

import httpx
from rich.console import Console

from roiae.console.cli import log_as_a_service, run_app
from roiae.errors import QuorumError, Reason, ServiceError
from roiae.method.training import initial_arrays
from roiae.site.bounds import largest_reply
from roiae.text import shown
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.flower.aggregation import FlowerAggregator
from roiae_server.flower.network import NetworkTransport, Patience
from roiae_server.flower.session import flower_run
from roiae_server.flower.superlink import Control
from roiae_server.gateway.reply_size import write_reply_size
from roiae_server.run.federation import Federation
from roiae_server.run.progress import RunProgress
from roiae_server.run.run_folder import RunFolder
from roiae_server.run.site_limits import refused
from roiae_server.service.begin_or_resume import open_run
from roiae_server.service.live_status import LiveStatus
from roiae_server.service.site_registry import SiteRegistry

NEW_RUN = "A setting that a hospital refuses is changed in federation.yaml, for a new run (`start --run NAME`). "
RETRY_SECONDS = (5.0, 300.0)  # before a step that lacked its quorum is tried again: first, and at most
REFUSED_SECONDS = 3600.0  # where a person has to act first: each try costs the others one of their answers

log = logging.getLogger(__name__)


def coordinate(folder: CoordinatorFolder, name: str, socket: Path, serve: bool, console: Console) -> None:
    """Wait for the quorum, then do all steps of the run that are not done yet.

    Args:
        name: of the run.
        socket: of the SuperLink.
        serve: go on keeping up the enrolment and the status when the run is done.

    Raises:
        RoiaeError: what a person has to mend. A quorum that is lost meanwhile is waited for instead.
    """
    run = open_run(folder, name)
    write_reply_size(folder.superlink, largest_reply(run.config.model, len(run.state.sites)))
    control = Control(socket)
    try:
        control.wait_until_up()
        registry, signer = SiteRegistry(folder, control, run.state.id), folder.load_signer()
        with LiveStatus(folder, registry, run) as live:
            wait = RETRY_SECONDS[0]
            while run.state.status != "done":
                live.wait_for_quorum()
                try:
                    with flower_run(control, socket, (folder.superlink / "secret").read_bytes()) as grid:
                        transport = NetworkTransport(grid, registry, signer, Patience.of(run), run.sources)
                        if not run.state.completed:
                            _greet(run, transport, registry)
                        _drive(run, transport, live, console)
                except QuorumError as error:
                    if run.state.status == "incomplete":
                        raise
                    advice = NEW_RUN if Reason.NOT_ALLOWED in str(error) else ""
                    pause = REFUSED_SECONDS if error.refused else wait
                    log.warning(
                        "%s %sIt is tried again in %.0f s, or as soon as this is stopped and started.",
                        error,
                        advice,
                        pause,
                    )
                    time.sleep(pause)
                    wait = min(2 * wait, RETRY_SECONDS[1])
            run.close()
            if serve:
                print(f"run {name} is done; hospitals stay connected until the service is stopped", flush=True)
                threading.Event().wait()
    except httpx.HTTPError as error:
        raise ServiceError(
            f"the SuperLink does not answer ({type(error).__name__}); log/superlink.log says why."
        ) from error
    finally:
        control.close()
        run.close()


def _greet(run: RunFolder, transport: NetworkTransport, registry: SiteRegistry) -> None:
    """Say before the first round what hospitals would refuse of it."""
    for site, told in transport.greet(run.state.sites).items():
        registry.greeted(site, told)
        for sentence in refused(run.config, run.state.sites[site], told):
            print(f"{site} would refuse this run: {shown(sentence)}", flush=True)


def _drive(run: RunFolder, transport: NetworkTransport, live: LiveStatus, console: Console) -> None:
    with RunProgress(console, run.config, run.state.completed) as progress:
        Federation(
            run,
            transport,
            new_aggregator=lambda: FlowerAggregator(run.config.strategy),
            initial_arrays=lambda: initial_arrays(run.config.model, run.config.seed),
            observer=live.follow(progress),
        ).run()


def main() -> None:
    """`python -m roiae_server.service.worker DIR RUN SOCKET [serve]`: started by the service alone."""
    path, name, socket, *serve = sys.argv[1:]
    log_as_a_service()

    def run(prog_name: str) -> None:
        coordinate(CoordinatorFolder.open(Path(path)), name, Path(socket), bool(serve), Console())

    sys.exit(run_app(run, "roiae-server"))


if __name__ == "__main__":
    main()
